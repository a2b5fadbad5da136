import { createPrivateKey, X509Certificate } from "node:crypto";
import type { SecureServerOptions } from "node:http2";
import { isIP, type Socket } from "node:net";
import { connect, createSecureContext, type SecureContext, type SecureContextOptions, type TLSSocket } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { watchAnswers } from "#channel/tls/answers.ts";
import { HandshakeGuard, SERVER_FLIGHT_BYTES } from "#channel/tls/handshake-guard.ts";
import { checkServer, type ExpectedPeer, trustedUntil } from "#channel/tls/peer-identity.ts";
import { redialling } from "#channel/tls/redial.ts";
import { watchServerEnd } from "#channel/tls/server-ends.ts";
import { ServerHandshakes } from "#channel/tls/server-handshakes.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import type { Clock } from "#runtime/clock.ts";

/** MIN_VERSION of TLS, everywhere. */
export const MIN_VERSION = "TLSv1.3";
/** HANDSHAKE_TIMEOUT_MS is what a TLS handshake may take. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;

/** KeyMaterial is a certificate chain and its key, both PEM. */
export interface KeyMaterial {
  /** Leaf first. */
  readonly cert: string;
  readonly key: string;
}

/** ServerMaterial is what a server shows and whose callers TLS lets through. */
export interface ServerMaterial extends KeyMaterial {
  /** CA certificates (PEM) of this hub and of every known peer; who a caller is, is decided against one hub's bundle only. */
  readonly ca: readonly string[];
}

/** PeerMaterial is what a client shows and the bundle of exactly the hub that it calls. */
export interface PeerMaterial extends KeyMaterial {
  readonly ca: readonly string[];
  /** Thumbprints of leaves that the server must not show. */
  readonly revoked?: readonly string[];
}

const PEM_BEGIN = "-----BEGIN CERTIFICATE-----";
const PEM_END = "-----END CERTIFICATE-----";

/** splitPem takes a PEM text with several certificates apart, in one pass whatever the text is. */
export function splitPem(pem: string): string[] {
  const found: string[] = [];
  for (let from = pem.indexOf(PEM_BEGIN); from >= 0; ) {
    const end = pem.indexOf(PEM_END, from);
    if (end < 0) break;
    found.push(pem.slice(from, end + PEM_END.length));
    from = pem.indexOf(PEM_BEGIN, end);
  }
  return found;
}

/** parseCertificates reads all certificates of some PEM texts; INVALID_FIELD when one cannot be read. */
export function parseCertificates(pems: readonly string[]): X509Certificate[] {
  try {
    return pems.flatMap(splitPem).map((pem) => new X509Certificate(pem));
  } catch (cause) {
    throw fail("INVALID_FIELD", "a certificate cannot be read; it must be PEM", { cause });
  }
}

/** checkPair makes sure that the leaf belongs to the key and that the chain behind it is in order. It answers the leaf. */
export function checkPair({ cert, key }: KeyMaterial): X509Certificate {
  const chain = parseCertificates([cert]);
  const [leaf] = chain;
  if (leaf === undefined) throw fail("INVALID_FIELD", "there is no certificate in the PEM text");
  let matches: boolean;
  try {
    matches = leaf.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw fail("INVALID_FIELD", "the private key cannot be read; it must be unencrypted PEM", { cause });
  }
  if (!matches) throw fail("INVALID_FIELD", "the certificate and the private key do not belong together");
  for (const [i, issued] of chain.entries()) {
    const issuer = chain[i + 1];
    if (issuer !== undefined && !(issued.checkIssued(issuer) && issued.verify(issuer.publicKey)))
      throw fail("INVALID_FIELD", `certificate ${i + 1} of the chain is not signed by certificate ${i + 2}; put the leaf first`);
  }
  return leaf;
}

