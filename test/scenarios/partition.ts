import { Hub } from "../../clients/typescript/index.ts";
import { drawOptions as drawConsensus } from "../simulator/consensus/options.ts";
import { runSeed as runConsensus } from "../simulator/consensus/run.ts";
import { subjectOf } from "../simulator/consensus/subjects.ts";
import { drawOptions } from "../simulator/options.ts";
import { runSeed } from "../simulator/run.ts";
import { lamp } from "../support/acts.ts";
import { until } from "../support/until.ts";
import { below, holds, type Line, type Play, type Scenario, timed } from "./promises.ts";
import { refusal, Stand } from "./stand.ts";
import { putting, Swarms, seeds } from "./swarms.ts";

const SWARMS = ["home", "factory", "lab"] as const;
/** A federation decides again within this, ms of its clocks: after a cut that leaves a majority, and after a cut has healed. */
const AGAIN_MS = 5_000;
/** Redialling after a network that swallowed everything takes as long as it takes to notice. */
const HEALED_MS = 30_000;
const CONFIG = { coordination: { decision_timeout_ms: 3_000, quorum_grace_ms: 1_000 } };

async function simulated({ scale }: Play): Promise<Line[]> {
  const raft = subjectOf("raft");
  const parted = new Set(["partition", "oneway", "partial", "loss"] as const);
  return [
    ...minority(),
    await seeds(
      "consensus: three voters, links cut in both directions, in one, and so that few see everyone",
      scale === "short" ? 3 : 60,
      (seed) => runConsensus(drawConsensus(raft, seed, 3, parted), raft),
    ),
    await seeds("feeds and commands: three swarms, some of them cut off", scale === "short" ? 1 : 15, (seed) =>
      runSeed(drawOptions(seed, 3, new Set(["partition", "cut", "half"]))),
    ),
  ];
}

/** minority: one of three is cut off, in virtual time. */
function minority(): Line[] {
  const swarms = Swarms.found(3);
  const { hubs, ids } = swarms;
  swarms.put(ids[0]!, "k", "before");
  const alone = swarms.status(ids[0]!).leader;
  const rest = ids.filter((id) => id !== alone);
  hubs.cut(alone);
  swarms.come(() => rest.every((id) => swarms.status(id).canDecide && swarms.status(id).leader !== alone));
  swarms.put(rest[0]!, "k", "meanwhile");
  swarms.come(() => !swarms.status(alone).canDecide);
  const refused = hubs.wait(alone, hubs.call(alone, putting("k", "never")), 60_000);
  const [reason, age] = [refused.kind === "refused" ? refused.failure.reason : "", swarms.status(alone).ageMs ?? 0];
  const old = swarms.read(alone, "k");
  hubs.heal();
  const healed = swarms.now;
  swarms.come(() => swarms.digests().length === 1 && swarms.read(alone, "k") === "meanwhile");
  return [
    holds(
      "2+1, whoever leads is cut off: the two decide",
      swarms.read(rest[0]!, "k") === "meanwhile",
      "they elected another one and decided",
    ),
    holds(
      "the one refuses with NO_QUORUM, and answers with its age",
      reason === "NO_QUORUM" && old === "before" && age > 0,
      `${reason}; "${old}", ${Math.round(age)} ms old`,
    ),
    below("after the cut has healed all three have the same, virtual time", AGAIN_MS, "ms", swarms.now - healed, "", 0),
  ];
}

async function processes(play: Play): Promise<Line[]> {
  const stand = await Stand.start(play, { ids: SWARMS, relayed: true, config: CONFIG });
  try {
    return [...(await twoAndOne(stand)), ...(await allAlone(stand))];
  } finally {
    await stand.stop();
  }
}

