/*
 * A checkpoint is a manifest and chunks.
 *
 * MK1 what is assembled from the chunks of a manifest is what was cut into them.
 * MK2 a manifest that the source did not sign, and a chunk that is not what the manifest says, are refused as a whole.
 * MK3 nobody is made to hold more than was agreed: sizes are checked before anything is kept.
 */
import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { isNodeId } from "#kernel/node-name.ts";
import { inDomain } from "#kernel/wire/bytes.ts";
import { ProtoReader, WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import { isCount } from "../book-check.ts";
import { EMPTY } from "../bytes.ts";
import { BOUNDS } from "../messages.ts";
import { CHUNK_MAX, CHUNK_MIN, chunkAfter } from "./chunker.ts";

const DIGEST_BYTES = 32;
const encoder = new TextEncoder();
/** PROGRESS_DONE is a progress of 1. */
export const PROGRESS_DONE = 1_000_000;

/** Checkpoint is all that an agent is (S1-14). */
export interface Checkpoint {
  /** What it knows, in its own format. */
  readonly memory: Uint8Array;
  /** What it is doing, in its own format. */
  readonly context: Uint8Array;
  /** How far it is with that, in millionths. */
  readonly progress: number;
  /** What it needs where it runs: sorted names, each once. */
  readonly dependencies: readonly string[];
}

/** Chunk is a piece of memory or context, by its content. */
export interface Chunk {
  /** SHA-256 of its bytes, as hexadecimal digits. */
  readonly digest: string;
  readonly length: number;
}

/** Manifest says what a checkpoint consists of. `final` is said of the one at which the agent is frozen. */
export interface Manifest {
  readonly agent: string;
  /** Fence of the agent at the source. */
  readonly fence: number;
  readonly transfer: number;
  readonly from: string;
  readonly to: string;
  /** Counts the manifests of a transfer, from 1. */
  readonly round: number;
  readonly final: boolean;
  readonly memoryBytes: number;
  readonly contextBytes: number;
  readonly progress: number;
  readonly dependencies: readonly string[];
  /** Of the memory, then of the context. */
  readonly chunks: readonly Chunk[];
}

/** ManifestHead is what a manifest says beside the checkpoint. */
export type ManifestHead = Pick<Manifest, "agent" | "fence" | "transfer" | "from" | "to" | "round" | "final">;

/** SignedManifest is a manifest as it is sent. */
export interface SignedManifest {
  readonly manifest: Manifest;
  /** Exactly these bytes are signed and digested. */
  readonly bytes: Uint8Array;
  readonly signature: Uint8Array;
  /** SHA-256 of `bytes`: what TRANSFER and CONFIRM say in the log. */
  readonly digest: Uint8Array;
}

/** Chunks are bytes by the digest of what they are. */
export type Chunks = ReadonlyMap<string, Uint8Array>;

/** checkpointProblem says why a program's checkpoint cannot be sent; undefined if it can. */
export function checkpointProblem(checkpoint: Checkpoint, bytesMax: number): Failure | undefined {
  const { memory, context, progress, dependencies } = checkpoint;
  const size = memory.length + context.length;
  if (size > bytesMax)
    return bad(
      "LIMIT_EXCEEDED",
      `the checkpoint has ${size} bytes and the hubs agreed on ${bytesMax}; ask for the move again with more room`,
    );
  if (!isCount(progress, 0, PROGRESS_DONE)) return bad("VALUE_OUT_OF_RANGE", "the progress is not between 0 and 1");
  return dependenciesProblem(dependencies);
}

function dependenciesProblem(dependencies: readonly string[]): Failure | undefined {
  if (dependencies.length > BOUNDS.dependencies)
    return bad("LIMIT_EXCEEDED", `the agent has more than ${BOUNDS.dependencies} dependencies`);
  const wrong = dependencies.some(
    (name, at) =>
      name === "" || !name.isWellFormed() || encoder.encode(name).length > BOUNDS.dependencyBytes || name <= (dependencies[at - 1] ?? ""),
  );
  return wrong ? bad("INVALID_FIELD", `dependencies are sorted, each once, of 1 to ${BOUNDS.dependencyBytes} bytes`) : undefined;
}

/** Cut is a checkpoint in chunks. */
export interface Cut {
  readonly manifest: Manifest;
  readonly content: Chunks;
}

/**
 * signCheckpoint cuts a checkpoint into chunks and signs its manifest with the key of this hub. The chunks are views of what was given.
 * `before` is the one before it, whose bytes are what they were: chunks that are the same at the same place are neither looked for nor
 * hashed again.
 */
export function signCheckpoint(
  crypto: Crypto,
  head: ManifestHead,
  checkpoint: Checkpoint,
  before?: Cut,
): SignedManifest & { readonly content: Chunks } {
  const content = new Map<string, Uint8Array>();
  const chunks: Chunk[] = [];
  const known = before === undefined ? new Map<number, Chunk>() : placesOf(before.manifest);
  let start = 0;
  for (const part of [checkpoint.memory, checkpoint.context]) {
    for (let at = 0; at < part.length; ) {
      const chunk = sameChunk(part, at, known.get(start + at), before?.content) ?? newChunk(crypto, part, at);
      content.set(chunk.digest, part.subarray(at, at + chunk.length));
      chunks.push({ digest: chunk.digest, length: chunk.length });
      at += chunk.length;
    }
    start += part.length;
  }
  const manifest: Manifest = {
    ...head,
    memoryBytes: checkpoint.memory.length,
    contextBytes: checkpoint.context.length,
    progress: checkpoint.progress,
    dependencies: checkpoint.dependencies,
    chunks,
  };
  const bytes = writeManifest(manifest);
  return { manifest, bytes, signature: crypto.sign(signedBytes(bytes)), digest: crypto.hash(bytes), content };
}

/** placesOf gives the chunks of a manifest by where they begin. */
function placesOf({ chunks }: Manifest): Map<number, Chunk> {
  const places = new Map<number, Chunk>();
  let at = 0;
  for (const chunk of chunks) {
    places.set(at, chunk);
    at += chunk.length;
  }
  return places;
}

/** sameChunk is the chunk that was at this place, if the bytes are the same: where a chunk ends depends on nothing but its own bytes. */
function sameChunk(part: Uint8Array, at: number, chunk: Chunk | undefined, held: Chunks | undefined): Chunk | undefined {
  if (chunk === undefined || at + chunk.length > part.length) return undefined;
  // The last one of a part ended there because nothing followed.
  if (chunk.length < CHUNK_MIN && at + chunk.length < part.length) return undefined;
  const bytes = held?.get(chunk.digest);
  return bytes !== undefined && sameBytes(bytes, part.subarray(at, at + chunk.length)) ? chunk : undefined;
}

function newChunk(crypto: Crypto, part: Uint8Array, at: number): Chunk {
  const length = chunkAfter(part, at);
  return { digest: hexOf(crypto.hash(part.subarray(at, at + length))), length };
}

const signedBytes = (bytes: Uint8Array): Uint8Array => inDomain("foedus.checkpoint.v1", bytes);

/** writeManifest gives `foedus.coordination.v1alpha1.CheckpointManifest`. */
export function writeManifest(manifest: Manifest): Uint8Array {
  const { chunks } = manifest;
  const digests = new Uint8Array(chunks.length * DIGEST_BYTES);
  chunks.forEach(({ digest }, at) => {
    digests.set(bytesOf(digest), at * DIGEST_BYTES);
  });
  const fields = new ProtoWriter()
    .text(1, manifest.agent)
    .uint(2, manifest.fence)
    .uint(3, manifest.transfer)
    .text(4, manifest.from)
    .text(5, manifest.to)
    .uint(6, manifest.round)
    .bool(7, manifest.final)
    .uint(8, manifest.memoryBytes)
    .uint(9, manifest.contextBytes)
    .uint(10, manifest.progress);
  for (const dependency of manifest.dependencies) fields.textItem(11, dependency);
  return fields
    .bytes(12, digests)
    .uints(
      13,
      chunks.map(({ length }) => length),
    )
    .finish();
}

/**
 * openManifest reads a manifest that a peer sent: CHECKPOINT_INVALID for one that the key did not sign, that is malformed, or whose sizes
 * are not those of its chunks; LIMIT_EXCEEDED for one that says more than `bytesMax`.
 */
export function openManifest(
  crypto: Crypto,
  key: Uint8Array,
  sent: { readonly bytes: Uint8Array; readonly signature: Uint8Array },
  bytesMax: number,
): SignedManifest | Failure {
  const { bytes, signature } = sent;
  if (bytes.length > BOUNDS.manifestBytes) return bad("LIMIT_EXCEEDED", `the manifest has more than ${BOUNDS.manifestBytes} bytes`);
  if (!crypto.verify(key, signedBytes(bytes), signature)) return invalid("the manifest is not signed by the key of the source");
  const manifest = readManifest(bytes);
  if ("reason" in manifest) return manifest;
  const size = manifest.memoryBytes + manifest.contextBytes;
  if (size > bytesMax) return bad("LIMIT_EXCEEDED", `the checkpoint has ${size} bytes and the hubs agreed on ${bytesMax}`);
  return { manifest, bytes, signature, digest: crypto.hash(bytes) };
}

/** readManifest reads a manifest, with every bound checked; a field that is not known is a fault. */
export function readManifest(bytes: Uint8Array): Manifest | Failure {
  try {
    const manifest = fieldsOf(new ProtoReader(bytes));
    return manifestProblem(manifest) ?? manifest;
  } catch (error) {
    if (error instanceof WireError) return invalid(`the manifest is malformed: ${error.message}`);
    throw error;
  }
}

function fieldsOf(reader: ProtoReader): Manifest {
  const number: number[] = [];
  const text: string[] = [];
  const dependencies: string[] = [];
  let digests: Uint8Array = EMPTY;
  let lengths: number[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if ([1, 4, 5].includes(field)) text[field] = reader.text(63);
    else if ([2, 3, 6, 8, 9, 10].includes(field)) number[field] = reader.uint();
    else if (field === 7) number[7] = reader.uint(1);
    else if (field === 11 && dependencies.length < BOUNDS.dependencies) dependencies.push(reader.text(BOUNDS.dependencyBytes));
    else if (field === 12) digests = reader.bytes(BOUNDS.chunks * DIGEST_BYTES);
    else if (field === 13) lengths = reader.uints(BOUNDS.chunks);
    else reader.unknown();
  }
  if (digests.length !== lengths.length * DIGEST_BYTES) throw new WireError("there is not one digest for each chunk");
  return {
    agent: text[1] ?? "",
    fence: number[2] ?? 0,
    transfer: number[3] ?? 0,
    from: text[4] ?? "",
    to: text[5] ?? "",
    round: number[6] ?? 0,
    final: number[7] === 1,
    memoryBytes: number[8] ?? 0,
    contextBytes: number[9] ?? 0,
    progress: number[10] ?? 0,
    dependencies,
    chunks: lengths.map((length, at) => ({ digest: hexOf(digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES)), length })),
  };
}

