import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientOf } from "#channel/call.ts";
import { reasonRule } from "#channel/status.ts";
import { FoedusError } from "#kernel/error.ts";
import {
  CountRequestSchema,
  EchoRequestSchema,
  EchoService,
  GreetRequestSchema,
  ResetRequestSchema,
} from "../../../test/proto/echo-service.gen.ts";
import { connectClient, type HttpFixture, serveHttp, type ToldError, toldBy } from "../../../test/rpc/connect-fixture.ts";
import { bearer, collect, tokenFor } from "../../../test/rpc/fixture.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";

let alpha: TestHub;
let beta: TestHub;
let gamma: TestHub;
let fixture: HttpFixture;

/** Who is a caller with the token that it sends, and its clients: whoever makes many connections is shut out for a while. */
interface Who {
  readonly credential: Credential;
  readonly token?: string;
  readonly grpc: Grpc;
  readonly json: Http;
  readonly protobuf: Http;
}
const CALLERS = [
  "peer",
  "peer without a token",
  "peer with another's token",
  "peer at the least level",
  "service",
  "operator",
  "viewer",
  "gateway",
  "node",
  "two names",
] as const;
const who = new Map<string, Who>();

beforeAll(async () => {
  [alpha, beta, gamma] = await Promise.all([testHub("alpha"), testHub("beta"), testHub("gamma")]);
  fixture = await serveHttp(alpha, [beta, gamma]);
  fixture.authority.trust(gamma, 1);
  const [peer, low] = [beta.service(), gamma.service()];
  const all: Readonly<Record<(typeof CALLERS)[number], Pick<Who, "credential" | "token">>> = {
    peer: { credential: peer, token: tokenFor("beta", peer) },
    "peer without a token": { credential: peer },
    "peer with another's token": { credential: peer, token: tokenFor("beta", low) },
    "peer at the least level": { credential: low, token: tokenFor("gamma", low) },
    service: { credential: alpha.service() },
    operator: { credential: alpha.operator("op", "admin") },
    viewer: { credential: alpha.operator("watcher", "viewer") },
    gateway: { credential: alpha.gateway() },
    node: { credential: alpha.node() },
    "two names": { credential: alpha.twoUris() },
  };
  for (const [name, one] of Object.entries(all)) {
    const http = (binary: boolean): Http => connectClient(EchoService, fixture.httpPort, one.credential, alpha.caPem, binary);
    who.set(name, { ...one, grpc: fixture.dial(one.credential), json: http(false), protobuf: http(true) });
  }
});
afterAll(() => fixture.close());

type Grpc = ClientOf<typeof EchoService>;
type Http = Client<typeof EchoService>;
type Options = ReturnType<typeof bearer> | undefined;

