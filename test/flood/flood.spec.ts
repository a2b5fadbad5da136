import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CALM, Flood, type Seen } from "./flood.ts";
import { refusedStreams } from "./refused.ts";

/**
 * What others may notice of a flood; on a machine that has other things to do, by how much worse it may be than without one a moment
 * before. A hub that does not hold floods back takes seconds, or fails commands; `make flood` gives the figures.
 */
const COMMAND_P99_MS = 2_000;
const PEER_P99_MS = 2_000;
const WORSE = 4;
const LOG_BYTES_PER_MINUTE = 1024 * 1024;
/** A run of seconds says little of memory: this is for what is kept of every frame. */
const GROWTH_MIB = 150;
const MS = 3_000;

describe("F-6 a hub that five of its peers flood at once", () => {
  let flood: Flood;
  let warm: Seen;

  beforeAll(async () => {
    flood = await Flood.start("full");
    // The first run warms the code up; memory is compared with what the hub has then.
    warm = await flood.run("ack", MS);
  }, 120_000);
  afterAll(() => flood?.stop());

  test.each(["announce", "nack", "results"])(
    "%s: own commands, other peers, the log and the memory do not notice",
    async (type) => {
      const calm = await flood.run(CALM, MS);
      const seen = await flood.run(type, MS);
      expect(seen.failed).toBe(0);
      expect(seen.commands).toBeGreaterThan(20);
      expect(seen.p99Ms).toBeLessThan(Math.max(COMMAND_P99_MS, WORSE * calm.p99Ms));
      expect(seen.peerP99Ms).toBeLessThan(Math.max(PEER_P99_MS, WORSE * calm.peerP99Ms));
      // A line per peer and second is more per minute in a run of seconds than in one of minutes.
      expect(seen.logBytesPerMinute).toBeLessThan(LOG_BYTES_PER_MINUTE);
      expect(seen.rssMiB).toBeLessThan(warm.rssMiB + GROWTH_MIB);
    },
    60_000,
  );
});

test("F-5 a small hub serves on under refused streams whose clients keep their half open", async () => {
  const seen = await refusedStreams(15, 1_000);
  expect(seen).toMatchObject({ statuses: ["7"], served: true });
  // 13 KiB of each stream stayed, with nobody to end it: 200 MiB more, of which a heap of 128 MiB has no room for half.
  expect(seen.rssMiB - seen.startMiB).toBeLessThan(130);
}, 120_000);
