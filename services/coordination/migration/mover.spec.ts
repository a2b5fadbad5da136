import { describe, expect, test } from "vitest";
import { feedKeyOf } from "../../../test/simulator/crypto.ts";
import { AgentPrograms } from "../../../test/support/agent-programs.ts";
import { CoordinationHubs } from "../../../test/support/coordination-hubs.ts";
import type { Request } from "../messages.ts";
import { ROOM_MAX } from "./hosting/sagas.ts";
import { type Migration, type MigrationAnswer, STEPS } from "./messages.ts";

const IDS = ["a", "b", "c"] as const;
const FOUR = ["a", "b", "c", "d"] as const;
const migrate = (to: string, agent = "counter"): Request => ({ kind: "migrate", agent, to, stepMs: 0, why: "" });

/** World is three hubs of a federation with a program at each; that of `a` has an agent. */
class World {
  readonly hubs = new CoordinationHubs(...IDS);
  readonly programs: AgentPrograms;

  constructor(kinds?: readonly string[]) {
    this.programs = new AgentPrograms(this.hubs, IDS, kinds);
    this.hubs.found(IDS);
    for (const id of IDS) this.programs.connect(id);
    this.programs.create("a", "counter");
    this.programs.until(() => this.programs.running("counter").join() === "a");
  }

  get leader(): string {
    const up = IDS.find((id) => this.hubs.running(id))!;
    return this.hubs.status(up).leader;
  }

  migrations(id: string): readonly Migration[] {
    return this.hubs.ask(id, "migrations", { kind: "migrations" }).migrations;
  }

  request(by: string, to: string): number {
    return (this.hubs.ask(by, "changed", migrate(to)).value as MigrationAnswer).transfer;
  }

  /** move moves the agent and lets it count meanwhile, wherever it runs. It gives how often it did. */
  move(to: string): number {
    let counted = 0;
    const transfer = this.request("c", to);
    this.programs.until(() => {
      for (const id of IDS) if (this.programs.add(id, "counter")) counted++;
      expect(this.programs.running("counter").length).toBeLessThanOrEqual(1);
      return this.migrations("c").some((one) => one.transfer === transfer && one.status === "released");
    });
    return counted;
  }

  count(id: string): number | undefined {
    return this.programs.program(id).agents.get("counter")?.count;
  }
}

describe("S1-13 S1-14 an agent of a program moves between hubs", () => {
  test("MG2 HR1 there and back, with no count lost or repeated; the old place says where it is", () => {
    const world = new World();
    let counted = world.move("b");
    expect([world.count("a"), world.count("b")]).toEqual([undefined, counted]);
    expect(world.programs.running("counter")).toEqual(["b"]);
    expect(world.programs.program("a").moved.get("counter")).toBe("b");
    counted += world.move("a");
    expect([world.count("a"), world.count("b")]).toEqual([counted, undefined]);
    expect(world.programs.running("counter")).toEqual(["a"]);
    const { agents } = world.hubs.ask("a", "agents", { kind: "agents", unless: 0 });
    expect(agents).toMatchObject([{ agent: { agent: "counter", owner: "a", fence: 3 }, connected: true, runs: true }]);
  });

  test("SG3 it stays where no program takes in its kind, and goes on; operators are told why", () => {
    const world = new World(["painting"]);
    const transfer = world.request("b", "b");
    world.programs.until(() => world.migrations("a").some((one) => one.transfer === transfer && one.status === "aborted"));
    expect(world.migrations("a")[0]?.message).toContain('no program is connected to b that takes in agents of the kind "counting"');
    world.programs.until(() => world.programs.running("counter").join() === "a");
  });

  test("what cannot be moved is refused with the reason", () => {
    const world = new World();
    expect(() => world.hubs.ask("a", "changed", migrate("d"))).toThrow("PEER_NOT_FOUND: d is no member");
    expect(() => world.hubs.ask("a", "changed", migrate("a"))).toThrow("ALREADY_EXISTS: counter is at a already");
    expect(() => world.hubs.ask("a", "changed", migrate("b", "nobody"))).toThrow("NODE_NOT_FOUND");
    expect(() => world.hubs.ask("a", "changed", { kind: "abort_migration", transfer: 9, why: "" })).toThrow("NODE_NOT_FOUND");
  });

  test("an operator who wants no move any more keeps it where it is", () => {
    const world = new World();
    const transfer = world.request("a", "b");
    world.hubs.ask("a", "changed", { kind: "abort_migration", transfer, why: "not now" });
    world.programs.until(() => world.programs.running("counter").join() === "a" && world.migrations("a")[0]?.status === "aborted");
    expect(world.migrations("b")[0]).toMatchObject({ cause: "WITHDRAWN", message: "not now" });
  });
});

