import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, describe, expect, test } from "vitest";
import { RawMessage } from "#channel/call.ts";
import { failureToProto } from "#channel/failure.ts";
import { NARROW_WINDOW_BYTES, WIDE_WINDOW_BYTES } from "#channel/windows.ts";
import type { SessionOpenSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  type SessionFrame,
  SessionFrameSchema,
  type SessionRequest,
  type SessionResponse,
} from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { FoedusError } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { type DuplexPair, duplexPair } from "../../../test/fakes/duplex-pair.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { peerViewOf } from "../../../test/fakes/peer-view.ts";
import type { CallContext } from "../rpc/call.ts";
import { createPeerLinks, type PeerLinks } from "./peer-links.ts";
import { sessionCodec } from "./session-codec.ts";
import type { ControlInit } from "./session-stream.ts";

const METHOD = RegistrySyncService.method.session;
const codec = sessionCodec<SessionFrame>(METHOD);
type Wire = DuplexPair<SessionRequest, SessionResponse>;
type Open = NonNullable<Parameters<typeof create<typeof SessionOpenSchema>>[1]>;

const control = (frame: ControlInit): RawMessage => new RawMessage(codec.encode(codec.control({ frame })));
const segment = (mark: number, bytes = 1): RawMessage =>
  new RawMessage(
    codec.encode(create(SessionFrameSchema, { frame: { case: "segment", value: { segment: new Uint8Array(bytes).fill(mark) } } })),
  );

/** wordOf says what a frame is: that of a control frame, or the mark of a segment. */
function wordOf({ frame }: { frame?: SessionFrame | undefined }): string {
  if (frame?.frame.case === "control") {
    const { frame: common } = frame.frame.value;
    return common.case === "open" && common.value.second ? "open second" : (common.case ?? "");
  }
  return frame?.frame.case === "segment" ? `segment ${frame.frame.value.segment[0]}` : (frame?.frame.case ?? "");
}

/** Raw is a stream whose other end the test plays itself. */
interface Raw {
  readonly wire: Wire;
  readonly heard: string[];
  windowBytes: number;
  ended: string;
  widened: boolean;
}

function listen(raw: Raw, messages: AsyncIterable<{ frame?: SessionFrame | undefined }>): void {
  const read = async (): Promise<void> => {
    for await (const message of messages) raw.heard.push(wordOf(message));
    raw.ended = "ended";
  };
  read().catch((error: FoedusError) => {
    raw.ended = error.failure.reason;
  });
}

const newRaw = (): Raw => ({
  wire: duplexPair<SessionRequest, SessionResponse>(METHOD),
  heard: [],
  windowBytes: 0,
  ended: "",
  widened: false,
});

/** One hub, "b", with the links under test; its peer "a" is played by the test. */
class World {
  readonly clock = new ManualClock();
  readonly metrics = new Registry();
  readonly frames: string[] = [];
  readonly events: string[] = [];
  readonly told: string[] = [];
  /** Dials of the hub, in order. */
  readonly dials: Raw[] = [];
  readonly links: PeerLinks<SessionFrame>;

  constructor(two = true, dialable = false) {
    this.links = createPeerLinks<SessionFrame>({
      service: "registry-sync",
      method: METHOD,
      hubId: "b",
      incarnation: 3,
      packages: ["p"],
      software: "test",
      clock: this.clock,
      prng: new Prng(1),
      log: memoryLogger(),
      events: { report: ({ kind, severity, peer, text }) => this.told.push(`${kind} ${severity} ${peer} ${text}`) },
      metrics: this.metrics,
      two,
      connect: (_view, { windowBytes }) => {
        const raw = newRaw();
        raw.windowBytes = windowBytes;
        this.dials.push(raw);
        listen(raw, raw.wire.requests);
        return { session: () => raw.wire.client, close: () => undefined };
      },
      onUp: (peer) => this.events.push(`up ${peer}`),
      onDown: (peer, _session, { reason }) => this.events.push(`down ${peer} ${reason}`),
      onFrame: (_peer, _session, frame) => void this.frames.push(wordOf({ frame })),
    });
    this.links.setPeers(["a", "m"].map((hubId) => peerViewOf(hubId, dialable && hubId === "a", this.clock.wall())));
  }

