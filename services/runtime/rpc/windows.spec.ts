import { type ClientHttp2Session, connect, createSecureServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { NARROW_WINDOW_BYTES, WIDE_WINDOW_BYTES } from "#channel/windows.ts";
import { CountRequestSchema, EchoRequestSchema, EchoService } from "../../../test/proto/echo-service.gen.ts";
import { echoBinding, type Fixture, type Seen, serve, testTokens, tokenFor, until } from "../../../test/rpc/fixture.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";
import { createClient } from "./client/client.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function hubs(): Promise<{ own: TestHub; other: TestHub; fixture: Fixture; seen: Seen }> {
  const [own, other] = await Promise.all([testHub("alpha"), testHub("beta")]);
  const seen: Seen = { contexts: [], aborts: [] };
  const fixture = await serve(own, [other], { bindings: [echoBinding(seen)], tokens: testTokens() });
  closing.push(() => fixture.close());
  return { own, other, fixture, seen };
}

/** dial makes a connection that tells what it may send. */
async function dial({ port }: Fixture, hub: TestHub, { certificatePem, keyPem }: Credential): Promise<ClientHttp2Session> {
  const client = connect(`https://127.0.0.1:${port}`, {
    cert: certificatePem,
    key: keyPem,
    ca: hub.caPem,
    checkServerIdentity: () => undefined,
  });
  closing.push(() => client.destroy());
  await new Promise((resolve, reject) => client.once("remoteSettings", resolve).once("error", reject));
  return client;
}

test("F-0 what another hub may have under way on a connection is narrow, until the call's session has a connection for the other direction", async () => {
  const { own, other, fixture, seen } = await hubs();
  const credential = other.service();
  const client = await dial(fixture, own, credential);
  const window = (): number | undefined => client.state.remoteWindowSize;
  await until(() => window() === NARROW_WINDOW_BYTES);
  const authorization = `Bearer ${tokenFor("beta", credential, systemClock.wall() + 600_000)}`;
  client.request({
    ":method": "POST",
    ":path": "/foedus.test.v1.EchoService/Session",
    "content-type": "application/grpc",
    te: "trailers",
    authorization,
  });
  await until(() => seen.contexts.length === 1);
  expect(window()).toBe(NARROW_WINDOW_BYTES);
  seen.contexts[0]?.widen?.();
  await until(() => window() === WIDE_WINDOW_BYTES);
});

test("F-0 a client takes what the server alone sends in a wide window, on a connection of its own, and all else in a narrow one", async () => {
  const own = await testHub("alpha");
  const { certificatePem: cert, keyPem: key } = own.service();
  const server = createSecureServer({ cert, key, ca: own.caPem, requestCert: true });
  const windows: Record<string, number>[] = [];
  server.on("session", (session) => {
    const seen: Record<string, number> = {};
    windows.push(seen);
    session
      .on("error", () => undefined)
      .on("stream", (stream, headers) => {
        seen[String(headers[":path"])] = session.remoteSettings?.initialWindowSize ?? 0;
        stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "12" }, { endStream: true });
      });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => server.close());
  const caller = own.gateway("zigbee");
  const credentials = createPeerCredentials(
    { hubId: "alpha", name: "hub" },
    { cert: caller.certificatePem, key: caller.keyPem, ca: [own.caPem] },
    systemClock,
  );
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = createClient(EchoService, { address, credentials, clock: systemClock });
  closing.push(() => client.close());
  const count = (): Promise<unknown> => client.count(create(CountRequestSchema))[Symbol.asyncIterator]().next();
  await expect(client.echo(create(EchoRequestSchema))).rejects.toThrow("the call failed");
  await expect(count()).rejects.toThrow("the call failed");
  await expect(count()).rejects.toThrow("the call failed");
  await expect(client.session().opened).rejects.toThrow("the call failed");
  const path = "/foedus.test.v1.EchoService";
  expect(windows).toEqual([
    { [`${path}/Echo`]: NARROW_WINDOW_BYTES, [`${path}/Session`]: NARROW_WINDOW_BYTES },
    { [`${path}/Count`]: WIDE_WINDOW_BYTES },
  ]);
});

test("what callers of this hub send comes in a wide window at once", async () => {
  const { own, fixture } = await hubs();
  const client = await dial(fixture, own, own.gateway("zigbee"));
  await until(() => client.state.remoteWindowSize === WIDE_WINDOW_BYTES);
});
