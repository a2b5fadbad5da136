// A server of test/rpc/fixture.ts that is reached over HTTP as well, by a client of the Connect protocol that is not ours, and byte by byte.
import { Agent, request as httpsRequest } from "node:https";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { type Clock, systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { serveConnect } from "#runtime/connect/serve.ts";
import type { RpcServerOptions } from "#runtime/rpc/server/server.ts";
import { memoryLogger } from "../fakes/memory-logger.ts";
import type { Credential, TestHub } from "../testca/index.ts";
import { type Fixture, serve } from "./fixture.ts";

/** quickClock has waits last a hundredth of what they do: half a minute is 0.3 s. */
export const quickClock: Clock = { ...systemClock, setTimer: (delayMs, fn) => systemClock.setTimer(delayMs / 100, fn) };

/** HttpFixture is a Fixture with a port for HTTP. */
export interface HttpFixture extends Fixture {
  readonly httpPort: number;
}

/** serveHttp starts a server of the hub, for gRPC and for HTTP, each on a free port of the loopback interface. */
export async function serveHttp(
  own: TestHub,
  peers: readonly TestHub[],
  options: Partial<RpcServerOptions> = {},
  clock: Clock = options.clock ?? systemClock,
): Promise<HttpFixture> {
  const fixture = await serve(own, peers, options);
  const identity = own.service();
  const httpPort = await serveConnect({
    entrance: fixture.server.entrance,
    material: { cert: identity.certificatePem, key: identity.keyPem, ca: [own.caPem, ...peers.map((peer) => peer.caPem)] },
    host: "127.0.0.1",
    port: 0,
    setting: "http.port",
    clock,
    ids: systemEntropy,
    log: memoryLogger(),
    metrics: fixture.metrics,
  });
  return { ...fixture, httpPort };
}

/**
 * connectClient is the client of @connectrpc/connect-node for a service, with the credential shown, at a port of this machine or an address. It
 * keeps one connection.
 */
export function connectClient<S extends DescService>(
  service: S,
  at: number | string,
  credential: Pick<Credential, "certificatePem" | "keyPem">,
  caPem: string,
  binary = false,
): Client<S> {
  const transport = createConnectTransport({
    baseUrl: `https://${typeof at === "number" ? `localhost:${at}` : at}`,
    httpVersion: "1.1",
    useBinaryFormat: binary,
    nodeOptions: {
      ca: caPem,
      cert: credential.certificatePem,
      key: credential.keyPem,
      agent: new Agent({ keepAlive: true, maxSockets: 1 }),
    },
  });
  return createClient(service, transport);
}

/** ToldError is what a failed call says of itself, by either protocol. */
export interface ToldError {
  readonly code: string;
  readonly reason: string | undefined;
  readonly message: string;
  readonly facts: Readonly<Record<string, string>>;
  readonly fields: readonly string[];
}

/** toldBy reads a ConnectError as programs do. */
export function toldBy(error: unknown): ToldError {
  if (!(error instanceof ConnectError)) throw new Error("no ConnectError", { cause: error });
  const [info] = error.findDetails(ErrorInfoSchema);
  const fields = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
  return { code: Code[error.code] ?? "", reason: info?.reason, message: error.rawMessage, facts: { ...info?.metadata }, fields };
}

/** HttpAnswer is what came back. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** HttpCall is a request as somebody writes it by hand. */
export interface HttpCall {
  readonly path: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** call makes one request on a connection of its own. */
export function call(
  port: number,
  credential: Credential,
  caPem: string,
  { path, method = "POST", headers, body }: HttpCall,
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        host: "127.0.0.1",
        servername: "localhost",
        port,
        path,
        method,
        agent: false,
        ca: caPem,
        cert: credential.certificatePem,
        key: credential.keyPem,
        headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      },
      (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece: Buffer) => pieces.push(piece));
        response.once("error", reject);
        response.once("end", () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(pieces).toString() }),
        );
      },
    );
    request.once("error", reject);
    request.end(body);
  });
}

/** rawTls is a TLS connection on which a test writes what it likes. */
export function rawTls(port: number, credential: Credential | undefined, caPem: string): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const shown = credential === undefined ? {} : { cert: credential.certificatePem, key: credential.keyPem };
    const socket = connectTls({ host: "127.0.0.1", port, servername: "localhost", ca: caPem, ALPNProtocols: ["http/1.1"], ...shown }, () =>
      resolve(socket),
    );
    socket.once("error", reject);
  });
}