  /** call opens a stream to the hub, as some peer with some certificate. */
  async call(open: Open, hubId = "a", thumbprint = "leaf"): Promise<Raw> {
    const raw = newRaw();
    listen(raw, raw.wire.client.responses);
    const caller = {
      kind: "peer",
      hubId,
      name: "hub",
      spiffeId: "",
      thumbprint,
      notAfterWall: Infinity,
      level: 3,
      role: 0,
      prefixes: [],
    } as const;
    const context: CallContext = {
      caller,
      method: METHOD,
      signal: new AbortController().signal,
      timeoutMs: undefined,
      token: { expiresAtWall: this.clock.wall() + 3_600_000, id: "t" },
      widen: () => {
        raw.widened = true;
      },
    };
    const done = this.links.accept(raw.wire.requests, raw.wire.out, context);
    done.catch(() => undefined);
    raw.wire.serve(done);
    raw.wire.client.send(control({ case: "open", value: { hubId, incarnation: 7n, n: 1n, packages: ["p"], credit: 1_000_000, ...open } }));
    await this.turn();
    return raw;
  }

  async turn(): Promise<void> {
    for (let i = 0; i < 8; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      this.clock.turn();
    }
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1_000) {
      this.clock.advance(Math.min(1_000, left));
      await this.turn();
    }
  }
}

const worlds: World[] = [];
function world(...args: ConstructorParameters<typeof World>): World {
  const made = new World(...args);
  worlds.push(made);
  return made;
}
afterEach(() => worlds.splice(0));

/** paired is a hub with a session of two streams that "a" dialled. */
async function paired(): Promise<{ hub: World; first: Raw; second: Raw }> {
  const hub = world();
  const first = await hub.call({ streams: 2 });
  const second = await hub.call({ streams: 2, second: true, credit: 0 });
  first.wire.client.send(control({ case: "ping", value: { n: 1n } }));
  await hub.turn();
  return { hub, first, second };
}

