import { X509Certificate } from "node:crypto";
import net from "node:net";
import { connect } from "node:tls";
import { gzipSync } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ClientOf, type Outbound, RawMessage } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import { encodeMessage, methodPath } from "#channel/messages.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { FoedusError } from "#kernel/error.ts";
import type { EventReport } from "#runtime/events.ts";
import {
  CountRequestSchema,
  type CountResponse,
  CountResponseSchema,
  EchoRequestSchema,
  EchoService,
  GreetRequestSchema,
  OpenService,
  ResetRequestSchema,
  SessionRequestSchema,
  SumRequestSchema,
} from "../../../../test/proto/echo-service.gen.ts";
import {
  bearer,
  collect,
  echoBinding,
  type Fixture,
  failureOfCall,
  serve,
  shiftedClock,
  testTokens,
  tokenFor,
  until,
} from "../../../../test/rpc/fixture.ts";
import { endOf, grpcMessage, grpcStream, rawH2 } from "../../../../test/support/raw-h2.ts";
import { type Credential, type TestHub, testHub } from "../../../../test/testca/index.ts";
import { bind } from "../call.ts";
import { createClient } from "../client/client.ts";

let alpha: TestHub;
let beta: TestHub;
let gamma: TestHub;
let fixture: Fixture;
let peer: Credential;
let token: { readonly metadata: Readonly<Record<string, string>> };

const echo = (text: string) => create(EchoRequestSchema, { text });
const say = (text: string) => create(SessionRequestSchema, { frame: { case: "say", value: text } });

beforeAll(async () => {
  [alpha, beta, gamma] = await Promise.all([testHub("alpha"), testHub("beta"), testHub("gamma")]);
  fixture = await serve(alpha, [beta, gamma]);
  peer = beta.service();
  token = bearer(tokenFor("beta", peer));
});
afterAll(() => fixture.close());

describe("the four kinds of call over mutual TLS", () => {
  test("unary", async () => {
    const client = fixture.dial(peer);
    await expect(client.echo(echo("hi"), token)).resolves.toMatchObject({ text: "hi", caller: "spiffe://beta/service/hub" });
  });

  test("a RawMessage is sent as it is", async () => {
    const duplex = fixture.dial(peer).session(token);
    duplex.send(new RawMessage(encodeMessage(SessionRequestSchema, say("raw"))));
    duplex.end();
    expect((await collect(duplex.responses)).map(({ frame }) => frame.value)).toEqual(["raw"]);
  });

  test("server stream delivers all before its end", async () => {
    const answers = await collect(fixture.dial(peer).count(create(CountRequestSchema, { to: 2000 }), token));
    expect(answers.map(({ n }) => n)).toEqual(Array.from({ length: 2000 }, (_, i) => i + 1));
  });

  test("server stream delivers what came before its failure", async () => {
    const got: number[] = [];
    const read = async () => {
      for await (const { n } of fixture.dial(peer).count(create(CountRequestSchema, { to: 3, fail: true }), token)) got.push(n);
    };
    expect(await failureOfCall(read())).toMatchObject({ reason: "NODE_OFFLINE", message: "the node went away" });
    expect(got).toEqual([1, 2, 3]);
  });

  test("client stream", async () => {
    const duplex = fixture.dial(peer).sum(token);
    for (const n of [1, 2, 3, 4]) duplex.send(create(SumRequestSchema, { n }));
    duplex.end();
    expect(await collect(duplex.responses)).toMatchObject([{ sum: 10 }]);
  });

  test("bidi stream", async () => {
    const duplex = fixture.dial(peer).session(token);
    await duplex.opened;
    const answers = duplex.responses[Symbol.asyncIterator]();
    for (const text of ["a", "b"]) {
      expect(duplex.send(say(text))).toBe(true);
      expect((await answers.next()).value?.frame.value).toBe(text);
    }
    duplex.send(say("bye"));
    expect((await answers.next()).done).toBe(true);
    await until(() => duplex.closed);
    expect(duplex.send(say("x"))).toBe(false);
  });
});

