import { checkDecoded, decodeChecked } from "#channel/decoded-size.ts";
import { failureFromProto } from "#channel/failure.ts";
import { asBuffer } from "#channel/messages.ts";
import {
  AttachExecutorRequestSchema,
  AttachExecutorResponseSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { Failure } from "#kernel/error.ts";
import type { TraceContext } from "#kernel/trace-context.ts";
import { messageOf } from "#kernel/wire/bytes.ts";
import { NO_VALUE, type Task, type TaskReport } from "../messages.ts";
import { FRAME_BYTES, readFailure, readTrace, writeFailure, writeTrace, writeValue } from "./codec.ts";
import { Reader, WireError, Writer } from "./wire.ts";

/** Executors' streams: the hot frames of AttachExecutor by hand, both halves. */
const stream = new Writer(64 * 1024);

/** encodeTasks writes AttachExecutorResponses with tasks, as many as the size of a message demands. */
export function encodeTasks(tasks: readonly Task[], mono: number): Buffer[] {
  const messages: Buffer[] = [];
  for (let next = 0; next < tasks.length; ) {
    stream.reset();
    const frame = stream.open(0x12);
    while (next < tasks.length && stream.length < FRAME_BYTES) writeTask(tasks[next++] as Task, mono);
    stream.close(frame);
    messages.push(asBuffer(stream.take()));
  }
  return messages;
}

function writeTask(task: Task, mono: number): void {
  const start = stream.open(0x0a);
  stream.uintField(0x08, task.taskId);
  stream.stringField(0x12, task.nodeId);
  stream.stringField(0x1a, task.capability);
  writeValue(stream, 0x22, task.value);
  stream.uintField(0x28, Math.max(0, Math.ceil(task.deadline - mono)));
  stream.stringField(0x32, task.callerHubId);
  if (task.trace !== undefined) writeTrace(stream, 0x3a, task.trace);
  stream.uintField(0x40, task.agentFence ?? 0);
  stream.close(start);
}

/** REPORTS_MAX is the most results in one message: no executor has more tasks in hand. */
export const REPORTS_MAX = 4_096;

/** decodeReports reads the results in an AttachExecutorRequest; undefined if it is another frame. */
export function decodeReports(bytes: Uint8Array): TaskReport[] | undefined {
  checkDecoded(AttachExecutorRequestSchema, bytes);
  const reader = new Reader(messageOf(bytes));
  if (reader.done || reader.tag() !== 0x12) return undefined;
  const frame = reader.sub();
  if (!reader.done) return undefined;
  const reports: TaskReport[] = [];
  while (!frame.done) {
    const tag = frame.tag();
    if (tag !== 0x0a) frame.skip(tag);
    else if (reports.push(readReport(frame.sub())) > REPORTS_MAX) throw new WireError("more results than an executor has tasks");
  }
  return reports;
}

function readReport(reader: Reader): TaskReport {
  let taskId = 0;
  let value = NO_VALUE;
  let failure: Reader | undefined;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) taskId = reader.uint();
    else if (tag === 0x12) value = reader.view();
    else if (tag === 0x1a) failure = reader.sub();
    else reader.skip(tag);
  }
  return { taskId, value, failure: failure && readFailure(failure) };
}

/** encodeReports writes AttachExecutorRequests with results, as many as the size of a message demands: the executor's half. */
export function encodeReports(reports: readonly TaskReport[]): Buffer[] {
  const messages: Buffer[] = [];
  for (let next = 0; next < reports.length; ) {
    stream.reset();
    const frame = stream.open(0x12);
    while (next < reports.length && stream.length < FRAME_BYTES) writeReport(reports[next++] as TaskReport);
    stream.close(frame);
    messages.push(asBuffer(stream.take()));
  }
  return messages;
}

function writeReport(report: TaskReport): void {
  const start = stream.open(0x0a);
  stream.uintField(0x08, report.taskId);
  writeValue(stream, 0x12, report.value);
  if (report.failure !== undefined) writeFailure(stream, 0x1a, report.failure);
  stream.close(start);
}

/** ReceivedTask is a task as an executor reads it. */
export interface ReceivedTask {
  readonly taskId: number;
  readonly nodeId: string;
  readonly capability: string;
  readonly value: Uint8Array;
  readonly timeoutMs: number;
  readonly callerHubId: string;
  readonly trace?: TraceContext | undefined;
  readonly agentFence: number;
}

/** TaskFrame is an AttachExecutorResponse as an executor reads it. */
export type TaskFrame =
  | { readonly kind: "tasks"; readonly tasks: readonly ReceivedTask[] }
  | { readonly kind: "attached"; readonly nodes: number; readonly refused: readonly Failure[] }
  | { readonly kind: "cancel"; readonly taskId: number }
  | { readonly kind: "detached"; readonly failure: Failure }
  | { readonly kind: "other" };

/** decodeTaskFrame reads an AttachExecutorResponse: the executor's half. */
export function decodeTaskFrame(bytes: Uint8Array): TaskFrame {
  const reader = new Reader(bytes);
  if (!reader.done && reader.tag() === 0x12) return { kind: "tasks", tasks: readTasks(reader.sub()) };
  const { frame } = decodeChecked(AttachExecutorResponseSchema, bytes);
  switch (frame.case) {
    case "attached":
      return { kind: "attached", nodes: frame.value.nodes, refused: frame.value.refused.map(failureFromProto) };
    case "cancel":
      return { kind: "cancel", taskId: Number(frame.value.taskId) };
    case "detached":
      return { kind: "detached", failure: frame.value.failure === undefined ? NO_REASON : failureFromProto(frame.value.failure) };
    default:
      return { kind: "other" };
  }
}

const NO_REASON: Failure = { reason: "INTERNAL", message: "detached without a reason" };

function readTasks(reader: Reader): ReceivedTask[] {
  const tasks: ReceivedTask[] = [];
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) tasks.push(readTask(reader.sub()));
    else reader.skip(tag);
  }
  return tasks;
}

function readTask(reader: Reader): ReceivedTask {
  let taskId = 0;
  let nodeId = "";
  let capability = "";
  let value = NO_VALUE;
  let timeoutMs = 0;
  let callerHubId = "";
  let trace: TraceContext | undefined;
  let agentFence = 0;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) taskId = reader.uint();
    else if (tag === 0x12) nodeId = reader.string();
    else if (tag === 0x1a) capability = reader.string();
    else if (tag === 0x22) value = reader.view();
    else if (tag === 0x28) timeoutMs = reader.uint();
    else if (tag === 0x32) callerHubId = reader.string();
    else if (tag === 0x3a) trace = readTrace(reader.sub());
    else if (tag === 0x40) agentFence = reader.uint();
    else reader.skip(tag);
  }
  return { taskId, nodeId, capability, value, timeoutMs, callerHubId, trace, agentFence };
}
