import { X509Certificate } from "node:crypto";
import { splitPem } from "#channel/tls/material.ts";
import {
  organisationalUnits,
  parseSpiffeId,
  ROLE_ADMIN,
  ROLE_VIEWER,
  roleOf,
  type SpiffeKind,
  uriSans,
} from "#channel/tls/peer-identity.ts";
import { readMaterial } from "./file-credentials.ts";
import { misconfigured } from "./misconfigured.ts";
import { resolveTarget, type TargetOptions } from "./target.ts";

/** CallerRole is what an operator may do: metrics reads metrics only, a viewer reads, an admin reads and changes. */
export type CallerRole = "metrics" | "viewer" | "admin";

/** CallerIdentity is what a certificate says of its holder. What that may do is for the hub to decide. */
export interface CallerIdentity {
  readonly hubId: string;
  readonly kind: SpiffeKind;
  readonly name: string;
  /** Of operators only. */
  readonly role: CallerRole | undefined;
}

const ROLES: Readonly<Record<number, CallerRole>> = { [ROLE_ADMIN]: "admin", [ROLE_VIEWER]: "viewer" };

/** callerIn reads whom a certificate names; undefined for one that names nobody, or more than one. It proves nothing: TLS does that. */
export function callerIn(leaf: X509Certificate): CallerIdentity | undefined {
  const uris = uriSans(leaf);
  const id = uris.length === 1 ? parseSpiffeId(uris[0] as string) : undefined;
  if (id === undefined) return undefined;
  const { hubId, kind, name } = id;
  return { hubId, kind, name, role: kind === "operator" ? (ROLES[roleOf(organisationalUnits(leaf))] ?? "metrics") : undefined };
}

/** callerOf reads, from its file, as whom `Hub.connect` would call. Throws FoedusError (NOT_CONFIGURED). */
export function callerOf(options: TargetOptions = {}): CallerIdentity {
  const [leaf] = splitPem(readMaterial(resolveTarget(options)).cert);
  let caller: CallerIdentity | undefined;
  try {
    caller = leaf === undefined ? undefined : callerIn(new X509Certificate(leaf));
  } catch {
    // It is none.
  }
  if (caller === undefined) throw misconfigured("cert is not a certificate of a hub", "Use one that `foedus pki issue` made.");
  return caller;
}

/** caOf is the CA of the hub that `Hub.connect` would call, in PEM. Throws FoedusError (NOT_CONFIGURED). */
export function caOf(options: TargetOptions = {}): string {
  return readMaterial(resolveTarget(options)).ca.join("\n");
}
