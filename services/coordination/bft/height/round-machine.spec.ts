import { describe, expect, test } from "vitest";
import { NIL, NO_ROUND, type ValueId } from "../frames.ts";
import { type Proposed, RoundMachine, type RoundOutput, type RoundView } from "./round-machine.ts";

const A = "a".repeat(64);
const B = "b".repeat(64);

/** What a machine sees, as a table that a test fills in. */
class Table implements RoundView {
  readonly proposals = new Map<number, Proposed>();
  readonly polkas = new Map<number, ValueId>();
  readonly prevotes = new Set<number>();
  readonly precommits = new Set<number>();
  committed: { readonly round: number; readonly value: ValueId } | undefined;
  unsound = new Set<ValueId>();
  skipTo: number | undefined;
  isActive = true;

  proposal(round: number): Proposed | undefined {
    return this.proposals.get(round);
  }
  polka(round: number): ValueId | undefined {
    return this.polkas.get(round);
  }
  hasPolka(round: number, value: ValueId): boolean {
    return this.polkas.get(round) === value;
  }
  anyPrevotes(round: number): boolean {
    return this.prevotes.has(round);
  }
  anyPrecommits(round: number): boolean {
    return this.precommits.has(round);
  }
  commit(): { readonly round: number; readonly value: ValueId } | undefined {
    return this.committed !== undefined && this.sound(this.committed.value) ? this.committed : undefined;
  }
  sound(value: ValueId): boolean {
    return !this.unsound.has(value);
  }
  ahead(round: number): number | undefined {
    return this.skipTo !== undefined && this.skipTo > round ? this.skipTo : undefined;
  }
  active(): boolean {
    return this.isActive;
  }
}

function settle(machine: RoundMachine, table: Table): RoundOutput[] {
  const out: RoundOutput[] = [];
  for (let next = machine.next(table); next !== undefined; next = machine.next(table)) out.push(next);
  return out;
}

const valid = (value: ValueId, validRound = NO_ROUND): Proposed => ({ value, validRound, verdict: "valid" });
const prevote = (round: number, value: ValueId, relies = NO_ROUND): RoundOutput => ({ kind: "prevote", round, value, relies });
const precommit = (round: number, value: ValueId): RoundOutput => ({ kind: "precommit", round, value });

/** A machine that is locked on A in round 0, and has gone on to `round`. */
function lockedOnA(table: Table, round: number): RoundMachine {
  const machine = new RoundMachine();
  table.proposals.set(0, valid(A));
  table.polkas.set(0, A);
  settle(machine, table);
  for (let at = 0; at < round; at++) machine.elapsed("precommit", at);
  return machine;
}

