import { describe, expect, test } from "vitest";
import { ADMIN, Bench, EVIL, GATEWAY } from "../../test/commands/bench.ts";
import { capability } from "../../test/commands/hub.ts";
import type { Reply } from "../../test/commands/world.ts";
import { UNARY_CLIENT } from "./caller/pending.ts";
import { NO_VALUE, OUTCOME } from "./messages.ts";

/** mapSteps counts the look-ups in maps while something runs, and the keys of those that are gone through. */
function mapSteps(run: () => void): number {
  const { get, has, keys } = Map.prototype;
  let steps = 0;
  const counted = <A extends unknown[], R>(method: (...args: A) => R, cost: (map: Map<unknown, unknown>) => number) =>
    function (this: Map<unknown, unknown>, ...args: A): R {
      steps += cost(this);
      return method.apply(this, args);
    };
  Object.assign(Map.prototype, {
    get: counted(get, () => 1),
    has: counted(has, () => 1),
    keys: counted(keys, (map) => map.size),
  });
  try {
    run();
  } finally {
    Object.assign(Map.prototype, { get, has, keys });
  }
  return steps;
}

const limitOf = (reply: Reply | undefined): string | undefined => reply?.result.failure?.facts?.["limit"];

describe("S-3 F-12 idempotency keys", () => {
  test("one caller takes half of an idle room and no more: others, and operators most of all, still find room, also after a restart", () => {
    const bench = new Bench({ keys: 80 });
    for (let i = 0; i < 40; i++) expect(bench.run(EVIL, "evil", `k${i}`)?.result.outcome).toBe(OUTCOME.DONE);
    const refused = bench.run(EVIL, "evil", "one more");
    expect(refused?.result.failure).toMatchObject({ reason: "LIMIT_EXCEEDED", field: "command.idempotency_key" });
    expect(refused?.result.failure?.message).toContain(EVIL);
    expect(limitOf(refused)).toBe("idempotency_keys_per_caller");
    expect(bench.run(EVIL, "evil", "k3"), "a key that it has still answers").toMatchObject({ replayed: true });
    const taken = (node: string): number => {
      let keys = 0;
      while (limitOf(bench.run(`spiffe://home/node/${node}`, "lamp", `k${keys}`)) === undefined) keys++;
      return keys;
    };
    // Two parts of an eighth; then what each leaves to the next.
    expect(["n0", "n1", "n2", "n3", "n4", "n5"].map(taken)).toEqual([10, 10, 5, 3, 1, 1]);
    expect(limitOf(bench.run(GATEWAY, "lamp", "late"))).toBe("idempotency_keys");
    expect(bench.run(ADMIN, "lamp", "first")?.result.outcome).toBe(OUTCOME.DONE);

    bench.hub.restart();
    bench.attach(["lamp", "evil"]);
    expect(limitOf(bench.run(EVIL, "evil", "after"))).toBe("idempotency_keys_per_caller");
    expect(limitOf(bench.run(GATEWAY, "lamp", "after"))).toBe("idempotency_keys");
    expect(bench.run(ADMIN, "lamp", "second")?.result.outcome).toBe(OUTCOME.DONE);
  });

  test("bytes count as they are: a key whose command runs counts as its longest outcome, one that has an outcome as that", () => {
    const bench = new Bench({ keys: 10_000, keyBytes: 1024 * 1024 });
    let taken = 0;
    while (limitOf(bench.send(EVIL, "evil", `k${taken}`)) === undefined) taken++;
    // Half of 1 MiB, in keys that may each end with an outcome of 16 KiB.
    expect(taken).toBe(27);
    expect(limitOf(bench.replies.at(-1))).toBe("idempotency_keys_bytes_per_caller");
    bench.finish(0);
    const small = bench.hub.core.rooms().find(({ limit }) => limit === "idempotency_keys_bytes");
    expect(small?.used).toBeLessThan(27 * 1_024);
    for (; limitOf(bench.run(EVIL, "evil", `k${taken}`, 16_000)) === undefined; taken++);
    const held = bench.hub.core.rooms().find(({ limit }) => limit === "idempotency_keys_bytes");
    expect(held?.used).toBeLessThanOrEqual((1024 * 1024) / 2);
    expect(held?.used, "and what is kept is what counts").toBeGreaterThan((taken - 27) * 16_000);
    expect(bench.run(ADMIN, "lamp", "k", 16_000)?.result.outcome).toBe(OUTCOME.DONE);
  });

  test("what a key keeps does not keep the message that it came in", () => {
    const bench = new Bench();
    bench.send(EVIL, "evil", "k");
    const message = new Uint8Array(256 * 1024);
    message.set([0x2a, 18], 5);
    const reports = bench.tasks.splice(0).map(({ taskId }) => ({ taskId, value: message.subarray(5, 25), failure: undefined }));
    bench.take(bench.hub.give({ kind: "reports", executor: 1, reports }));
    const { value } = bench.replies.at(-1)?.result ?? { value: message };
    expect([value.length, value.buffer.byteLength]).toEqual([20, 20]);
  });
});

