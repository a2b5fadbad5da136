import type { X509Certificate } from "node:crypto";
import { organisationalUnits, parseSpiffeId, ROLE_VIEWER, roleOf, uriSans } from "#channel/tls/peer-identity.ts";

/** Kinds of this hub's own certificates that may read metrics and status: a device or a gateway has no business there. */
const READERS: ReadonlySet<string> = new Set(["operator", "service"]);

/** admitReader decides who reads what on the metrics port; the role metrics is for /metrics alone. */
export function admitReader(hubId: string, certificate: X509Certificate, path: string): boolean {
  const [uri = "", ...more] = uriSans(certificate);
  const id = parseSpiffeId(uri);
  const kind = id?.kind ?? "";
  if (more.length > 0 || certificate.ca || id?.hubId !== hubId || !READERS.has(kind)) return false;
  return kind !== "operator" || path === "/metrics" || roleOf(organisationalUnits(certificate)) >= ROLE_VIEWER;
}
