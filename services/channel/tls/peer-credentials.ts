import { X509Certificate } from "node:crypto";
import { isIP, type Socket } from "node:net";
import { connect, type SecureContext, type TLSSocket } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { Clock } from "../clock.ts";
import { watchAnswers } from "./answers.ts";
import { HandshakeGuard, SERVER_FLIGHT_BYTES } from "./handshake-guard.ts";
import { contextOf, HANDSHAKE_TIMEOUT_MS, MIN_VERSION, parseCertificates, type TrustedMaterial } from "./material.ts";
import { checkServer, type ExpectedPeer, trustedUntil } from "./peer-identity.ts";
import { redialling } from "./redial.ts";
import { watchServerEnd } from "./server-ends.ts";
import { ServerHandshakes } from "./server-handshakes.ts";

/** PeerMaterial is what a client shows and the bundle of exactly the hub that it calls. */
export interface PeerMaterial extends TrustedMaterial {
  /** Thumbprints of leaves that the server must not show. */
  readonly revoked?: readonly string[];
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
 * server would be refused now; a connection ends with the certificate that its server showed, too (PROTOCOL C11).
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
