import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  type SessionFrame,
  SessionFrameSchema,
  type SessionRequest,
  type SessionResponse,
} from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { peerViewOf } from "../../../test/fakes/peer-view.ts";
import { type Pace, type SlowPipe, slowPair } from "../../../test/fakes/slow-pipe.ts";
import type { CallContext } from "../rpc/call.ts";
import { createPeerLinks, type PeerLinks } from "./peer-links.ts";

const METHOD = RegistrySyncService.method.session;
const KIB = 1024;
/** 64 kbit/s, as of a GSM modem or a LoRa gateway. */
const SLOW: Pace = { bytesPerMs: 8, latencyMs: 100 };

const part = (index: number, bytes: number): SessionFrame =>
  create(SessionFrameSchema, { frame: { case: "snapshotPart", value: { index, data: new Uint8Array(bytes) } } });

type Line = ReturnType<typeof slowPair<SessionRequest, SessionResponse>>;

/** Two hubs, "a" dials "b", over a line. */
class Federation {
  readonly clock = new ManualClock();
  readonly events: string[] = [];
  /** Bytes of frames that each took, and when the last one came. */
  readonly took = { a: 0, b: 0 };
  readonly last = { a: 0, b: 0 };
  readonly lines: Line[] = [];
  /** What the hubs see of the bytes that come. */
  counts: (pipe: SlowPipe<never>) => number = (pipe) => pipe.bytesRead();
  readonly a: PeerLinks<SessionFrame>;
  readonly b: PeerLinks<SessionFrame>;

  constructor(pace: Pace) {
    this.b = this.#links("b", () => {
      throw new Error("nobody dials here");
    });
    this.a = this.#links("a", () => {
      const line = slowPair<SessionRequest, SessionResponse>(this.clock, pace, METHOD);
      this.lines.push(line);
      const context = { caller: { kind: "peer", hubId: "a", thumbprint: "leaf", level: 3 }, bytesRead: () => this.#count(line.requests) };
      const done = this.b.accept(line.requests, line.out, context as unknown as CallContext);
      done.then(
        () => line.out.end(),
        (error: Error) => line.out.end(error),
      );
      return { session: () => line.client, bytesRead: () => this.#count(line.out), close: () => undefined };
    });
    for (const [links, peer] of [[this.b, "a"] as const, [this.a, "b"] as const])
      links.setPeers([peerViewOf(peer, peer === "b", this.clock.wall())]);
  }

  #count(pipe: SlowPipe<SessionRequest> | SlowPipe<SessionResponse>): number {
    return this.counts(pipe as unknown as SlowPipe<never>);
  }

  #links(hubId: "a" | "b", connect: Parameters<typeof createPeerLinks<SessionFrame>>[0]["connect"]): PeerLinks<SessionFrame> {
    return createPeerLinks<SessionFrame>({
      service: "registry-sync",
      method: METHOD,
      hubId,
      incarnation: 1,
      packages: ["p"],
      software: "test",
      clock: this.clock,
      prng: new Prng(1),
      log: memoryLogger(),
      metrics: new Registry(),
      two: false,
      connect,
      onUp: () => this.events.push(`${hubId} up`),
      onDown: (_peer, _session, { reason }) => this.events.push(`${hubId} down ${reason} ${Math.round(this.clock.mono() / 1_000)} s`),
      onFrame: (_peer, _session, _frame, bytes) => {
        this.took[hubId] += bytes;
        this.last[hubId] = this.clock.mono();
      },
      onHeads: () => {
        this.slowest = Math.max(
          this.slowest,
          ...this.links(hubId)
            .status()
            .map(({ rttMs }) => rttMs),
        );
      },
    });
  }

  /** Longest round trip of a ping, ms. */
  slowest = 0;

  links(hubId: "a" | "b"): PeerLinks<SessionFrame> {
    return hubId === "a" ? this.a : this.b;
  }

  async turn(): Promise<void> {
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      this.clock.turn();
    }
  }

  async pass(ms: number, stepMs: number): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.advance(stepMs);
      await this.turn();
    }
  }

  static async up(pace: Pace): Promise<Federation> {
    const made = new Federation(pace);
    await made.turn();
    await made.pass(2_000 + 10 * pace.latencyMs, 50);
    expect(made.events, made.a.describe() + made.b.describe() + JSON.stringify(made.a.status())).toEqual(["a up", "b up"]);
    return made;
  }

  send(from: "a" | "b", total: number, bytes: number): void {
    const [links, peer] = from === "a" ? [this.a, "b"] : [this.b, "a"];
    for (let i = 0; i * bytes < total; i++) expect(links.send(peer, part(i, bytes))).toBe(true);
  }
}