/** twoAndOne cuts whoever leads off from the two others. */
async function twoAndOne(stand: Stand): Promise<Line[]> {
  await stand.put("home", "k", "before");
  const { leader } = await stand.status("home");
  const [alone, rest] = [leader, SWARMS.filter((id) => id !== leader)];
  for (const id of SWARMS) await until(`${id} having it`, async () => (await stand.read(id, "k", true)).text === "before");
  stand.isolate(alone);
  const decided = await until("the two electing another one", async () => {
    const { canDecide, leader: now } = await stand.status(rest[0]!);
    return canDecide && now !== alone;
  }).then(() => stand.put(rest[0]!, "k", "meanwhile"));
  await until("the one noticing", async () => !(await stand.status(alone)).canDecide, 30_000);
  const told = await refusal(stand.put(alone, "k", "never"));
  const read = await refusal(stand.read(alone, "k", false));
  const first = await stand.read(alone, "k", true);
  const second = await until("its age rising", async () => {
    const answer = await stand.read(alone, "k", true);
    return answer.ageMs > first.ageMs && answer;
  });
  const { problem } = await stand.status(alone);
  stand.heal();
  const healed = await timed(() =>
    until("the one having it", async () => (await stand.read(alone, "k", true)).text === "meanwhile", 90_000),
  );
  await stand.equal();
  const honest = first.text === "before" && second.ageMs > first.ageMs && first.ageMs > 0;
  return [
    below("2+1, the leader is cut off: a decision of the two, once another leads", AGAIN_MS, "ms", decided, "", 0),
    holds(
      "the one refuses to decide, with the reason",
      told?.reason === "NO_QUORUM" && read?.reason === "NO_QUORUM",
      `${told?.reason}: ${told?.message}`,
    ),
    holds("its status says why", problem !== "", problem),
    holds("what it has it shows with its age, which rises", honest, `"${first.text}", ${first.ageMs} ms old, then ${second.ageMs} ms`),
    below("after the cut has healed it has what was decided", HEALED_MS, "ms", healed, "", 0),
  ];
}

/** allAlone cuts all off from each other; one of them has work of its own to do. */
async function allAlone(stand: Stand): Promise<Line[]> {
  const hub = Hub.over(stand.hub("home").clients("gateway-agents"));
  await hub.register(lamp("lamp"));
  const attached = Promise.withResolvers<void>();
  hub.serve({ nodeIds: ["lamp"], onAttached: () => attached.resolve(), run: ({ value }) => ({ value }) });
  await attached.promise;
  for (const id of SWARMS) stand.isolate(id);
  for (const id of SWARMS) await until(`${id} noticing`, async () => !(await stand.status(id)).canDecide, 30_000);
  const before = await stand.status("home");
  const first = await Promise.all(SWARMS.map((id) => refusal(stand.put(id, `first/${id}`, "alone"))));
  const then = await Promise.all(SWARMS.map((id) => refusal(stand.put(id, `then/${id}`, "alone"))));
  const own = Hub.over(stand.of("home"));
  const { outcome } = await own.execute({ hubId: "home", nodeId: "lamp", capability: "state", value: "ON" });
  const local = await stand.read("home", "k", true);
  stand.heal();
  const healed = await timed(() => until("a decision", () => stand.put("lab", "k", "after"), 90_000));
  await stand.equal();
  const { text } = await stand.read("home", "k", false);
  const done: string[] = [];
  for (const key of [
    ...SWARMS.filter((_, i) => first[i]?.reason === "NO_QUORUM").map((id) => `first/${id}`),
    ...SWARMS.map((id) => `then/${id}`),
  ])
    if ((await stand.read("home", key, false)).text !== undefined) done.push(key);
  hub.close();
  const reasons = [first, then].map((all) => all.map((one) => one?.reason ?? "decided"));
  return [
    holds(
      "two isolated, one in use: none of the three decides alone; a moment later each says at once why",
      reasons[0]!.every((reason) => reason === "NO_QUORUM" || reason === "OUTCOME_UNKNOWN") &&
        reasons[1]!.every((reason) => reason === "NO_QUORUM"),
      reasons.map((all) => all.join(", ")).join("; then "),
    ),
    holds("what was refused for want of a quorum never happens", done.length === 0, done.length === 0 ? "none of it did" : done.join(", ")),
    holds(
      "the one in use runs commands of its own, and reads with an age",
      outcome === "DONE" && local.text === "meanwhile" && local.ageMs > 0,
      `${outcome}; "${local.text}", ${local.ageMs} ms old`,
    ),
    holds("after that all decide the same again", text === "after", `position ${before.applied} before, one state after`),
    below("a decision after all links have healed", HEALED_MS, "ms", healed, "", 0),
  ];
}

/** PARTITION is the scenario in which links break. */
export const PARTITION: Scenario = { id: "T2", shows: "S1-32", title: "a partition: 2+1, and each alone", ways: { simulated, processes } };
