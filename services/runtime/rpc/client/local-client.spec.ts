import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ClientOf, type Outbound, RawMessage } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { encodeMessage } from "#channel/messages.ts";
import { silentLogger } from "#runtime/log/log.ts";
import {
  CountRequestSchema,
  type CountResponse,
  CountResponseSchema,
  EchoRequestSchema,
  EchoService,
  GreetRequestSchema,
  ResetRequestSchema,
  SessionRequestSchema,
  SumRequestSchema,
} from "../../../../test/proto/echo-service.gen.ts";
import { collect, echoBinding, type Fixture, failureOfCall, type Seen, serve, until } from "../../../../test/rpc/fixture.ts";
import { testHub } from "../../../../test/testca/index.ts";
import type { Caller } from "../call.ts";
import { createLocalClient } from "./local-client.ts";

type Client = ClientOf<typeof EchoService>;

let fixture: Fixture;
const clients: Record<string, Client> = {};
const seen: Seen = { contexts: [], aborts: [] };
const own: Caller = {
  kind: "service",
  hubId: "alpha",
  name: "telemetry",
  spiffeId: "spiffe://alpha/service/telemetry",
  thumbprint: "",
  notAfterWall: Infinity,
  level: 0,
  role: 0,
  prefixes: [],
};
const local = (caller: Caller = own, binding = echoBinding(seen)): Client =>
  createLocalClient(EchoService, binding, { caller, clock: systemClock, log: silentLogger, ids: systemEntropy });

beforeAll(async () => {
  const alpha = await testHub("alpha");
  fixture = await serve(alpha, []);
  clients["remote"] = fixture.dial(alpha.service("telemetry"));
  clients["local"] = local();
});
afterAll(() => fixture.close());

const say = (value: string) => create(SessionRequestSchema, { frame: { case: "say", value } });

/** Everything that a caller can see of a call, on either way. Ids of bugs differ from call to call. */
async function outcome(call: () => Promise<unknown>): Promise<unknown> {
  const value = await call().catch((error: unknown) => failureOfCall(Promise.reject(error)));
  return JSON.parse(JSON.stringify(value).replace(/[0-9a-z]{16}/g, "<id>"));
}

const CASES: readonly (readonly [string, (client: Client) => Promise<unknown>])[] = [
  ["unary", (client) => client.echo(create(EchoRequestSchema, { text: "hi" }))],
  [
    "unary with raw bytes",
    (client) => client.echo(new RawMessage(encodeMessage(EchoRequestSchema, create(EchoRequestSchema, { text: "raw" }))) as never),
  ],
  ["bytes that are no message", (client) => client.echo(new RawMessage(Buffer.from([0xff])) as never)],
  ["failure with facts", (client) => client.echo(create(EchoRequestSchema, { text: "!busy" }))],
  ["failure with a field", (client) => client.echo(create(EchoRequestSchema, { text: "!field" }))],
  ["bug", (client) => client.echo(create(EchoRequestSchema, { text: "!bug" }))],
  ["broken rules", (client) => client.echo(create(EchoRequestSchema, { items: [{ size: 10, name: "A" }] }))],
  ["not for this kind of caller", (client) => client.greet(create(GreetRequestSchema))],
  ["not for this kind of caller, operators", (client) => client.reset(create(ResetRequestSchema))],
  ["server stream", (client) => collect(client.count(create(CountRequestSchema, { to: 20 })))],
  ["server stream that fails", (client) => collect(client.count(create(CountRequestSchema, { to: 2, fail: true })))],
  ["server stream with a bad request", (client) => collect(client.count(create(CountRequestSchema, { to: 100_001 })))],
  [
    "client stream",
    (client) => {
      const call = client.sum();
      for (const n of [1, 2, 3]) call.send(create(SumRequestSchema, { n }));
      call.end();
      return collect(call.responses);
    },
  ],
  [
    "client stream with a bad message",
    (client) => {
      const call = client.sum();
      call.send(create(SumRequestSchema, { n: 1001 }));
      call.end();
      return collect(call.responses);
    },
  ],
  [
    "bidi stream",
    (client) => {
      const call = client.session();
      for (const text of ["a", "b", "bye"]) call.send(say(text));
      return collect(call.responses);
    },
  ],
  [
    "bidi stream that fails",
    (client) => {
      const call = client.session();
      call.send(create(SessionRequestSchema, { frame: { case: "fail", value: "over" } }));
      return collect(call.responses);
    },
  ],
  [
    "cancelled stream",
    async (client) => {
      const call = client.session();
      await call.opened;
      call.cancel();
      return collect(call.responses).catch(async (error: unknown) => ({
        reason: (await failureOfCall(Promise.reject(error))).reason,
        closed: call.closed,
        sent: call.send(say("x")),
      }));
    },
  ],
  [
    "deadline",
    async (client) => ({
      reason: (await failureOfCall(client.echo(create(EchoRequestSchema, { text: "!hang" }), { timeoutMs: 50 }))).reason,
    }),
  ],
];

describe("a client in the same process and one over the network", () => {
  test.each(CASES)("give the same answer: %s", async (_name, call) => {
    const there = await outcome(() => call(clients["remote"] as Client));
    expect(await outcome(() => call(clients["local"] as Client))).toEqual(there);
    expect(there).toBeDefined();
  });
});

describe("local streams", () => {
  test("the handler gets its own copy of a request", async () => {
    const request = create(EchoRequestSchema, { text: "before" });
    const answer = local().echo(request);
    request.text = "after";
    expect((await answer).text).toBe("before");
  });

  test("S0-5 an unread stream holds its sender", async () => {
    let sent = 0;
    let most = 0;
    const padding = new Uint8Array(50_000);
    const binding = echoBinding();
    const count = async (_request: unknown, out: Outbound<CountResponse>): Promise<void> => {
      while (sent < 100) {
        out.send(create(CountResponseSchema, { n: ++sent, padding }));
        most = Math.max(most, out.bufferedBytes);
        await out.drained();
      }
    };
    const answers = local(own, { ...binding, handlers: { ...binding.handlers, count } })
      .count(create(CountRequestSchema))
      [Symbol.asyncIterator]();
    for (let n = 1; n <= 100; n++) {
      expect((await answers.next()).value?.n).toBe(n);
      expect(sent - n).toBeLessThan(8);
    }
    expect((await answers.next()).done).toBe(true);
    expect(most).toBeLessThan(256 * 1024 + 50_020);
  });

  test("leaving the loop aborts the handler", async () => {
    const before = seen.aborts.length;
    for await (const { n } of local().count(create(CountRequestSchema, { to: 10_000, padding: 10_000 }))) if (n === 2) break;
    await until(() => seen.aborts.length > before);
    expect(seen.aborts.at(-1)).toBe("CANCELLED");
  });

  test("a signal cancels a call before and after it began", async () => {
    const controller = new AbortController();
    const running = failureOfCall(local().echo(create(EchoRequestSchema, { text: "!hang" }), { signal: controller.signal }));
    controller.abort();
    expect((await running).reason).toBe("CANCELLED");
    expect((await failureOfCall(local().echo(create(EchoRequestSchema, { text: "x" }), { signal: controller.signal }))).reason).toBe(
      "CANCELLED",
    );
  });
});
