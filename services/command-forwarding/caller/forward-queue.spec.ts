import fc from "fast-check";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { SessionFrame, SessionRequest, SessionResponse } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { Prng } from "#kernel/prng.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { createPeerLinks, type PeerLinks } from "#runtime/sessions/peer-links.ts";
import { ADMIN, EVIL, GATEWAY } from "../../../test/commands/bench.ts";
import { capability } from "../../../test/commands/hub.ts";
import { MemoryHub, type Reply } from "../../../test/commands/world.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { peerViewOf } from "../../../test/fakes/peer-view.ts";
import { slowPair } from "../../../test/fakes/slow-pipe.ts";
import { checkFrame, installSessionDecoder, invocationsIn } from "../codec/codec.ts";
import { type Command, type CommandEffect, type Input, type Invocation, OUTCOME, type ResultsFrame } from "../messages.ts";
import { isOwn } from "../principals.ts";
import type { Settings } from "../settings.ts";
import { PeerOutbox, waitingBytes } from "../shell/links.ts";

const CALLERS = [ADMIN, "automation:lights", "automation:doors", EVIL, "spiffe://home/node/b", GATEWAY, "spiffe://home/service/x"];
const NODES = ["lamp", "door", "toy"];
const WALL = 1_800_000_000_000;
const HELLO: ResultsFrame = { epoch: 0, ownerEpoch: 7, ownerPosition: 0, items: [] };

installSessionDecoder();

const textOf = (value: Uint8Array): string => new TextDecoder().decode(value.subarray(2));

interface Sent {
  readonly id: string;
  readonly who: string;
  readonly node: string;
}

/**
 * A hub whose callers command a peer that takes what goes there one command at a time, in the order in which it goes: as the frames that
 * wait for a session, and those in it, do.
 */
class Desk {
  mono = 1_000;
  readonly hub: MemoryHub;
  /** What left and was not taken, and what was taken, by the command's value. */
  wire: Invocation[] = [];
  readonly taken: Invocation[] = [];
  readonly cancels: number[] = [];
  readonly replies: Reply[] = [];
  readonly sent: Sent[] = [];
  #asked = false;
  #session = 0;

  constructor(settings: Partial<Settings> = {}) {
    this.hub = new MemoryHub("home", () => ({ mono: this.mono, wall: WALL + this.mono }), { aheadBytes: 1_024, ...settings });
    this.hub.give({ kind: "peers", peers: [{ hubId: "away", level: 3 }] });
    const put = (nodeId: string) =>
      ({ kind: "put", hubId: "away", nodeId, online: true, capabilities: [capability("say", 4), capability("set", 4)] }) as const;
    this.hub.give({ kind: "directory", changes: NODES.map(put) });
    this.connect();
  }

  /** connect begins a session: what waited for the one before is gone with it. */
  connect(hello: ResultsFrame = HELLO): void {
    this.wire = [];
    this.#asked = false;
    this.give({ kind: "peer-up", peer: "away", session: ++this.#session });
    this.greet(hello);
  }

  greet(hello: ResultsFrame = HELLO): void {
    this.give({ kind: "results", peer: "away", session: this.#session, frame: hello });
  }

  give(input: Input): void {
    this.#settle(this.hub.give(input));
  }

  tick(ms: number): void {
    this.mono += ms;
    this.#settle(this.hub.tick());
  }

  #settle(effects: readonly CommandEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "invoke") {
        this.wire.push(...effect.items);
        this.cancels.push(...effect.cancels);
      } else if (effect.kind === "tell-room") this.#asked = true;
      else if (effect.kind === "reply") this.replies.push(effect);
    }
  }

  send(who: string, node = "lamp", count = 1, more: Partial<Command> = {}): void {
    const commands = Array.from({ length: count }, () => {
      const corr = this.sent.length;
      const id = String(corr);
      this.sent.push({ id, who, node });
      const value = new Uint8Array([0x22, id.length, ...new TextEncoder().encode(id)]);
      return { corr, hubId: "away", nodeId: node, capability: "say", value, timeoutMs: 60_000, key: "", hops: [], ...more };
    });
    // A stream for each caller.
    this.give({ kind: "execute", client: 10 + CALLERS.indexOf(who), principal: who, commands });
  }

  cancel(corr: number): void {
    const who = this.sent[corr]?.who ?? "";
    this.give({ kind: "cancel", client: 10 + CALLERS.indexOf(who), corrs: [corr] });
  }

  /** take lets the peer take so many, and says so when there is nothing left to take. */
  take(count: number): void {
    for (let i = 0; i < count; i++) {
      const next = this.wire.shift();
      if (next !== undefined) this.taken.push(next);
      if (this.wire.length > 0 || !this.#asked) continue;
      this.#asked = false;
      this.give({ kind: "peer-room", peer: "away" });
    }
  }

  get takenIds(): string[] {
    return this.taken.map(({ value }) => textOf(value));
  }

  outcomes(): [number, number, string | undefined][] {
    return this.replies.map(({ corr, result }) => [corr, result.outcome, result.failure?.reason]);
  }
}

/** What is let out before anything stands in line: 1 KiB at 256 bytes and a little, and as much again between question and answer. */
const AHEAD = 8;

const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      who: fc.nat(CALLERS.length - 1),
      node: fc.nat(2),
      count: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 60 })),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("take" as const), count: fc.nat(12) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), which: fc.nat(400) }) },
);

