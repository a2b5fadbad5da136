import type { X509Certificate } from "node:crypto";
import {
  organisationalUnits,
  parseSpiffeId,
  prefixesOf,
  roleOf,
  type SpiffeId,
  thumbprintOf,
  trustedUntil,
  uriSans,
} from "#channel/tls/peer-identity.ts";
import type { Failure } from "#kernel/error.ts";
import { withArticle } from "#kernel/printable.ts";
import type { Caller } from "#runtime/rpc/call.ts";
import type { PeerAuthority } from "./peer-authority.ts";

/** Candidate is a client certificate that passed TLS, before this hub decided who it is. */
export interface Candidate {
  readonly leaf: X509Certificate;
  readonly thumbprint: string;
  readonly uris: readonly string[];
  /** The SPIFFE id, if there is exactly one URI and it is one. */
  readonly id: SpiffeId | undefined;
  /** Until when the CAs of its hub vouch for it, wall ms; undefined if none does. Signatures are verified once. */
  trustedUntil(authority: PeerAuthority): number | undefined;
}

/** AdmissionCheck is one named rule. Pure: it looks at its arguments only. */
export interface AdmissionCheck {
  readonly name: string;
  check(candidate: Candidate, authority: PeerAuthority, nowWall: number): Failure | undefined;
}

/** candidateOf reads what the checks need from a certificate. */
export function candidateOf(leaf: X509Certificate): Candidate {
  const uris = uriSans(leaf);
  const id = uris.length === 1 ? parseSpiffeId(uris[0] as string) : undefined;
  let trust: { readonly until: number | undefined } | undefined;
  return {
    leaf,
    thumbprint: thumbprintOf(leaf),
    uris,
    id,
    trustedUntil: (authority) => (trust ??= { until: trustedUntil(leaf, authority.bundle(id?.hubId ?? "") ?? []) }).until,
  };
}

/** ADMISSION is the chain, in order; the first failure decides. Later checks may rely on earlier ones. */
export const ADMISSION: readonly AdmissionCheck[] = [
  {
    name: "one-spiffe-id",
    check: ({ uris, id }) => {
      if (id !== undefined) return undefined;
      const message =
        uris.length === 1
          ? "the certificate's URI is not a SPIFFE id of the form spiffe://<hub>/<kind>/<name>"
          : `the certificate has ${uris.length} URI names and needs exactly one`;
      return { reason: "UNKNOWN_IDENTITY", message };
    },
  },
  {
    name: "leaf",
    check: ({ leaf }) => (leaf.ca ? { reason: "UNKNOWN_IDENTITY", message: "a CA certificate cannot be a caller" } : undefined),
  },
  {
    name: "known-hub",
    check: ({ id }, authority) =>
      authority.bundle(id?.hubId ?? "") === undefined
        ? { reason: "UNKNOWN_IDENTITY", message: `this hub does not know the hub ${id?.hubId}`, facts: { hub_id: id?.hubId ?? "" } }
        : undefined,
  },
  {
    name: "own-bundle",
    check: (candidate, authority) =>
      candidate.trustedUntil(authority) !== undefined
        ? undefined
        : {
            reason: "FOREIGN_CA",
            message: `the certificate for ${candidate.id?.uri} is not signed by a CA of ${candidate.id?.hubId}`,
            facts: { hub_id: candidate.id?.hubId ?? "" },
          },
  },
  {
    name: "services-only-abroad",
    check: ({ id }, authority) =>
      id?.hubId !== authority.hubId && id?.kind !== "service"
        ? {
            reason: "ACCESS_DENIED",
            message: `${withArticle(id?.kind ?? "caller")} of another hub may not call this hub; go through your own hub`,
          }
        : undefined,
  },
  { name: "validity", check: ({ leaf, id }, _authority, nowWall) => checkValidity(leaf, id?.uri ?? "", nowWall) },
  {
    name: "ca-validity",
    check: (candidate, authority, nowWall) =>
      nowWall >= (candidate.trustedUntil(authority) ?? Number.POSITIVE_INFINITY)
        ? { reason: "CERTIFICATE_EXPIRED", message: `a CA above the certificate of ${candidate.id?.uri} has expired` }
        : undefined,
  },
  {
    name: "prefixes",
    check: ({ leaf, id }) =>
      id?.kind === "gateway" && prefixesOf(organisationalUnits(leaf)).includes("")
        ? {
            reason: "UNKNOWN_IDENTITY",
            message: `the certificate of ${id.uri} has an empty id prefix, which every node has; name one in OU=prefix:<p>, or leave it out for a gateway that speaks for all nodes`,
          }
        : undefined,
  },
  {
    name: "not-revoked",
    check: ({ thumbprint, id }, authority) =>
      authority.revoked(thumbprint) ? { reason: "UNKNOWN_IDENTITY", message: `the certificate of ${id?.uri} was revoked` } : undefined,
  },
];

