// What two hubs go through on a network that is not kind. Each scenario fails when something stops for good, is lost, or takes too long.
import { systemClock } from "#channel/clock.ts";
import { HUBS, type Hub, type Net } from "./net.ts";
import type { Answered, Seen, Sent } from "./parts.ts";
import type { Stage } from "./stage.ts";

/** Scenario is one thing that happens. Its answer is what was measured, in words; it throws when the hubs did not stand it. */
export interface Scenario {
  readonly name: string;
  /** Most that the kernel keeps per socket, bytes. */
  readonly bufferBytes: number;
  readonly mode: "single" | "split";
  /** A hub that is of the version before, which keeps one stream and has wide windows. */
  readonly old?: Hub;
  /** Part of the short form, which runs with all other tests. */
  readonly short: boolean;
  /** The network before the hubs know each other. */
  readonly network?: (net: Net) => void;
  readonly run: (stage: Stage) => Promise<string>;
}

/** Longest time without any progress while something is under way and the network works, ms. A frozen session stays so for 28 s. */
const SILENCE_MS = 5_000;
/** Time that what is under way may take to arrive when no more is sent, ms. */
const SETTLE_MS = 20_000;
/** Longest time without an answer to a command over a slow link, from the moment at which the hubs begin to meet. */
const SLOW_SILENCE_MS = 30_000;
const KIB = 1024;

const figures = (p50: number, p99: number): string => `p50 ${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms`;

function checkSeen(hub: Hub, seen: Seen, silenceMs: number): string {
  if (seen.missing > 0)
    throw new Error(`at ${hub}, ${seen.missing} nodes have not the value that was acknowledged; silent for ${seen.silentMs.toFixed(0)} ms`);
  if (seen.silentMs > silenceMs) throw new Error(`nothing arrived at ${hub} for ${seen.silentMs.toFixed(0)} ms`);
  if (seen.updates === 0) return `at ${hub} all of it arrived`;
  return `at ${hub} ${seen.updates} updates, ${figures(seen.p50Ms, seen.p99Ms)}, longest silence ${seen.silentMs.toFixed(0)} ms`;
}

function checkAnswered(hub: Hub, answered: Answered, silenceMs: number): string {
  if (answered.done === 0 || answered.silentMs > silenceMs)
    throw new Error(
      `no command of ${hub} was answered for ${answered.silentMs.toFixed(0)} ms; ${answered.done} were done, ${answered.other} not`,
    );
  return `${answered.done} commands of ${hub}, ${answered.other} not done, ${figures(answered.p50Ms, answered.p99Ms)}`;
}

/** pushBoth sends state both ways at once, meddles meanwhile, and looks that all of it arrives. */
async function pushBoth(
  stage: Stage,
  { seconds, silenceMs = SILENCE_MS, meddle }: { seconds: number; silenceMs?: number; meddle?: () => Promise<void> },
): Promise<string> {
  const parts = await stage.pushers({ nodes: 2_000, fill: 0 });
  const viewers = await stage.viewers();
  await stage.each((hub) => viewers[hub].go({ do: "begin" }));
  const [sent] = await Promise.all([stage.each((hub) => parts[hub].go({ seconds })), meddle?.()]);
  const seen = await stage.each((hub) =>
    viewers[hub].go({ do: "finish", last: sent[stage.other(hub)].last, withinMs: SETTLE_MS + silenceMs }),
  );
  return HUBS.map((hub) => checkSeen(hub, seen[hub], silenceMs)).join("; ");
}

/** commandBoth keeps commands in flight both ways. */
async function commandBoth(stage: Stage, orders: { seconds: number; inFlight: number; bytes: number }): Promise<string> {
  await stage.devices();
  const callers = await stage.callers();
  const answered = await stage.each((hub) => callers[hub].go(orders));
  return HUBS.map((hub) => checkAnswered(hub, answered[hub], SILENCE_MS)).join("; ");
}

