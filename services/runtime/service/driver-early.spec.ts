import fc from "fast-check";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { Core, Persist } from "#kernel/core.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { silentLogger } from "../log/log.ts";
import { StorePoisoned } from "./committer.ts";
import { createDriver, type Driver } from "./driver.ts";

/** What one step of the core below gives out, in order. */
type Item = "hard" | "soft" | "early" | "late";

type TestEffect = Persist | { readonly kind: "output"; readonly early: boolean; readonly text: string };

/** A core that gives out what it is told to. */
class Scripted implements Core<readonly Item[], TestEffect> {
  #seq = 0;
  #outputs = 0;

  step(_now: unknown, items: readonly Item[], out: TestEffect[]): void {
    for (const item of items) {
      if (item === "hard" || item === "soft") {
        const ops = [{ op: "append", log: "l", seq: ++this.#seq, bytes: new Uint8Array(1) }] as const;
        out.push({ kind: "persist", ops, hard: item === "hard" });
      } else out.push({ kind: "output", early: item === "early", text: `${item} ${++this.#outputs}` });
    }
  }

  tick(): void {}

  deadline(): undefined {
    return undefined;
  }

  describe(): string {
    return "";
  }
}

function rig(store: MemoryStore, poison = false) {
  const clock = new ManualClock();
  const left: string[] = [];
  const fatal: unknown[] = [];
  const driver: Driver<readonly Item[]> = createDriver<readonly Item[], TestEffect>({
    service: "test",
    core: new Scripted(),
    store,
    clock,
    log: silentLogger,
    metrics: new Registry(),
    execute: (effect) => void left.push(effect.text),
    observe: () => undefined,
    early: (effect) => effect.early,
    poison,
    reject: (effect) => {
      left.push(`rejected ${effect.text}`);
      return "keep";
    },
    onFatal: (error) => void fatal.push(error),
    commit: "turn",
  });
  return { clock, driver, left, fatal };
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await Promise.resolve();
};

describe("early outputs", () => {
  test("DR11 an early output leaves while the entries before it are being written; every other one waits", () => {
    const r = rig(new MemoryStore());
    r.driver.post(["soft", "late", "early"]);
    expect(r.left).toEqual(["early 2"]);
    r.clock.turn();
    expect(r.left).toEqual(["early 2", "late 1"]);
  });

  test("DR11 it waits for a hard persist, however old", () => {
    const r = rig(new MemoryStore());
    r.driver.post(["hard"]);
    r.driver.post(["soft", "early"]);
    expect(r.left).toEqual([]);
    r.clock.turn();
    expect(r.left).toEqual(["early 1"]);
  });

  test("DR11 DC2 in any interleaving: each lane keeps its order, and nothing leaves before what it waits for is durable", async () => {
    const step = fc.array(fc.constantFrom<Item>("hard", "soft", "early", "late"), { minLength: 1, maxLength: 5 });
    const action = fc.oneof(step, fc.constant("turn" as const), fc.constant("finish" as const));
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
        const held: (() => void)[] = [];
        const store = new MemoryStore({ schedule: (run) => void held.push(run) });
        const r = rig(store);
        const wanted: { text: string; after: number }[] = [];
        let [seq, hard, outputs] = [0, 0, 0];
        const durable = (): number => Math.max(0, ...[...store.read("l", 0)].map((blob) => blob.seq));
        for (const act of actions) {
          if (act === "turn") r.clock.turn();
          else if (act === "finish") {
            held.shift()?.();
            await settle();
          } else {
            for (const item of act) {
              if (item === "soft" || item === "hard") {
                seq++;
                if (item === "hard") hard = seq;
              } else wanted.push({ text: `${item} ${++outputs}`, after: item === "early" ? hard : seq });
            }
            r.driver.post(act);
          }
          for (const { text, after } of wanted) if (r.left.includes(text)) expect(durable()).toBeGreaterThanOrEqual(after);
        }
        for (let i = 0; i < 30; i++) {
          r.clock.turn();
          held.shift()?.();
          await settle();
        }
        for (const lane of ["early", "late"]) {
          const of = (texts: readonly string[]): string[] => texts.filter((text) => text.startsWith(lane));
          expect(of(r.left)).toEqual(of(wanted.map(({ text }) => text)));
        }
      }),
    );
  });

  test("DR5 DR11 while the store has no room, an early output that waits for a hard persist is offered like every other", () => {
    const store = new MemoryStore();
    store.failAll("full");
    const r = rig(store);
    r.driver.post(["hard", "early", "late"]);
    r.clock.turn();
    expect(r.left).toEqual(["rejected early 1", "rejected late 2"]);
    r.left.length = 0;
    r.driver.post(["early"]);
    expect(r.left).toEqual([]);
    store.failAll(undefined);
    r.clock.advance(5_000);
    expect(r.left).toEqual(["early 1", "early 3", "late 2"]);
  });
});

describe("a poisoned store", () => {
  test("DR12 CM3 a write that failed half-way is fatal: nothing that waits leaves, and nothing is tried again", () => {
    const store = new MemoryStore();
    const r = rig(store, true);
    store.failNext("io");
    r.driver.post(["soft", "late"]);
    r.clock.turn();
    expect(r.fatal).toEqual([expect.any(StorePoisoned)]);
    expect(r.driver.state).toBe("failed");
    r.clock.advance(60_000);
    expect(r.left).toEqual([]);
    expect(store.logs()).toEqual([]);
    expect(r.driver.post(["late"])).toBe(false);
  });

  test("DR12 what was refused before the write is tried again: no room, or a database that is locked", () => {
    const store = new MemoryStore();
    const r = rig(store, true);
    store.failNext("full");
    r.driver.post(["soft", "late"]);
    r.clock.turn();
    expect(r.left).toEqual(["rejected late 1"]);
    r.clock.advance(5_000);
    expect(r.left).toEqual(["rejected late 1", "late 1"]);
    store.failNext("untouched");
    r.driver.post(["soft", "late"]);
    r.clock.turn();
    r.clock.advance(5_000);
    expect(r.fatal).toEqual([]);
    expect(r.left.at(-1)).toBe("late 2");
  });
});
