// What a client counts of its calls, against a real server over mutual TLS.
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CountRequestSchema, EchoRequestSchema, SessionRequestSchema, SumRequestSchema } from "../../../test/proto/echo-service.gen.ts";
import { bearer, collect, type Fixture, failureOfCall, serve, tokenFor, until } from "../../../test/rpc/fixture.ts";
import { type Credential, testHub } from "../../../test/testca/index.ts";
import type { ClientOptions } from "./client/client.ts";

let fixture: Fixture;
let peer: Credential;
let token: { readonly metadata: Readonly<Record<string, string>> };
beforeAll(async () => {
  const [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  fixture = await serve(alpha, [beta]);
  peer = beta.service();
  token = bearer(tokenFor("beta", peer));
});
afterAll(() => fixture.close());

/** counted gives a client with a registry of its own, and a reader of what it counted. */
function counted(more: Partial<ClientOptions> = {}) {
  const metrics = new Registry();
  const read = async (name: string, method: string, labels: Readonly<Record<string, string>> = {}): Promise<number> => {
    const { values } = (await metrics.getSingleMetric(`grpc_client_${name}`)?.get()) ?? { values: [] };
    const wanted = Object.entries({ grpc_method: method, ...labels });
    return values.filter((value) => wanted.every(([key, is]) => value.labels[key] === is)).reduce((sum, { value }) => sum + value, 0);
  };
  return { client: fixture.dial(peer, { metrics, ...more }), metrics, read };
}

const echo = (text: string) => create(EchoRequestSchema, { text });
const say = (text: string) => create(SessionRequestSchema, { frame: { case: "say", value: text } });

describe("S4-19 rate, errors and duration of calls at the client", () => {
  test("unary calls, by code as the server counts them", async () => {
    const { client, read, metrics } = counted();
    await client.echo(echo("a"), token);
    await failureOfCall(client.echo(echo("!busy"), token));
    await failureOfCall(client.echo(echo("!hang"), { ...token, timeoutMs: 200 }));
    const left = new AbortController();
    const call = failureOfCall(client.echo(echo("!hang"), { ...token, signal: left.signal }));
    left.abort();
    expect((await call).reason).toBe("CANCELLED");
    await until(async () => (await read("handled_total", "Echo")) === 4);
    for (const grpc_code of ["OK", "ResourceExhausted", "DeadlineExceeded", "Canceled"])
      expect([grpc_code, await read("handled_total", "Echo", { grpc_code })]).toEqual([grpc_code, 1]);
    expect(await read("started_total", "Echo", { grpc_type: "unary" })).toBe(4);
    expect(await read("msg_received_total", "Echo")).toBe(1);
    const page = await metrics.metrics();
    expect(page).toMatch(/grpc_client_handling_seconds_count\{.*grpc_method="Echo"\} 4/);
    expect(page).not.toContain("grpc_server");
  });

  test("streams: messages while they run, the outcome once when they end", async () => {
    const { client, read } = counted();
    await collect(client.count(create(CountRequestSchema, { to: 5 }), token));
    expect(await read("msg_received_total", "Count", { grpc_type: "server_stream" })).toBe(5);
    expect(await read("msg_sent_total", "Count")).toBe(1);

    const session = client.session(token);
    session.send(say("one"));
    session.send(say("two"));
    const answers = session.responses[Symbol.asyncIterator]();
    await answers.next();
    await answers.next();
    expect(await read("msg_sent_total", "Session")).toBe(2);
    expect(await read("msg_received_total", "Session")).toBe(2);
    expect(await read("handled_total", "Session")).toBe(0);
    session.cancel();
    await until(async () => (await read("handled_total", "Session", { grpc_code: "Canceled" })) === 1);

    const sum = client.sum(token);
    for (const n of [1, 2, 3]) sum.send(create(SumRequestSchema, { n }));
    sum.end();
    await collect(sum.responses);
    expect(await read("msg_sent_total", "Sum", { grpc_type: "client_stream" })).toBe(3);
    await until(async () => (await read("handled_total", "Sum", { grpc_code: "OK" })) === 1);
    expect(await read("started_total", "Session")).toBe(1);
  });

  test("a server that is not there is Unavailable", async () => {
    const other = await serve(await testHub("alpha"), []);
    await other.close();
    const { read, client } = counted({ address: `127.0.0.1:${other.port}` });
    expect((await failureOfCall(client.echo(echo("a"), { ...token, timeoutMs: 10_000 }))).reason).toBe("PEER_UNREACHABLE");
    await until(async () => (await read("handled_total", "Echo", { grpc_code: "Unavailable" })) === 1);
  });
});
