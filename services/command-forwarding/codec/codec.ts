import { create, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { failureToProto } from "#channel/failure.ts";
import { asBuffer, useDecoder } from "#channel/messages.ts";
import {
  type CommandResult,
  CommandResultSchema,
  type CommandName as ProtoName,
  type TraceContext as ProtoTrace,
} from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import {
  type Invocations,
  type Results,
  type SessionFrame,
  SessionFrameSchema,
  SessionRequestSchema,
  SessionResponseSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { ErrorReasonSchema } from "#gen/foedus/common/v1/error_pb.ts";
import { type Value, ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { type Failure, REASONS, type Reason } from "#kernel/error.ts";
import { formatParent, parseTrace, type TraceContext } from "#kernel/trace-context.ts";
import { messageOf } from "#kernel/wire/bytes.ts";
import {
  type Answer,
  type CommandName,
  FLOOR_END,
  type Invocation,
  type InvocationsFrame,
  NO_VALUE,
  NUMBER_END,
  OUTCOME,
  type Outcome,
  type ReceivedInvocation,
  type Reply,
  type ResultsFrame,
  TIMEOUT_END,
} from "../messages.ts";
import { sound } from "./value.ts";
import { CountError, FieldError, Reader, WireError, Writer } from "./wire.ts";

/*
 * The hot messages are read and written by hand, field by field as in the schema; property tests compare every one with the
 * generated code. A tag is field number << 3 | wire type (0 varint, 2 length).
 */

/** FRAME_BYTES is the size at which frames and messages of streams are closed; one item more is at most a value and its names. */
export const FRAME_BYTES = LIMITS.frameBytes - 24 * 1024;
/**
 * FRAME_ITEMS_MAX is how many commands, or results, one frame may have. Each costs the same however short it is, and without a bound six
 * bytes each would hold up everybody else for as long as ten ordinary frames do.
 */
export const FRAME_ITEMS_MAX = 16_384;
/** CANCELS_MAX is how many cancels one frame may have: as many as commands may be pending for a peer, whatever its configuration. */
export const CANCELS_MAX = 65_536;
/** ACK_PAIRS_MAX is how many pairs of acknowledged positions one frame may have: twice as many as outcomes are kept for one hub. */
export const ACK_PAIRS_MAX = 32_768;
const MESSAGE_MAX_CHARS = 512;

const NUMBER_OF = new Map<string, number>(ErrorReasonSchema.values.map((value) => [value.name.replace("ERROR_REASON_", ""), value.number]));
const REASON_OF = new Map<number, Reason>(REASONS.map((reason) => [NUMBER_OF.get(reason) ?? 0, reason]));

/** valueBytes and valueOf turn a Value into the bytes that travel, and back. */
export function valueBytes(value: Value | undefined): Uint8Array {
  return value === undefined ? NO_VALUE : toBinary(ValueSchema, value);
}

export function valueOf(bytes: Uint8Array): Value | undefined {
  return bytes.length === 0 ? undefined : fromBinary(ValueSchema, bytes);
}

export function writeFailure(writer: Writer, tag: number, failure: Failure): void {
  const start = writer.open(tag);
  writer.uintField(0x08, NUMBER_OF.get(failure.reason) ?? 0);
  writer.stringField(0x12, failure.message.slice(0, MESSAGE_MAX_CHARS).toWellFormed());
  writer.stringField(0x1a, (failure.field ?? "").slice(0, MESSAGE_MAX_CHARS).toWellFormed());
  writer.close(start);
}

/** clipped is a text as long as it may travel; a copy, because a part of a text keeps all of it in memory. */
function clipped(text: string): string {
  return text.length <= MESSAGE_MAX_CHARS ? text : Buffer.from(text.slice(0, MESSAGE_MAX_CHARS)).toString();
}

export function readFailure(reader: Reader): Failure {
  let number = 0;
  let message = "";
  let field = "";
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) number = reader.enumeration();
    else if (tag === 0x12) message = clipped(reader.string());
    else if (tag === 0x1a) field = clipped(reader.string());
    else reader.skip(tag);
  }
  const reason = REASON_OF.get(number);
  return {
    reason: reason ?? "INTERNAL",
    message,
    ...(field === "" ? {} : { field }),
    ...(reason === undefined ? { facts: { reason: String(number) } } : {}),
  };
}

export function writeValue(writer: Writer, tag: number, value: Uint8Array): void {
  if (value.length === 0) return;
  writer.uint(tag);
  writer.bytes(value);
}

/** writeTrace writes a TraceContext; callers ask first whether there is one, so that a command without costs one comparison. */
export function writeTrace(writer: Writer, tag: number, trace: TraceContext): void {
  const start = writer.open(tag);
  writer.stringField(0x0a, formatParent(trace));
  writer.stringField(0x12, trace.state);
  writer.close(start);
}

/** readTrace reads a TraceContext; undefined if it is malformed, as if there were none. */
export function readTrace(reader: Reader): TraceContext | undefined {
  let parent = "";
  let state = "";
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) parent = reader.string();
    else if (tag === 0x12) state = reader.string();
    else reader.skip(tag);
  }
  return parseTrace(parent, state);
}

