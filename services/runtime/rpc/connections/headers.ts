import type { IncomingHttpHeaders } from "node:http2";

/** Headers that gRPC or Foedus reads; pseudo-headers come beside them. */
const READ: ReadonlySet<string> = new Set([
  "content-type",
  "te",
  "user-agent",
  "grpc-timeout",
  "grpc-encoding",
  "grpc-accept-encoding",
  "authorization",
  "traceparent",
  "tracestate",
]);

/** What an entry of a list of headers counts beside its bytes (RFC 9113, 6.5.2). */
const ENTRY_BYTES = 32;

/**
 * keepRead takes out of the headers of a request what nobody reads, and answers how large the rest is. grpc-js would make metadata of them
 * before anybody has asked who calls, a buffer for each comma of a binary header, and keep them for as long as the call is open.
 */
export function keepRead(headers: IncomingHttpHeaders): number {
  let bytes = 0;
  for (const name in headers) {
    const value = headers[name];
    if (READ.has(name) || name.startsWith(":")) bytes += name.length + (value?.length ?? 0) + ENTRY_BYTES;
    else delete headers[name];
  }
  return bytes;
}
