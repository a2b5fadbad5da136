import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ADMIN, Bench, EVIL, GATEWAY } from "../../../test/commands/bench.ts";
import { NO_VALUE, OUTCOME } from "../messages.ts";
import { Lines, type Standing } from "./lines.ts";

const CALLERS = [ADMIN, "automation:lights", "spiffe://home/node/a", "spiffe://home/node/b", "spiffe://home/gateway/c", "away", "far"];
const NODES = ["door", "lamp", "toy"];
const own = (caller: string): boolean => caller === ADMIN || caller.startsWith("automation:");
const peer = (caller: string): boolean => !caller.includes(":");

class Task implements Standing {
  line: Standing["line"];
  queue: Standing["queue"];
  ahead: Standing["ahead"];
  behind: Standing["behind"];
  readonly caller: string;
  readonly nodeId: string;
  readonly at: number;

  constructor(caller: string, nodeId: string, at: number) {
    this.caller = caller;
    this.nodeId = nodeId;
    this.at = at;
  }
}

const action = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("enter" as const), who: fc.nat(6), node: fc.nat(2), count: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("end" as const), which: fc.nat(200) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), which: fc.nat(200) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("dispatch" as const) }) },
);

describe("A4 turns at an executor", () => {
  test("whatever comes and goes: order by caller and node, parts of the window, turns, and no place that stays empty", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 24 }), fc.array(action, { maxLength: 150 }), (max, actions) => {
        const lines = new Lines<Task>(max);
        let waiting: Task[] = [];
        const running: Task[] = [];
        let entered = 0;
        /** Starts since each own caller's oldest task waited behind the window. */
        const passed = new Map<string, number>();
        const others = (): number => running.filter((task) => !own(task.caller)).length;
        const of = (tasks: readonly Task[], caller: string): number => tasks.filter((task) => task.caller === caller).length;
        const dispatch = (): void => {
          for (let task = lines.next(); task !== undefined; task = lines.next()) {
            const { caller, nodeId } = task;
            const first = waiting.find((each) => each.caller === caller && each.nodeId === nodeId);
            expect(first, "one caller's tasks for one node stay in order").toBe(task);
            const free = max - running.length;
            expect(free, "credit").toBeGreaterThan(0);
            expect(of(running, caller), "LN3 one caller").toBeLessThan(3 * free);
            running.push(task);
            if (max > 1) expect(others(), "LN3 the others").toBeLessThanOrEqual(max - Math.max(1, Math.floor(max / 8)));
            for (const [who, count] of passed) passed.set(who, of(running, who) === 0 ? count + 1 : 0);
            passed.delete(caller);
            waiting = waiting.filter((each) => each !== task);
            for (const [who, count] of passed) expect(count, `LN2 ${who}`).toBeLessThan(2 * CALLERS.filter(own).length);
          }
          for (const { caller } of waiting) {
            if (own(caller) && !passed.has(caller)) passed.set(caller, 0);
            const free = max - running.length;
            const most = own(caller) ? free : Math.min(free, (max < 2 ? max : max - Math.max(1, Math.floor(max / 8))) - others());
            expect(of(running, caller), `LN4 ${caller}`).toBeGreaterThanOrEqual(3 * most);
          }
          expect(lines.waiting).toBe(waiting.length);
        };
        for (const act of actions) {
          if (act.do === "enter")
            for (let i = 0; i < act.count; i++) {
              const task = new Task(CALLERS[act.who] as string, NODES[act.node] as string, entered++);
              lines.enter(task, task.caller, peer(task.caller));
              waiting.push(task);
            }
          else if (act.do === "end" && running.length > 0) {
            const [task] = running.splice(act.which % running.length, 1);
            lines.over(task as Task, true);
          } else if (act.do === "cancel" && waiting.length > 0) {
            const [task] = waiting.splice(act.which % waiting.length, 1);
            lines.over(task as Task, false);
            if (task !== undefined && of(waiting, task.caller) === 0) passed.delete(task.caller);
          } else if (act.do === "dispatch") dispatch();
          if (act.do !== "enter" || act.count % 2 === 0) dispatch();
        }
        const drained = lines.drain();
        expect(new Set(drained), "nothing is lost").toEqual(new Set(waiting));
        for (const task of drained)
          for (const later of drained.slice(drained.indexOf(task)))
            if (later.caller === task.caller && later.nodeId === task.nodeId) expect(later.at).toBeGreaterThanOrEqual(task.at);
        for (const task of running) lines.over(task, true);
        expect([lines.waiting, lines.next()]).toEqual([0, undefined]);
      }),
      { numRuns: 300 },
    );
  });
});

