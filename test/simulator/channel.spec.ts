import { expect, test } from "vitest";
import { RawMessage } from "#channel/call.ts";
import { Arrivals, Lane, type Wire } from "./channel.ts";

const WINDOW = 4_096;

/** A writer and a reader, joined without delay. The reader reads when it is told, and says so as one does. */
function joined() {
  const socket = (to: () => { receive(wire: Wire): void }) => () => ({
    send: (wire: Wire) => to().receive(wire),
    abort: () => undefined,
    leave: () => undefined,
  });
  const writer = { receive: (wire: Wire) => (wire.w === "window" ? lane.taken(wire.bytes) : undefined) };
  let arrived = 0;
  const reader = {
    receive: (wire: Wire) => {
      if (wire.w !== "data") return;
      arrived++;
      arrivals.push(wire.bytes);
    },
  };
  const lane: Lane = new Lane(
    socket(() => reader),
    WINDOW,
  );
  const sizes: number[] = [];
  const decode = (bytes: Buffer): never => {
    sizes.push(bytes.length);
    return {} as never;
  };
  const flow = { windowBytes: WINDOW, slowMs: () => 0, clock: undefined as never };
  const arrivals: Arrivals = new Arrivals(
    flow,
    decode,
    socket(() => writer),
  );
  return {
    write: (bytes: number) => lane.write(new RawMessage(Buffer.alloc(bytes)), () => undefined),
    arrivals,
    sizes,
    arrived: () => arrived,
  };
}

test("what is less than half a window, and was read, does not hold up a message for which the rest has no room", () => {
  const { write, arrivals, sizes } = joined();
  arrivals.on("readable", () => arrivals.read());
  for (const bytes of [1_705, 2_470, 9_000, 10]) write(bytes);
  expect(sizes).toEqual([1_705, 2_470, 9_000, 10]);
});

test("a reader that does not read holds its writer up at a window", () => {
  const { write, arrivals, sizes, arrived } = joined();
  for (let i = 0; i < 100; i++) write(500);
  expect(arrived()).toBe(Math.floor(WINDOW / 500));
  while (arrivals.read() !== null);
  expect(sizes).toHaveLength(100);
});
