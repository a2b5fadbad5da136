import type { Outcome } from "../../services/command-forwarding/messages.ts";
import type { Scheduler } from "./scheduler.ts";

/** Write is one change that a client asked its hub for. Writes of one subject are in the order in which the hub got them. */
export interface Write {
  readonly value: string | undefined;
  /** Virtual instants at which it was asked for, and of its acknowledgement. */
  readonly askedAt: number;
  ackedAt: number | undefined;
  refused: boolean;
  /** Its outcome is not known, and it may still happen, at any time: what was cut may arrive late. */
  floating: boolean;
}

/** Subject is something that has a value at one hub: a node's registration (version or gone) or one of its state keys. */
export interface Subject {
  readonly hub: number;
  readonly name: string;
  readonly writes: Write[];
}

/** CommandOp is one thing that a user wants done, once, however often the user asks. */
export interface CommandOp {
  readonly id: string;
  readonly caller: number;
  readonly target: number;
  readonly nodeId: string;
  readonly capability: string;
  readonly key: string;
  readonly timeoutMs: number;
  readonly calls: CommandCall[];
  /** Effects seen in the real world, by hub and node. */
  readonly effects: { readonly hub: number; readonly nodeId: string; readonly at: number }[];
  /** The executor said that nothing was done. */
  declined: boolean;
  /** What was promised before may be forgotten: a backup of the caller's or the owner's store came back, a power loss took its tail, or the date leapt past the life of keys. */
  tainted: boolean;
  /** It was a backup: an owner cannot know by itself that it started something in a time that its store never saw. */
  restored: boolean;
}

/** CommandCall is one call for it. */
export interface CommandCall {
  readonly at: number;
  /** The first answer; `value` is the text in it, empty if there is none. `lost`: not the hub's, its stream was lost. */
  answer:
    | { readonly at: number; readonly outcome: Outcome; readonly reason: string; readonly value: string; readonly lost: boolean }
    | undefined;
  /** How often it was answered. */
  answers: number;
}

/** Violation of a promise. */
export interface Violation {
  readonly checker: string;
  readonly kind: "correctness" | "liveness" | "crash";
  readonly text: string;
  readonly at: number;
}

const MAX_VIOLATIONS = 20;

/** Oracle remembers what clients did and were told: what the checkers hold the hubs to. It never looks inside a core. */
export class Oracle {
  readonly #scheduler: Scheduler;
  readonly subjects = new Map<string, Subject>();
  readonly commands = new Map<string, CommandOp>();
  readonly violations: Violation[] = [];
  /** By hub: instant from which acknowledged writes are promised to be there; earlier ones may be lost with a backup or a tail. */
  readonly lostAfter: { readonly from: number; readonly to: number }[][];
  /** Hubs whose feed may have gone back in time. */
  readonly rewound: boolean[];

  constructor(scheduler: Scheduler, hubs: number) {
    this.#scheduler = scheduler;
    this.lostAfter = Array.from({ length: hubs }, () => []);
    this.rewound = new Array<boolean>(hubs).fill(false);
  }

  get now(): number {
    return this.#scheduler.now;
  }

  /** violate records that a promise was broken. */
  violate(checker: string, kind: Violation["kind"], text: string): void {
    if (this.violations.length < MAX_VIOLATIONS) this.violations.push({ checker, kind, text, at: this.now });
  }

  subject(hub: number, name: string): Subject {
    const key = `${hub}/${name}`;
    const subject = this.subjects.get(key) ?? { hub, name, writes: [] };
    this.subjects.set(key, subject);
    return subject;
  }

  /** write notes that a client asked for a value. */
  write(hub: number, name: string, value: string | undefined): Write {
    const write: Write = { value, askedAt: this.now, ackedAt: undefined, refused: false, floating: false };
    this.subject(hub, name).writes.push(write);
    return write;
  }

  ack(write: Write): void {
    write.ackedAt = this.now;
  }

  /** rewind notes that what a hub acknowledged between two instants may be gone. */
  rewind(hub: number, from: number, restored: boolean): void {
    this.lostAfter[hub]?.push({ from, to: this.now });
    this.rewound[hub] = true;
    for (const op of this.commands.values())
      if (op.caller === hub || op.target === hub) {
        op.tainted = true;
        op.restored ||= restored;
      }
  }

  /** outlived notes that the date of a hub leapt past the life of its keys: after a restart it goes by the date, and forgets them. */
  outlived(hub: number): void {
    for (const op of this.commands.values()) if (op.caller === hub) op.tainted = true;
  }

  /** promised tells whether an acknowledged write must still be there. */
  promised(hub: number, write: Write): boolean {
    const { askedAt, ackedAt } = write;
    if (ackedAt === undefined) return false;
    // A client hears of it when all that it waits for is durable, which may be after the hub acknowledged this and lost it again.
    return !(this.lostAfter[hub] ?? []).some(({ from, to }) => ackedAt >= from && askedAt <= to);
  }

  /** acceptable are the values that a subject may have now: the last promised one, and all that came after it. */
  acceptable(subject: Subject): Set<string | undefined> {
    const { writes, hub } = subject;
    let first = -1;
    for (let i = 0; i < writes.length; i++) if (this.promised(hub, writes[i] as Write)) first = i;
    const values = new Set<string | undefined>();
    if (first < 0) values.add(undefined);
    for (const [i, write] of writes.entries()) if (i >= first ? !write.refused : write.floating) values.add(write.value);
    // What a rewind brings back is older than the last promise only if that promise is void, which `first` respects.
    return values;
  }
}
