// Cores, disks and wires in memory: what the property tests and transcripts of command-forwarding run on.
import { createHash } from "node:crypto";
import type { StoreOp } from "#kernel/core.ts";
import type { Now } from "#kernel/instant.ts";
import { AUDIT_LOG } from "../../services/command-forwarding/audit/audit.ts";
import { OPEN_LOG } from "../../services/command-forwarding/audit/open-commands.ts";
import { CommandCore } from "../../services/command-forwarding/core.ts";
import { LOG } from "../../services/command-forwarding/journal/journal.ts";
import { META_KEY, META_SPACE } from "../../services/command-forwarding/journal/restore.ts";
import type {
  CommandEffect,
  Input,
  InvocationsFrame,
  Invoke,
  Reply,
  Respond,
  ResultsFrame,
  Task,
} from "../../services/command-forwarding/messages.ts";
import type { Settings } from "../../services/command-forwarding/settings.ts";

/** MemoryDisk holds what was committed; it can be copied, as a backup is. */
export class MemoryDisk {
  /** Blobs of the journal, of the audit and of what has begun. */
  readonly logs = new Map<string, Map<number, Uint8Array>>([LOG, AUDIT_LOG, OPEN_LOG].map((log) => [log, new Map()]));
  meta: Uint8Array | undefined;

  get blobs(): Map<number, Uint8Array> {
    return this.log(LOG);
  }

  log(name: string): Map<number, Uint8Array> {
    return this.logs.get(name) as Map<number, Uint8Array>;
  }

  /** read gives the blobs of a log in order. */
  read(name: string): { readonly seq: number; readonly bytes: Uint8Array }[] {
    return [...this.log(name)].sort(([x], [y]) => x - y).map(([seq, bytes]) => ({ seq, bytes }));
  }

  apply(ops: readonly StoreOp[]): void {
    for (const op of ops) {
      if (op.op === "append") this.log(op.log).set(op.seq, op.bytes);
      else if (op.op === "trim") for (const seq of [...this.log(op.log).keys()]) if (seq < op.below) this.log(op.log).delete(seq);
      if (op.op === "put" && op.space === META_SPACE && op.key === META_KEY) this.meta = op.bytes;
    }
  }

  copy(): MemoryDisk {
    const copy = new MemoryDisk();
    for (const [name, blobs] of this.logs) copy.logs.set(name, new Map(blobs));
    copy.meta = this.meta;
    return copy;
  }
}

/** MemoryHub drives one core over a disk. A crash between two steps loses what was not committed, and everything in memory. */
export class MemoryHub {
  readonly hubId: string;
  disk = new MemoryDisk();
  core: CommandCore;
  /** Everything that left, in order. */
  readonly out: CommandEffect[] = [];
  /** True: a test answers which tasks were never handed out. By default all were, and the core is told at once. */
  asks = false;
  /** How many of the last step's effects left before its commit. */
  early = 0;
  readonly #settings: Partial<Settings>;
  readonly #now: () => Now;

  constructor(hubId: string, now: () => Now, settings: Partial<Settings> = {}) {
    this.hubId = hubId;
    this.#now = now;
    this.#settings = settings;
    this.core = this.#boot();
  }

  /**
   * give steps the core and answers what left. `crashAt`: the process dies right before ("before") or right after ("after") the step's
   * commit; what the step let out in front of its persist has left all the same.
   */
  give(input: Input, crashAt?: "before" | "after"): CommandEffect[] {
    return this.#settle((effects) => this.core.step(this.#now(), input, effects), crashAt);
  }

  /** tick lets due things happen. */
  tick(crashAt?: "before" | "after"): CommandEffect[] {
    const deadline = this.core.deadline();
    if (deadline === undefined || deadline > this.#now().mono) return [];
    return this.#settle((effects) => this.core.tick(this.#now(), effects), crashAt);
  }

  /** restart is a crash between steps. */
  restart(): void {
    this.core = this.#boot();
  }

  #boot(): CommandCore {
    const hash = (data: Uint8Array): Uint8Array => createHash("sha256").update(data).digest();
    const core = new CommandCore({ hubId: this.hubId, settings: this.#settings, hash });
    const { meta } = this.disk;
    core.restore(this.#now(), { meta, blobs: this.disk.read(LOG), audit: this.disk.read(AUDIT_LOG), open: this.disk.read(OPEN_LOG) });
    const effects: CommandEffect[] = [];
    core.step(this.#now(), { kind: "start" }, effects);
    for (const effect of effects) if (effect.kind === "persist") this.disk.apply(effect.ops);
    return core;
  }

  #settle(run: (effects: CommandEffect[]) => void, crashAt: "before" | "after" | undefined): CommandEffect[] {
    const effects: CommandEffect[] = [];
    run(effects);
    if (crashAt !== "before") for (const effect of effects) if (effect.kind === "persist") this.disk.apply(effect.ops);
    const commit = effects.findIndex(({ kind }) => kind === "persist");
    const leaves = (effect: CommandEffect): boolean => effect.kind !== "persist" && effect.kind !== "observe";
    const early = effects.slice(0, Math.max(0, commit)).filter(leaves);
    this.early = early.length;
    const left = crashAt === undefined ? effects.filter(leaves) : early;
    if (crashAt !== undefined) this.restart();
    if (crashAt !== undefined || this.asks) {
      this.out.push(...left);
      return left;
    }
    const answered: CommandEffect[] = [];
    for (const effect of left) if (effect.kind !== "tell-undelivered") answered.push(effect);
    this.out.push(...answered);
    for (const effect of left)
      if (effect.kind === "tell-undelivered") answered.push(...this.give({ kind: "undelivered", executor: effect.executor, tasks: [] }));
    return answered;
  }
}

/** invocationsOf is what arrives of an Invoke effect. */
export function invocationsOf(effect: Invoke, mono: number): InvocationsFrame {
  const { epoch, ackedBelow, acks, cancels, ownerEpoch, ownerPosition } = effect;
  const items = effect.items.map(({ deadline, ...item }) => ({ ...item, timeoutMs: Math.max(0, Math.ceil(deadline - mono)) }));
  return { epoch, ackedBelow, acks: [...acks], items, cancels: [...cancels], ownerEpoch, ownerPosition };
}

/** resultsOf is what arrives of a Respond effect. */
export function resultsOf({ epoch, ownerEpoch, ownerPosition, items }: Respond): ResultsFrame {
  return { epoch, ownerEpoch, ownerPosition, items: [...items] };
}

export type { Reply, Task };
