import type { SecureServerOptions } from "node:http2";
import * as grpc from "@grpc/grpc-js";
import { contextOf, HANDSHAKE_TIMEOUT_MS, type KeyMaterial, type TrustedMaterial } from "#channel/tls/material.ts";

/** ServerMaterial is what a server shows and whose callers TLS lets through. */
export interface ServerMaterial extends TrustedMaterial {
  /** CA certificates (PEM) of this hub and of every known peer; who a caller is, is decided against one hub's bundle only. */
  readonly ca: readonly string[];
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

/** createServerCredentials makes mutual TLS 1.3 credentials for a server. */
export function createServerCredentials(material: ServerMaterial, tuning: Partial<ServerTuning> = {}): RotatingServerCredentials {
  return new RotatingServerCredentials(material, { maxConcurrentStreams: 100, streamWindowBytes: 1024 * 1024, ...tuning });
}
