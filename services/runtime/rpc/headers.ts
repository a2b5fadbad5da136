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

/**
 * keepRead takes out of the headers of a request what nobody reads. grpc-js would make metadata of them before anybody has asked who
 * calls, a buffer for each comma of a binary header, and keep them for as long as the call is open.
 */
export function keepRead(headers: IncomingHttpHeaders): void {
  for (const name in headers) if (!READ.has(name) && !name.startsWith(":")) delete headers[name];
}