describe("back-pressure", () => {
  test("S0-5 a sender is never far ahead of a slow reader", async () => {
    let sent = 0;
    let mostBuffered = 0;
    const padding = new Uint8Array(100_000);
    const count = async (_request: unknown, out: Outbound<CountResponse>): Promise<void> => {
      while (sent < 400 && !out.closed) {
        out.send(create(CountResponseSchema, { n: ++sent, padding }));
        mostBuffered = Math.max(mostBuffered, out.bufferedBytes);
        await out.drained();
      }
    };
    const binding = echoBinding();
    const other = await serve(alpha, [beta], { bindings: [{ ...binding, handlers: { ...binding.handlers, count } }] });
    let read = 0;
    let mostAhead = 0;
    for await (const { n } of other.dial(peer, { flowControlWindowBytes: 65_535 }).count(create(CountRequestSchema), token)) {
      expect(n).toBe(++read);
      mostAhead = Math.max(mostAhead, sent - read);
      if (read % 50 === 0) await new Promise((resolve) => void systemClock.setImmediate(() => resolve(undefined)));
    }
    expect(read).toBe(400);
    // 16 messages in the reader's buffer, and the mark and the window in between.
    expect(mostAhead).toBeLessThan(30);
    expect(mostBuffered).toBeLessThan(256 * 1024 + 2 * 100_020);
    await other.close();
  });
  test("a stream that failed does not stay open because its client does not read what came before", async () => {
    const padding = new Uint8Array(100_000);
    const count = async (_request: unknown, out: Outbound<CountResponse>): Promise<void> => {
      for (let n = 1; n <= 80; n++) out.send(create(CountResponseSchema, { n, padding }));
      throw new FoedusError({ reason: "NODE_OFFLINE", message: "the node went away" });
    };
    const binding = echoBinding();
    // Ten seconds are a tenth of a second here.
    const { setTimer } = systemClock;
    const clock: Clock = { ...systemClock, setTimer: (delayMs, fn) => setTimer(delayMs / 100, fn) };
    const bindings = [{ ...binding, handlers: { ...binding.handlers, count } }];
    const other = await serve(alpha, [beta], { bindings, clock, limits: { defaultTimeoutMs: 1e9 } });
    const unread = other.dial(peer, { flowControlWindowBytes: 65_535 }).count(create(CountRequestSchema), token)[Symbol.asyncIterator]();
    expect((await unread.next()).value?.n).toBe(1);
    expect(other.server.calls).toBe(1);
    await until(() => other.server.calls === 0);
    await other.close();
  });
});

describe("failures", () => {
  test("S0-9 a handler that throws ends the call with INTERNAL and an id, and its text stays in the log", async () => {
    const failure = await failureOfCall(fixture.dial(peer).echo(echo("!bug"), token));
    expect(failure.reason).toBe("INTERNAL");
    expect(failure.message).toMatch(/^internal error [0-9a-z]{16}$/);
    const line = fixture.lines.find(({ fields }) => fields["error_id"] === failure.facts?.["error_id"]);
    expect(line).toMatchObject({ level: "error", message: "unexpected error in a handler" });
    expect(JSON.stringify(failure)).not.toContain("secret");
  });

  test("details go there and back", async () => {
    const client = fixture.dial(peer);
    expect(await failureOfCall(client.echo(echo("!busy"), token))).toEqual({
      reason: "OVERLOADED",
      message: "the mailbox is full",
      facts: { mailbox: "echo", retry_after_ms: "2500" },
    });
    expect(await failureOfCall(client.echo(echo("!field"), token))).toEqual({
      reason: "VALUE_OUT_OF_RANGE",
      message: "too bright",
      field: "items[0].size",
    });
  });

  test("a request that breaks the schema's rules names every field", async () => {
    const request = create(EchoRequestSchema, { items: [{ size: 3 }, { size: 10, name: "UP" }] });
    const failure = await failureOfCall(fixture.dial(peer).echo(request, token));
    expect(failure).toMatchObject({ reason: "INVALID_FIELD", field: "items[1].size" });
    expect(failure).toHaveProperty("violations", [
      expect.objectContaining({ field: "items[1].size" }),
      expect.objectContaining({ field: "items[1].name" }),
    ]);
  });

  test("messages of a stream without frames are checked, frames are left to their handler", async () => {
    const sum = fixture.dial(peer).sum(token);
    sum.send(create(SumRequestSchema, { n: 1001 }));
    expect(await failureOfCall(collect(sum.responses))).toMatchObject({ reason: "INVALID_FIELD", field: "n" });
    const session = fixture.dial(peer).session(token);
    session.send(say("longer than three"));
    session.end();
    expect(await collect(session.responses)).toHaveLength(1);
  });

  test("bytes that are no message are INVALID_FIELD", async () => {
    const bytes = new RawMessage(Buffer.from([0xff, 0xff, 0xff]));
    const failure = await failureOfCall(fixture.dial(peer).echo(bytes as never, token));
    expect(failure).toMatchObject({ reason: "INVALID_FIELD", message: "the bytes are not a valid foedus.test.v1.EchoRequest" });
  });

  test.each([
    ["gzip that is cut off", { "grpc-encoding": "gzip" }, gzipSync(Buffer.alloc(1_000)).subarray(0, 12)],
    ["bytes that are no gzip", { "grpc-encoding": "gzip" }, Buffer.from("no gzip at all")],
  ])("S-20 %s is the caller's fault and no error of this server", async (_name, headers, bytes) => {
    const before = fixture.lines.filter(({ level }) => level === "error").length;
    const session = await rawH2({ port: fixture.port, credential: peer, ca: alpha.caPem });
    const stream = grpcStream(session, methodPath(EchoService.method.echo), { ...token.metadata, ...headers });
    stream.end(grpcMessage(bytes, true));
    expect((await endOf(stream)).status).toBe("3");
    expect(fixture.lines.filter(({ level }) => level === "error")).toHaveLength(before);
    session.destroy();
  });

  test("a message above the limit is MESSAGE_TOO_LARGE and a snapshot part of 1 MiB fits", async () => {
    const client = fixture.dial(peer);
    await expect(client.echo(echo("x".repeat(1024 * 1024)), token)).resolves.toBeDefined();
    expect(await failureOfCall(client.echo(echo("x".repeat(1_200_000)), token))).toMatchObject({
      reason: "MESSAGE_TOO_LARGE",
      facts: { max_bytes: String(1024 * 1024 + 65_536) },
    });
  });

  test("a bidi handler that fails ends the stream with its reason", async () => {
    const duplex = fixture.dial(peer).session(token);
    duplex.send(create(SessionRequestSchema, { frame: { case: "fail", value: "enough" } }));
    expect(await failureOfCall(collect(duplex.responses))).toEqual({ reason: "TERMINATED", message: "enough" });
    await expect(duplex.drained()).resolves.toBeUndefined();
  });
});

