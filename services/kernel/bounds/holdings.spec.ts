import { expect, test } from "vitest";
import { describeHoldings } from "./holdings.ts";
import { Room } from "./room.ts";
import { StreamsPerCaller } from "./streams-per-caller.ts";

test("who holds how much is drawn with the largest first, the rest summed up, and what nobody holds left out", () => {
  const keys = new Room({ limit: "keys", max: 1_000, maxBytes: 1_000_000 });
  for (let holder = 1; holder <= 30; holder++) for (let n = 0; n < holder; n++) keys.add(`node-${holder}`, 100);
  keys.add("one-large\u202e", 50_000);
  const streams = new StreamsPerCaller("streams", 64);
  for (let n = 0; n < 3; n++) expect(streams.take("gateway")).toBeUndefined();
  expect(streams.take("lamp")).toBeUndefined();
  const drawn = describeHoldings([keys.shared(), new Room({ limit: "unused", max: 8 }).shared(), streams.shared()]).split("\n");
  expect(drawn).toEqual([
    "who holds how much",
    "  keys count=466/1000 bytes=96500/1000000 holders=31",
    "    one-large\\u{202e} count=1 bytes=50000",
    ...[30, 29, 28, 27, 26, 25, 24, 23, 22].map((holder) => `    node-${holder} count=${holder} bytes=${holder * 100}`),
    "    and 21 more count=231 bytes=23100",
    "  streams count=4/64 holders=2",
    "    gateway count=3",
    "    lamp count=1",
  ]);
});

test("who holds how much stays short whoever comes, and follows what is given back", () => {
  const room = new Room({ limit: "keys", max: 100_000 });
  for (let holder = 0; holder < 50_000; holder++) room.add(`node-${holder}`, 0);
  expect(describeHoldings([room.shared()]).split("\n").length).toBeLessThan(20);
  for (let holder = 0; holder < 50_000; holder++) room.give(`node-${holder}`, 0);
  expect(describeHoldings([room.shared()])).toBe("");
});
