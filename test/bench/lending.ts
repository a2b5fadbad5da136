// The family "lending" (S1-38): how long a hub takes to decide a request for a resource, over real processes and mutual TLS, at a steady rate.
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import {
  ChangeValueRequestSchema,
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  JoinFederationRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import {
  OfferResourceRequestSchema,
  ReleaseAllocationRequestSchema,
  RequestResourceRequestSchema,
  ResourceDecision,
  ResourceTake,
  SetResourcePolicyRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import {
  LeasePriority,
  OnDisconnect,
  ResourceAmountsSchema,
  ResourceKindSchema,
  ResourceOfferSchema,
  ResourceWantSchema,
} from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { sleep } from "#runtime/clock.ts";
import { type Clients, Federation, until } from "../support/federation.ts";
import { belowRow, context, type Row } from "./measure.ts";
import { hubEntry } from "./rig.ts";

const FAMILY = "lending";
const HUBS = ["home", "factory", "lab"] as const;
/** S1-34: requests in a minute; each hub asks in turn. */
const PER_MINUTE = 1_000;
/** Measured, and uncounted before that, s. */
const SECONDS = 60;
const WARM_SECONDS = 20;
/** S1-38: the 99th percentile, ms. */
const LIMIT_MS = 50;
const OFFERS = 8;

/** quantile of sorted values. */
function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

async function found(clients: readonly Clients[]): Promise<void> {
  const [first, ...others] = clients;
  const state = async (one: Clients) => one.coordination.getFederation(create(GetFederationRequestSchema));
  const request = create(FoundFederationRequestSchema, { federationId: "bench", founders: HUBS.slice(1) });
  await until("founding", async () => (await first!.coordination.foundFederation(request)).state === FederationState.FOUNDING, 20_000);
  for (const one of others) {
    await until("the invitation", async () => (await state(one)).invitations.length === 1, 20_000);
    await one.coordination.joinFederation(create(JoinFederationRequestSchema, { federationId: "bench" }));
  }
  for (const one of clients) await until("a leader", async () => (await state(one)).canDecide, 20_000);
}

/** offer has each hub lend compute to the others. */
async function offer(clients: readonly Clients[]): Promise<void> {
  const policy = {
    ...{ maxAgents: 256n, maxDurationMs: 7_200_000n, maxUtilization: 1_000n, priority: LeasePriority.HIGH, preemption: false },
    ...{ storageMaxMb: 1n, storageRetentionMs: 1n, storageReplication: 1n, onDisconnect: OnDisconnect.KEEP },
  };
  for (const one of clients) {
    await one.coordination.setResourcePolicy(create(SetResourcePolicyRequestSchema, { policy }));
    for (let i = 0; i < OFFERS; i++) {
      const what = create(ResourceKindSchema, { what: { case: "compute", value: { work: 1, models: ["llm"], maxBatch: 8n } } });
      const capacity = { cpuMilli: 1_000_000_000n };
      const init = create(ResourceOfferSchema, { name: `pool-${i}`, what, capacity, shared: true, automatic: true });
      await one.coordination.offerResource(create(OfferResourceRequestSchema, { offer: init }));
    }
  }
}

/** Act is one call of which the decision is timed; what it gives is done behind that. */
type Act = (client: Clients, i: number) => Promise<() => Promise<unknown>>;

const nothing = async (): Promise<void> => {};

/** request asks for something, and gives back what it got. */
function request(take: ResourceTake): Act {
  return async (client) => {
    const want = create(ResourceWantSchema, { what: { case: "compute", value: { work: 1 } } });
    const amounts = create(ResourceAmountsSchema, { cpuMilli: 1_000n });
    const asked = create(RequestResourceRequestSchema, { request: { want, amounts, durationMs: 60_000n }, take });
    const answer = await client.coordination.requestResource(asked);
    if (answer.decision !== ResourceDecision.ACCEPTED) throw new Error(`a request was answered with ${answer.decision}`);
    const { lease } = answer.allocation ?? {};
    if (take === ResourceTake.ASK || lease === undefined) return nothing;
    const { lease: number, fence } = lease;
    return () => client.coordination.releaseAllocation(create(ReleaseAllocationRequestSchema, { lease: number, fence }));
  };
}

/** put sets a value: what any decision takes on this machine at the moment. */
const put: Act = async (client, i) => {
  const change = { case: "put", value: { key: `k${i % 100}`, value: new Uint8Array(128) } } as const;
  await client.coordination.changeValue(create(ChangeValueRequestSchema, { change: { change } }));
  return nothing;
};

/** load acts at a steady rate, whatever the answers take (an open loop), and gives the times of all, sorted, by turns of the acts. */
async function load(clients: readonly Clients[], seconds: number, acts: readonly Act[]): Promise<number[][]> {
  const count = Math.round((PER_MINUTE * seconds * acts.length) / 60);
  const began = systemClock.mono();
  const times: number[][] = acts.map(() => []);
  const one = async (i: number): Promise<void> => {
    const sent = systemClock.mono();
    const then = await acts[i % acts.length]!(clients[i % clients.length]!, i);
    times[i % acts.length]!.push(systemClock.mono() - sent);
    await then();
  };
  const all: Promise<void>[] = [];
  for (let i = 0; i < count; i++) {
    const wait = began + (i * 60_000) / (PER_MINUTE * acts.length) - systemClock.mono();
    if (wait > 0) await sleep(systemClock, wait);
    all.push(one(i));
  }
  await Promise.all(all);
  return times.map((some) => some.sort((a, b) => a - b));
}

async function termOf(client: Clients): Promise<bigint> {
  return (await client.coordination.getFederation(create(GetFederationRequestSchema))).term;
}

/** lending measures S1-38 with three hubs. */
export async function lending(): Promise<Row[]> {
  const hubs = HUBS.map((id) => ({ id, mode: "single" as const, peers: HUBS.filter((hub) => hub !== id).map((hub) => ({ hub })) }));
  const federation = await Federation.start({ hubs, entry: hubEntry() });
  try {
    await federation.operational(60_000);
    const clients = HUBS.map((id) => federation.hub(id).clients());
    await found(clients);
    await offer(clients);
    await load(clients, WARM_SECONDS, [request(ResourceTake.ASK), put]);
    const before = await termOf(clients[0]!);
    // By turns, so that what disturbs one disturbs the other.
    const [decided = [], values = []] = await load(clients, SECONDS, [request(ResourceTake.ASK), put]);
    const elections = (await termOf(clients[0]!)) - before;
    const [held = []] = await load(clients, SECONDS / 2, [request(ResourceTake.HOLD)]);
    const text = (times: readonly number[]): string =>
      `p50 ${quantile(times, 0.5).toFixed(1)} ms, p99 ${quantile(times, 0.99).toFixed(1)} ms, most ${(times.at(-1) ?? 0).toFixed(1)} ms`;
    const note = `3 hubs, ${PER_MINUTE}/min, ${decided.length} requests, durable, ${elections} elections meanwhile`;
    return [
      belowRow(FAMILY, "decision of a request, p99 (S1-38)", LIMIT_MS, "ms", quantile(decided, 0.99), note),
      context(FAMILY, "decision of a request", text(decided), note),
      context(FAMILY, "decision of a value, by turns with it", text(values), "what any decision takes here at the moment"),
      context(FAMILY, "decision and confirmation", text(held), "two decisions one after the other, and a release behind each"),
    ];
  } finally {
    await federation.stop();
  }
}
