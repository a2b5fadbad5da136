import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AuthorSessions } from "./author-sessions.ts";
import { BATCH_BYTES, BATCH_COMMANDS } from "./batch.ts";
import { Proposer, type ProposerLimits } from "./proposer.ts";

const LIMITS: ProposerLimits = { window: 3, waiting: 64, waitingBytes: 1_000_000, resendMs: 100 };

interface Batch {
  readonly session: number;
  readonly first: number;
  readonly commands: readonly number[];
}

/** Commands are numbers here, and batches what they are made of. */
const write = (session: number, first: number, commands: readonly Uint8Array[]): Uint8Array =>
  new TextEncoder().encode(JSON.stringify({ session, first, commands: commands.map(([low = 0, high = 0]) => low + 256 * high) }));
const read = (payload: Uint8Array): Batch => JSON.parse(new TextDecoder().decode(payload)) as Batch;
const commandOf = (number: number): Uint8Array => Uint8Array.of(number % 256, number >> 8);

/** World is a proposer, a log that carries out each command of a session once, and a network between them that loses, repeats and reorders. */
class World {
  readonly authors = new AuthorSessions();
  /** Commands as the log carried them out. */
  readonly done: number[] = [];
  /** Commands as they were given. */
  readonly taken: number[] = [];
  readonly network: Uint8Array[] = [];
  readonly decided: number[] = [];
  readonly unknown: number[] = [];
  /** Commands of proposers that are gone: their callers are, too. */
  readonly lost: number[] = [];
  proposer = new Proposer(LIMITS, 1, write);
  /** What the log did and did not tell here: a snapshot takes the place of it. */
  deaf = false;
  #next = 0;
  #mono = 0;
  #open: number[] = [];

  add(): void {
    const number = ++this.#next;
    if (!this.proposer.add(number, commandOf(number))) return;
    this.taken.push(number);
    this.#open.push(number);
  }

