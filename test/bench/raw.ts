// For context: the same bytes over bare TLS of Node, framed by length, without a hub, a store or a signature.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";
import { systemClock } from "#channel/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { type Part, preciseWall, runRole, startPart } from "./worker.ts";

const UPDATES = 500;
const FRAME_BYTES = 4 + UPDATES * 16;
/** Frames that may wait in the socket. */
const HIGH_WATER_BYTES = 1024 * 1024;

interface Files {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const material = (files: Files) => ({
  ca: readFileSync(files.ca),
  cert: readFileSync(files.cert),
  key: readFileSync(files.key),
  minVersion: "TLSv1.3" as const,
});

async function sink(
  files: Files,
): Promise<(more: { ask: "port" } | { ask: "result"; count: number }) => Promise<{ port: number; perSecond: number }>> {
  let [count, first, last, pending] = [0, 0, 0, 0];
  let enough = { count: Number.POSITIVE_INFINITY, resolve: (): void => undefined };
  const server = createServer({ ...material(files), requestCert: true, rejectUnauthorized: true }, (socket: TLSSocket) => {
    socket.on("data", (chunk: Buffer) => {
      last = preciseWall();
      if (first === 0) first = last;
      pending += chunk.length;
      count += Math.floor(pending / FRAME_BYTES) * UPDATES;
      pending %= FRAME_BYTES;
      if (count >= enough.count) enough.resolve();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return async (more) => {
    if (more.ask === "port") return { port, perSecond: 0 };
    if (count < more.count)
      await new Promise<void>((resolve) => {
        enough = { count: more.count, resolve };
      });
    const perSecond = count / ((last - first) / 1_000);
    [count, first] = [0, 0];
    enough = { count: Number.POSITIVE_INFINITY, resolve: () => undefined };
    return { port, perSecond };
  };
}

async function source(argument: { port: number; files: Files }): Promise<(run: { seconds: number }) => Promise<{ count: number }>> {
  const socket = connect({ ...material(argument.files), host: "localhost", port: argument.port });
  await new Promise<void>((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
  const columns = Buffer.alloc(FRAME_BYTES - 4, 7);
  return async ({ seconds }) => {
    const end = systemClock.mono() + seconds * 1_000;
    let count = 0;
    while (systemClock.mono() < end) {
      const frame = Buffer.allocUnsafe(FRAME_BYTES);
      frame.writeUInt32BE(FRAME_BYTES - 4, 0);
      columns.copy(frame, 4);
      count += UPDATES;
      socket.write(frame);
      if (socket.writableLength > HIGH_WATER_BYTES) await new Promise<void>((resolve) => socket.once("drain", resolve));
    }
    return { count };
  };
}

/** RawPair is a sender and a receiver joined by mutual TLS 1.3. */
export class RawPair {
  readonly #sink: Part<{ port: number; perSecond: number }>;
  readonly #source: Part<{ count: number }>;

  private constructor(sinkPart: Part<{ port: number; perSecond: number }>, sourcePart: Part<{ count: number }>) {
    this.#sink = sinkPart;
    this.#source = sourcePart;
  }

  static async start(dir: string): Promise<RawPair> {
    await writePki(dir, "raw", { now: new Date(systemClock.wall()), leaves: [{ profile: "service", name: "raw" }] });
    const files: Files = { ca: join(dir, "ca.pem"), cert: join(dir, "service-raw.pem"), key: join(dir, "service-raw.key") };
    const sinkPart = await startPart<{ port: number; perSecond: number }>(import.meta.filename, "sink", files);
    const { port } = await sinkPart.go({ ask: "port" });
    return new RawPair(sinkPart, await startPart<{ count: number }>(import.meta.filename, "source", { port, files }));
  }

  /** push gives updates of 16 B per second, 500 to a frame. */
  async push(seconds: number): Promise<number> {
    const { count } = await this.#source.go({ seconds });
    return (await this.#sink.go({ ask: "result", count })).perSecond;
  }

  async stop(): Promise<void> {
    await Promise.all([this.#source.stop(), this.#sink.stop()]);
  }
}

await runRole({ sink, source });
