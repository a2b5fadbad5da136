import type { IncomingHttpHeaders } from "node:http2";
import { own } from "#kernel/own.ts";

const HEADER = "grpc-timeout";
/** Milliseconds of the units of a gRPC timeout, by letter. */
const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };
/** Longest timeout that Node's timers and grpc-js, which counts in 32 bits, understand: 24.8 days. */
const LONGEST_MS = 2 ** 31 - 1;
const LONGEST = `${Math.floor(LONGEST_MS / 1_000)}S`;

/**
 * capTimeout makes a caller's timeout one that grpc-js can count: it makes "had passed" of 25 days and 0.7 s of 50. A stream then has no
 * deadline here, as its caller ends it by its own clock; a unary call, which would get the default one without, has the longest.
 */
export function capTimeout(headers: IncomingHttpHeaders, unary: (path: string) => boolean): void {
  const match = /^(\d{1,8})\s*([HMSmun])$/.exec(String(headers[HEADER] ?? ""));
  if (match === null || Number(match[1]) * (own(UNITS, match[2] as string) ?? 1) <= LONGEST_MS) return;
  if (unary(headers[":path"] ?? "")) headers[HEADER] = LONGEST;
  else delete headers[HEADER];
}