/** muchApart registers much at both while they are apart, and has viewers look on. */
async function muchApart(stage: Stage, { nodes, fill, seconds }: { nodes: number; fill: number; seconds: number }) {
  await stage.devices();
  const callers = await stage.callers();
  const viewers = await stage.viewers();
  await stage.apart();
  const parts = await stage.pushers({ nodes, fill });
  const sent: Readonly<Record<Hub, Sent>> = await stage.each((hub) => parts[hub].go({ seconds }));
  await stage.each((hub) => viewers[hub].go({ do: "begin" }));
  return { callers, viewers, sent };
}

/** snapshotBoth registers much at both while they are apart, lets them meet, and sends commands while the snapshots run. */
async function snapshotBoth(stage: Stage, { nodes, fill, seconds }: { nodes: number; fill: number; seconds: number }): Promise<string> {
  const { callers, viewers, sent } = await muchApart(stage, { nodes, fill, seconds: 1 });
  await stage.together();
  const [seen, answered] = await Promise.all([
    stage.each((hub) => viewers[hub].go({ do: "finish", last: sent[stage.other(hub)].last, withinMs: SETTLE_MS + seconds * 1_000 })),
    stage.each((hub) => callers[hub].go({ seconds, inFlight: 8, bytes: 64 })),
  ]);
  for (const hub of HUBS) checkSeen(hub, seen[hub], SETTLE_MS);
  const took = HUBS.map((hub) => `snapshot at ${hub} silent for at most ${seen[hub].silentMs.toFixed(0)} ms`);
  return [...took, ...HUBS.map((hub) => checkAnswered(hub, answered[hub], SILENCE_MS))].join("; ");
}

/** trickle registers much at both while they are apart, and lets them meet over a slow link: all of it has to arrive, and commands are answered meanwhile. */
async function trickle(
  stage: Stage,
  { nodes, fill, kilobits, withinMs }: { nodes: number; fill: number; kilobits: number; withinMs: number },
): Promise<string> {
  const { callers, viewers, sent } = await muchApart(stage, { nodes, fill, seconds: 0 });
  stage.slow(kilobits);
  const before = stage.losses();
  const began = systemClock.mono();
  await stage.together();
  const [took, answered] = await Promise.all([
    stage.each(async (hub) => {
      const { missing } = await viewers[hub].go({ do: "finish", last: sent[stage.other(hub)].last, withinMs });
      return { missing, seconds: Math.round((systemClock.mono() - began) / 1_000) };
    }),
    stage.each((hub) => callers[hub].go({ seconds: 40, inFlight: 1, bytes: 64 })),
  ]);
  const lost = stage.losses().filter((loss) => !before.includes(loss));
  const said = HUBS.map((hub) => `at ${hub} ${took[hub].missing} of ${nodes} nodes missing after ${took[hub].seconds} s`);
  if (lost.length > 0 || HUBS.some((hub) => took[hub].missing > 0)) throw new Error([...said, ...lost].join("; "));
  await stage.operational();
  return [...said, ...HUBS.map((hub) => checkAnswered(hub, answered[hub], SLOW_SILENCE_MS))].join("; ");
}

/** whole says that no session was given up meanwhile: none of this is a reason to. */
async function whole(stage: Stage, work: () => Promise<string>): Promise<string> {
  const before = stage.downs();
  const said = await work();
  const downs = stage.downs() - before;
  if (downs > 0) throw new Error(`sessions were lost ${downs} times; ${said}`);
  return said;
}

const MODES = ["single", "split"] as const;
const BUFFERS = [64, 128, 256] as const;

const push = MODES.flatMap((mode) =>
  BUFFERS.map(
    (kib): Scenario => ({
      name: `F-0 state both ways at full speed, ${kib} KiB buffers, ${mode}`,
      bufferBytes: kib * KIB,
      mode,
      short: mode === "single" && kib === 128,
      run: (stage) => whole(stage, () => pushBoth(stage, { seconds: stage.short ? 4 : 10 })),
    }),
  ),
);

// Who dials is decided by the names, so each hub is the old one once: it is the dialer in one scenario and the acceptor in the other.
const previous = HUBS.map(
  (old): Scenario => ({
    name: `F-0 state both ways at full speed, hub ${old} is of the version before`,
    bufferBytes: 128 * KIB,
    mode: "single",
    old,
    short: false,
    run: (stage) => whole(stage, () => pushBoth(stage, { seconds: stage.short ? 4 : 10 })),
  }),
);

