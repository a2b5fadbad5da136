import type { ServerHttp2Stream } from "node:http2";

/**
 * unanswerable makes the answer to a stream that is over a matter of nothing: grpc-js answers what names no service here, or is not gRPC,
 * without a look, and Node throws at that where nobody can catch it.
 */
export function unanswerable(stream: ServerHttp2Stream): void {
  Object.defineProperty(stream, "respond", { value: () => undefined });
}