describe("a link of 64 kbit/s", () => {
  test.each([
    ["one way", ["a"] as const, 1.05],
    ["both ways at once", ["a", "b"] as const, 1.25],
  ])("F-7 a snapshot of 1 MiB arrives, %s, on a session that lasts, and no ping waits long behind it", async (_name, from, times) => {
    const hubs = await Federation.up(SLOW);
    const total = 1024 * KIB;
    for (const hub of from) hubs.send(hub, total, 16 * KIB);
    await hubs.pass(170_000, 250);
    expect(hubs.events).toEqual(["a up", "b up"]);
    for (const hub of from) {
      const other = hub === "a" ? "b" : "a";
      expect(hubs.took[other]).toBeGreaterThanOrEqual(total);
      expect(hubs.last[other], "little of the line is lost").toBeLessThan((times * total) / SLOW.bytesPerMs + 2_000);
    }
    expect(hubs.slowest).toBeLessThan(10_000);
    expect(hubs.slowest, "some ping was behind some of it").toBeGreaterThan(1_000);
  });

  test("F-7 a frame that takes longer than a ping is waited for is a sign of life as long as it comes", async () => {
    const hubs = await Federation.up(SLOW);
    hubs.send("a", 2 * 250 * KIB, 250 * KIB);
    await hubs.pass(70_000, 250);
    expect(hubs.events).toEqual(["a up", "b up"]);
    expect(hubs.took.b).toBeGreaterThan(500 * KIB);
  });

  test("B0-5 a peer that is gone in the middle is found in 30 s, and one of which single bytes come as well", async () => {
    for (const bytesPerSecond of [0, 1, 64]) {
      const hubs = await Federation.up(SLOW);
      hubs.send("a", 512 * KIB, 16 * KIB);
      await hubs.pass(9_000, 250);
      const at = hubs.clock.mono();
      for (const { requests, out } of hubs.lines) {
        requests.silent = true;
        out.silent = true;
      }
      hubs.counts = () => 1e6 + ((hubs.clock.mono() - at) / 1_000) * bytesPerSecond;
      await hubs.pass(35_000, 250);
      const downs = hubs.events.filter((event) => event.includes("down PEER_UNREACHABLE"));
      expect(downs.map((event) => event[0]).sort(), hubs.events.join()).toEqual(["a", "b"]);
    }
  });

  test("B0-5 a peer that sends bytes and never a pong is given up in bounded time", async () => {
    const hubs = await Federation.up(SLOW);
    for (const { requests, out } of hubs.lines) {
      requests.silent = true;
      out.silent = true;
    }
    hubs.counts = () => hubs.clock.mono() * 8;
    await hubs.pass(80_000, 500);
    expect(hubs.events.filter((event) => event.includes("down PEER_UNREACHABLE"))).toHaveLength(2);
  });
});

describe("a fast link", () => {
  test.each([
    ["1 Gbit/s in a building", { bytesPerMs: 125_000, latencyMs: 0.2 }, 64, 32, 600],
    ["100 Mbit/s across a country", { bytesPerMs: 12_500, latencyMs: 10 }, 64, 8, 1_100],
    ["100 Mbit/s across an ocean, in small frames", { bytesPerMs: 12_500, latencyMs: 25 }, 4, 4, 700],
    ["4 Mbit/s by satellite, in small frames", { bytesPerMs: 500, latencyMs: 800 }, 16, 2, 12_000],
  ] as const)("F-7 is not held up: %s", async (_name, pace, kibibytes, mebibytes, withinMs) => {
    const hubs = await Federation.up(pace);
    const from = hubs.clock.mono();
    const stepMs = pace.latencyMs > 500 ? 20 : 1;
    let left = (mebibytes * KIB) / kibibytes;
    for (let spent = 0; spent < 3_000 && (left > 0 || hubs.took.b < mebibytes * KIB * KIB); spent++) {
      while (left > 0 && hubs.a.writable("b")) hubs.a.send("b", part(left--, kibibytes * KIB));
      await hubs.pass(stepMs, stepMs);
    }
    expect(hubs.events).toEqual(["a up", "b up"]);
    expect(hubs.took.b).toBeGreaterThanOrEqual(mebibytes * KIB * KIB);
    expect(hubs.last.b - from).toBeLessThan(withinMs);
  });
});