describe("F-0 a session of two streams, at its acceptor", () => {
  test("everything that the acceptor says but Credit and its first open is on the second stream, and the first is widened", async () => {
    const { hub, first, second } = await paired();
    expect(hub.events).toEqual(["up a"]);
    for (let mark = 1; mark <= 8; mark++) first.wire.client.send(segment(mark, 200_000));
    expect(hub.links.send("a", segment(9))).toBe(true);
    await hub.turn();
    expect(hub.frames).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((mark) => `segment ${mark}`));
    expect(first.heard).toEqual(["open", "credit"]);
    expect(second.heard).toEqual(["open second", "ping", "pong", "segment 9"]);
    expect([first.widened, second.widened]).toEqual([true, false]);
  });

  test("Credit on the second stream counts for what is sent on it", async () => {
    const { hub, second } = await paired();
    while (hub.links.writable("a")) hub.links.send("a", segment(1, 100_000));
    await hub.turn();
    const { length } = second.heard;
    expect(hub.links.send("a", segment(2, 100_000))).toBe(true);
    await hub.turn();
    expect(second.heard.length).toBe(length);
    second.wire.client.send(control({ case: "credit", value: { bytes: 500_000 } }));
    await hub.turn();
    expect(second.heard.at(-1)).toBe("segment 2");
  });

  test.each([
    ["another hub", { second: true, streams: 2 }, "m", "leaf"],
    ["another certificate of the same hub", { second: true, streams: 2 }, "a", "other leaf"],
    ["another session", { second: true, streams: 2, n: 2n }, "a", "leaf"],
    ["another incarnation", { second: true, streams: 2, incarnation: 8n }, "a", "leaf"],
  ])("no hijack: a second stream of %s is refused, and the right one still comes", async (_what, open, hubId, leaf) => {
    const hub = world();
    const first = await hub.call({ streams: 2 });
    const stranger = await hub.call(open, hubId, leaf);
    expect(stranger.heard).toEqual(["terminated"]);
    expect(first.heard).toEqual(["open"]);
    const second = await hub.call({ streams: 2, second: true });
    expect(second.heard).toEqual(["open second"]);
    const third = await hub.call({ streams: 2, second: true });
    expect(third.heard).toEqual(["terminated"]);
    first.wire.client.send(control({ case: "ping", value: { n: 1n } }));
    await hub.turn();
    expect(hub.events).toEqual(["up a"]);
  });

  test.each([
    ["operational", { streams: 0 }, true],
    ["that waits for its own second stream", { streams: 2 }, false],
  ] as const)(
    "A5 a session %s is never the second stream of another: it ends, and no link stays up without one",
    async (_what, open, up) => {
      const hub = world();
      const other = await hub.call(open);
      if (up) other.wire.client.send(control({ case: "ping", value: { n: 1n } }));
      await hub.turn();
      const first = await hub.call({ streams: 2, n: 2n });
      other.wire.client.send(
        control({ case: "open", value: { hubId: "a", incarnation: 7n, n: 2n, packages: ["p"], streams: 2, second: true } }),
      );
      await hub.turn();
      expect(other.heard.at(-1)).toBe("terminated");
      expect(first.heard).toEqual(["open"]);
      other.wire.cut();
      first.wire.cut();
      await hub.turn();
      expect(hub.events).toEqual(up ? ["up a", "down a INVALID_FIELD"] : []);
      expect(hub.links.status().map(({ session }) => session)).toEqual([undefined, undefined]);
    },
  );

  test("A5 a session of two streams ends when either of them asks to be a part of a third", async () => {
    for (const which of ["first", "second"] as const) {
      const pair = await paired();
      const waits = await pair.hub.call({ streams: 2, n: 2n });
      pair[which].wire.client.send(
        control({ case: "open", value: { hubId: "a", incarnation: 7n, n: 2n, packages: ["p"], streams: 2, second: true } }),
      );
      await pair.hub.turn();
      expect(pair.hub.events).toEqual(["up a", "down a INVALID_FIELD"]);
      expect(waits.heard).toEqual(["open"]);
    }
  });

  test("half-open pairs are bounded in number and in time, like streams", async () => {
    const hub = world();
    const firsts: Raw[] = [];
    for (let n = 1n; n <= 20n; n++) firsts.push(await hub.call({ streams: 2, n }));
    expect(firsts.filter(({ heard }) => heard[0] === "open").length).toBe(8);
    await hub.pass(11_000);
    expect(firsts.filter(({ heard }) => heard.at(-1) === "terminated").length).toBe(20);
    const late = await hub.call({ streams: 2, second: true });
    expect(late.heard).toEqual(["terminated"]);
    expect(hub.events).toEqual([]);
  });

  test("a frame on the first stream before the second stands ends the session", async () => {
    const hub = world();
    const first = await hub.call({ streams: 2 });
    first.wire.client.send(control({ case: "ping", value: { n: 1n } }));
    await hub.turn();
    expect(first.heard).toEqual(["open", "terminated"]);
    expect(hub.events).toEqual([]);
  });

  test.each(["first", "second"] as const)("when the %s stream breaks, the session ends as a whole, at once", async (which) => {
    const pair = await paired();
    pair[which].wire.cut();
    await pair.hub.turn();
    expect(pair.hub.events).toEqual(["up a", "down a PEER_UNREACHABLE"]);
    expect([pair.first.ended, pair.second.ended]).toEqual(["PEER_UNREACHABLE", "PEER_UNREACHABLE"]);
  });

  test.each(["first", "second"] as const)(
    "H2-2 bytes on the %s stream that are no frame end both, and the dialer hears why",
    async (which) => {
      const { hub, ...pair } = await paired();
      pair[which].wire.client.send(new RawMessage(Buffer.from([0xff, 0xff])));
      pair.first.wire.client.send(segment(1));
      await hub.turn();
      expect(hub.events).toEqual(["up a", "down a INVALID_FIELD"]);
      expect(hub.links.counters("mirror")[0]?.fatal).toBe(1);
      expect(pair.second.heard.at(-1)).toBe("terminated");
      // The dialer does as it is told.
      for (const { wire } of [pair.first, pair.second]) wire.client.end();
      await hub.turn();
      expect(hub.frames).toEqual([]);
      expect([pair.first.ended, pair.second.ended].sort()).toEqual(["INVALID_FIELD", "ended"]);
    },
  );

  test.each(["first", "second"] as const)("when only the %s stream ends in order, the other has five seconds", async (which) => {
    const pair = await paired();
    pair[which].wire.client.end();
    await pair.hub.pass(4_000);
    expect(pair.hub.events).toEqual(["up a"]);
    await pair.hub.pass(2_000);
    expect(pair.hub.events).toEqual(["up a", "down a PEER_UNREACHABLE"]);
  });

  test("the second stream may end before the goodbye on the first is read: the goodbye counts", async () => {
    const { hub, first, second } = await paired();
    second.wire.client.end();
    await hub.turn();
    const failure = failureToProto({ reason: "SHUTTING_DOWN", message: "bye" });
    first.wire.client.send(control({ case: "terminated", value: { failure, reconnect: true } }));
    first.wire.client.end();
    await hub.turn();
    expect(hub.events).toEqual(["up a", "down a SHUTTING_DOWN"]);
    expect([first.ended, second.ended]).toEqual(["ended", "ended"]);
  });

  test("a dialer of the version before has one stream, both ways", async () => {
    const hub = world();
    const first = await hub.call({});
    first.wire.client.send(control({ case: "ping", value: { n: 1n } }));
    await hub.turn();
    hub.links.send("a", segment(1));
    await hub.turn();
    expect(first.heard).toEqual(["open", "ping", "pong", "segment 1"]);
    expect(first.widened).toBe(false);
  });

  test("a service that needs only one stream does not offer two", async () => {
    const hub = world(false);
    const first = await hub.call({ streams: 2 });
    first.wire.client.send(control({ case: "ping", value: { n: 1n } }));
    await hub.turn();
    expect(hub.events).toEqual(["up a"]);
    expect(first.heard).toEqual(["open", "ping", "pong"]);
  });
});

