// Everything that a caller can do wrong: each gets a clear error on the right gRPC code, is counted, and loses nothing.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { create } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { methodPath } from "#channel/messages.ts";
import { reasonRule } from "#channel/status.ts";
import { ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { type Value, ValueSchema, ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { HelloRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import {
  GetNodeRequestSchema,
  ListNodesRequestSchema,
  RegisterNodeRequestSchema,
  RegistrySyncService,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { SessionRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { FoedusError } from "#kernel/error.ts";
import { execute, get, lamp, metric, number, register, stateOf, text, update } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, until } from "../support/federation.ts";
import { Mallory, type Said } from "../support/mallory.ts";
import { type Credential, type TestHub, testHub } from "../testca/index.ts";

let folder: string;
let federation: Federation;
let hub: HubProcess;
let home: TestHub;
let mallory: TestHub;
let operator: Clients;
let gateway: Clients;

/** plant makes a test authority the CA of a hub, so that the test can sign what no CA should. */
function plant(pkiDir: string, authority: TestHub): void {
  const dir = join(pkiDir, authority.hubId);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "ca.pem"), authority.caPem);
  writeFileSync(join(dir, "ca.key"), authority.authority.keyPem, { mode: 0o600 });
}

let files = 0;

/** as makes clients of the hub with any certificate. */
function as({ certificatePem, keyPem }: Credential): Clients {
  const at = join(folder, `credential-${++files}`);
  writeFileSync(`${at}.pem`, certificatePem);
  writeFileSync(`${at}.key`, keyPem, { mode: 0o600 });
  return hub.clients({ ca: hub.pki("ca").ca, cert: `${at}.pem`, key: `${at}.key` });
}

const typed = (kind: Value["kind"]): Value => create(ValueSchema, { kind });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-bad-"));
  [home, mallory] = await Promise.all([testHub("home"), testHub("mallory")]);
  const pkiDir = join(folder, "pki");
  plant(pkiDir, home);
  plant(pkiDir, mallory);
  federation = await Federation.prepare({
    dir: join(folder, "hubs"),
    pkiDir,
    hubs: [
      { id: "home", peers: [{ hub: "mallory" }] },
      { id: "mallory", peers: [{ hub: "home" }], reachable: false },
    ],
  });
  hub = federation.hub("home");
  await hub.start();
  operator = hub.clients();
  gateway = hub.clients("gateway-zigbee");
  await register(gateway, lamp("lamp-1"));
  await update(gateway, "lamp-1", { power: number(42) });
}, 90_000);

