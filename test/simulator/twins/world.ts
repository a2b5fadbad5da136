import type { Now } from "#kernel/instant.ts";
import { BftEngine } from "../../../services/coordination/bft/engine.ts";
import type { BftFrame } from "../../../services/coordination/bft/frames.ts";
import type { BftLimits, BftOptions } from "../../../services/coordination/bft/options.ts";
import type { Committed, EngineEffect, EngineInput, Membership, ReplicaId } from "../../../services/coordination/log/engine.ts";
import { hubOf, replicaIdOf } from "../../../services/coordination/log/engine.ts";
import { feedKeyOf, simCrypto } from "../crypto.ts";
import { Disk } from "./disk.ts";

/** FEDERATION is the one that all of this is about. */
export const FEDERATION = "twins";
/** START is what clocks show when a world begins, ms since the Unix epoch. */
export const START = 1_800_000_000_000;

/** QUICK are short times: a round without a decision takes about 40 ms. */
export const QUICK: Partial<BftLimits> = {
  proposeMs: 20,
  proposeMoreMs: 10,
  voteMs: 8,
  voteMoreMs: 4,
  timeoutMaxMs: 200,
  resendMs: 100,
  snapshotEvery: 0,
};

/** replicasOf names n replicas. */
export function replicasOf(n: number): ReplicaId[] {
  return Array.from({ length: n }, (_, i) => replicaIdOf(`h${String(i).padStart(2, "0")}`, 1));
}

/** keyOf is the key of a replica in a world: that of its hub. */
export function keyOf(replica: ReplicaId): Uint8Array {
  const hub = hubOf(replica);
  let key = keys.get(hub);
  if (key === undefined) keys.set(hub, (key = feedKeyOf(hub)));
  return key;
}
const keys = new Map<string, Uint8Array>();

/** Copy is one process with the identity of a replica; a twin has two. */
export class Copy {
  readonly replica: ReplicaId;
  /** 0, or 1 for the second copy of a twin. */
  readonly which: number;
  readonly disk: Disk;
  readonly committed = new Map<number, Committed>();
  readonly evidence: { readonly against: ReplicaId; readonly proof: Uint8Array; readonly what: string }[] = [];
  readonly refused: number[] = [];
  readonly seen = new Map<string, number>();
  engine: BftEngine;
  up = true;
  wakeAt = Number.POSITIVE_INFINITY;
  state: Uint8Array = new Uint8Array(0);
  /** After so many persists more it dies, with what it would have sent then, and starts again a moment later. */
  diesAfter = Number.POSITIVE_INFINITY;
  /** Frames that it sent. */
  readonly sent: { readonly to: ReplicaId; readonly frame: BftFrame }[] = [];
  /** Effects that somebody of this hub waits for. */
  readonly answers: EngineEffect<BftFrame>[] = [];

  constructor(replica: ReplicaId, which: number, disk: Disk, engine: BftEngine) {
    this.replica = replica;
    this.which = which;
    this.disk = disk;
    this.engine = engine;
  }

  get name(): string {
    return `${this.replica}${this.which === 0 ? "" : "'"}`;
  }

  /** height is how many heights it has decided. */
  get height(): number {
    return this.committed.size === 0 ? 0 : Math.max(...this.committed.keys());
  }
}

/** WorldOptions shape a world. */
export interface WorldOptions {
  readonly n: number;
  /** Numbers of the replicas with two copies. */
  readonly twins?: readonly number[];
  readonly limits?: Partial<BftLimits>;
  readonly proposer?: BftOptions["proposer"];
  readonly check?: BftOptions["check"];
  /** Twins accept and propose whatever comes. */
  readonly shameless?: boolean;
  readonly checkMembership?: BftOptions["checkMembership"];
  readonly learners?: readonly ReplicaId[];
  /** How long a frame takes, ms; undefined for never. Called for each copy of the receiver. */
  readonly delay?: (from: Copy, to: Copy, frame: BftFrame, world: World) => number | undefined;
  /** Keeps what copies send. */
  readonly record?: boolean;
  /** How long an application takes to write its state, ms. */
  readonly captureMs?: number;
  readonly onCopy?: BftOptions["onCopy"];
  readonly due?: BftOptions["due"];
  /** Frames as they come out of the wire; undefined for one that cannot be read. */
  readonly wire?: (frame: BftFrame, from: Copy) => BftFrame | undefined;
}

