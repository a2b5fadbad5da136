import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import type { PeerFrame } from "../messages.ts";

const PEERS = [
  { hubId: "beta", share: "full", level: 2 },
  { hubId: "gamma", share: "full", level: 3 },
];

function hubs() {
  const clock = new Instants();
  const a = new TestHub("alpha", clock, { ringSegments: 8, leaseMs: 1_000_000 });
  const others = ["beta", "gamma"].map((id) => new TestHub(id, clock));
  a.post({ kind: "peers", peers: PEERS, complete: true });
  for (const hub of others) hub.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  return { clock, a, b: others[0]!, c: others[1]! };
}

const epochOf = (hub: TestHub): number => hub.core.heads("beta")[0]!.epoch;
const ids = (hub: TestHub): string[] => hub.ask({ hubIds: ["alpha"] }).map(({ name }) => name.nodeId);

/** restored is alpha from a backup of its disk: what came after it is gone, and something else has come. */
function restored(a: TestHub, disk: TestHub["disk"], clock: Instants): TestHub {
  const hub = new TestHub("alpha", clock, { ringSegments: 8 }, disk);
  hub.post({ kind: "peers", peers: PEERS, complete: true });
  hub.register(nodeBytes("new", []));
  hub.settle();
  expect(epochOf(hub)).toBeLessThanOrEqual(epochOf(a));
  return hub;
}

/** lose gives alpha a backup that does not know what beta holds: by a segment, or by a snapshot. */
function lose(how: "segment" | "snapshot") {
  const { clock, a, b, c } = hubs();
  a.register(nodeBytes("kept", []));
  a.settle();
  const backup = a.disk.copy();
  const link = new TestLink(a, b);
  if (how === "segment") settleAll([a, b], [link]);
  // More than the ring holds is a snapshot for whoever comes then.
  for (let i = 0; i < 20; i++) {
    a.register(nodeBytes(`lost-${i}`, []));
    a.settle();
  }
  settleAll([a, b], [link]);
  link.down();
  expect(ids(b)).toHaveLength(21);
  return { clock, a: restored(a, backup, clock), before: a, b, c };
}

describe("F-4 a hub that lost its store", () => {
  test.each(["segment", "snapshot"] as const)(
    "is taken again by a peer that shows what it holds by a %s, also after its restart",
    (how) => {
      for (const restart of [false, true]) {
        const { a, before, b: first } = lose(how);
        const b = restart ? first.crash() : first;
        b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
        const link = new TestLink(a, b);
        settleAll([a, b], [link]);
        expect(ids(b)).toEqual(["kept", "new"]);
        expect(epochOf(a)).toBe(epochOf(before) + 1);
        expect(b.events.filter(({ text }) => text === "a peer's feed was deleted")).toEqual([]);
      }
    },
  );

  test("is taken again by a peer of the version before, which shows nothing, and opens no epoch for it", () => {
    const { clock, a, before, b } = lose("segment");
    const link = new TestLink(a, b);
    const older = (frame: PeerFrame): number => {
      if (frame.type === "feed_open") delete (frame as { proof?: unknown }).proof;
      return 1;
    };
    settleAll([a, b], [link], older);
    clock.advance(100);
    settleAll([a, b], [link], older);
    expect(ids(b)).toEqual(["kept", "new"]);
    expect(epochOf(a)).toBe(epochOf(before));
  });
});