describe("identity", () => {
  test("no certificate: the handshake fails and is counted", async () => {
    const count = () => fixture.metric("foedus_tls_handshake_failures_total", { reason: "no_certificate" });
    const before = await count();
    const socket = connect({
      port: fixture.port,
      host: "127.0.0.1",
      ca: [alpha.caPem],
      ALPNProtocols: ["h2"],
      checkServerIdentity: () => undefined,
    });
    socket.on("error", () => undefined);
    await until(async () => (await count()) > before);
    socket.destroy();
  });

  test("a certificate of an unknown CA: the handshake fails and is counted", async () => {
    const stranger = await testHub("delta");
    const failure = await failureOfCall(fixture.dial(stranger.service()).greet(create(GreetRequestSchema)));
    expect(failure).toMatchObject({ reason: "PEER_UNREACHABLE", message: expect.stringContaining("it may not admit this certificate") });
    expect(await fixture.metric("foedus_tls_handshake_failures_total", { reason: "unknown_ca" })).toBeGreaterThan(0);
  });

  test("an expired certificate: the handshake fails and is counted", async () => {
    await failureOfCall(fixture.dial(beta.expired()).greet(create(GreetRequestSchema)));
    expect(await fixture.metric("foedus_tls_handshake_failures_total", { reason: "certificate_expired" })).toBeGreaterThan(0);
  });

  test.each([
    ["FOREIGN_CA", "own-bundle", () => gamma.impersonating("beta")],
    ["FOREIGN_CA", "own-bundle", () => beta.impersonating("alpha", "operator", "root")],
    ["UNKNOWN_IDENTITY", "known-hub", () => gamma.impersonating("nowhere")],
    ["UNKNOWN_IDENTITY", "one-spiffe-id", () => beta.twoUris()],
    ["UNKNOWN_IDENTITY", "one-spiffe-id", () => beta.withoutUri()],
    ["ACCESS_DENIED", "services-only-abroad", () => beta.operator()],
    ["ACCESS_DENIED", "services-only-abroad", () => beta.gateway()],
  ])("D-1 TLS lets it pass and the hub refuses it: %s by %s (case %#)", async (reason, check, credential) => {
    const failure = await failureOfCall(fixture.dial(credential()).echo(echo("x")));
    expect(failure).toMatchObject({ reason, facts: { check } });
  });

  test("a certificate that expires on an open connection is refused from then on", async () => {
    let shiftMs = 0;
    const other = await serve(alpha, [beta], { clock: shiftedClock(() => shiftMs) });
    const client = other.dial(beta.service());
    await client.greet(create(GreetRequestSchema), { timeoutMs: 60_000 });
    shiftMs = 10 * 365 * 86_400_000;
    expect(await failureOfCall(client.greet(create(GreetRequestSchema)))).toMatchObject({
      reason: "CERTIFICATE_EXPIRED",
      facts: { check: "validity" },
    });
    await other.close();
  });

  test("a revoked certificate is refused on an open connection", async () => {
    const revoked = beta.service("revoked");
    const client = fixture.dial(revoked);
    const { caller } = await client.greet(create(GreetRequestSchema));
    expect(caller).toBe("spiffe://beta/service/revoked");
    fixture.authority.withdrawn.add(thumbprintOf(new X509Certificate(revoked.certificatePem)));
    expect(await failureOfCall(client.greet(create(GreetRequestSchema)))).toMatchObject({
      reason: "UNKNOWN_IDENTITY",
      facts: { check: "not-revoked" },
    });
  });

  test("kinds of this hub: node, gateway with prefixes, operator with role, own service", async () => {
    const seen = async (credential: Credential) => {
      await fixture.dial(credential).echo(echo("who"));
      return fixture.seen.contexts.at(-1)?.caller;
    };
    expect(await seen(alpha.node("lamp"))).toMatchObject({ kind: "node", hubId: "alpha", name: "lamp" });
    expect(await seen(alpha.gateway("zigbee", ["z-", "y-"]))).toMatchObject({ kind: "gateway", prefixes: ["z-", "y-"] });
    expect(await seen(alpha.operator("ada", "viewer"))).toMatchObject({ kind: "operator", role: 1 });
    expect(await seen(alpha.operator("eve", "admin"))).toMatchObject({ kind: "operator", role: 2 });
    expect(await seen(alpha.service("telemetry"))).toMatchObject({ kind: "service", name: "telemetry", level: 0 });
  });

  test("a client refuses a server of another hub and says why", async () => {
    const impostor = await serve(gamma, [beta]);
    const client = createClient(EchoService, {
      address: `127.0.0.1:${impostor.port}`,
      credentials: fixture.credentials(peer),
      clock: systemClock,
    });
    expect((await failureOfCall(client.greet(create(GreetRequestSchema)))).reason).toBe("FOREIGN_CA");
    client.close();
    await impostor.close();
  });

  test("S-15 a caller who passes TLS and is refused by who it is, is an event with its address, once a minute", async () => {
    const events: EventReport[] = [];
    const other = await serve(alpha, [beta], { events: { report: (event) => void events.push(event) } });
    const impostor = other.dial(beta.impersonating("alpha", "operator", "root"));
    for (let i = 0; i < 5; i++) await failureOfCall(impostor.echo(echo("x")));
    const revoked = beta.service("revoked");
    const client = other.dial(revoked);
    await client.greet(create(GreetRequestSchema));
    other.authority.withdrawn.add(thumbprintOf(new X509Certificate(revoked.certificatePem)));
    await failureOfCall(client.greet(create(GreetRequestSchema)));
    expect(events).toEqual([
      expect.objectContaining({ kind: "ACCESS_REFUSED", fields: expect.objectContaining({ remote: "127.0.0.1", claims: "alpha" }) }),
      expect.objectContaining({ kind: "ACCESS_REFUSED", text: expect.stringContaining("was revoked") }),
    ]);
    await other.close();
  });

  test("a client refuses another service than it expects and names both", async () => {
    const { certificatePem, keyPem } = peer;
    const credentials = createPeerCredentials(
      { hubId: "alpha", name: "discovery" },
      { cert: certificatePem, key: keyPem, ca: [alpha.caPem] },
      systemClock,
    );
    const client = fixture.dial(peer, { credentials });
    const facts = { presented: "spiffe://alpha/service/hub", expected: "spiffe://alpha/service/discovery" };
    expect(await failureOfCall(client.greet(create(GreetRequestSchema)))).toMatchObject({ reason: "UNKNOWN_IDENTITY", facts });
  });

  test("nothing listens: PEER_UNREACHABLE in words", async () => {
    const free = net.createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => free.once("listening", resolve));
    const { port } = free.address() as net.AddressInfo;
    await new Promise((resolve) => free.close(resolve));
    const client = fixture.dial(peer, { address: `127.0.0.1:${port}` });
    expect(await failureOfCall(client.greet(create(GreetRequestSchema)))).toMatchObject({
      reason: "PEER_UNREACHABLE",
      message: "nothing listens at the address",
    });
  });
});

