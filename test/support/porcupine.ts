// Linearizability of a history, judged by a program that knows nothing of this project: `tools/porcupine`.
import { spawnSync } from "node:child_process";
import { tool } from "./tools.ts";

/** PORCUPINE is the program; without it nothing can be judged. */
export const PORCUPINE = tool("porcupine");

/** Times of an operation, ns of one clock, and who did it. */
interface Timed {
  readonly client: number | string;
  readonly call_ns: number;
  /** null if nobody knows what became of it: it may take effect at any later time, or never. */
  readonly return_ns: number | null;
  /** Each key is a register of its own, absent (null) at first. */
  readonly key: string;
}

/** HistoryOp is one operation of one client. What was refused for certain is left out of a history. */
export type HistoryOp = Timed &
  (
    | { readonly op: "read"; readonly result: string | null }
    | { readonly op: "write"; readonly value: string }
    /** Writes `value` if the key has `expect`; `result` says whether it did. */
    | { readonly op: "cas"; readonly expect: string | null; readonly value: string; readonly result: boolean }
  );

/** HistoryVerdict is what the program says. */
export interface HistoryVerdict {
  /** `unknown`: the time did not suffice. */
  readonly verdict: "linearizable" | "not" | "unknown";
  readonly operations: number;
  readonly unknown_outcomes: number;
  readonly keys: number;
  /** Keys whose history has no order. */
  readonly at_fault?: readonly string[];
  readonly undecided?: readonly string[];
  readonly ms: number;
}

/** Judging is how a history is judged. */
export interface Judging {
  /** Default 30 s, for all keys together. */
  readonly timeoutMs?: number;
  /** Where a picture of the keys at fault is written, HTML. */
  readonly picture?: string;
}

const GRACE_MS = 10_000;

/** judgeHistory tells whether a history is linearizable. Throws what the program says of a history that it cannot read. */
export function judgeHistory(history: readonly HistoryOp[], { timeoutMs = 30_000, picture }: Judging = {}): HistoryVerdict {
  const input = history.map((one) => `${JSON.stringify(one)}\n`).join("");
  const drawing = picture === undefined ? [] : [`--html=${picture}`];
  const { status, stdout, stderr, error } = spawnSync(PORCUPINE.path, [`--timeout=${timeoutMs}ms`, ...drawing], {
    input,
    encoding: "utf8",
    timeout: timeoutMs + GRACE_MS,
    maxBuffer: 16 << 20,
  });
  if (error !== undefined) throw error;
  const verdict = status === null || status > 2 ? undefined : (JSON.parse(stdout) as HistoryVerdict);
  if (verdict === undefined || ["linearizable", "not", "unknown"].indexOf(verdict.verdict) !== status)
    throw new Error(`porcupine ended with ${status}: ${stderr.trim()}`);
  return verdict;
}
