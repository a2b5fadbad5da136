import { createHash, type X509Certificate } from "node:crypto";
import type { Failure } from "#kernel/error.ts";
import { certificateKeyProblem } from "./keys.ts";

/** SPIFFE_KINDS are the kinds of identity that a SPIFFE path may name. */
export const SPIFFE_KINDS = ["service", "node", "gateway", "operator"] as const;

/** SpiffeKind is the first part of a SPIFFE path. */
export type SpiffeKind = (typeof SPIFFE_KINDS)[number];

/** SpiffeId is `spiffe://<hubId>/<kind>/<name>`, taken apart. */
export interface SpiffeId {
  readonly uri: string;
  readonly hubId: string;
  readonly kind: SpiffeKind;
  readonly name: string;
}

const SPIFFE_PATTERN = /^spiffe:\/\/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\/(service|node|gateway|operator)\/([A-Za-z0-9._-]{1,63})$/;

/** parseSpiffeId reads an id strictly; undefined for anything else (SPIFFE-ID specification, sections 2.1 and 2.2). */
export function parseSpiffeId(uri: string): SpiffeId | undefined {
  const match = SPIFFE_PATTERN.exec(uri);
  if (match === null) return undefined;
  const [, hubId, kind, name] = match as unknown as [string, string, SpiffeKind, string];
  // Path segments of dots are no names (SPIFFE-ID section 2.2).
  return name === "." || name === ".." ? undefined : { uri, hubId, kind, name };
}

/** thumbprintOf is base64url(SHA-256(DER)), what tokens are bound to (RFC 8705 `x5t#S256`). */
export function thumbprintOf(leaf: X509Certificate): string {
  return createHash("sha256").update(leaf.raw).digest("base64url");
}

/** Names of a larger certificate are not read, as that takes tens of milliseconds; certificates of hubs have one or two thousand bytes. */
const NAMED_MAX_BYTES = 16 * 1024;

/**
 * uriSans lists the URI subject alternative names. Node writes names that contain special characters as JSON strings;
 * such a name is kept with its quotes and so never parses as a SPIFFE id (CVE-2021-44532). A certificate that is too large counts as one without names.
 */
export function uriSans(leaf: X509Certificate): string[] {
  const uris: string[] = [];
  if (leaf.raw.length > NAMED_MAX_BYTES) return uris;
  for (const [, type, value] of (leaf.subjectAltName ?? "").matchAll(/(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)/g)) {
    if (type === "URI" && value !== undefined) uris.push(value);
  }
  return uris;
}

/** organisationalUnits lists the OU values of the subject, which carry `role:` and `prefix:`; none of a certificate that is too large. */
export function organisationalUnits(leaf: X509Certificate): string[] {
  if (leaf.raw.length > NAMED_MAX_BYTES) return [];
  const subject = leaf.toLegacyObject().subject as unknown as Readonly<Record<string, string | string[] | undefined>>;
  const ou = subject?.["OU"];
  return ou === undefined ? [] : Array.isArray(ou) ? ou : [ou];
}

/** ROLE_METRICS is below ROLE_VIEWER and ROLE_ADMIN, the numbers of `OperatorRole`, so no RPC admits it. */
export const ROLE_METRICS = 0;
export const ROLE_VIEWER = 1;
export const ROLE_ADMIN = 2;

/** roleOf reads an operator's role from `OU=role:admin|viewer|metrics`; viewer when nothing is said. Of several, the least counts. */
export function roleOf(units: readonly string[]): number {
  if (units.includes("role:metrics")) return ROLE_METRICS;
  return units.includes("role:admin") && !units.includes("role:viewer") ? ROLE_ADMIN : ROLE_VIEWER;
}

/** prefixesOf reads a gateway's id prefixes from `OU=prefix:<p>`. */
export function prefixesOf(units: readonly string[]): string[] {
  return units.filter((unit) => unit.startsWith("prefix:")).map((unit) => unit.slice("prefix:".length));
}

/** INTERMEDIATES_MAX is the most certificates that may stand between a leaf and the CA that is pinned. */
export const INTERMEDIATES_MAX = 4;

/**
 * issuersOf lists what came with a leaf in TLS, next issuer first; nothing for one that was read from a file. Servers are not told either
 * by Node 24.21 (nodejs/node#65579), so that callers under an intermediate need that CA pinned beside, or instead of, its root.
 */
export function issuersOf(leaf: X509Certificate): X509Certificate[] {
  const found: X509Certificate[] = [];
  let next = leaf.issuerCertificate;
  while (next !== undefined && found.length <= INTERMEDIATES_MAX) {
    found.push(next);
    next = next.issuerCertificate;
  }
  return found;
}

const signedBy = (one: X509Certificate, ca: X509Certificate): boolean =>
  ca.ca && one.checkIssued(ca) && certificateKeyProblem(ca) === undefined && one.verify(ca.publicKey);

/**
 * issuedBy tells whether one of a hub's pinned CA certificates signed this leaf, itself or through intermediates that came with the leaf
 * (`between`). Only what is pinned is trusted: an intermediate counts for nothing but the signature that a pinned CA put under it.
 */
