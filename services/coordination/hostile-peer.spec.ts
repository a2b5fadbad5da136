import { describe, expect, test } from "vitest";
import { candidateOf } from "../../test/fakes/federation-books.ts";
import { feedKeyOf } from "../../test/simulator/crypto.ts";
import { CoordinationHubs } from "../../test/support/coordination-hubs.ts";
import { stateIn } from "../../test/support/deciding.ts";
import { joinBytes } from "./members/statements.ts";
import type { Effect, Frame, Greeting, Request } from "./messages.ts";
import type { LogCommand } from "./state/commands.ts";

const HUBS = ["a", "b", "c"];
const put = (key: string): Request => ({
  kind: "change",
  command: { book: "values", command: { kind: "put", key, value: new Uint8Array(), conditional: false, expect: 0 } },
});

/** Three hubs with a federation, and z, with whom they have a session and which is in none. */
function three(): { readonly hubs: CoordinationHubs; readonly federation: Uint8Array } {
  const hubs = new CoordinationHubs(...HUBS, "z").found(HUBS);
  const said = hear(() => hubs.core("a").step(hubs.now, { kind: "up", peer: "spy" }, heard));
  const greeting = said.flatMap((effect) => (effect.kind === "send" && effect.frame.kind === "greeting" ? [effect.frame] : []))[0]!;
  return { hubs, federation: greeting.federation };
}

let heard: Effect[] = [];
function hear(act: () => void): Effect[] {
  heard = [];
  act();
  return heard;
}

/** give gives a frame to hub a, and what comes of it. */
function give(hubs: CoordinationHubs, peer: string, frame: Frame): Effect[] {
  return hear(() => hubs.core("a").step(hubs.now, { kind: "frame", peer, frame }, heard));
}

/** expectWorks looks whether the federation still decides, at every hub alike. */
function expectWorks(hubs: CoordinationHubs, key: string): void {
  const { index } = hubs.ask("b", "changed", put(key));
  hubs.until(() => HUBS.every((id) => hubs.status(id).applied >= index));
  // A hub that made a digest a moment ago makes none: then there is nothing to compare yet.
  const states = () => HUBS.map((id) => stateIn(hubs.ask(id, "status", { kind: "status", withDigest: true }).status));
  hubs.until(() => !states().includes(undefined));
  expect(new Set(states()).size).toBe(1);
}

const greeting = (more: Partial<Greeting> = {}): Greeting => ({
  kind: "greeting",
  candidate: undefined,
  federation: new Uint8Array(),
  incarnation: 0,
  life: 1,
  remembered: { incarnation: 0, life: 0, term: 0, index: 0 },
  members: [],
  ...more,
});

