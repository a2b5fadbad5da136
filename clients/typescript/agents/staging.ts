import { createHash } from "node:crypto";
import type { AgentPart, CheckpointHead } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { fail } from "#kernel/error.ts";
import type { AgentCheckpoint } from "./movable-agent.ts";

/** PROGRESS_DONE is a progress of 1, as it is sent. */
export const PROGRESS_DONE = 1_000_000;

/** Most parts of a checkpoint: as many as a hub may cut it into. */
const PARTS_MAX = 65_536;

interface Chunk {
  /** Where it begins, counted from the first byte of the memory. */
  readonly at: number;
  readonly length: number;
  readonly digest: Uint8Array;
}

/** StagedCheckpoint is a checkpoint with the digests that it was checked by. */
export interface StagedCheckpoint {
  readonly checkpoint: AgentCheckpoint;
  readonly chunks: readonly Chunk[];
  readonly digest: Uint8Array;
}

/** ComingDigests are what a checkpoint that comes is checked by, and where parts of it are taken from. Without a digest nothing is checked. */
export interface ComingDigests {
  readonly digest: Uint8Array;
  /** What it is said to be in part the same as; undefined if all of it comes. */
  readonly base: StagedCheckpoint | undefined;
}

/** ComingCheckpoint puts a checkpoint together whose bytes arrive in parts. What is the same as in its base is not copied. */
export class ComingCheckpoint {
  readonly #head: CheckpointHead;
  readonly #digests: ComingDigests;
  readonly #pieces: Uint8Array[] = [];
  readonly #chunks: Chunk[] = [];
  #filled = 0;
  readonly #size: number;

  constructor(head: CheckpointHead, digests: ComingDigests) {
    this.#head = head;
    this.#digests = digests;
    this.#size = Number(head.memoryBytes + head.contextBytes);
  }

  get complete(): boolean {
    return this.#filled === this.#size;
  }

  /** add takes the next part; INVALID_FIELD for one that does not belong here. */
  add({ data, same, from }: AgentPart): void {
    const length = data.length + same;
    if (length === 0 || length > this.#size - this.#filled || (data.length > 0 && same > 0))
      throw fail("INVALID_FIELD", "the hub sent bytes of no checkpoint");
    if (this.#pieces.length === PARTS_MAX || this.#chunks.length > PARTS_MAX)
      throw fail("LIMIT_EXCEEDED", `the hub sent a checkpoint in more than ${PARTS_MAX} parts`);
    if (same > 0) this.#same(from, same);
    else {
      this.#pieces.push(data);
      if (this.#digests.digest.length > 0) this.#chunks.push({ at: this.#filled, length, digest: sha256(data) });
    }
    this.#filled += length;
  }

  /** finish gives what came; undefined if it is not what its digest says. */
  finish(): StagedCheckpoint | undefined {
    const { digest } = this.#digests;
    if (digest.length > 0 && !sha256(Buffer.concat(this.#chunks.map((chunk) => chunk.digest))).equals(digest)) return undefined;
    const memoryBytes = Number(this.#head.memoryBytes);
    let split = 0;
    let at = 0;
    for (; at < memoryBytes; split++) at += this.#pieces[split]?.length ?? memoryBytes;
    if (at !== memoryBytes) return undefined;
    const { progress, dependencies } = this.#head;
    const memory = this.#join(this.#pieces.slice(0, split), this.#digests.base?.checkpoint.memory);
    const context = this.#join(this.#pieces.slice(split), undefined);
    const checkpoint = { memory, context, progress: progress / PROGRESS_DONE, dependencies };
    return { checkpoint, chunks: this.#chunks, digest };
  }

  /** same takes whole chunks of the base over. */
  #same(from: number, length: number): void {
    const { base } = this.#digests;
    const first = base?.chunks.findIndex(({ at }) => at === from) ?? -1;
    if (base === undefined || first < 0) throw fail("INVALID_FIELD", "the hub says that bytes are the same of which there are none");
    let at = from;
    for (let n = first; at < from + length; n++) {
      const chunk = base.chunks[n];
      if (chunk === undefined) throw fail("INVALID_FIELD", "the hub says that more is the same than there is");
      this.#chunks.push({ ...chunk, at: this.#filled + chunk.at - from });
      at += chunk.length;
    }
    const { memory, context } = base.checkpoint;
    if (at !== from + length || (from < memory.length && at > memory.length))
      throw fail("INVALID_FIELD", "what is the same are not whole chunks of the memory or of the context");
    this.#pieces.push(from < memory.length ? memory.subarray(from, at) : context.subarray(from - memory.length, at - memory.length));
  }

  /** join puts pieces together: the very object that was there before if they are all of it. */
  #join(pieces: readonly Uint8Array[], before: Uint8Array | undefined): Uint8Array {
    const [only] = pieces;
    if (pieces.length !== 1 || only === undefined) return Buffer.concat(pieces);
    return before !== undefined && only.buffer === before.buffer && only.byteOffset === before.byteOffset && only.length === before.length
      ? before
      : only;
  }
}

/** Most bytes, and agents, that are staged at a program; what is beyond comes when it starts. */
const STAGED_BYTES = 256 * 1024 * 1024;
const STAGED_AGENTS = 64;

interface Kept {
  readonly transfer: bigint;
  readonly staged: StagedCheckpoint;
}

/**
 * Staged is what a program was shown of agents that may come. None of it is an agent.
 *
 * SC1 it is bounded in bytes and in number, whatever the hub sends.
 * SC2 it ends with the stream, and with the start of the agent, an unstage, or another transfer of it.
 */
export class Staged {
  readonly #kept = new Map<string, Kept>();

  /** room tells whether so many bytes may be staged of an agent. */
  room(agent: string, bytes: number): boolean {
    let all = bytes;
    for (const [name, { staged }] of this.#kept) if (name !== agent) all += sizeOf(staged);
    return all <= STAGED_BYTES && (this.#kept.has(agent) || this.#kept.size < STAGED_AGENTS);
  }

  /** get gives what is staged of an agent for a transfer, if it has a digest. */
  get(agent: string, transfer: bigint, digest: Uint8Array): StagedCheckpoint | undefined {
    const kept = this.#kept.get(agent);
    return kept?.transfer === transfer && Buffer.compare(kept.staged.digest, digest) === 0 ? kept.staged : undefined;
  }

  set(agent: string, transfer: bigint, staged: StagedCheckpoint): void {
    this.#kept.set(agent, { transfer, staged });
  }

  /** drop forgets what is staged of an agent, of one transfer if that is said; false if nothing was. */
  drop(agent: string, transfer?: bigint): boolean {
    const kept = this.#kept.get(agent);
    return kept !== undefined && (transfer === undefined || kept.transfer === transfer) && this.#kept.delete(agent);
  }

  /** agents are those of which something is staged. */
  get agents(): readonly string[] {
    return [...this.#kept.keys()];
  }
}

const sizeOf = ({ checkpoint: { memory, context } }: StagedCheckpoint): number => memory.length + context.length;

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();
