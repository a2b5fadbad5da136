import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { decodeRecord, recordCodec } from "../codec.ts";
import { DiscoveryCore } from "../core.ts";
import type { DialledMember, Effect, Input, Introduction, PeerSpec } from "../messages.ts";
import type { CoreConfig } from "../settings.ts";
import { PEER_SPACE } from "./peer-table.ts";

const WALL = 1_800_000_000_000;
const CONFIG: CoreConfig = {
  hubId: "a",
  packageName: "foedus.discovery.v1alpha1",
  minimumEvidence: 2,
  verificationPeriodMs: 86_400_000,
  backoff: { baseMs: 2_000, maxMs: 60_000, factor: 2, jitter: 0.25 },
  expects: ["registry-sync"],
  leafDelayMs: 100,
  reintroduceMs: 60_000,
  releasedAtWall: WALL - 1_000,
  clockRetryMs: 5_000,
  skewWarnMs: 60_000,
};
const LEAF = { thumbprint: "leaf-of-a", der: new Uint8Array([1]) };
const B: PeerSpec = {
  hubId: "b",
  addresses: [{ host: "b.example", port: 18_800 }],
  cas: [{ pem: "CA of b", digest: "d1" }],
  revoked: [],
  maxTrust: 2,
  share: "limited",
};
const PRIMARY = { host: "b.example", port: 18_800 };
const STANDBY = { host: "b-2.example", port: 18_801 };

function member(fence: number, more: Partial<DialledMember> = {}): DialledMember {
  const standby = more.endpoint?.host === STANDBY.host;
  return { hubId: "b", endpoint: PRIMARY, standby, fence, incarnation: 1, ...more };
}
const atStandby = (fence: number, incarnation = 1): DialledMember => member(fence, { endpoint: STANDBY, standby: true, incarnation });

/** Hub is the core of hub a, whose peer is b, with a service that watches. */
class Hub {
  readonly core: DiscoveryCore;
  readonly stored = new Map<string, Uint8Array>();
  mono = 0;

  constructor(stored: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.core = new DiscoveryCore({ config: CONFIG, prng: new Prng(1), codec: recordCodec });
    this.core.restore([...stored].map(([hubId, bytes]) => [hubId, decodeRecord(bytes)] as const));
    for (const [hubId, bytes] of stored) this.stored.set(hubId, bytes);
    this.step({ kind: "federation", peers: [B] });
  }

  get now() {
    return { mono: this.mono, wall: WALL + this.mono };
  }

  step(input: Input): Effect[] {
    const out: Effect[] = [];
    this.core.step(this.now, input, out);
    return this.#keep(out);
  }

  tick(mono: number): Effect[] {
    const out: Effect[] = [];
    this.mono = mono;
    this.core.tick(this.now, out);
    return this.#keep(out);
  }

  told(members: readonly DialledMember[], confirmed = true, voters: readonly string[] = ["a", "b", "c"]): Effect[] {
    return this.step({ kind: "dialled", members, voters, confirmed });
  }

  asked(caller = "b"): Effect | undefined {
    return this.step({ kind: "ask_dialled", call: 1, caller }).at(-1);
  }

  hello(fence: number): Effect[] {
    const introduction: Introduction = {
      hubId: "b",
      incarnation: 1,
      software: "1.0",
      packages: [CONFIG.packageName],
      endpoints: [],
      wallMs: this.now.wall,
      fence,
    };
    return this.step({ kind: "hello_received", call: 7, caller: "b", address: "", from: introduction, leaves: [], refused: [] } as never);
  }

  get record() {
    return decodeRecord(this.stored.get("b") as Uint8Array);
  }

  #keep(out: Effect[]): Effect[] {
    for (const effect of out)
      if (effect.kind === "persist")
        for (const op of effect.ops) if (op.op === "put" && op.space === PEER_SPACE) this.stored.set(op.key, op.bytes);
    return out;
  }
}

const hellos = (effects: readonly Effect[]): string[] =>
  effects.flatMap((effect) => (effect.kind === "hello" ? [`${effect.address.host}:${effect.address.port}`] : []));