describe("MX4 S1-14 a hub that others send agents to", () => {
  test("SG5 takes in no more at a time than it has room for, also of those that are asked for at once", () => {
    const world = new World();
    const agents = Array.from({ length: 12 }, (_, i) => `agent-${i}`);
    for (const agent of agents) world.programs.create("a", agent);
    world.programs.until(() => agents.every((agent) => world.programs.running(agent).join() === "a"));
    // It hears of all of them at once.
    world.hubs.cut("b");
    for (const agent of agents) world.hubs.call("c", migrate("b", agent));
    world.programs.until(() => world.migrations("c").filter(({ step }) => step === "VALIDATE").length === agents.length);
    world.hubs.heal();
    let most = 0;
    world.programs.until(() => {
      const all = world.migrations("b");
      const held = all.filter(({ step, status }) => status === "open" && STEPS.indexOf(step) >= STEPS.indexOf("ACCEPT"));
      most = Math.max(
        most,
        held.reduce((sum, { bytes }) => sum + bytes, 0),
      );
      return all.length === agents.length && all.every(({ status }) => status === "released" || status === "aborted");
    });
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(ROOM_MAX);
    const refused = world.migrations("b").filter(({ status }) => status === "aborted");
    expect(refused.map(({ message }) => message)).toEqual(
      refused.map(() => "b takes in too many agents at once; ask again when some have arrived"),
    );
    // What was promised to moves that are over is free again.
    for (const { agent } of refused) world.hubs.ask("c", "changed", migrate("b", agent));
    world.programs.until(() => agents.every((agent) => world.programs.running(agent).join() === "b"));
  });
});

describe("SG6 where members may lie", () => {
  /** Four hubs that endure lies; the program of `a` has an agent. */
  function four(): { readonly hubs: CoordinationHubs; readonly programs: AgentPrograms } {
    const hubs = new CoordinationHubs(...FOUR);
    const programs = new AgentPrograms(hubs, FOUR);
    hubs.found(FOUR, { engine: "bft" });
    const [first] = FOUR;
    for (const id of FOUR) programs.connect(id);
    programs.create(first, "counter");
    programs.until(() => programs.running("counter").join() === first);
    return { hubs, programs };
  }

  test("no other hub takes an agent away, whatever it has decided; that hub's own operators move it", () => {
    const { hubs, programs } = four();
    expect(() => hubs.ask("d", "changed", migrate("d"))).toThrow("ACCESS_DENIED: a moves its agents itself");
    // The liar's hub asks all the same.
    const record = hubs.ask("d", "agents", { kind: "agents", unless: 0 }).agents[0]!.agent;
    const command = { kind: "request", agent: "counter", fence: record.fence, to: "d", stepMs: 60_000, why: "" } as const;
    hubs.ask("d", "changed", { kind: "change", command: { book: "migration", command } });
    const moves = () => hubs.ask("a", "migrations", { kind: "migrations" }).migrations;
    programs.until(() => moves().length === 1 && moves()[0]?.status === "aborted");
    expect(moves()[0]).toMatchObject({ cause: "REFUSED", message: expect.stringContaining("a moves its agents itself") });
    expect(programs.running("counter")).toEqual(["a"]);
    hubs.ask("a", "changed", migrate("d"));
    programs.until(() => programs.running("counter").join() === "d");
  });
});

describe("HR5 a program that names agents on and on", () => {
  const named = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({ agent: `n${from + i}`, nodeKey: feedKeyOf(`n${from + i}`), fence: 0 }));
  const names = (world: World, offered: ReturnType<typeof named>): void =>
    world.hubs.tellAgents("a", { kind: "host", host: 99, principal: "gateway", offer: { agents: offered, kinds: [] } });

  test("fills no log: others' commands are decided as before", () => {
    const world = new World();
    const refusals = () => world.hubs.observed("c").filter((what) => what.startsWith("refused_command: of a, LIMIT_EXCEEDED")).length;
    for (let i = 0; i < 4; i++) {
      names(world, named(2_000 * i, 2_000));
      world.hubs.advance(1_500);
    }
    expect(world.hubs.ask("c", "agents", { kind: "agents", unless: 0 }).agents).toHaveLength(2_000);
    expect(refusals()).toBeGreaterThan(0);
    expect(refusals()).toBeLessThan(1_000);
  });

  test("is told again of one that it named long ago: nothing is kept of what it does not name any more", () => {
    const world = new World();
    const told = () => world.hubs.agentEffects("a").flatMap((effect) => (effect.kind === "hosted" ? effect.agents : []));
    names(world, named(0, 1));
    world.hubs.advance(100);
    expect(told()).toMatchObject([{ agent: "n0", runs: true }]);
    names(world, named(0, 1));
    expect(told()).toEqual([]);
    names(world, named(1, 1));
    world.hubs.advance(100);
    told();
    names(world, named(0, 1));
    expect(told()).toMatchObject([{ agent: "n0", runs: true }]);
  });
});