/** numbers reads one element of a repeated number field, packed or not. */
export function numbers(reader: Reader, packed: boolean, into: number[]): void {
  if (!packed) return void into.push(reader.uint());
  for (const inner = reader.sub(); !inner.done; ) into.push(inner.uint());
}

/** positions is `numbers` for positions in a journal. */
function positions(reader: Reader, packed: boolean, into: number[], field: string): void {
  if (!packed) return void into.push(reader.below(NUMBER_END, field));
  for (const inner = reader.sub(); !inner.done; ) into.push(inner.below(NUMBER_END, field));
}

// --- session frames -----------------------------------------------------------------------------------------------------------

/** InvocationsHead is what frames to one owner have in common. */
export type InvocationsHead = Omit<InvocationsFrame, "items" | "cancels" | "acks">;

const session = new Writer(64 * 1024);

/** Envelope and frame are open while a session message is written. */
function openFrame(field: 0x12 | 0x1a): readonly [number, number, number] {
  session.reset();
  const a = session.open(0x0a);
  const b = session.open(field);
  return [a, b, session.length];
}

function closeFrame([a, b]: readonly [number, number, number]): Buffer {
  session.close(b);
  session.close(a);
  return asBuffer(session.take());
}

/** encodeInvocations writes commands as session messages, as many as the size of a frame demands. `mono` turns deadlines into what is left. */
export function encodeInvocations(
  head: InvocationsHead,
  acks: readonly number[],
  items: readonly Invocation[],
  cancels: readonly number[],
  mono: number,
): Buffer[] {
  const frames: Buffer[] = [];
  let next = 0;
  let acked = 0;
  let cancelled = 0;
  do {
    const open = openFrame(0x12);
    session.uintField(0x08, head.epoch);
    session.uintField(0x10, head.ackedBelow);
    const end = Math.min(items.length, next + FRAME_ITEMS_MAX);
    for (; next < end && session.length < FRAME_BYTES; next++) writeInvocation(items[next] as Invocation, mono);
    session.uintField(0x28, head.ownerEpoch);
    // Pairs stay together.
    acked = session.packedUpTo(0x32, acks, acked, 2, FRAME_BYTES);
    session.uintField(0x38, head.ownerPosition);
    // Cancels name commands of this frame or of earlier ones.
    if (next === items.length) cancelled = session.packedUpTo(0x22, cancels, cancelled, 1, FRAME_BYTES);
    frames.push(closeFrame(open));
  } while (next < items.length || acked < acks.length || cancelled < cancels.length);
  return frames;
}

function writeInvocation(item: Invocation, mono: number): void {
  const start = session.open(0x1a);
  session.uintField(0x08, item.seq);
  session.stringField(0x12, item.nodeId);
  session.stringField(0x1a, item.capability);
  writeValue(session, 0x22, item.value);
  session.uintField(0x28, Math.max(0, Math.ceil(item.deadline - mono)));
  if (item.retry) session.uintField(0x30, 1);
  for (const hop of item.hops) session.stringField(0x3a, hop);
  if (item.trace !== undefined) writeTrace(session, 0x42, item.trace);
  session.close(start);
}

/** encodeResults writes outcomes as session messages; without any it writes the greeting. */
export function encodeResults(head: Omit<ResultsFrame, "items">, items: readonly Answer[]): Buffer[] {
  const frames: Buffer[] = [];
  let next = 0;
  do {
    const open = openFrame(0x1a);
    session.uintField(0x08, head.epoch);
    session.uintField(0x10, head.ownerEpoch);
    const end = Math.min(items.length, next + FRAME_ITEMS_MAX);
    for (; next < end && session.length < FRAME_BYTES; next++) writeAnswer(items[next] as Answer);
    session.uintField(0x20, head.ownerPosition);
    frames.push(closeFrame(open));
  } while (next < items.length);
  return frames;
}

function writeAnswer(item: Answer): void {
  const start = session.open(0x1a);
  session.uintField(0x08, item.seq);
  session.uintField(0x10, item.result.outcome);
  writeValue(session, 0x1a, item.result.value);
  if (item.result.failure !== undefined) writeFailure(session, 0x22, item.result.failure);
  if (item.late) session.uintField(0x28, 1);
  session.close(start);
}