describe("S-3 keys that were kept when a caller could have more of them", () => {
  test("stand after an upgrade and the restarts after it, each with its outcome; new ones wait until there is room", () => {
    const before = new Bench({ keys: 100_000, keyLifeMs: 60_000 });
    for (let i = 0; i < 45; i++) expect(before.run(EVIL, "evil", `k${i}`)?.result.outcome).toBe(OUTCOME.DONE);
    before.send(EVIL, "evil", "runs");
    // Half of a room for 60 is taken by the 31 keys that stand: nothing is lent.
    const bench = new Bench({ keys: 60, keyLifeMs: 60_000 });
    bench.hub.disk = before.hub.disk.copy();
    for (let restarts = 0; restarts < 3; restarts++) {
      bench.hub.restart();
      bench.attach(["lamp", "evil"]);
      bench.tick();
      for (let i = 0; i < 45; i++)
        expect(bench.run(EVIL, "evil", `k${i}`)).toMatchObject({ replayed: true, result: { outcome: OUTCOME.DONE } });
      expect(bench.run(EVIL, "evil", "runs")).toMatchObject({ replayed: true, result: { outcome: OUTCOME.UNKNOWN } });
      expect(bench.tasks, "none of them runs again").toEqual([]);
      expect(limitOf(bench.run(EVIL, "evil", "new"))).toBe("idempotency_keys_per_caller");
      expect(bench.run(ADMIN, "lamp", `mine ${restarts}`)?.result.outcome).toBe(OUTCOME.DONE);
    }
    bench.mono += 61_000;
    bench.tick();
    expect(bench.run(EVIL, "evil", "new")?.result.outcome).toBe(OUTCOME.DONE);
  });
});

describe("F-17 what has expired", () => {
  test("a key whose day is over stands for nothing on a hub where nothing else happens", () => {
    const bench = new Bench({ keyLifeMs: 60_000 });
    expect(bench.run(EVIL, "evil", "daily")?.result.outcome).toBe(OUTCOME.DONE);
    bench.mono += 600_000;
    expect(bench.run(EVIL, "evil", "daily"), "without a tick in between").toMatchObject({
      replayed: false,
      result: { outcome: OUTCOME.DONE },
    });
  });

  test("a key's end is in the deadline, and a whole day's keys are forgotten some at a time", () => {
    const bench = new Bench({ keyLifeMs: 60_000, keys: 100_000 });
    for (let i = 0; i < 10_000; i++) bench.run(ADMIN, "lamp", `k${i}`);
    bench.mono += 59_000;
    for (let i = 0; i < 50; i++) bench.tick();
    expect(bench.hub.core.deadline()).toBeLessThanOrEqual(61_000);
    bench.mono += 2_000;
    const held = (): number | undefined => bench.hub.core.rooms().find(({ limit }) => limit === "idempotency_keys")?.used;
    expect(held()).toBe(10_000);
    bench.tick();
    expect(held(), "one tick does not do all the work").toBe(10_000 - 4_096);
    for (let i = 0; i < 3; i++) bench.tick();
    expect(held()).toBe(0);
    expect(bench.hub.core.deadline()).toBe(undefined);
  });

  test("a key whose command still runs stays, and its core does not spin", () => {
    const bench = new Bench({ keyLifeMs: 60_000 });
    bench.send(ADMIN, "lamp", "long", { timeoutMs: 3_600_000 });
    bench.mono += 70_000;
    bench.tick();
    expect(bench.hub.core.deadline()).toBeGreaterThan(bench.mono);
    expect(bench.send(ADMIN, "lamp", "long", { timeoutMs: 3_600_000 }), "it joins the one that runs").toBe(undefined);
    expect(bench.tasks.length).toBe(1);
  });

  test("a command that waited for credit beyond its deadline is not started, although no tick came first", () => {
    const bench = new Bench({}, ["lamp"], 1);
    bench.send(ADMIN, "lamp", "", { timeoutMs: 60_000 });
    bench.send(ADMIN, "lamp", "", { timeoutMs: 1_000 });
    bench.mono += 5_000;
    bench.finish();
    expect(bench.tasks).toEqual([]);
    expect(bench.replies.map(({ result }) => result.outcome).sort()).toEqual([OUTCOME.DONE, OUTCOME.EXPIRED]);
  });
});