describe("F-4 a peer that only says that it knows more", () => {
  const digest = new Uint8Array(32).fill(7);
  const claims: [string, (epoch: number, seq: number) => PeerFrame][] = [
    ["of an epoch as high as there are", () => open(2 ** 48, 1)],
    ["of the next epoch", (epoch) => open(epoch + 1, 1)],
    ["of a later position", (epoch, seq) => open(epoch, seq + 5)],
    ["of another history", (epoch, seq) => open(epoch, seq)],
    ["by calling a fork", (epoch, seq) => ({ ...refusal("FEED_FORK"), held: { ...at(epoch, seq) } })],
  ];
  const at = (epoch: number, seq: number) => ({ hubId: "alpha", share: "full", epoch, seq, digest });
  const open = (epoch: number, seq: number): PeerFrame => ({ type: "feed_open", from: at(epoch, seq), heldParts: [] });

  test.each(claims)("%s: others notice nothing, no epoch is opened, and it is told to forget once in a while", (_what, claim) => {
    const { clock, a, c } = hubs();
    a.register(nodeBytes("n", []));
    const link = new TestLink(a, c);
    settleAll([a, c], [link]);
    a.post({ kind: "session_up", session: 999, peer: "beta", creditBytes: 1 << 20 });
    const before = a.core.heads("beta")[0]!;
    const sent = new Map<number, number>();
    for (let i = 0; i < 1_000; i++) {
      const { epoch, seq } = a.core.heads("beta")[0]!;
      a.post({ kind: "frame", session: 999, frame: claim(epoch, seq) });
      a.post({ kind: "frame", session: 999, frame: { type: "forget_done", share: "full" } });
      a.settle();
      clock.advance(100);
      a.settle();
      for (const { session } of a.outbox.splice(0)) sent.set(session, (sent.get(session) ?? 0) + 1);
    }
    expect(a.core.heads("beta")).toEqual([before]);
    expect(sent.get(link.id) ?? 0).toBe(0);
    expect(sent.get(999)).toBeLessThan(40);
    expect(a.events.filter(({ severity }) => severity === "WARNING").length).toBeLessThan(5);
  });
});

function refusal(reason: "FEED_FORK" | "FEED_KEY_INVALID" | "SEGMENT_INVALID" | "LIMIT_EXCEEDED" | "FEED_GAP") {
  return { type: "nack", failure: { reason, message: "no" }, wantSnapshot: false } as const;
}

describe("F-8 what a peer refuses", () => {
  const nothing = { hubId: "alpha", share: "", epoch: 0, seq: 0, digest: new Uint8Array(0) };
  const answer = fc.oneof(
    fc.record({
      kind: fc.constant("nack" as const),
      reason: fc.constantFrom("FEED_FORK", "FEED_KEY_INVALID", "SEGMENT_INVALID", "LIMIT_EXCEEDED", "FEED_GAP"),
      held: fc.boolean(),
      wantSnapshot: fc.boolean(),
    }),
    fc.record({ kind: fc.constantFrom("open" as const, "wrong" as const, "forgot" as const) }),
  );

  test("is not tried more often than the back-off allows, whatever it answers and however fast", () => {
    fc.assert(
      fc.property(fc.array(answer, { minLength: 1, maxLength: 4 }), (answers) => {
        fc.pre(answers.some(({ kind }) => kind === "nack"));
        const { clock, a } = hubs();
        a.register(nodeBytes("n", []));
        a.settle();
        a.post({ kind: "session_up", session: 999, peer: "beta", creditBytes: 1 << 24 });
        let sent = 0;
        // A minute in which whatever is sent is answered at once.
        for (let ms = 0; ms < 60_000; ms += 20) {
          a.settle();
          const frames = a.outbox.splice(0);
          sent += frames.length;
          for (let i = 0; i < frames.length; i++) {
            const how = answers[(sent + i) % answers.length]!;
            const head = a.core.heads("beta")[0]!;
            const frame: PeerFrame =
              how.kind === "nack"
                ? { ...refusal(how.reason as "FEED_GAP"), wantSnapshot: how.wantSnapshot, held: how.held ? head : nothing }
                : how.kind === "forgot"
                  ? { type: "forget_done", share: "full" }
                  : {
                      type: "feed_open",
                      from: how.kind === "open" ? { ...nothing, share: "full" } : { ...nothing, epoch: 1, share: "x" },
                      heldParts: [],
                    };
            a.post({ kind: "frame", session: 999, frame });
          }
          clock.advance(20);
        }
        // 100 ms, twice as long each time, make ten tries in a minute, of some frames each: until it refuses, whoever asks anew is sent the
        // snapshot that is there, whose bytes have a bound of their own (PROTOCOL O14).
        expect(sent).toBeLessThan(150);
        expect(a.events.filter(({ severity }) => severity === "WARNING" || severity === "ERROR").length).toBeLessThan(60);
      }),
      { numRuns: 50 },
    );
  });

  test("makes trouble that is told of, once, until it is taken", () => {
    const { clock, a } = hubs();
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    a.post({ kind: "session_up", session: 999, peer: "beta", creditBytes: 1 << 24 });
    a.settle();
    const told = () => a.others.splice(0).flatMap((effect) => (effect.kind === "trouble" ? [effect.failure?.reason] : []));
    const nack = (): void => a.post({ kind: "frame", session: 999, frame: { ...refusal("LIMIT_EXCEEDED"), held: nothing } });
    for (let i = 0; i < 5; i++) nack();
    expect(told()).toEqual(["LIMIT_EXCEEDED"]);
    const head = a.core.heads("beta")[0]!;
    a.post({ kind: "frame", session: 999, frame: { type: "feed_open", from: { ...nothing, share: "full" }, heldParts: [] } });
    clock.advance(60_000);
    a.settle();
    a.post({ kind: "frame", session: 999, frame: { type: "ack", position: head } });
    expect(told()).toEqual([undefined]);
    expect(a.events.filter(({ event, severity }) => event === "segment_refused" && severity === "WARNING")).toHaveLength(1);
  });
});