interface Event {
  readonly at: number;
  readonly seq: number;
  readonly run: () => void;
}

/** World runs copies of replicas in virtual time, on a network that the scenario decides about. */
export class World {
  readonly options: WorldOptions;
  readonly membership: Membership;
  readonly copies: Copy[] = [];
  now = 0;
  #seq = 0;
  readonly #heap: Event[] = [];
  readonly #delay: NonNullable<WorldOptions["delay"]>;

  constructor(options: WorldOptions) {
    this.options = options;
    const voters = replicasOf(options.n);
    const learners = options.learners ?? [];
    this.membership = { voters, outgoing: [], learners };
    this.#delay = options.delay ?? (() => 1);
    for (const [i, replica] of voters.entries()) {
      this.add(replica, 0);
      if (options.twins?.includes(i)) this.add(replica, 1);
    }
    for (const learner of learners) this.add(learner, 0);
  }

  /** add starts a copy of a replica. */
  add(replica: ReplicaId, which = 0, disk = new Disk()): Copy {
    const copy = new Copy(replica, which, disk, this.#engine(replica, disk));
    this.copies.push(copy);
    this.#wake(copy);
    return copy;
  }

  /** copy is the first copy of a replica, by its number. */
  copy(i: number, which = 0): Copy {
    return this.copies.find(({ replica, which: w }) => replica === replicasOf(i + 1)[i] && w === which) as Copy;
  }

  /** honest are the copies of replicas that have one. */
  honest(): Copy[] {
    return this.copies.filter(({ replica }) => this.copies.filter((other) => other.replica === replica).length === 1);
  }

  /** restart ends a copy and starts it again with what it has stored. */
  restart(copy: Copy): void {
    copy.engine = this.#engine(copy.replica, copy.disk);
    copy.up = true;
    this.#wake(copy);
  }

  /** at does something at an instant, ms since the beginning. */
  at(when: number, run: () => void): void {
    const event = { at: Math.max(when, this.now), seq: this.#seq++, run };
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(event, heap[parent] as Event)) break;
      heap[i] = heap[parent] as Event;
      i = parent;
    }
    heap[i] = event;
  }

  /** run goes on until an instant, or until `done`. */
  run(until: number, done: () => boolean = () => false): boolean {
    for (let event = this.#heap[0]; event !== undefined && event.at <= until; event = this.#heap[0]) {
      this.#pop();
      this.now = event.at;
      event.run();
      if (done()) return true;
    }
    this.now = until;
    return done();
  }

  /** give gives a copy an input, and does what it asks for. */
  give(copy: Copy, input: EngineInput<BftFrame>): void {
    if (!copy.up) return;
    const out: EngineEffect<BftFrame>[] = [];
    copy.engine.step(this.clock(), input, out);
    this.#execute(copy, out);
  }

  /** clock is what clocks show. */
  clock(): Now {
    return { mono: this.now, wall: START + this.now };
  }