/** contextOf checks material and makes it ready for TLS; it throws before anything is published. */
export function contextOf(material: ServerMaterial | PeerMaterial): {
  readonly options: SecureContextOptions;
  readonly context: SecureContext;
} {
  checkPair(material);
  const options: SecureContextOptions = {
    minVersion: MIN_VERSION,
    cert: material.cert,
    key: material.key,
    ca: parseCertificates(material.ca).map(String),
    // What an operator pins is trusted as it is: an intermediate may be pinned without the root above it.
    allowPartialTrustChain: true,
  };
  try {
    return { options, context: createSecureContext(options) };
  } catch (cause) {
    throw fail("INVALID_FIELD", "the certificate and key cannot be used for TLS", { cause });
  }
}

/**
 * HEADER_LIST_BYTES bounds the headers of one stream, and its trailers, as RFC 9113 counts them (6.5.2). Other implementations of gRPC take
 * as many; Foedus sends about one KiB, of which most is a peer's token.
 */
export const HEADER_LIST_BYTES = 16 * 1024;

/** ServerTuning is what the HTTP/2 server is built with. */
export interface ServerTuning {
  readonly maxConcurrentStreams: number;
  /** HTTP/2 receive window of each stream, in bytes. */
  readonly streamWindowBytes: number;
}

/**
 * RotatingServerCredentials are mutual TLS 1.3 for servers. `rotate` checks the new material first and publishes it in one
 * step; material that is no good throws and the last good one stays. Connections live on with what they began with.
 */
export class RotatingServerCredentials extends grpc.ServerCredentials {
  constructor(material: ServerMaterial, tuning: ServerTuning) {
    const settings = {
      maxConcurrentStreams: tuning.maxConcurrentStreams,
      initialWindowSize: tuning.streamWindowBytes,
      maxHeaderListSize: HEADER_LIST_BYTES,
    };
    const options: SecureServerOptions = { requestCert: true, rejectUnauthorized: true, handshakeTimeout: HANDSHAKE_TIMEOUT_MS, settings };
    super(options, contextOf(material).options);
  }

  rotate(material: ServerMaterial): void {
    // All options every time: setSecureContext does not merge.
    this.updateSecureContextOptions(contextOf(material).options);
  }

  override _equals(other: grpc.ServerCredentials): boolean {
    return this === other;
  }
}

/** Streams that one connection to a door may have open, and the receive window of each: strangers get little. */
const DOOR_STREAMS = 2;
const DOOR_WINDOW_BYTES = 64 * 1024;

/**
 * DoorServerCredentials are TLS 1.3 for the introduction door. A client must show a certificate and prove its key, but who signed
 * it is not asked: the host cannot know. What is served with these takes only callers of the kind `stranger`, and proves by
 * itself who is there; for everything else there is `createServerCredentials`.
 */
export class DoorServerCredentials extends grpc.ServerCredentials {
  constructor(material: KeyMaterial) {
    const settings = { maxConcurrentStreams: DOOR_STREAMS, initialWindowSize: DOOR_WINDOW_BYTES, maxHeaderListSize: HEADER_LIST_BYTES };
    const options: SecureServerOptions = { requestCert: true, rejectUnauthorized: false, handshakeTimeout: HANDSHAKE_TIMEOUT_MS, settings };
    super(options, contextOf({ ...material, ca: [] }).options);
  }

  rotate(material: KeyMaterial): void {
    this.updateSecureContextOptions(contextOf({ ...material, ca: [] }).options);
  }

  override _equals(other: grpc.ServerCredentials): boolean {
    return this === other;
  }
}

/** Proof is what the server of a connection showed, and when that ends, or a CA above it, wall ms: undefined if it is not trusted. */
interface Proof {
  readonly leaf: X509Certificate;
  readonly endsAtWall: number | undefined;
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}

type DialClock = Pick<Clock, "wall" | "mono" | "setTimer" | "setImmediate">;
type Connector = ReturnType<grpc.ChannelCredentials["_createSecureConnector"]>;

/**
 * PeerChannelCredentials are mutual TLS 1.3 for a client of one hub: only that hub's CAs are trusted, and the server must
 * prove the expected SPIFFE id, which stands in for its host name. Rotation takes effect with the next connection, and ends those whose
 * server would be refused now; a connection ends with the certificate that its server showed, too (C11).
 */
