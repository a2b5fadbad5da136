import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Credential } from "../testca/index.ts";

/** RawOptions say how a bare client behaves. */
export interface RawOptions {
  /** Default: 127.0.0.1. */
  readonly host?: string;
  readonly port: number;
  readonly credential: Pick<Credential, "certificatePem" | "keyPem">;
  /** CA of the server. */
  readonly ca: string;
  /** Receive window of each stream; 0 reads nothing. */
  readonly windowBytes?: number;
  readonly localAddress?: string;
  readonly localPort?: number;
}

const below = new WeakMap<ClientHttp2Session, Socket>();

/** resetTcp ends the connection of a session with a reset, so that its port is free at once; it resolves when that has happened. */
export function resetTcp(session: ClientHttp2Session): Promise<void> {
  const socket = below.get(session);
  if (socket === undefined) throw new Error("not a session of rawH2");
  return new Promise((resolve) => {
    socket.once("close", () => resolve());
    socket.resetAndDestroy();
  });
}

/** rawH2 is a bare HTTP/2 client over mutual TLS, for what a gRPC client would never do. */
export function rawH2(options: RawOptions): Promise<ClientHttp2Session> {
  const { host = "127.0.0.1", port, credential, ca, windowBytes, localAddress, localPort } = options;
  const settings = windowBytes === undefined ? {} : { settings: { initialWindowSize: windowBytes } };
  const tcp = connectTcp({
    host,
    port,
    ...(localAddress === undefined ? {} : { localAddress }),
    ...(localPort === undefined ? {} : { localPort }),
  });
  const socket = connectTls({
    socket: tcp,
    ca,
    cert: credential.certificatePem,
    key: credential.keyPem,
    ALPNProtocols: ["h2"],
    checkServerIdentity: () => undefined,
  });
  return new Promise((resolve, reject) => {
    tcp.once("error", reject);
    socket.once("error", reject);
    socket.once("secureConnect", () => {
      const session = connect(`https://${host}:${port}`, { createConnection: () => socket as Socket as never, ...settings });
      session.on("error", () => undefined);
      below.set(session, tcp);
      session.once("remoteSettings", () => resolve(session));
    });
  });
}

/** grpcStream opens a stream as a gRPC client does, and keeps its own half open. */
export function grpcStream(session: ClientHttp2Session, path: string, extra: Readonly<Record<string, string>> = {}): ClientHttp2Stream {
  const stream = session.request(
    { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", ...extra },
    { endStream: false },
  );
  stream.on("error", () => undefined);
  return stream;
}

/** grpcMessage frames the bytes of a message. */
export function grpcMessage(bytes: Uint8Array, compressed = false): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(compressed ? 1 : 0, 0);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** End is how a stream ended: its gRPC status, and the code with which it was reset. */
export interface End {
  readonly status: string | undefined;
  readonly resetCode: number;
}

/** endOf waits until a stream is closed on both sides. */
export function endOf(stream: ClientHttp2Stream): Promise<End> {
  let status: string | undefined;
  const note = (headers: Record<string, unknown>): void => {
    const value = headers["grpc-status"];
    if (value !== undefined) status = String(value);
  };
  stream.on("response", note);
  stream.on("trailers", note);
  stream.resume();
  return new Promise((resolve) => stream.once("close", () => resolve({ status, resetCode: stream.rstCode ?? constants.NGHTTP2_NO_ERROR })));
}

/** frame is a bare frame of HTTP/2. */
export function frame(type: number, flags: number, stream: number, body: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

/** PREFACE begins a connection, and acknowledges the settings of the other end. */
export const PREFACE = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  frame(4, 0, 0, Buffer.alloc(0)),
  frame(4, 1, 0, Buffer.alloc(0)),
]);

/** text is a string of HPACK (RFC 7541, 5.2), uncompressed. */
export function text(value: string): Buffer {
  const head: number[] = [];
  let rest = value.length;
  if (rest < 127) head.push(rest);
  else {
    head.push(127);
    for (rest -= 127; rest >= 128; rest >>= 7) head.push((rest & 127) | 128);
    head.push(rest);
  }
  return Buffer.concat([Buffer.from(head), Buffer.from(value, "latin1")]);
}
