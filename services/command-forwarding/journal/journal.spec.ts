import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StoreOp } from "#kernel/core.ts";
import { Reader, type Writer } from "../codec/wire.ts";
import type { CommandEffect } from "../messages.ts";
import { type Entry, Journal } from "./journal.ts";

const BEGUN = 1;
const ENDED = 2;

const ZEROS = new Uint8Array(16 * 1024);
const zeros = (length: number): Uint8Array => ZEROS.subarray(0, length);

/** Item is an entry with a number, as long as it is told to be. */
class Item implements Entry {
  blob = 0;
  recordBytes = 0;
  readonly id: number;
  readonly pad: Uint8Array;
  writes = 0;

  constructor(id: number, pad: Uint8Array) {
    this.id = id;
    this.pad = pad;
  }

  write(writer: Writer): void {
    this.writes++;
    writer.uint(BEGUN);
    writer.uint(this.id);
    writer.bytes(this.pad);
  }
}

/** Bench is a journal over a store, and what must be alive in it. */
class Bench {
  journal = new Journal();
  readonly rows = new Map<number, Uint8Array>();
  live = new Map<number, Item>();
  /** Most entries that were alive at once, and the length of their records. */
  peak = 0;
  peakBytes = 0;
  liveBytes = 0;
  trimmed = 0;
  copies = 0;
  #below = 1;
  #nextId = 1;
  #added = 0;

  begin(bytes: number): Item {
    const item = new Item(this.#nextId++, zeros(bytes));
    this.live.set(item.id, item);
    this.liveBytes += bytes + 8;
    this.rewrite(item);
    return item;
  }

  rewrite(item: Item): void {
    const writes = item.writes;
    this.journal.add(item);
    this.#added += item.writes - writes;
  }

  end(id: number): void {
    const item = this.live.get(id);
    if (item === undefined) return;
    this.live.delete(id);
    this.liveBytes -= item.pad.length + 8;
    this.journal.note((writer) => {
      writer.uint(ENDED);
      writer.uint(id);
    });
    this.journal.drop(item);
  }

  /** flush ends a step. `crash`: if it trims, its blob becomes durable and the trim does not, and the process starts again; it answers whether. */
  flush(crash = false): boolean {
    this.peak = Math.max(this.peak, this.live.size);
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    const before = this.#writes();
    const effects: CommandEffect[] = [];
    this.journal.flush(effects);
    this.copies += this.#writes() - before;
    const ops = effects.flatMap((effect) => (effect.kind === "persist" ? effect.ops : []));
    const crashes = crash && ops.some(({ op }) => op === "trim");
    for (const op of ops) if (!crashes || op.op === "append") this.#apply(op);
    if (crashes) this.restart();
    return crashes;
  }

  /** Copies are counted where they are few to count: over all that is alive. */
  counting = false;
  #writes(): number {
    let writes = 0;
    if (this.counting) for (const item of this.live.values()) writes += item.writes;
    return writes;
  }

  #apply(op: StoreOp): void {
    if (op.op === "append") this.rows.set(op.seq, op.bytes);
    if (op.op !== "trim") return;
    for (; this.#below < op.below; this.#below++) if (this.rows.delete(this.#below)) this.trimmed++;
  }

  /** restart reads the store, and expects all that was alive and nothing else. */
  restart(): void {
    const journal = new Journal();
    const found = new Map<number, Item>();
    for (const [seq, bytes] of this.rows) {
      journal.load(seq, bytes.length);
      const reader = new Reader(bytes);
      while (!reader.done) {
        const start = reader.pos;
        const kind = reader.uint();
        const id = reader.uint();
        const older = found.get(id);
        if (older !== undefined) journal.drop(older);
        found.delete(id);
        if (kind === ENDED) continue;
        const item = new Item(id, zeros(reader.view().length));
        found.set(id, item);
        journal.adopt(item, reader.pos - start);
      }
    }
    expect([...found.keys()].sort((a, b) => a - b)).toEqual([...this.live.keys()].sort((a, b) => a - b));
    this.journal = journal;
    this.live = found;
    this.#below = Math.min(...this.rows.keys());
  }

  /** rowsMax is how long the log may be: what it may be with so many alive, a batch of trims, and the steps that one pass over it takes. */
  rowsMax(live: number, bytes: number): number {
    return Math.max(2_048, 2 * live) + 64 + Math.ceil(live / 256) + Math.ceil(bytes / (1024 * 1024)) + 8;
  }
}

interface Phase {
  readonly steps: number;
  readonly births: number;
  /** One entry in so many lives for `life` steps; the others end two steps later. */
  readonly every: number;
  readonly life: number;
  readonly bytes: number;
  readonly crash: "none" | "between steps" | "between copy and trim";
}

