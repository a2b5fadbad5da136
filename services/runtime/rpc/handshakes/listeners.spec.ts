import net from "node:net";
import { expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { Listeners } from "./listeners.ts";

test("S-1 many connections are accepted in one round of the event loop; closed, the port is free", async () => {
  let accepted = 0;
  const sockets: net.Socket[] = [];
  const accept = (socket: net.Socket): void => {
    accepted++;
    sockets.push(socket.on("error", () => undefined));
  };
  const listeners = new Listeners(accept, (err) => expect(err).toBeUndefined());
  const port = await listeners.listen("127.0.0.1", 0);
  await expect(new Listeners(accept, () => undefined).listen("127.0.0.1", port, "x.port")).rejects.toMatchObject({
    failure: { reason: "ALREADY_EXISTS" },
  });
  // The kernel answers them meanwhile, before anything is accepted.
  for (let i = 0; i < 128; i++) sockets.push(net.connect(port, "127.0.0.1").on("error", () => undefined));
  let most = 0;
  for (let round = 0; accepted < 128 && round < 10_000; round++) {
    const before = accepted;
    await new Promise<void>((resolve) => void systemClock.setImmediate(resolve));
    most = Math.max(most, accepted - before);
  }
  expect(accepted).toBe(128);
  expect(most).toBeGreaterThan(8);
  for (const socket of sockets) socket.destroy();
  listeners.close();
  const again = new Listeners(accept, () => undefined);
  expect(await again.listen("127.0.0.1", port)).toBe(port);
  again.close();
});

test("S-1 a port that is closed while it is being bound is free, however far that is", async () => {
  const rounds = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) await new Promise<void>((resolve) => void systemClock.setImmediate(resolve));
  };
  const failed = (err: Error): void => expect(err).toBeUndefined();
  const first = new Listeners(() => undefined, failed);
  const port = await first.listen("127.0.0.1", 0);
  first.close();
  const ends: string[] = [];
  for (let count = 0; count < 8; count++) {
    const listeners = new Listeners(() => undefined, failed);
    const listening = listeners.listen("127.0.0.1", port).then(
      () => "bound",
      (error: Error) => error.message,
    );
    await rounds(count);
    listeners.close();
    ends.push(await listening);
    // Nobody but itself could know of what it bound later.
    const next = new Listeners(() => undefined, failed);
    expect(await next.listen("127.0.0.1", port), `closed after ${count} rounds`).toBe(port);
    next.close();
  }
  expect(ends[0]).toContain("closed");
});