export class PeerChannelCredentials extends grpc.ChannelCredentials {
  readonly #expected: ExpectedPeer;
  readonly #clock: DialClock;
  readonly #handshakes: ServerHandshakes;
  #context: SecureContext;
  #bundle: readonly X509Certificate[];
  #revoked: readonly string[];
  /** The texts that the bundle was read from; all clients of a hub share them. */
  #ca: readonly string[];
  /** Why the last server was refused, until one is accepted. */
  #lastFailure: Failure | undefined;
  /** Why the last connection was ended, also when the next one has begun: its calls fail at their own pace. */
  #lastEnd: Failure | undefined;
  /** Connections whose server was accepted, and what it showed. */
  readonly #proved = new Map<Socket, Proof>();
  /** What came over those that are closed. */
  #bytesOfClosed = 0;

  constructor(expected: ExpectedPeer, material: PeerMaterial, clock: DialClock, handshakes: ServerHandshakes) {
    super();
    this.#expected = expected;
    this.#clock = clock;
    this.#handshakes = handshakes;
    this.#context = contextOf(material).context;
    this.#bundle = parseCertificates(material.ca);
    this.#revoked = material.revoked ?? [];
    this.#ca = material.ca;
  }

  /** rotate replaces key, certificate, bundle and what was revoked. Bad material throws and changes nothing. */
  rotate(material: PeerMaterial): void {
    const { context } = contextOf(material);
    this.#context = context;
    const { ca, revoked = [] } = material;
    if (sameTexts(ca, this.#ca) && sameTexts(revoked, this.#revoked)) return;
    this.#bundle = parseCertificates(ca);
    this.#ca = ca;
    this.#revoked = revoked;
    for (const socket of [...this.#proved.keys()]) this.#recheck(socket);
  }

  /** failureIn is the refusal of a server, or the end of a connection for what its server proved itself with, that a gRPC error text tells. */
  failureIn(details: string): Failure | undefined {
    return [this.#lastFailure, this.#lastEnd].find((failure) => failure !== undefined && details.includes(failure.message));
  }

  /** bytesRead counts what has come from a server that was accepted, over all connections: a name may have several addresses. */
  get bytesRead(): number {
    let total = this.#bytesOfClosed;
    for (const { bytesRead } of this.#proved.keys()) total += bytesRead;
    return total;
  }

  /** endsAtWall is when the first connection ends because what its server proved itself with does, wall ms. */
  get endsAtWall(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { endsAtWall = 0 } of this.#proved.values()) first = Math.min(first, endsAtWall);
    return first;
  }

  #prove(leaf: X509Certificate): Proof {
    return { leaf, endsAtWall: trustedUntil(leaf, this.#bundle) };
  }

  #failureOf({ leaf, endsAtWall }: Proof): Failure | undefined {
    return checkServer(leaf, this.#expected, this.#bundle, this.#clock.wall(), this.#revoked, { until: endsAtWall });
  }

  #check(proof: Proof): Error | undefined {
    const failure = this.#failureOf(proof);
    this.#lastFailure = failure;
    return failure === undefined ? undefined : new FoedusError(failure);
  }

  /** recheck ends a connection whose server would be refused now, with the reason. */
  #recheck(socket: Socket): void {
    const leaf = this.#proved.get(socket)?.leaf;
    if (leaf === undefined) return;
    const proof = this.#prove(leaf);
    this.#proved.set(socket, proof);
    const failure = this.#failureOf(proof);
    if (failure === undefined) return;
    this.#lastEnd = failure;
    socket.destroy(new FoedusError(failure));
  }

  /** accepted follows a connection whose server was accepted, until what that rests on ends. */
  #accepted(socket: Socket, proof: Proof): void {
    this.#proved.set(socket, proof);
    socket.once("close", () => {
      this.#proved.delete(socket);
      this.#bytesOfClosed += socket.bytesRead;
    });
    watchServerEnd(
      socket,
      () => this.#proved.get(socket)?.endsAtWall ?? 0,
      this.#clock,
      () => this.#recheck(socket),
    );
  }

  #refuse(message: string): Error {
    this.#lastFailure = { reason: "PEER_UNREACHABLE", message };
    return new FoedusError(this.#lastFailure);
  }

  /** watch ends a connection over which a server sends what carries nothing; it is not dialled then until that is paid for. */
  #watch(secure: TLSSocket, socket: Socket): void {
    watchAnswers(secure, socket, this.#handshakes, this.#clock, (why) => {
      socket.destroy(this.#refuse(why));
    });
  }

  #handshake(socket: Socket, host: string): ReturnType<Connector["connect"]> {
    const refusal = this.#handshakes.refusal(this.#clock.mono());
    if (refusal !== undefined) return Promise.reject(this.#refuse(refusal));
    return new Promise((resolve, reject) => {
      this.#lastFailure = undefined;
      const guard = this.#handshakes.guarded(this.#clock.mono()) ? new HandshakeGuard(socket, SERVER_FLIGHT_BYTES) : undefined;
      let proof: Proof | undefined;
      const secure: TLSSocket = connect({
        socket: guard ?? socket,
        secureContext: this.#context,
        ALPNProtocols: ["h2"],
        minVersion: MIN_VERSION,
        ...(isIP(host) === 0 && host !== "" ? { servername: host } : {}),
        // The certificate as the socket has it comes with its intermediates.
        checkServerIdentity: (_host, { raw }) => {
          proof = this.#prove(secure.getPeerX509Certificate() ?? new X509Certificate(raw));
          return this.#check(proof);
        },
      });
      // Nobody else ends what stands still: gRPC waits without end, also after it was closed.
      const timer = this.#clock.setTimer(HANDSHAKE_TIMEOUT_MS, () => {
        if (secure.bytesRead === 0) secure.destroy(new Error("the server does not go on with the TLS or HTTP/2 handshake"));
      });
      secure.once("secureConnect", () => {
        if (secure.authorized && !this.#handshakes.own) this.#watch(secure, socket);
        guard?.pass(secure);
        // rejectUnauthorized is on by default, so an unauthorised socket never gets here; this keeps it so.
        if (!secure.authorized) return reject(secure.authorizationError);
        if (proof === undefined) return reject(this.#refuse("the server showed no certificate"));
        this.#handshakes.proved();
        this.#accepted(socket, proof);
        resolve({ socket: secure, secure: true });
      });
      secure.on("error", (error) => {
        const spent = { bytesRead: socket.bytesRead, cpuMs: guard?.charge() ?? 0 };
        if (!secure.authorized) this.#handshakes.failed(spent, this.#clock.mono());
        reject(error);
      });
      secure.once("close", () => {
        timer.cancel();
        reject(new Error("the connection was closed during the TLS handshake"));
      });
    });
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: grpc.ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    ...[target, , callCredentials]: Parameters<grpc.ChannelCredentials["_createSecureConnector"]>
  ): Connector {
    const [, name = "", port = "443"] = /^(.*?)(?::(\d+))?$/.exec(target.path) ?? [];
    const host = name.replace(/^\[|\]$/g, "");
    const calls = callCredentials ?? grpc.CallCredentials.createEmpty();
    let wanted = true;
    return {
      connect: (first) =>
        redialling(
          first,
          { host, port: Number(port) },
          (socket) => this.#handshake(socket, host),
          this.#clock,
          () => wanted,
        ),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => calls,
      destroy: () => {
        wanted = false;
      },
    };
  }
}

/** createServerCredentials makes mutual TLS 1.3 credentials for a server. */
export function createServerCredentials(material: ServerMaterial, tuning: Partial<ServerTuning> = {}): RotatingServerCredentials {
  return new RotatingServerCredentials(material, { maxConcurrentStreams: 100, streamWindowBytes: 1024 * 1024, ...tuning });
}

/**
 * createPeerCredentials makes mutual TLS 1.3 credentials for clients of one hub. `clock` dates the certificates. `handshakes` are those with
 * its server so far; without them it is one of the same owner, which is not bounded until it sends too much.
 */
export function createPeerCredentials(
  expected: ExpectedPeer,
  material: PeerMaterial,
  clock: DialClock,
  handshakes = new ServerHandshakes(true),
): PeerChannelCredentials {
  return new PeerChannelCredentials(expected, material, clock, handshakes);
}
