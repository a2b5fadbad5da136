import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { EchoService } from "../../../test/proto/echo-service.gen.ts";
import { call, connectClient, type HttpFixture, quickClock, rawTls, serveHttp, toldBy } from "../../../test/rpc/connect-fixture.ts";
import { shiftedClock, until } from "../../../test/rpc/fixture.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";

const ECHO = "/foedus.test.v1.EchoService/Echo";
const COUNT = "/foedus.test.v1.EchoService/Count";
const RESET = "/foedus.test.v1.EchoService/Reset";

let alpha: TestHub;
let beta: TestHub;
let delta: TestHub;
let fixture: HttpFixture;
let operator: Credential;
let service: Credential;

beforeAll(async () => {
  [alpha, beta, delta] = await Promise.all([testHub("alpha"), testHub("beta"), testHub("delta")]);
  fixture = await serveHttp(alpha, [beta], {}, quickClock);
  operator = alpha.operator();
  service = alpha.service();
});
afterAll(() => fixture.close());

const post = (body: string | Buffer, headers: Readonly<Record<string, string>> = {}, path = ECHO) =>
  call(fixture.httpPort, operator, alpha.caPem, { path, body, headers });
const nothingHeld = (): Promise<void> =>
  expect
    .poll(() => [fixture.server.calls, fixture.server.held, fixture.server.unreadBytes, fixture.server.requestBytes])
    .toEqual([0, 0, 0, 0]);
const ended = (socket: TLSSocket): Promise<string> =>
  new Promise((resolve) => {
    let read = "";
    socket.on("data", (bytes: Buffer) => (read += bytes.toString("latin1")));
    socket.on("error", () => undefined);
    socket.once("close", () => resolve(read));
  });

describe("who is not let in", () => {
  test.each([
    ["without a certificate", (): Credential | undefined => undefined],
    ["of a CA that is not pinned", () => delta.operator()],
    ["that has expired", () => alpha.expired()],
    ["that is not valid yet", () => alpha.notYetValid()],
  ] as const)("a client %s does not get past TLS", async (_, credential) => {
    const before = await fixture.metric("foedus_tls_handshake_failures_total");
    const socket = await rawTls(fixture.httpPort, credential(), alpha.caPem).catch(() => undefined);
    if (socket !== undefined) expect(await ended(socket)).toBe("");
    await expect.poll(() => fixture.metric("foedus_tls_handshake_failures_total")).toBeGreaterThan(before);
  });

  test.each([
    ["a certificate of a peer's CA in this hub's name", () => beta.impersonating("alpha"), "FOREIGN_CA"],
    ["one with two names", () => alpha.twoUris(), "UNKNOWN_IDENTITY"],
    ["one without a name", () => alpha.withoutUri(), "UNKNOWN_IDENTITY"],
  ] as const)("%s is refused with the reason", async (_, credential, reason) => {
    const { status, body } = await call(fixture.httpPort, credential(), alpha.caPem, { path: ECHO, body: "{}" });
    expect([status, JSON.parse(body).details[0].debug.reason]).toEqual([401, reason]);
  });

  test("a certificate that is revoked between two requests of a connection is refused, and the connection ends", async () => {
    const credential = alpha.operator("soon-revoked");
    const client = connectClient(EchoService, fixture.httpPort, credential, alpha.caPem);
    await expect(client.echo({ text: "before" })).resolves.toMatchObject({ text: "before" });
    fixture.authority.withdrawn.add(thumbprintOf(new X509Certificate(credential.certificatePem)));
    fixture.authority.changes++;
    await expect(client.echo({ text: "after" }).catch((error: unknown) => toldBy(error).code)).resolves.toBe("Unauthenticated");
    await expect.poll(() => fixture.server.connections).toBe(0);
  });

  test("connections of a hub that is cut end, also those over HTTP", async () => {
    const socket = await rawTls(fixture.httpPort, beta.service(), alpha.caPem);
    const over = ended(socket);
    await until(() => fixture.server.cut("beta") === 1);
    await over;
  });

  test("a page of another site cannot have a browser call", async () => {
    const told = async (headers: Readonly<Record<string, string>>) => (await post("{}", headers)).status;
    expect(await told({ origin: "https://evil.example" })).toBe(403);
    expect(await told({ origin: "null" })).toBe(403);
    expect(await told({ "sec-fetch-site": "cross-site" })).toBe(403);
    expect(await told({ origin: `https://127.0.0.1:${fixture.httpPort}` })).toBe(200);
    const { headers } = await call(fixture.httpPort, operator, alpha.caPem, {
      path: ECHO,
      method: "OPTIONS",
      headers: { origin: "https://evil.example" },
    });
    expect(headers["access-control-allow-origin"]).toBeUndefined();
  });
});