afterAll(async () => {
  await federation?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Whatever came in: the hub serves, and what it had is there. */
afterEach(async () => {
  expect(stateOf(await get(operator, "home", "lamp-1"), "power")).toBe(42);
});

/** Expected is how a call must fail. */
interface Expected {
  readonly reason: FoedusError["failure"]["reason"];
  readonly says: RegExp;
  readonly field?: string;
  /** The RPC whose counter must rise; none for calls that end in TLS. */
  readonly method?: string;
}

const CODE_NAMES: Readonly<Record<number, string>> = {
  3: "InvalidArgument",
  4: "DeadlineExceeded",
  5: "NotFound",
  7: "PermissionDenied",
  8: "ResourceExhausted",
  9: "FailedPrecondition",
  11: "OutOfRange",
  14: "Unavailable",
  16: "Unauthenticated",
};

/** refused checks reason, gRPC code, words and counter of a call that must fail. */
async function refused(call: () => Promise<unknown>, { reason, says, field, method }: Expected): Promise<void> {
  const { code } = reasonRule(reason);
  const labels = { grpc_method: method ?? "", grpc_code: CODE_NAMES[code] ?? "" };
  const before = method === undefined ? 0 : await metric(hub, "grpc_server_handled_total", labels);
  const error = await call().then(
    (answer) =>
      Promise.reject(
        new Error(`it was accepted: ${JSON.stringify(answer, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))}`),
      ),
    (thrown: unknown) => thrown as FoedusError,
  );
  if (error.failure === undefined) throw error;
  expect({ reason: error.failure.reason, message: error.failure.message }).toEqual({ reason, message: expect.stringMatching(says) });
  if (field !== undefined) expect(error.failure.field).toBe(field);
  expect(error.cause).toMatchObject({ code });
  if (method !== undefined)
    await until(
      `${method} ${labels.grpc_code} being counted`,
      async () => (await metric(hub, "grpc_server_handled_total", labels)) > before,
    );
}

describe("messages that are wrong", () => {
  const registering = (node: Parameters<typeof create<typeof NodeSchema>>[1]) => () =>
    gateway.registry.registerNode(create(RegisterNodeRequestSchema, { node: create(NodeSchema, node) }));

  const cases: readonly (readonly [string, () => Promise<unknown>, Expected])[] = [
    [
      "a required field is missing",
      () => gateway.registry.registerNode(create(RegisterNodeRequestSchema)),
      { reason: "INVALID_FIELD", says: /node: is required/, field: "node", method: "RegisterNode" },
    ],
    [
      "a node id that is too long",
      registering({ nodeId: "x".repeat(64) }),
      { reason: "INVALID_FIELD", says: /node_id/, method: "RegisterNode" },
    ],
    ["a node without an id", registering({ nodeId: "" }), { reason: "INVALID_FIELD", says: /node_id/, method: "RegisterNode" }],
    [
      "a capability twice",
      registering({
        nodeId: "twice",
        capabilities: [
          { name: "a", type: ValueType.BOOL },
          { name: "a", type: ValueType.DOUBLE },
        ],
      }),
      { reason: "INVALID_FIELD", says: /twice|two|unique|duplicate|already/i, method: "RegisterNode" },
    ],
    [
      "a page token that is none",
      () => operator.registry.listNodes(create(ListNodesRequestSchema, { pageToken: "garbage" })),
      { reason: "INVALID_FIELD", says: /page.?token/i, field: "page_token", method: "ListNodes" },
    ],
    [
      "a node that does not exist",
      () => operator.registry.getNode(create(GetNodeRequestSchema, { name: { hubId: "home", nodeId: "nobody" } })),
      { reason: "NODE_NOT_FOUND", says: /shares such a node/, method: "GetNode" },
    ],
    [
      "a command for a node that does not exist",
      () => execute(operator, "home", "nobody", "state", text("ON")),
      { reason: "NODE_NOT_FOUND", says: /nobody/, method: "Execute" },
    ],
    [
      "a command for a hub that does not exist",
      () => execute(operator, "atlantis", "lamp-1", "state", text("ON")),
      { reason: "PEER_NOT_FOUND", says: /atlantis/, method: "Execute" },
    ],
    [
      "a capability that the node has not",
      () => execute(operator, "home", "lamp-1", "colour", text("red")),
      { reason: "CAPABILITY_NOT_FOUND", says: /colour/, method: "Execute" },
    ],
    [
      "a capability that is only read",
      () => execute(operator, "home", "lamp-1", "power", number(1)),
      { reason: "CAPABILITY_ACCESS", says: /power/, method: "Execute" },
    ],
    [
      "a value above the range",
      () => execute(operator, "home", "lamp-1", "brightness", number(255)),
      { reason: "VALUE_OUT_OF_RANGE", says: /254/, method: "Execute" },
    ],
    [
      "a value of another type",
      () => execute(operator, "home", "lamp-1", "brightness", text("very")),
      { reason: "VALUE_OUT_OF_RANGE", says: /brightness|type|number/, method: "Execute" },
    ],
    [
      "a value that is not allowed",
      () => execute(operator, "home", "lamp-1", "state", text("DIM")),
      { reason: "VALUE_OUT_OF_RANGE", says: /ON|allowed/, method: "Execute" },
    ],
    [
      "not a number",
      () => execute(operator, "home", "lamp-1", "brightness", number(Number.NaN)),
      { reason: "VALUE_OUT_OF_RANGE", says: /not a number/, method: "Execute" },
    ],
    [
      "infinity",
      () => execute(operator, "home", "lamp-1", "brightness", number(Number.POSITIVE_INFINITY)),
      { reason: "VALUE_OUT_OF_RANGE", says: /254|finite|range/, method: "Execute" },
    ],
    [
      "a command for a node without an executor",
      () => execute(operator, "home", "lamp-1", "state", text("ON"), 1_000),
      { reason: "NO_EXECUTOR", says: /lamp-1|executor/, method: "Execute" },
    ],
    [
      "a deadline that has passed",
      () =>
        operator.commands.execute(
          create(ExecuteRequestSchema, { command: { target: { hubId: "home", nodeId: "lamp-1" }, capability: "state" } }),
          { timeoutMs: 0 },
        ),
      { reason: "DEADLINE_EXPIRED", says: /deadline/i },
    ],
    [
      "a message beyond the limit",
      () =>
        gateway.registry.registerNode(create(RegisterNodeRequestSchema, { node: { nodeId: "big", name: "x".repeat(2 * 1024 * 1024) } })),
      { reason: "MESSAGE_TOO_LARGE", says: /larger|limit|bytes/, method: "RegisterNode" },
    ],
    [
      "a state update of another type",
      () => update(gateway, "lamp-1", { power: text("much") }),
      { reason: "INVALID_FIELD", says: /another type than the capability/ },
    ],
    [
      "a state update of an unknown key",
      () => update(gateway, "lamp-1", { colour: text("red") }),
      { reason: "CAPABILITY_NOT_FOUND", says: /the node has no such capability/ },
    ],
    [
      "a state update of an unknown node",
      () => update(gateway, "nobody", { power: number(1) }),
      { reason: "NODE_NOT_FOUND", says: /register the node before/ },
    ],
    [
      "a state update with too long a text",
      () => update(gateway, "lamp-1", { state: text("x".repeat(5_000)) }),
      { reason: "INVALID_FIELD", says: /4096|long|bytes/ },
    ],
    [
      "a state update without a value",
      () => update(gateway, "lamp-1", { power: typed({ case: undefined }) }),
      { reason: "INVALID_FIELD", says: /the change has no value/ },
    ],
  ];

  test.each(cases)("%s", async (_name, call, expected) => {
    // What ends in the stream's own frames has no gRPC status: the stream goes on with the next batch.
    if (expected.method === undefined && expected.reason !== "DEADLINE_EXPIRED") {
      await expect(call()).rejects.toMatchObject({ failure: { reason: expected.reason, message: expect.stringMatching(expected.says) } });
    } else await refused(call, expected);
  });

  /** raw sends bytes as the request of an RPC. */
  function raw(bytes: Buffer): Promise<unknown> {
    const { certificatePem, keyPem } = home.operator("raw", "admin");
    const credentials = grpc.credentials.createSsl(Buffer.from(home.caPem), Buffer.from(keyPem), Buffer.from(certificatePem), {
      checkServerIdentity: () => undefined,
    });
    const client = new grpc.Client(hub.address("registry-sync"), credentials);
    const path = methodPath(RegistrySyncService.method.listNodes);
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        (value: Buffer) => value,
        (value: Buffer) => value,
        bytes,
        (error, value) => {
          client.close();
          if (error === null) resolve(value);
          else reject(error);
        },
      );
    });
  }

  test("bytes that are no message", async () => {
    await expect(raw(Buffer.from([0x0a, 0xff, 0xff, 0xff]))).rejects.toMatchObject({
      code: 3,
      details: expect.stringMatching(/malformed|not a valid|cannot be read|decode/i),
    });
  });

  test("a wrong wire type", async () => {
    // Field 1 (filter) is a message; here it comes as a varint.
    await expect(
      raw(Buffer.from([0x08, 0x01])).then(
        () => "accepted",
        (error: { code: number }) => error.code,
      ),
    ).resolves.toBe(3);
  });

  test("fields that this software does not know", async () => {
    // Field 15, two bytes: what a newer client may send and this hub cannot honour.
    await expect(raw(Buffer.from([0x7a, 0x02, 0x68, 0x69]))).rejects.toMatchObject({
      code: 3,
      details: expect.stringMatching(/field 15 is not known here/),
    });
  });
});

