// One hub with nodes of its own, whose executors answer when a test says so.
import { type Command, type CommandEffect, NO_VALUE, type Scope, type Task } from "../../services/command-forwarding/messages.ts";
import type { Settings } from "../../services/command-forwarding/settings.ts";
import { capability } from "./hub.ts";
import { MemoryHub, type Reply } from "./world.ts";

export const EVIL = "spiffe://home/node/evil";
export const GATEWAY = "spiffe://home/gateway/bridge";
export const ADMIN = "spiffe://home/operator/admin";
/** ANY may execute for any node. */
export const ANY: Scope = { kind: "gateway", prefixes: [] };

/** valueOf is an encoded Value of so many bytes: none, or JSON. */
function valueOf(bytes: number): Uint8Array {
  if (bytes === 0) return NO_VALUE;
  const length = bytes - 3;
  return Buffer.concat([Uint8Array.of(0x32, (length & 0x7f) | 0x80, length >> 7), Buffer.from(`"${"a".repeat(length - 2)}"`)]);
}

/** Bench is that hub, with its clocks. */
export class Bench {
  mono = 1_000;
  /** What the wall clock is ahead of the monotonic one. */
  offset = 1_800_000_000_000;
  readonly hub: MemoryHub;
  readonly replies: Reply[] = [];
  readonly tasks: Task[] = [];
  /** Number of the command that was sent last. */
  corr = 0;

  readonly #nodes: readonly string[];

  constructor(settings: Partial<Settings> = {}, nodes: readonly string[] = ["lamp", "door", "evil"], maxInFlight = 4_096) {
    this.#nodes = nodes;
    this.hub = new MemoryHub("home", () => ({ mono: this.mono, wall: this.offset + this.mono }), settings);
    this.attach(nodes, maxInFlight);
  }

  attach(nodes: readonly string[], maxInFlight = 4_096): void {
    const changes = nodes.map((nodeId) => ({
      kind: "put" as const,
      hubId: "home",
      nodeId,
      online: true,
      capabilities: [capability("open", 0)],
    }));
    this.hub.give({ kind: "directory", changes });
    const offer = { nodeIds: nodes, capabilities: [], maxInFlight, shared: false };
    this.take(this.hub.give({ kind: "attach", executor: 1, name: "bridge", scope: ANY, offer }));
  }

  /** reboot is a crash: what its executor had in hand is lost with it. */
  reboot(): void {
    this.hub.restart();
    this.tasks.length = 0;
    this.attach(this.#nodes);
  }

  take(effects: readonly CommandEffect[]): CommandEffect[] {
    for (const effect of effects) {
      if (effect.kind === "reply") this.replies.push(effect);
      if (effect.kind === "tasks") this.tasks.push(...effect.items);
    }
    return [...effects];
  }

  /** send gives a command and answers its reply if there is one at once. */
  send(principal: string, nodeId: string, key = "", more: Partial<Command> = {}): Reply | undefined {
    const corr = ++this.corr;
    const command: Command = { corr, hubId: "home", nodeId, capability: "open", value: NO_VALUE, timeoutMs: 1_000, key, hops: [], ...more };
    // Each caller has streams of its own, as many as it likes.
    this.take(this.hub.give({ kind: "execute", client: 10 + Math.floor(corr / 8), principal, commands: [command] }));
    return this.replies.findLast((reply) => reply.corr === corr);
  }

  /** finish lets every task end, with values of so many bytes. */
  finish(bytes = 0): void {
    const reports = this.tasks.splice(0).map(({ taskId }) => ({ taskId, value: valueOf(bytes), failure: undefined }));
    this.take(this.hub.give({ kind: "reports", executor: 1, reports }));
  }

  tick(): void {
    this.take(this.hub.tick());
  }

  /** run sends a command and lets it end. */
  run(principal: string, nodeId: string, key = "", bytes = 0): Reply | undefined {
    const refused = this.send(principal, nodeId, key);
    if (refused !== undefined) return refused;
    this.finish(bytes);
    return this.replies.at(-1);
  }
}
