// A federation of hubs that are processes, over mutual TLS, for scenarios: what they found, and what is between them.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import {
  ChangeValueRequestSchema,
  type GetFederationResponse,
  GetValueRequestSchema,
  type GetValueResponse,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import {
  type Allocation,
  AuditResourcesRequestSchema,
  CheckFenceRequestSchema,
  ConfirmRequestRequestSchema,
  ListAllocationsRequestSchema,
  OfferResourceRequestSchema,
  ReleaseAllocationRequestSchema,
  RequestResourceRequestSchema,
  ResourceDecision,
  ResourceTake,
} from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import { type Lease, ResourceKindSchema, ResourceOfferSchema, ResourceWantSchema } from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { sleep } from "#runtime/clock.ts";
import { foundTogether, joinTogether, stateIn, statusOf } from "../support/deciding.ts";
import { type Clients, Federation, type HubProcess, until } from "../support/federation.ts";
import { Relay } from "../support/relay.ts";
import type { Play } from "./promises.ts";

const FEDERATION = "street";
/** Founders of a federation that decides by Raft. */
const FOUNDERS_MAX = 7;
/** Ports of relays at a hub's address, above the hub's own. */
const RELAY_PORTS = 50;
const QUICK = { discovery: { backoff_base_ms: 100, backoff_max_ms: 1_000 } };

/** Decided is how long one request took, ms: until it was decided, and until the borrower had it, with its fence. */
export interface Decided {
  readonly ms: number;
  readonly wholeMs: number;
}

/** StandOptions say what is started. */
export interface StandOptions {
  readonly ids: readonly string[];
  readonly engine?: "raft" | "bft";
  /** All that two hubs say to each other goes through a relay, which can be cut. */
  readonly relayed?: boolean;
  readonly config?: Readonly<Record<string, unknown>>;
  /** Arguments of node before the verb, of hubs that are not what ships. */
  readonly programs?: Readonly<Record<string, readonly string[]>>;
}

/** Stand is the federation. */
export class Stand {
  readonly ids: readonly string[];
  readonly federation: Federation;
  readonly #clients = new Map<string, Clients>();
  readonly #relays = new Map<string, Relay>();

  private constructor(ids: readonly string[], federation: Federation) {
    this.ids = ids;
    this.federation = federation;
  }