describe("access", () => {
  test("S0-4 a method without an access option stops the start", async () => {
    const anything = (): never => {
      throw new Error("never called");
    };
    const served = serve(alpha, [], { bindings: [bind(OpenService, { anything })] });
    await expect(served).rejects.toMatchObject({
      failure: { reason: "ACCESS_DENIED", message: expect.stringContaining("OpenService.Anything") },
    });
  });

  test("kinds and roles", async () => {
    expect(await failureOfCall(fixture.dial(alpha.node()).reset(create(ResetRequestSchema)))).toMatchObject({ reason: "ACCESS_DENIED" });
    expect(await failureOfCall(fixture.dial(alpha.operator("v", "viewer")).reset(create(ResetRequestSchema)))).toMatchObject({
      reason: "ACCESS_DENIED",
    });
    await expect(fixture.dial(alpha.operator("a", "admin")).reset(create(ResetRequestSchema))).resolves.toBeDefined();
  });

  test("S4-4 trust levels count at once when they change", async () => {
    const client = fixture.dial(gamma.service());
    fixture.authority.trust(gamma, 1);
    await expect(client.greet(create(GreetRequestSchema))).resolves.toBeDefined();
    expect(await failureOfCall(client.echo(echo("x")))).toMatchObject({ reason: "TRUST_TOO_LOW", facts: { level: "1", needed: "2" } });
    fixture.authority.trust(gamma, 0);
    expect(await failureOfCall(client.greet(create(GreetRequestSchema)))).toMatchObject({ reason: "TRUST_TOO_LOW" });
    fixture.authority.trust(gamma, 3);
  });

  test("a peer needs its own token, bound to its own certificate", async () => {
    const client = fixture.dial(peer);
    expect(await failureOfCall(client.echo(echo("x")))).toMatchObject({
      reason: "TOKEN_INVALID",
      message: expect.stringContaining("say Hello"),
    });
    const other = beta.service("registry-sync");
    expect(await failureOfCall(client.echo(echo("x"), bearer(tokenFor("beta", other))))).toMatchObject({
      reason: "TOKEN_INVALID",
      message: expect.stringContaining("another certificate"),
    });
    expect(await failureOfCall(client.echo(echo("x"), bearer(tokenFor("gamma", peer))))).toMatchObject({
      reason: "TOKEN_INVALID",
      message: expect.stringContaining("belongs to gamma"),
    });
    expect(await failureOfCall(client.echo(echo("x"), bearer(tokenFor("beta", peer, systemClock.wall() - 1))))).toMatchObject({
      reason: "TOKEN_EXPIRED",
    });
  });

  test("a token is verified once and again after a change of the authority", async () => {
    const tokens = testTokens();
    const other = await serve(alpha, [beta], { tokens });
    const client = other.dial(peer);
    for (let i = 0; i < 3; i++) await client.echo(echo("x"), token);
    expect(tokens.asked).toBe(1);
    expect(other.seen.contexts.at(-1)?.token?.id).toBe("id-of-beta");
    other.authority.trust(beta, 3);
    await client.echo(echo("x"), token);
    expect(tokens.asked).toBe(2);
    await other.close();
  });

  test("rates are per caller", async () => {
    const other = await serve(alpha, [beta, gamma], { rates: () => ({ cheap: { perSecond: 0.001, burst: 2 } }) });
    const client = other.dial(peer);
    await client.greet(create(GreetRequestSchema));
    await client.greet(create(GreetRequestSchema));
    const failure = await failureOfCall(client.greet(create(GreetRequestSchema)));
    expect(failure).toMatchObject({ reason: "RATE_LIMITED", facts: { cost: "cheap" } });
    expect(Number(failure.facts?.["retry_after_ms"])).toBeGreaterThan(900_000);
    await expect(other.dial(gamma.service()).greet(create(GreetRequestSchema))).resolves.toBeDefined();
    await other.close();
  });
});

