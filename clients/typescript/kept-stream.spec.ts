import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Failure, FoedusError, fail, type Reason } from "#kernel/error.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { CLOSED, KeptStream, type KeptStreamOptions, type Streamable, tellError } from "./kept-stream.ts";

/** Stream is a call whose answers a test gives. */
class Stream implements Streamable<string> {
  readonly #queue: (string | Error | undefined)[] = [];
  #wake: (() => void) | undefined;
  cancelled = 0;

  push(item: string | Error | undefined): void {
    this.#queue.push(item);
    this.#wake?.();
  }

  async *#all(): AsyncGenerator<string> {
    for (;;) {
      while (this.#queue.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
      const item = this.#queue.shift();
      if (item instanceof Error) throw item;
      if (item === undefined) return;
      yield item;
    }
  }

  readonly responses = this.#all();

  cancel(): void {
    this.cancelled++;
    this.push(new FoedusError({ reason: "CANCELLED", message: "cancelled" }));
  }
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 30; i++) await Promise.resolve();
};
const cut = new FoedusError({ reason: "PEER_UNREACHABLE", message: "cut" });
const BACKOFF = { baseMs: 100, maxMs: 1_000, factor: 2, jitter: 0.5 };

function stage(more: Partial<KeptStreamOptions<Stream, string>> = {}) {
  const clock = new ManualClock();
  const streams: Stream[] = [];
  const openedAt: number[] = [];
  const numbers: bigint[] = [];
  const got: string[] = [];
  const cuts: [Failure, boolean][] = [];
  const errors: unknown[] = [];
  const kept: KeptStream<Stream, string> = new KeptStream<Stream, string>({
    clock,
    backoff: BACKOFF,
    seed: 1,
    open: (number) => {
      openedAt.push(clock.mono());
      numbers.push(number.n as bigint);
      streams.push(new Stream());
      return streams.at(-1) as Stream;
    },
    onMessage: (message) => void got.push(message),
    onCut: (failure, final) => void cuts.push([failure, final]),
    onReady: () => void kept.open(),
    final: new Set<Reason>(["SESSION_REPLACED"]),
    onError: (error) => void errors.push(error),
    ...more,
  });
  return { clock, streams, openedAt, numbers, got, cuts, errors, kept };
}

