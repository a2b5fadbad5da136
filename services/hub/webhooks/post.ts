import { lookup as dnsLookup, type LookupAddress } from "node:dns";
import type { ClientRequest, IncomingMessage } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { createRequire } from "node:module";
import { isIP, type LookupFunction } from "node:net";
import type { Clock } from "#channel/clock.ts";
import { MIN_VERSION } from "#channel/tls/material.ts";
import { printable } from "#kernel/printable.ts";
import { type AddressRule, addressProblem } from "./addresses.ts";
import type { Outcome } from "./sink-queue.ts";

// As in `runtime/ops/server.ts`: an import of it would load Node's whole fetch implementation.
const http = createRequire(import.meta.url)("node:http") as typeof import("node:http");

/** What is read of an answer: nothing of it is used. */
const ANSWER_BYTES = 64 * 1024;
const ERROR_CHARS = 200;

/** Statuses that say that this very delivery is not taken, whenever it comes. */
const REFUSED: ReadonlySet<number> = new Set([400, 406, 411, 413, 414, 415, 422, 431]);

/** Answer is what became of a try, and a sentence about it. */
export interface Answer {
  readonly outcome: Outcome;
  readonly text: string;
  readonly retryAfterMs?: number;
}

/** PosterOptions say where is posted, and how. */
export interface PosterOptions {
  readonly url: string;
  /** CA certificates (PEM) of the receiver; undefined: those that come with Node. */
  readonly ca: () => string | undefined;
  readonly allowed: readonly string[];
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Poster posts to one URL, over one connection that is kept. It follows no redirects and goes to no address that `addressProblem` names. */
export class Poster {
  readonly #o: PosterOptions;
  readonly #url: URL;
  readonly #rule: AddressRule;
  readonly #agent: Agent | InstanceType<typeof http.Agent>;
  #request: ClientRequest | undefined;

  constructor(options: PosterOptions) {
    this.#o = options;
    this.#url = new URL(options.url);
    this.#rule = { plain: this.#url.protocol === "http:", allowed: options.allowed };
    const kept = { keepAlive: true, maxSockets: 1 };
    this.#agent = this.#rule.plain ? new http.Agent(kept) : new Agent(kept);
  }

  /** post sends one body; it never rejects. */
  post(headers: Readonly<Record<string, string>>, body: string): Promise<Answer> {
    const host = this.#url.hostname.replace(/^\[|\]$/g, "");
    const problem = isIP(host) === 0 ? undefined : addressProblem(host, this.#rule);
    if (problem !== undefined) return Promise.resolve({ outcome: "failed", text: problem });
    return new Promise((resolve) => {
      const failed = (error: Error): void => {
        timer.cancel();
        resolve({ outcome: "failed", text: printable(error.message.slice(0, ERROR_CHARS)) });
      };
      const timer = this.#o.clock.setTimer(this.#o.timeoutMs, () => request.destroy(new Error(`no answer within ${this.#o.timeoutMs} ms`)));
      const request = this.#open({ ...headers, "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) });
      this.#request = request;
      request.on("error", failed);
      request.once("response", (response) => {
        drain(response, () => timer.cancel());
        resolve(answerOf(response, this.#o.clock.wall()));
      });
      request.end(body);
    });
  }

  close(): void {
    this.#request?.destroy();
    this.#agent.destroy();
  }

  #open(headers: Readonly<Record<string, string>>): ClientRequest {
    const options = { method: "POST", headers, agent: this.#agent, lookup: this.#lookup };
    if (this.#rule.plain) return http.request(this.#url, options);
    const ca = this.#o.ca();
    return httpsRequest(this.#url, { ...options, minVersion: MIN_VERSION, rejectUnauthorized: true, ...(ca === undefined ? {} : { ca }) });
  }

  /** lookup looks at what a name resolves to for the very connection that is then made: one that is looked at before may be another. */
  readonly #lookup: LookupFunction = (hostname, options, done) => {
    dnsLookup(hostname, { ...options, all: true }, (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => {
      if (error !== null) return done(error, []);
      for (const { address } of addresses) {
        const problem = addressProblem(address, this.#rule);
        if (problem !== undefined) return done(new Error(`the name resolves to an address that is not posted to: ${problem}`), []);
      }
      const [first] = addresses;
      if (options.all === true || first === undefined) done(null, addresses);
      else done(null, first.address, first.family);
    });
  };
}

/** drain reads an answer away, so that its connection can be used again; one that goes on and on ends it. */
function drain(response: IncomingMessage, done: () => void): void {
  let bytes = 0;
  response.on("data", (piece: Buffer) => {
    bytes += piece.length;
    if (bytes > ANSWER_BYTES) response.destroy();
  });
  response.on("error", () => undefined);
  response.once("close", done);
}

function answerOf({ statusCode = 0, headers }: IncomingMessage, nowWall: number): Answer {
  const text = `the receiver answers ${statusCode}${statusCode >= 300 && statusCode < 400 ? ", and redirects are not followed" : ""}`;
  if (statusCode >= 200 && statusCode < 300) return { outcome: "taken", text };
  const retryAfterMs = retryAfter(headers["retry-after"], nowWall);
  return { outcome: REFUSED.has(statusCode) ? "refused" : "failed", text, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
}

/** retryAfter reads `Retry-After`: seconds, or a date. */
function retryAfter(value: string | undefined, nowWall: number): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - nowWall;
  return Number.isFinite(ms) && ms > 0 ? ms : undefined;
}
