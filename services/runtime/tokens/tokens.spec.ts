import { type CryptoKey, generateKeyPair, importJWK, SignJWT } from "jose";
import { describe, expect, test } from "vitest";
import { systemEntropy } from "#channel/entropy.ts";
import { FoedusError } from "#kernel/error.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { type IssueRequest, TokenIssuer } from "./issue.ts";
import { decodeKey, encodeKey, KeyRing } from "./key-ring.ts";
import { JwtVerifier, type JwtVerifierOptions } from "./verify.ts";

const HOUR = 3_600_000;
const RING = { rotationMs: 24 * HOUR, leadMs: HOUR, retainMs: 2 * HOUR };
const REQUEST: IssueRequest = { subjectHub: "b", thumbprint: "leaf-of-b", level: 2, issuerHub: "a", audienceHub: "a" };

async function reasonOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof FoedusError)) throw new Error("should have failed with a FoedusError", { cause: error });
  return error.failure.reason;
}

async function step(ring: KeyRing, nowWall: number, rotate = false): Promise<boolean> {
  const change = await ring.prepare(nowWall, rotate);
  if (change !== undefined) ring.apply(change);
  return change !== undefined;
}

async function setup(more: Partial<JwtVerifierOptions> = {}) {
  const clock = new ManualClock();
  const ring = new KeyRing([], RING);
  await step(ring, clock.wall());
  const withdrawn = new Set<string>();
  const least = new Map<string, number>();
  const authority = { revoked: (thumbprint: string) => withdrawn.has(thumbprint), minTokenIssuedAt: (hub: string) => least.get(hub) ?? 0 };
  const issuer = new TokenIssuer({ ring, clock, entropy: systemEntropy });
  const verifier = new JwtVerifier({ hubId: "a", clock, authority, ...more });
  verifier.setKeySet(ring.jwks);
  return { clock, ring, issuer, verifier, withdrawn, least };
}

describe("key ring", () => {
  test("KR1 KR3 D-10 a key is published an hour before it signs, and the old one signs until then", async () => {
    const { clock, ring } = await setup();
    const [first] = ring.kids;
    clock.advance(23 * HOUR - 1);
    expect(await step(ring, clock.wall())).toBe(false);
    clock.advance(1);
    expect(ring.dueAtWall(clock.wall())).toBe(clock.wall());
    expect(await step(ring, clock.wall())).toBe(true);
    expect(ring.kids).toHaveLength(2);
    expect(ring.jwks).toContain(ring.kids[1]);
    expect(ring.current(clock.wall()).kid).toBe(first);
    clock.advance(HOUR);
    expect(ring.current(clock.wall()).kid).toBe(ring.kids[1]);
  });

  test("KR2 S4-21 the old key stays for the life of its tokens and then goes", async () => {
    const { clock, ring } = await setup();
    await step(ring, clock.wall(), true);
    clock.advance(3 * HOUR - 1);
    expect(await step(ring, clock.wall())).toBe(false);
    clock.advance(1);
    expect(ring.dueAtWall(clock.wall())).toBeLessThanOrEqual(clock.wall());
    expect(await step(ring, clock.wall())).toBe(true);
    expect(ring.kids).toHaveLength(1);
  });

  test("a ring restored from the store signs what the earlier verifier accepts", async () => {
    const { clock, ring, verifier } = await setup();
    const stored = decodeKey(encodeKey(ring.current(clock.wall())))!;
    const issuer = new TokenIssuer({ ring: new KeyRing([stored], RING), clock, entropy: systemEntropy });
    const { jwt } = await issuer.issue(REQUEST);
    expect((await verifier.verify(jwt, "leaf-of-b")).hubId).toBe("b");
    expect(decodeKey(new TextEncoder().encode("{}"))).toBeUndefined();
  });

  test("the key set shows no private part", async () => {
    const { ring, clock } = await setup();
    expect(ring.jwks).not.toContain(ring.current(clock.wall()).privateJwk.d);
    expect(JSON.parse(ring.jwks).keys[0]).not.toHaveProperty("d");
  });
});

