import { createHash, timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";

/** TOKEN_MIN_CHARS is how long a bearer token is at least. */
export const TOKEN_MIN_CHARS = 32;

/** GuardOptions say whom an HTTP listener takes. */
export interface GuardOptions {
  /** Names in the Host header, without a port. */
  readonly hosts: readonly string[];
  /** Origins of pages that may call, such as https://console.example.org. Programs send none. */
  readonly origins: readonly string[];
  /** Pages of this machine may call too, for a listener on loopback. They need the token as everybody does. */
  readonly loopbackOrigins: boolean;
  /** Undefined: callers prove who they are by certificate. */
  readonly token: string | undefined;
}

/** Head is what a request says before its body. */
export interface Head {
  readonly host: string | undefined;
  readonly origin: string | undefined;
  readonly authorization: string | undefined;
}

/** Refusal is an answer to a request that is not served. */
export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** isLoopback tells whether an address can be reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** hostNameOf takes the port off a Host header; undefined for one that is none. */
export function hostNameOf(header: string | undefined): string | undefined {
  const [, bracketed, plain] = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+))(?::\d{1,5})?$/.exec(header ?? "") ?? [];
  return (bracketed ?? plain)?.toLowerCase();
}

/** isLoopbackOrigin tells whether a page comes from this machine. */
function isLoopbackOrigin(origin: string): boolean {
  const [, host] = /^https?:\/\/(.+)$/.exec(origin) ?? [];
  return isLoopback(hostNameOf(host) ?? "");
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** isToken compares a token with the one that is wanted, in the same time whatever it is. */
function isToken(given: string, wanted: string): boolean {
  return timingSafeEqual(digest(given), digest(wanted));
}

/**
 * refusalOf decides whether a request is served. A page in a browser that was lured here is told by its Origin, or by a Host that is not this
 * server's (DNS rebinding); everybody else by the token.
 */
export function refusalOf(head: Head, { hosts, origins, loopbackOrigins, token }: GuardOptions): Refusal | undefined {
  const host = hostNameOf(head.host);
  if (host === undefined || !hosts.includes(host)) return { status: 421, message: "this server does not have the name in the Host header" };
  const { origin } = head;
  if (origin !== undefined && !origins.includes(origin) && !(loopbackOrigins && isLoopbackOrigin(origin)))
    return { status: 403, message: "pages of this origin may not call; allow it with --allow-origin" };
  if (token !== undefined) {
    const [, given] = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(head.authorization ?? "") ?? [];
    const headers = { "www-authenticate": 'Bearer realm="foedus"' };
    if (given === undefined) return { status: 401, message: "a bearer token is needed", headers };
    if (!isToken(given, token)) return { status: 401, message: "the bearer token is not the one of this server", headers };
  }
  return undefined;
}