describe("a peer that lies", () => {
  test("PROTOCOL G4 CO2 frames of the log of another federation have no effect", () => {
    const { hubs, federation } = three();
    const other = Uint8Array.from(federation, (byte) => byte ^ 1);
    const before = hubs.core("a").describe();
    const frames: readonly Frame[] = [
      { kind: "log", federation: other, frame: { kind: "read_ask", id: 1 } },
      { kind: "log", federation: other, frame: { kind: "propose", payload: new Uint8Array(3) } },
      { kind: "log", federation: new Uint8Array(), frame: { kind: "read_ask", id: 1 } },
    ];
    for (const frame of frames) expect(give(hubs, "b", frame)).toEqual([{ kind: "observe", what: "stray_frame" }]);
    expect(give(hubs, "b", { kind: "dismissed", federation: other, incarnation: 1 })).toEqual([]);
    expect(hubs.core("a").describe()).toBe(before);
  });

  test("what a member wants against the rules is refused, and every other member counts it with the reason", () => {
    const { hubs } = three();
    const wants: readonly [LogCommand, string][] = [
      [{ book: "ballots", command: { kind: "withdraw", ballotId: "nothing" } }, "BALLOT_CLOSED"],
      [{ book: "members", command: { kind: "remove", hubId: "a" } }, "ACCESS_DENIED"],
      [{ book: "resources", command: { kind: "release", lease: 1, fence: 1 } }, "LEASE_OVER"],
      [{ book: "resources", command: { kind: "withdraw", name: "é" } }, "INVALID_FIELD"],
    ];
    for (const [command, reason] of wants) {
      expect(() => hubs.ask("b", "changed", { kind: "change", command })).toThrow(reason);
      for (const id of ["a", "c"]) hubs.until(() => hubs.observed(id).includes(`refused_command: of b, ${reason}`));
    }
    expect(hubs.observed("b").filter((what) => what.startsWith("refused_command"))).toEqual([]);
    expectWorks(hubs, "after-refusals");
  });

  test("PROTOCOL G8 SW3 the word of one voter, or of a stranger, puts nobody out", () => {
    const { hubs, federation } = three();
    for (const peer of ["b", "b", "z"]) give(hubs, peer, { kind: "dismissed", federation, incarnation: 1 });
    expect(hubs.status("a").standing).toBe("member");
    expectWorks(hubs, "still-here");
  });

  test("PROTOCOL G1 CO1 a hub speaks for itself only: a greeting with another hub's candidate is nothing", () => {
    const { hubs } = three();
    expect(give(hubs, "z", greeting({ candidate: candidateOf("b") }))).toEqual([]);
    // Nor is one of a hub without a session.
    expect(give(hubs, "nobody", greeting({ candidate: candidateOf("nobody") }))).toEqual([]);
  });

  test("PROTOCOL G1 CO6 what was said before this side of the session stood is said again, and nobody answers without end", () => {
    const { hubs } = three();
    const greetings = (effects: readonly Effect[]): number =>
      effects.filter((effect) => effect.kind === "send" && effect.frame.kind === "greeting").length;
    // The first one is for nobody: there is no session yet.
    expect(give(hubs, "late", greeting({ candidate: candidateOf("late") }))).toEqual([]);
    expect(greetings(hear(() => hubs.core("a").step(hubs.now, { kind: "up", peer: "late" }, heard)))).toBe(1);
    expect(greetings(give(hubs, "late", greeting({ candidate: candidateOf("late") })))).toBe(1);
    expect(greetings(give(hubs, "late", greeting({ candidate: candidateOf("late") })))).toBe(0);
    // A session that takes the place of another one loses nothing that was said.
    hear(() => hubs.core("a").step(hubs.now, { kind: "up", peer: "late" }, heard));
    const found = { kind: "found", federationId: "road", name: "", engine: "raft", admission: "ballot", founders: ["late"] } as const;
    hubs.ask("a", "done", { kind: "leave", federationId: "street", force: true });
    expect(hear(() => hubs.core("a").step(hubs.now, { kind: "call", call: 99_999, request: found }, heard)).at(-1)).toMatchObject({
      kind: "standing",
      standing: "founding",
    });
  });

  test("PROTOCOL G1 a greeting with absurd numbers, or of a federation that is none, changes nothing", () => {
    const { hubs, federation } = three();
    for (const more of [
      { rememberedIndex: 2 ** 48, rememberedLife: 2 ** 48 },
      { life: 2 ** 48, incarnation: 2 ** 48 },
      { federation, incarnation: 2 ** 48 },
      { federation: new Uint8Array(5) },
    ])
      give(hubs, "z", greeting(more));
    expectWorks(hubs, "after-greetings");
  });

  test("PROTOCOL G4 RO5 a stranger's batch, question and answer go nowhere", () => {
    const { hubs, federation } = three();
    for (const frame of [
      { kind: "propose", payload: Uint8Array.of(10, 0, 18, 0) },
      { kind: "read_ask", id: 1 },
      { kind: "read_answer", id: 1, index: 0, failure: undefined },
      { kind: "read_answer", id: 2, index: 2 ** 48, failure: undefined },
      { kind: "declined", session: 1, first: 1, leader: "z", failure: { reason: "NOT_LEADER", message: "" } },
    ] as const)
      expect(give(hubs, "z", { kind: "log", federation, frame }).filter(({ kind }) => kind === "send")).toEqual([]);
    expectWorks(hubs, "after-frames");
  });

  test("PROTOCOL G3 a hub that asks to join again and again has one request on the way, and asks for itself only", () => {
    const { hubs } = three();
    const proposals = (effects: readonly Effect[]): number =>
      effects.filter((effect) => effect.kind === "persist" || effect.kind === "send").length;
    const ask = (hub: string): Frame => {
      const candidate = candidateOf(hub, { publicKey: feedKeyOf(hub) });
      const signature = hubs.crypto(hub).sign(joinBytes("street", candidate));
      return { kind: "join_ask", federationId: "street", candidate, signature };
    };
    expect(give(hubs, "z", ask("y"))).toEqual([]);
    expect(give(hubs, "z", { ...ask("z"), federationId: "road" } as Frame)).toMatchObject([
      { kind: "send", peer: "z", frame: { kind: "join_answer", federationId: "road", failure: { reason: "NOT_FEDERATED" } } },
    ]);
    expect(proposals(give(hubs, "z", ask("z")))).toBeGreaterThan(0);
    for (let i = 0; i < 10; i++) expect(proposals(give(hubs, "z", ask("z")))).toBe(0);
  });

  test("PROTOCOL G2 an offer to a member, and consents and founding entries that nobody waits for, change nothing", () => {
    const { hubs } = three();
    const status = () => hubs.status("a");
    const { founding } = status();
    const frames: readonly Frame[] = [
      { kind: "founding_consent", federationId: "street", signature: new Uint8Array(64) },
      { kind: "founding_consent", federationId: "road", signature: undefined },
      { kind: "join_answer", federationId: "street", failure: undefined, incarnation: 9 },
    ];
    for (const frame of frames) give(hubs, "z", frame);
    expect(Buffer.from(status().founding)).toEqual(Buffer.from(founding));
    expectWorks(hubs, "after-offers");
  });

  test("PROTOCOL G4 AQ1 a stranger leads nobody, is voted for by nobody, and stops nobody", () => {
    const { hubs, federation } = three();
    expectWorks(hubs, "before");
    for (const id of HUBS) {
      const { committed, term, leader } = hubs.status(id);
      const out: Effect[] = [];
      const say = (frame: Frame): void => hubs.core(id).step(hubs.now, { kind: "frame", peer: "z", frame }, out);
      say(greeting({ candidate: candidateOf("z"), federation, incarnation: 1, members: [...HUBS, "z"] }));
      const membership = { voters: ["z/1"], outgoing: [], learners: [] };
      const entry = { index: committed + 1, term: 1_000, time: 2 ** 42, payloads: [], membership };
      const at = { term: 1_000, prevIndex: committed, commit: committed + 1, probe: 1, ageMs: 0, lease: false, entries: [entry] };
      const asked = { term: 1_001, lastIndex: 2 ** 40, lastTerm: 1_000, transfer: true };
      for (let prevTerm = 0; prevTerm <= term; prevTerm++) {
        const from = { kind: "engine", from: "z/1", to: `${id}/1` } as const;
        for (const frame of [
          { type: "append", ...at, prevTerm },
          { type: "vote_request", pre: false, ...asked },
          { type: "transfer_now", term },
        ] as const)
          say({ kind: "log", federation, frame: { ...from, frame } });
      }
      expect(out.filter((effect) => effect.kind === "send" && effect.frame.kind === "log")).toEqual([]);
      expect(hubs.status(id)).toMatchObject({ leader, term });
    }
    expectWorks(hubs, "after");
  });
});
