import { describe, expect, test } from "vitest";
import { type Failure, fail } from "#kernel/error.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { Following, type FollowOptions } from "./following.ts";

const settle = async (): Promise<void> => {
  for (let i = 0; i < 30; i++) await Promise.resolve();
};

/** stage follows streams of lists, each of which is given as a whole: what it holds, and then an error or an end. */
function stage(streams: readonly (readonly (readonly string[] | Error)[])[], options: FollowOptions = {}) {
  const clock = new ManualClock();
  const read: (readonly string[])[] = [];
  const causes: Failure[] = [];
  let opened = 0;
  const following = new Following<readonly string[], string>(
    { clock, backoff: { baseMs: 100, maxMs: 1_000, factor: 2, jitter: 0 }, ...options },
    {
      open: async function* () {
        for (const part of streams[opened++] ?? []) {
          if (part instanceof Error) throw part;
          yield part;
        }
      },
      take: (message) => {
        read.push(message);
        return message;
      },
      cut: (failure) => void causes.push(failure),
    },
  );
  return { clock, read, causes, following };
}

describe("what is followed", () => {
  test("a message is read when the program asks for more than the one before held", async () => {
    const { read, following } = stage([[["a", "b"], [], ["c"]]]);
    await settle();
    expect(read).toEqual([["a", "b"]]);
    expect([await following.next(), await following.next()].map(({ value }) => value)).toEqual(["a", "b"]);
    await settle();
    expect(read).toHaveLength(1);
    expect((await following.next()).value).toBe("c");
    expect(read).toHaveLength(3);
    following.close();
    expect(await following.next()).toEqual({ value: undefined, done: true });
  });

  test("several that ask at once get what comes in their order", async () => {
    const { following } = stage([[["a"], ["b", "c"]]]);
    const asked = [following.next(), following.next(), following.next()];
    expect((await Promise.all(asked)).map(({ value }) => value)).toEqual(["a", "b", "c"]);
    following.close();
  });

  test("after a cut it goes on; the source and the program are told, with the wait", async () => {
    const cuts: [string, number | undefined][] = [];
    const stops = fail("SHUTTING_DOWN", "stops");
    const streams = [[["a"], stops], [stops], [["b"], fail("ACCESS_DENIED", "no")]];
    const { clock, causes, following } = stage(streams, { onCut: ({ reason }, waitMs) => void cuts.push([reason, waitMs]) });
    expect((await following.next()).value).toBe("a");
    const next = following.next();
    await settle();
    clock.advance(100);
    await settle();
    clock.advance(200);
    expect((await next).value).toBe("b");
    await expect(following.next()).rejects.toThrow("no");
    expect(cuts).toEqual([
      ["SHUTTING_DOWN", 100],
      ["SHUTTING_DOWN", 200],
      ["ACCESS_DENIED", undefined],
    ]);
    expect(causes.map(({ reason }) => reason)).toEqual(cuts.map(([reason]) => reason));
    expect(clock.pending).toBe(0);
  });

  test("an end that giveUp wants is what was thrown itself, with all that it knows", async () => {
    const error = fail("PEER_UNREACHABLE", "gone");
    const { following } = stage([[error]], { giveUp: (_error, answered) => !answered });
    expect(await following.next().catch((thrown: unknown) => thrown)).toBe(error);
  });

  test("an aborted signal ends it with its reason, also before it begins", async () => {
    const ends = new AbortController();
    const { following } = stage([[["a"]]], { signal: ends.signal });
    await settle();
    ends.abort(new Error("enough"));
    await expect(following.next()).rejects.toThrow("enough");
    const { read, following: late } = stage([[["a"]]], { signal: ends.signal });
    await expect(late.next()).rejects.toThrow("enough");
    expect(read).toEqual([]);
  });
});
