// Hubs that found a federation and decide: what tests and benches of decisions begin with.
import { create } from "@bufbuild/protobuf";
import {
  AdmitMemberRequestSchema,
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  type GetFederationResponse,
  JoinFederationRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { Clients, Federation } from "./federation.ts";
import { until } from "./until.ts";

/** statusOf is what a hub says of its federation, with the digest of its state if that is wanted. */
export function statusOf(clients: Pick<Clients, "coordination">, withStateDigest = false): Promise<GetFederationResponse> {
  return clients.coordination.getFederation(create(GetFederationRequestSchema, { withStateDigest }));
}

/** stateIn is the state of a hub by its status, for comparing; undefined while the hub makes no digest, as it made one a moment ago. */
export function stateIn({
  applied,
  stateDigest,
}: {
  readonly applied: bigint | number;
  readonly stateDigest: Uint8Array;
}): string | undefined {
  return stateDigest.length === 0 ? undefined : `${applied} ${Buffer.from(stateDigest).toString("hex")}`;
}

/** foundTogether has the first of the hubs found a federation with the others, and resolves when each can decide. Founders let others in. */
export async function foundTogether(
  federation: Federation,
  federationId: string,
  hubs: readonly string[],
  engine: "raft" | "bft" = "raft",
): Promise<void> {
  const opened = hubs.map((id) => federation.hub(id).clients());
  const [first, ...others] = opened;
  const request = create(FoundFederationRequestSchema, { federationId, engine, founders: hubs.slice(1), admission: "founder" });
  const founded = async () => (await first!.coordination.foundFederation(request)).state !== FederationState.NONE;
  await until(`${hubs[0]} founding ${federationId}`, founded, 60_000);
  for (const clients of others) {
    await until("the invitation", async () => (await statusOf(clients)).invitations.length > 0, 60_000);
    const join = create(JoinFederationRequestSchema, { federationId });
    await until("the consent", async () => (await clients.coordination.joinFederation(join)).state !== FederationState.NONE, 60_000);
  }
  for (const [i, clients] of opened.entries()) await until(`${hubs[i]} deciding`, async () => (await statusOf(clients)).canDecide, 60_000);
  for (const clients of opened) clients.close();
}

/** joinTogether has a hub let in by a founder, and resolves when it can decide. */
export async function joinTogether(federation: Federation, federationId: string, hub: string, founder: string): Promise<void> {
  const [joiner, sponsor] = [federation.hub(hub).clients(), federation.hub(founder).clients()];
  await joiner.coordination.joinFederation(create(JoinFederationRequestSchema, { federationId, via: founder }));
  const admit = create(AdmitMemberRequestSchema, { hubId: hub });
  await until(`${hub} being let in`, async () => (await sponsor.coordination.admitMember(admit)) !== undefined, 60_000);
  await until(`${hub} deciding`, async () => (await statusOf(joiner)).canDecide, 60_000);
  joiner.close();
  sponsor.close();
}

/** leaderOf names the hub that leads, as soon as one of those that run says so of itself. */
export async function leaderOf(federation: Federation, timeoutMs = 15_000): Promise<string> {
  const running = [...federation.hubs.values()].filter((hub) => hub.pids.size > 0);
  const opened = running.map((hub) => ({ id: hub.id, clients: hub.clients() }));
  try {
    return await until(
      "a leader of the federation",
      async () => {
        for (const { id, clients } of opened) {
          const { leader, canDecide } = await statusOf(clients);
          if (leader === id && canDecide) return id;
        }
        return undefined;
      },
      timeoutMs,
    );
  } finally {
    for (const { clients } of opened) clients.close();
  }
}
