import { describe, expect, test } from "vitest";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { AgentPrograms } from "../../../test/support/agent-programs.ts";
import { CoordinationHubs, REBALANCE_MS } from "../../../test/support/coordination-hubs.ts";
import type { Request } from "../messages.ts";
import { REFUSALS_MAX } from "./failures.ts";
import type { Migration } from "./messages.ts";
import { COOLDOWN_LOOKS, MEMORY_LOOKS } from "./rebalancing.ts";

const IDS = ["a", "b", "c", "d"] as const;
type Id = (typeof IDS)[number];

/** Counts are numbers by hub. */
type Counts = Readonly<Partial<Record<Id, number>>>;

interface WorldOptions {
  /** Kinds of agents that programs take in. */
  readonly kinds?: readonly string[];
  readonly engine?: "raft" | "bft";
}

/** World is four hubs of a federation with a program at each, some with room for agents and some with agents. */
class World {
  readonly hubs = new CoordinationHubs(...IDS);
  readonly programs: AgentPrograms;
  readonly agents: string[] = [];
  /** How often each agent was counted at, wherever it ran. */
  readonly counted = new Map<string, number>();

  constructor(rooms: Counts, agents: Counts, { kinds, engine = "raft" }: WorldOptions = {}) {
    this.hubs.rooms(rooms);
    for (const id of IDS) this.hubs.restart(id);
    this.programs = new AgentPrograms(this.hubs, IDS, kinds);
    this.programs.ballast = 1_000;
    this.hubs.found(IDS, { engine });
    for (const id of IDS) this.programs.connect(id);
    for (const [id, count] of Object.entries(agents)) this.create(id as Id, count);
  }

  get leader(): string {
    return this.hubs.status("a").leader;
  }

  create(id: Id, count: number): void {
    const names = Array.from({ length: count }, (_none, i) => `${id}${this.agents.length + i}`);
    for (const name of names) this.programs.create(id, name);
    this.agents.push(...names);
    this.programs.until(() => names.every((name) => this.programs.running(name).join() === id));
  }

  /** let lets time pass, ms; each agent counts meanwhile, and never runs in two places. */
  let(ms: number): void {
    for (let n = 0; n < ms; n++) {
      this.hubs.advance(1);
      this.programs.pump();
      for (const agent of this.agents) {
        const places = this.programs.running(agent);
        if (places.length > 1) throw new Error(`${agent} runs at ${places.join(" and ")}`);
        if (n % 7 === 0 && places.length === 1 && this.programs.add(places[0]!, agent))
          this.counted.set(agent, (this.counted.get(agent) ?? 0) + 1);
      }
    }
  }

  restart(...ids: readonly Id[]): void {
    for (const id of ids) this.hubs.restart(id);
    for (const id of ids) this.programs.connect(id);
    this.programs.until(() => this.agents.every((agent) => this.programs.running(agent).length === 1));
  }

  looks(count: number): void {
    this.let(count * REBALANCE_MS);
  }

  /** spread is how many agents run at each hub. Each has the count that it should have. */
  get spread(): number[] {
    const homes = this.agents.map((agent) => {
      const [home = ""] = this.programs.running(agent);
      expect(this.programs.program(home).agents.get(agent)?.count).toBe(this.counted.get(agent) ?? 0);
      expect(IDS.filter((id) => this.programs.program(id).agents.has(agent))).toEqual([home]);
      return home;
    });
    return IDS.map((id) => homes.filter((home) => home === id).length);
  }

  migrations(id: Id = "c"): readonly Migration[] {
    return this.hubs.ask(id, "migrations", { kind: "migrations" }).migrations;
  }

  /** moves are those that were ever asked for, the oldest first. */
  get moves(): string[] {
    const all = [...this.migrations()].sort((a, b) => a.transfer - b.transfer);
    return all.map(({ from, to }) => `${from} ${to}`);
  }