/** Of a message that is set once the last one counts, and only that is read: a frame may repeat it half a million times. */
function readInvocation(reader: Reader): ReceivedInvocation {
  let seq = 0;
  let nodeId = "";
  let capability = "";
  let value = NO_VALUE;
  let timeoutMs = 0;
  let retry = false;
  let hops: string[] | undefined;
  let trace: Reader | undefined;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) seq = reader.below(NUMBER_END, "invocations.invocations.seq");
    else if (tag === 0x12) nodeId = reader.string();
    else if (tag === 0x1a) capability = reader.string();
    else if (tag === 0x22) value = reader.view();
    else if (tag === 0x28) timeoutMs = reader.below(TIMEOUT_END, "invocations.invocations.timeout_ms");
    else if (tag === 0x30) retry = reader.bool();
    else if (tag === 0x3a) (hops ??= []).push(reader.string());
    else if (tag === 0x42) trace = reader.sub();
    else reader.skip(tag);
  }
  // Two bytes of an empty one cost as much as a command: the frame is refused at the first.
  if (nodeId === "" || capability === "") throw new WireError("an invocation names no node or capability");
  return { seq, nodeId, capability, value, timeoutMs, retry, hops: hops ?? NO_HOPS, trace: trace && readTrace(trace) };
}

export const NO_HOPS: readonly string[] = [];

/** decodeInvocations reads an Invocations message; a number that can mean nothing is a FieldError. */
export function decodeInvocations(reader: Reader): InvocationsFrame {
  const items: ReceivedInvocation[] = [];
  const cancels: number[] = [];
  const acks: number[] = [];
  let epoch = 0;
  let ackedBelow = 0;
  let ownerEpoch = 0;
  let ownerPosition = 0;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x1a) {
      if (items.push(readInvocation(reader.sub())) > FRAME_ITEMS_MAX) throw new CountError("invocations.invocations", FRAME_ITEMS_MAX);
    } else if (tag === 0x08) epoch = reader.below(NUMBER_END, "invocations.epoch");
    else if (tag === 0x10) ackedBelow = reader.below(FLOOR_END, "invocations.acked_below");
    else if (tag === 0x22 || tag === 0x20) positions(reader, tag === 0x22, cancels, "invocations.cancels");
    else if (tag === 0x28) ownerEpoch = reader.below(NUMBER_END, "invocations.owner_epoch");
    else if (tag === 0x32 || tag === 0x30) positions(reader, tag === 0x32, acks, "invocations.acks");
    else if (tag === 0x38) ownerPosition = reader.below(NUMBER_END, "invocations.owner_position");
    else reader.skip(tag);
  }
  if (cancels.length > CANCELS_MAX) throw new CountError("invocations.cancels", CANCELS_MAX);
  if (acks.length > 2 * ACK_PAIRS_MAX) throw new CountError("invocations.acks", 2 * ACK_PAIRS_MAX);
  return { epoch, ackedBelow, acks, items, cancels, ownerEpoch, ownerPosition };
}

export function outcomeOf(number: number): Outcome {
  return number >= OUTCOME.DONE && number <= OUTCOME.UNKNOWN ? (number as Outcome) : OUTCOME.UNKNOWN;
}

function readAnswer(reader: Reader): Answer {
  let seq = 0;
  let outcome: Outcome = OUTCOME.UNKNOWN;
  let value = NO_VALUE;
  let failure: Reader | undefined;
  let late = false;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) seq = reader.below(NUMBER_END, "results.results.seq");
    else if (tag === 0x10) outcome = outcomeOf(reader.enumeration());
    else if (tag === 0x1a) value = reader.view();
    else if (tag === 0x22) failure = reader.sub();
    else if (tag === 0x28) late = reader.bool();
    else reader.skip(tag);
  }
  return { seq, result: sound({ outcome, value, failure: failure && readFailure(failure) }), late, trace: undefined };
}

/** decodeResults reads a Results message, as `decodeInvocations` does. */
export function decodeResults(reader: Reader): ResultsFrame {
  const items: Answer[] = [];
  let epoch = 0;
  let ownerEpoch = 0;
  let ownerPosition = 0;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x1a) {
      if (items.push(readAnswer(reader.sub())) > FRAME_ITEMS_MAX) throw new CountError("results.results", FRAME_ITEMS_MAX);
    } else if (tag === 0x08) epoch = reader.below(NUMBER_END, "results.epoch");
    else if (tag === 0x10) ownerEpoch = reader.below(NUMBER_END, "results.owner_epoch");
    else if (tag === 0x20) ownerPosition = reader.below(NUMBER_END, "results.owner_position");
    else reader.skip(tag);
  }
  return { epoch, ownerEpoch, ownerPosition, items };
}

/** BadFrame stands in the place of a frame that cannot be meant. */
class BadFrame {
  readonly failure: Failure;

  constructor(error: FieldError | CountError) {
    const { message, field } = error;
    this.failure =
      error instanceof FieldError
        ? { reason: "INVALID_FIELD", message, field }
        : { reason: "LIMIT_EXCEEDED", message, field, facts: { limit: field, max: String(error.most) } };
  }
}

