import { readdirSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkTranscript, type Step } from "../../../test/datadriven/index.ts";
import { SessionWorld, sessionConfig } from "../../../test/fakes/session-world.ts";
import type { Failure, Reason } from "../error.ts";
import { Prng } from "../prng.ts";
import { PeerSessions } from "./machine.ts";
import { type SessionEffect, type SessionInput, showId } from "./rules.ts";

const WALL = 1_800_000_000_000;
const TESTDATA = join(import.meta.dirname, "testdata");

function show(effect: SessionEffect): string {
  switch (effect.kind) {
    case "send_control": {
      const { frame } = effect;
      const detail = frame.case === "open" ? ` ${showId(frame.id)}` : frame.case === "refresh" ? "" : ` ${frame.n}`;
      return `send #${effect.streamId} ${frame.case}${detail}`;
    }
    case "close":
      return `close #${effect.streamId} ${effect.failure.reason} reconnect=${effect.reconnect}`;
    case "up":
      return `up ${effect.peer} ${showId(effect.session.id)} #${effect.session.streamId}${effect.replaced === undefined ? "" : ` replaces #${effect.replaced.streamId}`}`;
    case "down":
      return `down ${effect.peer} #${effect.session.streamId} ${effect.failure.reason} retry=${effect.willRetry}`;
    case "dial":
      return `dial ${effect.peer} #${effect.streamId}`;
    case "answered":
      return `answered ${effect.peer} #${effect.streamId} rtt=${effect.rttMs}`;
    case "state":
      return `state ${effect.peer} ${effect.state}`;
  }
}

/** Bench runs the commands of a transcript against one state machine without jitter. */
class Bench {
  #mono = 0;
  #fsm: PeerSessions | undefined;