describe("the round machine", () => {
  test("RT1 RT4 a proposal is prevoted once, its polka precommitted once, and locks", () => {
    const machine = new RoundMachine();
    const table = new Table();
    table.proposals.set(0, valid(A));
    expect(settle(machine, table)).toEqual([prevote(0, A)]);
    table.polkas.set(0, A);
    table.prevotes.add(0);
    expect(settle(machine, table)).toEqual([precommit(0, A)]);
    expect(settle(machine, table)).toEqual([]);
    expect(machine.locked).toEqual({ round: 0, value: A });
  });

  test("RT4 a polka that was there before the proposal counts when the proposal comes", () => {
    const machine = new RoundMachine();
    const table = new Table();
    table.polkas.set(0, A);
    table.prevotes.add(0);
    expect(settle(machine, table)).toEqual([{ kind: "timeout", step: "propose", round: 0 }]);
    table.proposals.set(0, valid(A));
    expect(settle(machine, table)).toEqual([prevote(0, A), precommit(0, A)]);
  });

  test("RT4 a polka after the precommit for nil makes the value valid, and does not lock it", () => {
    const machine = new RoundMachine();
    const table = new Table();
    expect(machine.elapsed("propose", 0)).toEqual(prevote(0, NIL));
    expect(machine.elapsed("prevote", 0)).toEqual(precommit(0, NIL));
    table.polkas.set(0, A);
    expect(settle(machine, table)).toEqual([]);
    expect([machine.valid, machine.locked.round]).toEqual([{ round: 0, value: A }, NO_ROUND]);
  });

  test("RT2 RT3 a locked hub prevotes nil for another value, its own again, and another one only with a polka that is not older", () => {
    const cases = [
      [valid(B), prevote(1, NIL)],
      [valid(A), prevote(1, A, 0)],
    ] as const;
    for (const [proposal, wanted] of cases) {
      const table = new Table();
      const machine = lockedOnA(table, 1);
      table.proposals.set(1, proposal);
      expect(settle(machine, table)[0]).toEqual(wanted);
    }
    const table = new Table();
    const machine = lockedOnA(table, 2);
    table.proposals.set(2, valid(B, 1));
    expect(settle(machine, table).filter(({ kind }) => kind === "prevote")).toEqual([]);
    table.polkas.set(1, B);
    expect(settle(machine, table)[0]).toEqual(prevote(2, B, 1));
  });

  test("RT2 a polka before the lock frees nobody", () => {
    const table = new Table();
    const machine = new RoundMachine();
    machine.elapsed("precommit", 0);
    table.proposals.set(1, valid(A));
    table.polkas.set(1, A);
    settle(machine, table);
    machine.elapsed("precommit", 1);
    table.polkas.set(0, B);
    table.proposals.set(2, valid(B, 0));
    expect(settle(machine, table)[0]).toEqual(prevote(2, NIL));
  });

  test("RT4 nil is precommitted on its polka, also when any was there first", () => {
    const machine = new RoundMachine();
    const table = new Table();
    table.proposals.set(0, { value: A, validRound: NO_ROUND, verdict: "invalid" });
    table.prevotes.add(0);
    expect(settle(machine, table)).toEqual([prevote(0, NIL), { kind: "timeout", step: "prevote", round: 0 }]);
    table.polkas.set(0, NIL);
    expect(settle(machine, table)).toEqual([precommit(0, NIL)]);
  });

  test("RT6 a quorum of precommits of a past or a future round decides", () => {
    for (const round of [0, 7]) {
      const table = new Table();
      const machine = lockedOnA(table, 3);
      table.committed = { round, value: B };
      expect(settle(machine, table)).toEqual([{ kind: "decide", round, value: B }]);
      expect([settle(machine, table), machine.elapsed("precommit", 3)]).toEqual([[], undefined]);
    }
  });

  test("RT6 a commit of an invalid value decides nothing, and the round still ends", () => {
    const machine = new RoundMachine();
    const table = new Table();
    table.unsound.add(B);
    table.committed = { round: 0, value: B };
    table.precommits.add(0);
    expect(settle(machine, table)).toContainEqual({ kind: "timeout", step: "precommit", round: 0 });
    expect(machine.elapsed("precommit", 0)).toEqual({ kind: "round", round: 1 });
  });

  test("RT7 timeouts of a step that is over or of a round that was left do nothing, that of the round's end outlasts its steps", () => {
    const table = new Table();
    const machine = lockedOnA(table, 0);
    expect([machine.elapsed("propose", 0), machine.elapsed("prevote", 0)]).toEqual([undefined, undefined]);
    table.skipTo = 4;
    expect(settle(machine, table)[0]).toEqual({ kind: "round", round: 4 });
    expect(machine.elapsed("precommit", 0)).toBeUndefined();
    expect(machine.elapsed("propose", 4)).toEqual(prevote(4, NIL));
  });

  test("RT7 each round asks for its timeouts anew, and for each once", () => {
    const machine = new RoundMachine();
    const table = new Table();
    table.precommits.add(0).add(1);
    const timeouts = (round: number): RoundOutput[] =>
      ["propose" as const, "precommit" as const].map((step) => ({ kind: "timeout", step, round }));
    expect(settle(machine, table)).toEqual(timeouts(0));
    expect(settle(machine, table)).toEqual([]);
    machine.elapsed("precommit", 0);
    expect(settle(machine, table)).toEqual(timeouts(1));
  });

  test("a height in which nothing is under way takes no time", () => {
    const machine = new RoundMachine();
    const table = new Table();
    table.isActive = false;
    expect(settle(machine, table)).toEqual([]);
    table.isActive = true;
    expect(settle(machine, table)).toEqual([{ kind: "timeout", step: "propose", round: 0 }]);
  });

  test("RT2 a lock that own precommits prove comes back, an older one does not", () => {
    const machine = new RoundMachine();
    machine.recall(3, A);
    machine.recall(1, B);
    expect(machine.locked).toEqual({ round: 3, value: A });
    expect([machine.mayPrevote(B, 2), machine.mayPrevote(B, 3), machine.relies(A, NO_ROUND)]).toEqual([false, true, 3]);
  });
});