describe("callers that are not who they say, or may not do this", () => {
  const hello = (clients: Clients, hubId: string) => clients.discovery.hello(create(HelloRequestSchema, { hubId, incarnation: 1n }));

  const cases: readonly (readonly [string, () => Credential | Promise<Credential>, (clients: Clients) => Promise<unknown>, Expected])[] = [
    [
      "Hello with another hub's id",
      () => mallory.service(),
      (clients) => hello(clients, "factory"),
      { reason: "IDENTITY_MISMATCH", says: /the certificate proves mallory and not the hub_id in the message/, method: "Hello" },
    ],
    [
      "a certificate in this hub's name by a peer's CA",
      () => mallory.impersonating("home", "operator", "admin"),
      (clients) => clients.registry.listNodes(create(ListNodesRequestSchema)),
      { reason: "FOREIGN_CA", says: /not signed by a CA of home/, method: "ListNodes" },
    ],
    [
      "a certificate in the name of a hub that is not known",
      () => mallory.impersonating("atlantis"),
      (clients) => hello(clients, "atlantis"),
      { reason: "UNKNOWN_IDENTITY", says: /does not know the hub atlantis/, method: "Hello" },
    ],
    [
      "a certificate with two URI names",
      () => mallory.twoUris(),
      (clients) => hello(clients, "mallory"),
      { reason: "UNKNOWN_IDENTITY", says: /2 URI names and needs exactly one/, method: "Hello" },
    ],
    [
      "a certificate without a URI name",
      () => mallory.withoutUri(),
      (clients) => hello(clients, "mallory"),
      { reason: "UNKNOWN_IDENTITY", says: /0 URI names/, method: "Hello" },
    ],
    [
      "a node of another hub as a peer",
      () => mallory.node("fridge"),
      (clients) => hello(clients, "mallory"),
      { reason: "ACCESS_DENIED", says: /node of another hub.*own hub/, method: "Hello" },
    ],
    [
      "a node of this hub as a peer",
      () => home.node("fridge"),
      (clients) => hello(clients, "home"),
      { reason: "ACCESS_DENIED", says: /a node may not do this/, method: "Hello" },
    ],
    [
      "a viewer who commands",
      () => home.operator("eve", "viewer"),
      (clients) => execute(clients, "home", "lamp-1", "state", text("ON")),
      { reason: "ACCESS_DENIED", says: /role admin/, method: "Execute" },
    ],
    [
      "an operator who registers",
      () => home.operator("eve", "admin"),
      (clients) => clients.registry.registerNode(create(RegisterNodeRequestSchema, { node: lamp("mine") })),
      {
        reason: "ACCESS_DENIED",
        says: /an operator may not do this; it takes a (node or a gateway|gateway or a node)/,
        method: "RegisterNode",
      },
    ],
    [
      "a gateway outside of its prefix",
      () => home.gateway("small", ["zb-"]),
      (clients) => clients.registry.registerNode(create(RegisterNodeRequestSchema, { node: lamp("lamp-1") })),
      { reason: "OUT_OF_SCOPE", says: /may not speak for this node/, method: "RegisterNode" },
    ],
    [
      "a node that speaks for another",
      () => home.node("fridge"),
      (clients) => clients.registry.registerNode(create(RegisterNodeRequestSchema, { node: lamp("lamp-1") })),
      { reason: "OUT_OF_SCOPE", says: /may not speak for this node/, method: "RegisterNode" },
    ],
    [
      "a peer that reads the registry",
      () => mallory.service(),
      (clients) => clients.registry.listNodes(create(ListNodesRequestSchema)),
      { reason: "ACCESS_DENIED", says: /a peer may not do this/, method: "ListNodes" },
    ],
  ];

  test.each(cases)("%s", async (_name, credential, call, expected) => {
    const clients = as(await credential());
    await refused(() => call(clients), expected);
    clients.close();
  });

  const inTls: readonly (readonly [string, () => Credential | Promise<Credential>, string, RegExp])[] = [
    ["an expired certificate", () => mallory.expired(), "certificate_expired", /./],
    ["a certificate of tomorrow", () => mallory.notYetValid(), "certificate_not_yet_valid", /./],
    ["another CA with our peer's name", async () => (await mallory.otherAuthority()).service(), "unknown_ca", /./],
    ["a CA that nobody knows, in our own name", async () => (await home.otherAuthority()).operator(), "unknown_ca", /./],
  ];

  test.each(inTls)("%s does not get past TLS, and that is counted", async (_name, credential, reason, says) => {
    const before = await metric(hub, "foedus_tls_handshake_failures_total", { reason });
    const clients = as(await credential());
    const error = await clients.registry.listNodes(create(ListNodesRequestSchema), { timeoutMs: 5_000 }).then(
      () => Promise.reject(new Error("it was accepted")),
      (thrown: unknown) => thrown as FoedusError,
    );
    expect(error.cause).toMatchObject({ code: 14 });
    expect(error.message).toMatch(says);
    await until("the handshake being counted", async () => (await metric(hub, "foedus_tls_handshake_failures_total", { reason })) > before);
    clients.close();
  });
});