describe("which installation of a peer is dialled", () => {
  test("DM2 PROTOCOL H11 when its standby is, that is dialled and nothing else; tokens, sessions and where its services were are void", () => {
    const hub = new Hub();
    const first = hub.step({ kind: "watch", watch: 1, services: ["discovery"], leaf: LEAF });
    expect(hellos(first)).toEqual(["b.example:18800"]);
    hub.told([member(3)]);
    const before = hub.record.minTokenIssuedAtWall;
    hub.mono = 1_000;
    const moved = hub.told([atStandby(4)]);
    expect(hub.record).toMatchObject({ endpoints: [], dialled: { ...STANDBY, standby: true, fence: 4, incarnation: 1 } });
    expect(hub.record.minTokenIssuedAtWall).toBeGreaterThan(before);
    expect(moved.some((effect) => effect.kind === "observe" && effect.what === "event" && effect.severity === "WARNING")).toBe(true);
    const dialled = [...hellos(moved), ...hellos(hub.tick(200_000)), ...hellos(hub.tick(400_000))];
    expect(new Set(dialled)).toEqual(new Set(["b-2.example:18801"]));
    // Back at its primary, where its operator here says that it is, too.
    expect(new Set([...hellos(hub.told([member(5)])), ...hellos(hub.tick(600_000))])).toEqual(new Set(["b.example:18800"]));
  });

  test("DM1 PROTOCOL H11 whatever comes late, in whatever order, the highest fence that was told stands, also after a restart", () => {
    const report = fc.record({
      fence: fc.integer({ min: 1, max: 2 ** 48 }),
      standby: fc.boolean(),
      confirmed: fc.boolean(),
      restart: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(report, { minLength: 1, maxLength: 20 }), (reports) => {
        let hub = new Hub();
        let highest = 0;
        for (const { fence, standby, confirmed, restart } of reports) {
          if (restart) hub = new Hub(hub.stored);
          hub.told([standby ? atStandby(fence) : member(fence)], confirmed);
          highest = Math.max(highest, fence);
          expect(hub.record.dialled?.fence).toBe(highest);
          // Whoever has less is refused, whoever has as much is not.
          expect(hub.hello(highest - 1).some((effect) => effect.kind === "refuse" && effect.failure.reason === "FENCE_STALE")).toBe(true);
          expect(hub.hello(highest).some((effect) => effect.kind === "refuse" && effect.failure.reason === "FENCE_STALE")).toBe(false);
        }
      }),
      { numRuns: 50 },
    );
  });

  test("DM3 PROTOCOL H11 an installation that answers with a lower fence is refused as one that calls", () => {
    const hub = new Hub();
    const out = hub.step({ kind: "watch", watch: 1, services: ["discovery"], leaf: LEAF });
    hub.told([member(3)]);
    const said = out.find((effect) => effect.kind === "hello");
    if (said?.kind !== "hello") throw new Error("no Hello is under way");
    const from: Introduction = { hubId: "b", incarnation: 1, software: "", packages: [CONFIG.packageName], endpoints: [], wallMs: WALL };
    const tokens = [{ thumbprint: LEAF.thumbprint, jwt: "jwt", expiresInMs: 3_600_000 }];
    hub.step({ kind: "hello_answered", peer: "b", attempt: said.attempt, from, tokens, level: 2 });
    const [peer] = hub.step({ kind: "list", call: 2, peer: "b" }).flatMap((effect) => (effect.kind === "peers" ? effect.peers : []));
    expect(peer?.failure).toMatchObject({ reason: "FENCE_STALE", facts: { address: "b.example:18800", fence: "3" } });
    expect(peer?.failure?.message).toContain("this one has none");
  });

  test("DM4 PROTOCOL H12 who asks hears what was confirmed a moment ago, else what was told last, also after a restart; else nothing", () => {
    const hub = new Hub();
    expect(hub.asked()).toMatchObject({ kind: "refuse", failure: { reason: "TOO_STALE" } });
    hub.told([]);
    expect(hub.asked()).toEqual({ kind: "dialled_at", call: 1, member: undefined });
    hub.told([atStandby(4, 2)]);
    expect(hub.asked()).toEqual({ kind: "dialled_at", call: 1, member: atStandby(4, 2) });
    // A hub is told of itself only, and a stranger is told nothing.
    expect(hub.asked("z")).toEqual({ kind: "dialled_at", call: 1, member: undefined });
    hub.mono = 6_001;
    expect(hub.asked()).toEqual({ kind: "dialled_at", call: 1, member: atStandby(4, 2) });
    // That it has no standbys was told last of this one.
    expect(hub.asked("z")).toEqual({ kind: "dialled_at", call: 1, member: undefined });
    expect(new Hub(hub.stored).asked()).toEqual({ kind: "dialled_at", call: 1, member: atStandby(4, 2) });
  });

  test("DM1 with the same fence the hub's next replica is told, and no earlier one", () => {
    const hub = new Hub();
    hub.told([atStandby(4, 1)]);
    hub.told([atStandby(4, 9)]);
    hub.told([atStandby(4, 5)], false);
    expect(hub.record.dialled).toMatchObject({ fence: 4, incarnation: 9 });
  });

  test("DM1 that a peer has no standbys any more is believed when it is confirmed", () => {
    const hub = new Hub();
    hub.told([atStandby(4)]);
    hub.told([], false);
    expect(hub.record.dialled?.fence).toBe(4);
    hub.told([]);
    expect(hub.record.dialled).toBeUndefined();
    expect(hub.hello(0).some((effect) => effect.kind === "refuse" && effect.failure.reason === "FENCE_STALE")).toBe(false);
  });

  test("DM4 what is told of this hub goes to its seat, when it changes; hubs that are no peers are nothing", () => {
    const hub = new Hub();
    const own = (effects: readonly Effect[]) => effects.filter((effect) => effect.kind === "own_dialled");
    const self = member(8, { hubId: "a", endpoint: { host: "a.example", port: 1 } });
    const crowd = Array.from({ length: 254 }, (_, i) => member(9, { hubId: `stranger-${i}` }));
    expect(own(hub.told([self, ...crowd]))).toMatchObject([{ member: self, hubs: ["b", "c"] }]);
    expect([...hub.stored.keys()]).toEqual(["b"]);
    expect(own(hub.told([self, ...crowd]))).toEqual([]);
    expect(own(hub.told([], false))).toEqual([]);
    expect(own(hub.told([]))).toMatchObject([{ member: undefined }]);
  });
});