  run({ words, args }: Step): string {
    const [command, subject] = words as [string, string | undefined];
    if (command === "hub") {
      const flags = { needsToken: words.includes("token"), synchronises: words.includes("sync"), minLevel: Number(args["level"] ?? 1) };
      this.#fsm = new PeerSessions(sessionConfig(subject ?? "a", 7, flags), new Prng(1), {
        baseMs: 2_000,
        maxMs: 60_000,
        factor: 2,
        jitter: 0,
      });
      return "";
    }
    const fsm = this.#fsm as PeerSessions;
    if (command === "describe") return fsm.describe();
    if (command === "pass") return this.#pass(Number(args["ms"]));
    if (command === "heard") return String(fsm.heard(Number(args["stream"]), this.#mono));
    const out: SessionEffect[] = [];
    fsm.step(this.#now(), this.#input(command, subject, args), out);
    return out.map(show).join("\n");
  }

  #now(): { mono: number; wall: number } {
    return { mono: this.#mono, wall: WALL + this.#mono };
  }

  #pass(ms: number): string {
    const fsm = this.#fsm as PeerSessions;
    const end = this.#mono + ms;
    const lines: string[] = [];
    for (let rounds = 0; rounds < 1_000; rounds++) {
      const due = fsm.deadline();
      if (due === undefined || due > end) break;
      this.#mono = Math.max(this.#mono, due);
      const out: SessionEffect[] = [];
      fsm.tick(this.#now(), out);
      lines.push(...out.map((effect) => `${this.#mono} ${show(effect)}`));
    }
    this.#mono = end;
    return lines.join("\n");
  }

  #input(command: string, subject: string | undefined, args: Readonly<Record<string, string>>): SessionInput {
    const streamId = args["stream"] === "new" ? (this.#fsm as PeerSessions).allocate() : Number(args["stream"]);
    const failure: Failure = { reason: (args["reason"] ?? "PEER_UNREACHABLE") as Reason, message: "by the transcript" };
    const expiresAtWall = args["token"] === undefined ? 0 : WALL + Number(args["token"]);
    const peer = subject ?? "";
    const n = Number(args["n"] ?? 0);
    const reconnect = args["reconnect"] !== "false";
    switch (command) {
      case "want":
        return { kind: "peer_wanted", peer, dialable: args["dialable"] !== "false", level: Number(args["level"] ?? 3), expiresAtWall };
      case "remove":
        return { kind: "peer_removed", peer };
      case "terminate":
        return { kind: "peer_terminated", peer };
      case "opened":
        return { kind: "dial_opened", streamId };
      case "inbound":
        return { kind: "inbound_opened", streamId, peer, expiresAtWall };
      case "open":
        return {
          kind: "open_received",
          streamId,
          hubId: peer,
          incarnation: Number(args["inc"]),
          n,
          packages: [args["speaks"] ?? "foedus.test.v1"],
        };
      case "ping":
        return { kind: "ping_received", streamId, n };
      case "pong":
        return { kind: "pong_received", streamId, n };
      case "frame":
        return { kind: "frame_received", streamId };
      case "terminated":
        return { kind: "terminated_received", streamId, failure, reconnect };
      case "ended":
        return { kind: "stream_ended", streamId, failure };
      case "refreshed":
        return { kind: "token_refreshed", streamId, expiresAtWall };
      case "violated":
        return { kind: "violated", streamId, failure, reconnect };
      case "wake":
      case "redial":
      case "synced":
        return { kind: command, peer };
      case "stop":
        return { kind: "stop" };
      default:
        throw new Error(`no such command: ${command}`);
    }
  }
}

test("A5 only a stream that has said nothing becomes the other half of a session", () => {
  const fsm = new PeerSessions(sessionConfig("b", 7, { needsToken: false, synchronises: false, minLevel: 1 }), new Prng(1));
  const step = (input: SessionInput): void => fsm.step({ mono: 0, wall: WALL }, input, []);
  step({ kind: "peer_wanted", peer: "a", dialable: false, level: 3, expiresAtWall: 0, leaf: undefined });
  const inbound = (): number => {
    const streamId = fsm.allocate();
    step({ kind: "inbound_opened", streamId, peer: "a", expiresAtWall: 0 });
    return streamId;
  };
  const streamId = inbound();
  expect(fsm.mayJoin(streamId)).toBe(true);
  step({ kind: "open_received", streamId, hubId: "a", incarnation: 1, n: 1, packages: ["foedus.test.v1"] });
  expect(fsm.mayJoin(streamId)).toBe(false);
  expect(() => step({ kind: "joined", streamId })).toThrow("a session is no half of another");
  step({ kind: "ping_received", streamId, n: 1 });
  expect(fsm.status("a")?.state).toBe("OPERATIONAL");
  expect(fsm.mayJoin(streamId)).toBe(false);
  expect(() => step({ kind: "joined", streamId })).toThrow("a session is no half of another");
  const other = inbound();
  step({ kind: "joined", streamId: other });
  expect(fsm.mayJoin(other)).toBe(false);
  step({ kind: "stream_ended", streamId, failure: { reason: "PEER_UNREACHABLE", message: "gone" } });
  expect(fsm.status("a")).toMatchObject({ state: "RECOVERING", current: undefined });
});

test("a token for a renewed certificate is neither said on a session that shows the old one nor counted for it", () => {
  const fsm = new PeerSessions(sessionConfig("a", 7, { needsToken: true, synchronises: false, minLevel: 1 }), new Prng(1));
  let mono = 0;
  const now = () => ({ mono, wall: WALL + mono });
  const step = (input: SessionInput): SessionEffect[] => {
    const out: SessionEffect[] = [];
    fsm.step(now(), input, out);
    fsm.tick(now(), out);
    for (const effect of out)
      if (effect.kind === "send_control" && effect.frame.case === "ping")
        fsm.step(now(), { kind: "pong_received", streamId: effect.streamId, n: effect.frame.n }, out);
    return out;
  };
  const want = (tokenMs: number, leaf: string) =>
    step({ kind: "peer_wanted", peer: "b", dialable: true, level: 3, expiresAtWall: WALL + tokenMs, leaf });
  const dial = want(60_000, "old").find((effect) => effect.kind === "dial");
  const streamId = dial?.streamId ?? 0;
  step({ kind: "dial_opened", streamId });
  step({ kind: "open_received", streamId, hubId: "b", incarnation: 7, n: streamId, packages: ["foedus.test.v1"] });
  expect(fsm.status("b")?.state).toBe("OPERATIONAL");
  const said = (out: SessionEffect[]) => out.some((effect) => effect.kind === "send_control" && effect.frame.case === "refresh");
  expect(said(want(120_000, "old"))).toBe(true);
  expect(said(want(3_600_000, "new"))).toBe(false);
  let closed = false;
  for (; mono < 160_000 && !closed; mono += 1_000) closed = step({ kind: "frame_received", streamId }).some(({ kind }) => kind === "close");
  // With the token that it was told of, and the grace after it.
  expect([mono > 150_000, mono < 155_000]).toEqual([true, true]);
});

describe("peer sessions, by transcript", () => {
  const files = readdirSync(TESTDATA).filter((name) => name.startsWith("session-"));

  test("there are transcripts", () => expect(files.length).toBeGreaterThanOrEqual(5));

  test.each(files)("%s", async (name) => {
    const bench = new Bench();
    expect(await checkTranscript(join(TESTDATA, name), (step) => bench.run(step))).toBeGreaterThan(3);
  });
});

interface Chaos {
  readonly afterMs: number;
  readonly hub: "a" | "b";
  readonly what: "cut" | "half" | "restart" | "half-restart" | "partition" | "heal" | "terminate" | "enable" | "redial" | "wake";
}

const chaos = fc.array(
  fc.record({
    afterMs: fc.integer({ min: 0, max: 20_000 }),
    hub: fc.constantFrom("a" as const, "b" as const),
    what: fc.constantFrom<Chaos["what"]>(
      "cut",
      "half",
      "restart",
      "half-restart",
      "partition",
      "heal",
      "terminate",
      "enable",
      "redial",
      "wake",
    ),
  }),
  { maxLength: 25 },
);

function happen(world: SessionWorld, { hub, what }: Chaos, index: number): void {
  const peer = hub === "a" ? "b" : "a";
  switch (what) {
    case "cut":
    case "half":
      return world.cut(hub, index, what === "half");
    case "restart":
    case "half-restart":
      return world.restart(hub, what === "half-restart");
    case "partition":
    case "heal":
      world.partitioned = what === "partition";
      return;
    case "terminate":
      return world.step(world.hub(hub), { kind: "peer_terminated", peer });
    case "enable":
      return world.want(hub, peer, world.hub(hub).dialable);
    default:
      return world.step(world.hub(hub), { kind: what, peer });
  }
}

/** checkHistory holds SM3 against what a hub told its service. */
function checkHistory(world: SessionWorld, hub: string): void {
  let current: number | undefined;
  for (const { effect, hub: at } of world.events) {
    if (at !== hub) continue;
    if (effect.kind === "up") {
      // A restarted hub forgets without a word, so only a claim to replace can be checked.
      if (effect.replaced !== undefined) expect(effect.replaced.streamId).toBe(current);
      current = effect.session.streamId;
    } else if (effect.kind === "down") {
      expect(effect.session.streamId).toBe(current);
      current = undefined;
    }
  }
}

describe("frames of sessions that were replaced", () => {
  /** A hub that its peer dials: it sends opens by hand. */
  const stage = () => {
    const fsm = new PeerSessions(sessionConfig("a", 1), new Prng(1));
    const out: SessionEffect[] = [];
    const now = { mono: 0, wall: WALL };
    const step = (input: SessionInput): void => fsm.step({ ...now }, input, out);
    step({ kind: "peer_wanted", peer: "b", dialable: false, level: 3, expiresAtWall: 0 });
    const open = (incarnation: number, n: number): number => {
      const streamId = fsm.allocate();
      step({ kind: "inbound_opened", streamId, peer: "b", expiresAtWall: 0 });
      step({ kind: "open_received", streamId, hubId: "b", incarnation, n, packages: ["foedus.test.v1"] });
      step({ kind: "frame_received", streamId });
      return streamId;
    };
    return { fsm, step, open, out };
  };

  test("F-28 what comes on the older session after a frame on the newer is not taken, by number and by incarnation", () => {
    for (const [incarnation, n] of [
      [1, 2],
      [2, 1],
    ] as const) {
      const { fsm, open } = stage();
      const older = open(1, 1);
      expect(fsm.frameOn(older)).toMatchObject({ streamId: older });
      const newer = open(incarnation, n);
      // Nothing came on the newer one yet: what the peer sent before it moved still counts.
      expect(fsm.frameOn(older)).toMatchObject({ streamId: older });
      expect(fsm.overtaken(older)).toBe(false);
      expect(fsm.frameOn(newer)).toMatchObject({ streamId: newer });
      expect(fsm.frameOn(older)).toBeUndefined();
      expect([fsm.overtaken(older), fsm.overtaken(newer)]).toEqual([true, false]);
    }
  });

  test("a peer whose newer session ends may go back to the older one", () => {
    const { fsm, step, open } = stage();
    const [older, newer] = [open(1, 1), open(1, 2)];
    fsm.frameOn(newer);
    step({ kind: "stream_ended", streamId: newer, failure: { reason: "PEER_UNREACHABLE", message: "cut" } });
    expect(fsm.frameOn(older)).toMatchObject({ streamId: older });
  });

  test("SM11 an older session of which frames were not taken ends with the newer one: what it lacks would never come", () => {
    const { fsm, step, open, out } = stage();
    const [older, newer] = [open(1, 1), open(1, 2)];
    fsm.frameOn(newer);
    // The peer has lost the newer one, and has gone back; here nothing tells so.
    expect(fsm.frameOn(older)).toBeUndefined();
    step({ kind: "probe", peer: "b" });
    expect(out.some((effect) => effect.kind === "close")).toBe(false);
    step({ kind: "stream_ended", streamId: newer, failure: { reason: "PEER_UNREACHABLE", message: "cut" } });
    expect(out.filter((effect) => effect.kind === "close")).toMatchObject([{ streamId: older, reconnect: true }]);
    expect(fsm.current("b")).toBeUndefined();
  });

  test("D-17 a peer that lost the session of the smaller hub id is heard on the one that it dials then, before this hub knows of the loss", () => {
    const { fsm, step, open, out } = stage();
    step({ kind: "peer_wanted", peer: "b", dialable: true, level: 3, expiresAtWall: WALL + 3_600_000 });
    const dial = out.find((effect) => effect.kind === "dial");
    if (dial?.kind !== "dial") throw new Error("nothing was dialled");
    const { streamId: lost, id } = dial;
    step({ kind: "dial_opened", streamId: lost });
    step({ kind: "open_received", streamId: lost, hubId: "b", incarnation: id.incarnation, n: id.n, packages: ["foedus.test.v1"] });
    expect(fsm.frameOn(lost)).toMatchObject({ streamId: lost });
    // The peer's end of it is gone; here nothing tells so until a ping has no answer.
    const later = open(1, 1);
    expect(fsm.frameOn(later)).toMatchObject({ streamId: later });
    // What was under way on the lost one is older than that.
    expect(fsm.frameOn(lost)).toBeUndefined();
    expect([fsm.overtaken(lost), fsm.overtaken(later)]).toEqual([true, false]);
    expect(fsm.frameOn(later)).toMatchObject({ streamId: later });
  });

  test("F-28 of two sessions that began together the one that stays has the newer frames", () => {
    const { fsm, step, open, out } = stage();
    step({ kind: "peer_wanted", peer: "b", dialable: true, level: 3, expiresAtWall: WALL + 3_600_000 });
    const dial = out.find((effect) => effect.kind === "dial");
    if (dial?.kind !== "dial") throw new Error("nothing was dialled");
    const { streamId: stays, id } = dial;
    const goes = open(1, 1);
    step({ kind: "dial_opened", streamId: stays });
    step({ kind: "open_received", streamId: stays, hubId: "b", incarnation: id.incarnation, n: id.n, packages: ["foedus.test.v1"] });
    expect(fsm.frameOn(stays)).toMatchObject({ streamId: stays });
    expect(fsm.frameOn(goes)).toBeUndefined();
  });

  test("F-28 whatever arrives when, of one dialer frames are taken in the order of its sessions", () => {
    const arrival = fc.record({ session: fc.nat(3), opens: fc.boolean() });
    fc.assert(
      fc.property(fc.array(arrival, { maxLength: 40 }), (arrivals) => {
        const { fsm, open } = stage();
        const streams: number[] = [];
        let newest = -1;
        for (const { session, opens } of arrivals) {
          if (opens && streams.length < 4) streams.push(open(1, streams.length + 1));
          const streamId = streams[session];
          if (streamId === undefined || fsm.frameOn(streamId) === undefined) continue;
          expect(session).toBeGreaterThanOrEqual(newest);
          newest = session;
        }
      }),
    );
  });
});

describe("two hubs", () => {
  test("D-17 after any sequence of failures both use the same one session", () => {
    fc.assert(
      fc.property(fc.integer(), chaos, fc.constantFrom("both", "a", "b"), (seed, events, dialers) => {
        const world = new SessionWorld(seed);
        for (const hub of ["a", "b"]) world.addHub(hub);
        for (const [hub, peer] of [["a", "b"] as const, ["b", "a"] as const]) {
          world.hub(hub).dialable = dialers === "both" || dialers === hub;
          world.want(hub, peer, world.hub(hub).dialable);
        }
        events.forEach((event, index) => {
          world.run(event.afterMs);
          happen(world, event, index);
        });
        world.partitioned = false;
        for (const [hub, peer] of [["a", "b"] as const, ["b", "a"] as const]) world.want(hub, peer, world.hub(hub).dialable);
        world.run(300_000);
        expect(world.current("a", "b"), world.describe()).toBeDefined();
        expect(world.current("a", "b"), world.describe()).toBe(world.current("b", "a"));
        expect(world.openWires(), world.describe()).toBe(1);
        checkHistory(world, "a");
        checkHistory(world, "b");
      }),
      { numRuns: 400 },
    );
  });

  test("D-17 hubs that dial each other at the same time never lose their session to the choice between two", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 4_000 }), fc.integer({ min: 0, max: 3_000 }), (seed, maxDelayMs, laterMs) => {
        const world = new SessionWorld(seed, maxDelayMs);
        world.addHub("a", { connectTimeoutMs: 30_000, handshakeTimeoutMs: 30_000 });
        world.addHub("b", { connectTimeoutMs: 30_000, handshakeTimeoutMs: 30_000 });
        world.want("a", "b");
        world.run(laterMs);
        world.want("b", "a");
        world.run(90_000);
        world.step(world.hub("a"), { kind: "redial", peer: "b" });
        world.step(world.hub("b"), { kind: "redial", peer: "a" });
        world.run(90_000);
        const downs = world.events.filter(({ effect }) => effect.kind === "down");
        const early = downs.filter(({ at }) => at > laterMs + 4 * maxDelayMs);
        expect(early).toEqual([]);
        expect(world.current("a", "b")).toBeDefined();
        expect(world.current("a", "b")).toBe(world.current("b", "a"));
        expect(world.openWires()).toBe(1);
      }),
      { numRuns: 300 },
    );
  });

  test("S0-7 B0-1 a peer that is away is dialled with growing waits, not in a tight loop", () => {
    const world = new SessionWorld(1);
    world.addHub("a");
    world.addHub("b");
    world.hub("a").dialable = false;
    // The network refuses every dial of a, at once.
    world.want("a", "b", true);
    world.run(3_600_000);
    const dials = world.events.filter(({ effect, hub }) => hub === "a" && effect.kind === "dial");
    expect(dials.length).toBeGreaterThan(58);
    expect(dials.length).toBeLessThan(95);
  });

  test("the same seed gives the same history", () => {
    const history = (): string => {
      const world = new SessionWorld(42);
      world.addHub("a");
      world.addHub("b");
      world.want("a", "b");
      world.want("b", "a");
      world.run(20_000);
      world.cut("a", 0, true);
      world.run(100_000);
      return world.events.map(({ at, hub, effect }) => `${at} ${hub} ${show(effect)}`).join("\n");
    };
    expect(history()).toBe(history());
    expect(history()).toContain("up a");
  });
});