describe("deadlines, cancellation and their counts", () => {
  const handled = (f: Fixture, code: string, method = "Echo") =>
    f.metric("grpc_server_handled_total", { grpc_method: method, grpc_code: code });

  test("the caller's deadline", async () => {
    const before = await handled(fixture, "DeadlineExceeded");
    const failure = await failureOfCall(fixture.dial(peer).echo(echo("!hang"), { ...token, timeoutMs: 300 }));
    expect(failure.reason).toBe("DEADLINE_EXPIRED");
    await until(async () => (await handled(fixture, "DeadlineExceeded")) === before + 1);
    expect(fixture.seen.aborts.at(-1)).toBe("DEADLINE_EXPIRED");
  });

  test("F-3 deadlines of 25 and of 50 days are deadlines, and not in the past", async () => {
    const client = fixture.dial(peer);
    for (const timeoutMs of [2 ** 31 + 1_000, 2 ** 32 + 1_000])
      await expect(client.echo(echo("hello"), { ...token, timeoutMs })).resolves.toMatchObject({ text: "hello" });
    const controller = new AbortController();
    const fails = failureOfCall(client.echo(echo("!hang"), { ...token, timeoutMs: 2 ** 32 + 1_000, signal: controller.signal }));
    await until(() => (fixture.seen.contexts.at(-1)?.timeoutMs ?? 0) > 2 ** 30);
    controller.abort();
    expect((await fails).reason).toBe("CANCELLED");
  });

  test("calls without a deadline get the default one", async () => {
    const other = await serve(alpha, [beta], { limits: { defaultTimeoutMs: 100 } });
    const failure = await failureOfCall(other.dial(peer).echo(echo("!hang"), { ...token, timeoutMs: Infinity }));
    expect(failure).toMatchObject({ reason: "DEADLINE_EXPIRED", message: expect.stringContaining("100 ms") });
    expect(await handled(other, "DeadlineExceeded")).toBe(1);
    expect(other.seen.aborts).toEqual(["DEADLINE_EXPIRED"]);
    await other.close();
  });

  test("a cancelled call tells its handler and is counted", async () => {
    const other = await serve(alpha, [beta]);
    const controller = new AbortController();
    const call = failureOfCall(other.dial(peer).echo(echo("!hang"), { ...token, signal: controller.signal }));
    await until(() => other.seen.contexts.length === 1);
    controller.abort();
    expect((await call).reason).toBe("CANCELLED");
    await until(() => other.seen.aborts.length === 1);
    expect(other.seen.aborts).toEqual(["CANCELLED"]);
    expect(await handled(other, "Canceled")).toBe(1);
    expect(other.server.calls).toBe(0);
    await other.close();
  });

  test("counts as go-grpc-middleware does", async () => {
    const other = await serve(alpha, [beta]);
    const client = other.dial(peer);
    await client.echo(echo("a"), token);
    await failureOfCall(client.echo(echo("!busy"), token));
    await collect(client.count(create(CountRequestSchema, { to: 5 }), token));
    await until(() => other.server.calls === 0);
    expect(await other.metric("grpc_server_started_total", { grpc_method: "Echo", grpc_type: "unary" })).toBe(2);
    expect(await handled(other, "OK")).toBe(1);
    expect(await handled(other, "ResourceExhausted")).toBe(1);
    expect(await other.metric("grpc_server_msg_received_total", { grpc_method: "Echo" })).toBe(2);
    expect(await other.metric("grpc_server_msg_sent_total", { grpc_method: "Count", grpc_type: "server_stream" })).toBe(5);
    const text = await other.metrics.metrics();
    expect(text).toContain(
      'grpc_server_handling_seconds_count{grpc_type="unary",grpc_service="foedus.test.v1.EchoService",grpc_method="Echo"} 2',
    );
    await other.close();
  });

  test("a refused call is counted and logged", async () => {
    const other = await serve(alpha, [beta]);
    await failureOfCall(other.dial(peer).echo(echo("x")));
    expect(await handled(other, "Unauthenticated")).toBe(1);
    expect(other.lines.at(-1)).toMatchObject({ level: "warn", message: "rpc ended", fields: { caller: "spiffe://beta/service/hub" } });
    await other.close();
  });
});

