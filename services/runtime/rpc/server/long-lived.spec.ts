import { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import type { FoedusError } from "#kernel/error.ts";
import { GreetRequestSchema, SessionRequestSchema } from "../../../../test/proto/echo-service.gen.ts";
import { bearer, collect, type Fixture, failureOfCall, serve, shiftedClock, tokenFor, until } from "../../../../test/rpc/fixture.ts";
import { type Credential, type TestHub, testHub } from "../../../../test/testca/index.ts";
import { createClient } from "../client/client.ts";

let alpha: TestHub;
let beta: TestHub;
let fixture: Fixture | undefined;

beforeAll(async () => {
  [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
});
afterEach(() => fixture?.close());

const say = (text: string) => create(SessionRequestSchema, { frame: { case: "say", value: text } });

/** watching opens a long-lived stream of a caller of this hub, which stays until it is ended, and says how it ended. */
async function watching(own: Fixture, credential: Credential): Promise<Promise<FoedusError["failure"]>[]> {
  const address = `127.0.0.1:${own.port}`;
  const client = createClient(ServerReflection, { address, credentials: own.credentials(credential), clock: systemClock });
  const stream = client.serverReflectionInfo({ timeoutMs: 1e9 });
  await stream.opened;
  return [failureOfCall(collect(stream.responses)).finally(() => client.close())];
}

describe("a stream ends when its caller may no longer be there", () => {
  test("S-6 its certificate ends: the stream ends with the reason, and the connection is given up", async () => {
    let shiftMs = 0;
    const own = await serve(alpha, [beta], { clock: shiftedClock(() => shiftMs) });
    fixture = own;
    const [ended] = await watching(own, alpha.gateway("zigbee"));
    shiftMs = 10 * 365 * 86_400_000;
    expect(await ended).toMatchObject({ reason: "CERTIFICATE_EXPIRED", facts: { check: "validity" } });
    await until(() => own.server.connections === 0);
    expect(own.server.calls).toBe(0);
    expect(own.lines).toContainEqual(expect.objectContaining({ message: "caller is no longer admitted" }));
  });

  test("S-6 the CA that signed it is taken out of the own set: without being told, within a second", async () => {
    const own = await serve(alpha, [beta]);
    fixture = own;
    const peer = beta.service();
    const theirs = own.dial(peer).session(bearer(tokenFor("beta", peer)));
    const [mine] = await watching(own, alpha.gateway());
    await theirs.opened;
    own.authority.trust(await alpha.otherAuthority(), 0);
    expect(await mine).toMatchObject({ reason: "FOREIGN_CA" });
    theirs.send(say("yes"));
    expect((await theirs.responses[Symbol.asyncIterator]().next()).value?.frame.value).toBe("yes");
  });

  test("S-6 a revoked certificate: at once when the server is told, and only its own streams", async () => {
    const own = await serve(alpha, [beta]);
    fixture = own;
    const lost = alpha.gateway("lost");
    const peer = beta.service();
    const kept = own.dial(peer).session(bearer(tokenFor("beta", peer)));
    const [[gone]] = await Promise.all([watching(own, lost), kept.opened]);
    own.authority.withdrawn.add(thumbprintOf(new X509Certificate(lost.certificatePem)));
    expect(own.server.recheck()).toBe(1);
    expect(await gone).toMatchObject({ reason: "UNKNOWN_IDENTITY", facts: { check: "not-revoked" } });
    kept.send(say("yes"));
    expect((await kept.responses[Symbol.asyncIterator]().next()).value?.frame.value).toBe("yes");
    await until(() => own.server.connections === 1);
  });

  test("S-6 a client that renewed its certificate gets in again on its own channel", async () => {
    const own = await serve(alpha, [beta]);
    fixture = own;
    const old = beta.service();
    const credentials = own.credentials(old);
    const client = own.dial(old, { credentials });
    const stream = client.session({ ...bearer(tokenFor("beta", old)), timeoutMs: 1e10 });
    await stream.opened;
    own.authority.withdrawn.add(thumbprintOf(new X509Certificate(old.certificatePem)));
    own.server.recheck();
    await failureOfCall(collect(stream.responses));
    const next = beta.service("discovery");
    credentials.rotate({ cert: next.certificatePem, key: next.keyPem, ca: [alpha.caPem] });
    await until(() => own.server.connections === 0);
    expect((await client.greet(create(GreetRequestSchema))).caller).toBe("spiffe://beta/service/discovery");
  });

  test("S-6 PROTOCOL C11 a connection of single calls, too: the first one that is refused is the last on it, and a renewed client gets in", async () => {
    let shiftMs = 0;
    const own = await serve(alpha, [beta], { clock: shiftedClock(() => shiftMs) });
    fixture = own;
    const old = beta.service("hub", { lifetimeMs: 3_600_000 });
    const credentials = own.credentials(old);
    const client = own.dial(old, { credentials });
    await client.greet(create(GreetRequestSchema));
    const next = beta.service("discovery");
    credentials.rotate({ cert: next.certificatePem, key: next.keyPem, ca: [alpha.caPem] });
    expect((await client.greet(create(GreetRequestSchema))).caller).toBe("spiffe://beta/service/hub");
    shiftMs = 2 * 3_600_000;
    // The deadline is the sender's clock plus this: by the clock of the server it has long passed else.
    const late = { timeoutMs: 3 * 3_600_000 };
    expect(await failureOfCall(client.greet(create(GreetRequestSchema), late))).toMatchObject({ reason: "CERTIFICATE_EXPIRED" });
    await until(() => own.server.connections === 0);
    expect((await client.greet(create(GreetRequestSchema), late)).caller).toBe("spiffe://beta/service/discovery");
    expect(own.lines.filter(({ message }) => message === "caller is no longer admitted")).toHaveLength(1);
  });
});