function checkValidity(leaf: X509Certificate, uri: string, nowWall: number): Failure | undefined {
  if (nowWall >= leaf.validToDate.getTime())
    return { reason: "CERTIFICATE_EXPIRED", message: `the certificate of ${uri} expired at ${leaf.validTo}` };
  if (nowWall < leaf.validFromDate.getTime())
    return { reason: "CERTIFICATE_EXPIRED", message: `the certificate of ${uri} is not valid before ${leaf.validFrom}` };
  return undefined;
}

/** Admission is the answer of the chain: who the caller is, or which check refused it and why. */
export type Admission = { readonly caller: Caller } | { readonly refusedBy: string; readonly failure: Failure };

/** admit runs the chain over a client certificate. A `service` of another hub is a `peer`. */
export function admit(leaf: X509Certificate, authority: PeerAuthority, nowWall: number): Admission {
  const candidate = candidateOf(leaf);
  for (const { name, check } of ADMISSION) {
    const failure = check(candidate, authority, nowWall);
    if (failure !== undefined) return { refusedBy: name, failure };
  }
  const id = candidate.id as SpiffeId;
  const units = organisationalUnits(leaf);
  const kind = id.hubId === authority.hubId ? id.kind : "peer";
  return {
    caller: {
      kind,
      hubId: id.hubId,
      name: id.name,
      spiffeId: id.uri,
      thumbprint: candidate.thumbprint,
      notAfterWall: candidate.trustedUntil(authority) ?? leaf.validToDate.getTime(),
      level: kind === "peer" ? authority.level(id.hubId) : 0,
      role: kind === "operator" ? roleOf(units) : 0,
      prefixes: kind === "gateway" ? prefixesOf(units) : [],
    },
  };
}

/** Checks that need to know nothing of the caller's hub. */
const STRANGER_CHECKS = ["one-spiffe-id", "leaf", "validity"];

/**
 * admitStranger lets in a service of any hub, known or not, whoever signed its certificate: TLS has proved the key and nothing
 * else. For the introduction door only, which proves the rest itself; a stranger may call what `PRINCIPAL_STRANGER` stands at.
 */
export function admitStranger(leaf: X509Certificate, authority: PeerAuthority, nowWall: number): Admission {
  const candidate = candidateOf(leaf);
  for (const { name, check } of ADMISSION) {
    const failure = STRANGER_CHECKS.includes(name) ? check(candidate, authority, nowWall) : undefined;
    if (failure !== undefined) return { refusedBy: name, failure };
  }
  const id = candidate.id as SpiffeId;
  if (id.kind !== "service")
    return {
      refusedBy: "services-only",
      failure: { reason: "ACCESS_DENIED", message: `${withArticle(id.kind)} cannot introduce its hub; use a service's certificate` },
    };
  const caller = { kind: "stranger", hubId: id.hubId, name: id.name, spiffeId: id.uri, level: 0, role: 0, prefixes: [] } as const;
  return { caller: { ...caller, thumbprint: candidate.thumbprint, notAfterWall: leaf.validToDate.getTime() } };
}
