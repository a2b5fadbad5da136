import { type Message, type Part, type StreamResponse, type Task, TaskState, type TaskStatus } from "@a2a-js/sdk";
import type { ExecutorAnswer, Failure, PlainValue } from "../../clients/typescript/index.ts";
import { clipped } from "./card.ts";

/** Bytes of what an agent answers, as text, and as JSON. */
const TEXT_MAX_BYTES = 4_096;
const JSON_MAX_BYTES = 16_384;
/** Parts of an answer that are kept. */
const PARTS_MAX = 256;

/** Heard is what an agent has said so far to a message. */
export interface Heard {
  readonly taskId: string;
  readonly contextId: string;
  /** Undefined: no task, or none yet. */
  readonly state: TaskState | undefined;
  /** What it says about the state. */
  readonly says: string;
  readonly parts: readonly Part[];
  /** It answered with a message, and there is no task. */
  readonly message: boolean;
}

/** NOTHING_HEARD is the beginning. */
export const NOTHING_HEARD: Heard = { taskId: "", contextId: "", state: undefined, says: "", parts: [], message: false };

const TERMINAL: ReadonlySet<TaskState> = new Set([
  TaskState.TASK_STATE_COMPLETED,
  TaskState.TASK_STATE_FAILED,
  TaskState.TASK_STATE_CANCELED,
  TaskState.TASK_STATE_REJECTED,
  // What waits for more than one message cannot go on here.
  TaskState.TASK_STATE_INPUT_REQUIRED,
  TaskState.TASK_STATE_AUTH_REQUIRED,
]);

/** textOf is the text in the parts of a message. */
export function textOf(parts: readonly Part[] | undefined): string {
  return (parts ?? []).flatMap(({ content }) => (content?.$case === "text" ? [content.value] : [])).join("\n");
}

const partsOfTask = (task: Task): Part[] => (task.artifacts ?? []).flatMap(({ parts }) => parts ?? []);

function withStatus(heard: Heard, status: TaskStatus | undefined): Heard {
  return status === undefined ? heard : { ...heard, state: status.state, says: clipped(textOf(status.message?.parts), 512) };
}

function ofTask(heard: Heard, task: Task): Heard {
  return withStatus({ ...heard, taskId: task.id, contextId: task.contextId, parts: partsOfTask(task).slice(0, PARTS_MAX) }, task.status);
}

const ofMessage = (heard: Heard, { contextId, parts }: Message): Heard => ({
  ...heard,
  contextId,
  parts: (parts ?? []).slice(0, PARTS_MAX),
  message: true,
});

/** hear adds what an agent says to what it has said. */
export function hear(heard: Heard, { payload }: StreamResponse): Heard {
  switch (payload?.$case) {
    case "message":
      return ofMessage(heard, payload.value);
    case "task":
      return ofTask(heard, payload.value);
    case "statusUpdate":
      return withStatus({ ...heard, taskId: payload.value.taskId, contextId: payload.value.contextId }, payload.value.status);
    case "artifactUpdate": {
      const parts = [...heard.parts, ...(payload.value.artifact?.parts ?? [])].slice(0, PARTS_MAX);
      return { ...heard, taskId: payload.value.taskId, contextId: payload.value.contextId, parts };
    }
    default:
      return heard;
  }
}

/** isOver tells whether an agent will say no more. */
export function isOver({ message, state }: Heard): boolean {
  return message || (state !== undefined && TERMINAL.has(state));
}

/** stateWord names a state: TASK_STATE_WORKING is "working". */
export function stateWord(state: TaskState | undefined): string {
  const name = state === undefined ? undefined : TaskState[state];
  return (name ?? "TASK_STATE_UNKNOWN").slice("TASK_STATE_".length).toLowerCase().replaceAll("_", "-");
}

/** progressOf is what the node's state `task` shows, in JSON. */
export function progressOf({ taskId, state, says }: Heard): string {
  return JSON.stringify({ task: clipped(taskId, 127), state: stateWord(state), says });
}

/** valueOf is what an agent answered: text, or JSON where there is more than text or more of it than a text may have. */
export function valueOf({ parts }: Pick<Heard, "parts">): PlainValue {
  const text = textOf(parts);
  const data = parts.flatMap(({ content }) => (content?.$case === "data" ? [content.value as unknown] : []));
  const files = parts.filter(({ content }) => content?.$case === "raw" || content?.$case === "url").length;
  if (data.length + files === 0 && Buffer.byteLength(text) <= TEXT_MAX_BYTES) return text;
  const whole = JSON.stringify({ text, ...(data.length > 0 ? { data } : {}), ...(files > 0 ? { files_left_out: files } : {}) });
  if (Buffer.byteLength(whole) <= JSON_MAX_BYTES) return { json: whole };
  // Each byte of a text may become six of JSON.
  return { json: JSON.stringify({ text: clipped(text, (JSON_MAX_BYTES - 256) / 6), cut: true }) };
}

const failed = (reason: Failure["reason"], message: string): ExecutorAnswer => ({ failure: { reason, message } });

/** LOST is the answer to a command whose message went out, and of which nothing came back that tells what became of it. */
export const LOST: ExecutorAnswer = failed("OUTCOME_UNKNOWN", "the connection to the agent ended before its answer");

/** answerOf is what becomes of a command when an agent has said all that it says. */
export function answerOf(heard: Heard): ExecutorAnswer {
  if (heard.message) return { value: valueOf(heard) };
  const says = heard.says === "" ? "" : `: ${heard.says}`;
  switch (heard.state) {
    case TaskState.TASK_STATE_COMPLETED:
      return { value: heard.parts.length === 0 && heard.says !== "" ? heard.says : valueOf(heard) };
    case TaskState.TASK_STATE_REJECTED:
      return failed("CAPABILITY_ACCESS", `the agent rejected the task${says}`);
    case TaskState.TASK_STATE_CANCELED:
      return failed("EXECUTOR_FAILED", `the task was cancelled${says}`);
    case TaskState.TASK_STATE_FAILED:
      return failed("EXECUTOR_FAILED", `the agent failed${says}`);
    case TaskState.TASK_STATE_INPUT_REQUIRED:
      return failed("EXECUTOR_FAILED", `the agent asks for more before it goes on${says}`);
    case TaskState.TASK_STATE_AUTH_REQUIRED:
      return failed("EXECUTOR_FAILED", `the agent asks for credentials before it goes on${says}`);
    default:
      return LOST;
  }
}
