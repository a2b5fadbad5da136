import type { Message } from "@bufbuild/protobuf";
import type { RequestFailure } from "#channel/status.ts";
import type { Outcome, ServerCall } from "../server/call-context.ts";

/**
 * Interceptor is one concern of every call. `open` runs before the first message is read and may refuse the call; `request`
 * runs for each request message of validated methods only; `close` runs exactly once, also for refused, cancelled and timed-out
 * calls. None runs per message on hot streams.
 */
export interface Interceptor {
  readonly name: string;
  open?(call: ServerCall): RequestFailure | undefined | Promise<RequestFailure | undefined>;
  request?(call: ServerCall, message: Message): RequestFailure | undefined;
  close?(call: ServerCall, outcome: Outcome): void;
  /** stop runs when the server has ended: what was held back is told, and no timer stays. */
  stop?(): void;
}
