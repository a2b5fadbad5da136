import { createPublicKey, type KeyObject } from "node:crypto";
import { systemClock } from "#channel/clock.ts";
import { type Authority, certify, createAuthority } from "../../certs/authority.ts";
import {
  type IssueRequest,
  type LeafProfile,
  type OperatorRole,
  PROFILES,
  type Sans,
  SKEW_MS,
  sansOf,
  spiffeId,
} from "../../certs/profiles.ts";
import { encodeCertificate, generateKey, issuerFactsOf, readPrivateKey } from "../../certs/x509.ts";

/**
 * Certificates for tests: shipping profiles and authority, plus certificates that no authority should make. Leaf keys come
 * from a small pool made once per process, so two leaves may share a key; every authority has a key of its own.
 */

/** Credential is a leaf as PEMs, with the CA of the hub that signed it. */
export interface Credential {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly caPem: string;
  readonly chainPem: string;
}

/** LeafOptions are the optional parts of a request. */
export type LeafOptions = Omit<IssueRequest, "profile" | "name">;

/** TestHub is a hub's authority with everything that it can sign, right and wrong. All but the authority is made on call. */
export interface TestHub {
  readonly hubId: string;
  readonly authority: Authority;
  readonly caPem: string;
  readonly now: Date;
  issue(request: IssueRequest): Credential;
  /** Default name: hub, the certificate of single mode. */
  service(name?: string, options?: LeafOptions): Credential;
  gateway(name?: string, prefixes?: readonly string[]): Credential;
  node(id?: string): Credential;
  operator(name?: string, role?: OperatorRole): Credential;
  /** A leaf that ended one hour ago. */
  expired(request?: IssueRequest): Credential;
  /** A leaf that starts in one hour. */
  notYetValid(request?: IssueRequest): Credential;
  /** Foreign CA for another hub's name: signed by this CA, says `spiffe://<otherHubId>/…`. */
  impersonating(otherHubId: string, kind?: LeafProfile, name?: string): Credential;
  /** Two URI SANs: this hub's service and a second one (default: another service of this hub). */
  twoUris(second?: string): Credential;
  /** A CA certificate with the name of this hub's service, signed by its CA. */
  caAsService(): Credential;
  /** Host names, but no URI SAN. */
  withoutUri(): Credential;
  /** A gateway with these OUs in its subject. */
  gatewayOf(...units: readonly string[]): Credential;
  /** Another authority with this hub's id and name, but its own key. */
  otherAuthority(): Promise<TestHub>;
}

const POOL_SIZE = 4;
const HOUR_MS = 3_600_000;
const SERVICE: IssueRequest = { profile: "service", name: "hub" };

interface TestKey {
  readonly keyPem: string;
  readonly publicKey: KeyObject;
}

let pool: Promise<readonly TestKey[]> | undefined;
let taken = 0;

/** testKeys gives this process's pool of RSA-2048 keys (PKCS #8 PEM and public key), made on first use. */
export function testKeys(): Promise<readonly TestKey[]> {
  pool ??= Promise.all(
    Array.from({ length: POOL_SIZE }, async () => {
      const keyPem = await generateKey();
      return { keyPem, publicKey: createPublicKey(readPrivateKey(keyPem)) };
    }),
  );
  return pool;
}

/** testHub makes a hub's authority (a new key on every call) valid around `now`, by default the machine's time. */
export async function testHub(hubId: string, options: { readonly now?: Date } = {}): Promise<TestHub> {
  const now = options.now ?? new Date(systemClock.wall());
  const [keys, authority] = await Promise.all([testKeys(), createAuthority({ hubId, now })]);
  const nextKey = (): TestKey => {
    const key = keys[taken++ % keys.length];
    if (key === undefined) throw new Error("key pool is empty");
    return key;
  };
  const issue = (request: IssueRequest): Credential => {
    const { keyPem, publicKey } = nextKey();
    const { certificatePem, chainPem } = certify(authority, publicKey, request, now);
    return { certificatePem, chainPem, keyPem, caPem: authority.certificatePem };
  };
  const service = sansOf(hubId, SERVICE);
  const odd = (sans: Sans, kind: LeafProfile = "service"): Credential => signOdd(authority, nextKey(), sans, kind, now);
  return {
    hubId,
    authority,
    caPem: authority.certificatePem,
    now,
    issue,
    service: (name = "hub", more = {}) => issue({ ...more, profile: "service", name }),
    gateway: (name = "gateway-1", prefixes) => issue({ profile: "gateway", name, ...(prefixes === undefined ? {} : { prefixes }) }),
    node: (id = "node-1") => issue({ profile: "node", name: id }),
    operator: (name = "operator-1", role = "admin") => issue({ profile: "operator", name, role }),
    expired: (request = SERVICE) => issue({ ...request, notBefore: new Date(now.getTime() - SKEW_MS - 2 * HOUR_MS), lifetimeMs: HOUR_MS }),
    notYetValid: (request = SERVICE) => issue({ ...request, notBefore: new Date(now.getTime() + HOUR_MS), lifetimeMs: HOUR_MS }),
    impersonating: (otherHubId, kind = "service", name = "hub") => odd({ ...service, uris: [spiffeId(otherHubId, kind, name)] }, kind),
    twoUris: (second = spiffeId(hubId, "service", "discovery")) => odd({ ...service, uris: [...service.uris, second] }),
    caAsService: () => signOdd(authority, nextKey(), service, "service", now, { ca: true }),
    withoutUri: () => odd({ ...service, uris: [] }),
    gatewayOf: (...units) =>
      signOdd(authority, nextKey(), { uris: [spiffeId(hubId, "gateway", "odd")], dnsNames: [], ips: [] }, "gateway", now, { units }),
    otherAuthority: () => testHub(hubId, { now }),
  };
}

/** signOdd signs what `certify` refuses. The rest is as in a regular leaf, so that a test can fail for one reason only. */
function signOdd(
  authority: Authority,
  key: TestKey,
  sans: Sans,
  kind: LeafProfile,
  now: Date,
  { ca = false, units = kind === "operator" ? ["role:admin"] : [] }: { readonly ca?: boolean; readonly units?: readonly string[] } = {},
): Credential {
  const issuer = issuerFactsOf(authority.certificatePem);
  const certificatePem = encodeCertificate(
    {
      subject: [{ name: "commonName", value: "odd" }, ...units.map((value) => ({ name: "organizationalUnitName", value }) as const)],
      issuer: issuer.name,
      authorityKeyId: issuer.keyId,
      publicKey: key.publicKey,
      notBefore: new Date(now.getTime() - SKEW_MS),
      notAfter: new Date(now.getTime() + HOUR_MS),
      ca,
      keyUsage: ca ? [...PROFILES[kind].keyUsage, "keyCertSign"] : PROFILES[kind].keyUsage,
      extKeyUsage: PROFILES[kind].extKeyUsage,
      sans,
    },
    authority.key,
  );
  return { certificatePem, keyPem: key.keyPem, caPem: authority.certificatePem, chainPem: certificatePem + authority.certificatePem };
}
