import type { X509Certificate } from "node:crypto";
import type { ServerHttp2Session } from "node:http2";
import type net from "node:net";
import type { Server, TLSSocket } from "node:tls";
import type { Chatter } from "#channel/tls/chatter.ts";
import type { ServerMaterial } from "#runtime/tls/credentials.ts";
import type { Charge } from "../handshakes/handshake-costs.ts";
import type { Account } from "./accounts.ts";
import type { Hearing } from "./hearing.ts";

/** Connection is one accepted TCP connection and, after the TLS handshake, whose it is. */
export interface Connection {
  readonly socket: net.Socket;
  /** Where it came in, if gRPC is not spoken there. */
  readonly door: Door | undefined;
  /** Remote address, also when the socket is gone. */
  readonly address: string;
  /** The client's leaf certificate; undefined until the handshake is done. */
  leaf: X509Certificate | undefined;
  thumbprint: string;
  /** Trust domain that the leaf claims (not yet checked against a bundle). */
  hubId: string;
  /** Who pays for it, once that is known. */
  account: Account | undefined;
  session: ServerHttp2Session | undefined;
  /** What its address was charged for the handshake that it has begun. */
  charge: Charge | undefined;
  /** For how long whoever made it should have waited, ms. */
  tooSoonMs: number;
  /** TLS on the socket, once its handshake is done. */
  secure: TLSSocket | undefined;
  readonly hearing: Hearing;
  readonly chatter: Chatter;
  /** widen lets it carry more to us at a time: for one on which this hub does not send in bulk (`windows.ts`). */
  widen(): void;
}

/**
 * Door is a port of its own on which a protocol other than gRPC is spoken. Its connections are accepted, bounded, identified and cut as all
 * others are; from then on they are the door's.
 */
export interface Door {
  /** Lets in who shows no certificate, or one that TLS does not take, which then counts as none: for browsers. */
  readonly strangers: boolean;
  /** tls takes over connections whose hello has come. It has no port of its own. */
  readonly tls: Server;
  /** rotate puts new certificates and CAs in place for new connections. */
  rotate(material: ServerMaterial): void;
  /** opened is told of each connection whose caller may be here. */
  opened(connection: Connection, secure: TLSSocket): void;
  /** retire ends a connection as soon as nothing runs on it any more, and takes no more calls on it. */
  retire(connection: Connection): void;
}