export function issuedBy(
  leaf: X509Certificate,
  bundle: readonly X509Certificate[],
  between: readonly X509Certificate[] = issuersOf(leaf),
): boolean {
  return trustedUntil(leaf, bundle, between) !== undefined;
}

/**
 * trustedUntil is the wall time, ms, at which what `issuedBy` finds ends: the leaf, or a CA on the way to the pinned one. Of several ways
 * the longest counts. Undefined if no pinned CA signed it.
 */
export function trustedUntil(
  leaf: X509Certificate,
  bundle: readonly X509Certificate[],
  between: readonly X509Certificate[] = issuersOf(leaf),
): number | undefined {
  let best: number | undefined;
  let [at, until] = [leaf, endOf(leaf)];
  for (let steps = 0; steps <= INTERMEDIATES_MAX; steps++) {
    const one = at;
    const pinned = bundle.filter((ca) => signedBy(one, ca)).map(endOf);
    if (pinned.length > 0) best = Math.max(best ?? Number.NEGATIVE_INFINITY, Math.min(until, Math.max(...pinned)));
    // No way through more CAs lasts longer.
    if (best === until) return best;
    const next = between.find((ca) => signedBy(one, ca));
    if (next === undefined || next.checkIssued(next)) return best;
    [at, until] = [next, Math.min(until, endOf(next))];
  }
  return best;
}

const endOf = (certificate: X509Certificate): number => certificate.validToDate.getTime();

/** ExpectedPeer is who a client wants at the other end: a service of one hub, by name or any. */
export interface ExpectedPeer {
  readonly hubId: string;
  /** Exact service name, e.g. `discovery`. Without it any `/service/` identity of the hub is accepted. */
  readonly name?: string;
}

/** expectedPeerOf reads from an exact SPIFFE id, as the peer table holds it, whom to expect; undefined if it names no service. */
export function expectedPeerOf(spiffeId: string): ExpectedPeer | undefined {
  const id = parseSpiffeId(spiffeId);
  return id?.kind === "service" ? { hubId: id.hubId, name: id.name } : undefined;
}

/** elsewhere is what to do about a server that is not the one that was expected. */
function elsewhere(id: SpiffeId, { hubId, name = "*" }: ExpectedPeer): string {
  if (id.hubId !== hubId || id.kind !== "service" || (id.name === "hub") === (name === "hub")) return "check the address";
  return name === "hub"
    ? "this hub runs one process per service, so give an address for each (`foedus contexts add` with --address service=host:port)"
    : "this hub runs as one process now, so give its one address (`foedus contexts add` with one --address)";
}

/**
 * checkServer is the client's decision about a server certificate; it stands in for the host name check, so that hubs can be
 * reached by address: exactly one SPIFFE id, the expected one, signed by a CA of that very hub, inside its validity and not among
 * the `revoked` thumbprints. `until` is what `trustedUntil` says of it, for who has asked that already.
 */
export function checkServer(
  leaf: X509Certificate,
  expected: ExpectedPeer,
  bundle: readonly X509Certificate[],
  nowWall: number,
  revoked: readonly string[] = [],
  { until }: { readonly until: number | undefined } = { until: trustedUntil(leaf, bundle) },
): Failure | undefined {
  const wanted = `spiffe://${expected.hubId}/service/${expected.name ?? "*"}`;
  const uris = uriSans(leaf);
  const id = uris.length === 1 ? parseSpiffeId(uris[0] as string) : undefined;
  if (id === undefined)
    return { reason: "UNKNOWN_IDENTITY", message: `the server's certificate has no single SPIFFE id; expected ${wanted}` };
  if (id.hubId !== expected.hubId || id.kind !== "service" || (expected.name !== undefined && id.name !== expected.name))
    return {
      reason: "UNKNOWN_IDENTITY",
      message: `the server is ${id.uri} and not ${wanted}; ${elsewhere(id, expected)}`,
      facts: { presented: id.uri, expected: wanted },
    };
  if (leaf.ca) return { reason: "UNKNOWN_IDENTITY", message: `the server shows a CA certificate for ${id.uri}; it must show a leaf` };
  if (until === undefined)
    return { reason: "FOREIGN_CA", message: `the server's certificate for ${id.uri} is not signed by a CA of ${expected.hubId}` };
  if (nowWall >= leaf.validToDate.getTime() || nowWall < leaf.validFromDate.getTime())
    return { reason: "CERTIFICATE_EXPIRED", message: `the certificate of ${id.uri} is valid from ${leaf.validFrom} to ${leaf.validTo}` };
  if (nowWall >= until) return { reason: "CERTIFICATE_EXPIRED", message: `a CA above the certificate of ${id.uri} has expired` };
  if (revoked.includes(thumbprintOf(leaf)))
    return { reason: "UNKNOWN_IDENTITY", message: `the certificate that ${id.uri} shows was revoked by an operator of this hub` };
  return undefined;
}