describe("connections", () => {
  test("a taken port is explained", async () => {
    const error = await fixture.server.listen("127.0.0.1", fixture.port).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(FoedusError);
    expect((error as FoedusError).message).toBe(
      `port ${fixture.port} on 127.0.0.1 is already in use; stop the other program or configure another port`,
    );
  });

  test("D-9 cut ends the connections of one hub only", async () => {
    const other = await serve(alpha, [beta, gamma]);
    const third = gamma.service();
    const cut = other.dial(peer).session(token);
    const kept = other.dial(third).session(bearer(tokenFor("gamma", third)));
    await Promise.all([cut.opened, kept.opened]);
    expect(other.server.cut("beta")).toBe(1);
    expect(await failureOfCall(collect(cut.responses))).toMatchObject({ reason: "PEER_UNREACHABLE" });
    kept.send(say("yes"));
    expect((await kept.responses[Symbol.asyncIterator]().next()).value?.frame.value).toBe("yes");
    await until(() => other.seen.aborts.length === 1);
    expect(other.seen.aborts).toEqual(["CANCELLED"]);
    kept.cancel();
    await other.close();
  });

  test("more connections than one address may have are closed before TLS", async () => {
    const other = await serve(alpha, [beta], { limits: { maxConnectionsPerIp: 1 } });
    await other.dial(peer).greet(create(GreetRequestSchema));
    expect((await failureOfCall(other.dial(peer).greet(create(GreetRequestSchema)))).reason).toBe("PEER_UNREACHABLE");
    expect(await other.metric("foedus_connections_refused_total", { reason: "per_ip_limit" })).toBeGreaterThan(0);
    await other.close();
  });

  describe("H2-6 a client whose second connection is refused", () => {
    const numbersOf = async (client: ClientOf<typeof EchoService>, fail = false): Promise<number[]> => {
      const seen: number[] = [];
      for await (const { n } of client.count(create(CountRequestSchema, { to: 3, fail }), { timeoutMs: 5_000 })) seen.push(n);
      return seen;
    };

    test("takes server streams on its first one while that stands", async () => {
      const other = await serve(alpha, [], { limits: { maxConnectionsPerIp: 1 } });
      const client = other.dial(alpha.service());
      await client.echo(create(EchoRequestSchema));
      expect([await numbersOf(client), await numbersOf(client), other.server.connections]).toEqual([[1, 2, 3], [1, 2, 3], 1]);
      expect((await failureOfCall(numbersOf(client, true))).reason).toBe("NODE_OFFLINE");
      expect(await other.metric("foedus_connections_refused_total", { reason: "per_ip_limit" })).toBeGreaterThan(0);
      await other.close();
    });

    test("is told so when it has no other", async () => {
      const other = await serve(alpha, [], { limits: { maxConnectionsPerIp: 0 } });
      const client = other.dial(alpha.service());
      expect((await failureOfCall(numbersOf(client))).reason).toBe("PEER_UNREACHABLE");
      expect((await failureOfCall(client.echo(create(EchoRequestSchema)))).reason).toBe("PEER_UNREACHABLE");
      expect((await failureOfCall(numbersOf(client))).reason).toBe("PEER_UNREACHABLE");
      await other.close();
    });

    test("does not open a stream again that the server ended", async () => {
      const other = await serve(alpha, []);
      const client = other.dial(alpha.service());
      await client.echo(create(EchoRequestSchema));
      const [end, begun] = [create(CountRequestSchema, { fail: true }), client.count(create(CountRequestSchema, { to: 100_000 }))];
      expect((await failureOfCall(collect(client.count(end)))).reason).toBe("NODE_OFFLINE");
      const numbers = begun[Symbol.asyncIterator]();
      expect((await numbers.next()).value?.n).toBe(1);
      await numbers.return?.();
      expect(other.seen.contexts.filter(({ method }) => method === EchoService.method.count)).toHaveLength(2);
      await other.close();
    });
  });

  test("drain lets calls finish, ends long-lived streams with SHUTTING_DOWN and refuses new connections", async () => {
    const other = await serve(alpha, [beta]);
    const client = other.dial(peer);
    const session = client.session(token);
    await session.opened;
    const drained = other.server.drain(5_000);
    const frames: (string | undefined)[] = [];
    const read = async () => {
      for await (const { frame } of session.responses) frames.push(frame.case);
    };
    expect(await failureOfCall(read())).toMatchObject({ reason: "SHUTTING_DOWN" });
    expect(frames).toEqual(["goodbye"]);
    await drained;
    expect(other.server.connections).toBe(0);
    expect((await failureOfCall(other.dial(peer).greet(create(GreetRequestSchema)))).reason).toBe("PEER_UNREACHABLE");
    await other.close();
  });

  test("drain waits for running calls no longer than the grace time", async () => {
    const other = await serve(alpha, [beta]);
    const call = failureOfCall(other.dial(peer).echo(echo("!hang"), token));
    await until(() => other.seen.contexts.length === 1);
    await other.server.drain(50);
    expect((await call).reason).toBe("PEER_UNREACHABLE");
    expect(other.lines).toContainEqual(expect.objectContaining({ message: "calls cut at the end of the grace time" }));
    await other.close();
  });

  test("S-11 a server that has ended tells what it held back, and leaves no timer that keeps its process alive", async () => {
    const timers = new Set<object>();
    const real: Clock = systemClock;
    const clock: Clock = {
      ...real,
      setTimer: (delayMs, fn) => {
        const timer = real.setTimer(delayMs, () => {
          timers.delete(kept);
          fn();
        });
        const cancel = (): void => {
          timers.delete(kept);
          timer.cancel();
        };
        const kept = { delayMs, cancel };
        timers.add(kept);
        return kept;
      },
    };
    const events: EventReport[] = [];
    const other = await serve(alpha, [beta], { clock, events: { report: (event) => void events.push(event) } });
    const revoked = beta.service("revoked");
    other.authority.withdrawn.add(thumbprintOf(new X509Certificate(revoked.certificatePem)));
    const client = other.dial(revoked);
    for (let i = 0; i < 3; i++) expect((await failureOfCall(client.echo(echo("x"), token))).reason).not.toBe("");
    expect(events).toHaveLength(1);
    await other.close();
    expect(events.map(({ fields }) => fields?.["times"])).toEqual([undefined, "2"]);
    // Sockets that were destroyed close in a later turn, and with the last of them ends the look at connections.
    await until(() => timers.size === 0);
  });

  test("D-13 rotation: new connections see the new certificate, open ones live on, bad material changes nothing", async () => {
    const other = await serve(alpha, [beta]);
    const before = other.dial(peer);
    await before.greet(create(GreetRequestSchema));
    const shown = () =>
      new Promise<string>((resolve, reject) => {
        const options = {
          port: other.port,
          host: "127.0.0.1",
          ca: [alpha.caPem],
          cert: peer.certificatePem,
          key: peer.keyPem,
          ALPNProtocols: ["h2"],
          checkServerIdentity: () => undefined,
        };
        const socket = connect(options, () => {
          resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? "");
          socket.destroy();
        });
        socket.on("error", reject);
      });
    const first = await shown();
    const next = alpha.service();
    const material = { cert: next.certificatePem, key: next.keyPem, ca: [alpha.caPem, gamma.caPem] };
    const wrongKey = [alpha.service(), alpha.service()].map(({ keyPem }) => keyPem).find((key) => key !== next.keyPem) as string;
    expect(() => other.server.rotate({ ...material, key: wrongKey })).toThrow("do not belong together");
    expect(() => other.server.rotate({ ...material, cert: "garbage" })).toThrow("no certificate");
    expect(await shown()).toBe(first);
    other.server.rotate({ ...material, ca: [alpha.caPem, beta.caPem] });
    expect(await shown()).not.toBe(first);
    other.server.rotate(material);
    await expect(before.greet(create(GreetRequestSchema))).resolves.toBeDefined();
    expect((await failureOfCall(other.dial(peer).greet(create(GreetRequestSchema)))).reason).toBe("PEER_UNREACHABLE");
    await other.close();
  });

  test("client credentials rotate for the next connection", async () => {
    const other = await serve(alpha, [beta]);
    const credentials = other.credentials(peer);
    const address = `127.0.0.1:${other.port}`;
    const first = createClient(EchoService, { address, credentials, clock: systemClock });
    expect((await first.greet(create(GreetRequestSchema))).caller).toBe("spiffe://beta/service/hub");
    const renewed = beta.service("discovery");
    expect(() => credentials.rotate({ cert: renewed.certificatePem, key: "garbage", ca: [alpha.caPem] })).toThrow("cannot be read");
    credentials.rotate({ cert: renewed.certificatePem, key: renewed.keyPem, ca: [alpha.caPem] });
    const second = createClient(EchoService, { address, credentials, clock: systemClock });
    expect((await second.greet(create(GreetRequestSchema))).caller).toBe("spiffe://beta/service/discovery");
    expect((await first.greet(create(GreetRequestSchema))).caller).toBe("spiffe://beta/service/hub");
    first.close();
    second.close();
    await other.close();
  });
});
