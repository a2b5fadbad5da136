import type { Violation } from "../oracle.ts";
import { Clients } from "./clients.ts";
import { Cluster, type Sabotage } from "./cluster.ts";
import { Nemesis } from "./nemesis.ts";
import { Operator } from "./operator.ts";
import type { ConsensusOptions } from "./options.ts";
import type { Subject } from "./subject.ts";

/** BOUNDS are the promises of the time after the trouble, in virtual ms. */
export const BOUNDS = {
  /** Until what was lost is replaced, and every client has written and read. */
  serveMs: 15_000,
  /** Until all members have all that was decided, once nobody asks for more. */
  convergeMs: 6_000,
  /** Leaders in that time: nobody who is healthy is deposed. */
  quietLeaders: 1,
  /** Until every client has written and read while some links are missing. */
  partialMs: 12_000,
  /** Leaders in that time: more are a flapping. */
  partialLeaders: 6,
} as const;

/** RunResult is what became of one seed. */
export interface RunResult {
  readonly seed: number;
  readonly violations: readonly Violation[];
  readonly hash: string;
  readonly steps: number;
  readonly delivered: number;
  readonly commits: number;
  /** Positions that were decided, questions that were answered, leaders that took over, virtual ms. */
  readonly decided: number;
  readonly answered: number;
  readonly leaders: number;
  readonly ms: number;
  readonly counts: ReadonlyMap<string, number>;
  readonly trace: readonly string[];
  readonly description: string;
}

/** RunSettings change how a run is watched, never what happens in it; save for `sabotage`. */
export interface RunSettings<F> {
  readonly trace?: boolean;
  readonly sabotage?: Sabotage<F>;
}

/** runSeed runs one log from its founding through trouble to rest. It ends with the first thing that is broken. */
export async function runSeed<F>(options: ConsensusOptions, subject: Subject<F>, settings: RunSettings<F> = {}): Promise<RunResult> {
  const cluster = new Cluster(options, subject, settings.sabotage ?? {}, settings.trace ?? false);
  const { invariants, scheduler, trace } = cluster;
  const clients = new Clients(cluster);
  const operator = new Operator(cluster);
  const nemesis = new Nemesis(cluster, operator);
  for (const hub of cluster.hubs) scheduler.after(50 * cluster.prng.unit(), () => hub.start());
  clients.start();
  operator.start();
  nemesis.schedule();
  await cluster.run(options.chaosMs);
  if (!cluster.broken) await rest(cluster, clients, operator, nemesis);
  return {
    seed: options.seed,
    violations: invariants.violations,
    hash: trace.hash,
    steps: scheduler.steps,
    delivered: cluster.network.delivered,
    commits: cluster.commits,
    decided: invariants.canon.length,
    answered: clients.history.answered,
    leaders: invariants.leaderChanges,
    ms: scheduler.now,
    counts: trace.counts,
    trace: trace.lines,
    description: settings.trace === true ? cluster.describe() : "",
  };
}

/** rest: after the trouble it converges and serves, with all links or with few, and converges again. */
async function rest<F>(cluster: Cluster<F>, clients: Clients<F>, operator: Operator<F>, nemesis: Nemesis<F>): Promise<void> {
  nemesis.heal();
  operator.mend();
  await serve(cluster, clients, "healed", BOUNDS.serveMs, () => operator.mended);
  if (cluster.broken) return;
  await converge(cluster, clients);
  const { partialAfter } = cluster.options;
  if (cluster.broken) return;
  if (partialAfter !== undefined) await partial(cluster, clients, nemesis, partialAfter);
  if (cluster.broken) return;
  clients.go();
  await serve(cluster, clients, "healed again", BOUNDS.serveMs, () => true);
  if (!cluster.broken) await converge(cluster, clients);
}

async function partial<F>(cluster: Cluster<F>, clients: Clients<F>, nemesis: Nemesis<F>, what: "chained" | "quorum-loss"): Promise<void> {
  nemesis.shape(what);
  await cluster.run(2_000);
  clients.go();
  const before = cluster.invariants.leaderChanges;
  await serve(cluster, clients, `with ${what} links`, BOUNDS.partialMs, () => true);
  await cluster.run(3_000);
  const leaders = cluster.invariants.leaderChanges - before;
  if (leaders > BOUNDS.partialLeaders) cluster.invariants.violate("liveness", `${leaders} leaders with ${what} links`, "liveness");
  nemesis.unshape();
  clients.stop();
}

/** serve lets clients work until each was served, and `also` is true. */
async function serve<F>(cluster: Cluster<F>, clients: Clients<F>, when: string, ms: number, also: () => boolean): Promise<void> {
  clients.expect();
  const done = (): boolean => clients.unserved().length === 0 && also();
  let checked = 0;
  await cluster.run(ms, () => {
    if (cluster.scheduler.now < checked + 50) return false;
    checked = cluster.scheduler.now;
    return done();
  });
  if (cluster.broken || done()) return;
  const text = clients.unserved().join(", ") || "all clients, but members that were lost are not replaced";
  cluster.invariants.violate("liveness", `not served within ${ms} ms (${when}): ${text}`, "liveness");
}

/** converge waits until all members have the same, which is all that was decided, and nothing that was acknowledged is missing. */
async function converge<F>(cluster: Cluster<F>, clients: Clients<F>): Promise<void> {
  clients.stop();
  const before = cluster.invariants.leaderChanges;
  await cluster.run(1_500);
  const behind = (): string[] => {
    const { canon } = cluster.invariants;
    const { voters, learners } = canon.membership;
    return [...voters, ...learners].flatMap((id) => {
      const hub = cluster.hubFor(id);
      // Who lost its disk is another replica by now, and is looked at as that one.
      if (hub?.replica !== id) return [];
      const applied = hub.process?.core.app.applied;
      return applied === canon.length ? [] : [`${id} has ${applied ?? "no process, and none"} of ${canon.length}`];
    });
  };
  let checked = 0;
  await cluster.run(BOUNDS.convergeMs, () => {
    if (cluster.scheduler.now < checked + 50) return false;
    checked = cluster.scheduler.now;
    return behind().length === 0;
  });
  if (cluster.broken) return;
  const leaders = cluster.invariants.leaderChanges - before;
  if (leaders > BOUNDS.quietLeaders) cluster.invariants.violate("stability", `${leaders} leaders while nothing happened`, "liveness");
  const late = behind();
  if (late.length > 0) cluster.invariants.violate("liveness", `replicas do not converge: ${late.join(", ")}`, "liveness");
  const lost = clients.history.lost();
  if (lost.length > 0) cluster.invariants.violate("durability", `acknowledged and not in the log: ${lost.join(", ")}`);
}
