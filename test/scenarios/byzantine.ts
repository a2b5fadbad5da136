import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { commandCodec } from "../../services/coordination/codec/commands.ts";
import { feedKeyOf, simCrypto } from "../simulator/crypto.ts";
import { runBatch } from "../simulator/twins/worker.ts";
import { metric } from "../support/acts.ts";
import { ROOT } from "../support/federation.ts";
import { until } from "../support/until.ts";
import { FORGED_KEY, LIES, Liar, type Lie } from "./lies.ts";
import { holds, type Line, type Play, type Scenario, said } from "./promises.ts";
import { Stand } from "./stand.ts";
import { putting, Swarms } from "./swarms.ts";

const SWARMS = ["home", "factory", "lab", "mallory"] as const;
const HONEST = SWARMS.slice(0, 3);
const LIAR = "mallory";
/** Ways that prove nothing against who goes them. */
const DENIABLE = LIES.filter((lie) => lie !== "equivocate");
/** What is forged is counted as this. */
const BAD = ["bad_votes", "bad_certificate", "bad_proposal", "bad_evidence"] as const;
/** Kinds of frames that it forges, also where there is little to say. */
const FORGED = ["votes", "certificate", "proposal", "payload"] as const;
/** Callers that decide one value after the other, by honest hub. */
const CALLERS = 4;

async function simulated({ scale }: Play): Promise<Line[]> {
  const samples = scale === "short" ? 20 : 400;
  const twins = (["free", "corrupt", "seven"] as const).map((kind) => runBatch({ kind, from: 1, to: 1 + samples }));
  const broken = twins.flatMap((tally) => tally.broken);
  const accused = twins.reduce((sum, tally) => sum + tally.accused, 0);
  return [
    ...oneLies(scale === "short" ? 3 : 30),
    holds(
      "hubs with two copies under one key, also two of seven: honest hubs never decide differently, only twins are named",
      broken.length === 0,
      `${3 * samples} scenarios, a twin named in ${accused}, ${broken.length} broken${broken.map((text) => `; ${text}`).join("")}`,
    ),
  ];
}

/** oneLies: one of four lies in every way, in virtual time. */
function oneLies(decisions: number): Line[] {
  const swarms = Swarms.found(4, "bft");
  const { hubs, ids } = swarms;
  const [victim = "", ...others] = ids;
  const [honest, liar] = [[victim, ...others.slice(0, 2)], others[2]!];
  const value = new TextEncoder().encode(FORGED_KEY);
  const command = commandCodec.write({ book: "values", command: { kind: "put", key: FORGED_KEY, value, conditional: false, expect: 0 } });
  const lying = new Liar({ crypto: simCrypto(liar), publicKey: feedKeyOf(liar), victim, command, told: (peer) => peer === victim });
  hubs.forge(liar, (frame, to) => lying.tell(to, frame));
  let decided = 0;
  let named = 0;
  for (const lie of DENIABLE) {
    lying.lie = lie;
    for (let i = 0; i < decisions; i++) {
      hubs.ask(honest[i % 3]!, "changed", putting(`${lie}-${i}`, lie));
      decided++;
    }
    named += honest.filter((id) => hubs.reported(id).length > 0).length;
  }
  lying.lie = "equivocate";
  for (let i = 0; i < decisions; i++) hubs.ask(honest[i % 3]!, "changed", putting(`equivocate-${i}`, "equivocate"));
  swarms.come(() => honest.every((id) => hubs.reported(id).length > 0));
  lying.lie = "withhold";
  hubs.ask(victim, "changed", putting("after", "after"));
  swarms.come(() => honest.every((id) => swarms.read(id, "after") === "after"));
  swarms.come(() => swarms.digests(honest).length === 1);
  const states = swarms.digests(honest).length;
  const blamed = new Set(honest.flatMap((id) => hubs.reported(id)));
  const refused = honest.filter((id) => hubs.observed(id).includes(`dropped: a batch with a signature that is not ${victim}'s`)).length;
  const believed = honest.filter((id) => swarms.read(id, FORGED_KEY) !== undefined).length;
  const forged = FORGED.filter((kind) => lying.forged.has(kind));
  const wanted = DENIABLE.length * decisions;
  return [
    holds(
      "one of four withholds, forges and replays: the others decide all the same",
      decided === wanted && states === 1 && lying.lied > 0,
      `${decided} of ${wanted} decided, one state, ${lying.lied} frames were lies`,
    ),
    holds(
      "what it wrote in the name of another is believed by none; what proves nothing accuses nobody",
      refused === honest.length && believed === 0 && named === 0 && forged.length === FORGED.length,
      `${forged.join(", ")} were forged; refused in the log by ${refused}, believed by ${believed}, accused by ${named}`,
    ),
    holds(
      "it votes twice: each of the others has proof, and they go on",
      blamed.size === 1 && blamed.has(liar),
      `${honest.length} reported ${[...blamed].join(", ")}`,
    ),
  ];
}

