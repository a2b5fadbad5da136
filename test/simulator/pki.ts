import { createHash, X509Certificate } from "node:crypto";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { type TestHub, testHub } from "../testca/index.ts";

/** SimLeaf is a certificate of a hub's service. */
export interface SimLeaf {
  readonly certificate: X509Certificate;
  readonly thumbprint: string;
  readonly notAfterWall: number;
}

/** Long before any clock of a run, unless it has lost its date. */
const MADE = new Date(1_800_000_000_000 - 30 * 86_400_000);

/** SimAuthority is the CA of one hub, with the certificates that it has issued so far, by number. */
export class SimAuthority {
  readonly #hub: TestHub;
  readonly #leaves = new Map<number, SimLeaf>();
  readonly bundle: readonly X509Certificate[];
  readonly pem: string;
  readonly digest: string;

  constructor(hub: TestHub) {
    this.#hub = hub;
    const certificate = new X509Certificate(hub.caPem);
    this.bundle = [certificate];
    // As the parser of federation files writes it.
    this.pem = String(certificate);
    this.digest = createHash("sha256").update(certificate.raw).digest("hex");
  }

  /** leaf is the certificate with a number: it rises with each renewal. */
  leaf(number: number): SimLeaf {
    const known = this.#leaves.get(number) ?? this.#issue();
    this.#leaves.set(number, known);
    return known;
  }

  #issue(): SimLeaf {
    const certificate = new X509Certificate(this.#hub.service().certificatePem);
    return { certificate, thumbprint: thumbprintOf(certificate), notAfterWall: certificate.validToDate.getTime() };
  }
}

const authorities = new Map<string, Promise<SimAuthority>>();

/**
 * authoritiesOf makes the CAs of hubs, once per process. They are real: keys differ from process to process, and nothing in a run depends on
 * them, as all of them have the same length.
 */
export function authoritiesOf(hubIds: readonly string[]): Promise<SimAuthority[]> {
  const authorityOf = (hubId: string): Promise<SimAuthority> => {
    const known = authorities.get(hubId) ?? testHub(hubId, { now: MADE }).then((hub) => new SimAuthority(hub));
    authorities.set(hubId, known);
    return known;
  };
  return Promise.all(hubIds.map(authorityOf));
}