const headersOf = (token: string | undefined): Readonly<Record<string, string>> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` };

/** Act is a call as both clients make it. */
interface Act {
  readonly grpc: (client: Grpc, options: Options) => Promise<unknown>;
  readonly http: (client: Http, headers: Readonly<Record<string, string>>) => Promise<unknown>;
}

const echo = (init: Parameters<typeof create<typeof EchoRequestSchema>>[1]): Act => ({
  grpc: (client, options) => client.echo(create(EchoRequestSchema, init), options),
  http: (client, headers) => client.echo(create(EchoRequestSchema, init), { headers }),
});
const count = (init: Parameters<typeof create<typeof CountRequestSchema>>[1]): Act => ({
  grpc: (client, options) => collect(client.count(create(CountRequestSchema, init), options)),
  http: (client, headers) => collect(client.count(create(CountRequestSchema, init), { headers })),
});

const ACTS: Readonly<Record<string, Act>> = {
  echo: echo({ text: "hi" }),
  "echo of text that is hard to write": echo({ text: 'a\u0000\u202e"\\ \u{1f600} </script>' }),
  "echo that breaks two rules": echo({ items: [{ size: 10 }, { size: 1, name: "A" }] }),
  "echo with too many items": echo({ items: Array.from({ length: 9 }, () => ({ size: 1 })) }),
  "echo with far too many items": echo({ items: Array.from({ length: 2_000 }, () => ({ size: 1 })) }),
  "echo of a busy handler": echo({ text: "!busy" }),
  "echo that fails at a field": echo({ text: "!field" }),
  "echo of a handler with a bug": echo({ text: "!bug" }),
  greet: {
    grpc: (client, options) => client.greet(create(GreetRequestSchema), options),
    http: (client, headers) => client.greet(create(GreetRequestSchema), { headers }),
  },
  reset: {
    grpc: (client, options) => client.reset(create(ResetRequestSchema), options),
    http: (client, headers) => client.reset(create(ResetRequestSchema), { headers }),
  },
  "count to 500": count({ to: 500, padding: 10 }),
  "count that fails after three": count({ to: 3, fail: true }),
  "count that breaks a rule": count({ to: 100_001 }),
};

const CODE_NAMES: Readonly<Record<number, string>> = {
  3: "InvalidArgument",
  7: "PermissionDenied",
  8: "ResourceExhausted",
  11: "OutOfRange",
  13: "Internal",
  14: "Unavailable",
  16: "Unauthenticated",
};

/** Bytes are a Buffer where gRPC read them, and ids of errors differ from call to call. */
function plain(value: unknown): unknown {
  const bytes = (item: unknown): unknown => {
    if (item instanceof Uint8Array) return [...item];
    return (item as { type?: unknown } | null)?.type === "Buffer" ? (item as { data?: unknown }).data : item;
  };
  return JSON.parse(JSON.stringify(value, (_, item) => bytes(item)).replace(/\b[0-9a-hjkmnp-tv-z]{16}\b/g, "<id>"));
}

async function outcome(call: Promise<unknown>, told: (error: unknown) => ToldError): Promise<unknown> {
  return plain(
    await call.then(
      (answer) => ({ answer }),
      (error: unknown) => ({ error: told(error) }),
    ),
  );
}

function toldByGrpc(error: unknown): ToldError {
  if (!(error instanceof FoedusError)) throw new Error("no FoedusError", { cause: error });
  const { reason, message, facts = {}, field } = error.failure;
  const { violations = field === undefined ? [] : [{ field }] } = error.failure as { violations?: readonly { field: string }[] };
  return {
    code: CODE_NAMES[reasonRule(reason).code] ?? "?",
    reason,
    message,
    facts: { ...facts },
    fields: violations.map((one) => one.field),
  };
}

describe.each(["json", "protobuf"] as const)("HTTP with %s answers as gRPC does", (encoding) => {
  describe.each(CALLERS)("%s", (caller) => {
    test.each(Object.keys(ACTS))("%s", async (act) => {
      const { token, ...clients } = who.get(caller)!;
      const { grpc, http } = ACTS[act]!;
      const byGrpc = await outcome(grpc(clients.grpc, token === undefined ? undefined : bearer(token)), toldByGrpc);
      const byHttp = await outcome(http(clients[encoding], headersOf(token)), toldBy);
      expect(byHttp).toEqual(byGrpc);
    });
  });
});

test("the table has answers and refusals of each kind, so that it compares something", async () => {
  const seen = new Set<string>();
  for (const { json, token } of who.values())
    for (const { http } of Object.values(ACTS)) {
      const result = await outcome(http(json, headersOf(token)), toldBy);
      const { error } = result as { error?: ToldError };
      seen.add(error === undefined ? "answer" : (error.reason ?? error.code));
    }
  expect([...seen].sort()).toEqual(
    [
      ...["ACCESS_DENIED", "INTERNAL", "INVALID_FIELD", "NODE_OFFLINE", "OVERLOADED", "TOKEN_INVALID", "TRUST_TOO_LOW"],
      ...["UNKNOWN_IDENTITY", "VALUE_OUT_OF_RANGE", "answer"],
    ].sort(),
  );
});

test("calls of both protocols are counted in the same metrics, and nothing is held afterwards", async () => {
  const { json, token } = who.get("peer")!;
  const labels = { grpc_method: "Echo", grpc_code: "OK" };
  const before = await fixture.metric("grpc_server_handled_total", labels);
  await json.echo({ text: "counted" }, { headers: headersOf(token) });
  await expect.poll(() => fixture.metric("grpc_server_handled_total", labels)).toBe(before + 1);
  await expect
    .poll(() => [fixture.server.calls, fixture.server.held, fixture.server.unreadBytes, fixture.server.requestBytes])
    .toEqual([0, 0, 0, 0]);
});
