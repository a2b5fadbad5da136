import type { X509Certificate } from "node:crypto";
import { isIP } from "node:net";

/**
 * PkiError is a refusal of the PKI: a bad name, a weak key, a request that does not hold. Its message is one sentence
 * for the operator, lower case, without key material; `field` names the part of the request at fault.
 */
export class PkiError extends Error {
  readonly field: string | undefined;

  constructor(message: string, options: { readonly field?: string; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "PkiError";
    this.field = options.field;
  }
}

/** LeafProfile is a kind of caller, and the first path segment of its SPIFFE id (`spiffe://<hub>/<kind>/<name>`). */
export type LeafProfile = "service" | "node" | "gateway" | "operator";

/** ProfileName is a kind of certificate. */
export type ProfileName = "ca" | LeafProfile;

/** OPERATOR_ROLES limit what an operator's certificate may do: metrics reads /metrics only, a viewer reads, an admin reads and changes. */
export const OPERATOR_ROLES = ["metrics", "viewer", "admin"] as const;

/** OperatorRole is one of OPERATOR_ROLES. */
export type OperatorRole = (typeof OPERATOR_ROLES)[number];

/** isOperatorRole tells whether a text names a role. */
export function isOperatorRole(text: string | undefined): text is OperatorRole {
  return OPERATOR_ROLES.some((role) => role === text);
}

/** Profile is what all certificates of one kind have in common. */
export interface Profile {
  /** Life from the moment of issue, in milliseconds: the default of a leaf and the most that may be asked for. */
  readonly lifetimeMs: number;
  readonly ca: boolean;
  /** Key usages (RFC 5280 section 4.2.1.3), always critical. TLS 1.3 with RSA only signs, so leaves need no more. */
  readonly keyUsage: readonly ("digitalSignature" | "keyCertSign" | "cRLSign")[];
  /** Extended key usages (RFC 5280 section 4.2.1.12). */
  readonly extKeyUsage: readonly ("serverAuth" | "clientAuth")[];
}

const DAY_MS = 86_400_000;

/** PROFILES is the table of certificate kinds; certs/README.md shows it to people and a test keeps the two equal. */
export const PROFILES: Readonly<Record<ProfileName, Profile>> = {
  ca: { lifetimeMs: 3650 * DAY_MS, ca: true, keyUsage: ["keyCertSign", "cRLSign"], extKeyUsage: [] },
  service: { lifetimeMs: 90 * DAY_MS, ca: false, keyUsage: ["digitalSignature"], extKeyUsage: ["serverAuth", "clientAuth"] },
  node: { lifetimeMs: 365 * DAY_MS, ca: false, keyUsage: ["digitalSignature"], extKeyUsage: ["clientAuth"] },
  gateway: { lifetimeMs: 365 * DAY_MS, ca: false, keyUsage: ["digitalSignature"], extKeyUsage: ["clientAuth"] },
  operator: { lifetimeMs: 30 * DAY_MS, ca: false, keyUsage: ["digitalSignature"], extKeyUsage: ["clientAuth"] },
};

/** LEAF_PROFILES lists the kinds of callers. */
export const LEAF_PROFILES: readonly LeafProfile[] = ["service", "node", "gateway", "operator"];

/** Certificates start this long before the moment of issue, in milliseconds, so that a peer whose clock is behind accepts them. */
export const SKEW_MS = 5 * 60_000;

/** Shortest life that may be asked for, in milliseconds. */
export const MIN_LIFETIME_MS = 60_000;

/** Most id prefixes in one gateway certificate, and most characters of one: X.520 bounds an OU to 64, `prefix:` takes 7. */
export const MAX_PREFIXES = 16;
export const MAX_PREFIX_LENGTH = 57;

/** Most extra DNS names, and most extra addresses, in one service certificate. */
export const MAX_EXTRA_SANS = 64;

/** IssueRequest is the decision of an authority about one leaf: everything in the certificate except the key. */
export interface IssueRequest {
  readonly profile: LeafProfile;
  /** Service, gateway or operator name (a DNS label for services) or node id; at most 63 characters. */
  readonly name: string;
  /** service only: DNS names besides localhost, `<hub>` and `<name>.<hub>`. No wildcards. */
  readonly dnsNames?: readonly string[];
  /** service only: IP addresses besides 127.0.0.1. */
  readonly ips?: readonly string[];
  /** operator only, and needed there. */
  readonly role?: OperatorRole;
  /** gateway only: the node ids that it may speak for begin with one of these. None: every node of this hub. */
  readonly prefixes?: readonly string[];
  /** Life from `notBefore + SKEW_MS` in milliseconds: MIN_LIFETIME_MS up to the profile's. */
  readonly lifetimeMs?: number;
  /** Start of validity; default SKEW_MS before now. */
  readonly notBefore?: Date;
}

/** Sans are the subject alternative names of a certificate, sorted by kind. */
export interface Sans {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ips: readonly string[];
}

/** Identity is what a leaf says about its holder, once its chain has been verified. */
export interface Identity {
  readonly hubId: string;
  readonly kind: LeafProfile;
  readonly name: string;
  /** Set for operators. */
  readonly role: OperatorRole | undefined;
  /** Set for gateways; empty means every node of the hub. */
  readonly prefixes: readonly string[];
}

const DNS_LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const ID_SEGMENT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const PREFIX = /^[A-Za-z0-9._:/@-]+$/;

/**
 * checkHubId refuses what is not a DNS label (RFC 1123): 1 to 63 of a-z, 0-9 and hyphen, no hyphen at an end.
 * Throws PkiError.
 */
export function checkHubId(hubId: string): void {
  if (!DNS_LABEL.test(hubId)) {
    throw new PkiError(`hub id ${quote(hubId)} is not a DNS label: use 1 to 63 of a-z, 0-9 and hyphens, with no hyphen at an end`, {
      field: "hubId",
    });
  }
}

/**
 * checkName refuses a name that cannot stand in a SPIFFE id (1 to 63 of A-Z, a-z, 0-9, dot, underscore and hyphen,
 * beginning with a letter or digit); a service's must be a DNS label because it becomes a host name. Throws PkiError.
 */
export function checkName(profile: LeafProfile, name: string): void {
  if (profile === "service") {
    if (!DNS_LABEL.test(name)) {
      throw new PkiError(`service name ${quote(name)} is not a DNS label: use 1 to 63 of a-z, 0-9 and hyphens, with no hyphen at an end`, {
        field: "name",
      });
    }
  } else if (!ID_SEGMENT.test(name)) {
    throw new PkiError(
      `${profile} name ${quote(name)} is not valid: use 1 to 63 of A-Z, a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit`,
      { field: "name" },
    );
  }
}

/** checkRequest refuses a request that does not fit its profile. Throws PkiError with the field at fault. */
export function checkRequest(request: IssueRequest): void {
  if (!LEAF_PROFILES.includes(request.profile)) {
    throw new PkiError(`profile ${quote(request.profile)} is unknown: use ${LEAF_PROFILES.join(", ")}`, { field: "profile" });
  }
  checkName(request.profile, request.name);
  const only = (field: "dnsNames" | "ips" | "role" | "prefixes", profile: LeafProfile): void => {
    if (request[field] !== undefined && request.profile !== profile) {
      throw new PkiError(`${field} belongs to ${profile} certificates, not to ${request.profile} ones`, { field });
    }
  };
  only("dnsNames", "service");
  only("ips", "service");
  only("role", "operator");
  only("prefixes", "gateway");
  checkSans(request);
  checkScope(request);
  const most = PROFILES[request.profile].lifetimeMs;
  const asked = request.lifetimeMs ?? most;
  if (!Number.isFinite(asked) || asked < MIN_LIFETIME_MS || asked > most) {
    throw new PkiError(`lifetime of ${asked} ms is outside ${MIN_LIFETIME_MS} to ${most} ms of ${request.profile} certificates`, {
      field: "lifetimeMs",
    });
  }
}

function checkSans(request: IssueRequest): void {
  if ((request.dnsNames?.length ?? 0) > MAX_EXTRA_SANS)
    throw new PkiError(`more than ${MAX_EXTRA_SANS} extra dns names`, { field: "dnsNames" });
  if ((request.ips?.length ?? 0) > MAX_EXTRA_SANS) throw new PkiError(`more than ${MAX_EXTRA_SANS} extra addresses`, { field: "ips" });
  for (const dnsName of request.dnsNames ?? []) {
    if (dnsName.length > 253 || !dnsName.split(".").every((label) => DNS_LABEL.test(label)) || isIP(dnsName) !== 0) {
      throw new PkiError(`dns name ${quote(dnsName)} is not a lower-case host name without wildcards`, { field: "dnsNames" });
    }
  }
  for (const ip of request.ips ?? []) canonicalIp(ip);
}

function checkScope(request: IssueRequest): void {
  if (request.profile === "operator" && !isOperatorRole(request.role)) {
    throw new PkiError("an operator certificate needs the role metrics, viewer or admin", { field: "role" });
  }
  const prefixes = request.prefixes ?? [];
  if (prefixes.length > MAX_PREFIXES) throw new PkiError(`more than ${MAX_PREFIXES} id prefixes`, { field: "prefixes" });
  for (const prefix of prefixes) {
    if (prefix.length > MAX_PREFIX_LENGTH || !PREFIX.test(prefix)) {
      throw new PkiError(`id prefix ${quote(prefix)} is not valid: use 1 to ${MAX_PREFIX_LENGTH} of A-Z, a-z, 0-9 and . _ : / @ -`, {
        field: "prefixes",
      });
    }
  }
}

/** canonicalIp gives the one spelling under which addresses are compared: dotted, or compressed hex. Throws PkiError. */
export function canonicalIp(ip: string): string {
  const family = isIP(ip);
  if (family === 4) return ip;
  if (family === 6 && !ip.includes("%")) return new URL(`http://[${ip}]`).hostname.slice(1, -1);
  throw new PkiError(`address ${quote(ip)} is not an IPv4 or IPv6 address`, { field: "ips" });
}

/** spiffeId is the URI SAN of a leaf. */
export function spiffeId(hubId: string, kind: LeafProfile, name: string): string {
  return `spiffe://${hubId}/${kind}/${name}`;
}

/** sansOf gives the names that a leaf carries: exactly one URI, and for services host names and addresses. */
export function sansOf(hubId: string, request: IssueRequest): Sans {
  const uris = [spiffeId(hubId, request.profile, request.name)];
  if (request.profile !== "service") return { uris, dnsNames: [], ips: [] };
  const dnsNames = new Set(["localhost", hubId, `${request.name}.${hubId}`, ...(request.dnsNames ?? [])]);
  const ips = new Set(["127.0.0.1", ...(request.ips ?? []).map(canonicalIp)]);
  return { uris, dnsNames: [...dnsNames], ips: [...ips] };
}

/** organisationalUnitsOf gives the subject OUs of a leaf: `role:<role>` of operators, `prefix:<p>` of gateways. */
export function organisationalUnitsOf(request: IssueRequest): readonly string[] {
  if (request.profile === "operator") return [`role:${request.role}`];
  return [...new Set(request.prefixes ?? [])].map((prefix) => `prefix:${prefix}`);
}

/** readSans reads the alternative names of a certificate; kinds that are none of the three are left out. */
export function readSans(certificate: X509Certificate): Sans {
  const uris: string[] = [];
  const dnsNames: string[] = [];
  const ips: string[] = [];
  // Node quotes a value as a JSON string when it holds a comma or a quote, so a plain entry cannot hide another one.
  for (const entry of certificate.subjectAltName?.match(/(?:[^",]|"(?:[^"\\]|\\.)*")+/g) ?? []) {
    const text = entry.trim();
    if (text.startsWith("URI:")) uris.push(text.slice(4));
    else if (text.startsWith("DNS:")) dnsNames.push(text.slice(4));
    else if (text.startsWith("IP Address:")) ips.push(canonicalIp(text.slice(11)));
  }
  return { uris, dnsNames, ips };
}

/** readOrganisationalUnits reads the subject OUs of a certificate, in order. */
export function readOrganisationalUnits(certificate: X509Certificate): readonly string[] {
  const subject: Readonly<Record<string, unknown>> = certificate.toLegacyObject().subject as never;
  const units = subject["OU"];
  return (Array.isArray(units) ? units : [units]).filter((unit): unit is string => typeof unit === "string");
}

/**
 * readIdentity reads who a leaf says its holder is. It does not verify the chain. Throws PkiError unless there is
 * exactly one URI SAN (SPIFFE X509-SVID section 2) and it, the role and the prefixes have the shape given here.
 */
export function readIdentity(certificate: X509Certificate): Identity {
  const { uris } = readSans(certificate);
  if (uris.length !== 1) throw new PkiError(`certificate has ${uris.length} URI names instead of exactly one`, { field: "uris" });
  const [, hubId, kind, name] = /^spiffe:\/\/([^/]+)\/([^/]+)\/([^/]+)$/.exec(uris[0] ?? "") ?? [];
  const profile = LEAF_PROFILES.find((leaf) => leaf === kind);
  if (hubId === undefined || profile === undefined || name === undefined) {
    throw new PkiError(`URI name ${quote(uris[0] ?? "")} is not spiffe://<hub>/<kind>/<name>`, { field: "uris" });
  }
  checkHubId(hubId);
  checkName(profile, name);
  const units = readOrganisationalUnits(certificate);
  const valuesOf = (label: string): string[] => units.filter((unit) => unit.startsWith(label)).map((unit) => unit.slice(label.length));
  const prefixes = profile === "gateway" ? valuesOf("prefix:") : [];
  if (prefixes.includes("")) throw new PkiError("gateway certificate has an empty id prefix", { field: "prefixes" });
  if (profile !== "operator") return { hubId, kind: profile, name, role: undefined, prefixes };
  const roles = valuesOf("role:");
  const role = roles[0];
  if (roles.length !== 1 || !isOperatorRole(role)) {
    throw new PkiError("operator certificate does not have exactly one role: metrics, viewer or admin", { field: "role" });
  }
  return { hubId, kind: profile, name, role, prefixes };
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
