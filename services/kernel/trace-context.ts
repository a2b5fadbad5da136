/**
 * TraceContext says which trace something belongs to, and which span of it caused it (W3C Trace Context, level 1). Cores hand it on
 * as it is and never look inside.
 */
export interface TraceContext {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string;
  /** 16 lower-case hex digits, not all zero: the span of whoever sent this. */
  readonly spanId: string;
  /** True if the sender records the trace, and whoever goes on with it should do so too. */
  readonly sampled: boolean;
  /** `tracestate` as it came; empty for none. */
  readonly state: string;
}

/** TRACE_STATE_MAX is the longest `tracestate` that is handed on, characters (W3C Trace Context 3.3.1.5). */
export const TRACE_STATE_MAX = 512;

const MEMBERS_MAX = 32;
const PARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const MEMBER = /^(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}$/;
/** Longest `traceparent` that is looked at: later versions may append to what version 00 has. */
const PARENT_MAX = 255;

/**
 * parseTrace reads the headers `traceparent` and `tracestate`. A malformed traceparent gives undefined, as if there were none; a
 * malformed tracestate is dropped. A later version is read as far as version 00 goes, and sent on as version 00 (W3C 4.3).
 */
export function parseTrace(parent: string, state = ""): TraceContext | undefined {
  if (parent.length > PARENT_MAX) return undefined;
  const match = PARENT.exec(parent);
  if (match === null) return undefined;
  const [, version = "", traceId = "", spanId = "", flags = "", more] = match;
  if (version === "ff" || (version === "00" && more !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1, state: checkedState(state) };
}

/** formatParent writes `traceparent`: 55 characters. */
export function formatParent({ traceId, spanId, sampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`;
}

function checkedState(state: string): string {
  if (state === "" || state.length > TRACE_STATE_MAX) return "";
  const members = state
    .split(",")
    .map((member) => member.trim())
    .filter((member) => member !== "");
  return members.length <= MEMBERS_MAX && members.every((member) => MEMBER.test(member)) ? members.join(",") : "";
}
