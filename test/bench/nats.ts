// The yardstick: two NATS servers joined by a leaf node over mutual TLS, with the NATS client for Node at both ends.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { systemClock } from "#channel/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { until } from "../support/federation.ts";
import { tool } from "../support/tools.ts";
import { type Part, preciseWall, quantiles, runRole, startPart } from "./worker.ts";

const SERVER = tool("nats-server");

/** natsVersion is what `nats-server` says, or undefined if it is not installed. */
export function natsVersion(): string | undefined {
  const asked = spawnSync(SERVER.path, ["--version"], { encoding: "utf8" });
  return asked.status === 0 ? asked.stdout.trim().replace("nats-server: ", "") : undefined;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

interface PushParts {
  readonly subscriber: Part<PushResult>;
  readonly publisher: Part<{ count: number }>;
}

interface RequestParts {
  readonly responder: Part<void>;
  readonly requester: Part<RequestResult>;
}

/**
 * NatsPair is leaf A and hub B, each with a client port on loopback, and on demand their users. Those stay for all rounds, as the
 * users of the hubs do, so that none is measured with code that V8 sees for the first time.
 */
export class NatsPair {
  readonly portA: number;
  readonly portB: number;
  readonly #children: readonly ChildProcess[];
  #push: PushParts | undefined;
  #requests: RequestParts | undefined;

  private constructor(portA: number, portB: number, children: readonly ChildProcess[]) {
    this.portA = portA;
    this.portB = portB;
    this.#children = children;
  }

  static async start(dir: string): Promise<NatsPair> {
    mkdirSync(dir, { recursive: true });
    const leaves = [{ profile: "service" as const, name: "nats" }];
    for (const hub of ["nats-a", "nats-b"]) await writePki(join(dir, hub), hub, { now: new Date(systemClock.wall()), leaves });
    const tls = (own: string, other: string): string =>
      `{ cert_file: "${join(dir, own, "service-nats.pem")}", key_file: "${join(dir, own, "service-nats.key")}", ca_file: "${join(dir, other, "ca.pem")}", verify: true }`;
    const [portA, portB, leafPort] = await Promise.all([freePort(), freePort(), freePort()]);
    const confB = join(dir, "b.conf");
    const confA = join(dir, "a.conf");
    writeFileSync(
      confB,
      `server_name: b\nlisten: "127.0.0.1:${portB}"\nleafnodes { listen: "127.0.0.1:${leafPort}", tls: ${tls("nats-b", "nats-a")} }\n`,
    );
    writeFileSync(
      confA,
      `server_name: a\nlisten: "127.0.0.1:${portA}"\nleafnodes { remotes: [ { url: "tls://localhost:${leafPort}", tls: ${tls("nats-a", "nats-b")} } ] }\n`,
    );
    const children = [confB, confA].map((conf) => spawn(SERVER.path, ["-c", conf], { stdio: "ignore" }));
    const pair = new NatsPair(portA, portB, children);
    // The leaf link is up when a message published at A arrives at B.
    const [a, b] = await Promise.all([until("nats a", () => connect({ port: portA })), until("nats b", () => connect({ port: portB }))]);
    let arrived = false;
    b.subscribe("probe", {
      callback: () => {
        arrived = true;
      },
    });
    await until("the leaf link", async () => {
      a.publish("probe");
      await a.flush();
      return arrived;
    });
    await Promise.all([a.close(), b.close()]);
    return pair;
  }

  /** push publishes for some seconds as fast as the client can in its best mode (flush per 1,000, 16 in flight). */
  async push(load: PushLoad): Promise<PushResult> {
    this.#push ??= {
      subscriber: await startPart<PushResult>(import.meta.filename, "subscriber", { port: this.portB }),
      publisher: await startPart<{ count: number }>(import.meta.filename, "publisher", { port: this.portA }),
    };
    const received = this.#push.subscriber.go();
    await this.#push.publisher.go(load);
    return received;
  }

  /** request keeps requests of 64 B in flight from A to a responder at B. */
  async request(run: RequestRun): Promise<RequestResult> {
    this.#requests ??= {
      responder: await startPart<void>(import.meta.filename, "responder", { port: this.portB }),
      requester: await startPart<RequestResult>(import.meta.filename, "requester", { port: this.portA }),
    };
    return this.#requests.requester.go(run);
  }

  async stop(): Promise<void> {
    await Promise.all([...Object.values(this.#push ?? {}), ...Object.values(this.#requests ?? {})].map((part) => part.stop()));
    for (const child of this.#children) {
      const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
      child.kill("SIGTERM");
      await gone;
    }
  }
}

/** PushLoad is how long messages are published, and how long each is. */
export interface PushLoad {
  readonly seconds: number;
  readonly bytes: number;
}

/** PushResult is what one push run gave. */
export interface PushResult {
  readonly count: number;
  readonly seconds: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** RequestRun is how long requests are made, and how many at once. */
export interface RequestRun {
  readonly seconds: number;
  readonly inFlight: number;
}

/** RequestResult is what one request/reply run gave. */
export interface RequestResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const END = "push.end";
const SUBJECT = "push";

async function subscriber(argument: { port: number }): Promise<() => Promise<PushResult>> {
  const nc: NatsConnection = await connect({ port: argument.port });
  let count = 0;
  let first = 0;
  let latencies: number[] = [];
  let ended = Promise.withResolvers<number>();
  nc.subscribe(SUBJECT, {
    callback: (_error, message) => {
      if (count === 0) first = preciseWall();
      // Every 16th carries its time, so that reading the clock does not weigh.
      if ((count++ & 15) === 0)
        latencies.push(preciseWall() - Buffer.from(message.data.buffer, message.data.byteOffset, 8).readDoubleLE(0));
      if (latencies.length > 2_000_000) latencies = latencies.slice(-1_000_000);
    },
  });
  nc.subscribe(END, { callback: (_error, message) => ended.resolve(Number(message.string())) });
  await nc.flush();
  return async () => {
    const total = await ended.promise;
    await until("all messages", () => count >= total, 30_000);
    const seconds = (preciseWall() - first) / 1_000;
    const { p50, p99 } = quantiles(latencies);
    const result = { count, seconds, perSecond: count / seconds, p50Ms: p50, p99Ms: p99 };
    // Nothing of the next run comes before this result was told.
    count = 0;
    latencies = [];
    ended = Promise.withResolvers<number>();
    return result;
  };
}

async function publisher(argument: { port: number }): Promise<(load: PushLoad) => Promise<{ count: number }>> {
  const nc = await connect({ port: argument.port });
  return async ({ seconds, bytes }) => {
    let count = 0;
    const inFlight: Promise<void>[] = [];
    const end = systemClock.mono() + seconds * 1_000;
    const send = (n: number): void => {
      for (let i = 0; i < n; i++) {
        const data = Buffer.alloc(bytes);
        if ((count++ & 15) === 0) data.writeDoubleLE(preciseWall(), 0);
        nc.publish(SUBJECT, data);
      }
    };
    while (systemClock.mono() < end) {
      send(1_000);
      inFlight.push(nc.flush());
      if (inFlight.length >= 16) await inFlight.shift();
    }
    await Promise.all(inFlight);
    await nc.flush();
    nc.publish(END, String(count));
    await nc.flush();
    return { count };
  };
}

async function responder(argument: { port: number }): Promise<() => Promise<void>> {
  const nc = await connect({ port: argument.port });
  nc.subscribe("request", {
    callback: (_error, message) => {
      message.respond(message.data);
    },
  });
  await nc.flush();
  return () => Promise.resolve();
}

async function requester(argument: { port: number }): Promise<(run: RequestRun) => Promise<RequestResult>> {
  const nc = await connect({ port: argument.port });
  const payload = Buffer.alloc(64, 7);
  await until("the responder", () => nc.request("request", payload, { timeout: 200 }).then(() => true));
  return async ({ seconds, inFlight }) => {
    const start = systemClock.mono();
    const end = start + seconds * 1_000;
    const latencies: number[] = [];
    const one = async (): Promise<void> => {
      while (systemClock.mono() < end) {
        const sent = systemClock.mono();
        await nc.request("request", payload, { timeout: 10_000 });
        latencies.push(systemClock.mono() - sent);
      }
    };
    await Promise.all(Array.from({ length: inFlight }, one));
    const { p50, p99 } = quantiles(latencies);
    return { perSecond: latencies.length / ((systemClock.mono() - start) / 1_000), p50Ms: p50, p99Ms: p99 };
  };
}

await runRole({ subscriber, publisher, responder, requester });
