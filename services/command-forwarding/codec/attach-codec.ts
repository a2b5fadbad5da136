import { decodeMessage } from "#channel/messages.ts";
import { validateRequest } from "#channel/validation.ts";
import {
  type Attach,
  type AttachExecutorRequest,
  AttachExecutorRequestSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { isWireError } from "./codec.ts";
import { Reader } from "./wire.ts";

/** Nodes that one attach may name, as the schema says. */
const NODES_MAX = 100_000;
/** SLICE_NODES is how many nodes of an attach are read and taken in one step: about a millisecond of work. */
export const SLICE_NODES = 1_000;

/**
 * PIECES_MAX is the most pieces of an attach in one message. It comes in one; the generated code, which makes one of several, is as patient
 * as this. Two bytes are another piece, and each of the other fields is read on its own, so that what has no bound costs a hundred times
 * its bytes.
 */
export const PIECES_MAX = 64;
/** FIELDS_MAX is the most fields of a message beside the nodes: an attach may name a thousand capabilities. */
export const FIELDS_MAX = 4_096;

/** Tags of the fields that are looked at here. */
const ATTACH = 0x0a;
const RESULTS = 0x12;
const NODE_ID = 0x0a;
const NO_RESULTS = Uint8Array.of(RESULTS, 0);

/** AttachSlice is some of the nodes of an attach. */
export interface AttachSlice {
  readonly nodeIds: readonly string[];
  readonly last: boolean;
}

/** AttachFrame is an attach whose nodes are read when it is their turn. */
export interface AttachFrame {
  /** All but the nodes. */
  readonly head: Attach;
  /** nodes gives them in slices; at least one, which may be empty. It throws INVALID_FIELD for what is no text. */
  nodes(): Generator<AttachSlice>;
}

/**
 * decodeAttach reads an AttachExecutorRequest that holds an attach; it throws INVALID_FIELD for any other. The nodes stay bytes until it is
 * their turn: a hundred thousand of them are too much for one step, and as texts they take several times the memory.
 */
export function decodeAttach(bytes: Uint8Array): AttachFrame {
  const { head, bodies, count } = sound(() => split(bytes));
  if (count > NODES_MAX) {
    const field = "attach.node_ids";
    throw fail("INVALID_FIELD", `${field}: ${count} nodes; at most ${NODES_MAX} may be in one message`, { field });
  }
  const request = decodeMessage(AttachExecutorRequestSchema, head) as AttachExecutorRequest;
  const failure = validateRequest(AttachExecutorRequestSchema, request);
  if (failure !== undefined) throw new FoedusError(failure);
  if (request.frame.case !== "attach") throw fail("INVALID_FIELD", "the first frame must be attach", { field: "frame" });
  return { head: request.frame.value, nodes: () => slices(bodies, count) };
}

/**
 * split takes the nodes out of a message. What is left is a message, too; of several attaches in it, the decoder makes one. It gives up at
 * the first one that is too many.
 */
function split(bytes: Uint8Array): { readonly head: Uint8Array; readonly bodies: readonly Span[]; readonly count: number } {
  const head: Uint8Array[] = [];
  let bodies: Span[] = [];
  let count = 0;
  let pieces = 0;
  const fields: Fields = { count: 0 };
  const reader = new Reader(bytes);
  while (!reader.done) {
    const start = reader.pos;
    const tag = reader.tag();
    if (tag !== ATTACH) {
      fields.count++;
      checkFields(fields);
      reader.skip(tag);
      if (tag !== RESULTS) {
        head.push(bytes.subarray(start, reader.pos));
        continue;
      }
      // Another member of the oneof takes the place of the attaches before it; what is in it does not matter.
      head.push(NO_RESULTS);
      [bodies, count] = [[], 0];
      continue;
    }
    if (++pieces > PIECES_MAX) throw fail("INVALID_FIELD", `at most ${PIECES_MAX} attaches may be in one message`, { field: "frame" });
    const body = reader.sub();
    bodies.push({ bytes, start: body.pos, end: body.end });
    const rest: Uint8Array[] = [];
    count += withoutNodes(body, rest, fields);
    head.push(
      tagged(
        ATTACH,
        rest.reduce((sum, part) => sum + part.length, 0),
      ),
    );
    for (const part of rest) head.push(part);
  }
  return { head: Buffer.concat(head), bodies, count };
}

interface Span {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Fields is how many there were beside the nodes. */
interface Fields {
  count: number;
}

function checkFields({ count }: Fields): void {
  if (count <= FIELDS_MAX) return;
  throw fail("INVALID_FIELD", `at most ${FIELDS_MAX} fields may be in one message beside the nodes`, { field: "attach" });
}

/** withoutNodes collects all fields of an attach but the nodes, and counts those. */
function withoutNodes(body: Reader, rest: Uint8Array[], fields: Fields): number {
  let nodes = 0;
  let from = body.pos;
  while (!body.done) {
    const start = body.pos;
    const tag = body.tag();
    body.skip(tag);
    if (tag !== NODE_ID) {
      fields.count++;
      checkFields(fields);
      continue;
    }
    nodes++;
    if (start > from) rest.push(body.bytes.subarray(from, start));
    from = body.pos;
  }
  if (body.pos > from) rest.push(body.bytes.subarray(from, body.pos));
  return nodes;
}

/** tagged is the start of a field that is so long. */
function tagged(tag: number, length: number): Uint8Array {
  const bytes = [tag];
  let left = length;
  for (; left >= 0x80; left >>>= 7) bytes.push((left & 0x7f) | 0x80);
  return Uint8Array.of(...bytes, left);
}

function* slices(bodies: readonly Span[], count: number): Generator<AttachSlice> {
  let nodeIds: string[] = [];
  let left = count;
  for (const { bytes, start, end } of bodies) {
    const reader = new Reader(bytes, start, end);
    while (!reader.done) {
      const tag = reader.tag();
      if (tag !== NODE_ID) {
        reader.skip(tag);
        continue;
      }
      nodeIds.push(sound(() => reader.string()));
      left--;
      if (nodeIds.length < SLICE_NODES || left === 0) continue;
      yield { nodeIds, last: false };
      nodeIds = [];
    }
  }
  yield { nodeIds, last: true };
}

function sound<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!isWireError(cause)) throw cause;
    throw fail("INVALID_FIELD", "the bytes are not a valid AttachExecutorRequest", { cause });
  }
}
