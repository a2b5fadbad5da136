import { Prng } from "#kernel/prng.ts";
import { type BftFrame, GENESIS, NO_ROUND, STEP } from "../../../services/coordination/bft/frames.ts";
import { hexOf } from "../../../services/coordination/bft/hex.ts";
import type { BftLimits } from "../../../services/coordination/bft/options.ts";
import { partsOf } from "../../../services/coordination/bft/parts.ts";
import { verifyCommitCertificate } from "../../../services/coordination/bft/proof/certificate.ts";
import { verifyEvidence } from "../../../services/coordination/bft/proof/evidence.ts";
import { voteBytes } from "../../../services/coordination/bft/proof/signed.ts";
import { batchBytes } from "../../../services/coordination/bft/record.ts";
import { bftFrameBytes, readBftFrame } from "../../../services/coordination/codec/engines/bft-frames.ts";
import { hubOf } from "../../../services/coordination/log/engine.ts";
import { simCrypto } from "../crypto.ts";
import { type Played, Schedule } from "./schedule.ts";
import { type Copy, FEDERATION, keyOf, World } from "./world.ts";

/** Scenario says, round by round, which copies hear each other, and who proposes (Twins, arXiv 2004.10617). */
export interface Scenario {
  readonly name: string;
  readonly n: number;
  readonly twins: readonly number[];
  /** For each scheduled round, the set that each copy is in. */
  readonly partitions: readonly (readonly number[])[];
  /** For each scheduled round, its proposer; the rule of the engine if undefined. */
  readonly proposers?: readonly number[];
  /** Copies, by number, that are killed and started again at instants, ms. */
  readonly restarts?: readonly { readonly copy: number; readonly at: number }[];
  /** How many of 100 frames are lost until the network heals, and how long others take at most, ms: asymmetric, and out of order. */
  readonly lossy?: { readonly lost: number; readonly delayMs: number; readonly seed: number };
  /** Changes frames on their way. */
  readonly corrupt?: (frame: BftFrame) => BftFrame | undefined;
  /** Decisions that must follow when all is well again. */
  readonly decisions?: number;
  /** Copies, by number, that never run: with f of them, every other one is needed. */
  readonly silent?: readonly number[];
  /** The first twin sends the next hub a decision that only it signed, as often as it takes. */
  readonly forge?: boolean;
  /** Twins accept and propose what nobody else accepts. */
  readonly shameless?: boolean;
  /** More than f lie: decisions may differ, and need not follow, but then a liar must be named. */
  readonly hopeless?: boolean;
}

/** Problem is a broken promise. */
export interface Problem {
  readonly kind: "agreement" | "validity" | "certificate" | "blame" | "liveness" | "evidence" | "crash";
  readonly text: string;
}

/** Result is what became of a scenario. */
export interface Result {
  readonly problems: readonly Problem[];
  /** Two honest copies decided differently. */
  readonly forked: boolean;
  readonly accused: number;
  readonly decided: number;
  /** What became of the scheduled rounds. */
  readonly played: Played;
}

/** How long a scheduled round is in force at the most, ms: longer than the longest of them takes, so that each set with a quorum ends it. */
const SLOT_MS = 50;
/** How long the decisions after healing may take, ms. */
const LIVE_MS = 6_000;
/** Bytes of a payload that no honest copy accepts. */
const LONG = 100;
/** After the scheduled rounds of a fork the copies exchange what they have. */
const SETTLE_MS = 500;

/** Times of a round with which frames that take 1 ms arrive long before anything elapses. The sixth takes 43 ms. */
const STEADY: Partial<BftLimits> = { proposeMs: 12, proposeMoreMs: 2, voteMs: 5, voteMoreMs: 1, resendMs: 30 };

