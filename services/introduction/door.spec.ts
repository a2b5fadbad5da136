import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import { create, toBinary } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { DiscoveryService, HelloRequestSchema, ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { GetConfigRequestSchema, GetStatusRequestSchema, HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import {
  type BeginRequest,
  type IntroduceRequest,
  IntroductionService,
  OfferSchema,
} from "#gen/foedus/introduction/v1alpha1/introduction_service_pb.ts";
import { Health, HealthCheckRequestSchema } from "#gen/grpc/health/v1/health_pb.ts";
import { fail } from "#kernel/error.ts";
import { silentLogger } from "#runtime/log/log.ts";
import { bind } from "#runtime/rpc/call.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { createRpcServer } from "#runtime/rpc/server/server.ts";
import { DoorServerCredentials } from "#runtime/tls/credentials.ts";
import { authorityAt } from "#runtime/tls/door.ts";
import { admitStranger } from "#runtime/tls/peer-admission.ts";
import { dial, digestOfCa, knock, type Opened, offerOf, openFor, PIN, Walk, WRONG } from "../../test/introduction/fixture.ts";
import { failureOfCall, TestAuthority } from "../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../test/testca/index.ts";
import { encodeOffer, judgeOffer } from "./offer.ts";

let home: TestHub;
let lab: TestHub;
let mallory: TestHub;
const opened: Opened[] = [];

beforeAll(async () => {
  [home, lab, mallory] = await Promise.all([testHub("home"), testHub("lab"), testHub("mallory")]);
});
afterEach(async () => {
  for (const { door } of opened.splice(0)) {
    door.withdraw();
    await door.closed;
  }
});

async function open(...args: Parameters<typeof openFor> | [TestHub?]): Promise<Opened> {
  const [hub = home, more] = args as Parameters<typeof openFor>;
  const made = await openFor(hub, more);
  opened.push(made);
  return made;
}

const sha256 = (hub: TestHub): string => Buffer.from(digestOfCa(hub)).toString("hex");
const reasonOf = async (call: Promise<unknown>): Promise<string> => (await failureOfCall(call)).reason;

describe("an introduction", () => {
  test("with the invite and the PIN gives each hub the other's CA and address, once", async () => {
    const { door, invite, admitted, logged } = await open();
    const host = await knock(lab, invite, PIN);
    expect(host).toMatchObject({ hubId: "home", cas: [{ sha256: sha256(home) }], address: { host: "home.example.org", port: 18_800 } });
    expect(admitted).toMatchObject([{ hubId: "lab", cas: [{ sha256: sha256(lab) }], address: { host: "lab.example.org", port: 18_800 } }]);
    expect(await door.closed).toBe("used");
    expect(await failureOfCall(knock(lab, invite, PIN))).toMatchObject({
      reason: "PEER_UNREACHABLE",
      message: expect.stringContaining("has no open invite: it was used or withdrawn, has expired, or is not reached at this address"),
    });
    for (const secret of [PIN, ...(["hex", "base64", "base64url"] as const).map((form) => Buffer.from(invite.secret).toString(form))])
      expect(logged()).not.toContain(secret);
  });

  test("of two guests with the same invite and PIN at the same time, one gets in", async () => {
    const { invite, admitted } = await open(home, { admit: () => new Promise((resolve) => setImmediate(resolve)) });
    const ends = await Promise.allSettled([knock(lab, invite, PIN), knock(mallory, invite, PIN), knock(lab, invite, PIN)]);
    expect(ends.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(admitted).toHaveLength(1);
  });

  test("a host that cannot take the guest says why, and the invite ends without a peer", async () => {
    const { door, invite, admitted } = await open(home, {
      admit: () => Promise.reject(fail("FOREIGN_CA", "home has another CA pinned for lab")),
    });
    expect(await failureOfCall(knock(lab, invite, PIN))).toMatchObject({
      reason: "FOREIGN_CA",
      message: "home has another CA pinned for lab",
    });
    expect(await door.closed).toBe("not_admitted");
    expect(admitted).toEqual([]);
    const broken = await open(home, { admit: () => Promise.reject(new Error("EROFS /etc/foedus/secret-path")) });
    const told = await failureOfCall(knock(lab, broken.invite, PIN));
    expect(told.message).toBe("the other hub could not take this hub up; its operator sees why");
  });
});

describe("an invite that is not good", () => {
  test("three wrong PINs close it, for the right one too, and also on an exchange that began before", async () => {
    const { door, invite, admitted, notes } = await open();
    using patient = await Walk.to(home, lab, invite, PIN);
    await patient.begin();
    const failures = [];
    for (let attempt = 1; attempt <= 3; attempt++) failures.push(await failureOfCall(knock(lab, invite, WRONG)));
    expect(failures.map(({ reason, facts }) => [reason, facts?.["attempts_left"]])).toEqual([
      ["PIN_MISMATCH", "2"],
      ["PIN_MISMATCH", "1"],
      ["PIN_MISMATCH", "0"],
    ]);
    expect(["INVITE_CLOSED", "PEER_UNREACHABLE"]).toContain(await reasonOf(patient.introduce()));
    expect(await door.closed).toBe("attempts");
    expect(await reasonOf(knock(lab, invite, PIN))).toBe("PEER_UNREACHABLE");
    expect(admitted).toEqual([]);
    expect(notes.map(({ what, attemptsLeft }) => [what, attemptsLeft])).toEqual([
      ["wrong_proof", 2],
      ["wrong_proof", 1],
      ["wrong_proof", 0],
    ]);
  });

  test("one that expired is closed, also on an exchange that began before", async () => {
    let laterMs = 0;
    const mono = (): number => systemClock.mono() + laterMs;
    const clock: Clock = { ...systemClock, mono, now: () => ({ mono: mono(), wall: systemClock.wall() }) };
    const { door, invite, admitted } = await open(home, { clock, config: { exchangeMs: 600_000 } });
    using walk = await Walk.to(home, lab, invite, PIN);
    await walk.begin();
    laterMs = 300_000;
    expect(await reasonOf(walk.introduce())).toBe("INVITE_CLOSED");
    expect(await door.closed).toBe("expired");
    expect(await reasonOf(knock(lab, invite, PIN))).toBe("PEER_UNREACHABLE");
    expect(admitted).toEqual([]);
  });

  test("one that nobody comes for closes by itself", async () => {
    const { door, invite } = await open(home, { config: { lifeMs: 50 } });
    expect(await door.closed).toBe("expired");
    expect(await reasonOf(knock(lab, invite, PIN))).toBe("PEER_UNREACHABLE");
  });

  test("one of another door, or with another secret, takes nothing from the guest who is expected", async () => {
    const { invite, notes, admitted } = await open();
    const other = { ...invite, secret: systemEntropy.bytes(16) };
    for (let attempt = 0; attempt < 12; attempt++) expect(await reasonOf(knock(mallory, other, PIN))).toBe("INVITE_CLOSED");
    expect(notes.map(({ what }) => what)).toEqual(new Array(12).fill("uninvited"));
    await knock(lab, invite, PIN);
    expect(admitted.map(({ hubId }) => hubId)).toEqual(["lab"]);
  });

  test("a wrong CA digest, or another hub behind the address, is found before anything is said", async () => {
    const { invite, notes } = await open();
    const wrong = { ...invite, caDigest: digestOfCa(mallory) };
    expect(await failureOfCall(knock(lab, wrong, PIN))).toMatchObject({
      reason: "FOREIGN_CA",
      message: expect.stringContaining("does not show the CA"),
    });
    const foreign = await open(mallory);
    expect(await reasonOf(knock(lab, { ...invite, port: foreign.invite.port }, PIN))).toBe("FOREIGN_CA");
    // A hub of another name under the CA of the invite is not the one that invited.
    expect(await reasonOf(knock(lab, { ...foreign.invite, hubId: "home" }, PIN))).toBe("UNKNOWN_IDENTITY");
    expect([...notes, ...foreign.notes]).toEqual([]);
  });
});

describe("somebody in the middle", () => {
  /** Mallory serves a door of her own and passes on to the real one whatever she is told, changed as she likes. */
  async function between(target: Opened["invite"], change: { offer?: Uint8Array } = {}) {
    const seen: { begin: BeginRequest[]; introduce: IntroduceRequest[] } = { begin: [], introduce: [] };
    const credential = mallory.service();
    const onward = dial(home, target.port, credential);
    const server = createRpcServer({
      bindings: [
        bind(IntroductionService, {
          begin: (request) => {
            seen.begin.push(request);
            return onward.begin(request);
          },
          introduce: (request) => {
            seen.introduce.push(request);
            return onward.introduce({ ...request, ...change });
          },
        }),
      ],
      credentials: new DoorServerCredentials({ cert: credential.chainPem, key: credential.keyPem }),
      authority: new TestAuthority(mallory, []),
      admission: admitStranger,
      introspection: false,
      metrics: new Registry(),
      log: silentLogger,
      clock: systemClock,
      ids: systemEntropy,
    });
    const port = await server.listen("127.0.0.1", 0);
    const close = async (): Promise<void> => {
      onward.close();
      await server.drain(0);
    };
    return { seen, invite: { ...target, hubId: "mallory", caDigest: digestOfCa(mallory), port }, close };
  }

  test("who replaced the invite by her own, with its secret, gets in on neither side, and costs an attempt", async () => {
    const { door, invite, admitted, notes } = await open();
    const middle = await between(invite);
    expect(await reasonOf(knock(lab, middle.invite, PIN))).toBe("PIN_MISMATCH");
    expect(middle.seen.introduce).toHaveLength(1);
    expect(notes.map(({ what }) => what)).toEqual(["wrong_proof"]);
    // What she saw is no proof of hers: not again, and not for an exchange of her own.
    using walk = await Walk.to(home, mallory, invite, WRONG);
    await walk.begin();
    expect(await reasonOf(walk.introduce({ proof: middle.seen.introduce[0]!.proof, offer: middle.seen.introduce[0]!.offer }))).toBe(
      "PIN_MISMATCH",
    );
    expect(admitted).toEqual([]);
    await middle.close();
    await knock(lab, invite, PIN);
    expect(await door.closed).toBe("used");
  });

  test("without the invite she cannot even be a middle: the guest sees another CA", async () => {
    const { invite } = await open();
    const middle = await between(invite);
    expect(await reasonOf(knock(lab, { ...middle.invite, hubId: "home", caDigest: invite.caDigest }, PIN))).toBe("FOREIGN_CA");
    expect(middle.seen.begin).toEqual([]);
    await middle.close();
  });

  test("a host that does not know the PIN learns one wrong guess and is found out", async () => {
    const secret = systemEntropy.bytes(16);
    const fake = await open(mallory, { secret, pin: "111111" });
    expect(await failureOfCall(knock(lab, fake.invite, PIN))).toMatchObject({ reason: "PIN_MISMATCH" });
    expect(fake.admitted).toEqual([]);
  });

  test("a whole exchange that was recorded is worth nothing at the same door or at another", async () => {
    const secret = systemEntropy.bytes(16);
    const first = await open(home, { secret });
    using walk = await Walk.to(home, lab, first.invite, PIN, { credential: lab.service() });
    await walk.begin();
    const proof = walk.proof.proof();
    await walk.introduce();
    const second = await open(home, { secret });
    using again = await Walk.to(home, lab, second.invite, PIN);
    expect(await reasonOf(again.introduce({ exchange: walk.exchange, proof }))).toBe("INVITE_CLOSED");
    await again.begin();
    expect(await reasonOf(again.introduce({ proof }))).toBe("PIN_MISMATCH");
    expect(second.admitted).toEqual([]);
  });

  test("the exchange of one certificate is no good with another, nor with another offer", async () => {
    const { invite, admitted } = await open();
    using walk = await Walk.to(home, lab, invite, PIN);
    using thief = await Walk.to(home, mallory, invite, WRONG);
    await walk.begin();
    expect(await reasonOf(thief.introduce({ exchange: walk.exchange, proof: walk.proof.proof(), offer: walk.offer }))).toBe(
      "INVITE_CLOSED",
    );
    expect(await reasonOf(walk.introduce({ offer: encodeOffer(offerOf(mallory)) }))).toBe("PIN_MISMATCH");
    expect(admitted).toEqual([]);
  });
});

describe("an offer that cannot be true", () => {
  const lies: readonly [string, string, (leaf: ReturnType<typeof offerOf>) => Uint8Array][] = [
    ["the bundle of another hub", "FOREIGN_CA", (own) => encodeOffer({ ...own, caPems: [mallory.caPem] })],
    ["the bundle of another hub beside its own", "FOREIGN_CA", (own) => encodeOffer({ ...own, caPems: [lab.caPem, mallory.caPem] })],
    ["another hub's name", "IDENTITY_MISMATCH", (own) => encodeOffer({ ...own, hubId: "mallory" })],
    ["another certificate", "IDENTITY_MISMATCH", () => encodeOffer(offerOf(lab))],
    ["no CA", "INVALID_FIELD", (own) => encodeOffer({ ...own, caPems: [] })],
    ["a leaf as CA", "INVALID_FIELD", (own) => encodeOffer({ ...own, caPems: [String(own.leaf)] })],
    ["too many CAs", "INVALID_FIELD", (own) => encodeOffer({ ...own, caPems: new Array(9).fill(lab.caPem) as string[] })],
    ["an address with a path", "INVALID_FIELD", (own) => encodeOffer({ ...own, address: { host: "lab/../x", port: 1 } })],
    ["port 0", "INVALID_FIELD", (own) => encodeOffer({ ...own, address: { host: "lab", port: 0 } })],
    [
      "bytes that are no certificate",
      "INVALID_FIELD",
      (own) => toBinary(OfferSchema, create(OfferSchema, { hubId: "lab", cas: [new Uint8Array(99)], certificate: own.leaf.raw })),
    ],
    ["noise", "INVALID_FIELD", () => systemEntropy.bytes(4_000)],
    ["control characters in the name", "IDENTITY_MISMATCH", (own) => encodeOffer({ ...own, hubId: "lab\u001b[2J" })],
  ];

  test.each(lies)("%s is refused with %s, although the PIN is right", async (_what, reason, lie) => {
    const { door, invite, admitted } = await open();
    const credential = lab.service();
    using walk = await Walk.to(home, lab, invite, PIN, { credential, offer: lie(offerOf(lab, credential)) });
    await walk.begin();
    const failure = await failureOfCall(walk.introduce());
    expect(failure.reason).toBe(reason);
    expect(failure.message).not.toContain("\u001b");
    expect(await door.closed).toBe("not_admitted");
    expect(admitted).toEqual([]);
  });

  test("a CA that has ended", () => {
    const own = offerOf(lab);
    const inAHundredYears = systemClock.wall() + 100 * 365 * 86_400_000;
    expect(() => judgeOffer(encodeOffer(own), thumbprintOf(own.leaf), inAHundredYears)).toThrow("ended at");
  });
});

describe("what else comes to the door", () => {
  test("other RPCs are not there: no Hello, no status, no reflection, no health", async () => {
    const { invite, door, admitted } = await open();
    const credential = lab.service();
    const credentials = createPeerCredentials(
      { hubId: "home" },
      { cert: credential.certificatePem, key: credential.keyPem, ca: [home.caPem] },
      systemClock,
    );
    const options = { address: `127.0.0.1:${invite.port}`, credentials, clock: systemClock };
    const discovery = createClient(DiscoveryService, options);
    const hub = createClient(HubService, options);
    const health = createClient(Health, options);
    const calls = [
      () => discovery.hello(create(HelloRequestSchema, { hubId: "lab" })),
      () => discovery.listPeers(create(ListPeersRequestSchema)),
      () => hub.getStatus(create(GetStatusRequestSchema)),
      () => hub.getConfig(create(GetConfigRequestSchema)),
      () => health.check(create(HealthCheckRequestSchema)),
    ];
    for (const call of calls) expect(await failureOfCall(call())).toMatchObject({ facts: { grpc_code: "UNIMPLEMENTED" } });
    for (const client of [discovery, hub, health]) client.close();
    expect(admitted).toEqual([]);
    expect(door.describe()).toBe("open wrong=0/3 exchanges=-");
  });

  test.each([
    ["an operator of this hub", "ACCESS_DENIED", () => home.operator()],
    ["a node of another hub", "ACCESS_DENIED", () => lab.node()],
    ["an expired certificate", "CERTIFICATE_EXPIRED", () => lab.expired()],
    ["one that is not valid yet", "CERTIFICATE_EXPIRED", () => lab.notYetValid()],
    ["two names", "UNKNOWN_IDENTITY", () => lab.twoUris()],
    ["no name", "UNKNOWN_IDENTITY", () => lab.withoutUri()],
  ])("%s is refused with %s", async (_what, reason, credentialOf) => {
    const { invite, notes } = await open();
    using walk = await Walk.to(home, lab, invite, PIN, { credential: credentialOf() });
    expect(await reasonOf(walk.begin())).toBe(reason);
    expect(notes).toEqual([]);
  });

  test("fields of the wrong size, shares that are none, messages that are too large", async () => {
    const { invite, door, admitted } = await open();
    using walk = await Walk.to(home, lab, invite, PIN);
    expect(await reasonOf(walk.begin({ inviteId: new Uint8Array(15) }))).toBe("INVALID_FIELD");
    expect(await reasonOf(walk.begin({ sessionId: new Uint8Array(0) }))).toBe("INVALID_FIELD");
    expect(await reasonOf(walk.begin({ share: new Uint8Array(33) }))).toBe("INVALID_FIELD");
    expect(await reasonOf(walk.begin({ share: new Uint8Array(32) }))).toBe("INVALID_FIELD");
    expect(await reasonOf(walk.begin({ share: new Uint8Array(32).fill(255) }))).toBe("INVALID_FIELD");
    await walk.begin();
    expect(await reasonOf(walk.introduce({ exchange: new Uint8Array(0) }))).toBe("INVALID_FIELD");
    expect(await reasonOf(walk.introduce({ proof: new Uint8Array(63) }))).toBe("INVALID_FIELD");
    expect(await reasonOf(walk.introduce({ offer: new Uint8Array(61_441) }))).toBe("INVALID_FIELD");
    expect(await reasonOf(walk.introduce({ offer: new Uint8Array(70_000) }))).toBe("MESSAGE_TOO_LARGE");
    expect(door.describe()).toMatch(/^open wrong=0\/3/);
    // None of it has used the exchange up.
    await walk.introduce();
    expect(admitted).toHaveLength(1);
  });

  test("who begins and begins is slowed down, and the door stays small", async () => {
    const { invite, door } = await open();
    using walk = await Walk.to(home, lab, invite, PIN);
    const ends = await Promise.allSettled(Array.from({ length: 30 }, () => walk.begin()));
    const refused = ends.flatMap((end) =>
      end.status === "rejected" ? [(end.reason as { failure: { reason: string } }).failure.reason] : [],
    );
    expect(new Set(refused)).toEqual(new Set(["RATE_LIMITED"]));
    expect(refused.length).toBeGreaterThanOrEqual(30 - 8 - 10);
    expect(/exchanges=(.*)/.exec(door.describe())?.[1]?.split(",").length).toBeLessThanOrEqual(8);
  });

  /** closes resolves when the other side has closed; whatever it says meanwhile is thrown away. */
  const closes = (socket: ReturnType<typeof connectTcp>): Promise<void> =>
    new Promise((resolve) => {
      socket.on("error", () => undefined).once("close", () => resolve());
      socket.resume();
    });

  test("noise, TLS 1.2, no certificate, HTTP/2 that is none: ended, and the guest gets in all the same", async () => {
    const { invite, admitted, logged } = await open();
    const { port } = invite;
    const noise = connectTcp(port, "127.0.0.1");
    noise.write(systemEntropy.bytes(2_000));
    await closes(noise);
    const plain = connectTcp(port, "127.0.0.1");
    plain.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await closes(plain);
    const old = connectTls({ port, host: "127.0.0.1", maxVersion: "TLSv1.2", rejectUnauthorized: false });
    await closes(old);
    const garbage = connectTls({ port, host: "127.0.0.1", ALPNProtocols: ["h2"], rejectUnauthorized: false });
    await new Promise((resolve) => garbage.once("secureConnect", resolve));
    garbage.write(systemEntropy.bytes(2_000));
    await closes(garbage);
    // Without a certificate there is TLS, and then nothing: the call has no identity.
    expect((await authorityAt(invite, systemClock)).ca).toBe(new TestAuthority(home, []).bundle("home")![0]!.toString());
    await knock(lab, invite, PIN);
    expect(admitted).toHaveLength(1);
    expect(logged()).toContain("tls handshake failed");
  });

  test("one address cannot take all connections: of five one is closed", async () => {
    const { invite, admitted } = await open();
    const held = await Promise.all(
      Array.from(
        { length: 4 },
        () =>
          new Promise<ReturnType<typeof connectTcp>>((resolve) => {
            const socket = connectTcp(invite.port, "127.0.0.1", () => resolve(socket));
            socket.on("error", () => undefined);
          }),
      ),
    );
    const began = systemClock.mono();
    const all = [...held, connectTcp(invite.port, "127.0.0.1")];
    // Which of them goes depends on how long the others have said nothing by then.
    await Promise.race(all.map(closes));
    expect(systemClock.mono() - began, "it goes for being one too many, not for its age").toBeLessThan(8_000);
    expect(all.filter(({ destroyed }) => !destroyed)).toHaveLength(4);
    for (const socket of all) socket.destroy();
    // A place is free again as soon as the door has seen the others go.
    for (;;) {
      const end = await knock(lab, invite, PIN).catch((error: unknown) => error);
      if (!(end instanceof Error)) break;
    }
    expect(admitted).toHaveLength(1);
  });

  /** from connects to the door from another address of this machine, and resolves when TLS is done. */
  const from = (localAddress: string, port: number, { certificatePem: cert, keyPem: key } = mallory.service()) =>
    new Promise<ReturnType<typeof connectTls>>((resolve) => {
      const options = { port, host: "127.0.0.1", localAddress, cert, key, ALPNProtocols: ["h2"], rejectUnauthorized: false };
      const socket = connectTls(options, () => resolve(socket));
      socket.on("error", () => resolve(socket)).resume();
    });

  test("S-17 eight addresses that take all connections, and again, do not keep the guest out", async () => {
    const { invite, admitted } = await open();
    // One certificate does for all of them: to issue forty takes longer than the first of them may be silent.
    const leaf = mallory.service();
    const crowd: ReturnType<typeof connectTls>[] = [];
    for (let i = 0; i < 40; i++) crowd.push(await from(`127.0.0.${2 + (i % 8)}`, invite.port, leaf));
    expect(crowd.filter(({ destroyed }) => !destroyed).length, "the door is full").toBeGreaterThanOrEqual(24);
    await knock(lab, invite, PIN);
    expect(admitted).toHaveLength(1);
    for (const socket of crowd) socket.destroy();
  });

  test("S-17 who has the invite and no PIN, and begins as fast as it can, does not keep the guest out", async () => {
    const { invite, admitted, door } = await open();
    // Another address of this machine.
    const relay = createServer((client) => {
      const through = connectTcp({ port: invite.port, host: "127.0.0.1", localAddress: "127.0.0.7" });
      for (const socket of [client, through]) socket.on("error", () => undefined);
      client.pipe(through).pipe(client);
      client.once("close", () => through.destroy());
    });
    await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
    const { port } = relay.address() as AddressInfo;
    using holder = await Walk.to(home, mallory, { ...invite, port }, WRONG);
    const busy = Array.from({ length: 50 }, () => holder.begin().catch(() => undefined));
    await Promise.all(busy);
    const more = Array.from({ length: 20 }, () => holder.begin().catch(() => undefined));
    await knock(lab, invite, PIN);
    await Promise.all(more);
    expect(admitted).toHaveLength(1);
    await door.closed;
    relay.close();
  });
});
