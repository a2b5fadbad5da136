import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { StreamOpenInit } from "#channel/call.ts";
import { checkDecoded } from "#channel/decoded-size.ts";
import { asBuffer } from "#channel/messages.ts";
import { ExecuteStreamRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type StreamOpen, StreamOpenSchema } from "#gen/foedus/common/v1/stream_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { messageOf } from "#kernel/wire/bytes.ts";
import { type Command, type CommandName, NO_VALUE, OUTCOME, type Outcome, type Reply, type Result } from "../messages.ts";
import { DEFAULT_SETTINGS } from "../settings.ts";
import { FRAME_BYTES, NO_HOPS, numbers, outcomeOf, readFailure, readTrace, writeFailure, writeTrace, writeValue } from "./codec.ts";
import { sound } from "./value.ts";
import { Reader, WireError, Writer } from "./wire.ts";

/** Callers' streams: ExecuteStreamRequest and ExecuteStreamResponse by hand, both halves. */

function readTarget(reader: Reader): readonly [string, string] {
  let hubId = "";
  let nodeId = "";
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) hubId = reader.string();
    else if (tag === 0x12) nodeId = reader.string();
    else reader.skip(tag);
  }
  return [hubId, nodeId];
}

function readCommand(reader: Reader, corr: number): Command {
  let hubId = "";
  let nodeId = "";
  let capability = "";
  let value = NO_VALUE;
  let timeoutMs = 0;
  let key = "";
  let hops: string[] | undefined;
  let trace: Reader | undefined;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) [hubId, nodeId] = readTarget(reader.sub());
    else if (tag === 0x12) capability = reader.string();
    else if (tag === 0x1a) value = reader.view();
    else if (tag === 0x20) timeoutMs = reader.uint();
    else if (tag === 0x2a) key = reader.string();
    else if (tag === 0x32) (hops ??= []).push(reader.string());
    else if (tag === 0x3a) trace = reader.sub();
    else reader.skip(tag);
  }
  return { corr, hubId, nodeId, capability, value, timeoutMs, key, hops: hops ?? NO_HOPS, trace: trace && readTrace(trace) };
}

/** StreamRequest is an ExecuteStreamRequest. */
export interface StreamRequest {
  readonly commands: Command[];
  readonly cancels: number[];
  /** In a first message, which stream of its group this is. */
  readonly open: StreamOpen | undefined;
}

function readOpen(bytes: Uint8Array): StreamOpen {
  try {
    return fromBinary(StreamOpenSchema, bytes);
  } catch (cause) {
    throw new WireError("not a StreamOpen", { cause });
  }
}

/**
 * COMMANDS_MAX is the most commands, and cancels, in one message: a stream has no more without an outcome (`pendingPerClient`). What is
 * beyond would be refused one by one, all of it in one step.
 */
export const COMMANDS_MAX = DEFAULT_SETTINGS.pendingPerClient;
/** OPENS_MAX is the most numbers of a stream in one message. The last one counts; each is read by the generated code. */
export const OPENS_MAX = 8;

/** decodeStreamRequest reads an ExecuteStreamRequest. */
export function decodeStreamRequest(bytes: Uint8Array): StreamRequest {
  checkDecoded(ExecuteStreamRequestSchema, bytes);
  const reader = new Reader(messageOf(bytes));
  const commands: Command[] = [];
  const cancels: number[] = [];
  let open: StreamOpen | undefined;
  let opens = 0;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) commands.push(readStreamCommand(reader.sub()));
    else if (tag === 0x12 || tag === 0x10) numbers(reader, tag === 0x12, cancels);
    else if (tag === 0x1a) {
      if (++opens > OPENS_MAX) throw new WireError("the stream is numbered again and again");
      open = readOpen(reader.view());
    } else reader.skip(tag);
    if (commands.length > COMMANDS_MAX || cancels.length > COMMANDS_MAX) throw new WireError("more commands than a stream may have");
  }
  return { commands, cancels, open };
}

/** A corr that comes after its command, which a writer may do, makes a second look necessary. */
function readStreamCommand(reader: Reader): Command {
  let corr = 0;
  let body: Reader | undefined;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) corr = reader.uint();
    else if (tag === 0x12) body = reader.sub();
    else reader.skip(tag);
  }
  return readCommand(body ?? new Reader(NO_VALUE), corr);
}

const stream = new Writer(64 * 1024);

/** encodeStreamOpen writes the first message of a stream: the client's half. */
export function encodeStreamOpen(open: StreamOpenInit): Buffer {
  return Buffer.from(toBinary(ExecuteStreamRequestSchema, create(ExecuteStreamRequestSchema, { stream: open })));
}

/**
 * encodeStreamRequest writes commands of a caller, as many messages as their size demands, which a command takes enough of to stay below
 * COMMANDS_MAX. Cancels go with the last, and in more after it: the client's half.
 */
