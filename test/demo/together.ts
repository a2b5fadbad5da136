// The part of the tour in which the three hubs decide together: a federation, a ballot, a loan, and an agent that moves.
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import {
  ListAgentsRequestSchema,
  ListMigrationsRequestSchema,
  MigrateAgentRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { BallotResult, BallotVote } from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import {
  CastVoteRequestSchema,
  GetBallotRequestSchema,
  OpenBallotRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import {
  AuditResourcesRequestSchema,
  CheckFenceRequestSchema,
  ListAllocationsRequestSchema,
  OfferResourceRequestSchema,
  ReleaseAllocationRequestSchema,
  RequestResourceRequestSchema,
  ResourceDecision,
} from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import { MigrationStatus } from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import { ResourceKindSchema, ResourceOfferSchema, ResourceWantSchema } from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { runHere } from "../cli/here.ts";
import { CountingClient, connectTo } from "../support/counting-agent.ts";
import { foundTogether, leaderOf, statusOf } from "../support/deciding.ts";
import { type HubProcess, until } from "../support/federation.ts";
import type { CounterArguments } from "./counter.ts";
import { must, type Stage } from "./stage.ts";

const FEDERATION = "street";
const HUBS = ["home", "factory", "lab"] as const;
/** Commands that the agent answers before it moves, and after that. */
const COUNTED = 100;
/** What the factory offers to lend; a part of it always stays at home. */
const PLANNERS = ["agent-dispatcher", "agent-maintenance"];
const BALLAST = 1024 * 1024;

/** found has the three hubs found a federation. */
export async function found({ federation, lab, say }: Stage): Promise<void> {
  const began = systemClock.mono();
  await foundTogether(federation, FEDERATION, HUBS);
  const took = systemClock.mono() - began;
  const { members } = await statusOf(lab);
  must("all three are voters", members.length === HUBS.length);
  say(
    `${HUBS.join(", ")} founded the federation ${FEDERATION} in ${(took / 1_000).toFixed(1)} s; ${await leaderOf(federation)} leads, and each can decide`,
  );
}

/** vote has a ballot opened at home, voted on by the others, and its certificate verified without any hub. */
export async function vote({ federation, home, factory, lab, say }: Stage): Promise<void> {
  const { dir } = federation.hub("home");
  const [certificate, founding, forged] = ["ballot.cert", "street.founding", "forged.cert"].map((file) => join(dir, file)) as [
    string,
    string,
    string,
  ];
  const kind = { case: "setPolicy", value: { key: "ballot_ms", value: { kind: { case: "int", value: { value: 600_000n } } } } } as const;
  const { ballotId } = await home.coordination.openBallot(create(OpenBallotRequestSchema, { action: { kind } }));
  const results: BallotResult[] = [];
  for (const clients of [factory, lab]) {
    const request = create(CastVoteRequestSchema, { ballotId, vote: BallotVote.APPROVE });
    // Where the ballot is not known yet it will be in a moment.
    results.push((await until("the vote", async () => clients.coordination.castVote(request))).result);
  }
  must("the last vote decides", results.join() === [BallotResult.UNSPECIFIED, BallotResult.APPROVED].join());
  const bytes = await until("the certificate", async () => {
    const answer = await home.coordination.getBallot(create(GetBallotRequestSchema, { ballotId }));
    return answer.certificate.length > 0 && answer.certificate;
  });
  writeFileSync(certificate, bytes);
  writeFileSync(founding, (await statusOf(home)).founding);
  writeFileSync(
    forged,
    readFileSync(certificate).map((byte, at, all) => (at === all.length >> 1 ? byte ^ 1 : byte)),
  );
  // Nothing that says where a hub is: it cannot be asked.
  const verify = (file: string) => runHere(["federation", "verify", file, "--founding", founding], { cwd: dir });
  const { code, out, err } = await verify(certificate);
  must(`the certificate is valid (${err})`, code === 0 && out.includes(`APPROVED ballot ${ballotId}`));
  must("a copy with one bit changed is refused", (await verify(forged)).code === 1);
  say(
    `they voted on ballot ${ballotId}: approved by 3; its certificate (${bytes.length} bytes) was verified offline, and with one bit changed refused`,
  );
}

/** lend has the factory lend one of its agents to the lab. */
export async function lend({ factory, lab, say }: Stage): Promise<void> {
  const what = create(ResourceKindSchema, { what: { case: "agent", value: { type: "planner", agents: PLANNERS } } });
  const offer = create(ResourceOfferSchema, { name: "planners", what, capacity: { agents: 2n }, shared: true, automatic: true });
  await factory.coordination.offerResource(create(OfferResourceRequestSchema, { offer }));
  const want = create(ResourceWantSchema, { what: { case: "agent", value: { type: "planner" } } });
  const request = create(RequestResourceRequestSchema, { request: { want, amounts: { agents: 1n }, durationMs: 60_000n } });
  const began = systemClock.mono();
  const { decision, allocation } = await lab.coordination.requestResource(request);
  const took = systemClock.mono() - began;
  must("the request is accepted", decision === ResourceDecision.ACCEPTED && allocation?.lease !== undefined);
  const { lease, fence, agents } = allocation!.lease!;
  const check = (of: bigint) => factory.coordination.checkFence(create(CheckFenceRequestSchema, { lease, fence: of }));
  await until("the fence being in force at the factory", async () => (await check(fence)).validMs > 0n);
  const refused = await check(fence - 1n).catch((error: unknown) => error);
  must("another fence is refused", refused instanceof FoedusError);
  await lab.coordination.releaseAllocation(create(ReleaseAllocationRequestSchema, { lease, fence }));
  const lent = async () => (await factory.coordination.listAllocations(create(ListAllocationsRequestSchema))).allocations.length;
  await until("what was lent being back", async () => (await lent()) === 0);
  const { findings, asked: heard } = await lab.coordination.auditResources(create(AuditResourcesRequestSchema));
  must("each hub said what runs there", heard.length === HUBS.length);
  must(`nothing contradicts itself (${findings.map(({ message }) => message).join("; ")})`, findings.length === 0);
  say(
    `the factory lent ${agents.join()} to the lab: decided in ${took.toFixed(1)} ms, fenced, given back; an audit of all hubs finds nothing`,
  );
}

/** startCounter starts a program at a hub, and gives its process. */
async function startCounter(hub: HubProcess, atEnd: Stage["atEnd"], born: { readonly ballast?: number }): Promise<number> {
  const { id, dir } = hub;
  const argument: CounterArguments = { id, dir, address: hub.address("coordination"), ...hub.pki("gateway-agents"), ...born };
  const child = fork(join(import.meta.dirname, "counter.ts"), [JSON.stringify(argument)], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  atEnd(() => void child.kill());
  const [first] = await Promise.race([once(child, "message"), once(child, "exit")]);
  must(`the program at ${id} connects`, first === "connected");
  return child.pid!;
}

/** move has an agent move from a program at home to one at the factory while it answers commands. */
export async function move({ federation, lab, say, atEnd }: Stage): Promise<void> {
  const [home, factory] = [federation.hub("home"), federation.hub("factory")];
  const [from, to] = await Promise.all([startCounter(home, atEnd, { ballast: BALLAST }), startCounter(factory, atEnd, {})]);
  const hubs = new Map(await Promise.all([home, factory].map(async (hub) => [hub.id, await connectTo(hub, "operator-admin")] as const)));
  atEnd(() => {
    for (const hub of hubs.values()) hub.close();
  });
  const client = new CountingClient(hubs, "home");
  client.start();
  try {
    const answeredBy = (hub: string): number => client.answers.filter((answer) => answer.hub === hub).length;
    await until("the agent counting at home", () => answeredBy("home") > COUNTED, 20_000);
    const began = systemClock.mono();
    const { transfer } = await lab.coordination.migrateAgent(create(MigrateAgentRequestSchema, { agent: "counter", toHubId: "factory" }));
    await until("the agent counting at the factory", () => answeredBy("factory") > COUNTED || fail(client), 30_000);
    const first = client.answers.find(({ hub }) => hub === "factory")!.at;
    await until("the end of the move", async () => {
      const { migrations } = await lab.coordination.listMigrations(create(ListMigrationsRequestSchema));
      return migrations.some((one) => one.transfer === transfer && one.status === MigrationStatus.RELEASED);
    });
    await client.stop();
    const all = client.sent + 1;
    const last = await hubs.get("factory")!.execute({ hubId: "factory", nodeId: "counter", capability: "count", value: BigInt(all) });
    must(`${all} commands are counted as ${all} (${String(last.value)})`, last.outcome === "DONE" && Number(last.value) === all);
    const { agents } = await lab.coordination.listAgents(create(ListAgentsRequestSchema));
    must("the federation has it at the factory", agents.map(({ agent }) => agent?.owner).join() === "factory");
    const times = `${((first - began) / 1_000).toFixed(1)} s, silent for ${Math.round(client.pauseSince(began))} ms`;
    say(
      `an agent moved under commands from process ${from} at home to process ${to} at the factory: ${times}; it was sent ${all} commands and counted ${all}`,
    );
  } finally {
    await client.abandon();
  }
}

function fail(client: CountingClient): never {
  throw new Error(client.lastRefusal);
}