  observed(id: Id, what: string): number {
    return this.hubs.observed(id).filter((one) => one === what).length;
  }

  say(id: Id, value: Uint8Array, key: string = id): void {
    this.hubs.call(id, { kind: "share", changes: [{ kind: "swarms", key, value }] } as Request);
  }
}

/** SETTLED_LOOKS are enough for new agents to be movable, and moved. */
const SETTLED_LOOKS = COOLDOWN_LOOKS + 2;
const everyone: Counts = { a: 10, b: 10, c: 10 };

describe("S1-30 a hub that is fuller than others", () => {
  test.each(["raft", "bft"] as const)(
    "%s: gives agents until loads settle, none of which runs twice or loses a count; then nothing goes to and fro",
    (engine) => {
      const world = new World(everyone, { a: 9 }, { engine });
      world.looks(SETTLED_LOOKS);
      expect(world.spread).toEqual([3, 3, 3, 0]);
      expect(world.moves).toHaveLength(6);
      expect([world.observed("a", "rebalance_asked"), world.observed("b", "rebalance_asked")]).toEqual([6, 0]);
      expect(world.migrations()[0]).toMatchObject({ by: "a", status: "released" });
      expect(world.migrations().at(-1)?.why).toBe("rebalancing: a has 9 agents and room for 10, b has 0 agents and room for 10");
      expect(world.hubs.events("a").filter((event) => event.includes("moves to b; rebalancing: "))).toHaveLength(3);
      world.looks(4 * COOLDOWN_LOOKS);
      expect(world.moves).toHaveLength(6);
      expect(world.spread).toEqual([3, 3, 3, 0]);
      expect(Math.min(...world.counted.values())).toBeGreaterThan(1_000);
    },
  );

  test("waits until agents have been there for some looks, and gives those first that have been there for longest", () => {
    const world = new World({ a: 4, b: 4 }, { a: 2 });
    world.looks(COOLDOWN_LOOKS - 1);
    world.create("a", 1);
    expect(world.moves).toEqual([]);
    world.looks(2);
    expect(world.migrations().map(({ agent }) => agent)).toEqual(["a0"]);
    expect(world.spread).toEqual([2, 1, 0, 0]);
  });

  test("LB1 gives none and gets none without room of its own", () => {
    const world = new World({ b: 10, c: 10 }, { a: 6, b: 6 });
    world.looks(SETTLED_LOOKS);
    expect(world.spread).toEqual([6, 3, 3, 0]);
    expect(new Set(world.moves)).toEqual(new Set(["b c"]));
  });

  test("LB3 is not the only one: two that look at the same moment do not both fill the emptiest place", () => {
    const world = new World({ a: 20, b: 20, c: 20, d: 20 }, { a: 15, b: 15, d: 6 });
    world.restart(...IDS);
    world.looks(SETTLED_LOOKS);
    // One may have heard of a move of the other before it planned, and then plans for what is left.
    for (const count of world.spread) expect(Math.abs(count - 9)).toBeLessThanOrEqual(1);
    expect(world.moves.length).toBeLessThanOrEqual(12);
    expect(world.moves.filter((move) => move.startsWith("b")).length).toBeGreaterThanOrEqual(5);
  });

  test("LB2 counts those that are on their way, whoever sent them, and asks for no move of an agent that is moving", () => {
    const world = new World({ a: 8, b: 8 }, { a: 6 });
    // The program at b answers nothing, so that what is on its way stays on its way.
    world.programs.mute("b");
    world.looks(COOLDOWN_LOOKS - 1);
    world.hubs.ask("c", "changed", { kind: "migrate", agent: "a0", to: "b", stepMs: 0, why: "" });
    world.looks(COOLDOWN_LOOKS);
    expect(world.migrations().map(({ agent, status, by }) => `${agent} ${status} ${by}`)).toEqual(["a0 open c", "a1 open a", "a2 open a"]);
    expect(world.observed("a", "rebalance_refused")).toBe(0);
    world.programs.mute("b", false);
    world.looks(1);
    expect(world.spread).toEqual([3, 3, 0, 0]);
  });

  test("looks once in an interval", () => {
    const world = new World({ a: 20, b: 20 }, { a: 10 });
    const asked = (): number => {
      const before = world.observed("a", "rebalance_asked");
      for (let ms = 0; world.observed("a", "rebalance_asked") === before; ms++) {
        if (ms > SETTLED_LOOKS * REBALANCE_MS) throw new Error("nothing is asked for");
        world.let(1);
      }
      return world.hubs.now.mono;
    };
    const first = asked();
    world.let(1_700);
    world.create("a", 10);
    const apart = (asked() - first) / REBALANCE_MS;
    expect(Math.abs(apart - Math.round(apart))).toBeLessThan(0.02);
  });

  test("gives none to a hub that it does not reach, and those that it has when it does", () => {
    const world = new World(everyone, { a: 9 });
    // Without a way to who leads it would have no log to plan by.
    const [far, near] = world.leader === "b" ? (["c", "b"] as const) : (["b", "c"] as const);
    world.hubs.cut("a", far);
    world.looks(SETTLED_LOOKS);
    expect(new Set(world.moves)).toEqual(new Set([`a ${near}`]));
    world.hubs.heal();
    world.looks(2 * SETTLED_LOOKS);
    expect(world.spread).toEqual([3, 3, 3, 0]);
  });

  test("moves no agent whose program is not there", () => {
    const world = new World({ a: 10, b: 10 }, { a: 6 });
    world.hubs.tellAgents("a", { kind: "host_gone", host: world.programs.program("a").host });
    world.looks(SETTLED_LOOKS);
    expect(world.moves).toEqual([]);
    world.programs.connect("a");
    world.looks(2);
    expect(world.spread).toEqual([3, 3, 0, 0]);
  });

  test("LB4 gives none without a quorum, not even to a hub that it reaches, and those that it has when there is one again", () => {
    const world = new World(everyone, { a: 9 });
    for (const near of ["a", "b"]) for (const far of ["c", "d"]) world.hubs.cut(near, far);
    world.looks(SETTLED_LOOKS);
    expect(world.observed("a", "rebalance_asked")).toBe(0);
    world.hubs.heal();
    world.looks(3);
    expect(world.spread).toEqual([3, 3, 3, 0]);
  });

  test("a restart in the middle of it: the moves that were asked for come to their end, and nobody moves twice", () => {
    const world = new World(everyone, { a: 9 });
    world.let((COOLDOWN_LOOKS - 1) * REBALANCE_MS);
    world.programs.until(() => world.migrations().length > 1);
    world.restart("a");
    world.looks(2 * SETTLED_LOOKS);
    const [left] = world.spread;
    // What was not asked for yet is only moved if there is enough of it.
    expect(left).toBeLessThanOrEqual(5);
    expect(left).toBeGreaterThanOrEqual(3);
    expect(new Set(world.migrations().map(({ agent }) => agent)).size).toBe(9 - left!);
    expect(world.moves).toHaveLength(9 - left!);
  });
});