describe("connections that are none", () => {
  const target = () => ({ host: hub.host, port: hub.basePort });
  const failures = (reason: string) => metric(hub, "foedus_tls_handshake_failures_total", { reason });
  const closed = (socket: Socket): Promise<void> =>
    new Promise((resolve) =>
      socket
        .once("close", () => resolve())
        .on("error", () => undefined)
        .resume(),
    );

  test("TLS without a client certificate", async () => {
    const before = await failures("no_certificate");
    const { certificatePem: _none, ...rest } = { certificatePem: "", ca: home.caPem };
    const socket = connectTls({
      ...target(),
      ca: rest.ca,
      minVersion: "TLSv1.3",
      ALPNProtocols: ["h2"],
      checkServerIdentity: () => undefined,
    });
    await closed(socket);
    await until("it being counted", async () => (await failures("no_certificate")) > before);
  });

  test("TLS 1.2", async () => {
    const before = await failures("protocol_version");
    const { certificatePem: cert, keyPem: key } = home.operator();
    await closed(connectTls({ ...target(), ca: home.caPem, cert, key, maxVersion: "TLSv1.2", checkServerIdentity: () => undefined }));
    await until("it being counted", async () => (await failures("protocol_version")) > before);
  });

  test.each([
    ["garbage", Buffer.alloc(512, "\u0000garbage\u00ff")],
    ["an HTTP/1 request", Buffer.from("GET / HTTP/1.1\r\nHost: home\r\n\r\n")],
    ["HTTP/2 without TLS", Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
  ])("%s instead of TLS", async (_name, bytes) => {
    const all = () => metric(hub, "foedus_tls_handshake_failures_total");
    const before = await all();
    const socket = connectTcp(target());
    socket.write(bytes);
    await closed(socket);
    await until("it being counted", async () => (await all()) > before);
  });

  test("an HTTP/1 request inside of good TLS", async () => {
    const { certificatePem: cert, keyPem: key } = home.operator();
    const socket = connectTls({ ...target(), ca: home.caPem, cert, key, checkServerIdentity: () => undefined });
    socket.write("GET / HTTP/1.1\r\nHost: home\r\n\r\n");
    await closed(socket);
  });

  test("many half-open connections do not keep others out, and beyond the limit they are refused and counted", async () => {
    const before = await metric(hub, "foedus_connections_refused_total", { reason: "per_ip_limit" });
    const sockets = Array.from({ length: 600 }, () => {
      const socket = connectTcp({ ...target(), localAddress: "127.255.1.1" });
      return socket.on("error", () => undefined);
    });
    await until(
      "the limit",
      async () => (await metric(hub, "foedus_connections_refused_total", { reason: "per_ip_limit" })) >= before + 40,
    );
    const { certificatePem, keyPem } = home.operator("patient", "viewer");
    const other = as({ certificatePem, keyPem, caPem: "", chainPem: "" });
    expect((await other.registry.listNodes(create(ListNodesRequestSchema), { timeoutMs: 5_000 })).total).toBeGreaterThan(0);
    other.close();
    for (const socket of sockets) socket.destroy();
    await until("all of them gone", async () => (await metric(hub, "foedus_connections")) < 20);
  });

  test("a TLS handshake that stops half way is ended", async () => {
    const before = await failures("timeout");
    const socket = connectTcp(target());
    await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
    // The first bytes of a ClientHello, and then nothing.
    socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]));
    await closed(socket);
    await until("it being counted", async () => (await failures("timeout")) > before);
  }, 30_000);
});

