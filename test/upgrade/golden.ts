// The federation that is recorded of every released version, and what a later version must still know of it.
import { create } from "@bufbuild/protobuf";
import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { type Value, ValueSchema, ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { ListEventsRequestSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { lamp, number, text } from "../support/acts.ts";
import type { Clients, HubSpec } from "../support/federation.ts";
import { everything } from "../support/load.ts";

/** HUBS of the recorded federation. The attic never runs: home's operator terminated the link to it. */
export const HUBS: readonly HubSpec[] = [
  { id: "home", peers: [{ hub: "factory" }, { hub: "attic" }] },
  { id: "factory", peers: [{ hub: "home" }] },
  { id: "attic", peers: [{ hub: "home" }], reachable: false },
];

/** RECORDED are the hubs whose folders are kept. */
export const RECORDED = ["home", "factory"] as const;

/** KEYED are commands of home's operator to the factory, by their idempotency keys; `failed` fails there. */
export const KEYED = { "golden-1": "ON", failed: "OFF" } as const;
export const COMMANDED = { hubId: "factory", nodeId: "lamp-1", capability: "state" } as const;

const value = (kind: Value["kind"]): Value => create(ValueSchema, { kind });

/** gauge has a capability of each type that a value may have. */
export function gauge(): Node {
  const capability = (name: string, type: ValueType) => ({ name, type, readable: true });
  return create(NodeSchema, {
    nodeId: "gauge-1",
    type: "gauge",
    name: "Gauge ü",
    labels: { hall: "3", "zone.a": "" },
    capabilities: [
      capability("flag", ValueType.BOOL),
      capability("count", ValueType.SINT64),
      capability("level", ValueType.DOUBLE),
      capability("label", ValueType.STRING),
      capability("raw", ValueType.BYTES),
      capability("more", ValueType.JSON),
    ],
  });
}

/** GAUGE_STATE is a value of each type, at the edges of what it may be. */
export const GAUGE_STATE: Readonly<Record<string, Value>> = {
  flag: value({ case: "boolValue", value: true }),
  count: value({ case: "intValue", value: -(2n ** 63n) }),
  level: number(-0.1),
  label: text("ß ∞ \u{1f4a1}"),
  raw: value({ case: "bytesValue", value: Uint8Array.of(0, 255, 128) }),
  more: value({ case: "jsonValue", value: '{"a":[1,null]}' }),
};

/** NODES of the factory; `lamp-gone` is removed again. */
export const NODES: readonly Node[] = [lamp("lamp-1"), lamp("lamp-2"), lamp("lamp-gone"), gauge()];

/** Known is what a hub knew: expected.json has it per hub. */
export interface Known {
  /** Nodes of a hub with their state, by hub: `node key=value`, sorted. */
  readonly registry: Readonly<Record<string, readonly string[]>>;
  /** Links that an operator terminated. */
  readonly terminated: readonly string[];
  /** Texts of all events, newest first. */
  readonly events: readonly string[];
}

/** Expected is expected.json. */
export interface Expected {
  readonly version: string;
  readonly commit: string;
  /** Format of the stores (`user_version`). */
  readonly format: number;
  /** When it was recorded, ms since 1970. */
  readonly wallMs: number;
  readonly hubs: Readonly<Record<string, Known>>;
}

/** More than there are. */
const EVENTS = 1_000;

/** known reads what a hub knows, through its services, as people and programs do. */
export async function known(clients: Clients): Promise<Known> {
  const registry: Record<string, string[]> = {};
  for (const { id } of HUBS) {
    const records = await everything(clients, id);
    registry[id] = [...records]
      .flatMap(([nodeId, { node, state }]) => [
        `${nodeId} ${node?.type} "${node?.name}" ${JSON.stringify(node?.labels)} ${node?.capabilities.map(({ name, type }) => `${name}:${type}`).join(" ")}`,
        ...state.map(({ key, value: held }) => `${nodeId} ${key}=${shown(held)}`),
      ])
      .sort();
  }
  const { peers } = await clients.discovery.listPeers(create(ListPeersRequestSchema));
  const { events } = await clients.telemetry.listEvents(create(ListEventsRequestSchema, { pageSize: EVENTS }));
  return {
    registry,
    terminated: peers.filter(({ state }) => state === LinkState.TERMINATED).map(({ hubId }) => hubId),
    events: events.map(({ text: said }) => said),
  };
}

function shown(held: Value | undefined): string {
  const kind = held?.kind;
  if (kind?.case === undefined) return "nothing";
  return `${kind.case} ${kind.value instanceof Uint8Array ? Buffer.from(kind.value).toString("hex") : String(kind.value)}`;
}
