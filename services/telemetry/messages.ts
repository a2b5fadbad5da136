import type { Observe, Persist } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";

/** SeverityGrade is a grade of severity, as the numbers of the schema: DEBUG 1 to ERROR 4. */
export type SeverityGrade = 1 | 2 | 3 | 4;

/** Happening is one event. `bytes` is its encoding, as it is stored. */
export interface Happening {
  /** Position in this hub's event log, from 1. */
  readonly seq: number;
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

/** HappeningReport is a report of a happening, before it has a position. */
export type HappeningReport = Omit<Happening, "seq">;

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
  | { readonly kind: "list"; readonly call: number; readonly filter: HappeningFilter; readonly limit: number; readonly beforeSeq: number }
  | { readonly kind: "links"; readonly call: number }
  /** `caller` names who watches: nobody gets more than a part of the streams. */
  | {
      readonly kind: "watch";
      readonly watch: number;
      readonly caller: string;
      readonly filter: HappeningFilter;
      readonly fromSeq: number;
    }
  | { readonly kind: "watch_ready"; readonly watch: number }
  /** The store began to refuse, or accepts again. */
  | { readonly kind: "stored"; readonly ok: boolean; readonly failure: Failure | undefined }
  | { readonly kind: "watch_end"; readonly watch: number };

/** Output that leaves the core through the gate. */
export type Output =
  | { readonly kind: "reported"; readonly call: number }
  /** Nothing of the report is kept; its reporter keeps it. */
  | { readonly kind: "declined"; readonly call: number; readonly failure: Failure }
  | { readonly kind: "listed"; readonly call: number; readonly events: readonly Happening[]; readonly nextBeforeSeq: number }
  | { readonly kind: "linked"; readonly call: number; readonly links: readonly LinkCount[] }
  | {
      readonly kind: "push";
      readonly watch: number;
      readonly events: readonly Happening[];
      readonly missed: number;
      readonly nextSeq: number;
    }
  | { readonly kind: "refuse"; readonly watch: number; readonly failure: Failure };

/** Seen is counted at once. */
export interface Seen extends Observe {
  readonly service: string;
  readonly event: HappeningReport;
}

/** Effect of the core. */
export type Effect = Persist | Output | Seen;

/** HappeningCodec turns events into the bytes that are stored. It is pure; `codec.ts` is the one that ships. */
export interface HappeningCodec {
  encode(event: Happening): Uint8Array;
  decode(bytes: Uint8Array): Happening;
}