describe("a hostile hub that is a configured peer", () => {
  const session = (clients: Clients, metadata?: Readonly<Record<string, string>>) =>
    clients.registry.session(metadata === undefined ? {} : { metadata });

  /** opened is how the opening of a session ends. */
  const opened = async (clients: Clients, metadata?: Readonly<Record<string, string>>): Promise<void> => {
    const stream = session(clients, metadata);
    try {
      await stream.opened;
      for await (const _ of stream.responses) return;
    } finally {
      stream.cancel();
    }
  };

  test("no token, garbage for a token, and the token of another certificate", async () => {
    const one = new Mallory(mallory, as);
    // After a session that was let in the registry knows how far mallory is trusted.
    await one.connect();
    const token = await one.hello();
    await refused(() => opened(one.clients), { reason: "TOKEN_INVALID", says: /needs a bearer token.*Hello/, method: "Session" });
    await refused(() => opened(one.clients, { authorization: "bearer a.b.c" }), {
      reason: "TOKEN_INVALID",
      says: /token/,
      method: "Session",
    });
    const forged = `${token.slice(0, -8)}AAAAAAAA`;
    await refused(() => opened(one.clients, { authorization: `bearer ${forged}` }), {
      reason: "TOKEN_INVALID",
      says: /token/,
      method: "Session",
    });
    const other = as(mallory.service("registry-sync"));
    await refused(() => opened(other, { authorization: `bearer ${token}` }), {
      reason: "TOKEN_INVALID",
      says: /certificate/,
      method: "Session",
    });
    other.close();
    one.close();
  });

  test("a session opened in another hub's name ends with the reason", async () => {
    const one = new Mallory(mallory, as);
    await one.open({ hubId: "factory" });
    expect(await one.ended()).toMatchObject({ reason: "IDENTITY_MISMATCH", message: expect.stringMatching(/hub_id/) });
    one.close();
  });

  test("a frame before the session is open", async () => {
    const one = new Mallory(mallory, as);
    await one.connect();
    one.send(create(SessionRequestSchema, { frame: { frame: { case: "feedOpen", value: {} } } }));
    expect((await one.ended()).message).toMatch(/open/);
    one.close();
  });

  describe("whose feed is taken, until it cheats", () => {
    let one: Mallory;
    const theirs = async (): Promise<unknown> => stateOf(await get(operator, "mallory", "trap"), "power");

    beforeAll(async () => {
      one = new Mallory(mallory, as);
      one.register("trap", "power");
      one.set("trap", "power", 1);
      await one.open();
      await until("mallory's honest feed", async () => (await theirs()) === 1);
      one.set("trap", "power", 2);
      await until("its next segment", async () => (await theirs()) === 2);
      // What is seen there may be seen before its acknowledgement is here.
      await until("its acknowledgement", () => one.acked === one.sent);
      // The next two honest segments are made now and kept, for the test to spoil.
      one.hold();
      one.set("trap", "power", 3);
      one.set("trap", "power", 4);
    }, 30_000);

    afterAll(() => one?.close());

    const kept = (index: number): Uint8Array => {
      const segment = one.held[index];
      if (segment === undefined) throw new Error("no segment was kept");
      return segment;
    };

    /** answered sends until the hub says NACK with that reason: it answers a burst of bad frames once. */
    const answered = async (send: () => void, reason: string): Promise<NonNullable<Said["nack"]>> => {
      one.said.length = 0;
      return until(`a NACK ${reason}`, () => {
        send();
        return one.said.map(({ nack }) => nack).find((nack) => nack?.reason === reason);
      });
    };

    test("a replayed segment is acknowledged again, and nothing happens twice", async () => {
      const place = one.acked;
      one.said.length = 0;
      one.segment(one.lastSegment);
      expect(await until("an answer", () => one.said[0])).toEqual({ ack: place });
      expect(await theirs()).toBe(2);
    });

    const bad: readonly (readonly [string, (good: Uint8Array) => Uint8Array, RegExp])[] = [
      ["that is cut short", (good) => good.subarray(0, good.length - 3), /malformed|payload/],
      ["with another payload", (good) => flip(good, good.length - 1), /payload is not what the header says/],
      ["with another signature", flipSignature, /signature is not valid/],
      ["that is none", () => new Uint8Array([1, 2, 3]), /malformed/],
    ];

    test.each(bad)("a segment %s is refused with the reason, and the last good state stays", async (_name, spoil, says) => {
      const before = await metric(hub, "foedus_registry_sync_refused_total", { peer: "mallory" });
      const nack = await answered(() => one.segment(spoil(kept(0))), "SEGMENT_INVALID");
      expect(nack).toEqual({ reason: "SEGMENT_INVALID", message: expect.stringMatching(says), held: one.acked });
      expect(await theirs()).toBe(2);
      expect(await metric(hub, "foedus_registry_sync_refused_total", { peer: "mallory" })).toBeGreaterThan(before);
    });

    test("a gap: the segment after the next is refused with what is held", async () => {
      const nack = await answered(() => one.segment(kept(1)), "FEED_GAP");
      expect(nack).toMatchObject({ message: expect.stringMatching(/missing/), held: one.acked });
      expect(await theirs()).toBe(2);
    });

    test("a feed of another hub is not taken from it", async () => {
      const nack = await answered(await one.offer("home", "none"), "SEGMENT_INVALID");
      expect(nack.message).toMatch(/its own feeds only/);
    });

    test("a key statement that another CA signed is refused, and the key that was proved stays", async () => {
      const nack = await answered(await one.offer("mallory", "forged"), "FEED_KEY_INVALID");
      expect(nack.message).toMatch(/not signed by a CA of mallory/);
    });

    test("after all that its honest segments are taken as if nothing had been", async () => {
      one.release();
      await until("the honest segments", async () => (await theirs()) === 4);
    });
  });
});

/** flip changes one byte. */
function flip(bytes: Uint8Array, at: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] = (copy[at] ?? 0) ^ 0xff;
  return copy;
}

/** flipSignature changes the signature of an encoded Segment: header (field 1), then signature (field 2, 64 bytes). */
function flipSignature(bytes: Uint8Array): Uint8Array {
  for (let at = 0; at + 66 < bytes.length; at++) if (bytes[at] === 0x12 && bytes[at + 1] === 64) return flip(bytes, at + 10);
  throw new Error("the segment has no signature");
}