describe("FQ2 commands that wait for a peer", () => {
  test("whoever keeps however many waiting: another caller's next command goes after a few of each other caller, in order by node", () => {
    fc.assert(
      fc.property(fc.array(action, { minLength: 3, maxLength: 60 }), (actions) => {
        const desk = new Desk();
        /** Commands sent while their caller had nothing else waiting, with how many were taken before. */
        const first = new Map<string, number>();
        const gone = (): Set<string> => new Set([...desk.takenIds, ...desk.replies.map(({ corr }) => String(corr))]);
        for (const act of actions) {
          if (act.do === "send") {
            const who = CALLERS[act.who] as string;
            const over = gone();
            if (desk.sent.every((each) => each.who !== who || over.has(each.id))) first.set(String(desk.sent.length), desk.taken.length);
            desk.send(who, NODES[act.node], act.count);
          } else if (act.do === "take") desk.take(act.count);
          else if (desk.sent.length > 0) desk.cancel(act.which % desk.sent.length);
        }
        for (let i = 0; i < 40 && gone().size < desk.sent.length; i++) desk.take(desk.sent.length);
        const ids = desk.takenIds;
        expect(new Set(ids).size, "once").toBe(ids.length);
        expect(gone().size, "all").toBe(desk.sent.length);
        const seqs = desk.taken.map(({ seq }) => seq);
        expect(seqs, "PROTOCOL X11 names rise").toEqual([...seqs].sort((a, b) => a - b));
        for (const who of CALLERS)
          for (const node of NODES) {
            const lane = ids.map(Number).filter((id) => desk.sent[id]?.who === who && desk.sent[id]?.node === node);
            expect(lane, "order").toEqual([...lane].sort((a, b) => a - b));
          }
        for (const [id, before] of first) {
          const at = ids.indexOf(id);
          if (at >= 0) expect(at - before, `${id} of ${desk.sent[Number(id)]?.who}`).toBeLessThanOrEqual(AHEAD + 2 * CALLERS.length);
        }
      }),
      { numRuns: 150 },
    );
  });

  test("own callers and all others alternate, however many of the others there are", () => {
    const desk = new Desk();
    for (const who of [EVIL, GATEWAY, "spiffe://home/node/b"]) desk.send(who, "lamp", 100);
    desk.send(ADMIN, "door", 20);
    desk.take(AHEAD + 20);
    const owned = desk.takenIds.slice(AHEAD).filter((id) => isOwn(desk.sent[Number(id)]?.who ?? ""));
    expect(owned.length).toBeGreaterThanOrEqual(9);
  });

  test("each caller has its part of the bound, also while nothing of it can leave", () => {
    const desk = new Desk({ pendingPerPeer: 160 });
    desk.send(EVIL, "lamp", 200);
    const refused = desk.replies.map(({ result }) => result.failure);
    expect(refused).toHaveLength(120);
    expect(refused[0]).toMatchObject({ reason: "OVERLOADED", facts: { limit: "pending_per_peer_per_caller", max: "20" } });
    desk.send(GATEWAY, "door", 20);
    desk.send(ADMIN, "toy", 20);
    expect(desk.replies).toHaveLength(120);
    desk.take(20);
    expect(desk.takenIds.filter((id) => desk.sent[Number(id)]?.who === ADMIN).length).toBeGreaterThan(3);
  });
});

