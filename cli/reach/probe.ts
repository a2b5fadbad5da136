import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { connect } from "node:tls";
import type { Clock } from "#channel/clock.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { AdvisedError, refusedInTls } from "../exit.ts";
import { since } from "../print/format.ts";

/** How long the server's verdict is waited for, ms. */
const VERDICT_TIMEOUT_MS = 2_000;

/** ProbeOptions are what a connection is tried with. */
export interface ProbeOptions {
  /** `host:port`, an IPv6 host in brackets. */
  readonly address: string;
  readonly ca: readonly string[];
  readonly cert: string;
  readonly key: string;
  readonly clock: Clock;
}

/**
 * refusalOf tells whether a server refuses our certificate. With TLS 1.3 the client's side of the handshake is already over when the
 * server judges our certificate, and Node's servers then close without an alert, so gRPC only sees a connection that ends.
 * An HTTP/2 server speaks first (RFC 9113 section 3.4): one that finished the handshake and closes without a byte has refused us.
 * Undefined if the server speaks, stays silent, or is not there.
 */
export function refusalOf({ address, ca, cert, key, clock }: ProbeOptions): Promise<Failure | undefined> {
  const [, host = "", port = ""] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  return new Promise((resolve) => {
    // The server's name was checked by the call before this; nothing is sent here and the answer is not used.
    const socket = connect({
      host,
      port: Number(port),
      ca: [...ca],
      cert,
      key,
      ALPNProtocols: ["h2"],
      minVersion: "TLSv1.3",
      checkServerIdentity: () => undefined,
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    const settle = (failure?: Failure): void => {
      timer.cancel();
      socket.destroy();
      resolve(failure);
    };
    const timer = clock.setTimer(VERDICT_TIMEOUT_MS, () => settle());
    let shaken = false;
    socket.once("secureConnect", () => {
      shaken = true;
    });
    socket.once("data", () => settle());
    socket.once("close", () => settle(shaken ? REFUSED : undefined));
    socket.once("error", (error: NodeJS.ErrnoException) => settle(failureOf(error.code ?? "")));
  });
}

const REFUSED: Failure = {
  reason: "UNKNOWN_IDENTITY",
  message: "the hub refused this certificate: it is not signed by a CA that the hub knows, or it is out of date",
};

function failureOf(code: string): Failure | undefined {
  if (!/ALERT/.test(code)) return undefined;
  if (/EXPIRED/.test(code))
    return { reason: "CERTIFICATE_EXPIRED", message: "the hub refused this certificate: it has expired, or one of the clocks is wrong" };
  if (/UNKNOWN_CA/.test(code))
    return { reason: "FOREIGN_CA", message: "the hub refused this certificate: it does not know the CA that signed it" };
  return REFUSED;
}

/** explained gives a reason to an error that says no more than "no connection"; all others stay as they are. */
export async function explained(error: unknown, options: ProbeOptions): Promise<unknown> {
  if (error instanceof FoedusError && refusedInTls(error)) {
    const theirs = error.failure.reason === "CERTIFICATE_EXPIRED" && !/alert/i.test(String(error.cause));
    return expiredOf(error, options, theirs) ?? error;
  }
  if (
    !(error instanceof FoedusError) ||
    error.failure.reason !== "PEER_UNREACHABLE" ||
    error.failure.facts?.["grpc_code"] !== "UNAVAILABLE"
  )
    return error;
  const failure = await refusalOf(options);
  if (failure === undefined) return error;
  const refused = new FoedusError(failure, { cause: error.cause });
  return expiredOf(refused, options, false) ?? refused;
}

/** expiredOf says whose certificate has expired, and who renews it: ours by our own clock, or `theirs`. Undefined if neither has. */
function expiredOf({ failure, cause }: FoedusError, { address, cert, clock }: ProbeOptions, theirs: boolean): AdvisedError | undefined {
  const end = new X509Certificate(cert).validToDate.getTime();
  const ours = end <= clock.wall();
  if (!ours && !theirs) return undefined;
  const message = ours
    ? `the operator's certificate ended ${since(end, clock.wall())}`
    : `the certificate of the hub at ${address} has expired, or one of the clocks is wrong`;
  const advice = `Renew it in the hub's folder: \`foedus pki renew\`${ours ? "" : "; a running hub loads it automatically"}.`;
  return new AdvisedError(new FoedusError({ ...failure, reason: "CERTIFICATE_EXPIRED", message }, { cause }), advice);
}
