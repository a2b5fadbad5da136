import { X509Certificate } from "node:crypto";
import type { Clock } from "#channel/clock.ts";
import { splitPem } from "#channel/tls/material.ts";
import { PeerChannelCredentials, type PeerMaterial } from "#channel/tls/peer-credentials.ts";
import { type ExpectedPeer, parseSpiffeId, uriSans } from "#channel/tls/peer-identity.ts";
import { ServerHandshakes } from "#channel/tls/server-handshakes.ts";
import { type OnError, tellError } from "../kept-stream.ts";
import { misconfigured } from "./misconfigured.ts";
import { isPem, readText, type Target } from "./target.ts";

/** CredentialSources are the three texts of an identity: files that are read, or PEM. */
export type CredentialSources = Pick<Target, "ca" | "cert" | "key">;

function read(what: string, source: string): string {
  if (isPem(source)) return source;
  try {
    return readText(source);
  } catch (cause) {
    throw misconfigured(`${what} ${source} cannot be read`, "Check the path; `foedus pki issue` makes certificates.", cause);
  }
}

/** readMaterial reads an identity and the CA of the hub. Throws FoedusError (NOT_CONFIGURED) for a file that cannot be read. */
export function readMaterial({ ca, cert, key }: CredentialSources): PeerMaterial {
  return { ca: [read("the CA", ca)], cert: read("the certificate", cert), key: read("the key", key) };
}

/** hubOf reads whose a certificate is: nodes, gateways and operators have theirs of the hub that they call. Throws FoedusError (NOT_CONFIGURED). */
export function hubOf({ cert }: PeerMaterial): string {
  const [leaf] = splitPem(cert);
  let uris: readonly string[] = [];
  try {
    uris = leaf === undefined ? [] : uriSans(new X509Certificate(leaf));
  } catch {
    // It is none.
  }
  const id = uris.map(parseSpiffeId)[0];
  if (id === undefined) throw misconfigured("cert is not a certificate of a hub", "Use one that `foedus pki issue` made.");
  return id.hubId;
}

/**
 * FileCredentials are mutual TLS with one hub from files that are read again for each connection: what was renewed is shown from the next one
 * on. What cannot be used is told, once, and the last good ones stay.
 */
export class FileCredentials extends PeerChannelCredentials {
  readonly #sources: CredentialSources;
  readonly #onError: OnError | undefined;
  #material: PeerMaterial;
  #told = "";

  constructor(expected: ExpectedPeer, sources: CredentialSources, material: PeerMaterial, clock: Clock, onError?: OnError) {
    super(expected, material, clock, new ServerHandshakes(true));
    this.#sources = sources;
    this.#material = material;
    this.#onError = onError;
  }

  /** reload takes what is in the files now. True if that is new. */
  reload(): boolean {
    try {
      const next = readMaterial(this.#sources);
      const known = this.#material;
      if (next.cert === known.cert && next.key === known.key && next.ca[0] === known.ca[0]) return false;
      this.rotate(next);
      this.#material = next;
      this.#told = "";
      return true;
    } catch (error) {
      // Files are not swapped all at once: the same problem is told once.
      const text = String(error);
      if (text !== this.#told) tellError(this.#onError, error);
      this.#told = text;
      return false;
    }
  }

  override _createSecureConnector(
    ...args: Parameters<PeerChannelCredentials["_createSecureConnector"]>
  ): ReturnType<PeerChannelCredentials["_createSecureConnector"]> {
    const connector = super._createSecureConnector(...args);
    return {
      ...connector,
      connect: (socket) => {
        this.reload();
        return connector.connect(socket);
      },
    };
  }
}
