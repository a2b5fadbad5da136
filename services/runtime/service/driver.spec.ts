import fc from "fast-check";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { AssertionFailure } from "#kernel/assert.ts";
import type { Core, Observe, Persist, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { silentLogger } from "../log/log.ts";
import type { CommitOutcome, Store } from "../store/port.ts";
import { createDriver, type Driver, type DriverOptions, type StoreReport } from "./driver.ts";

type Input =
  | { readonly kind: "write" | "note"; readonly id: number }
  | { readonly kind: "read"; readonly id: number }
  | { readonly kind: "then"; readonly id: number; readonly run: () => void }
  | { readonly kind: "stored"; readonly report: StoreReport }
  | { readonly kind: "wake"; readonly at: number | undefined }
  | { readonly kind: "bug" };

type TestEffect =
  | Persist
  | (Observe & { readonly text: string })
  | { readonly kind: "reply" | "announce"; readonly text: string; readonly run?: () => void };
type Reply = Extract<TestEffect, { text: string; kind: "reply" | "announce" }>;

/** A core that writes numbers to a log, replies, and announces what it wrote. */
class Notebook implements Core<Input, TestEffect> {
  seen: string[] = [];
  due: number | undefined;
  #depth = 0;

  step(_: Now, input: Input, out: TestEffect[]): void {
    expect(this.#depth++, "DC1 no re-entrancy").toBe(0);
    this.#take(input, out);
    this.#depth--;
  }

  #take(input: Input, out: TestEffect[]): void {
    switch (input.kind) {
      case "note":
        out.push({ kind: "reply", text: `noting ${input.id}` });
        out.push({ kind: "persist", ops: [{ op: "append", log: "n", seq: input.id, bytes: new Uint8Array(1) }] });
        return;
      case "write":
        this.seen.push(`write ${input.id}`);
        out.push({ kind: "persist", ops: [{ op: "append", log: "n", seq: input.id, bytes: new Uint8Array(1) }] });
        out.push({ kind: "observe", text: `measured ${input.id}` });
        out.push({ kind: "reply", text: `wrote ${input.id}` }, { kind: "announce", text: `head ${input.id}` });
        return;
      case "read":
        this.seen.push(`read ${input.id}`);
        out.push({ kind: "reply", text: `read ${input.id}` });
        return;
      case "then":
        out.push({ kind: "reply", text: `then ${input.id}`, run: input.run });
        return;
      case "stored":
        this.seen.push(input.report.ok ? "recovered" : `refused: ${input.report.failure.message}`);
        return;
      case "wake":
        this.due = input.at;
        return;
      case "bug":
        throw new AssertionFailure("the core is wrong");
    }
  }

  tick(now: Now, out: TestEffect[]): void {
    this.due = undefined;
    out.push({ kind: "reply", text: `tick ${now.mono}` });
  }

  deadline(): number | undefined {
    return this.due;
  }

  describe(): string {
    return this.seen.join("\n");
  }
}

interface Rig {
  readonly clock: ManualClock;
  readonly core: Notebook;
  readonly driver: Driver<Input>;
  readonly metrics: Registry;
  /** Everything that left, in order; rejections are marked. */
  readonly left: string[];
  readonly fatal: unknown[];
}

function rig(store: Store, more: Partial<DriverOptions<Input, TestEffect>> = {}): Rig {
  const clock = new ManualClock();
  const core = new Notebook();
  const metrics = new Registry();
  const left: string[] = [];
  const fatal: unknown[] = [];
  const driver: Driver<Input> = createDriver<Input, TestEffect>({
    service: "test",
    core,
    store,
    clock,
    log: silentLogger,
    metrics,
    execute: (effect) => {
      left.push((effect as Reply).text);
      (effect as Reply).run?.();
    },
    observe: (effect) => void left.push(effect.text),
    reject: (effect: Reply, failure: Failure) => {
      left.push(`${effect.kind === "reply" ? "rejected" : "kept"} ${effect.text} ${failure.reason}`);
      return effect.kind === "reply" ? "drop" : "keep";
    },
    onStored: (report) => (report.ok && !report.recovered ? undefined : { kind: "stored", report }),
    onFatal: (error) => void fatal.push(error),
    commit: "turn",
    ...more,
  });
  return { clock, core, driver, metrics, left, fatal };
}

const write = (id: number): Input => ({ kind: "write", id });
const read = (id: number): Input => ({ kind: "read", id });

/** A store whose commits end when the test says so. */
class HeldStore extends MemoryStore {
  readonly batches: string[][] = [];
  readonly held: (() => void)[];

  constructor(held: (() => void)[] = []) {
    super({ schedule: (run) => void held.push(run) });
    this.held = held;
  }

  override commit(ops: readonly StoreOp[]): CommitOutcome | Promise<CommitOutcome> {
    this.batches.push(ops.map((op) => (op.op === "append" ? `${op.seq}` : op.op)));
    return super.commit(ops);
  }

  /** finish ends the commit in flight and lets the promises run. */
  async finish(): Promise<void> {
    this.held.shift()?.();
    for (let i = 0; i < 5; i++) await Promise.resolve();
  }
}

describe("driver", () => {
  test("DC1 an input posted while an effect is executed waits its turn", () => {
    const r = rig(new MemoryStore());
    r.driver.post({ kind: "then", id: 1, run: () => void (r.driver.post(read(2)) && r.left.push("posted")) });
    expect(r.left).toEqual(["then 1", "posted", "read 2"]);
  });

  test("DC2 outputs wait for the commit, measurements do not, a turn is one transaction", () => {
    const r = rig(new MemoryStore());
    r.driver.post(read(1));
    r.driver.post(write(1));
    r.driver.post(write(2));
    r.driver.post(read(2));
    expect(r.left).toEqual(["read 1", "measured 1", "measured 2"]);
    r.clock.turn();
    expect(r.left.slice(3)).toEqual(["wrote 1", "head 1", "wrote 2", "head 2", "read 2"]);
  });

  test("DC2 steps go on while a commit is in flight, and what they persist is the next batch", async () => {
    const store = new HeldStore();
    const r = rig(store);
    r.driver.post(write(1));
    r.clock.turn();
    r.driver.post(write(2));
    r.driver.post(write(3));
    r.driver.post(read(9));
    r.clock.turn();
    expect(store.batches).toEqual([["1"]]);
    await store.finish();
    expect(r.left.filter((t) => !t.startsWith("measured"))).toEqual(["wrote 1", "head 1"]);
    r.clock.turn();
    await store.finish();
    expect(store.batches).toEqual([["1"], ["2", "3"]]);
    expect(r.left.filter((t) => !t.startsWith("measured")).slice(2)).toEqual(["wrote 2", "head 2", "wrote 3", "head 3", "read 9"]);
  });

  test("DC2 DR1 DR3 no output overtakes, and none leaves before its persist is durable, in any interleaving", async () => {
    const action = fc.constantFrom("write", "read", "turn", "finish");
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
        const store = new HeldStore();
        const r = rig(store);
        let id = 0;
        const expected: string[] = [];
        for (const a of actions) {
          if (a === "turn") r.clock.turn();
          else if (a === "finish") await store.finish();
          else {
            id++;
            r.driver.post(a === "write" ? write(id) : read(id));
            expected.push(...(a === "write" ? [`wrote ${id}`, `head ${id}`] : [`read ${id}`]));
          }
          const left = r.left.filter((t) => !t.startsWith("measured"));
          expect(left).toEqual(expected.slice(0, left.length));
          const durable = new Set([...store.read("n", 0)].map((b) => `wrote ${b.seq}`));
          for (const text of left) if (text.startsWith("wrote")) expect(durable.has(text)).toBe(true);
        }
        for (let i = 0; i < 4; i++) {
          r.clock.turn();
          await store.finish();
        }
        expect(r.left.filter((t) => !t.startsWith("measured"))).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });

  test("mode now commits as soon as the mailbox is empty, and a cork shares one commit", () => {
    const store = new HeldStore();
    const sync = new MemoryStore();
    const r = rig(sync, { commit: "now" });
    r.driver.post(write(1));
    expect(r.left).toEqual(["measured 1", "wrote 1", "head 1"]);
    const held = rig(store, { commit: "now" });
    held.driver.cork();
    for (const id of [1, 2, 3]) held.driver.post(write(id));
    expect(held.core.seen).toEqual([]);
    held.driver.uncork();
    expect(store.batches).toEqual([["1", "2", "3"]]);
  });

  const written = (store: MemoryStore): number => [...store.read("n", 0)].length;

  test("mode now lets what does not wait for a commit leave first, and commits in the next turn", () => {
    const store = new MemoryStore();
    const { clock, driver, left } = rig(store, { commit: "now" });
    driver.post({ kind: "note", id: 1 });
    expect([left, written(store)]).toEqual([["noting 1"], 0]);
    driver.post({ kind: "read", id: 2 });
    expect([left, written(store)], "what comes later waits for what was persisted").toEqual([["noting 1", "read 2"], 1]);
    driver.post({ kind: "note", id: 3 });
    clock.turn();
    expect([left.at(-1), written(store)]).toEqual(["noting 3", 2]);
    const lazy = rig(new MemoryStore(), { commit: "now", urgent: (effect) => effect.kind === "reply" && effect.text !== "wrote 4" });
    lazy.driver.post(write(4));
    expect(lazy.left, "nobody waits for what is written").toEqual(["measured 4"]);
    lazy.driver.post({ kind: "read", id: 5 });
    expect(lazy.left.slice(1)).toEqual(["wrote 4", "head 4", "read 5"]);
  });

  test("pacing holds the next small commit back, not a large one", () => {
    const r = rig(new MemoryStore(), { paceMs: 2, paceBelowOps: 3 });
    r.driver.post(write(1));
    r.clock.turn();
    r.driver.post(write(2));
    r.clock.turn();
    expect(r.left).not.toContain("wrote 2");
    r.clock.advance(2);
    expect(r.left).toContain("wrote 2");
    for (const id of [3, 4, 5]) r.driver.post(write(id));
    r.clock.advance(2);
    expect(r.left).toContain("wrote 5");
  });

  test("DC3 the mailbox is bounded, what is told is not refused, and space is announced", async () => {
    const r = rig(new MemoryStore(), { mailboxCapacity: 2 });
    r.driver.cork();
    expect([1, 2, 3].map((id) => r.driver.post(read(id)))).toEqual([true, true, false]);
    expect([4, 5].map((id) => r.driver.tell(read(id)))).toEqual([true, true]);
    expect(r.driver.post(read(6)), "nothing overtakes what was told").toBe(false);
    const page = await r.metrics.metrics();
    expect(page).toContain('foedus_mailbox_depth{service="test"} 4');
    expect(page).toContain('foedus_mailbox_capacity{service="test"} 2');
    expect(page).toContain('foedus_mailbox_refused_total{service="test"} 2');
    let space: boolean | undefined;
    const waiting = r.driver.drainSpace().then((room) => {
      space = room;
    });
    await Promise.resolve();
    expect(space).toBe(undefined);
    r.driver.uncork();
    await waiting;
    expect(space).toBe(true);
    expect(r.left).toEqual(["read 1", "read 2", "read 4", "read 5"]);
  });

  test("DC3 DC6 who waits for space learns that there will be none: the core failed, the driver stops, or it has stopped", async () => {
    const full = (store: Store): Rig => {
      const r = rig(store, { mailboxCapacity: 1 });
      r.driver.cork();
      r.driver.post({ kind: "bug" });
      return r;
    };
    const failed = full(new MemoryStore());
    const waiting = failed.driver.drainSpace();
    failed.driver.uncork();
    expect([await waiting, await failed.driver.drainSpace()]).toEqual([false, false]);

    const store = new HeldStore();
    const stopping = rig(store);
    stopping.driver.post(write(1));
    const stopped = stopping.driver.stop();
    expect([stopping.driver.state, await stopping.driver.drainSpace()]).toEqual(["running", false]);
    await store.finish();
    await stopped;
    expect(await stopping.driver.drainSpace()).toBe(false);
  });

  test("DR9 inputs stay in the mailbox while too much waits for the store", async () => {
    const store = new HeldStore();
    const r = rig(store, { maxWaiting: 4, mailboxCapacity: 3 });
    const taken = Array.from({ length: 8 }, (_, i) => r.driver.post(write(i)));
    expect(taken).toEqual([true, true, true, true, true, false, false, false]);
    expect(r.core.seen.length).toBe(2);
    for (let i = 0; i < 6; i++) {
      r.clock.turn();
      await store.finish();
    }
    expect(r.core.seen.length).toBe(5);
    expect(r.left).toContain("head 4");
  });

  test("F-7 DR9 what is long finds no room either when more bytes wait than may, and gets in when all of it was taken", async () => {
    const store = new HeldStore();
    const r = rig(store, { maxWaiting: 4, mailboxCapacity: 100, mailboxBytes: 1_000 });
    const taken = Array.from({ length: 8 }, (_, i) => r.driver.post(write(i), 600));
    expect(taken, "two steps fill the store, two more inputs the mailbox").toEqual([true, true, true, true, false, false, false, false]);
    expect(r.driver.post(read(9)), "nor is there room for one of unknown length").toBe(false);
    expect(r.driver.tell(read(10)), "what must not be lost has no bound").toBe(true);
    let space: boolean | undefined;
    const waiting = r.driver.drainSpace().then((room) => {
      space = room;
    });
    await Promise.resolve();
    expect(space).toBe(undefined);
    for (let i = 0; i < 6; i++) {
      r.clock.turn();
      await store.finish();
    }
    await waiting;
    expect([space, r.core.seen]).toEqual([true, ["write 0", "write 1", "write 2", "write 3", "read 10"]]);
    expect(r.driver.post(read(11), 5_000), "one of any length gets in when none waits").toBe(true);
    expect(r.left.at(-1)).toBe("read 11");
  });

  test("F-17 DR10 what is due comes before an input, however late its timer is", () => {
    const r = rig(new MemoryStore());
    r.driver.post({ kind: "wake", at: 700 });
    // The process was stopped: a socket is read before any timer fires.
    r.clock.pass(5_000);
    r.driver.post(read(1));
    expect(r.left).toEqual(["tick 5000", "read 1"]);
    r.clock.advance(10);
    expect(r.left, "and is not done twice").toEqual(["tick 5000", "read 1"]);
    r.driver.post({ kind: "wake", at: 5_500 });
    r.driver.post({ kind: "wake", at: 9_000 });
    r.clock.pass(1_000);
    r.driver.post(read(2));
    expect(r.left.slice(2), "what was put off is not due").toEqual(["read 2"]);
    r.clock.advance(4_000);
    expect(r.left.slice(3)).toEqual(["tick 9000"]);
  });

  test("DC4 one timer, from deadline()", () => {
    const r = rig(new MemoryStore());
    r.driver.post({ kind: "wake", at: 500 });
    expect(r.clock.pending).toBe(1);
    r.driver.post({ kind: "wake", at: 900 });
    r.driver.post({ kind: "wake", at: 700 });
    expect(r.clock.pending).toBe(1);
    r.clock.advance(699);
    expect(r.left).toEqual([]);
    r.clock.advance(1);
    expect(r.left).toEqual(["tick 700"]);
    r.driver.post({ kind: "wake", at: 800 });
    r.driver.post({ kind: "wake", at: undefined });
    r.clock.advance(1_000);
    expect(r.left).toEqual(["tick 700"]);
  });

  test("DC6 a failed assertion stops the driver and is reported once", () => {
    const r = rig(new MemoryStore());
    r.driver.post(write(1));
    r.driver.post({ kind: "bug" });
    expect(r.fatal).toEqual([new AssertionFailure("the core is wrong")]);
    expect(r.driver.post(read(1))).toBe(false);
    r.clock.advance(10_000);
    r.clock.turn();
    expect(r.driver.state).toBe("failed");
    expect(r.left).not.toContain("wrote 1");
    expect(r.fatal.length).toBe(1);
  });

  test("DC4 DC6 a deadline that is no number stops the driver: its timer would fire for ever", () => {
    const r = rig(new MemoryStore());
    r.driver.post({ kind: "wake", at: Number.NaN });
    expect(r.fatal).toEqual([new AssertionFailure("a core wants to be called at an instant that is no number")]);
    expect(r.driver.state).toBe("failed");
    expect(r.clock.pending).toBe(0);
  });

  test("CM4 a conflict in the store is fatal: somebody else writes", () => {
    const store = new MemoryStore();
    expect(store.commit([{ op: "append", log: "n", seq: 1, bytes: new Uint8Array(1) }])).toEqual({ ok: true });
    const r = rig(store);
    r.driver.post(write(1));
    r.clock.turn();
    expect(String(r.fatal[0])).toContain("conflict");
    expect(r.left).not.toContain("wrote 1");
  });
});

describe("driver on a full disk", () => {
  test("DR4 DR5 DR6 DR7 DR8 writes are refused, reads and pings go on, retried every 5 s until it succeeds", async () => {
    const store = new MemoryStore();
    const r = rig(store);
    store.failAll("full");
    r.driver.post(write(1));
    r.driver.post(read(1));
    r.clock.turn();
    expect(r.left).toEqual([
      "measured 1",
      "rejected wrote 1 STORE_UNAVAILABLE",
      "kept head 1 STORE_UNAVAILABLE",
      "rejected read 1 STORE_UNAVAILABLE",
    ]);
    expect(r.core.seen.at(-1)).toBe("refused: the disk is full");
    expect(r.driver.state).toBe("refusing");
    expect(await r.metrics.metrics()).toContain('foedus_store_refusing{service="test"} 1');

    r.left.length = 0;
    r.driver.post(read(2));
    r.driver.post(write(2));
    expect(r.left).toEqual(["read 2", "measured 2", "rejected wrote 2 STORE_UNAVAILABLE", "kept head 2 STORE_UNAVAILABLE"]);

    r.left.length = 0;
    r.clock.advance(4_999);
    store.failAll(undefined);
    expect(store.logs()).toEqual([]);
    r.clock.advance(1);
    expect(r.left).toEqual(["head 1", "head 2"]);
    expect(r.core.seen.at(-1)).toBe("recovered");
    expect([...store.read("n", 0)].map((b) => b.seq)).toEqual([1, 2]);
    r.driver.post(write(3));
    r.clock.turn();
    expect(r.left).toContain("wrote 3");
  });

  test("DR7 what may speak of something that is not durable waits in line, although its step persists nothing", () => {
    const store = new MemoryStore();
    const r = rig(store, { overtakes: (effect) => (effect as Reply).text !== "read 2" });
    store.failAll("full");
    r.driver.post(write(1));
    r.clock.turn();
    r.left.length = 0;
    r.driver.post(read(2));
    r.driver.post(read(3));
    expect(r.left).toEqual(["read 3"]);
    store.failAll(undefined);
    r.clock.advance(5_000);
    expect(r.left).toEqual(["read 3", "head 1", "read 2"]);
  });

  test("DR4 a retry that fails again changes nothing, and is tried again", () => {
    const store = new MemoryStore();
    const r = rig(store);
    store.failNext("io", "io", "full");
    r.driver.post(write(1));
    r.clock.turn();
    const before = [...r.left];
    r.clock.advance(10_000);
    expect(r.left).toEqual(before);
    expect(r.core.seen.filter((t) => t.startsWith("refused")).length).toBe(1);
    r.clock.advance(5_000);
    expect(r.left.at(-1)).toBe("head 1");
  });

  test("DR6 the core hears of the refusal before any input that came meanwhile", async () => {
    const store = new HeldStore();
    const r = rig(store, { maxWaiting: 2 });
    store.failNext("full");
    r.driver.post(write(1));
    r.driver.post(read(7));
    expect(r.core.seen).toEqual(["write 1"]);
    r.clock.turn();
    await store.finish();
    expect(r.core.seen.slice(0, 2)).toEqual(["write 1", "refused: the disk is full"]);
  });

  test("stop commits what waits, and says when it could not", async () => {
    const good = new HeldStore();
    const r = rig(good);
    r.driver.post(write(1));
    const stopped = r.driver.stop();
    expect(r.driver.post(read(1))).toBe(false);
    await good.finish();
    expect(await stopped).toBe(true);
    expect(r.left).toContain("head 1");

    const full = new MemoryStore();
    full.failAll("full");
    const s = rig(full);
    s.driver.post(write(1));
    expect(await s.driver.stop()).toBe(false);
    expect(s.driver.state).toBe("stopped");
  });
});