function manifestProblem(manifest: Manifest): Failure | undefined {
  const { agent, fence, transfer, from, to, round, memoryBytes, contextBytes, progress, chunks } = manifest;
  if (!isNodeId(agent) || !isHubId(from) || !isHubId(to)) return invalid("the manifest names no agent and two hubs");
  if (![fence, transfer, round].every((count) => isCount(count, 1))) return invalid("a number of the manifest is not above 0");
  if (!isCount(memoryBytes + contextBytes, 0, BOUNDS.checkpointBytes) || !isCount(progress, 0, PROGRESS_DONE))
    return invalid("a size or the progress of the manifest is out of range");
  const dependency = dependenciesProblem(manifest.dependencies);
  if (dependency !== undefined) return dependency;
  const lengths = new Map<string, number>();
  let size = 0;
  let split = memoryBytes === 0;
  for (const { digest, length } of chunks) {
    if (length < 1 || length > CHUNK_MAX) return invalid("a chunk of the manifest is empty or too long");
    if ((lengths.get(digest) ?? length) !== length) return invalid("a chunk of the manifest has two lengths");
    lengths.set(digest, length);
    size += length;
    if (size === memoryBytes) split = true;
  }
  if (size !== memoryBytes + contextBytes || !split) return invalid("the chunks of the manifest do not add up to its sizes");
  return undefined;
}

