import net from "node:net";
import { afterEach, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { until } from "../../../../test/rpc/fixture.ts";
import { Collected, HelloTurns, helloIn } from "./hello-turns.ts";

const HELLO = Buffer.concat([Buffer.of(0x16, 3, 1, 0, 200), Buffer.alloc(200, 1)]);
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

test("S-1 a hello is whole when its record is; what does not begin like TLS is none", () => {
  expect(helloIn(Buffer.alloc(0))).toBe("part");
  expect([1, 4, 5, 204].map((bytes) => helloIn(HELLO.subarray(0, bytes)))).toEqual(["part", "part", "part", "part"]);
  expect([helloIn(HELLO), helloIn(Buffer.concat([HELLO, HELLO]))]).toEqual(["whole", "whole"]);
  expect(helloIn(Buffer.from("GET / HTTP/1.1\r\n"))).toBe("no");
  // Of a record that claims more than a hello has no more is kept.
  const long = Buffer.concat([Buffer.of(0x16, 3, 1, 0xff, 0xff), Buffer.alloc(16 * 1024)]);
  expect([helloIn(long.subarray(0, 16 * 1024 - 1)), helloIn(long)]).toEqual(["part", "whole"]);
});

test("S-1 a hello that comes a byte at a time is copied a few times, and not once for each byte", () => {
  const whole = Buffer.concat([Buffer.of(0x16, 3, 1, 0xff, 0xff), Buffer.alloc(16 * 1024 - 5, 7)]);
  const collected = new Collected();
  const places = new Set<ArrayBufferLike>();
  for (const byte of whole) places.add(collected.add(Buffer.of(byte)).buffer);
  expect(collected.bytes.equals(whole)).toBe(true);
  expect(places.size).toBeLessThan(20);
  // What comes at once is not copied at all.
  const once = new Collected();
  expect(once.add(whole)).toBe(whole);
  expect(once.add(Buffer.of(1, 2)).equals(Buffer.concat([whole, Buffer.of(1, 2)]))).toBe(true);
  expect(once.add(Buffer.of(3)).at(-1)).toBe(3);
  expect(whole.length).toBe(16 * 1024);
});

/** turns serves a port; it tells what became of each connection, and who is over the rate is decided by the test. */
async function turns(timeoutMs = 10_000) {
  const told: string[] = [];
  const perRound: number[] = [];
  const state = { waitMs: 0, known: true };
  const took: number[] = [];
  /** How much was told when a hello was whole. */
  const heard: number[] = [];
  let inRound = 0;
  const waits = new HelloTurns(systemClock, timeoutMs);
  const server = net.createServer((socket) =>
    waits.add({
      socket: socket.on("error", () => undefined),
      known: () => state.known,
      waitMs: () => state.waitMs,
      heard: () => void heard.push(told.length),
      begin: () => {
        if (inRound++ === 0)
          systemClock.setImmediate(() => {
            perRound.push(inRound);
            inRound = 0;
          });
        told.push(`begun ${String(socket.read()?.length)}`);
      },
      took: (ms) => void took.push(ms),
      refuse: () => {
        told.push("refused");
        socket.destroy();
      },
      none: (why, bytes) => void told.push(`${why} ${bytes}`),
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  const open = (): Promise<net.Socket> =>
    new Promise((resolve) => {
      const socket = net.connect(port, "127.0.0.1", () => resolve(socket)).on("error", () => undefined);
      ends.push(() => socket.destroy());
    });
  ends.push(() => server.close());
  return { told, took, heard, perRound, state, open };
}

test("S-1 nothing begins before the whole hello is there, and then with all of it", async () => {
  const { told, heard, open } = await turns();
  const [slow, quick] = [await open(), await open()];
  slow.write(HELLO.subarray(0, 100));
  quick.write(HELLO);
  await until(() => told.length === 1);
  slow.write(HELLO.subarray(100));
  await until(() => told.length === 2);
  expect(told).toEqual(["begun 205", "begun 205"]);
  expect(heard).toEqual([0, 1]);
});

test("S-1 who leaves, says nothing, or is no TLS, never begins", async () => {
  const { told, heard, open } = await turns(300);
  (await open()).resetAndDestroy();
  (await open()).end();
  await until(() => told.length === 2);
  (await open()).write("GET / HTTP/1.1\r\n\r\n");
  await until(() => told.length === 3);
  (await open()).write(HELLO.subarray(0, 10));
  await until(() => told.length === 4);
  expect(told).toEqual(["closed 0", "closed 0", "not_tls 18", "timeout 10"]);
  expect(heard).toEqual([]);
});

test("S-1 who is over the rate is closed at its turn, before anything begins", async () => {
  const { told, state, open } = await turns();
  state.waitMs = 5;
  const socket = await open();
  const closed = new Promise((resolve) => socket.resume().once("close", resolve));
  socket.write(HELLO);
  await closed;
  expect(told).toEqual(["refused"]);
});

test.each([
  [true, 4],
  [false, 2],
])("S-1 a few begin in each round of the event loop, of addresses that are known: %s", async (known, most) => {
  const { told, took, perRound, state, open } = await turns();
  state.known = known;
  const sockets = await Promise.all(Array.from({ length: 60 }, open));
  for (const socket of sockets) socket.write(HELLO);
  await until(() => told.length === 60);
  await until(() => perRound.reduce((sum, n) => sum + n, 0) === 60);
  expect(Math.max(...perRound)).toBeLessThanOrEqual(most);
  await until(() => took.length === 60);
});