/** answer plays the acceptor "a" on a dialled stream. */
function answer(raw: Raw | undefined, open: Open): void {
  raw?.wire.out.send(control({ case: "open", value: { hubId: "a", incarnation: 3n, n: 1n, packages: ["p"], credit: 1_000_000, ...open } }));
}

/** joined is a dialer whose session has both streams. */
async function joined(): Promise<World> {
  const hub = world(true, true);
  await hub.turn();
  answer(hub.dials[0], { streams: 2 });
  await hub.turn();
  answer(hub.dials[1], { second: true });
  await hub.turn();
  return hub;
}

describe("F-0 a session of two streams, at its dialer", () => {
  test("the open is said at once, before the acceptor's headers: some acceptors send none before it", async () => {
    const hub = world(true, true);
    await hub.turn();
    expect(hub.dials.map(({ heard }) => heard)).toEqual([["open"]]);
  });

  test("nothing is sent before both streams stand; then all but Credit goes on the first", async () => {
    const hub = world(true, true);
    await hub.turn();
    answer(hub.dials[0], { streams: 2 });
    await hub.turn();
    expect(hub.dials.map(({ heard, windowBytes }) => [heard, windowBytes])).toEqual([
      [["open"], NARROW_WINDOW_BYTES],
      [["open second"], WIDE_WINDOW_BYTES],
    ]);
    expect(hub.events).toEqual([]);
    answer(hub.dials[1], { second: true });
    await hub.turn();
    expect(hub.events).toEqual(["up a"]);
    hub.links.send("a", segment(1));
    for (let mark = 2; mark <= 8; mark++) hub.dials[1]?.wire.out.send(segment(mark, 200_000));
    await hub.turn();
    expect(hub.frames).toEqual([2, 3, 4, 5, 6, 7, 8].map((mark) => `segment ${mark}`));
    expect(hub.dials.map(({ heard }) => heard)).toEqual([
      ["open", "ping", "segment 1"],
      ["open second", "credit"],
    ]);
  });

  test("an acceptor of the version before has one stream, both ways", async () => {
    const hub = world(true, true);
    await hub.turn();
    answer(hub.dials[0], {});
    await hub.turn();
    hub.links.send("a", segment(1));
    hub.dials[0]?.wire.out.send(segment(2));
    await hub.turn();
    expect(hub.dials.map(({ heard }) => heard)).toEqual([["open", "ping", "segment 1"]]);
    expect(hub.frames).toEqual(["segment 2"]);
  });

  test.each([
    ["another session", { second: true, n: 2n }],
    ["another hub", { second: true, hubId: "m" }],
    ["no second open", {}],
  ])("a second stream that answers with %s ends the session", async (_what, open) => {
    const hub = world(true, true);
    await hub.turn();
    answer(hub.dials[0], { streams: 2 });
    await hub.turn();
    answer(hub.dials[1], open);
    await hub.turn();
    expect(hub.events).toEqual([]);
    expect(hub.dials[0]?.heard).toEqual(["open", "terminated"]);
  });

  test("a second stream that is not answered ends the session in the time of a handshake", async () => {
    const hub = world(true, true);
    await hub.turn();
    answer(hub.dials[0], { streams: 2 });
    await hub.pass(11_000);
    expect(hub.dials[0]?.heard).toEqual(["open", "terminated"]);
    expect(hub.events).toEqual([]);
  });

  test.each([0, 1])("H2-2 bytes on stream %i that are no frame end both, and the acceptor hears why", async (which) => {
    const hub = await joined();
    hub.dials[which]?.wire.out.send(new RawMessage(Buffer.from([0xff, 0xff])));
    hub.dials[1]?.wire.out.send(segment(1));
    await hub.turn();
    expect(hub.events).toEqual(["up a", "down a INVALID_FIELD"]);
    expect(hub.links.counters("mirror")[0]?.fatal).toBe(1);
    expect(hub.dials[0]?.heard.at(-1)).toBe("terminated");
    expect(hub.frames).toEqual([]);
    // An acceptor that does not end its half is cut.
    const open = (): number => hub.dials.slice(0, 2).filter(({ wire }) => !wire.out.closed).length;
    expect(open()).toBe(2);
    await hub.pass(5_000);
    expect(open()).toBe(0);
  });

  test.each([0, 1])("when stream %i breaks, the session ends as a whole, at once", async (which) => {
    const hub = await joined();
    hub.dials[which]?.wire.cut();
    await hub.turn();
    expect(hub.events).toEqual(["up a", "down a PEER_UNREACHABLE"]);
    expect(hub.dials[1 - which]?.ended).toBe("CANCELLED");
  });
});