describe("S-4 commands that wait", () => {
  test("neither one caller nor one node takes the room of the others", () => {
    const bench = new Bench({ pendingLocal: 160 });
    // Half of an empty room, and then no more than an eighth.
    for (let i = 0; i < 80; i++) expect(bench.send(EVIL, "evil")).toBe(undefined);
    const refused = bench.send(EVIL, "door");
    expect(refused?.result.failure).toMatchObject({ reason: "OVERLOADED", facts: { limit: "pending_local_per_caller", max: "20" } });
    expect(limitOf(bench.send(GATEWAY, "evil"))).toBe("pending_local_per_node");
    expect(bench.send(GATEWAY, "lamp")).toBe(undefined);
    expect(bench.send(ADMIN, "evil"), "an operator reaches also a node that is flooded").toBe(undefined);
    bench.finish();
    expect(bench.send(EVIL, "evil"), "and all of it comes back").toBe(undefined);
  });

  test("bytes of values count too", () => {
    const bench = new Bench({ pendingLocalBytes: 3_000 });
    const more = { value: new Uint8Array(600) };
    // `open` takes no value: the refusal for it comes after the one for room.
    bench.hub.give({
      kind: "directory",
      changes: [{ kind: "put", hubId: "home", nodeId: "lamp", online: true, capabilities: [capability("open", 5)] }],
    });
    const value = Uint8Array.of(0x2a, 0xd5, 0x04, ...more.value.subarray(3));
    for (let i = 0; i < 2; i++) expect(bench.send(EVIL, "lamp", "", { value })?.result.failure).toBe(undefined);
    expect(limitOf(bench.send(EVIL, "lamp", "", { value }))).toBe("pending_local_bytes_per_caller");
  });

  test("one caller's unary calls do not take those of the others, also when they join keys, and come back when they end", () => {
    const bench = new Bench({ pendingPerClient: 160 });
    const execute = (principal: string, key = ""): Reply | undefined => {
      const corr = ++bench.corr;
      const command = { corr, hubId: "home", nodeId: "lamp", capability: "open", value: NO_VALUE, timeoutMs: 60_000, key, hops: [] };
      bench.take(bench.hub.give({ kind: "execute", client: UNARY_CLIENT, principal, commands: [command] }));
      return bench.replies.findLast((reply) => reply.corr === corr);
    };
    for (let i = 0; i < 40; i++) expect(execute(EVIL)).toBe(undefined);
    // Those that join a key hold a call each, though only one command runs.
    for (let i = 0; i < 40; i++) expect(execute(EVIL, "k")).toBe(undefined);
    expect(execute(EVIL, "k")?.result.failure).toMatchObject({ reason: "OVERLOADED", facts: { limit: "pending_unary_per_caller" } });
    expect(execute(GATEWAY)).toBe(undefined);
    expect(execute(ADMIN)).toBe(undefined);
    bench.take(bench.hub.give({ kind: "cancel", client: UNARY_CLIENT, corrs: [60] }));
    const used = () => bench.hub.core.rooms().find(({ limit }) => limit === "pending_unary")?.used;
    expect(used()).toBe(81);
    bench.finish();
    expect(used()).toBe(0);
    expect(execute(EVIL)).toBe(undefined);
  });

  test("callers that join one key are bounded", () => {
    const bench = new Bench();
    for (let i = 0; i < 65; i++) expect(bench.send(ADMIN, "lamp", "k", { timeoutMs: 60_000 })).toBe(undefined);
    expect(bench.send(ADMIN, "lamp", "k", { timeoutMs: 60_000 })?.result.failure?.reason).toBe("OVERLOADED");
  });
});