describe("HR2 HR3 HR4 an agent is one program's", () => {
  test("one with another certificate does not get what moved in; a copy with an old fence does not run, and is deleted", () => {
    const world = new World();
    const old = { ...world.programs.program("a").agents.get("counter")! };
    const counted = world.move("b");
    world.programs.program("a").agents.set("counter", { ...old, runs: false });
    world.programs.connect("a");
    world.programs.until(() => !world.programs.program("a").agents.has("counter"));
    expect(world.programs.running("counter")).toEqual(["b"]);
    world.hubs.tellAgents("b", { kind: "host_gone", host: world.programs.program("b").host });
    const offer = { agents: [{ agent: "counter", nodeKey: new Uint8Array(32), fence: 0 }], kinds: [] };
    world.hubs.agentEffects("b");
    world.hubs.tellAgents("b", { kind: "host", host: 99, principal: "thief", offer });
    expect(JSON.stringify(world.hubs.agentEffects("b"))).toContain("moved into the program with the certificate program-b");
    world.programs.connect("b");
    world.programs.until(() => world.programs.running("counter").join() === "b");
    expect(world.count("b")).toBe(counted);
  });

  test("MS7 one that starts again while its agent is frozen does not run it before the move is decided, and then goes on or deletes it", () => {
    const world = new World();
    const transfer = world.request("c", "b");
    world.programs.until(() => world.programs.program("a").agents.get("counter")?.frozen === true);
    world.hubs.stop("b");
    world.programs.program("a").agents.set("counter", { fence: 1, count: 0, frozen: false, resumed: 0, runs: false });
    world.programs.connect("a");
    for (let n = 0; n < 1_000; n++) {
      world.hubs.advance(1);
      world.programs.pump();
      expect(world.programs.running("counter")).toEqual([]);
    }
    world.hubs.start("b");
    world.programs.connect("b");
    world.programs.until(() => world.migrations("c").some((one) => one.transfer === transfer && one.status !== "open"));
    world.programs.until(() => world.programs.running("counter").length === 1);
  });

  test("a program that lost the agent that moved in does not run it as a new one", () => {
    const world = new World();
    world.move("b");
    world.programs.program("b").agents.delete("counter");
    world.programs.create("b", "counter");
    world.programs.connect("b");
    world.programs.until(() => world.programs.program("b").failures.length > 0);
    expect(world.programs.program("b").failures[0]).toContain("the program lost it, or is an older copy");
    expect(world.programs.running("counter")).toEqual([]);
  });
});

describe("MX6 a start on a store", () => {
  const told = (world: World, id: string) => world.hubs.events(id).filter((event) => event.startsWith("agent "));

  test.each(["a", "b"])("SG4 of its own, with the agent at b: nothing is told at %s of a move that was over before", (id) => {
    const world = new World();
    world.move("b");
    world.programs.until(() => told(world, id).length > 0);
    world.hubs.restart(id);
    world.programs.connect(id);
    for (let n = 0; n < 3_000; n++, world.programs.pump()) world.hubs.advance(1);
    expect(told(world, id)).toEqual(["agent counter has moved from a to b (migration 1)"]);
    expect(world.programs.running("counter")).toEqual(["b"]);
    expect(world.hubs.core("b").describe()).toContain("gates=counter open fence 2");
  });

  test("from a backup, older than the move that brought the agent: that is told", () => {
    const world = new World();
    const backup = world.hubs.backup("b");
    world.move("b");
    world.programs.until(() => told(world, "b").length > 0);
    world.hubs.stop("b");
    world.hubs.start("b", backup);
    world.programs.until(() => told(world, "b").length > 1);
    expect(told(world, "b").slice(1)).toEqual([
      "agent counter was found in a store that is older than the log; its move from a to b was decided before (migration 1)",
    ]);
    for (let n = 0; n < 3_000; n++, world.programs.pump()) world.hubs.advance(1);
    expect(told(world, "b")).toHaveLength(2);
  });
});

describe("S1-13 SIGKILL of a hub at each step: exactly one place runs it, and nothing is lost", () => {
  const parties = ["source", "destination", "leader"] as const;
  test.each(STEPS.flatMap((step) => parties.map((party) => [party, step] as const)))("%s at %s", (party, step) => {
    const world = new World();
    for (let n = 0; n < 5; n++) world.programs.add("a", "counter");
    const transfer = world.request("c", "b");
    const at = (): boolean =>
      IDS.some((id) => world.hubs.running(id) && world.migrations(id).some((one) => one.transfer === transfer && one.step === step));
    world.programs.until(at);
    const victim = party === "source" ? "a" : party === "destination" ? "b" : world.leader;
    world.hubs.stop(victim);
    for (let n = 0; n < 2_000; n++) {
      world.hubs.advance(1);
      world.programs.pump();
      expect(world.programs.running("counter").length).toBeLessThanOrEqual(1);
    }
    world.hubs.start(victim);
    world.programs.connect(victim);
    world.programs.until(() => {
      expect(world.programs.running("counter").length).toBeLessThanOrEqual(1);
      const one = world.migrations("c").find((migration) => migration.transfer === transfer);
      return one?.status === "released" || one?.status === "aborted";
    });
    world.programs.until(() => world.programs.running("counter").length === 1);
    const [place = ""] = world.programs.running("counter");
    const owner = world.hubs.ask("c", "agents", { kind: "agents", unless: 0 }).agents[0]?.agent.owner;
    expect(place).toBe(owner);
    expect(world.count(place)).toBe(5);
    expect([...world.hubs.stored(place === "a" ? "b" : "a").space("migration-agents")]).toEqual([]);
  });
});