describe("F-0 a peer of which the second connection cannot be opened", () => {
  const hubs = (): World => world(true, true);
  const openOf = async (hub: World, dial: number): Promise<void> => {
    for (let i = 0; i < 90 && hub.dials[dial] === undefined; i++) await hub.pass(1_000);
    await hub.turn();
    expect(hub.dials[dial]?.heard[0]).toBe("open");
  };
  /** half lets the first stream of a dial be answered, and its second one come to nothing. */
  const half = async (hub: World, dial: number, end: "cut" | "silence"): Promise<void> => {
    await openOf(hub, dial);
    answer(hub.dials[dial], { streams: 2, n: numberOf(hub, dial) });
    await hub.turn();
    expect(hub.dials[dial + 1]?.heard).toEqual(["open second"]);
    if (end === "cut") hub.dials[dial + 1]?.wire.cut();
    else await hub.pass(11_000);
    await hub.turn();
  };
  const one = async (hub: World, dial: number): Promise<void> => {
    await openOf(hub, dial);
    answer(hub.dials[dial], { n: numberOf(hub, dial) });
    await hub.turn();
  };
  /** A session is named by the number of its dial: the second streams have none. */
  const numberOf = (hub: World, dial: number): bigint =>
    BigInt(hub.dials.slice(0, dial + 1).filter(({ heard }) => heard[0] === "open").length);
  const streams = async (hub: World): Promise<number | undefined> =>
    (await hub.metrics.getSingleMetric("foedus_session_streams")?.get())?.values.find(({ labels }) => labels["peer"] === "a")?.value;

  test.each(["cut", "silence"] as const)("is dialled with one stream after the second time (%s), which is told", async (end) => {
    const hub = hubs();
    await half(hub, 0, end);
    expect(hub.told).toEqual([]);
    if (end === "cut") expect(hub.links.status()[0]?.failure?.message).toMatch(/^the second connection cannot be opened: /);
    await half(hub, 2, end);
    expect(hub.told).toEqual([
      expect.stringMatching(/^SESSION WARNING a the second connection to a cannot be opened \(.+\); sessions have one/),
    ]);
    await one(hub, 4);
    expect([hub.events, await streams(hub)]).toEqual([["up a"], 1]);
    hub.links.send("a", segment(1));
    hub.dials[4]?.wire.out.send(segment(2));
    await hub.turn();
    expect(hub.dials[4]?.heard.slice(0, 3)).toEqual(["open", "ping", "segment 1"]);
    expect(hub.frames).toEqual(["segment 2"]);
    expect(hub.dials.map(({ windowBytes }) => windowBytes)[4]).toBe(NARROW_WINDOW_BYTES);
  });

  test("gets a second stream again when one can be opened later, and one failure is enough to go back", async () => {
    const hub = hubs();
    /** later is the number of a dial after so long, of those that nobody answers. */
    const later = async (ms: number): Promise<number> => {
      await hub.pass(ms);
      const next = hub.dials.length;
      await openOf(hub, next);
      return next;
    };
    await half(hub, 0, "cut");
    await half(hub, 2, "cut");
    const third = await later(600_000);
    await half(hub, third, "cut");
    await one(hub, third + 2);
    hub.dials[third + 2]?.wire.cut();
    const fourth = await later(600_000);
    answer(hub.dials[fourth], { streams: 2, n: numberOf(hub, fourth) });
    await hub.turn();
    answer(hub.dials[fourth + 1], { second: true, n: numberOf(hub, fourth) });
    await hub.turn();
    expect([hub.events, await streams(hub)]).toEqual([["up a", "down a PEER_UNREACHABLE", "up a"], 2]);
  });

  test("a peer that ends with both streams is dialled with two again", async () => {
    const hub = hubs();
    for (const dial of [0, 2, 4]) {
      await openOf(hub, dial);
      answer(hub.dials[dial], { streams: 2, n: numberOf(hub, dial) });
      await hub.turn();
      hub.dials[dial]?.wire.cut();
      hub.dials[dial + 1]?.wire.cut();
      await hub.turn();
    }
    expect(hub.told).toEqual([]);
  });
});
