import { X509Certificate } from "node:crypto";
import { parseCertificates } from "#channel/tls/material.ts";
import { issuedBy, parseSpiffeId, thumbprintOf, uriSans } from "#channel/tls/peer-identity.ts";
import { fail } from "#kernel/error.ts";
import type { Leaf, PeerSpec, RefusedLeaf } from "../messages.ts";

/** Most leaves in one Hello. */
const LEAVES_MAX = 16;

/** CheckedLeaves are the leaves of a Hello, sorted by whether they may get a token. */
export interface CheckedLeaves {
  readonly leaves: readonly string[];
  readonly refused: readonly RefusedLeaf[];
}

/** Bundles keeps the parsed CA certificates of the configured peers; each hub's alone, never merged. */
export class Bundles {
  #bundles = new Map<string, readonly X509Certificate[]>();

  set(peers: readonly PeerSpec[]): void {
    this.#bundles = new Map(peers.map(({ hubId, cas }) => [hubId, parseCertificates(cas.map(({ pem }) => pem))]));
  }

  /** check says which of a hub's certificates are its own services': signed by its CA, in date, and named for it. */
  check(hubId: string, ders: readonly Uint8Array[], nowWall: number): CheckedLeaves {
    const bundle = this.#bundles.get(hubId) ?? [];
    const leaves = new Set<string>();
    const refused: RefusedLeaf[] = [];
    for (const der of ders.slice(0, LEAVES_MAX)) {
      const leaf = parseLeaf(der);
      if (leaf === undefined) {
        refused.push({ thumbprint: "", why: "it is not a certificate" });
        continue;
      }
      const why = problemOf(leaf, hubId, bundle, nowWall);
      if (why === undefined) leaves.add(thumbprintOf(leaf));
      else refused.push({ thumbprint: thumbprintOf(leaf), why });
    }
    return { leaves: [...leaves], refused };
  }
}

function parseLeaf(der: Uint8Array): X509Certificate | undefined {
  try {
    return new X509Certificate(der);
  } catch {
    return undefined;
  }
}

function problemOf(leaf: X509Certificate, hubId: string, bundle: readonly X509Certificate[], nowWall: number): string | undefined {
  const uris = uriSans(leaf);
  const id = uris.length === 1 ? parseSpiffeId(uris[0] ?? "") : undefined;
  if (id === undefined || leaf.ca) return "it does not name exactly one service";
  if (id.hubId !== hubId || id.kind !== "service") return `it names ${id.uri} and not a service of ${hubId}`;
  if (!issuedBy(leaf, bundle)) return `no CA of ${hubId} signed it`;
  if (nowWall >= leaf.validToDate.getTime() || nowWall < leaf.validFromDate.getTime()) return "it is outside its validity";
  return undefined;
}

/** ownLeaf reads a certificate with which a process of this hub dials; INVALID_FIELD if it cannot be that. Empty for none. */
export function ownLeaf(hubId: string, der: Uint8Array): Leaf | undefined {
  if (der.length === 0) return undefined;
  const leaf = parseLeaf(der);
  const uris = leaf === undefined ? [] : uriSans(leaf);
  const id = uris.length === 1 ? parseSpiffeId(uris[0] ?? "") : undefined;
  if (leaf === undefined || id?.hubId !== hubId || id.kind !== "service")
    throw fail("INVALID_FIELD", `the leaf must be the certificate of a service of ${hubId}, DER`, { field: "leaf" });
  return { thumbprint: thumbprintOf(leaf), der };
}