describe("FQ3 a command that has not left", () => {
  /** A desk where so many fill what goes ahead, and the next one waits. */
  function full(more: Partial<Command> = {}): { readonly desk: Desk; readonly waits: number } {
    const desk = new Desk();
    desk.send(EVIL, "lamp", AHEAD);
    desk.send(GATEWAY, "door", 1, more);
    return { desk, waits: AHEAD };
  }

  test("was not started: it is refused when it is cancelled, when its caller, the session or the hub goes, and when the store fails", () => {
    const ends: [(desk: Desk, waits: number) => void, string | undefined][] = [
      [(desk, waits) => desk.cancel(waits), "CANCELLED"],
      [(desk) => desk.give({ kind: "client-gone", client: 10 + CALLERS.indexOf(GATEWAY) }), undefined],
      [(desk) => desk.give({ kind: "peer-down", peer: "away" }), "PEER_UNREACHABLE"],
      [(desk) => desk.give({ kind: "stop" }), "SHUTTING_DOWN"],
      [
        (desk) => desk.give({ kind: "stored", ok: false, failure: { reason: "STORE_UNAVAILABLE", message: "full" }, unstored: [] }),
        "STORE_UNAVAILABLE",
      ],
    ];
    for (const [end, reason] of ends) {
      const { desk, waits } = full();
      end(desk, waits);
      const reply = desk.replies.find(({ corr }) => corr === waits);
      if (reason !== undefined) expect(reply?.result).toMatchObject({ outcome: OUTCOME.REJECTED, failure: { reason } });
      expect(reply?.name).toBe(undefined);
      desk.take(AHEAD + 5);
      expect(desk.takenIds).not.toContain(String(waits));
      expect(
        desk.hub.core
          .holdings()
          .flatMap(({ holdings }) => [...holdings])
          .filter(({ holder }) => holder.startsWith(GATEWAY)),
      ).toEqual([]);
    }
  });

  test("expires at its deadline, and not a moment after it", () => {
    const { desk, waits } = full({ timeoutMs: 500 });
    desk.tick(490);
    expect(desk.replies).toEqual([]);
    desk.tick(20);
    expect(desk.outcomes()).toEqual([[waits, OUTCOME.EXPIRED, "DEADLINE_EXPIRED"]]);
    const late = full({ timeoutMs: 500 });
    late.desk.mono += 600;
    late.desk.take(AHEAD + 5);
    expect(late.desk.outcomes(), "no tick came first").toEqual([[late.waits, OUTCOME.EXPIRED, "DEADLINE_EXPIRED"]]);
    expect(late.desk.takenIds).not.toContain(String(waits));
  });

  test("has an idempotency key all the same: who joins it hears what it hears, with the name that it got", () => {
    const desk = new Desk();
    desk.send(EVIL, "lamp", AHEAD);
    const keyed = { key: "k", value: new Uint8Array([0x22, 1, 0x6b]) };
    desk.send(GATEWAY, "door", 2, keyed);
    expect(desk.hub.core.lookup({ hubId: "home", epoch: 0, seq: 0 }), "what has no name is not found by one").toBe(undefined);
    desk.take(AHEAD + 1);
    const item = desk.wire.concat(desk.taken).find(({ value }) => textOf(value) === "k");
    const epoch = Number(/caller-epoch=(\d+)/.exec(desk.hub.core.describe())?.[1]);
    const answer = { seq: item?.seq ?? 0, result: { outcome: OUTCOME.DONE, value: new Uint8Array(0), failure: undefined }, late: false };
    desk.greet({ ...HELLO, epoch, items: [answer] });
    const told = desk.replies.map(({ corr, name, result }) => [corr, name?.seq, result.outcome]);
    expect(told).toEqual([AHEAD, AHEAD + 1].map((corr) => [corr, item?.seq, OUTCOME.DONE]));
    expect(desk.hub.core.lookup({ hubId: "home", epoch, seq: item?.seq ?? 0 })?.result?.outcome).toBe(OUTCOME.DONE);
  });
});

