import { createHash, type X509Certificate } from "node:crypto";
import { connect as connectTcp, isIP } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { whenAborted } from "#channel/abort.ts";
import type { Clock } from "#channel/clock.ts";
import { HandshakeGuard, SERVER_FLIGHT_BYTES } from "#channel/tls/handshake-guard.ts";
import { HANDSHAKE_TIMEOUT_MS, MIN_VERSION } from "#channel/tls/material.ts";
import { issuedBy, thumbprintOf } from "#channel/tls/peer-identity.ts";
import { FoedusError, fail } from "#kernel/error.ts";

/** Certificates looked at in a chain: a leaf, its CA, and one to spare for a CA that is being replaced. */
const CHAIN_MAX = 3;

/** DoorAuthority is what a door shows: the CA that was looked for, and the leaf that it issued. */
export interface DoorAuthority {
  /** PEM. */
  readonly ca: string;
  readonly leaf: X509Certificate;
  /** base64url(SHA-256(DER)) of the leaf. */
  readonly thumbprint: string;
}

/** DoorAddress is a door and the SHA-256 (32 bytes) of the CA that it must show. */
export interface DoorAddress {
  readonly host: string;
  readonly port: number;
  readonly caDigest: Uint8Array;
}

/** digestOf is the SHA-256 of a certificate's DER, 32 bytes. */
export function digestOf(certificate: X509Certificate): Buffer {
  return createHash("sha256").update(certificate.raw).digest();
}

/** chainOf lists the certificates that the server sent, leaf first. */
function chainOf(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  for (
    let certificate = socket.getPeerX509Certificate();
    certificate !== undefined && chain.length < CHAIN_MAX;
    certificate = certificate.issuerCertificate
  )
    chain.push(certificate);
  return chain;
}

/**
 * authorityAt fetches the CA of a hub of which only the digest is known: PEER_UNREACHABLE if nothing answers, FOREIGN_CA if the CA is
 * not there. Nothing is sent and no certificate is shown: this connection only reads what a digest then proves, and is closed.
 * Whoever wants to talk connects again, with that CA as the only one that counts.
 */
export function authorityAt(address: DoorAddress, clock: Clock, signal?: AbortSignal): Promise<DoorAuthority> {
  const { host, port } = address;
  const at = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  return new Promise((resolve, reject) => {
    // The chain cannot be verified before its CA is known: finding that is what this connection is for.
    const guard = new HandshakeGuard(connectTcp({ host, port }), SERVER_FLIGHT_BYTES);
    const socket = connect({
      socket: guard,
      ALPNProtocols: ["h2"],
      minVersion: MIN_VERSION,
      rejectUnauthorized: false,
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    const end = (): void => {
      timer.cancel();
      signal?.removeEventListener("abort", stop);
      socket.destroy();
    };
    const unreachable = (why: string, cause?: unknown): void => {
      end();
      reject(fail("PEER_UNREACHABLE", `${at} ${why}`, { cause }));
    };
    const stop = (): void => unreachable("was not asked to the end", signal?.reason);
    const timer = clock.setTimer(HANDSHAKE_TIMEOUT_MS, () => unreachable("does not answer"));
    socket.on("error", (error: NodeJS.ErrnoException) => unreachable(whyOf(error), error));
    socket.once("close", () => unreachable("closed the connection"));
    whenAborted(signal, stop);
    socket.once("secureConnect", () => {
      const found = authorityIn(chainOf(socket), address.caDigest);
      end();
      if (found === undefined)
        reject(
          new FoedusError({
            reason: "FOREIGN_CA",
            message: `${at} is not the hub that made the invite: it does not show the CA of the invite`,
          }),
        );
      else resolve(found);
    });
  });
}

/** authorityIn picks the CA with a digest out of a chain, and the leaf if that CA issued it. */
function authorityIn(chain: readonly X509Certificate[], caDigest: Uint8Array): DoorAuthority | undefined {
  const [leaf] = chain;
  const ca = chain.find((certificate) => certificate.ca && digestOf(certificate).equals(caDigest));
  if (leaf === undefined || ca === undefined || !issuedBy(leaf, [ca])) return undefined;
  return { ca: String(ca), leaf, thumbprint: thumbprintOf(leaf) };
}

function whyOf(error: NodeJS.ErrnoException): string {
  if (error.code === "ECONNREFUSED") return "has no open invite: it was used or withdrawn, has expired, or is not reached at this address";
  if (error.code === "ENOTFOUND" || error.code === "EAI_AGAIN") return "has a host name that is not known here";
  if (/^(EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)$/.test(error.code ?? "")) return "cannot be reached from here";
  return `cannot be talked to (${error.code ?? error.message})`;
}