const snapshots = MODES.map(
  (mode): Scenario => ({
    name: `F-0 snapshots both ways, with commands, ${mode}`,
    bufferBytes: 128 * KIB,
    mode,
    short: mode === "single",
    run: (stage) =>
      snapshotBoth(stage, stage.short ? { nodes: 4_000, fill: 2_000, seconds: 4 } : { nodes: 10_000, fill: 2_000, seconds: 10 }),
  }),
);

const commands = MODES.map(
  (mode): Scenario => ({
    name: `F-0 commands of 3 KB both ways, ${mode}`,
    bufferBytes: 64 * KIB,
    mode,
    short: mode === "single",
    run: (stage) => whole(stage, () => commandBoth(stage, { seconds: stage.short ? 3 : 10, inFlight: 512, bytes: 3_000 })),
  }),
);

const unkind: Scenario[] = [
  {
    name: "a hub that stands still for two seconds",
    bufferBytes: 128 * KIB,
    mode: "single",
    short: true,
    run: (stage) =>
      whole(stage, () => pushBoth(stage, { seconds: 5, silenceMs: SILENCE_MS + 2_000, meddle: () => stage.freeze("b", 2_000) })),
  },
  {
    name: "one packet in fifty lost, both ways",
    bufferBytes: 256 * KIB,
    mode: "single",
    short: false,
    network: (net) => {
      for (const hub of HUBS) net.lose(hub, 0.02);
    },
    run: (stage) => whole(stage, () => pushBoth(stage, { seconds: 10, silenceMs: 10_000 })),
  },
  {
    name: "one direction cut for three seconds",
    bufferBytes: 128 * KIB,
    mode: "single",
    short: false,
    run: (stage) => whole(stage, () => pushBoth(stage, { seconds: 8, silenceMs: 10_000, meddle: () => stage.deafen("b", 3_000) })),
  },
  {
    name: "one direction cut for a minute: the link is given up and comes back, nothing is lost",
    bufferBytes: 128 * KIB,
    mode: "single",
    short: false,
    run: (stage) => pushBoth(stage, { seconds: 70, silenceMs: 90_000, meddle: () => stage.deafen("b", 60_000) }),
  },
  {
    name: "commands while a snapshot runs over a slow link",
    bufferBytes: 256 * KIB,
    mode: "single",
    short: false,
    network: (net) => {
      for (const hub of HUBS) net.slow(hub, 16_000);
    },
    run: (stage) => snapshotBoth(stage, { nodes: 10_000, fill: 2_000, seconds: 12 }),
  },
  {
    name: "F-7 a snapshot over a link of 64 kbit/s",
    bufferBytes: 256 * KIB,
    mode: "single",
    short: false,
    run: (stage) => trickle(stage, { nodes: 300, fill: 2_000, kilobits: 64, withinMs: 140_000 }),
  },
  {
    name: "F-7 a snapshot over a link of 64 kbit/s, with large buffers",
    bufferBytes: 4_096 * KIB,
    mode: "single",
    short: false,
    run: (stage) => trickle(stage, { nodes: 300, fill: 2_000, kilobits: 64, withinMs: 140_000 }),
  },
];

const disorder: Scenario[] = MODES.flatMap((mode) => [
  {
    name: `packets are lost, delayed and reordered, and one direction is cut for a second, ${mode}`,
    bufferBytes: 256 * KIB,
    mode,
    short: mode === "split",
    run: async (stage) => {
      const how = stage.disorder();
      const pushed = await whole(stage, () => pushBoth(stage, { seconds: stage.short ? 4 : 10, silenceMs: 10_000 }));
      // What a cut does to a connection of which packets are lost as well may take TCP longer than a ping is waited for.
      const cut = await pushBoth(stage, { seconds: 4, silenceMs: 40_000, meddle: () => stage.deafen("b", 1_000) });
      return `${how}; ${pushed}; with the cut: ${cut}`;
    },
  },
]);

/** SCENARIOS are all there are. */
export const SCENARIOS: readonly Scenario[] = [...push, ...previous, ...snapshots, ...commands, ...unkind, ...disorder];