  /** start starts the hubs, and has them found a federation. */
  static async start({ entry, env }: Play, { ids, engine, relayed, config, programs }: StandOptions): Promise<Stand> {
    const peersOf = (id: string) => ids.filter((other) => other !== id).map((hub) => ({ hub }));
    const federation = await Federation.prepare({
      hubs: ids.map((id) => ({ id, env, peers: peersOf(id), config: { ...QUICK, ...config }, ...(relayed ? { reachable: false } : {}) })),
      entry,
    });
    const stand = new Stand(ids, federation);
    try {
      if (relayed) await stand.#relay();
      for (const [id, words] of Object.entries(programs ?? {})) stand.hub(id).entry = words;
      await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
      await federation.operational(90_000);
      const founders = engine === "bft" ? ids : ids.slice(0, FOUNDERS_MAX);
      await foundTogether(federation, FEDERATION, founders, engine);
      for (const id of ids.slice(founders.length)) await joinTogether(federation, FEDERATION, id, ids[0]!);
      return stand;
    } catch (error) {
      await stand.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.federation.stop("SIGKILL");
    for (const relay of this.#relays.values()) await relay.close();
  }

  hub(id: string): HubProcess {
    return this.federation.hub(id);
  }

  /** of are the clients of a hub. */
  of(id: string): Clients {
    let clients = this.#clients.get(id);
    if (clients === undefined) this.#clients.set(id, (clients = this.hub(id).clients()));
    return clients;
  }

  status(id: string): Promise<GetFederationResponse> {
    return statusOf(this.of(id));
  }

  /** same is the state of some hubs if they have the same one; undefined if not, or if that cannot be told at the moment. */
  async same(ids: readonly string[]): Promise<string | undefined> {
    const [first, ...rest] = (await Promise.all(ids.map((id) => statusOf(this.of(id), true)))).map(stateIn);
    return rest.every((state) => state === first) ? first : undefined;
  }

  /** isolate swallows all that passes between a hub and each other one. */
  isolate(id: string): void {
    for (const [pair, relay] of this.#relays) if (pair.split(" ").includes(id)) relay.set("stall");
  }

  heal(): void {
    for (const relay of this.#relays.values()) relay.set("pass");
  }

  /** put sets a value at a hub, and gives how long that took, ms. */
  async put(id: string, key: string, text: string): Promise<number> {
    const began = systemClock.mono();
    const change = { change: { case: "put", value: { key, value: new TextEncoder().encode(text) } } } as const;
    await this.of(id).coordination.changeValue(create(ChangeValueRequestSchema, { change }), { timeoutMs: 15_000 });
    return systemClock.mono() - began;
  }

  /** read reads a value at a hub: as it has it, with its age, or as of now. */
  async read(id: string, key: string, local: boolean): Promise<{ readonly text: string | undefined; readonly ageMs: number }> {
    const answer: GetValueResponse = await this.of(id).coordination.getValue(create(GetValueRequestSchema, { key, local }));
    return { text: answer.value && new TextDecoder().decode(answer.value.value), ageMs: Number(answer.ageMs) };
  }

  /** deciding resolves when each of some hubs can decide; it gives how long that took, ms. */
  async deciding(ids: readonly string[] = this.ids): Promise<number> {
    const began = systemClock.mono();
    for (const id of ids) await until(`${id} deciding`, async () => (await this.status(id)).canDecide, 90_000);
    return systemClock.mono() - began;
  }

  /** equal resolves when all hubs have the same state, which is that of the last decision; it gives its digest. */
  equal(): Promise<string> {
    return until("equal states", () => this.same(this.ids), 60_000);
  }

  /** offer has a hub offer agents. */
  async offer(id: string, agents: readonly string[]): Promise<void> {
    const what = create(ResourceKindSchema, { what: { case: "agent", value: { type: "coder", agents: [...agents] } } });
    const capacity = { agents: BigInt(agents.length) };
    const offer = create(ResourceOfferSchema, { name: "coders", what, capacity, shared: true, automatic: true });
    await this.of(id).coordination.offerResource(create(OfferResourceRequestSchema, { offer }));
  }

  /** borrow has a hub borrow an agent: of another one, or of whoever has one. It gives the lease, and how long the decision took, ms. */
  async borrow(id: string, owner = "", take: ResourceTake = ResourceTake.HOLD): Promise<{ readonly lease: Lease; readonly ms: number }> {
    const want = create(ResourceWantSchema, { what: { case: "agent", value: { type: "coder" } } });
    const asked = { want, owner, name: owner === "" ? "" : "coders", amounts: { agents: 1n }, durationMs: 60_000n };
    const began = systemClock.mono();
    const answer = await this.of(id).coordination.requestResource(create(RequestResourceRequestSchema, { request: asked, take }));
    const ms = systemClock.mono() - began;
    const lease = answer.allocation?.lease;
    if (lease === undefined) throw new Error(`the request was answered with decision ${answer.decision}`);
    return { lease, ms };
  }

  /** use has a hub borrow an agent of whoever has one, take it, have it for a while, and give it back. */
  async use(id: string, holdMs: number): Promise<Decided> {
    const { coordination } = this.of(id);
    const want = create(ResourceWantSchema, { what: { case: "agent", value: { type: "coder" } } });
    const request = { want, amounts: { agents: 1n }, durationMs: 60_000n };
    const began = systemClock.mono();
    const answer = await coordination.requestResource(create(RequestResourceRequestSchema, { request, take: ResourceTake.ASK }));
    const ms = systemClock.mono() - began;
    if (answer.decision !== ResourceDecision.ACCEPTED) throw new Error(`a request of ${id} was answered with ${answer.decision}`);
    const { allocation } = await coordination.confirmRequest(create(ConfirmRequestRequestSchema, { id: answer.request!.id }));
    const wholeMs = systemClock.mono() - began;
    await sleep(systemClock, holdMs);
    await this.giveBack(allocation!.lease!);
    return { ms, wholeMs };
  }

  /** checks tells whether a lease may be acted under at its owner, by a fence. */
  async checks({ owner, lease, fence }: Lease, by = fence): Promise<boolean> {
    try {
      return (await this.of(owner).coordination.checkFence(create(CheckFenceRequestSchema, { lease, fence: by }))).validMs > 0n;
    } catch (error) {
      if (error instanceof FoedusError) return false;
      throw error;
    }
  }

  async giveBack({ borrower, lease, fence }: Lease): Promise<void> {
    await this.of(borrower).coordination.releaseAllocation(create(ReleaseAllocationRequestSchema, { lease, fence }));
  }

  async lent(id: string): Promise<Allocation[]> {
    return (await this.of(id).coordination.listAllocations(create(ListAllocationsRequestSchema))).allocations;
  }

  /** audit asks all hubs what runs and what is used; it gives what contradicts itself, and how many answered. */
  async audit(): Promise<{ readonly findings: number; readonly asked: number }> {
    const { findings, asked } = await this.of(this.ids[0]!).coordination.auditResources(create(AuditResourcesRequestSchema));
    return { findings: findings.length, asked: asked.length };
  }

  /** Each hub dials those behind it in the list, through a relay per pair; no hub tells an address of its own. */
  async #relay(): Promise<void> {
    for (const [from, dialler] of this.ids.entries())
      for (const listener of this.ids.slice(from + 1)) {
        const { host, basePort } = this.hub(listener);
        const at = { host, port: basePort + RELAY_PORTS + from };
        this.#relays.set(`${dialler} ${listener}`, await Relay.listen(at, { host, port: basePort }));
        const file = join(this.hub(dialler).dir, "federation.json");
        const { peers } = JSON.parse(readFileSync(file, "utf8")) as { readonly peers: readonly { readonly hub_id: string }[] };
        writeFileSync(file, JSON.stringify({ peers: peers.map((peer) => (peer.hub_id === listener ? { ...peer, ...at } : peer)) }));
      }
  }
}

/** refusal is how a call is refused: its reason and what is said of it; undefined if it is not. */
export async function refusal(call: Promise<unknown>): Promise<{ readonly reason: string; readonly message: string } | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (error instanceof FoedusError) return error.failure;
    throw error;
  }
}
