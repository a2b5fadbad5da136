// Plays the devices and agents of the demo: one gateway per hub that registers them, runs their commands and reports their state.

import { create } from "@bufbuild/protobuf";
import { systemClock, type Timer } from "#channel/clock.ts";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { type ExecutorAnswer, Hub, type PlainValue, type ValueType as StateType, type Updater } from "../../clients/typescript/index.ts";
import type { HubProcess } from "../support/federation.ts";
import { runSkill } from "./agents.ts";
import { type Change, Device, type Plain } from "./devices.ts";

/** DEMO_LAMP is in every hub's inventory under the same id, so that people have a name to type. */
export const DEMO_LAMP = "demo-lamp";

/** demoLamp is a plain light. */
export function demoLamp(hubId: string): Node {
  return create(NodeSchema, {
    nodeId: DEMO_LAMP,
    type: "light",
    name: `The demo lamp of ${hubId}`,
    vendor: "Foedus",
    description: "A light to try commands on.",
    capabilities: [
      {
        name: "state",
        type: ValueType.STRING,
        readable: true,
        invocable: true,
        allowed: ["ON", "OFF", "TOGGLE"],
        description: "On or off.",
      },
      {
        name: "brightness",
        type: ValueType.DOUBLE,
        readable: true,
        invocable: true,
        idempotent: true,
        min: 0,
        max: 254,
        description: "Brightness of this light.",
      },
      { name: "linkquality", type: ValueType.DOUBLE, readable: true, min: 0, max: 255, unit: "lqi", description: "Signal strength." },
    ],
  });
}

/** Updates per second that the sensors of one hub make by themselves. */
const DRIFT_PER_SECOND = 100;
const DRIFT_EVERY_MS = 100;

/** RanCommand is a command that reached a device or agent of the demo. */
export interface RanCommand {
  readonly caller: string;
  /** `hub/node capability value`. */
  readonly what: string;
  /** Empty, or the reason of the refusal. */
  readonly refused: string;
}

/** Gateway stands for all nodes of one hub. */
export class Gateway {
  readonly hub: HubProcess;
  readonly devices: ReadonlyMap<string, Device>;
  readonly #nodes: readonly Node[];
  readonly #prng: Prng;
  #connected: Hub | undefined;
  #updater: Updater | undefined;
  #timer: Timer | undefined;
  #close: (() => void) | undefined;
  readonly #onCommand: (command: RanCommand) => void;

  constructor(hub: HubProcess, nodes: readonly Node[], seed: number, onCommand: (command: RanCommand) => void = () => undefined) {
    this.#onCommand = onCommand;
    this.hub = hub;
    this.#nodes = nodes;
    this.#prng = new Prng(seed);
    this.devices = new Map(
      nodes.flatMap((node) => (node.agent === undefined ? [[node.nodeId, new Device(node, this.#prng)] as const] : [])),
    );
  }

  /** start registers all nodes, reports their first state, and serves their commands; it goes on by itself after cuts. */
  async start(): Promise<void> {
    const clients = this.hub.clients("gateway-zigbee");
    this.#close = () => clients.close();
    const hub = Hub.over(clients);
    this.#connected = hub;
    await hub.register(...this.#nodes);
    this.#updater = hub.updater({ seed: this.#prng.u32() });
    for (const device of this.devices.values()) {
      for (const [key, value] of device.state) {
        if (!this.#set(device, { key, value })) await this.#updater.writable();
      }
    }
    await this.#updater.drain();
    hub.serve({
      nodeIds: this.#nodes.map((node) => node.nodeId),
      maxInFlight: 1_024,
      run: (task) => {
        const answer = this.#run(task.nodeId, task.capability, task.value);
        const argument = String(plainOf(task.value) ?? "");
        const what = `${this.hub.id}/${task.nodeId} ${task.capability} ${argument.length > 40 ? `${argument.slice(0, 39)}…` : argument}`;
        this.#onCommand({ caller: task.callerHubId, what, refused: answer.failure?.reason ?? "" });
        return answer;
      },
    });
    this.#drift();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#connected?.close();
    this.#close?.();
  }

  #run(nodeId: string, capability: string, value: PlainValue | undefined): ExecutorAnswer {
    const device = this.devices.get(nodeId);
    const plain = plainOf(value);
    const reaction = device === undefined ? runSkill(nodeId, capability, String(plain ?? "")) : device.invoke(capability, plain);
    if (!reaction.ok) return { failure: reaction.failure };
    if (device !== undefined) for (const change of reaction.changes) this.#set(device, change);
    return { value: typeof value === "object" && "json" in value ? { json: String(reaction.value) } : reaction.value };
  }

  #drift(): void {
    const devices = [...this.devices.values()];
    this.#timer = systemClock.setTimer(DRIFT_EVERY_MS, () => {
      for (let i = 0; i < (DRIFT_PER_SECOND * DRIFT_EVERY_MS) / 1_000; i++) {
        const device = devices[this.#prng.below(devices.length)]!;
        const change = device.drift(this.#prng);
        if (change !== undefined) this.#set(device, change);
      }
      this.#drift();
    });
  }

  /** set reports a state; false when more waits than the hub takes. While a hub is down its updater keeps what is newest. */
  #set(device: Device, change: Change): boolean {
    const type = device.node.capabilities.find((capability) => capability.name === change.key)?.type ?? 0;
    if (type === 0 || this.#updater === undefined) return true;
    const field = this.#updater.field(device.node.nodeId, change.key, type as Exclude<StateType, 0>);
    return this.#updater.setField(field, change.value);
  }
}

/** plainOf is a command's argument as a device takes it: JSON as its text. */
function plainOf(value: PlainValue | undefined): Plain | undefined {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  return typeof value === "object" ? value.json : value;
}
