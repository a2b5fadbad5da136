import type { Clock } from "#channel/clock.ts";
import type { StreamOpen } from "#gen/foedus/common/v1/stream_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { REPLACED, StreamFences, type StreamNumber } from "#kernel/stream-fences.ts";
import type { Caller } from "../call.ts";

/** Fenced is a stream that a newer one of its group may replace. */
export interface Fenced {
  /** fence is called once, before the newer stream is answered: from now on nothing that arrives on this one may be taken. */
  fence(failure: Failure): void;
}

/**
 * FencedStreams are the open streams of one RPC whose callers numbered them (StreamOpen). Callers that do not number theirs are not
 * concerned: what of an older stream arrives late counts, as it did before there were numbers.
 */
export class FencedStreams<S extends Fenced> {
  readonly #clock: Clock;
  readonly #fences = new StreamFences<S>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * enter opens a stream: it fences off the one that it replaces, or throws SESSION_REPLACED because a newer one came first.
   * `leave` must be called when it has ended. A call that changes something and is repeated "may repeat" its number while it is the newest.
   */
  enter(
    caller: Caller,
    open: StreamOpen,
    stream: S,
    again?: "may repeat",
  ): { readonly replaced: S | undefined; readonly leave: () => void } {
    const number = streamNumberOf(open);
    const opened = this.#fences.open(this.#clock.mono(), caller.spiffeId, number, stream, again !== undefined);
    if (opened.failure !== undefined) throw new FoedusError(again === undefined ? opened.failure : OVERTAKEN);
    opened.replaced?.fence(REPLACED);
    return {
      replaced: opened.replaced,
      leave: () => this.#fences.close(this.#clock.mono(), caller.spiffeId, number.group, stream),
    };
  }
}

/** OVERTAKEN is why a numbered call is refused. */
const OVERTAKEN: Failure = {
  reason: "SESSION_REPLACED",
  message: "a newer call of the same group was taken before this one; number it anew if it is still wanted",
};

const GROUP_BYTES = { least: 8, most: 64 };

/** streamNumberOf reads a StreamOpen; it throws INVALID_FIELD for one that breaks the rules of the schema. */
export function streamNumberOf({ group, incarnation, n }: StreamOpen): StreamNumber {
  if (group.length < GROUP_BYTES.least || group.length > GROUP_BYTES.most)
    throw fail("INVALID_FIELD", `a group has ${GROUP_BYTES.least} to ${GROUP_BYTES.most} bytes`, { field: "stream.group" });
  return {
    group: Buffer.from(group).toString("latin1"),
    incarnation: numberIn(incarnation, "stream.incarnation"),
    n: numberIn(n, "stream.n"),
  };
}

function numberIn(value: bigint, field: string): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw fail("INVALID_FIELD", "the number must be below 2^53", { field });
}
