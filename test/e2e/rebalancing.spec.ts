// Agents of real programs that move by themselves from a real hub that has many to one that has none, under commands.
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ListAgentsRequestSchema, ListMigrationsRequestSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import {
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  JoinFederationRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { MigrationStatus } from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import {
  type AgentCheckpoint,
  type AgentHost,
  type Hub,
  type MovableOptions,
  movedTo,
  type NodeInit,
} from "../../clients/typescript/index.ts";
import { connectTo, type ProgramPlace } from "../support/counting-agent.ts";
import { type Clients, Federation, until } from "../support/federation.ts";

const HUBS = ["home", "factory"] as const;
type Id = (typeof HUBS)[number];
const AGENTS = ["ada", "bob", "cy", "dee", "eve", "flo"] as const;
const KIND = "counting";
/** As many numbers are counted by each agent after the moves, at the least. */
const FURTHER = 20;

/** Counter is what an agent is: its key, and the numbers that it has counted. */
interface Counter {
  readonly key: KeyObject;
  readonly counted: number[];
}

/** Counters is a program at a hub, with agents that count, and takes in others. It keeps them in memory. */
class Counters {
  readonly hub: Hub;
  readonly host: AgentHost;
  readonly agents = new Map<string, Counter>();
  readonly #served = new Set<string>();
  problem = "";

  private constructor(hub: Hub, born: readonly string[]) {
    this.hub = hub;
    for (const agent of born) this.agents.set(agent, { key: generateKeyPairSync("ed25519").privateKey, counted: [] });
    this.host = hub.hostAgents({
      agents: born.map((agent) => this.#options(agent, this.agents.get(agent)!)),
      takesIn: { [KIND]: (checkpoint, _fence, agent) => this.#options(agent, counterOf(checkpoint)) },
      onError: (error) => void (this.problem = String(error)),
    });
  }

  static async at(place: ProgramPlace, born: readonly string[]): Promise<Counters> {
    const program = new Counters(await connectTo(place, "gateway-agents"), born);
    for (const agent of born) {
      await program.hub.register(nodeOf(agent));
      await program.#serve(agent);
    }
    return program;
  }

  has(agent: string): boolean {
    return this.host.agent(agent)?.runs === true;
  }

  #options(agent: string, counter: Counter): MovableOptions {
    return {
      agent,
      nodeKey: counter.key,
      node: nodeOf(agent),
      checkpoint: () => ({
        memory: counter.key.export({ format: "der", type: "pkcs8" }),
        context: Buffer.from(JSON.stringify(counter.counted)),
        progress: 0.5,
        dependencies: [KIND],
      }),
      resume: async () => {
        this.agents.set(agent, counter);
        await this.#serve(agent);
      },
      discard: () => void this.agents.delete(agent),
    };
  }

  /** serve answers commands to an agent: resolves when the hub has taken the offer. */
  async #serve(agent: string): Promise<void> {
    if (this.#served.has(agent)) return;
    this.#served.add(agent);
    const attached = Promise.withResolvers<void>();
    this.hub.serve({
      nodeIds: [agent],
      onAttached: () => attached.resolve(),
      run: ({ value, agentFence }) => {
        const count = () => {
          const { counted } = this.agents.get(agent)!;
          if (counted.at(-1) !== Number(value)) counted.push(Number(value));
          return { value: BigInt(counted.length) };
        };
        return this.host.run(agent, count, agentFence);
      },
    });
    await attached.promise;
  }
}

function nodeOf(agent: string): NodeInit {
  return { nodeId: agent, type: "agent", capabilities: [{ name: "count", type: 2, readable: true, invocable: true }] };
}

function counterOf({ memory, context }: AgentCheckpoint): Counter {
  const key = createPrivateKey({ key: Buffer.from(memory), format: "der", type: "pkcs8" });
  return { key, counted: JSON.parse(Buffer.from(context).toString()) as number[] };
}

/** Client sends an agent one number after the other, each until it was counted, and follows it when it has moved. */
class Client {
  readonly agent: string;
  readonly #operators: Readonly<Record<Id, Hub>>;
  #at: Id = "home";
  sent = 0;
  #stopped = false;
  readonly #run: Promise<void>;
  lastRefusal = "";

  constructor(agent: string, operators: Readonly<Record<Id, Hub>>) {
    this.agent = agent;
    this.#operators = operators;
    this.#run = this.#loop();
  }

  /** stop ends it when the last number was counted. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#run;
  }

  async #loop(): Promise<void> {
    while (!this.#stopped) {
      const serial = this.sent + 1;
      await until(`${this.agent} counting ${serial}`, () => this.#count(serial), 30_000);
      this.sent = serial;
    }
  }

  async #count(serial: number): Promise<boolean> {
    const command = { hubId: this.#at, nodeId: this.agent, capability: "count", value: BigInt(serial), timeoutMs: 3_000 };
    const { outcome, failure } = await this.#operators[this.#at].execute(command);
    if (outcome === "DONE") return true;
    this.#at = (failure && (movedTo(failure) as Id | undefined)) ?? this.#at;
    throw new Error(`${this.#at}: ${outcome} ${failure?.reason} ${failure?.message}`);
  }
}

let federation: Federation;
let clients: Readonly<Record<Id, Clients>>;
let programs: Readonly<Record<Id, Counters>>;
let counting: readonly Client[] = [];
let operators: Readonly<Record<Id, Hub>>;

beforeAll(async () => {
  const config = { coordination: { agents_max: 10, rebalance_ms: 1_000 } };
  const specs = HUBS.map(
    (id) => ({ id, mode: "single", peers: HUBS.filter((hub) => hub !== id).map((hub) => ({ hub })), config }) as const,
  );
  federation = await Federation.start({ hubs: specs });
  await federation.operational(60_000);
  const each = async <T>(make: (id: Id) => T | Promise<T>) =>
    Object.fromEntries(await Promise.all(HUBS.map(async (id) => [id, await make(id)] as const))) as Record<Id, T>;
  clients = await each((id) => federation.hub(id).clients());
  const status = (id: Id) => clients[id].coordination.getFederation(create(GetFederationRequestSchema));
  const found = create(FoundFederationRequestSchema, { federationId: "street", founders: ["factory"] });
  await until("founding", async () => (await clients.home.coordination.foundFederation(found)).state === FederationState.FOUNDING, 10_000);
  await until("the invitation", async () => (await status("factory")).invitations.length === 1, 10_000);
  const join = create(JoinFederationRequestSchema, { federationId: "street" });
  await until("factory joining", async () => (await clients.factory.coordination.joinFederation(join)).state > 0, 10_000);
  for (const id of HUBS) await until(`${id} deciding`, async () => (await status(id)).canDecide, 10_000);
  programs = await each((id) => Counters.at(federation.hub(id), id === "home" ? AGENTS : []));
  operators = await each((id) => connectTo(federation.hub(id), "operator-admin"));
}, 120_000);

afterAll(async () => {
  for (const { hub } of Object.values(programs ?? {})) hub.close();
  for (const hub of Object.values(operators ?? {})) hub.close();
  await federation?.stop();
}, 30_000);

test("S1-30 agents of a hub that is fuller spread by themselves, and each goes on counting", async () => {
  counting = AGENTS.map((agent) => new Client(agent, operators));
  const at = (id: Id) => AGENTS.filter((agent) => programs[id].has(agent));
  const ended = async () => {
    const { migrations } = await clients.factory.coordination.listMigrations(create(ListMigrationsRequestSchema));
    return migrations.filter(({ status }) => status === MigrationStatus.RELEASED);
  };
  await until(
    "three agents at each hub",
    async () => {
      if (at("factory").length === 3 && at("home").length === 3 && (await ended()).length === 3) return true;
      throw new Error(`home ${at("home")} ${programs.home.problem}, factory ${at("factory")} ${programs.factory.problem}`);
    },
    60_000,
  );
  const goals = new Map(counting.map(({ agent, sent }) => [agent, sent + FURTHER]));
  await until("all agents counting on", () => counting.every(({ agent, sent }) => sent >= goals.get(agent)!), 30_000);
  await Promise.all(counting.map((client) => client.stop()));
  for (const { agent, sent } of counting) {
    const [home, ...others] = HUBS.filter((id) => programs[id].agents.has(agent));
    expect(others).toEqual([]);
    expect(programs[home!].agents.get(agent)?.counted).toEqual(Array.from({ length: sent }, (_none, i) => i + 1));
  }
  const moves = await ended();
  expect(moves.map(({ from, to, by }) => `${from} ${to} ${by}`)).toEqual(["home factory home", "home factory home", "home factory home"]);
  expect(moves.at(-1)?.why).toBe("rebalancing: home has 6 agents and room for 10, factory has 0 agents and room for 10");
  const { agents } = await clients.home.coordination.listAgents(create(ListAgentsRequestSchema));
  expect(agents.filter(({ agent }) => agent?.owner === "factory").map(({ agent }) => agent?.agent)).toEqual(at("factory"));
  const metrics = await federation.hub("home").ops("/metrics", "hub");
  expect(metrics).toMatch(/foedus_coordination_events_total\{[^}]*what="rebalance_asked"[^}]*\} 3\n/);
}, 120_000);