describe("A4 a hub of which one node is flooded", () => {
  /** Lets the executor end what it has in hand, 100 ms later. Answers how many tasks it had. */
  const work = (bench: Bench): number => {
    const had = bench.tasks.length;
    bench.mono += 100;
    bench.tick();
    bench.finish();
    return had;
  };
  const answer = (bench: Bench, corr: number) => bench.replies.find((reply) => reply.corr === corr);

  test("runs an operator's command for another node in its turn, not after all that one caller asked for", () => {
    const bench = new Bench({}, ["lamp", "evil"], 8);
    for (let i = 0; i < 4_000; i++) expect(bench.send(EVIL, "evil", "", { timeoutMs: 600_000 })).toBe(undefined);
    bench.send(ADMIN, "lamp", "", { timeoutMs: 5_000 });
    const corr = bench.corr;
    let before = 0;
    while (answer(bench, corr) === undefined) before += work(bench);
    expect(answer(bench, corr)?.result.outcome).toBe(OUTCOME.DONE);
    expect(before).toBeLessThanOrEqual(16);
    expect(bench.replies.length, "and what it overtook goes on").toBeLessThan(20);
    while (bench.hub.core.inFlight() > 0) work(bench);
    expect(bench.replies.filter(({ result }) => result.outcome === OUTCOME.DONE).length).toBe(4_001);
  });

  test("and also that of another node of the hub that floods: its own operator finds a way through", () => {
    const bench = new Bench({}, ["lamp", "evil"], 8);
    bench.hub.give({ kind: "policy", policy: () => "invoke" });
    bench.hub.give({ kind: "peers", peers: [{ hubId: "away", level: 2 }] });
    bench.hub.give({ kind: "peer-up", peer: "away", session: 1 });
    const ownerEpoch = Number(/owner-epoch=(\d+)/.exec(bench.hub.core.describe())?.[1]);
    const item = (seq: number, nodeId: string) => ({
      seq,
      nodeId,
      capability: "open",
      value: NO_VALUE,
      timeoutMs: 600_000,
      retry: false,
      hops: [],
    });
    const items = [...Array.from({ length: 2_000 }, (_, i) => item(i + 1, "evil")), item(2_001, "lamp")];
    bench.take(
      bench.hub.give({
        kind: "invocations",
        peer: "away",
        session: 1,
        frame: { epoch: 1, ackedBelow: 0, acks: [], items, cancels: [], ownerEpoch, ownerPosition: 0 },
      }),
    );
    const order: string[] = [];
    for (let rounds = 0; rounds < 4; rounds++) {
      order.push(...bench.tasks.map(({ nodeId }) => nodeId));
      work(bench);
    }
    expect(order).toContain("lamp");
  });

  test("keeps a place in the window for operators although tasks take long, and for other callers too", () => {
    const bench = new Bench({}, ["lamp", "evil"], 64);
    for (let i = 0; i < 200; i++) bench.send(EVIL, "evil", "", { timeoutMs: 600_000 });
    for (let i = 0; i < 200; i++) bench.send("spiffe://home/node/worse", "evil", "", { timeoutMs: 600_000 });
    bench.tasks.length = 0;
    bench.send(GATEWAY, "lamp");
    expect(bench.tasks.map(({ nodeId }) => nodeId)).toEqual(["lamp"]);
    for (let i = 0; i < 4; i++) bench.send(ADMIN, "lamp");
    expect(bench.tasks.length).toBe(5);
  });
});