describe("LB5 what came to nothing", () => {
  test("no program takes the agents in: they run on, few are tried, and a restart does not begin again", () => {
    const world = new World({ a: 20, b: 20 }, { a: 14 }, { kinds: ["painting"] });
    const looks = MEMORY_LOOKS + COOLDOWN_LOOKS - 1;
    world.looks(looks / 2);
    world.restart("a");
    world.looks(looks / 2);
    expect(world.spread).toEqual([14, 0, 0, 0]);
    expect(new Set(world.migrations().map(({ status }) => status))).toEqual(new Set(["aborted"]));
    const tried = world.migrations().map(({ agent }) => agent);
    expect(new Set(tried).size).toBe(tried.length);
    expect(tried.length).toBeGreaterThanOrEqual(REFUSALS_MAX);
    // All of a look are on their way before the first is refused.
    expect(tried.length).toBeLessThanOrEqual(7);
  });

  /** giveUp has an operator ask for moves from a to b, and give them up. */
  function giveUp(world: World, ...agents: readonly string[]): void {
    world.hubs.cut("a", "b");
    for (const agent of agents) {
      const asked = world.hubs.ask("c", "changed", { kind: "migrate", agent, to: "b", stepMs: 0, why: "" });
      const { transfer } = asked.value as { transfer: number };
      world.hubs.ask("c", "changed", { kind: "abort_migration", transfer, why: "not now" });
    }
    world.hubs.heal();
  }

  test("an agent whose move an operator gave up does not go there at the next looks, and does after a while", () => {
    const world = new World({ a: 4, b: 4 }, { a: 2 });
    giveUp(world, "a0", "a1");
    world.looks(MEMORY_LOOKS - 1);
    expect(world.moves).toHaveLength(2);
    world.looks(3);
    expect(world.spread).toEqual([1, 1, 0, 0]);
  });

  test("it stays where it is for the time of a cooldown, and then goes elsewhere", () => {
    const world = new World({ a: 4, b: 4, c: 4 }, { a: 3 });
    world.looks(COOLDOWN_LOOKS - 1);
    giveUp(world, ...world.agents);
    world.looks(COOLDOWN_LOOKS - 1);
    expect(world.moves).toHaveLength(3);
    world.looks(3);
    expect(world.spread).toEqual([2, 0, 1, 0]);
  });
});