/** readBody gives a BadFrame for a number that can mean nothing, and for a list that is too long, so that the session can end with the field's name. */
function readBody<F>(read: (reader: Reader) => F, body: Reader): F | BadFrame {
  try {
    return read(body);
  } catch (error) {
    if (error instanceof FieldError || error instanceof CountError) return new BadFrame(error);
    throw error;
  }
}

/** checkFrame tells what is wrong with a frame that `sessionDecoder` read; undefined for nothing. */
export function checkFrame({ frame }: SessionFrame): Failure | undefined {
  const read: unknown = frame.value;
  if (read instanceof BadFrame) return read.failure;
  // What the generated code made of a frame in pieces is of another shape than what is read by hand.
  const generated = typeof read === "object" && read !== null && "$typeName" in read;
  return generated && frame.case !== "control" ? IN_PIECES : undefined;
}

const IN_PIECES: Failure = { reason: "INVALID_FIELD", message: "the frame comes in pieces; send it as one", field: "frame" };

/**
 * sessionDecoder reads our own frames by hand and leaves the common ones to the generated code. The frames' values are then
 * an InvocationsFrame or a ResultsFrame, unless `checkFrame` says otherwise; `invocationsIn` and `resultsIn` get them out again.
 */
function sessionDecoder(typeName: string): (bytes: Uint8Array) => Message | undefined {
  return (bytes) => {
    const frame = last(new Reader(messageOf(bytes)), isFrame);
    const found = frame === undefined ? undefined : last(frame.body, isMember);
    if (found === undefined || found.tag === CONTROL) return undefined;
    const inner =
      found.tag === INVOCATIONS
        ? { case: "invocations", value: readBody(decodeInvocations, found.body) }
        : { case: "results", value: readBody(decodeResults, found.body) };
    return { $typeName: typeName, frame: { $typeName: SessionFrameSchema.typeName, frame: inner } } as unknown as Message;
  };
}

/** Tags of SessionFrame.control, .invocations and .results. */
const CONTROL = 0x0a;
const INVOCATIONS = 0x12;
const RESULTS = 0x1a;

const isFrame = (tag: number): boolean => tag === 0x0a;
const isMember = (tag: number): boolean => tag === CONTROL || tag === INVOCATIONS || tag === RESULTS;

/** last finds the last of certain messages, which counts if there are several. Other fields are passed over: a later version may have more. */
function last(reader: Reader, wanted: (tag: number) => boolean): { readonly tag: number; readonly body: Reader } | undefined {
  let found: { readonly tag: number; readonly body: Reader } | undefined;
  while (!reader.done) {
    const tag = reader.tag();
    if (wanted(tag)) found = { tag, body: reader.sub() };
    else reader.skip(tag);
  }
  return found;
}

/** installSessionDecoder makes both ends of sessions in this process read our frames by hand. */
export function installSessionDecoder(): void {
  for (const schema of [SessionRequestSchema, SessionResponseSchema]) useDecoder(schema, sessionDecoder(schema.typeName));
}

/** invocationsIn gives what `sessionDecoder` put into a frame. */
export function invocationsIn(value: Invocations): InvocationsFrame {
  return value as unknown as InvocationsFrame;
}

export function resultsIn(value: Results): ResultsFrame {
  return value as unknown as ResultsFrame;
}

// --- unary calls --------------------------------------------------------------------------------------------------------------

/** resultToProto writes a result for a unary answer. */
export function resultToProto(reply: Pick<Reply, "result" | "name" | "durationMs" | "replayed">): CommandResult {
  const { result, name, durationMs, replayed } = reply;
  const value = valueOf(result.value);
  return create(CommandResultSchema, {
    outcome: result.outcome,
    durationMs,
    replayed,
    ...(value === undefined ? {} : { value }),
    ...(result.failure === undefined ? {} : { failure: failureToProto(result.failure) }),
    ...(name === undefined ? {} : { name: { hubId: name.hubId, epoch: BigInt(name.epoch), seq: BigInt(name.seq) } }),
  });
}

/** traceFromProto reads a TraceContext; undefined if there is none or it is malformed. */
export function traceFromProto(trace: ProtoTrace | undefined): TraceContext | undefined {
  return trace === undefined ? undefined : parseTrace(trace.traceparent, trace.tracestate);
}

/** nameFromProto reads a CommandName; a number beyond 2^53 names nothing that we gave. */
export function nameFromProto(name: ProtoName): CommandName {
  return { hubId: name.hubId, epoch: Number(name.epoch), seq: Number(name.seq) };
}

/** isWireError tells malformed bytes from other errors. */
export function isWireError(error: unknown): boolean {
  return error instanceof WireError;
}
