// What end-to-end tests do again and again with a hub's clients.
import { create } from "@bufbuild/protobuf";
import { failureFromProto } from "#channel/failure.ts";
import {
  AttachExecutorRequestSchema,
  ExecuteRequestSchema,
  type ExecuteResponse,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { type Value, ValueSchema, ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { GetPeerRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState, type Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import {
  DeregisterNodeRequestSchema,
  GetNodeRequestSchema,
  type NodeRecord,
  RegisterNodesRequestSchema,
  UpdateStateRequestSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import type { Clients, HubProcess } from "./federation.ts";

/** lamp is a device with a state to read and to command, and a measured value. */
export function lamp(nodeId: string): Node {
  return create(NodeSchema, {
    nodeId,
    type: "light",
    name: `Lamp ${nodeId}`,
    capabilities: [
      { name: "state", type: ValueType.STRING, readable: true, invocable: true, allowed: ["ON", "OFF"] },
      { name: "brightness", type: ValueType.DOUBLE, readable: true, invocable: true, min: 0, max: 254 },
      { name: "power", type: ValueType.DOUBLE, readable: true, unit: "W" },
    ],
  });
}

export const text = (value: string): Value => create(ValueSchema, { kind: { case: "stringValue", value } });
export const number = (value: number): Value => create(ValueSchema, { kind: { case: "doubleValue", value } });

/** get reads one node of a hub's registry. */
export async function get(clients: Clients, hubId: string, nodeId: string): Promise<NodeRecord | undefined> {
  return (await clients.registry.getNode(create(GetNodeRequestSchema, { name: { hubId, nodeId } }))).record;
}

/** stateOf is the value of a key, as JavaScript has it. */
export function stateOf(record: NodeRecord | undefined, key: string): unknown {
  return record?.state.find((state) => state.key === key)?.value?.kind.value;
}

/** register registers nodes and fails for any that was refused. By hand, so that it does at hubs of earlier versions, which know no numbers of calls. */
export async function register(clients: Clients, ...nodes: Node[]): Promise<void> {
  const { results } = await clients.registry.registerNodes(create(RegisterNodesRequestSchema, { nodes }));
  for (const { failure } of results) if (failure !== undefined) throw new FoedusError(failureFromProto(failure));
}

export async function deregister(clients: Clients, nodeId: string): Promise<boolean> {
  return (await clients.registry.deregisterNode(create(DeregisterNodeRequestSchema, { nodeId }))).existed;
}

/** update sends one batch by name and resolves when it is acknowledged as durable; a refusal is thrown. */
export async function update(clients: Clients, nodeId: string, values: Readonly<Record<string, Value>>): Promise<void> {
  const stream = clients.registry.updateState();
  try {
    const updates = Object.entries(values).map(([key, value]) => ({ nodeId, key, value }));
    stream.send(create(UpdateStateRequestSchema, { frame: { case: "named", value: { seq: 1n, updates } } }));
    for await (const { frame } of stream.responses) {
      if (frame.case === "refused") throw new FoedusError(failureFromProto(frame.value.failure!));
      if (frame.case === "ack") return;
    }
    throw new Error("the stream ended without an acknowledgement");
  } finally {
    stream.cancel();
  }
}

export function execute(
  clients: Clients,
  hubId: string,
  nodeId: string,
  capability: string,
  value: Value,
  timeoutMs = 5_000,
): Promise<ExecuteResponse> {
  return clients.commands.execute(create(ExecuteRequestSchema, { command: { target: { hubId, nodeId }, capability, value, timeoutMs } }));
}

/** peer is how a hub sees another one. */
export async function peer(clients: Clients, hubId: string): Promise<Peer> {
  const answer = await clients.discovery.getPeer(create(GetPeerRequestSchema, { hubId }));
  return answer.peer!;
}

export async function isOperational(clients: Clients, hubId: string): Promise<boolean> {
  return (await peer(clients, hubId)).state === LinkState.OPERATIONAL;
}

/** metric is the sum of a metric's samples whose labels contain all of `labels`, from a hub's /metrics; 0 if there is none. */
export async function metric(hub: HubProcess, name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
  const page = await hub.ops("/metrics");
  let sum = 0;
  for (const line of page.split("\n")) {
    const match = /^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match?.[1] !== name) continue;
    if (Object.entries(labels).every(([key, value]) => (match[2] ?? "").includes(`${key}="${value}"`))) sum += Number(match[3]);
  }
  return sum;
}

/** attach serves commands for nodes; what ran is counted, and each sets the state that it commands. */
export function attach(clients: Clients, nodeIds: string[]): { readonly ran: string[]; stop(): void } {
  const stream = clients.commands.attachExecutor();
  const ran: string[] = [];
  stream.send(create(AttachExecutorRequestSchema, { frame: { case: "attach", value: { nodeIds, maxInFlight: 256 } } }));
  const serve = async (): Promise<void> => {
    for await (const { frame } of stream.responses) {
      if (frame.case !== "tasks") continue;
      for (const task of frame.value.tasks) {
        ran.push(`${task.nodeId}.${task.capability}=${String(task.value?.kind.value)}`);
        await update(clients, task.nodeId, { [task.capability]: task.value! });
      }
      const results = frame.value.tasks.map((task) => ({ taskId: task.taskId, value: task.value! }));
      stream.send(create(AttachExecutorRequestSchema, { frame: { case: "results", value: { results } } }));
    }
  };
  serve().catch(() => undefined);
  return { ran, stop: () => stream.cancel() };
}