describe("what a hub says of its room may be anything", () => {
  const summary = (room: number): Uint8Array => new ProtoWriter().uint(1, 1).uint(6, room).finish();

  test.each([
    ["more than there can be", summary(1_001)],
    ["a number of 2^53", Uint8Array.of(0x30, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10)],
    ["a text", Uint8Array.of(0x32, 0x01, 0x41)],
    ["a number without an end", Uint8Array.of(0x30, 0x80)],
    ["fields in disorder", Uint8Array.of(0x30, 0x05, 0x08, 0x01)],
    ["nothing but noise", Uint8Array.from({ length: 200 }, (_none, i) => (i * 151) & 0xff)],
  ])("%s has no effect: it gets no agents, and the others go on", (_what, bytes) => {
    const world = new World({ a: 10, b: 10 }, { a: 6 });
    const lie = (ms: number): void => {
      for (let n = 0; n < ms; n += 100) {
        world.say("c", bytes);
        world.let(100);
      }
    };
    lie(SETTLED_LOOKS * REBALANCE_MS);
    expect(world.spread).toEqual([3, 3, 0, 0]);
  });

  test("a number that there can be is believed", () => {
    const world = new World({ a: 10, b: 10, c: 10 }, { a: 6 });
    world.looks(SETTLED_LOOKS);
    expect(world.spread).toEqual([2, 2, 2, 0]);
  });

  test("under another hub's key it has no effect, by its own service or by a part that it forged", () => {
    const world = new World({ a: 10, b: 10 }, { a: 6 });
    world.hubs.forge("c", (frame) => {
      if (frame.kind !== "shared" || frame.frame.kind !== "part") return frame;
      const entries = frame.frame.entries.map((entry) => (entry.kind === "swarms" ? { ...entry, key: "b", value: summary(0) } : entry));
      return { ...frame, frame: { ...frame.frame, entries } };
    });
    expect(() => world.hubs.ask("c", "said", { kind: "share", changes: [{ kind: "swarms", key: "b", value: summary(0) }] })).toThrow(
      "begin with c",
    );
    world.say("c", summary(10), "c/more");
    world.looks(SETTLED_LOOKS);
    expect(world.spread).toEqual([3, 3, 0, 0]);
  });
});
