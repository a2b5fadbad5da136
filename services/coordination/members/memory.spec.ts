import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import type { LogStatus } from "../log/engine.ts";
import type { Effect, Greeting } from "../messages.ts";
import { fellBack, Memory, Recall } from "./memory.ts";
import type { Remembered } from "./messages.ts";

const log = (more: Partial<LogStatus> = {}): LogStatus => ({
  role: "leader",
  term: 3,
  leader: "a/1",
  committed: 8,
  last: 9,
  membership: { voters: ["a/1", "b/1", "c/1", "d/1"], outgoing: [], learners: [] },
  ageMs: 0,
  quorum: true,
  ...more,
});
const acknowledged = (index: number, term = 3) =>
  ({ type: "append_answer", term, ok: true, index, hintIndex: 0, hintTerm: 0, probe: 0 }) as const;
const NONE: Remembered = { incarnation: 0, life: 0, term: 0, index: 0 };
const greeting = (remembered: Partial<Remembered>): Greeting => ({
  kind: "greeting",
  candidate: undefined,
  federation: new Uint8Array(16),
  incarnation: 1,
  life: 4,
  remembered: { ...NONE, incarnation: 1, ...remembered },
  members: [],
});

describe("Memory", () => {
  test("MM1 remembers of a position only what is decided, by the leader of the term in which it was acknowledged", () => {
    const memory = new Memory(new MemoryStore());
    memory.saw("b/1", acknowledged(9));
    expect(memory.of("b", log())).toEqual({ incarnation: 1, life: 0, term: 3, index: 8 });
    memory.saw("b/1", acknowledged(20));
    expect(memory.of("b", log({ term: 4, committed: 30 })).index).toBe(8);
    expect(memory.of("b", log({ role: "follower", committed: 30 })).index).toBe(8);
    expect(memory.of("b", log({ committed: 30 })).index).toBe(20);
  });

  test("MM1 a vote that is only asked about says nothing of a term", () => {
    const memory = new Memory(new MemoryStore());
    memory.saw("b/1", { type: "vote_answer", term: 9, pre: true, granted: true, commitIndex: 0, commitTerm: 0 });
    expect(memory.of("b", log()).term).toBe(0);
    memory.saw("b/1", { type: "vote_answer", term: 9, pre: false, granted: true, commitIndex: 0, commitTerm: 0 });
    expect(memory.of("b", log()).term).toBe(9);
  });

  test.each([Number.NaN, -1, 2 ** 60, 0.5])("nothing is remembered of the number %s", (number) => {
    const memory = new Memory(new MemoryStore());
    memory.saw("b/1", acknowledged(number, 3));
    memory.saw("b/1", acknowledged(3, number));
    memory.saw("b/1", { kind: "status", height: number, round: 0, previous: "" });
    memory.met("b", { incarnation: number, life: 1 });
    memory.met("b", { incarnation: 1, life: number });
    expect(memory.of("b", log())).toMatchObject({ life: 0, index: 0 });
  });

  test("MM2 it survives a restart, and forgets who is no member and replicas that others replaced", () => {
    const store = new MemoryStore();
    const memory = new Memory(store);
    memory.met("b", { incarnation: 1, life: 7 });
    memory.met("c", { incarnation: 1, life: 2 });
    memory.saw("b/1", acknowledged(5));
    void store.commit(memory.changes(log(), () => true));
    expect(memory.changes(log(), () => true)).toEqual([]);
    const again = new Memory(store);
    expect(again.of("b", log())).toEqual({ incarnation: 1, life: 7, term: 3, index: 5 });
    void store.commit(again.changes(log(), (hub) => hub !== "c"));
    expect(new Memory(store).of("c", log())).toEqual(NONE);
    again.met("b", { incarnation: 2, life: 8 });
    again.saw("b/1", acknowledged(6));
    expect(again.of("b", log())).toEqual({ incarnation: 2, life: 8, term: 0, index: 0 });
  });
});

describe("fellBack", () => {
  const own = { incarnation: 2, life: 5, term: 4, last: 10 };
  test.each([
    [{ incarnation: 2, life: 5, term: 4, index: 10 }, undefined],
    [{ incarnation: 1, life: 50, term: 40, index: 100 }, undefined],
    [NONE, undefined],
    [{ incarnation: 3, life: 0, term: 0, index: 0 }, "knows replica 3"],
    [{ incarnation: 2, life: 6, term: 0, index: 0 }, "has heard of start 6"],
    [{ incarnation: 2, life: 5, term: 5, index: 0 }, "in term 5"],
    [{ incarnation: 2, life: 5, term: 4, index: 11 }, "up to 11"],
  ])("of %o: %s", (remembered, words) => {
    const why = fellBack("b", remembered, own);
    if (words === undefined) expect(why).toBeUndefined();
    else expect(why).toContain(words);
  });
});

describe("Recall", () => {
  const recall = (engine: "raft" | "bft") => new Recall({ stored: new MemoryStore(), engine, incarnation: 1, life: 4 });

  test("MM3 where members may only fail, one is believed", () => {
    expect(recall("raft").greeted("b", greeting({ index: 10 }), log())).toContain("up to 10");
  });

  test("MM3 where a third may lie, more than those are: one liar of four, twice or as a stranger, changes nothing", () => {
    const bft = recall("bft");
    expect(bft.greeted("b", greeting({ index: 10 }), log())).toBeUndefined();
    expect(bft.greeted("b", greeting({ index: 10 }), log())).toBeUndefined();
    expect(bft.greeted("stranger", greeting({ index: 10 }), log())).toBeUndefined();
    expect(bft.greeted("c", greeting({ index: 9 }), log())).toBeUndefined();
    expect(bft.greeted("c", greeting({ index: 10 }), log())).toContain("up to 10");
  });

  test("what is learnt is written at most every five seconds", () => {
    const one = recall("raft");
    const out: Effect[] = [];
    const look = (mono: number) => one.look({ mono, wall: 0 }, log(), () => true, out);
    look(0);
    one.saw("b", { kind: "engine", from: "b/1", to: "a/1", frame: acknowledged(5) });
    one.saw("c", { kind: "engine", from: "b/1", to: "a/1", frame: acknowledged(7) });
    look(4_999);
    expect(out).toEqual([]);
    look(5_000);
    expect(out).toHaveLength(1);
    expect(one.of("b", log()).index).toBe(5);
  });
});