describe("F-12 a caller's hub", () => {
  const arrive = (bench: Bench, epoch: number, seqs: readonly number[], timeoutMs = 3_600_000) => {
    const items = seqs.map((seq) => ({ seq, nodeId: "lamp", capability: "open", value: NO_VALUE, timeoutMs, retry: false, hops: [] }));
    const frame = { epoch, ackedBelow: 0, acks: [], items, cancels: [], ownerEpoch: ownerEpoch(bench), ownerPosition: 0 };
    return bench.take(bench.hub.give({ kind: "invocations", peer: "away", session: 1, frame }));
  };
  const ownerEpoch = (bench: Bench): number => Number(/owner-epoch=(\d+)/.exec(bench.hub.core.describe())?.[1]);
  const befriend = (bench: Bench): void => {
    bench.hub.give({ kind: "policy", policy: () => "invoke" });
    bench.hub.give({ kind: "peers", peers: [{ hubId: "away", level: 2 }] });
    bench.hub.give({ kind: "peer-up", peer: "away", session: 1 });
  };
  const epochs = (bench: Bench): number =>
    bench.hub.core
      .describe()
      .split("\n")
      .filter((line) => line.startsWith("  epoch")).length;

  test("epochs of its journal are bounded, whatever it keeps open in each, and no name of an epoch that went runs again", () => {
    const bench = new Bench({ epochsPerCaller: 8 });
    befriend(bench);
    for (let epoch = 1; epoch <= 1_500; epoch++) {
      arrive(bench, epoch, epoch % 3 === 0 ? [] : [1]);
      if (epoch % 2 === 0) bench.finish();
    }
    expect(epochs(bench)).toBeLessThanOrEqual(8);
    bench.finish();
    arrive(bench, 7, [1, 2]);
    expect(bench.tasks, "epoch 7 is over").toEqual([]);
    expect(bench.hub.core.inFlight()).toBe(0);
    bench.hub.restart();
    bench.attach(["lamp"]);
    befriend(bench);
    arrive(bench, 7, [1, 2]);
    expect(bench.tasks, "also after a restart").toEqual([]);
  });

  test.each([
    ["repeated", 4_000, 0],
    ["shifted", 4_000, 1],
    ["wider than all that is kept", 2 ** 30, 0],
  ])("a frame of %s pairs of acknowledged positions costs as many steps as outcomes are kept, not that for each pair", (_, span, shift) => {
    const bench = new Bench();
    befriend(bench);
    const kept = 4_096;
    const seqs = Array.from({ length: kept }, (_, i) => i + 1);
    arrive(bench, 1, seqs);
    // One executor takes a part of them at a time.
    while (bench.tasks.length > 0) bench.finish();
    const acks = Array.from({ length: 500 }, (_, i) => [kept + 1 + shift * i, kept + 1 + shift * i + span]).flat();
    const frame = { epoch: 1, ackedBelow: 0, acks, items: [], cancels: [], ownerEpoch: ownerEpoch(bench), ownerPosition: 0 };
    const steps = mapSteps(() => bench.hub.give({ kind: "invocations", peer: "away", session: 1, frame }));
    expect(steps).toBeLessThan(4 * kept);
    expect(bench.hub.core.describe()).toContain(`kept=${kept}`);
    const all = { ...frame, acks: [1, 2, 1, 3, 4_000, 2 ** 30, 2, 4_000] };
    bench.hub.give({ kind: "invocations", peer: "away", session: 1, frame: all });
    expect(bench.hub.core.describe(), "all of it is acknowledged").not.toMatch(/kept=[1-9]/);
  });

  test("S-8 a node that its share hides is answered as one that does not exist, and NOT_SHARED only says no to what it sees", () => {
    const bench = new Bench({}, ["lamp", "hidden", "seen"]);
    befriend(bench);
    const asked: string[] = [];
    bench.hub.give({
      kind: "policy",
      policy: (_peer, nodeId) => {
        asked.push(nodeId);
        return nodeId === "seen" ? "see" : "none";
      },
    });
    const failureOf = (seq: number, nodeId: string) => {
      const items = [{ seq, nodeId, capability: "open", value: NO_VALUE, timeoutMs: 1_000, retry: false, hops: [] }];
      const frame = { epoch: 1, ackedBelow: 0, acks: [], items, cancels: [], ownerEpoch: ownerEpoch(bench), ownerPosition: 0 };
      const respond = bench.hub.give({ kind: "invocations", peer: "away", session: 1, frame }).find((effect) => effect.kind === "respond");
      return respond?.items[0]?.result.failure;
    };
    const [hidden, absent] = [failureOf(1, "hidden"), failureOf(2, "absent")];
    expect(absent).toMatchObject({ reason: "NODE_NOT_FOUND" });
    expect(JSON.stringify(hidden).replace("hidden", "absent")).toBe(JSON.stringify(absent));
    expect(asked, "the same work is done for both").toEqual(["hidden", "absent"]);
    expect(failureOf(3, "seen")).toMatchObject({ reason: "NOT_SHARED" });
  });

  test("A4 bytes of values of its commands that have no outcome are bounded, and come back with their outcomes", () => {
    const bench = new Bench({ pendingBytesPerPeer: 2_000 });
    befriend(bench);
    bench.hub.give({
      kind: "directory",
      changes: [{ kind: "put", hubId: "home", nodeId: "lamp", online: true, capabilities: [capability("open", 5)] }],
    });
    const value = Uint8Array.of(0x2a, 0xd5, 0x04, ...new Uint8Array(597));
    const invoke = (seq: number) => {
      const items = [{ seq, nodeId: "lamp", capability: "open", value, timeoutMs: 60_000, retry: false, hops: [] }];
      const frame = { epoch: 1, ackedBelow: 0, acks: [], items, cancels: [], ownerEpoch: ownerEpoch(bench), ownerPosition: 0 };
      const effects = bench.take(bench.hub.give({ kind: "invocations", peer: "away", session: 1, frame }));
      return effects.flatMap((effect) => (effect.kind === "respond" ? effect.items : []))[0]?.result.failure?.message;
    };
    expect([1, 2, 3, 4].map(invoke)).toEqual([undefined, undefined, undefined, "1800 bytes of commands of away are pending"]);
    bench.finish();
    expect([5, 6, 7].map(invoke)).toEqual([undefined, undefined, undefined]);
  });

  test("A4 and so are those of this hub's callers to it", () => {
    const bench = new Bench({ pendingBytesPerPeer: 3_000 });
    befriend(bench);
    bench.hub.give({
      kind: "directory",
      changes: [{ kind: "put", hubId: "away", nodeId: "far", online: true, capabilities: [capability("open", 5)] }],
    });
    const value = Uint8Array.of(0x2a, 0xd5, 0x04, ...new Uint8Array(597));
    for (let i = 0; i < 2; i++) expect(bench.send(EVIL, "far", "", { hubId: "away", value })).toBe(undefined);
    expect(limitOf(bench.send(EVIL, "far", "", { hubId: "away", value }))).toBe("pending_per_peer_bytes_per_caller");
    expect(bench.send(ADMIN, "far", "", { hubId: "away", value })).toBe(undefined);
  });

  test("A4 on a new session operators' commands and those of the others alternate, callers take turns, and each keeps its order", () => {
    const bench = new Bench();
    befriend(bench);
    bench.hub.give({
      kind: "directory",
      changes: [{ kind: "put", hubId: "away", nodeId: "far", online: true, capabilities: [capability("open", 0)] }],
    });
    const greet = (session: number) => {
      const frame = { epoch: 0, ownerEpoch: 7, ownerPosition: 0, items: [] };
      return bench.take(bench.hub.give({ kind: "results", peer: "away", session, frame }));
    };
    greet(1);
    for (const who of [EVIL, EVIL, EVIL, GATEWAY, GATEWAY, ADMIN, EVIL])
      expect(bench.send(who, "far", "", { hubId: "away" })).toBe(undefined);
    bench.hub.give({ kind: "peer-up", peer: "away", session: 2 });
    bench.send(ADMIN, "far", "", { hubId: "away" });
    const again = greet(2).flatMap((effect) => (effect.kind === "invoke" ? effect.items : []));
    // What comes first of all callers is repeated or new, whichever is older of its caller.
    const order = [6, 1, 8, 4, 2, 5, 3, 7];
    expect(again.map(({ seq, retry }) => [seq, retry])).toEqual(order.map((seq) => [seq, seq !== 8]));
  });

  test("bytes of outcomes that it does not acknowledge are bounded", () => {
    const bench = new Bench({ outcomeBytesPerCaller: 20_000 });
    befriend(bench);
    for (let seq = 1; seq <= 2; seq++) {
      arrive(bench, 1, [seq]);
      bench.finish(12_000);
    }
    const refused = arrive(bench, 1, [3]).find((effect) => effect.kind === "respond");
    expect(refused?.items[0]?.result.failure).toMatchObject({ reason: "LIMIT_EXCEEDED", facts: { limit: "outcome_bytes_per_caller" } });
  });
});