describe("what is no call", () => {
  test.each([
    ["an RPC that is not there", { path: "/foedus.test.v1.EchoService/Nothing", body: "{}" }, 404],
    ["a path that climbs", { path: "/../../etc/passwd", body: "{}" }, 404],
    ["a name of every object", { path: "/__proto__/constructor", body: "{}" }, 404],
    ["a stream of requests", { path: "/foedus.test.v1.EchoService/Sum", body: "{}" }, 501],
    ["another content type", { path: ECHO, body: "{}", headers: { "content-type": "text/plain" } }, 415],
    ["a form", { path: ECHO, body: "text=x", headers: { "content-type": "application/x-www-form-urlencoded" } }, 415],
    ["JSON in another encoding", { path: ECHO, body: "{}", headers: { "content-type": "application/json; charset=utf-16" } }, 415],
    ["gRPC", { path: ECHO, body: "", headers: { "content-type": "application/grpc" } }, 415],
    ["a unary call to a stream", { path: COUNT, body: "{}" }, 415],
    ["compressed", { path: ECHO, body: "{}", headers: { "content-encoding": "gzip" } }, 501],
    ["PUT", { path: ECHO, method: "PUT", body: "{}" }, 405],
    ["GET of what changes something", { path: `${RESET}?encoding=json&message={}`, method: "GET" }, 405],
  ] as const)("%s", async (_, request, status) => {
    const answer = await call(fixture.httpPort, operator, alpha.caPem, request);
    expect([answer.status, typeof JSON.parse(answer.body).message]).toEqual([status, "string"]);
    await nothingHeld();
  });

  test("GET of what only reads", async () => {
    const get = (query: string) => call(fixture.httpPort, operator, alpha.caPem, { path: `${ECHO}?${query}`, method: "GET" });
    const message = encodeURIComponent('{"text":"read"}');
    expect(JSON.parse((await get(`connect=v1&encoding=json&message=${message}`)).body)).toMatchObject({ text: "read" });
    const base64 = Buffer.from('{"text":"packed"}').toString("base64url");
    expect(JSON.parse((await get(`encoding=json&base64=1&message=${base64}`)).body)).toMatchObject({ text: "packed" });
    for (const query of [
      "",
      "encoding=json",
      "encoding=xml&message={}",
      "encoding=json&message={}&connect=v2",
      "encoding=json&base64=1&message=*",
    ])
      expect([query, (await get(query)).status]).toEqual([query, 400]);
  });
});