describe("a stream that is kept open", () => {
  test("it is read, opened again after a cut, and numbered", async () => {
    const { clock, streams, got, numbers, kept } = stage();
    kept.open();
    streams[0]?.push("a");
    streams[0]?.push(cut);
    await settle();
    expect(kept.open()).toBeUndefined();
    clock.advance(100);
    streams[1]?.push("b");
    await settle();
    expect(got).toEqual(["a", "b"]);
    expect(numbers).toEqual([1n, 2n]);
  });

  test("F-8 no loop is tighter than its back-off, whatever the hub does and however often it is asked to open", async () => {
    const act = fc.oneof(
      fc.constantFrom("cut", "end", "worked", "open", "pause", "throws").map((kind) => ({ kind, ms: 0 })),
      fc.integer({ min: 1, max: 400 }).map((ms) => ({ kind: "pass", ms })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
        const { clock, streams, openedAt, kept, got } = stage({
          onMessage: (message) => {
            if (message === "throws") throw new Error("bug");
            got.push(message);
          },
        });
        kept.open();
        for (const { kind, ms } of acts) {
          const stream = streams.at(-1);
          if (kind === "cut") stream?.push(cut);
          else if (kind === "end") stream?.push(undefined);
          else if (kind === "throws") stream?.push("throws");
          else if (kind === "worked") kept.worked();
          else if (kind === "open") kept.open();
          else if (kind === "pause") kept.pause();
          else clock.advance(ms);
          await settle();
        }
        openedAt.slice(1).forEach((at, i) => {
          expect(at - (openedAt[i] as number)).toBeGreaterThanOrEqual(BACKOFF.baseMs * (1 - BACKOFF.jitter));
        });
      }),
      { numRuns: 300 },
    );
  });

  test("KS2 who is told of a cut cannot open the next stream before the wait", async () => {
    const { clock, streams, kept, cuts } = stage({
      onCut: (failure, final) => {
        cuts.push([failure, final]);
        kept.open();
      },
    });
    kept.open();
    streams[0]?.push(cut);
    await settle();
    expect([streams.length, cuts.length]).toEqual([1, 1]);
    clock.advance(100);
    expect(streams).toHaveLength(2);
  });

  test("F-8 without a sign that it worked the waits grow to the longest", async () => {
    const { clock, streams, openedAt, kept } = stage();
    kept.open();
    for (let i = 0; i < 12; i++) {
      streams.at(-1)?.push("an answer that proves nothing");
      streams.at(-1)?.push(cut);
      await settle();
      clock.advance(BACKOFF.maxMs);
    }
    const waits = openedAt.slice(1).map((at, i) => at - (openedAt[i] as number));
    expect(waits).toHaveLength(12);
    expect(openedAt.at(-1)).toBeGreaterThan(5_000);
  });

  test("F-19 what onMessage throws ends the stream, is told, and does not end the loop", async () => {
    const { clock, streams, cuts, errors, kept } = stage({
      onMessage: (message) => {
        throw new Error(message);
      },
    });
    kept.open();
    streams[0]?.push("boom");
    await settle();
    expect(errors.map((error) => (error as Error).message)).toEqual(["boom"]);
    expect(cuts.map(([{ reason }, final]) => [reason, final])).toEqual([["INTERNAL", false]]);
    expect(streams[0]?.cancelled).toBe(1);
    clock.advance(100);
    expect(streams).toHaveLength(2);
  });

  test("F-19 a channel that its owner closed is the end, without an exception, also when it is found at a retry", async () => {
    const closed = { now: false };
    const { clock, streams, cuts, kept } = stage();
    const own = stage({
      open: () => {
        if (closed.now) throw new Error("Channel has been shut down");
        return new Stream();
      },
    });
    expect(own.kept.open()).toBeDefined();
    kept.open();
    streams[0]?.push(cut);
    await settle();
    kept.close();
    clock.advance(60_000);
    expect([streams.length, cuts.length]).toEqual([1, 1]);
    own.kept.current?.cancel();
    closed.now = true;
    await settle();
    own.clock.advance(60_000);
    expect(own.cuts.at(-1)).toEqual([CLOSED, true]);
    expect([own.kept.over, own.clock.pending]).toEqual([true, 0]);
  });

  test("a final reason is the end; what the hub said on the stream counts more than how it ended", async () => {
    const { clock, streams, cuts, kept } = stage();
    kept.open();
    kept.said({ reason: "SESSION_REPLACED", message: "newer" });
    streams[0]?.push(undefined);
    await settle();
    clock.advance(60_000);
    expect(cuts).toEqual([[{ reason: "SESSION_REPLACED", message: "newer" }, true]]);
    expect([streams.length, clock.pending, kept.over]).toEqual([1, 0, true]);
  });

  test("giveUp decides in place of the reasons, knows whether the hub ever answered, and is not asked about an end without a word", async () => {
    const asked: [string, boolean][] = [];
    const told: (number | undefined)[] = [];
    const { clock, streams, errors, kept } = stage({
      backoff: { ...BACKOFF, jitter: 0 },
      giveUp: ({ reason }, answered) => {
        asked.push([reason, answered]);
        if (reason === "INTERNAL") throw new Error("bug");
        return reason === "ACCESS_DENIED";
      },
      onCut: (_failure, _final, { waitMs }) => void told.push(waitMs),
    });
    const ends = [new FoedusError({ reason: "SESSION_REPLACED", message: "newer" }), undefined, "a", fail("INTERNAL", ""), cut];
    kept.open();
    for (const end of ends) {
      streams.at(-1)?.push(end);
      await settle();
      clock.advance(1_000);
    }
    const denied = fail("ACCESS_DENIED", "no");
    streams.at(-1)?.push(denied);
    await settle();
    expect(asked).toEqual([
      ["SESSION_REPLACED", false],
      ["INTERNAL", true],
      ["PEER_UNREACHABLE", true],
      ["ACCESS_DENIED", true],
    ]);
    expect(told).toEqual([100, 200, 400, 800, undefined]);
    expect([String(errors), kept.over, clock.pending]).toEqual(["Error: bug", true, 0]);
  });

  test("KS4 nothing is told any more when giveUp closes it", async () => {
    const { clock, streams, cuts, kept } = stage({
      giveUp: () => {
        kept.close();
        return false;
      },
    });
    kept.open();
    streams[0]?.push(cut);
    await settle();
    clock.advance(60_000);
    expect([cuts, streams.length, clock.pending]).toEqual([[], 1, 0]);
  });

  test("KS5 a stream that is left ends with the hub's end, or soon without it", async () => {
    const over = [0, 0];
    for (const [i, ends] of [true, false].entries()) {
      const { clock, streams, cuts, kept } = stage({ onCut: () => kept.close() });
      kept.open();
      kept.leave();
      kept.leave();
      await settle();
      expect(kept.over).toBe(false);
      if (ends) streams[0]?.push(undefined);
      else clock.advance(2_000);
      await settle();
      over[i] = streams[0]?.cancelled ?? 0;
      expect([kept.over, clock.pending, cuts]).toEqual([true, 0, []]);
    }
    expect([over[0], over[1] !== 0]).toEqual([0, true]);
    const never = stage();
    never.kept.leave();
    expect(never.kept.over).toBe(true);
  });

  test("what Node prints of an error that nobody takes has no control characters of a hub", async () => {
    const printed: Error[] = [];
    const take = (warning: Error): void => void printed.push(warning);
    process.on("warning", take);
    const plain = new Error("plain");
    tellError(undefined, plain);
    tellError(undefined, new FoedusError({ reason: "INTERNAL", message: "\u001b]0;mine\u0007\nsudo" }));
    tellError(undefined, "\u001b[2J");
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", take);
    expect(printed[0]).toBe(plain);
    expect(printed.map(String)).toEqual(["Error: plain", "FoedusError: \\u{1b}]0;mine\\u{7} sudo", "Error: \\u{1b}[2J"]);
  });

  test("what comes late on a stream that was given up is not looked at", async () => {
    const { streams, got, cuts, kept } = stage();
    kept.open();
    kept.close();
    streams[0]?.push("late");
    await settle();
    expect([got, cuts]).toEqual([[], []]);
    expect(streams[0]?.cancelled).toBeGreaterThan(0);
  });
});