describe("F-4 a forked feed", () => {
  test("stays frozen whatever snapshot of that epoch comes, also after a restart, until its owner opens a higher one", () => {
    const { a, b, c } = hubs();
    a.register(nodeBytes("lamp", []));
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    const [head] = a.core.heads("beta");
    const signed: PeerFrame[] = [];
    const other = new TestLink(a, c);
    settleAll([a, c], [other], (frame) => {
      if (frame.type === "snapshot" || frame.type === "snapshot_part") signed.push(frame);
      return 1;
    });
    expect(signed.length).toBeGreaterThan(1);
    b.post({ kind: "heads", session: link.id, heads: [{ ...head!, digest: new Uint8Array(32) }], rttMs: 2 });
    for (const frame of signed) b.post({ kind: "frame", session: link.id, frame });
    b.settle();
    expect(b.core.describe()).toContain("FROZEN");
    link.down();
    const after = b.crash();
    after.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    expect(after.core.describe()).toContain("FROZEN");
    a.post({ kind: "own_key", serial: 1, revoked: true });
    a.register(nodeBytes("door", []));
    settleAll([a, after], [new TestLink(a, after)]);
    expect(after.core.describe()).not.toContain("FROZEN");
    expect(ids(after)).toEqual(["door", "lamp"]);
    expect(after.crash().core.describe()).not.toContain("FROZEN");
  });

  test.each([0, 40])("is taken anew, in the same epoch, where its owner does not see a fork: %i segments later", (more) => {
    const { clock, a, b } = hubs();
    a.register(nodeBytes("lamp", []));
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    const before = epochOf(a);
    b.post({ kind: "heads", session: link.id, heads: [{ ...a.core.heads("beta")[0]!, digest: new Uint8Array(32) }], rttMs: 2 });
    b.settle();
    link.down();
    for (let i = 0; i < more; i++) {
      a.register(nodeBytes("door", [`v${i}:bool`]));
      a.settle();
    }
    const after = b.crash();
    after.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    expect(after.core.describe()).toContain("FROZEN");
    const again = new TestLink(a, after);
    a.register(nodeBytes("window", []));
    for (let i = 0; i < 20; i++) {
      settleAll([a, after], [again]);
      clock.advance(1_000);
    }
    expect(after.core.describe()).not.toContain("FROZEN");
    expect(ids(after)).toEqual(more === 0 ? ["lamp", "window"] : ["door", "lamp", "window"]);
    expect(epochOf(a)).toBe(before);
  });

  test.each(["table", "frozen"])("is not taken up again when the record meta/%s of it is damaged", (record) => {
    const { a, b } = hubs();
    a.register(nodeBytes("lamp", []));
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    const [head] = a.core.heads("beta");
    b.post({ kind: "heads", session: link.id, heads: [{ ...head!, digest: new Uint8Array(32) }], rttMs: 2 });
    b.settle();
    link.down();
    b.disk.apply([{ op: "put", space: "meta", key: `${record}/alpha`, bytes: Uint8Array.of(0x7b) }]);
    let after = b;
    // What its owner signed twice does not come back with a snapshot, however often this hub starts.
    for (let round = 0; round < 3; round++) {
      after = after.crash();
      after.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
      expect(ids(after)).toEqual(record === "table" ? [] : ["lamp"]);
      expect(after.events.filter(({ severity }) => severity === "ERROR")).toHaveLength(round === 0 ? 1 : 0);
      const other = new TestLink(a, after);
      settleAll([a, after], [other]);
      expect(ids(after)).toEqual(record === "table" ? [] : ["lamp"]);
      other.down();
    }
    a.post({ kind: "own_key", serial: 1, revoked: true });
    a.register(nodeBytes("door", []));
    settleAll([a, after], [new TestLink(a, after)]);
    expect(ids(after)).toEqual(["door", "lamp"]);
    expect(after.disk.get("meta", "frozen/alpha")).toBeUndefined();
  });
});

