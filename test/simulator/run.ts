import { Prng } from "#kernel/prng.ts";
import { CHECKERS } from "./checkers/index.ts";
import { Federation, hubIdsOf } from "./federation.ts";
import type { Sabotage } from "./host.ts";
import { watchLinks } from "./links.ts";
import { Nemesis } from "./nemesis.ts";
import type { RunOptions } from "./options.ts";
import type { Violation } from "./oracle.ts";
import { authoritiesOf } from "./pki.ts";
import { Workload } from "./workload.ts";

/** RunResult is what became of one seed. */
export interface RunResult {
  readonly seed: number;
  readonly violations: readonly Violation[];
  readonly hash: string;
  readonly steps: number;
  readonly delivered: number;
  readonly commits: number;
  readonly commands: number;
  readonly writes: number;
  /** How often what happened, by event. */
  readonly counts: ReadonlyMap<string, number>;
  /** Filled when asked for. */
  readonly trace: readonly string[];
  readonly description: string;
}

/** RunSettings change how a run is watched, never what happens in it; save for `sabotage`, which tests of the checkers use. */
export interface RunSettings {
  readonly trace?: boolean;
  readonly sabotage?: Sabotage;
}

/** runSeed runs one federation from its start through trouble to rest, and lets the checkers judge. */
export async function runSeed(options: RunOptions, settings: RunSettings = {}): Promise<RunResult> {
  const { sabotage } = settings;
  const restore = sabotage?.patch?.();
  try {
    return await run({ ...options, ...sabotage?.run }, settings);
  } finally {
    restore?.();
  }
}

async function run(options: RunOptions, settings: RunSettings): Promise<RunResult> {
  const authorities = options.discovery ? await authoritiesOf(hubIdsOf(options.hubs)) : [];
  const federation = new Federation(options, authorities, settings.trace ?? false, settings.sabotage ?? {});
  const { oracle, scheduler, trace, network, hubs } = federation;
  for (const hub of hubs) scheduler.after(200 * federation.prng.unit(), () => hub.start());
  new Workload(federation, new Prng(options.seed ^ 0x10ad)).schedule();
  const nemesis = new Nemesis(federation, new Prng(options.seed ^ 0xbad));
  nemesis.schedule();
  if (options.discovery) watchLinks(federation);
  federation.onActivity = (hub, activity) => nemesis.meet(hub, activity);
  federation.onCommand = (hub) => nemesis.meetCommand(hub);
  federation.onUpdates = (hub) => nemesis.meetUpdates(hub);
  await federation.run(options.chaosMs + 1_500);
  nemesis.heal();
  await federation.run(options.healMs);
  if (!oracle.violations.some(({ kind }) => kind === "crash")) for (const checker of CHECKERS) await checker.check(federation);
  const commits = hubs.reduce((sum, { disks }) => sum + disks.registry.commits + disks.commands.commits, 0);
  let writes = 0;
  for (const subject of oracle.subjects.values()) writes += subject.writes.length;
  return {
    seed: options.seed,
    violations: oracle.violations,
    hash: trace.hash,
    steps: scheduler.steps,
    delivered: network.delivered,
    commits,
    commands: oracle.commands.size,
    writes,
    counts: trace.counts,
    trace: trace.lines,
    description: settings.trace === true ? federation.describe() : "",
  };
}
