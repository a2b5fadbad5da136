import { connect, createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { unanswerable } from "./unanswerable.ts";

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** reset opens a stream to a server and resets it; it answers the server's side when that is over. */
async function reset(): Promise<ServerHttp2Stream> {
  const over = Promise.withResolvers<ServerHttp2Stream>();
  const server = createServer().on("stream", (stream) => {
    stream.on("error", () => undefined).once("close", () => over.resolve(stream));
    client.close();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`).on("error", () => undefined);
  ends.push(
    () => session.destroy(),
    () => server.close(),
  );
  const client = session.request({ ":method": "POST" }).on("error", () => undefined);
  return over.promise;
}

test("F-1 the answer to a stream that is over throws, where nobody can catch it, unless that was made nothing", async () => {
  const stream = await reset();
  expect(() => stream.respond({ ":status": 415 }, { endStream: true })).toThrow("destroyed");
  unanswerable(stream);
  expect(stream.respond({ ":status": 415 }, { endStream: true })).toBeUndefined();
});

test("F-1 and the other streams are answered as before", async () => {
  unanswerable(await reset());
  const server = createServer().on("stream", (stream) => stream.respond({ ":status": 204 }, { endStream: true }));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  ends.push(
    () => session.destroy(),
    () => server.close(),
  );
  const headers = await new Promise<object>((resolve) => session.request({}).on("response", resolve));
  expect(headers).toMatchObject({ ":status": 204 });
});