  send(): void {
    this.network.push(...this.proposer.next(++this.#mono).map(({ payload }) => payload));
  }

  again(): void {
    this.network.push(...this.proposer.again(++this.#mono).map(({ payload }) => payload));
  }

  /** deliver gives a payload to the log; it stays on the network, to come again. */
  deliver(which: number): void {
    const payload = this.network[which % Math.max(1, this.network.length)];
    if (payload === undefined) return;
    const { session, first, commands } = read(payload);
    const skip = this.authors.fresh("h", session, first, commands.length);
    if (skip === undefined) return;
    for (let i = skip; i < commands.length; i++) {
      const command = commands[i] as number;
      this.done.push(command);
      if (this.deaf) continue;
      const call = this.proposer.settle(++this.#mono, session, first + i);
      if (call === undefined) continue;
      // PO4: the call that waits for this number is that of this command.
      expect(call).toBe(command);
      this.#settle(call, this.decided);
    }
    this.authors.advance("h", session, first + commands.length - 1);
    if (!this.deaf) this.catchUp();
  }

  /** catchUp is what a replica does after a snapshot, and when the log has a larger session. */
  catchUp(): void {
    this.deaf = false;
    const { session, last } = this.authors.position("h");
    for (const call of this.proposer.passOver(++this.#mono, session, last)) this.#settle(call, this.unknown);
    if (session > this.proposer.session) this.proposer.renew(session + 1);
  }

  /** restart begins a proposer whose clock is right, or was set back. */
  restart(session: number): void {
    this.lost.push(...this.#open.splice(0));
    this.proposer = new Proposer(LIMITS, session, write);
    this.deaf = false;
  }

  #settle(call: number, as: number[]): void {
    expect(this.#open).toContain(call);
    this.#open = this.#open.filter((other) => other !== call);
    as.push(call);
  }

  check(): void {
    expect(new Set(this.done).size).toBe(this.done.length);
    for (const number of this.decided) expect(this.done).toContain(number);
  }

  /** finish lets everything come through. */
  finish(): void {
    this.catchUp();
    for (let i = 0; i < 200 && this.proposer.waiting > 0; i++) {
      this.network.length = 0;
      this.again();
      this.send();
      for (let which = 0; which < this.network.length; which++) this.deliver(which);
    }
    expect(this.proposer.waiting).toBe(0);
    expect(this.#open).toEqual([]);
    this.check();
  }
}

type Step =
  | { readonly kind: "add" | "send" | "again" | "drop" | "deaf" | "catchUp" }
  | { readonly kind: "deliver" | "restart"; readonly n: number };
const plain = (kind: "add" | "send" | "again" | "drop" | "deaf" | "catchUp", weight: number) => ({
  arbitrary: fc.constant<Step>({ kind }),
  weight,
});
const step = fc.oneof(
  plain("add", 8),
  plain("send", 6),
  plain("again", 2),
  plain("drop", 1),
  plain("deaf", 1),
  plain("catchUp", 1),
  { arbitrary: fc.nat(30).map((n): Step => ({ kind: "deliver", n })), weight: 10 },
  { arbitrary: fc.integer({ min: 1, max: 6 }).map((n): Step => ({ kind: "restart", n })), weight: 1 },
);

function play(world: World, steps: readonly Step[]): void {
  let sessions = 1;
  for (const one of steps) {
    if (one.kind === "deliver") world.deliver(one.n);
    else if (one.kind === "restart") {
      // A session is larger than all before, unless the clock was set back; it is never one of those.
      sessions += 10;
      world.restart(one.n === 6 ? sessions - 15 : sessions);
    } else if (one.kind === "drop") world.network.shift();
    else if (one.kind === "deaf") world.deaf = true;
    else world[one.kind]();
    world.check();
  }
}

describe("the commands of a hub", () => {
  test("PO2 PO3 PO4 each is carried out at most once, and told as it was, over any losses, repetitions, restarts, snapshots and clocks set back", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const world = new World();
        play(world, steps);
        world.finish();
      }),
    );
  });

  test("PO1 without restarts all are carried out, in the order in which they were given, and all are told", () => {
    const calm = step.filter(({ kind }) => kind !== "restart" && kind !== "deaf" && kind !== "catchUp");
    fc.assert(
      fc.property(fc.array(calm, { maxLength: 120 }), (steps) => {
        const world = new World();
        play(world, steps);
        world.finish();
        expect(world.done).toEqual(world.taken);
        expect(world.decided).toEqual(world.done);
        expect(world.unknown).toEqual([]);
      }),
    );
  });

  test("PROTOCOL G5 a number is never another command: what is sent again is sent as it was, and new ones get numbers of their own", () => {
    const proposer = new Proposer(LIMITS, 7, write);
    for (let call = 1; call <= 3; call++) proposer.add(call, commandOf(call));
    const [sent] = proposer.next(0);
    for (let call = 4; call <= 6; call++) proposer.add(call, commandOf(call));
    expect(read(proposer.next(0)[0]!.payload)).toEqual({ session: 7, first: 4, commands: [4, 5, 6] });
    expect(proposer.again(50)[0]?.payload).toBe(sent?.payload);
    // One whose caller is gone stays what it was.
    expect(proposer.abandon(2)).toBe(true);
    expect(read(proposer.again(60)[0]!.payload)).toEqual({ session: 7, first: 1, commands: [1, 2, 3] });
    expect([1, 2, 3].map((number) => proposer.settle(70, 7, number))).toEqual([1, undefined, 3]);
  });

  test("PO4 what the log says of another number, or of another session, settles nobody", () => {
    const proposer = new Proposer(LIMITS, 7, write);
    for (let call = 1; call <= 3; call++) proposer.add(call, commandOf(call));
    proposer.next(0);
    expect([proposer.settle(1, 7, 2), proposer.settle(1, 7, 0), proposer.settle(1, 6, 1), proposer.settle(1, 8, 1)]).toEqual(
      Array.from({ length: 4 }),
    );
    expect([1, 2, 3].map((number) => proposer.settle(1, 7, number))).toEqual([1, 2, 3]);
  });

  test("PO2 a new session sends nothing of the one before, and has all of the window", () => {
    const proposer = new Proposer({ ...LIMITS, window: 1 }, 7, write);
    proposer.add(1, commandOf(1));
    proposer.next(0);
    proposer.add(2, commandOf(2));
    expect(proposer.passOver(1, 9, 4)).toEqual([1]);
    proposer.renew(10);
    expect(proposer.again(2)).toEqual([]);
    expect(proposer.next(2).map(({ payload }) => read(payload))).toEqual([{ session: 10, first: 1, commands: [2] }]);
  });

  test("one that was not sent is dropped with its caller, and the next takes its place", () => {
    const proposer = new Proposer(LIMITS, 1, write);
    proposer.add(1, commandOf(1));
    proposer.add(2, commandOf(2));
    expect(proposer.abandon(1)).toBe(false);
    expect(proposer.abandon(1)).toBe(false);
    expect(read(proposer.next(0)[0]!.payload)).toEqual({ session: 1, first: 1, commands: [2] });
    proposer.add(3, commandOf(3));
    expect(proposer.dropUnsent()).toEqual([3]);
    expect(proposer.waiting).toBe(1);
  });

  test("too many, or too many bytes, are not taken; room comes back with what is decided", () => {
    const proposer = new Proposer({ ...LIMITS, waiting: 2, waitingBytes: 16 }, 1, write);
    expect(proposer.add(1, new Uint8Array(15))).toBe(false);
    expect(proposer.add(1, new Uint8Array(6))).toBe(true);
    expect(proposer.add(2, new Uint8Array(9))).toBe(false);
    expect(proposer.add(2, new Uint8Array(8))).toBe(true);
    expect(proposer.add(3, new Uint8Array())).toBe(false);
    proposer.next(0);
    proposer.settle(1, 1, 1);
    expect(proposer.add(3, new Uint8Array(6))).toBe(true);
  });

  test("PO6 what this hub itself wants decided is taken, however many commands of callers wait", () => {
    const proposer = new Proposer({ ...LIMITS, waiting: 8, waitingBytes: 80 }, 1, write);
    for (let call = 1; call <= 7; call++) expect(proposer.add(call, new Uint8Array(10))).toBe(true);
    expect(proposer.add(8, new Uint8Array())).toBe(false);
    expect(proposer.add(-1, new Uint8Array(11))).toBe(false);
    expect(proposer.add(-1, new Uint8Array(10))).toBe(true);
    expect(proposer.add(0, new Uint8Array())).toBe(false);
  });

  test("a batch has at most so many commands and bytes, and so many batches are on their way", () => {
    const many = new Proposer({ ...LIMITS, waiting: 5_000 }, 1, (session, first, commands) => write(session, first, commands));
    for (let call = 1; call <= 2 * BATCH_COMMANDS; call++) many.add(call, commandOf(call));
    expect(many.next(0).map(({ first }) => first)).toEqual([1, BATCH_COMMANDS + 1]);
    const large = new Proposer(LIMITS, 1, (_session, first) => Uint8Array.of(first));
    for (let call = 1; call <= 10; call++) large.add(call, new Uint8Array(BATCH_BYTES / 2));
    expect(large.next(0).map(({ first }) => first)).toEqual([1, 3, 5]);
    expect(large.next(0)).toEqual([]);
    large.settle(1, 1, 1);
    large.settle(1, 1, 2);
    expect(large.next(1).map(({ first }) => first)).toEqual([7]);
  });

  test("PO3 what has no answer is due again after its time, counted from the last sign of life", () => {
    const proposer = new Proposer(LIMITS, 1, write);
    expect(proposer.deadline()).toBeUndefined();
    proposer.add(1, commandOf(1));
    proposer.add(2, commandOf(2));
    proposer.next(10);
    expect(proposer.deadline()).toBe(110);
    proposer.again(110);
    expect(proposer.deadline()).toBe(210);
    proposer.settle(150, 1, 1);
    expect(proposer.deadline()).toBe(250);
    proposer.settle(160, 1, 2);
    expect(proposer.deadline()).toBeUndefined();
    expect(proposer.describe()).toBe("session=1 settled=2 sent=0 waiting=0");
  });
});
