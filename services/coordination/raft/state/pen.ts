import type { StoreOp } from "#kernel/core.ts";
import type { Committed, EngineEffect } from "../../log/engine.ts";
import type { RaftFrame } from "../frames.ts";
import { type HardState, type Manifest, writeCommit, writeEntry, writeHard, writeManifest } from "./record.ts";

/** StoreNames are the names under which a replica keeps its things. */
export interface StoreNames {
  readonly log: string;
  /** Keys HARD, COMMIT and SNAPSHOT. */
  readonly space: string;
  /** Parts of the snapshot, by `partKey`. */
  readonly parts: string;
  /** MANIFEST and parts of a snapshot that is coming in. */
  readonly incoming: string;
}

/** storeNames derives them from one name. */
export function storeNames(name: string): StoreNames {
  return { log: name, space: name, parts: `${name}-snapshot`, incoming: `${name}-incoming` };
}

/** HARD is the key of the hard state. */
export const HARD = "hard";
/** COMMIT is the key of the commit hint. */
export const COMMIT = "commit";
/** SNAPSHOT is the key of the manifest of the snapshot. */
export const SNAPSHOT = "snapshot";
/** MANIFEST is the key of the manifest that is coming in: bytes as they came. */
export const MANIFEST = "manifest";

/** partKey is the key of a part; keys are in the order of parts. */
export function partKey(part: number): string {
  return `part-${String(part).padStart(5, "0")}`;
}

/** Pen writes what a replica must not lose. The commit hint goes along with whatever else is written. */
export class Pen {
  readonly #names: StoreNames;
  /** The commit hint that is on disk, or on its way. */
  hinted: number;

  constructor(names: StoreNames, hinted: number) {
    this.#names = names;
    this.hinted = hinted;
  }

  /** hard writes term and vote: outputs after it wait for it, also early ones. */
  hard(state: HardState, out: EngineEffect<RaftFrame>[]): void {
    this.#write(true, [{ op: "put", space: this.#names.space, key: HARD, bytes: writeHard(state) }], this.hinted, out);
  }

  /** first writes what a replica begins with: its name, and the membership that founds the log, if it is one of those. Both or neither. */
  first(state: HardState, founding: Manifest | undefined, out: EngineEffect<RaftFrame>[]): void {
    const { space } = this.#names;
    const ops: StoreOp[] = [{ op: "put", space, key: HARD, bytes: writeHard(state) }];
    if (founding !== undefined) ops.push({ op: "put", space, key: SNAPSHOT, bytes: writeManifest(founding) });
    this.#write(true, ops, this.hinted, out);
  }

  /** entries writes entries, after it has cut the log from `cut` on. */
  entries(entries: readonly Committed[], cut: number | undefined, commit: number, out: EngineEffect<RaftFrame>[]): void {
    const { log } = this.#names;
    const ops: StoreOp[] = cut === undefined ? [] : [{ op: "cut", log, from: cut }];
    for (const entry of entries) ops.push({ op: "append", log, seq: entry.index, bytes: writeEntry(entry) });
    this.#write(false, ops, commit, out);
  }

  /** hint writes the commit index by itself. */
  hint(commit: number, out: EngineEffect<RaftFrame>[]): void {
    if (commit !== this.hinted) this.#write(false, [], commit, out);
  }

  /** snapshot replaces the snapshot, and lets go of entries before `keepFrom`; of all of them when that is undefined. */
  snapshot(
    manifest: Manifest,
    parts: readonly Uint8Array[],
    keepFrom: number | undefined,
    commit: number,
    out: EngineEffect<RaftFrame>[],
  ): void {
    const { log, space, parts: into, incoming } = this.#names;
    const ops: StoreOp[] = [
      { op: "put", space, key: SNAPSHOT, bytes: writeManifest(manifest) },
      { op: "clear", space: into },
      ...parts.map((bytes, part): StoreOp => ({ op: "put", space: into, key: partKey(part), bytes })),
      { op: "clear", space: incoming },
      keepFrom === undefined ? { op: "drop", log } : { op: "trim", log, below: keepFrom },
    ];
    this.#write(false, ops, commit, out);
  }

  /** incoming begins a snapshot that is coming in, with what is known of its parts. */
  incoming(manifest: Uint8Array, held: ReadonlyMap<number, Uint8Array>, out: EngineEffect<RaftFrame>[]): void {
    const { incoming: space } = this.#names;
    const ops: StoreOp[] = [
      { op: "clear", space },
      { op: "put", space, key: MANIFEST, bytes: manifest },
    ];
    for (const [part, bytes] of held) ops.push({ op: "put", space, key: partKey(part), bytes });
    this.#write(false, ops, this.hinted, out);
  }

  /** part keeps one part of it. */
  part(part: number, bytes: Uint8Array, out: EngineEffect<RaftFrame>[]): void {
    this.#write(false, [{ op: "put", space: this.#names.incoming, key: partKey(part), bytes }], this.hinted, out);
  }

  #write(hard: boolean, ops: StoreOp[], commit: number, out: EngineEffect<RaftFrame>[]): void {
    if (commit !== this.hinted) ops.push({ op: "put", space: this.#names.space, key: COMMIT, bytes: writeCommit(commit) });
    this.hinted = commit;
    out.push({ kind: "persist", hard, ops });
  }
}
