import type { Observe, Persist } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { TailRow } from "./log/event-log.ts";
import type { Part, Wanted } from "./log/part.ts";

/** SeverityGrade is a grade of severity, as the numbers of the schema: DEBUG 1 to ERROR 4. */
export type SeverityGrade = 1 | 2 | 3 | 4;

/** HappeningReport is a report of something that happened, before it has a position. */
export interface HappeningReport {
  readonly wallMs: number;
  /** Number of the schema's EventKind. */
  readonly kind: number;
  readonly severity: SeverityGrade;
  readonly service: string;
  readonly peer: string;
  readonly node: string;
  readonly text: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** LinkCount is one service's counters of one link; the names are those of the schema's LinkReport. */
export interface LinkCount {
  readonly peer: string;
  readonly service: string;
  readonly mount: string;
  readonly framesIn: number;
  readonly framesOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly ready: number;
  readonly backpressure: number;
  readonly fatal: number;
  readonly waiting: boolean;
  readonly lastEvent: string;
  readonly lastFrameAgeMs: number;
}

/** HappeningFilter selects; all that is set must match. */
export interface HappeningFilter {
  readonly kinds: readonly number[];
  readonly minSeverity: number;
  readonly peer: string;
  readonly node: string;
  /** Those below are about commands, but for the times. */
  readonly caller: string;
  readonly outcomes: readonly number[];
  readonly sinceMs: number;
  /** 0 for no end. */
  readonly untilMs: number;
  readonly command: string;
}

/** AuditBatch is records of the audit of commands as they came: an event for each. */
export interface AuditBatch {
  readonly epoch: number;
  readonly first: number;
  readonly bytes: Uint8Array;
  readonly part: Part;
  /** How many of them are warnings. */
  readonly warnings: number;
}

/** Input of the core. `call` and `watch` are numbers that the shell gave. */
export type Input =
  | {
      readonly kind: "report";
      readonly call: number;
      readonly service: string;
      readonly events: readonly HappeningReport[];
      readonly links: readonly LinkCount[] | undefined;
      readonly dropped: number;
    }
  | { readonly kind: "copy"; readonly call: number; readonly batches: readonly AuditBatch[] }
  | { readonly kind: "list"; readonly call: number; readonly wanted: Wanted; readonly beforeSeq: number }
  | { readonly kind: "links"; readonly call: number }
  /** `caller` names who watches: nobody gets more than a part of the streams. */
  | {
      readonly kind: "watch";
      readonly watch: number;
      readonly caller: string;
      readonly wanted: Wanted;
      readonly fromSeq: number;
    }
  | { readonly kind: "watch_ready"; readonly watch: number }
  /** The store began to refuse, or accepts again. */
  | { readonly kind: "stored"; readonly ok: boolean; readonly failure: Failure | undefined }
  | { readonly kind: "start" }
  | { readonly kind: "watch_end"; readonly watch: number };

/** Output that leaves the core through the gate. */
export type Output =
  | { readonly kind: "reported"; readonly call: number }
  /** Nothing of the report is kept; its reporter keeps it. */
  | { readonly kind: "declined"; readonly call: number; readonly failure: Failure }
  /** The last record of the audit that is kept. */
  | { readonly kind: "copied"; readonly call: number; readonly epoch: number; readonly number: number }
  /** Where events may be that are asked for: rows and segments, the newest first. What is older than `sinceMs` is not shown. */
  | {
      readonly kind: "listed";
      readonly call: number;
      readonly rows: readonly TailRow[];
      readonly segments: readonly number[];
      readonly sinceMs: number;
    }
  | { readonly kind: "linked"; readonly call: number; readonly links: readonly LinkCount[] }
  | {
      readonly kind: "push";
      readonly watch: number;
      /** Where the events are, from `fromSeq` on: rows of the tail, or a segment. */
      readonly rows: readonly TailRow[];
      readonly segment: number | undefined;
      readonly fromSeq: number;
      readonly missed: number;
      readonly nextSeq: number;
    }
  | { readonly kind: "refuse"; readonly watch: number; readonly failure: Failure };

/** Answer is what the core says to a unary call. */
export type Answer = Extract<Output, { readonly call: number }>;

/** Seen is counted at once. */
export interface Seen extends Observe {
  readonly service: string;
  readonly severity: SeverityGrade;
  readonly count: number;
}

/** Effect of the core. */
export type Effect = Persist | Output | Seen;

/** HappeningCodec turns events into the bytes that are stored. It is pure; `codec/events.ts` is the one that ships. */
export interface HappeningCodec {
  /** encode writes reports as a row. */
  encode(reports: readonly HappeningReport[]): { readonly bytes: Uint8Array; readonly part: Part };
  /** partOf says what a stored row has. */
  partOf(bytes: Uint8Array): Part;
  /** row writes batches of the audit as a row. */
  row(batches: readonly AuditBatch[]): { readonly bytes: Uint8Array; readonly part: Part };
  /** legacy reads an event as the version before stored it, each by itself. */
  legacy(bytes: Uint8Array): HappeningReport;
}