const phases = fc.array(
  fc.record<Phase>({
    steps: fc.integer({ min: 1, max: 2_500 }),
    births: fc.integer({ min: 1, max: 3 }),
    every: fc.constantFrom(1, 2, 7, 100),
    life: fc.constantFrom(1, 300, 2_500, 50_000),
    bytes: fc.constantFrom(8, 8, 8, 2_000),
    crash: fc.constantFrom("none", "between steps", "between copy and trim"),
  }),
  { minLength: 1, maxLength: 4 },
);

describe("H2-3 JR3 the log stays short", () => {
  test("while a few hundred entries live long and everything else is over at once, at less than one copy for each dead blob", () => {
    const bench = new Bench();
    bench.counting = true;
    for (let i = 0; i < 300; i++) {
      bench.begin(40);
      bench.flush();
    }
    for (let i = 0; i < 10_000; i++) {
      const { id } = bench.begin(40);
      bench.flush();
      bench.end(id);
      bench.flush();
    }
    expect(bench.journal.blobs).toBeLessThanOrEqual(bench.rowsMax(300, 0));
    expect(bench.rows.size).toBe(bench.journal.blobs);
    expect(bench.trimmed).toBeGreaterThan(18_000);
    expect(bench.copies).toBeGreaterThan(0);
    expect(bench.copies * 2).toBeLessThanOrEqual(bench.trimmed + 2 * 300);
    bench.restart();
  });

  test("for any mix of lifetimes, and nothing that is alive is lost, wherever a crash falls", () => {
    fc.assert(
      fc.property(phases, (mix) => {
        const bench = new Bench();
        const ends = new Map<number, number[]>();
        let step = 0;
        const turn = (births: number, { every, life, bytes }: Phase, crash: boolean): boolean => {
          step++;
          for (const id of ends.get(step) ?? []) bench.end(id);
          ends.delete(step);
          for (let i = 0; i < births; i++) {
            const { id } = bench.begin(bytes);
            const at = step + (id % every === 0 ? life : 2);
            const list = ends.get(at);
            if (list === undefined) ends.set(at, [id]);
            else list.push(id);
            if (id % 5 === 0) bench.rewrite(bench.live.get(id) as Item);
          }
          const crashed = bench.flush(crash);
          const max = bench.rowsMax(bench.peak, bench.peakBytes);
          if (bench.journal.blobs > max) expect(bench.journal.blobs).toBeLessThanOrEqual(max);
          return crashed;
        };
        for (const phase of mix) {
          for (let i = 0; i < phase.steps; i++) turn(phase.births, phase, false);
          if (phase.crash === "between steps") bench.restart();
          if (phase.crash === "between copy and trim") for (let i = 0; i < 2_500 && !turn(1, phase, true); i++);
        }
        // What only was alive once has no say for long.
        const quiet: Phase = { steps: 0, births: 1, every: 1, life: 2, bytes: 8, crash: "none" };
        for (let i = 0; i < 200; i++) turn(1, quiet, false);
        expect(bench.journal.blobs).toBeLessThanOrEqual(bench.rowsMax(bench.live.size + 200, bench.liveBytes));
        expect(bench.journal.bytes).toBeLessThanOrEqual(Math.max(8 * 1024 * 1024, 2 * bench.liveBytes) + 2 * 1024 * 1024);
        bench.restart();
      }),
      { numRuns: 12 },
    );
  });

  test("one commit copies no more than so much, and a restart over a log that is too long mends it", () => {
    const bench = new Bench();
    const old = new Journal();
    // What a version wrote that did not compact: entries of 16 KiB that live, then rows without any.
    let seq = 0;
    const pad = new Uint8Array(16 * 1024);
    const row = (write: (journal: Journal) => void): void => {
      write(old);
      const effects: CommandEffect[] = [];
      old.flush(effects);
      for (const effect of effects)
        if (effect.kind === "persist") for (const op of effect.ops) if (op.op === "append") bench.rows.set(++seq, op.bytes);
    };
    for (let id = 1_000_001; id <= 1_000_200; id++) {
      const item = new Item(id, pad);
      bench.live.set(id, item);
      row((journal) => journal.add(item));
    }
    bench.liveBytes = 200 * pad.length;
    const ended = (writer: Writer): void => {
      writer.uint(ENDED);
      writer.uint(7);
    };
    while (seq < 20_000) row((journal) => journal.note(ended));
    bench.restart();
    let longest = 0;
    for (let i = 0; i < 10; i++) {
      const before = bench.journal.written;
      bench.end(bench.begin(8).id);
      bench.flush();
      longest = Math.max(longest, bench.journal.written - before);
    }
    expect(longest).toBeLessThanOrEqual(1024 * 1024 + 2 * pad.length);
    expect(bench.rows.size).toBeLessThanOrEqual(bench.rowsMax(200, 0));
    bench.restart();
  });
});