test("who holds how much names callers, nodes and peers, and follows what ends", () => {
  const bench = new Bench({ pendingLocal: 64 });
  for (let i = 0; i < 3; i++) expect(bench.send(GATEWAY, "lamp", `key-${i}`)).toBeUndefined();
  expect(bench.send(EVIL, "door")).toBeUndefined();
  const held = () =>
    Object.fromEntries(
      bench.hub.core.holdings().map(({ what, holdings }) => [what, [...holdings].map(({ holder, count }) => [holder, count])]),
    );
  expect(held()).toMatchObject({
    idempotency_keys: [[GATEWAY, 3]],
    pending_local: [
      [GATEWAY, 3],
      [EVIL, 1],
    ],
    "pending_local by node": [
      ["lamp", 3],
      ["door", 1],
    ],
  });
  bench.finish();
  expect(held()).toMatchObject({ idempotency_keys: [[GATEWAY, 3]], pending_local: [], "pending_local by node": [] });
});

describe("F-12 S-5 executors", () => {
  const attach = (bench: Bench, executor: number, name: string, shared = true) =>
    bench.hub.give({
      kind: "attach",
      executor,
      name,
      scope: { kind: "node", nodeId: "evil" },
      offer: { nodeIds: ["evil"], capabilities: [], maxInFlight: 1, shared },
    });

  const attaches = (bench: Bench, executor: number, name: string): boolean =>
    attach(bench, executor, name).some(({ kind }) => kind === "attached");

  test("one caller attaches half of them while nobody else needs them, then its part, and a stream that ended counts no more", () => {
    const bench = new Bench({ executors: 64 });
    // One stream of the bench itself is attached.
    for (let i = 0; i < 31; i++) expect(attaches(bench, 100 + i, "evil"), `${i}`).toBe(true);
    const refused = attach(bench, 200, "evil");
    const failure = { reason: "LIMIT_EXCEEDED", facts: { limit: "executors_per_caller", max: "8" } };
    expect(refused).toMatchObject([{ kind: "detach", executor: 200, failure }]);
    for (const [at, other] of ["one", "two", "three"].entries())
      for (let i = 0; i < 8; i++) expect(attaches(bench, 300 + at * 10 + i, other), `${other} ${i}`).toBe(true);
    bench.hub.give({ kind: "executor-gone", executor: 200 });
    bench.hub.give({ kind: "executor-gone", executor: 102 });
    expect(attaches(bench, 201, "evil"), "what it borrowed is not lent again while others need the room").toBe(false);
    for (let at = 0; at < 3; at++) for (let i = 0; i < 8; i++) bench.hub.give({ kind: "executor-gone", executor: 300 + at * 10 + i });
    expect(attaches(bench, 202, "evil"), "until they are gone").toBe(true);
  });
});
