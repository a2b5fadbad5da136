// Commands of a peer wait for an executor while the peer loses trust, or a share what it may invoke.
import { describe, expect, test } from "vitest";
import { capability } from "../../test/commands/hub.ts";
import { MemoryHub } from "../../test/commands/world.ts";
import { type CommandEffect, NO_VALUE, type SharePolicy } from "./messages.ts";

/** A hub with a lamp whose executor takes one command at a time, and a peer of which three are there: one runs, two wait. */
class Stage {
  readonly hub = new MemoryHub("home", () => ({ mono: 1_000, wall: 1_800_000_000_000 }));
  readonly first: CommandEffect[];

  constructor() {
    this.level(2);
    this.policy(() => "invoke");
    const node = { kind: "put", hubId: "home", nodeId: "lamp", online: true, capabilities: [capability("on", 0)] } as const;
    this.hub.give({ kind: "directory", changes: [node] });
    this.attach(1);
    this.hub.give({ kind: "peer-up", peer: "away", session: 1 });
    this.first = this.ask(1, 2, 3);
  }

  level(level: 0 | 1 | 2 | 3, voidedAt = 0): CommandEffect[] {
    return this.hub.give({ kind: "peers", peers: [{ hubId: "away", level, voidedAt }] });
  }

  policy(policy: SharePolicy): CommandEffect[] {
    return this.hub.give({ kind: "policy", policy });
  }

  attach(executor: number): CommandEffect[] {
    const offer = { nodeIds: ["lamp"], capabilities: [], maxInFlight: 1, shared: false };
    return this.hub.give({ kind: "attach", executor, name: "bridge", scope: { kind: "gateway", prefixes: [] }, offer });
  }

  ask(...seqs: readonly number[]): CommandEffect[] {
    const items = seqs.map((seq) => ({
      seq,
      nodeId: "lamp",
      capability: "on",
      value: NO_VALUE,
      timeoutMs: 60_000,
      retry: false,
      hops: [],
    }));
    const ownerEpoch = Number(/owner-epoch=(\d+)/.exec(this.hub.core.describe())?.[1]);
    const frame = { epoch: 5, ackedBelow: 0, acks: [], items, cancels: [], ownerEpoch, ownerPosition: 0 };
    return this.hub.give({ kind: "invocations", peer: "away", session: 1, frame });
  }

  report(taskId: number): CommandEffect[] {
    return this.hub.give({ kind: "reports", executor: 1, reports: [{ taskId, value: NO_VALUE, failure: undefined }] });
  }
}

const started = (effects: readonly CommandEffect[]): number =>
  effects.reduce((count, effect) => count + (effect.kind === "tasks" ? effect.items.length : 0), 0);
const answers = (effects: readonly CommandEffect[]): string[] =>
  effects
    .flatMap((effect) => (effect.kind === "respond" ? effect.items : []))
    .map(({ seq, result }) => `${seq} ${result.failure?.reason ?? "DONE"}`);

describe("OW9 a command of a peer that waits for an executor", () => {
  test("is started when its turn comes, while the peer is trusted", () => {
    const stage = new Stage();
    expect(started(stage.first)).toBe(1);
    stage.level(3);
    stage.policy(() => "invoke");
    expect([1, 2, 3].map((taskId) => started(stage.report(taskId)))).toEqual([1, 1, 0]);
  });

  test.each([1, 0] as const)("is refused when trust falls to %d, and not started after it rose again; what runs goes on", (level) => {
    const stage = new Stage();
    const fallen = stage.level(level);
    expect(answers(fallen)).toEqual(["2 TRUST_TOO_LOW", "3 TRUST_TOO_LOW"]);
    stage.level(2);
    const reported = stage.report(1);
    expect([started(reported), answers(reported)]).toEqual([0, ["1 DONE"]]);
    expect(started(stage.ask(4))).toBe(1);
  });

  test("is refused when an operator ends the link, also when it is enabled again at once", () => {
    const stage = new Stage();
    expect(answers(stage.level(2, 7))).toEqual(["2 TRUST_TOO_LOW", "3 TRUST_TOO_LOW"]);
    expect(answers(stage.level(2, 7))).toEqual([]);
    expect(started(stage.report(1))).toBe(0);
  });

  test("and was given to an executor that never saw it is not started by the next one", () => {
    const stage = new Stage();
    stage.hub.asks = true;
    stage.hub.give({ kind: "executor-gone", executor: 1 });
    stage.level(1);
    stage.level(2);
    const attached = stage.attach(2);
    const back = stage.hub.give({ kind: "undelivered", executor: 1, tasks: [1] });
    expect([started([...attached, ...back]), answers(back)]).toEqual([0, ["1 TRUST_TOO_LOW"]]);
  });

  test.each([
    ["see", "NOT_SHARED"],
    ["none", "NODE_NOT_FOUND"],
  ] as const)("is refused when its turn comes and the share says %s by then", (right, reason) => {
    const stage = new Stage();
    stage.policy(() => right);
    const reported = stage.report(1);
    expect([started(reported), answers(reported).sort()]).toEqual([0, ["1 DONE", `2 ${reason}`, `3 ${reason}`]]);
  });
});