describe("F-4 a peer that silently takes nothing", () => {
  /** run lets alpha work for some minutes; what beta answers goes through `let`. */
  function run(pass: (frame: PeerFrame) => boolean) {
    const { clock, a, b } = hubs();
    const link = new TestLink(a, b);
    const minutes = (n: number): void => {
      for (let i = 0; i < n * 6; i++) {
        clock.advance(10_000);
        a.register(nodeBytes(`n-${i % 7}`, [], { type: `t${clock.mono}` }));
        settleAll([a, b], [link], (frame) => Number(frame.type === "segment" || frame.type.startsWith("snap") || pass(frame)));
      }
    };
    const trouble = () => a.others.filter((effect) => effect.kind === "trouble").map(({ failure }) => failure?.message);
    const told = () => a.events.filter(({ text }) => text === "a peer takes nothing of what it is sent").length;
    return { a, b, link, minutes, trouble, told };
  }
  const SILENT = "it takes nothing from this hub: it has neither asked for the feed nor acknowledged any of it for a minute";

  test.each(["feed_open", "ack"])("PROTOCOL O13 says so within two minutes, once, and when it answers again: no %s", (type) => {
    let open = false;
    const { minutes, trouble, told } = run((frame) => open || frame.type !== type);
    minutes(3);
    expect([trouble(), told()]).toEqual([[SILENT], 1]);
    minutes(10);
    expect(told()).toBe(1);
    open = true;
    minutes(3);
    // Who did not ask is not offered anything by itself.
    if (type === "ack") expect(trouble()).toEqual([SILENT, undefined]);
  });

  test("PROTOCOL O13 LK3 says so too of one that offers more of its feed than it sends, until it comes", () => {
    const { clock, a, b } = hubs();
    a.register(nodeBytes("n", []));
    const link = new TestLink(a, b);
    let open = false;
    let mine = false;
    const pass = (frame: PeerFrame): boolean => {
      if (open || frame.type === "feed_open") return true;
      if (frame.type === "segment" || frame.type === "snapshot")
        mine = Buffer.from(frame.type === "segment" ? frame.segment : frame.manifest).includes("alpha");
      return !((frame.type === "segment" || frame.type.startsWith("snap")) && mine);
    };
    const minutes = (n: number): void => {
      for (let i = 0; i < n * 6; i++) {
        clock.advance(10_000);
        settleAll([a, b], [link], (frame) => Number(pass(frame)));
      }
    };
    const trouble = () => b.others.filter((effect) => effect.kind === "trouble").map(({ failure }) => failure?.message);
    minutes(4);
    expect(trouble()).toEqual(["this hub takes nothing from it: it offered more of its feed than it has, or sends none of it"]);
    expect(b.events.filter(({ text }) => text === "a peer sends nothing of what it offered").length).toBe(1);
    open = true;
    a.register(nodeBytes("m", []));
    minutes(2);
    expect(trouble().slice(1)).toEqual([undefined]);
  });

  test("is not said of one that takes everything, also with nothing to send", () => {
    const { a, b, link, minutes, trouble } = run(() => true);
    minutes(3);
    for (let i = 0; i < 20; i++) settleAll([a, b], [link]);
    expect(trouble()).toEqual([]);
  });
});
