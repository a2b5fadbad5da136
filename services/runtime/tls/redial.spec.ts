import net from "node:net";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeAll, expect, test } from "vitest";
import { systemClock } from "#runtime/clock.ts";
import { createClient } from "#runtime/rpc/client.ts";
import { EchoRequestSchema, EchoService } from "../../../test/proto/echo-service.gen.ts";
import { type Fixture, failureOfCall, serve } from "../../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../../test/testca/index.ts";
import { createPeerCredentials } from "./credentials.ts";

let alpha: TestHub;
let fixture: Fixture;
const ends: (() => void)[] = [];

beforeAll(async () => {
  alpha = await testHub("alpha");
  fixture = await serve(alpha, []);
  return () => fixture.close();
});
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** door closes so many connections, with a reset or an end, and passes the next ones on to a server; it counts them. */
async function door(closes: number, how: "reset" | "end") {
  let dialled = 0;
  const server = net.createServer((socket) => {
    socket.on("error", () => undefined);
    ends.push(() => socket.destroy());
    if (dialled++ < closes) return void (how === "reset" ? socket.once("data", () => socket.resetAndDestroy()) : socket.destroy());
    const on = net.connect(fixture.port, "127.0.0.1").on("error", () => undefined);
    socket.pipe(on).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(() => server.close());
  const { certificatePem: cert, keyPem: key } = alpha.node("lamp");
  const credentials = createPeerCredentials({ hubId: "alpha" }, { cert, key, ca: [alpha.caPem] }, systemClock);
  const client = createClient(EchoService, {
    address: `127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    credentials,
    clock: systemClock,
  });
  ends.push(() => client.close());
  return { client, dialled: () => dialled };
}

test.each(["reset", "end"] as const)(
  "S-1 a connection that the server closes with a %s before a word is made again at once",
  async (how) => {
    const { client, dialled } = await door(4, how);
    await expect(client.echo(create(EchoRequestSchema, { text: "x" }))).resolves.toMatchObject({ text: "x" });
    expect(dialled()).toBe(5);
  },
);

test("S-1 a server that closes each is given up in a while", async () => {
  const { client, dialled } = await door(Number.POSITIVE_INFINITY, "reset");
  expect((await failureOfCall(client.echo(create(EchoRequestSchema, { text: "x" })))).reason).toBe("PEER_UNREACHABLE");
  expect(dialled()).toBe(31);
});