async function processes(play: Play): Promise<Line[]> {
  const source = ["--import", join(ROOT, "test/scenarios/liar.ts"), join(ROOT, "cli/main.ts")];
  const stand = await Stand.start(play, { ids: SWARMS, engine: "bft", programs: { [LIAR]: source } });
  try {
    const forMs = play.scale === "short" ? 400 : 10_000;
    const rates: string[] = [];
    let least = Number.POSITIVE_INFINITY;
    for (const lie of DENIABLE) {
      const { decided, refused } = await rate(stand, lie, forMs);
      rates.push(`${lie} ${((decided * 1_000) / forMs).toFixed(0)}${refused > 0 ? ` (${refused} refused)` : ""}`);
      least = Math.min(least, decided);
      // However busy the machine is, each kind of forgery was on its way once.
      if (lie === "forge") await until("each forgery being counted", () => countedAll(stand), 60_000);
    }
    const early = await levels(stand);
    const bad = await Promise.all(BAD.map((what) => counted(stand, what)));
    const forged = await Promise.all(HONEST.map((id) => stand.read(id, FORGED_KEY, false)));
    return [
      holds(
        "one of four withholds, forges and replays: the others decide all the same",
        least > 0,
        `decisions each second: ${rates.join(", ")}`,
      ),
      holds(
        "what it forged is refused and counted",
        bad.every((count) => count > 0),
        BAD.map((what, i) => `${what} ${bad[i]}`).join(", "),
      ),
      holds(
        "what it wrote in the name of another is believed by none; what proves nothing accuses nobody",
        forged.every(({ text }) => text === undefined) && early.every(({ level }) => level === TrustLevel.FULL),
        `trust in it: ${early.map(({ decision }) => decision).join("; ")}`,
      ),
      ...(await twice(stand, forMs)),
    ];
  } finally {
    await stand.stop();
  }
}

function lieNow(stand: Stand, lie: Lie): void {
  const path = join(stand.hub(LIAR).dir, "lie");
  // The hub reads it at any instant, and never half of it.
  writeFileSync(`${path}.new`, lie);
  renameSync(`${path}.new`, path);
}

/** rate has honest hubs decide values for a while, one after the other at each caller. */
async function rate(stand: Stand, lie: Lie, forMs: number): Promise<{ readonly decided: number; readonly refused: number }> {
  lieNow(stand, lie);
  const end = systemClock.mono() + forMs;
  let [decided, refused] = [0, 0];
  const caller = async (id: string, number: number): Promise<void> => {
    do
      try {
        await stand.put(id, `${lie}/${id}/${number}`, lie);
        decided++;
      } catch {
        refused++;
      }
    while (systemClock.mono() < end);
  };
  await Promise.all(HONEST.flatMap((id) => Array.from({ length: CALLERS }, (_, number) => caller(id, number))));
  return { decided, refused };
}

/** twice: it votes twice, is proved to have, and is trusted no more; the others go on without it. */
async function twice(stand: Stand, forMs: number): Promise<Line[]> {
  lieNow(stand, "equivocate");
  const lowered = await until(
    "each honest hub having proof",
    async () => {
      stand.hub(LIAR).running();
      await stand.put("factory", "while", "it lies");
      const all = await levels(stand);
      return all.every(({ level }) => level === TrustLevel.MINIMAL) && all;
    },
    60_000,
  );
  const evidence = await counted(stand, "evidence");
  const { decided } = await rate(stand, "honest", forMs);
  const states = await until("equal states of the honest hubs", () => stand.same(HONEST));
  return [
    holds(
      "it votes twice: each of the others has proof, and trusts it no further than to know that it is there",
      evidence >= HONEST.length,
      lowered[0]!.decision,
    ),
    holds(
      "they go on without it, and have the same",
      decided > 0 && states !== "",
      `${((decided * 1_000) / forMs).toFixed(0)} decisions each second`,
    ),
    said(
      "what the liar is",
      "a hub of the shipping code with its true keys; what its core says is changed on the way out (test/scenarios/lies.ts)",
    ),
  ];
}

/** levels is what each honest hub says of the liar. */
async function levels(stand: Stand): Promise<Pick<Peer, "level" | "decision">[]> {
  return Promise.all(
    HONEST.map(async (id) => {
      const { peers } = await stand.of(id).discovery.listPeers(create(ListPeersRequestSchema));
      return peers.find(({ hubId }) => hubId === LIAR)!;
    }),
  );
}

/** countedAll tells whether the honest hubs have counted each kind of what is forged; a decision gives the liar an occasion for more. */
async function countedAll(stand: Stand): Promise<boolean> {
  stand.hub(LIAR).running();
  await stand.put("factory", "while", "it forges");
  return (await Promise.all(BAD.map((what) => counted(stand, what)))).every((count) => count > 0);
}

/** counted is how often the honest hubs counted something. */
async function counted(stand: Stand, what: string): Promise<number> {
  const each = await Promise.all(HONEST.map((id) => metric(stand.hub(id), "foedus_coordination_events_total", { what })));
  return each.reduce((sum, count) => sum + count, 0);
}

/** BYZANTINE is the scenario in which one lies. */
export const BYZANTINE: Scenario = { id: "T3", shows: "S1-33", title: "one of four swarms lies", ways: { simulated, processes } };