/** runScenario runs a scenario and looks at every promise. */
export function runScenario(scenario: Scenario): Result {
  const problems: Problem[] = [];
  const healAt = SLOT_MS * scenario.partitions.length;
  const schedule = new Schedule(scenario.partitions, healAt);
  const world = worldOf(scenario, schedule, healAt);
  const { copies } = world;
  try {
    for (const { copy, at } of scenario.restarts ?? []) world.at(at, () => world.restart(copies[copy % copies.length] as Copy));
    // Something waits for a decision in each scheduled round.
    for (const at of schedule.starts)
      for (const [i, copy] of copies.entries()) world.at(at, () => world.propose(copy, `${at} ${i} ${copy.name}`));
    for (const i of scenario.silent ?? []) (copies[i] as Copy).up = false;
    if (scenario.forge === true) world.at(2, () => forge(world, scenario));
    if (scenario.shameless === true)
      for (const copy of copies.filter((one) => !world.honest().includes(one))) world.at(0, () => world.propose(copy, "x".repeat(LONG)));
    world.run(healAt);
  } catch (error) {
    problems.push(crash(error));
  }
  const played = schedule.played(world);
  try {
    if (scenario.hopeless) world.run(healAt + SETTLE_MS);
    else live(world, scenario.decisions ?? 1, problems);
  } catch (error) {
    problems.push(crash(error));
  }
  const decisions = decisionsOf(world);
  const forked = [...decisions.values()].some((values) => values.size > 1);
  if (forked && !scenario.hopeless) problems.push({ kind: "agreement", text: describe(decisions) });
  judge(world, scenario, forked, problems);
  const decided = Math.max(0, ...world.honest().flatMap((copy) => [...copy.committed.keys()]));
  return { problems, forked, accused: accusedIn(world).size, decided, played };
}

