import type { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { connect } from "node:tls";
import type { Clock } from "#channel/clock.ts";
import { checkServer, type ExpectedPeer, parseSpiffeId, uriSans } from "#channel/tls/peer-identity.ts";
import type { Failure } from "#kernel/error.ts";

/** Longest time for an answer, ms. */
const TIMEOUT_MS = 3_000;

/** Door is an address and who should answer there. */
export interface Door {
  readonly host: string;
  readonly port: number;
  readonly expected: ExpectedPeer;
  /** CA certificates of exactly that hub. */
  readonly bundle: readonly X509Certificate[];
}

/** Verdict is how a knock ended. */
export type Verdict =
  /** The right service answered and takes our certificate; its name. */
  | { readonly kind: "ok"; readonly service: string }
  | { readonly kind: "nothing" }
  | { readonly kind: "unknown-host" }
  | { readonly kind: "silent" }
  | { readonly kind: "no-tls"; readonly detail: string }
  /** UNKNOWN_IDENTITY: another hub or service; FOREIGN_CA: the right name by the wrong CA; CERTIFICATE_EXPIRED. */
  | { readonly kind: "wrong"; readonly failure: Failure }
  /** It is the right one, and it does not take our certificate. */
  | { readonly kind: "refused" };

/**
 * knock opens a TLS connection as this hub would and says how that went. Nothing is sent on it. TLS itself accepts any server here,
 * because the decision of a hub (checkServer) says more about a wrong one than a failed handshake; a wrong one is left at once.
 */
export function knock(door: Door, own: { readonly cert: string; readonly key: string }, clock: Clock): Promise<Verdict> {
  const { host, port, expected, bundle } = door;
  return new Promise((resolve) => {
    const socket = connect({
      host,
      port,
      cert: own.cert,
      key: own.key,
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
      minVersion: "TLSv1.3",
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    let service: string | undefined;
    const settle = (verdict: Verdict): void => {
      timer.cancel();
      socket.destroy();
      resolve(verdict);
    };
    const timer = clock.setTimer(TIMEOUT_MS, () => settle({ kind: "silent" }));
    socket.once("secureConnect", () => {
      const leaf = socket.getPeerX509Certificate();
      if (leaf === undefined) return settle({ kind: "no-tls", detail: "it shows no certificate" });
      const failure = checkServer(leaf, expected, bundle, clock.wall());
      if (failure !== undefined) return settle({ kind: "wrong", failure });
      service = parseSpiffeId(uriSans(leaf)[0] ?? "")?.name ?? "";
    });
    // An HTTP/2 server speaks first (RFC 9113 section 3.4), but only after it has judged our certificate.
    socket.once("data", () => {
      if (service !== undefined) settle({ kind: "ok", service });
    });
    socket.once("close", () =>
      settle(service === undefined ? { kind: "no-tls", detail: "it closes the connection" } : { kind: "refused" }),
    );
    socket.once("error", (error: NodeJS.ErrnoException) => settle(verdictOf(error, service !== undefined)));
  });
}

function verdictOf(error: NodeJS.ErrnoException, judged: boolean): Verdict {
  const { code = "" } = error;
  if (judged) return { kind: "refused" };
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return { kind: "unknown-host" };
  if (code === "ECONNREFUSED") return { kind: "nothing" };
  if (code === "ETIMEDOUT" || code === "EHOSTUNREACH" || code === "ENETUNREACH") return { kind: "silent" };
  return { kind: "no-tls", detail: error.message };
}