describe("H3-M6 what is sent again on a new session", () => {
  test("goes in turns, with what never left: of one caller and node the older first", () => {
    const desk = new Desk();
    desk.send(EVIL, "lamp", 6);
    desk.send(GATEWAY, "lamp", 1);
    desk.send(ADMIN, "lamp", 1);
    desk.give({ kind: "peer-up", peer: "away", session: 9 });
    desk.send(EVIL, "lamp", 1);
    desk.send(ADMIN, "lamp", 1);
    desk.wire = [];
    desk.give({ kind: "results", peer: "away", session: 9, frame: HELLO });
    desk.take(20);
    const ids = desk.takenIds.map(Number);
    expect([...ids].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (const id of [6, 7, 9]) expect(ids.indexOf(id), `${id} does not wait for all of another's`).toBeLessThan(6);
    expect(ids.indexOf(5)).toBeLessThan(ids.indexOf(8));
    expect(ids.indexOf(7)).toBeLessThan(ids.indexOf(9));
  });

  test("a cancel of what stands to be asked again goes behind its question", () => {
    const desk = new Desk();
    desk.send(EVIL, "lamp", 4);
    desk.take(3);
    desk.send(EVIL, "lamp", 4);
    desk.take(4);
    desk.connect();
    const stands = [0, 1, 2, 3, 4, 5, 6, 7].filter((id) => !desk.wire.some(({ value }) => textOf(value) === String(id)));
    expect(stands.length).toBeGreaterThan(0);
    const id = stands.at(-1) as number;
    desk.cancel(id);
    const item = desk.wire.find(({ value }) => textOf(value) === String(id));
    expect(item).toMatchObject({ retry: true });
    expect(desk.cancels).toEqual([item?.seq]);
  });
});

/** A caller's hub with the shipping outbox and sessions, and the session of an owner, over a line of some rate. */
class Link {
  readonly clock = new ManualClock();
  readonly hub = new MemoryHub("home", () => this.clock.now());
  /** Values of the commands that the owner took, in order. */
  readonly took: string[] = [];
  readonly #home: PeerLinks<SessionFrame>;
  readonly #away: PeerLinks<SessionFrame>;
  readonly outbox: PeerOutbox;
  up = 0;

  constructor() {
    const method = CommandForwardingService.method.session;
    this.#away = this.#links("away", () => {
      throw new Error("nobody dials here");
    });
    this.#home = this.#links("home", () => {
      const line = slowPair<SessionRequest, SessionResponse>(this.clock, { bytesPerMs: 64, latencyMs: 20 }, method);
      const context = { caller: { kind: "peer", hubId: "home", thumbprint: "leaf", level: 3 }, bytesRead: () => line.requests.bytesRead() };
      void this.#away.accept(line.requests, line.out, context as unknown as CallContext).then(() => line.out.end());
      return { session: () => line.client, bytesRead: () => line.out.bytesRead(), close: () => undefined };
    });
    this.outbox = new PeerOutbox(
      this.clock,
      () => this.#home,
      waitingBytes(4_096),
      (peer) => this.give({ kind: "peer-room", peer }),
    );
    this.hub.give({ kind: "peers", peers: [{ hubId: "away", level: 3 }] });
    const put = { kind: "put", hubId: "away", nodeId: "lamp", online: true, capabilities: [capability("say", 4)] } as const;
    this.hub.give({ kind: "directory", changes: [put] });
    this.#away.setPeers([peerViewOf("home", false, this.clock.wall())]);
    this.#home.setPeers([peerViewOf("away", true, this.clock.wall())]);
  }

  #links(hubId: string, connect: Parameters<typeof createPeerLinks<SessionFrame>>[0]["connect"]): PeerLinks<SessionFrame> {
    return createPeerLinks<SessionFrame>({
      service: "command-forwarding",
      method: CommandForwardingService.method.session,
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
      check: checkFrame,
      onUp: (_peer, session) => {
        if (hubId === "home") this.up = session.streamId;
      },
      onDown: () => undefined,
      onFrame: (_peer, _session, { frame }) => {
        if (frame.case === "invocations")
          for (const { value } of invocationsIn(frame.value).items) this.took.push(textOf(value.subarray(1)));
      },
      onCredit: (peer) => {
        if (hubId === "home") this.outbox.pump(peer);
      },
    });
  }

  give(input: Input): void {
    for (const effect of this.hub.give(input)) {
      if (effect.kind === "invoke") this.outbox.invoke(effect);
      else if (effect.kind === "tell-room") this.outbox.tellRoom(effect.peer);
    }
    this.outbox.flush();
  }

  execute(principal: string, name: string, count: number): void {
    const commands = Array.from({ length: count }, (_, corr) => {
      const text = name.padEnd(1_000, ".");
      const value = new Uint8Array([0x22, 0xe8, 0x07, ...new TextEncoder().encode(text)]);
      return { corr, hubId: "away", nodeId: "lamp", capability: "say", value, timeoutMs: 3_600_000, key: "", hops: [] };
    });
    this.give({ kind: "execute", client: principal.length, principal, commands });
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 50) {
      this.clock.advance(50);
      for (let i = 0; i < 3; i++) {
        await new Promise((resolve) => setImmediate(resolve));
        this.clock.turn();
      }
    }
  }
}

test("FQ1 over a line of 64 KB/s, behind 1,500 commands of one caller: another's goes after what the session had taken, and all arrive", async () => {
  const link = new Link();
  await link.pass(3_000);
  expect(link.up).toBeGreaterThan(0);
  link.give({ kind: "peer-up", peer: "away", session: link.up });
  link.give({ kind: "results", peer: "away", session: link.up, frame: HELLO });
  link.execute(EVIL, "flood", 1_500);
  await link.pass(1_000);
  const before = link.took.length;
  expect(before).toBeLessThan(500);
  link.execute(ADMIN, "mine", 1);
  await link.pass(60_000);
  expect(link.took).toHaveLength(1_501);
  const at = link.took.findIndex((text) => text.includes("mine"));
  expect(at).toBeGreaterThanOrEqual(before);
  // 64 KiB that were let out, as many that may follow, and what the session has under way.
  expect(at - before).toBeLessThan(300);
});