describe("verify", () => {
  test("VF1 a good token proves hub, level, id and expiry", async () => {
    const { clock, issuer, verifier } = await setup();
    const issued = await issuer.issue(REQUEST);
    expect(await verifier.verify(issued.jwt, "leaf-of-b")).toMatchObject({
      hubId: "b",
      level: 2,
      id: issued.id,
      expiresAtWall: clock.wall() + HOUR,
    });
  });

  test("VF1 a token on another certificate's connection is refused", async () => {
    const { issuer, verifier } = await setup();
    const { jwt } = await issuer.issue(REQUEST);
    expect(await reasonOf(verifier.verify(jwt, "leaf-of-c"))).toBe("TOKEN_INVALID");
    await verifier.verify(jwt, "leaf-of-b");
    expect(await reasonOf(verifier.verify(jwt, "leaf-of-c"))).toBe("TOKEN_INVALID");
  });

  test.each([
    ["another issuer", { issuerHub: "c" }],
    ["another audience", { audienceHub: "c" }],
    ["a subject that is no hub", { subjectHub: "b/node/x" }],
  ])("VF1 %s is refused", async (_name, change) => {
    const { issuer, verifier } = await setup();
    const { jwt } = await issuer.issue({ ...REQUEST, ...change });
    expect(await reasonOf(verifier.verify(jwt, "leaf-of-b"))).toBe("TOKEN_INVALID");
  });

  test.each([
    ["type", { typ: "JWT", exp: HOUR, iat: 0, jti: true }],
    ["age beyond an hour", { typ: "at+jwt", exp: 9 * HOUR, iat: -2 * HOUR, jti: true }],
    ["an issue instant in the future", { typ: "at+jwt", exp: HOUR, iat: 60_000, jti: true }],
    ["no id", { typ: "at+jwt", exp: HOUR, iat: 0, jti: false }],
  ])("VF1 wrong %s is refused although the signature is right", async (_name, { typ, exp, iat, jti }) => {
    const { clock, ring, verifier } = await setup();
    const key = ring.current(clock.wall());
    const jwt = new SignJWT({ cnf: { "x5t#S256": "leaf-of-b" }, ...(jti ? { jti: "x" } : {}) })
      .setProtectedHeader({ alg: "EdDSA", kid: key.kid, typ })
      .setIssuer("spiffe://a")
      .setAudience("spiffe://a")
      .setSubject("spiffe://b")
      .setIssuedAt((clock.wall() + iat) / 1000)
      .setExpirationTime((clock.wall() + exp) / 1000);
    const text = await jwt.sign((await importJWK(key.privateJwk, "EdDSA")) as CryptoKey);
    expect(["TOKEN_INVALID", "TOKEN_EXPIRED"]).toContain(await reasonOf(verifier.verify(text, "leaf-of-b")));
  });

  test("VF1 another algorithm, a foreign signature and rubbish are refused", async () => {
    const { clock, ring, verifier } = await setup();
    const { kid } = ring.current(clock.wall());
    const foreign = await generateKeyPair("EdDSA");
    const hmac = new TextEncoder().encode("0123456789abcdef0123456789abcdef");
    const claims = () =>
      new SignJWT({ cnf: { "x5t#S256": "leaf-of-b" }, jti: "x" })
        .setIssuer("spiffe://a")
        .setAudience("spiffe://a")
        .setSubject("spiffe://b")
        .setIssuedAt(clock.wall() / 1000)
        .setExpirationTime(clock.wall() / 1000 + 60);
    const forged = await claims().setProtectedHeader({ alg: "EdDSA", kid, typ: "at+jwt" }).sign(foreign.privateKey);
    const symmetric = await claims().setProtectedHeader({ alg: "HS256", kid, typ: "at+jwt" }).sign(hmac);
    for (const jwt of [forged, symmetric, "", "a.b.c", "x".repeat(5_000)])
      expect(await reasonOf(verifier.verify(jwt, "leaf-of-b"))).toBe("TOKEN_INVALID");
  });

  test("VF2 a remembered token still expires, is revoked, and is void after a change of trust", async () => {
    const { clock, issuer, verifier, withdrawn, least } = await setup();
    const { jwt } = await issuer.issue(REQUEST);
    await verifier.verify(jwt, "leaf-of-b");
    withdrawn.add("leaf-of-b");
    expect(await reasonOf(verifier.verify(jwt, "leaf-of-b"))).toBe("TOKEN_INVALID");
    withdrawn.clear();
    clock.advance(1);
    least.set("b", clock.wall());
    expect(await reasonOf(verifier.verify(jwt, "leaf-of-b"))).toBe("TOKEN_INVALID");
    const fresh = await issuer.issue(REQUEST);
    await verifier.verify(fresh.jwt, "leaf-of-b");
    clock.advance(HOUR);
    expect(await reasonOf(verifier.verify(fresh.jwt, "leaf-of-b"))).toBe("TOKEN_EXPIRED");
  });

  test("VF3 D-16 an unknown key is fetched once; random key ids do not flood the issuer", async () => {
    let fetches = 0;
    let jwks = "";
    const { clock, ring, issuer, verifier } = await setup({
      fetchKeySet: async () => {
        fetches++;
        return jwks;
      },
    });
    await step(ring, clock.wall(), true);
    jwks = ring.jwks;
    clock.advance(HOUR);
    const { jwt } = await issuer.issue(REQUEST);
    await Promise.all([verifier.verify(jwt, "leaf-of-b"), verifier.verify(jwt, "leaf-of-b")]);
    expect(fetches).toBe(1);
    const stranger = new KeyRing([], RING);
    const forger = new TokenIssuer({ ring: stranger, clock, entropy: systemEntropy });
    for (let i = 0; i < 5; i++) {
      stranger.apply({ added: (await new KeyRing([], RING).prepare(clock.wall()))!.added, removed: stranger.kids });
      expect(await reasonOf(verifier.verify((await forger.issue(REQUEST)).jwt, "leaf-of-b"))).toBe("TOKEN_INVALID");
    }
    expect(fetches).toBe(1);
    clock.advance(30_000);
    expect(await reasonOf(verifier.verify((await forger.issue(REQUEST)).jwt, "leaf-of-b"))).toBe("TOKEN_INVALID");
    expect(fetches).toBe(2);
  });

  test("VF4 D-16 a key set without a key ends what that key signed, also if it was remembered", async () => {
    const { clock, ring, issuer, verifier } = await setup();
    const { jwt } = await issuer.issue(REQUEST);
    await verifier.verify(jwt, "leaf-of-b");
    const other = new KeyRing([], RING);
    await step(other, clock.wall());
    verifier.setKeySet(other.jwks);
    expect(await reasonOf(verifier.verify(jwt, "leaf-of-b"))).toBe("TOKEN_INVALID");
    verifier.setKeySet(ring.jwks);
    expect((await verifier.verify(jwt, "leaf-of-b")).hubId).toBe("b");
    expect(() => verifier.setKeySet("no")).toThrow("not a JWK set");
    expect((await verifier.verify(jwt, "leaf-of-b")).hubId).toBe("b");
  });
});
