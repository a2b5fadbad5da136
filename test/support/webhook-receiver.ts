// A receiver of webhooks over real TLS, that answers as a test wants it to and verifies what it gets.
import { createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Credential } from "../testca/index.ts";

/** Received is one delivery whose signature holds. */
export interface Received {
  readonly id: string;
  readonly type: string;
  readonly hub: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly path: string;
}

/** Answering is what a receiver does with a request; it has been read and verified by then. */
export type Answering = (received: Received, response: ServerResponse, count: number) => void;

/** Receiver is a running one. */
export interface Receiver {
  readonly port: number;
  /** taken are the deliveries that were answered with a 2xx, in order. */
  readonly taken: readonly Received[];
  /** all deliveries that came, also those that were not taken. */
  readonly all: readonly Received[];
  /** forged counts those whose signature did not hold. */
  readonly forged: number;
  answer: Answering;
  close(): Promise<void>;
}

const OK: Answering = (_, response) => void response.writeHead(204).end();

/** startReceiver listens on a port of the loopback interface, a free one if none is named. */
export async function startReceiver(credential: Credential, secret: Buffer, port = 0): Promise<Receiver> {
  const state = { taken: [] as Received[], all: [] as Received[], forged: 0, answer: OK };
  const server = createServer({ cert: credential.certificatePem, key: credential.keyPem }, (request, response) => {
    void read(request).then((body) => {
      const received = verified(request, body, secret);
      if (received === undefined) {
        state.forged++;
        return response.writeHead(401).end();
      }
      state.all.push(received);
      response.once("finish", () => {
        if (response.statusCode < 300) state.taken.push(received);
      });
      state.answer(received, response, state.all.length);
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return Object.assign(state, {
    port: (server.address() as AddressInfo).port,
    close: () => {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    },
  });
}

async function read(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

/** verified is a delivery if one of its signatures holds, as docs/WEBHOOKS.md tells receivers to look. */
function verified({ headers, url = "" }: IncomingMessage, body: string, secret: Buffer): Received | undefined {
  const [id, timestamp, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) => String(headers[name] ?? ""));
  const expected = createHmac("sha256", secret).update(`${id}.${timestamp}.${body}`).digest();
  const holds = signatures!.split(" ").some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
  if (!holds) return undefined;
  const { type, hub, data } = JSON.parse(body) as Omit<Received, "id" | "path">;
  return { id: id!, type, hub, data, path: url };
}