describe("a hub whose sessions another process with its keys takes", () => {
  /** displaced dials, comes up and is replaced after a second, again and again, and gives the waits between the dials. */
  function displaced(rounds: number, lastsMs = 1_000): number[] {
    const fsm = new PeerSessions(sessionConfig("b", 7, {}), new Prng(1), { baseMs: 2_000, maxMs: 60_000, factor: 2, jitter: 0 });
    const dialled: number[] = [];
    let mono = 0;
    const step = (input: SessionInput | undefined): void => {
      const out: SessionEffect[] = [];
      const now = { mono, wall: WALL + mono };
      if (input === undefined) fsm.tick(now, out);
      else fsm.step(now, input, out);
      for (const effect of out) {
        if (effect.kind === "dial") {
          dialled.push(mono);
          const { id, streamId } = effect;
          step({ kind: "dial_opened", streamId });
          step({ kind: "open_received", streamId, hubId: "a", incarnation: id.incarnation, n: id.n, packages: ["foedus.test.v1"] });
        } else if (effect.kind === "send_control" && effect.frame.case === "ping")
          step({ kind: "pong_received", streamId: effect.streamId, n: effect.frame.n });
        else if (effect.kind === "close") step({ kind: "stream_ended", streamId: effect.streamId, failure: effect.failure });
      }
    };
    step({ kind: "peer_wanted", peer: "a", dialable: true, level: 3, expiresAtWall: 0 });
    while (dialled.length <= rounds) {
      const from = dialled.at(-1)!;
      for (let due = fsm.deadline(); due !== undefined && due < from + lastsMs; due = fsm.deadline()) {
        mono = Math.max(mono, due);
        step(undefined);
      }
      mono = from + lastsMs;
      const { streamId } = fsm.current("a")!;
      const failure: Failure = { reason: "SESSION_REPLACED", message: "a newer session between the same hubs took over" };
      step({ kind: "terminated_received", streamId, failure, reconnect: false });
      mono = fsm.deadline()!;
      step(undefined);
    }
    return dialled.slice(1).map((at, i) => at - dialled[i]! - lastsMs);
  }

  test("F-8 F-23 dials less and less often", () => {
    expect(displaced(7)).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  });

  test("F-23 dials as usual again after a session that lasted", () => {
    expect(displaced(3, 60_000)).toEqual([2_000, 2_000, 2_000]);
  });
});