/** missingIn lists the numbers of chunks that are not held, each content once. */
export function missingIn(manifest: Manifest, held: Chunks): number[] {
  const seen = new Set<string>();
  const missing: number[] = [];
  manifest.chunks.forEach(({ digest }, at) => {
    if (!held.has(digest) && !seen.has(digest)) missing.push(at);
    seen.add(digest);
  });
  return missing;
}

/** splitChunks takes the bytes of some chunks apart; undefined if one is not what the manifest says. The chunks are copies. */
export function splitChunks(crypto: Crypto, manifest: Manifest, numbers: readonly number[], raw: Uint8Array): Chunks | undefined {
  const found = new Map<string, Uint8Array>();
  let at = 0;
  for (const number of numbers) {
    const chunk = manifest.chunks[number];
    if (chunk === undefined) return undefined;
    const bytes = raw.slice(at, (at += chunk.length));
    if (bytes.length !== chunk.length || hexOf(crypto.hash(bytes)) !== chunk.digest) return undefined;
    found.set(chunk.digest, bytes);
  }
  return at === raw.length ? found : undefined;
}

/** lengthOf is how many bytes some chunks have together; undefined if one of them is not in the manifest. */
export function lengthOf(manifest: Manifest, numbers: readonly number[]): number | undefined {
  let length = 0;
  for (const number of numbers) {
    const chunk = manifest.chunks[number];
    if (chunk === undefined) return undefined;
    length += chunk.length;
  }
  return length;
}