describe("hostile JSON", () => {
  test.each([
    ["nothing", ""],
    ["no JSON", "{"],
    ["two values", "{}{}"],
    ["a list", "[]"],
    ["null", "null"],
    ["NaN", '{"items":[{"size":NaN}]}'],
    ["NaN for a whole number", '{"items":[{"size":"NaN"}]}'],
    ["Infinity", '{"items":[{"size":1e999}]}'],
    ["a number beyond its type", '{"items":[{"size":4294967296}]}'],
    ["a negative number", '{"items":[{"size":-1}]}'],
    ["a number beyond its rule", '{"items":[{"size":10}]}'],
    ["a fraction", '{"items":[{"size":1.5}]}'],
    ["a text for a message", '{"items":["x"]}'],
    ["an unknown field", '{"text":"x","colour":"red"}'],
    ["a key twice", '{"text":"a","text":"b"}'],
    ["a key in both spellings", '{"text":"a","te\\u0078t":"b"}'],
    ["__proto__", '{"__proto__":{"text":"x"}}'],
    ["constructor", '{"constructor":{"prototype":{"text":"x"}}}'],
    ["an extension", '{"[foedus.common.v1.access]":{}}'],
    ["a byte order mark twice", "\ufeff\ufeff{}"],
    ["half a character", '{"text":"\\ud800"}'],
    ["bytes that are no UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
    ["nested 33 deep", `{"items":${"[".repeat(32)}${"]".repeat(32)}}`],
    ["nested 500,000 deep", "[".repeat(500_000)],
    ["32,769 values", `{"items":[${"1,".repeat(32_767)}1]}`],
    ["a million empty objects in strings that never end", `"${"{".repeat(1_000_000)}`],
  ] as const)("%s is refused in a sentence", async (_, body) => {
    const answer = await post(body);
    const error = JSON.parse(answer.body);
    expect([answer.status, error.message.length < 500]).toEqual([error.code === "resource_exhausted" ? 429 : 400, true]);
    expect(error.details[0].debug.reason).toMatch(/^(INVALID_FIELD|LIMIT_EXCEEDED)$/);
    expect(Object.getOwnPropertyNames(Object.prototype)).not.toContain("text");
    await nothingHeld();
  });

  test("brackets in a text are no nesting, and a number may stand in quotes", async () => {
    const text = "[{".repeat(1_000);
    expect(JSON.parse((await post(JSON.stringify({ text, items: [{ size: "9" }] }))).body)).toMatchObject({ text });
  });

  test("a field that broke a rule is named as over gRPC", async () => {
    const { body } = await post('{"items":[{"size":1},{"size":10}]}');
    expect(JSON.parse(body).details[1].debug.fieldViolations[0].field).toBe("items[1].size");
  });

  test.each([
    ["no envelope", Buffer.from("{}")],
    ["half an envelope", Buffer.from([0, 0, 0, 0, 9, 0x7b])],
    ["two envelopes", Buffer.from([0, 0, 0, 0, 2, 0x7b, 0x7d, 0, 0, 0, 0, 2, 0x7b, 0x7d])],
    ["a compressed one", Buffer.from([1, 0, 0, 0, 2, 0x7b, 0x7d])],
    ["one of four gigabytes", Buffer.from([0, 255, 255, 255, 255, 0x7b, 0x7d])],
  ])("a stream whose request is %s ends with the reason", async (_, body) => {
    const headers = { "content-type": "application/connect+json" };
    const answer = await call(fixture.httpPort, service, alpha.caPem, { path: COUNT, body, headers });
    expect([answer.status, answer.body.charCodeAt(0)]).toEqual([200, 2]);
    expect(JSON.parse(answer.body.slice(5)).error.code).toBe("invalid_argument");
  });
});

describe("sizes and times", () => {
  test.each(["with its length", "in chunks"])("a body that is too large, %s, is refused and not kept", async (how) => {
    const chunked: Readonly<Record<string, string>> = how === "in chunks" ? { "transfer-encoding": "chunked" } : {};
    const { status, body } = await post(Buffer.alloc(2_000_000, 0x20), chunked);
    expect([status, JSON.parse(body).details[0].debug.reason]).toEqual([429, "MESSAGE_TOO_LARGE"]);
    await nothingHeld();
  });

  test("headers that are too large end the connection", async () => {
    const { status } = await post("{}", { "x-large": "x".repeat(20_000) });
    expect(status).toBe(431);
  });

  test("who says nothing, or its head too slowly, is cut", async () => {
    const silent = ended(await rawTls(fixture.httpPort, operator, alpha.caPem));
    const slow = await rawTls(fixture.httpPort, operator, alpha.caPem);
    const over = ended(slow);
    slow.write(`POST ${ECHO} HTTP/1.1\r\nHost: alpha\r\nX: `);
    expect(await Promise.all([silent, over])).toEqual(["", ""]);
    expect(await fixture.metric("foedus_http_connections_ended_total", { reason: "idle" })).toBeGreaterThanOrEqual(2);
  });

  test("a body that does not come ends with the reason", async () => {
    const slow = await rawTls(fixture.httpPort, operator, alpha.caPem);
    const over = ended(slow);
    slow.write(`POST ${ECHO} HTTP/1.1\r\nHost: alpha\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`);
    expect(await over).toMatch(/^HTTP\/1\.1 504 [\s\S]*"code":"deadline_exceeded"/);
    await nothingHeld();
  });

  test("requests behind one that is not answered end the connection, and what ran hears of it", async () => {
    const socket = await rawTls(fixture.httpPort, operator, alpha.caPem);
    const over = ended(socket);
    const one = `POST ${ECHO} HTTP/1.1\r\nHost: alpha\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"text":"!hang"}`;
    const before = fixture.seen.aborts.length;
    const ran = fixture.seen.contexts.length;
    socket.write(one);
    await until(() => fixture.seen.contexts.length > ran);
    socket.write(one);
    expect(await over).toBe("");
    await nothingHeld();
    expect(fixture.seen.aborts.slice(before)).toEqual(["CANCELLED"]);
  });

  test("a request that comes as soon as the answer before it is there is none of these, however fast", async () => {
    const clients = Array.from({ length: 8 }, () => connectClient(EchoService, fixture.httpPort, operator, alpha.caPem));
    const before = await fixture.metric("foedus_http_connections_ended_total", { reason: "pipelined" });
    const one = async (client: (typeof clients)[number]): Promise<void> => {
      for (let i = 0; i < 250; i++) expect((await client.echo({ text: String(i) })).text).toBe(String(i));
    };
    await Promise.all(clients.map(one));
    expect(await fixture.metric("foedus_http_connections_ended_total", { reason: "pipelined" })).toBe(before);
    await nothingHeld();
  }, 30_000);

  test("two ways to say how long a body is are none", async () => {
    const socket = await rawTls(fixture.httpPort, operator, alpha.caPem);
    const over = ended(socket);
    socket.write(`POST ${ECHO} HTTP/1.1\r\nHost: alpha\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`);
    expect(await over).toMatch(/^HTTP\/1\.1 400 /);
  });

  test("a body in crumbs costs its sender all its connections", async () => {
    // A server of its own: their address is shut out for a while.
    const mine = await serveHttp(alpha, []);
    const socket = await rawTls(mine.httpPort, operator, alpha.caPem);
    const over = ended(socket);
    socket.write(`POST ${ECHO} HTTP/1.1\r\nHost: alpha\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`);
    for (let i = 0; i < 4_000 && !socket.destroyed; i++) socket.write("1\r\n \r\n");
    expect(await over).toBe("");
    expect(await mine.metric("foedus_connections_refused_total", { reason: "chatter" })).toBeGreaterThan(0);
    await mine.close();
  });

  test.each([
    ["30", "deadline_exceeded", 504],
    ["0", "deadline_exceeded", 504],
    ["soon", "invalid_argument", 400],
    ["99999999999", "invalid_argument", 400],
  ] as const)("Connect-Timeout-Ms: %s", async (timeout, code, status) => {
    const answer = await post('{"text":"!hang"}', { "connect-timeout-ms": timeout });
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([status, code]);
    await nothingHeld();
  });

  test("a deadline of months is one", async () => {
    expect((await post('{"text":"x"}', { "connect-timeout-ms": "9999999999" })).status).toBe(200);
  });
});

describe("streams", () => {
  test("one that is cancelled leaves nothing open", async () => {
    const client = connectClient(EchoService, fixture.httpPort, service, alpha.caPem);
    const controller = new AbortController();
    const before = fixture.seen.aborts.length;
    const read = async (): Promise<void> => {
      for await (const { n } of client.count({ to: 100_000, padding: 10_000 }, { signal: controller.signal }))
        if (n === 10) controller.abort();
    };
    await expect(read()).rejects.toThrow();
    await nothingHeld();
    expect(fixture.seen.aborts.slice(before)).toEqual(["CANCELLED"]);
  });

  test("who does not read holds little, and what runs for it waits", async () => {
    const socket = await rawTls(fixture.httpPort, service, alpha.caPem);
    socket.on("error", () => undefined);
    const message = Buffer.from('{"to":100000,"padding":100000}');
    const head = Buffer.from([0, 0, 0, 0, message.length]);
    socket.pause();
    socket.write(
      `POST ${COUNT} HTTP/1.1\r\nHost: alpha\r\nContent-Type: application/connect+json\r\nContent-Length: ${message.length + 5}\r\n\r\n`,
    );
    socket.write(Buffer.concat([head, message]));
    await until(() => fixture.server.unreadBytes > 0);
    let most = 0;
    for (let look = 0; look < 100; look++) {
      most = Math.max(most, fixture.server.unreadBytes);
      await until(() => true);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(most).toBeLessThan(1_000_000);
    socket.destroy();
    await nothingHeld();
  });

  test("one that runs when the hub stops is told so", async () => {
    const mine = await serveHttp(alpha, []);
    const client = connectClient(EchoService, mine.httpPort, alpha.service(), alpha.caPem);
    const hung = client.echo({ text: "!hang" }).catch((error: unknown) => error);
    await until(() => mine.server.calls === 1);
    await mine.server.drain(50);
    expect(await hung).toBeInstanceOf(Error);
    await expect.poll(() => mine.server.connections).toBe(0);
    await expect(call(mine.httpPort, operator, alpha.caPem, { path: ECHO, body: "{}" })).rejects.toThrow(/ECONNREFUSED/);
  });
});

test("a caller whose certificate ends while its connection lives is refused", async () => {
  let shift = 0;
  const mine = await serveHttp(alpha, [], { clock: shiftedClock(() => shift) });
  const client = connectClient(EchoService, mine.httpPort, operator, alpha.caPem);
  await client.echo({ text: "x" });
  shift = 400 * 24 * 3_600_000;
  await expect(client.echo({ text: "x" }).catch((error: unknown) => toldBy(error).reason)).resolves.toBe("CERTIFICATE_EXPIRED");
  await mine.close();
});

test("a renewed certificate is shown to new connections over HTTP as well, and a new CA lets its callers in", async () => {
  const mine = await serveHttp(alpha, []);
  const shown = async (): Promise<string> => {
    const socket = await rawTls(mine.httpPort, operator, alpha.caPem);
    const { fingerprint256 } = socket.getPeerCertificate();
    socket.destroy();
    return fingerprint256;
  };
  const before = await shown();
  const { certificatePem: cert, keyPem: key } = alpha.service();
  mine.server.rotate({ cert, key, ca: [alpha.caPem, beta.caPem] });
  expect([before === (await shown()), await shown()]).toEqual([false, new X509Certificate(cert).fingerprint256]);
  mine.authority.trust(beta, 3);
  const { status, body } = await call(mine.httpPort, beta.service(), alpha.caPem, { path: ECHO, body: "{}" });
  expect([status, JSON.parse(body).details[0].debug.reason]).toEqual([401, "TOKEN_INVALID"]);
  await mine.close();
});