  /** propose proposes a text at a copy. */
  propose(copy: Copy, text: string): void {
    this.give(copy, { kind: "propose", call: ++this.#seq, payload: new TextEncoder().encode(text) });
  }

  /** deliver hands a frame to a copy at once. */
  deliver(from: ReplicaId, to: Copy, frame: BftFrame): void {
    this.give(to, { kind: "frame", from, frame });
  }

  #engine(self: ReplicaId, disk: Disk): BftEngine {
    const { limits, check, shameless, checkMembership, proposer, twins, due, onCopy } = this.options;
    const isTwin = twins?.some((twin) => replicasOf(twin + 1)[twin] === self) === true;
    return new BftEngine(
      {
        self,
        federation: FEDERATION,
        crypto: simCrypto(hubOf(self)),
        keyOf,
        check: check === undefined || (isTwin && shameless === true) ? () => true : check,
        checkMembership: checkMembership ?? (() => false),
        membership: this.membership,
        limits: { ...QUICK, ...limits },
        ...(proposer === undefined ? {} : { proposer }),
        ...(due === undefined ? {} : { due }),
        onCopy: onCopy ?? ((twins?.length ?? 0) > 0 ? "go on" : "stop"),
      },
      disk,
    );
  }

  #execute(copy: Copy, out: readonly EngineEffect<BftFrame>[]): void {
    for (const effect of out) {
      if (effect.kind === "persist") {
        copy.disk.apply(effect.ops);
        if (--copy.diesAfter > 0) continue;
        copy.diesAfter = Number.POSITIVE_INFINITY;
        copy.up = false;
        this.at(this.now + 5, () => this.restart(copy));
        return;
      }
      if (effect.kind === "accepted" || effect.kind === "readable" || effect.kind === "done" || effect.kind === "refused")
        copy.answers.push(effect);
      if (effect.kind === "send") {
        if (this.options.record === true) copy.sent.push(effect);
        this.#send(copy, effect.to, effect.frame);
      }
      if (effect.kind === "committed") for (const entry of effect.entries) take(copy, entry);
      else if (effect.kind === "evidence") copy.evidence.push(effect);
      else if (effect.kind === "refused") copy.refused.push(effect.call);
      else if (effect.kind === "install") copy.state = effect.snapshot.state;
      else if (effect.kind === "capture") {
        const [index, state] = [copy.height, stateOf(copy)];
        this.at(this.now + (this.options.captureMs ?? 0), () => this.give(copy, { kind: "captured", index, state }));
      }
      if (effect.kind === "observe") copy.seen.set(effect.what, (copy.seen.get(effect.what) ?? 0) + 1);
    }
    this.#wake(copy);
  }

  #send(copy: Copy, to: ReplicaId, frame: BftFrame): void {
    const { wire } = this.options;
    for (const other of this.copies) {
      if (other.replica !== to) continue;
      const delay = this.#delay(copy, other, frame, this);
      if (delay === undefined) continue;
      this.at(this.now + delay, () => {
        const read = wire === undefined ? frame : wire(frame, copy);
        if (read !== undefined) this.deliver(copy.replica, other, read);
      });
    }
  }

  #wake(copy: Copy): void {
    const at = Math.max(this.now, copy.engine.deadline() ?? Number.POSITIVE_INFINITY);
    if (at >= copy.wakeAt) return;
    copy.wakeAt = at;
    this.at(at, () => {
      if (copy.wakeAt !== at) return;
      copy.wakeAt = Number.POSITIVE_INFINITY;
      // One that is down is woken by its restart.
      if (!copy.up) return;
      if ((copy.engine.deadline() ?? Number.POSITIVE_INFINITY) <= this.now) {
        const out: EngineEffect<BftFrame>[] = [];
        copy.engine.tick(this.clock(), out);
        this.#execute(copy, out);
      } else this.#wake(copy);
    });
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Event;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!isBefore(heap[child] as Event, last)) break;
      heap[i] = heap[child] as Event;
      i = child;
    }
    heap[i] = last;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.seq < b.seq);
}

/** A copy that starts again is told again what it decided: the same. */
function take(copy: Copy, entry: Committed): void {
  const before = copy.committed.get(entry.index);
  if (before !== undefined && contentOf(before) !== contentOf(entry))
    throw new Error(`${copy.name} decided height ${entry.index} twice: ${contentOf(before)}, then ${contentOf(entry)}`);
  copy.committed.set(entry.index, entry);
}

function contentOf({ time, payloads, membership }: Committed): string {
  return `${time} ${payloads.map(text).join(" ")} ${JSON.stringify(membership)}`;
}

/** stateOf is the state of the application of a copy: here, all that was decided. */
export function stateOf(copy: Copy): Uint8Array {
  const entries = [...copy.committed].sort(([a], [b]) => a - b).map(([index, { payloads }]) => `${index}:${payloads.map(text).join(",")}`);
  return new TextEncoder().encode(`${text(copy.state)}${entries.join("\n")}`);
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
