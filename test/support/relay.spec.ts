import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { Relay } from "./relay.ts";
import { until } from "./until.ts";

/** A relay before a server that keeps what it is sent; both have ports that are free. */
async function relayed(onSocket: (socket: Socket) => void) {
  const server = createServer(onSocket);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  // An address of its own lets the relay have the same port.
  const relay = await Relay.listen({ host: "127.0.0.2", port }, { host: "127.0.0.1", port });
  const client = connect({ host: "127.0.0.2", port }).setNoDelay(true);
  await once(client, "connect");
  return { relay, client, end: async () => [client.destroy(), await relay.close(), server.close()] };
}

test("a relay keeps the order of bytes when its delay changes and ends", async () => {
  let got = "";
  const { relay, client, end } = await relayed((socket) => socket.on("data", (bytes) => (got += bytes.toString())));
  let sent = "";
  for (const delayMs of [0, 40, 10, 0]) {
    relay.set("pass", delayMs);
    const before = relay.taken;
    sent += `${delayMs},`;
    client.write(`${delayMs},`);
    await until("the relay having read that", () => relay.taken > before, 5_000);
  }
  await until("all bytes", () => got.length === sent.length, 5_000);
  expect(got).toBe(sent);
  await end();
});

test("a relay reads no faster than its target", async () => {
  const block = Buffer.alloc(1 << 20);
  const { relay, client, end } = await relayed((socket) => socket.pause());
  let taken = true;
  // More than what the kernel keeps on the way.
  for (let i = 0; i < 64; i++) taken = client.write(block) && taken;
  let [before, still] = [0, 0];
  await until(
    "the relay standing still",
    () => {
      still = before === relay.taken && before > 0 ? still + 1 : 0;
      before = relay.taken;
      return still === 10;
    },
    5_000,
  );
  expect([taken, relay.taken < 64 * block.length]).toEqual([false, true]);
  await end();
});