/** joinChunks makes the bytes of some chunks; undefined if one is not held. */
export function joinChunks(manifest: Manifest, numbers: readonly number[], held: Chunks): Uint8Array | undefined {
  const length = lengthOf(manifest, numbers);
  if (length === undefined) return undefined;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const number of numbers) {
    const chunk = held.get((manifest.chunks[number] as Chunk).digest);
    if (chunk === undefined) return undefined;
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** Laid is a checkpoint as its chunks, in order, which are views of where they are held. */
export interface Laid {
  readonly memoryBytes: number;
  readonly contextBytes: number;
  readonly progress: number;
  readonly dependencies: readonly string[];
  /** Of the memory, then of the context; none is of both. */
  readonly chunks: readonly { readonly digest: string; readonly bytes: Uint8Array }[];
}

/** layOut makes the checkpoint of a manifest, without copying it; undefined while chunks are missing. */
export function layOut({ memoryBytes, contextBytes, progress, dependencies, chunks }: Manifest, held: Chunks): Laid | undefined {
  const laid = chunks.map(({ digest }) => ({ digest, bytes: held.get(digest) }));
  if (laid.some(({ bytes }) => bytes === undefined)) return undefined;
  return { memoryBytes, contextBytes, progress, dependencies, chunks: laid as Laid["chunks"] };
}

/** wholeOf puts a checkpoint together. Memory and context are copies. */
export function wholeOf({ memoryBytes, contextBytes, progress, dependencies, chunks }: Laid): Checkpoint {
  const all = new Uint8Array(memoryBytes + contextBytes);
  let at = 0;
  for (const { bytes } of chunks) {
    all.set(bytes, at);
    at += bytes.length;
  }
  return { memory: all.subarray(0, memoryBytes), context: all.subarray(memoryBytes), progress, dependencies };
}

/** windowOf are the first missing chunks that may be under way at once: as many as have so many bytes, one at least. */
export function windowOf(manifest: Pick<Manifest, "chunks">, missing: readonly number[], bytes: number): readonly number[] {
  let length = 0;
  const end = missing.findIndex((number) => (length += manifest.chunks[number]?.length ?? 0) > bytes);
  return end < 0 ? missing : missing.slice(0, Math.max(1, end));
}

/** hexOf writes bytes as hexadecimal digits. */
export function hexOf(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += DIGITS[byte];
  return text;
}

const DIGITS = Array.from({ length: 256 }, (_none, byte) => byte.toString(16).padStart(2, "0"));

/** bytesOf reads what `hexOf` wrote. */
export function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from({ length: hex.length / 2 }, (_none, at) => Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16));
}

const bad = (reason: Failure["reason"], message: string): Failure => ({ reason, message });

const invalid = (message: string): Failure => bad("CHECKPOINT_INVALID", message);