export function encodeStreamRequest(commands: readonly Command[], cancels: readonly number[]): Buffer[] {
  const messages: Buffer[] = [];
  let next = 0;
  let cancelled = 0;
  do {
    stream.reset();
    while (next < commands.length && stream.length < FRAME_BYTES) writeCommand(commands[next++] as Command);
    if (next === commands.length) stream.packed(0x12, cancels.slice(cancelled, (cancelled += COMMANDS_MAX)));
    messages.push(asBuffer(stream.take()));
  } while (next < commands.length || cancelled < cancels.length);
  return messages;
}

function writeCommand(command: Command): void {
  const start = stream.open(0x0a);
  stream.uintField(0x08, command.corr);
  const inner = stream.open(0x12);
  const target = stream.open(0x0a);
  stream.stringField(0x0a, command.hubId);
  stream.stringField(0x12, command.nodeId);
  stream.close(target);
  stream.stringField(0x12, command.capability);
  writeValue(stream, 0x1a, command.value);
  stream.uintField(0x20, command.timeoutMs);
  stream.stringField(0x2a, command.key);
  for (const hop of command.hops) stream.stringField(0x32, hop);
  if (command.trace !== undefined) writeTrace(stream, 0x3a, command.trace);
  stream.close(inner);
  stream.close(start);
}

/** encodeStreamResponse writes results for a caller, as many messages as their size demands. */
export function encodeStreamResponse(replies: readonly Reply[]): Buffer[] {
  const messages: Buffer[] = [];
  for (let next = 0; next < replies.length; ) {
    stream.reset();
    while (next < replies.length && stream.length < FRAME_BYTES) writeReply(replies[next++] as Reply);
    messages.push(asBuffer(stream.take()));
  }
  return messages;
}

function writeReply(reply: Reply): void {
  const start = stream.open(0x0a);
  stream.uintField(0x08, reply.corr);
  const result = stream.open(0x12);
  stream.uintField(0x08, reply.result.outcome);
  writeValue(stream, 0x12, reply.result.value);
  if (reply.result.failure !== undefined) writeFailure(stream, 0x1a, reply.result.failure);
  if (reply.name !== undefined) writeName(reply.name);
  stream.doubleField(0x29, reply.durationMs);
  if (reply.replayed) stream.uintField(0x30, 1);
  stream.close(result);
  stream.close(start);
}

function writeName(name: CommandName): void {
  const start = stream.open(0x22);
  stream.stringField(0x0a, name.hubId);
  stream.uintField(0x10, name.epoch);
  stream.uintField(0x18, name.seq);
  stream.close(start);
}

/** ReceivedResult is a result as a client reads it. */
export interface ReceivedResult {
  readonly corr: number;
  readonly result: Result;
  readonly name: CommandName | undefined;
  readonly durationMs: number;
  readonly replayed: boolean;
}

/** decodeStreamResponse reads an ExecuteStreamResponse: the client's half. */
export function decodeStreamResponse(bytes: Uint8Array): ReceivedResult[] {
  const reader = new Reader(bytes);
  const results: ReceivedResult[] = [];
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) results.push(readStreamResult(reader.sub()));
    else reader.skip(tag);
  }
  return results;
}

function readStreamResult(reader: Reader): ReceivedResult {
  let corr = 0;
  let rest: Omit<ReceivedResult, "corr"> = {
    result: { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure: undefined },
    name: undefined,
    durationMs: 0,
    replayed: false,
  };
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) corr = reader.uint();
    else if (tag === 0x12) rest = readResult(reader.sub());
    else reader.skip(tag);
  }
  return { corr, ...rest };
}

function readResult(reader: Reader): Omit<ReceivedResult, "corr"> {
  let outcome: Outcome = OUTCOME.UNKNOWN;
  let value = NO_VALUE;
  let failure: Failure | undefined;
  let name: CommandName | undefined;
  let durationMs = 0;
  let replayed = false;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) outcome = outcomeOf(reader.enumeration());
    else if (tag === 0x12) value = reader.view();
    else if (tag === 0x1a) failure = readFailure(reader.sub());
    else if (tag === 0x22) name = readName(reader.sub());
    else if (tag === 0x29) durationMs = durationOf(reader.double());
    else if (tag === 0x30) replayed = reader.bool();
    else reader.skip(tag);
  }
  return { result: sound({ outcome, value, failure }), name, durationMs, replayed };
}

/** durationOf is a time that passed, and 0 for a number that is none. */
function durationOf(ms: number): number {
  return Number.isFinite(ms) && ms > 0 ? ms : 0;
}

function readName(reader: Reader): CommandName {
  let hubId = "";
  let epoch = 0;
  let seq = 0;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) hubId = reader.string();
    else if (tag === 0x10) epoch = reader.uint();
    else if (tag === 0x18) seq = reader.uint();
    else reader.skip(tag);
  }
  return { hubId, epoch, seq };
}