function crash(error: unknown): Problem {
  return { kind: "crash", text: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

function worldOf({ n, twins, proposers, corrupt, lossy, shameless }: Scenario, schedule: Schedule, healAt: number): World {
  const prng = new Prng(lossy?.seed ?? 0);
  return new World({
    n,
    twins,
    check: (payload) => payload.length < LONG,
    shameless: shameless === true,
    ...(lossy === undefined ? { limits: STEADY } : {}),
    ...(proposers === undefined
      ? {}
      : { proposer: (height, round, members) => (proposers[height - 1 + round] ?? height + round) % members.size }),
    delay: (from, to, frame, world) => {
      if (world.now >= healAt) return 1;
      schedule.sent(world, from, frame);
      if (lossy !== undefined) return prng.below(100) < lossy.lost ? undefined : 1 + prng.below(lossy.delayMs);
      return schedule.connects(world, from, to) ? 1 : undefined;
    },
    ...(corrupt === undefined ? {} : { wire: corrupt }),
  });
}

/** A decision with the liar's signature in the place of all others. */
function forge(world: World, { twins }: Scenario): void {
  const liar = twins[0] ?? 0;
  const replica = world.membership.voters[liar] as string;
  const crypto = simCrypto(hubOf(replica));
  const time = world.clock().wall + 1;
  const bytes = batchBytes({
    height: 1,
    time,
    previous: GENESIS,
    payloads: [crypto.hash(new Uint8Array(1))],
    markers: [],
    membership: undefined,
  });
  const vote = { height: 1, round: 0, step: STEP.PRECOMMIT, value: hexOf(crypto.hash(bytes)), relies: NO_ROUND };
  const signature = crypto.sign(voteBytes(FEDERATION, replica, vote));
  const votes = [1, 2, 3].map(() => ({ voter: liar, relies: NO_ROUND, signature }));
  const victim = world.copies.find((copy) => copy.replica !== replica) as Copy;
  world.deliver(replica, victim, { kind: "certificate", certificate: { ...vote, votes } });
  for (const part of partsOf(1, vote.value, bytes)) world.deliver(replica, victim, part);
}

/** After healing, decisions follow: what an honest copy proposes is decided at all honest ones. */
function live(world: World, count: number, problems: Problem[]): void {
  const honest = world.honest().filter(({ up }) => up);
  for (let k = 0; k < count; k++) {
    const text = `after ${k}`;
    world.propose(honest[k % honest.length] as Copy, text);
    const isDecided = (copy: Copy): boolean =>
      [...copy.committed.values()].some(({ payloads }) => payloads.some((payload) => new TextDecoder().decode(payload) === text));
    const since = world.now;
    if (world.run(since + LIVE_MS, () => honest.every(isDecided))) continue;
    const states = world.copies.map((copy) => `${copy.name}: ${copy.engine.describe().replaceAll("\n", ", ")}`);
    problems.push({ kind: "liveness", text: `${text} is not decided after ${LIVE_MS} ms\n${states.join("\n")}` });
    return;
  }
}

function decisionsOf(world: World): Map<number, Map<string, string>> {
  const decisions = new Map<number, Map<string, string>>();
  for (const copy of world.honest())
    for (const index of copy.committed.keys()) {
      const value = copy.engine.decision(index)?.certificate.value ?? "unknown";
      const values = decisions.get(index) ?? new Map<string, string>();
      decisions.set(index, values);
      values.set(value, `${values.get(value) ?? ""} ${copy.name}`);
    }
  return decisions;
}

function describe(decisions: ReadonlyMap<number, ReadonlyMap<string, string>>): string {
  const split = [...decisions].filter(([, values]) => values.size > 1);
  return split
    .map(([height, values]) => `height ${height}: ${[...values].map(([value, who]) => `${value.slice(0, 8)} at${who}`).join("; ")}`)
    .join("\n");
}

function accusedIn(world: World): Set<string> {
  return new Set(world.honest().flatMap(({ evidence }) => evidence.map(({ against }) => against)));
}

function judge(world: World, { twins }: Scenario, forked: boolean, problems: Problem[]): void {
  const verifier = { federation: FEDERATION, crypto: simCrypto("anyone"), keyOf };
  const liars = new Set(twins.map((twin) => world.membership.voters[twin]));
  for (const copy of world.honest()) {
    for (const { against, proof, what } of copy.evidence) {
      if (!liars.has(against)) problems.push({ kind: "blame", text: `${copy.name} blames ${against}, which is honest, for ${what}` });
      if (verifyEvidence(verifier, proof)?.against !== against)
        problems.push({ kind: "evidence", text: `a proof of ${copy.name} proves nothing` });
    }
    for (const { index, payloads } of copy.committed.values()) {
      const decision = copy.engine.decision(index);
      if (decision === undefined || !verifyCommitCertificate(verifier, world.membership.voters, decision.certificate))
        problems.push({ kind: "certificate", text: `${copy.name} decided height ${index} without a certificate that holds` });
      if (payloads.some((payload) => payload.length >= LONG))
        problems.push({ kind: "validity", text: `${copy.name} decided what nobody accepts` });
    }
  }
  const accused = accusedIn(world);
  // Two quorums have f + 1 hubs in common.
  if (forked && accused.size <= Math.floor((world.membership.voters.length - 1) / 3))
    problems.push({ kind: "evidence", text: `a fork, and ${accused.size} are named: ${describe(decisionsOf(world))}` });
}

/** SETS are all ways to put five copies into at most two sets: 16. */
export const SETS: readonly (readonly number[])[] = Array.from({ length: 16 }, (_, mask) => [
  0,
  ...[0, 1, 2, 3].map((i) => (mask >> i) & 1),
]);

/** EXHAUSTIVE is how many scenarios `exhaustive` knows: 16 partitions in each of four rounds. */
export const EXHAUSTIVE = 16 ** 4;

/** exhaustive is one of all scenarios of four hubs, of which one has two copies, in four rounds with at most two sets each. */
export function exhaustive(i: number): Scenario {
  const partitions = [0, 4, 8, 12].map((shift) => SETS[(i >> shift) & 15] as readonly number[]);
  return { name: `exhaustive ${i}`, n: 4, twins: [0], partitions, decisions: 2 };
}

/** SAMPLE_KINDS are the kinds of scenarios that are drawn. */
export const SAMPLE_KINDS = ["free", "seven", "lossy", "restarts", "corrupt", "forged", "hopeless", "silent", "shameless"] as const;

/** SampleKind is one of them. */
export type SampleKind = (typeof SAMPLE_KINDS)[number];

/**
 * sample draws a scenario. `free`: four hubs, at most three sets, six rounds, any proposers. `seven`: seven hubs with two twins. `lossy`:
 * frames are lost and overtake each other instead, link by link. `restarts`: hubs restart too. `corrupt`: bytes change on the way. `forged`: a
 * twin forges a decision. `shameless`: a twin proposes what nobody accepts. `hopeless`: f + 1 twins. `silent`: as lossy, with no twin, and f
 * hubs that never say anything.
 */
export function sample(kind: SampleKind, seed: number): Scenario {
  const prng = new Prng(seed * 7 + SAMPLE_KINDS.indexOf(kind));
  const n = kind === "seven" ? 7 : 4;
  const twins = kind === "seven" ? [0, 3] : kind === "hopeless" ? [0, 1] : [prng.below(n)];
  const copies = n + twins.length;
  const draw = (sets: number): number[] => Array.from({ length: copies }, () => prng.below(sets));
  const partitions = Array.from({ length: 6 }, () => (prng.chance(0.2) ? draw(1) : draw(prng.chance(0.3) ? 3 : 2)));
  if (kind === "hopeless") partitions.splice(0, 2, ...Array.from({ length: 2 }, () => [0, 1, 0, 1, 0, 1]));
  const proposers = partitions.map(() => prng.below(n));
  const restarts = Array.from({ length: 5 }, () => ({ copy: prng.below(copies), at: prng.below(SLOT_MS * partitions.length) }));
  const base = { name: `${kind} ${seed}`, n, twins, partitions, proposers, decisions: 2 };
  const lossy = { lost: 5 + prng.below(45), delayMs: 1 + prng.below(30), seed };
  // A liar that proposes often is the one that locks protect from.
  const often = proposers.map((proposer) => (prng.chance(0.5) ? (twins[0] as number) : proposer));
  if (kind === "lossy") return { ...base, lossy, proposers: often };
  if (kind === "silent") return { ...base, twins: [], silent: [prng.below(n)], lossy, proposers };
  if (kind === "restarts") return { ...base, lossy, proposers: often, restarts };
  if (kind === "forged") return { ...base, forge: true };
  if (kind === "shameless") return { ...base, shameless: true };
  if (kind === "hopeless") return { ...base, hopeless: true };
  return kind === "corrupt" ? { ...base, corrupt: corruptor(prng) } : base;
}

/** Changes one frame in ten: its bytes on the wire, as the codec reads them then; or a number, bytes or an id in it; or loses it. */
function corruptor(prng: Prng): (frame: BftFrame) => BftFrame | undefined {
  const flipped = (bytes: Uint8Array): Uint8Array => {
    const copy = bytes.slice();
    if (copy.length > 0) copy[prng.below(copy.length)]! ^= 1 << prng.below(8);
    return copy;
  };
  const change = (value: unknown): unknown => {
    if (value instanceof Uint8Array) return flipped(value);
    if (typeof value === "number") return Math.max(0, value + prng.below(3) - 1);
    if (typeof value === "string" && value.length === 64) return `${value.slice(0, 63)}${"0123456789abcdef"[prng.below(16)]}`;
    if (Array.isArray(value)) return value.length === 0 ? value : value.toSpliced(prng.below(value.length), 1, change(value[0]));
    if (typeof value !== "object" || value === null) return value;
    const keys = Object.keys(value).filter((key) => key !== "kind" && key !== "step");
    const key = keys[prng.below(keys.length)] as string;
    return { ...value, [key]: change((value as Record<string, unknown>)[key]) };
  };
  const bent = (frame: BftFrame): BftFrame | undefined => {
    const bytes = flipped(bftFrameBytes(frame));
    return readBftFrame(prng.chance(0.2) ? bytes.subarray(0, prng.below(bytes.length + 1)) : bytes);
  };
  return (frame) => {
    if (prng.chance(0.9)) return frame;
    if (prng.chance(0.2)) return undefined;
    return prng.chance(0.5) ? bent(frame) : (change(frame) as BftFrame);
  };
}
