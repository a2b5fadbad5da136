// Families that need two joined hubs and their users: commands, push, latency, split mode.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alternate, belowRow, context, notMeasured, type Row, ratioRow, showRate } from "./measure.ts";
import { NatsPair, natsVersion, type RequestResult } from "./nats.ts";
import { type CommandResult, doorOf, OPAQUE_BYTES, type PushKind } from "./parts.ts";
import { RawPair } from "./raw.ts";
import { type PushRun, Rig, showCpu } from "./rig.ts";
import { UNARY_FILE } from "./unary.ts";
import { median, startPart } from "./worker.ts";

/** Rounds of each alternation. */
const ROUNDS = 3;
const PUSH_SECONDS = 2;
const COMMAND_SECONDS = 1.5;
/** Before them each side runs so many times uncounted: V8 takes some ten seconds under load until its code no longer gets faster. */
const WARM_RUNS = 10;
const WARM_SECONDS = 1;
const NATS_BYTES = 64;

const NO_NATS = "nats-server is not on this machine (make tools gets it)";

const mid = (values: readonly number[]): number => median(values);

/** withDir gives some work a temporary folder. */
async function withDir<R>(work: (dir: string) => Promise<R>): Promise<R> {
  const dir = mkdtempSync(join(tmpdir(), "foedus-bench-"));
  try {
    return await work(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function withRig<R>(rig: Rig, work: (rig: Rig) => Promise<R>): Promise<R> {
  try {
    return await work(rig);
  } finally {
    await rig.stop();
  }
}

/** withNats gives some work a NATS leaf pair, or undefined where NATS is not installed. */
async function withNats<R>(work: (nats: NatsPair | undefined) => Promise<R>): Promise<R> {
  if (natsVersion() === undefined) return work(undefined);
  return withDir(async (dir) => {
    const nats = await NatsPair.start(dir);
    try {
      return await work(nats);
    } finally {
      await nats.stop();
    }
  });
}

const showCommand = ({ perSecond, p50Ms, p99Ms }: CommandResult | RequestResult): string =>
  `${showRate(perSecond)}, p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(1)} ms`;

/** warm calls each side in turn, uncounted, for WARM_RUNS times. */
async function warm(...sides: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (let i = 0; i < WARM_RUNS; i++) for (const side of sides) await side();
}

/** middle is the run of median throughput. */
function middle<T extends { readonly perSecond: number }>(runs: readonly T[]): T {
  return [...runs].sort((a, b) => a.perSecond - b.perSecond)[runs.length >> 1] as T;
}

/** commands measures hub to hub commands against unary gRPC and against NATS request/reply. */
export async function commands(): Promise<Row[]> {
  return withRig(await Rig.start("single"), (rig) =>
    withDir(async (dir) => {
      // The unary caller calls the executor that this starts.
      await rig.command({ seconds: WARM_SECONDS, inFlight: 64 });
      const rows = await againstUnary(rig, dir);
      return [...rows, ...(await withNats((nats) => commandsAgainstNats(rig, nats)))];
    }),
  );
}

async function againstUnary(rig: Rig, dir: string): Promise<Row[]> {
  const unary = await startPart<CommandResult>(UNARY_FILE, "caller", { door: doorOf(rig.federation.hub("b"), "gateway-zigbee"), dir });
  try {
    const run = { seconds: COMMAND_SECONDS, inFlight: 64 };
    const short = { ...run, seconds: WARM_SECONDS };
    await warm(
      () => rig.command(short),
      () => unary.go(short),
    );
    const rounds = await alternate(
      ROUNDS,
      () => rig.command(run),
      () => unary.go(run),
    );
    const ours = middle(rounds.map(({ a }) => a));
    return [
      ratioRow(
        "commands",
        "64 in flight, against unary gRPC",
        4,
        rounds.map(({ a, b }) => a.perSecond / b.perSecond),
        `${showCommand(ours)}; unary ${showCommand(middle(rounds.map(({ b }) => b)))}`,
      ),
      context("commands", "processor time per command, us", showCpu(ours.cpuUs), "64 in flight"),
    ];
  } finally {
    await unary.stop();
  }
}

async function commandsAgainstNats(rig: Rig, nats: NatsPair | undefined): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [inFlight, floor] of [
    [16, 0.45],
    [64, 1],
    [256, 1.5],
  ] as const) {
    const name = `${inFlight} in flight, against NATS request/reply`;
    if (nats === undefined) {
      rows.push(notMeasured("commands", name, `>= ${floor} x`, NO_NATS));
      continue;
    }
    const run = { seconds: COMMAND_SECONDS, inFlight };
    const short = { ...run, seconds: WARM_SECONDS };
    await warm(
      () => rig.command(short),
      () => nats.request(short),
    );
    const rounds = await alternate(
      ROUNDS,
      () => rig.command(run),
      () => nats.request(run),
    );
    const note = `${showCommand(middle(rounds.map(({ a }) => a)))}; NATS ${showCommand(middle(rounds.map(({ b }) => b)))}`;
    rows.push(
      ratioRow(
        "commands",
        name,
        floor,
        rounds.map(({ a, b }) => a.perSecond / b.perSecond),
        note,
      ),
    );
  }
  return rows;
}

const showPush = ({ perSecond, p50Ms, p99Ms }: { readonly perSecond: number; readonly p50Ms: number; readonly p99Ms: number }): string =>
  `${showRate(perSecond)}, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;

/** push measures state changes from an SDK at A to a mirror at B against NATS. */
export async function push(): Promise<Row[]> {
  return withRig(await Rig.start("single"), (rig) => withNats((nats) => pushes(rig, nats)));
}

async function pushes(rig: Rig, nats: NatsPair | undefined): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [kind, floor, what] of [
    ["numeric", 1.8, "numbers"],
    ["opaque", 0.9, `opaque values of ${OPAQUE_BYTES} B`],
  ] as const) {
    const name = `${what}, against NATS messages of ${NATS_BYTES} B`;
    const load = { kind: kind as PushKind, seconds: PUSH_SECONDS };
    const ownWarmUp = (): Promise<PushRun> => rig.push({ kind, seconds: WARM_SECONDS });
    if (nats === undefined) {
      await warm(ownWarmUp);
      const run = await rig.push(load);
      rows.push(notMeasured("push", name, `>= ${floor} x`, `${NO_NATS}; ${showPush(run)}`));
      continue;
    }
    await warm(ownWarmUp, () => nats.push({ seconds: WARM_SECONDS, bytes: NATS_BYTES }));
    const rounds = await alternate(
      ROUNDS,
      () => rig.push(load),
      () => nats.push({ seconds: PUSH_SECONDS, bytes: NATS_BYTES }),
    );
    const ours: PushRun = middle(rounds.map(({ a }) => a));
    rows.push(
      ratioRow(
        "push",
        name,
        floor,
        rounds.map(({ a, b }) => a.perSecond / b.perSecond),
        `${showPush(ours)}; NATS ${showPush(middle(rounds.map(({ b }) => b)))}`,
      ),
    );
    rows.push(context("push", `${what}: processor time per update, us`, showCpu(ours.cpuUs)));
  }
  return rows;
}

/** latency measures an open loop of 10,000 updates a second. */
export async function latency(): Promise<Row[]> {
  return withRig(await Rig.start("single"), async (rig) => {
    const rate = 10_000;
    await warm(() => rig.push({ kind: "numeric", seconds: WARM_SECONDS, rate }));
    const runs: PushRun[] = [];
    for (let i = 0; i < ROUNDS; i++) runs.push(await rig.push({ kind: "numeric", seconds: 3, rate }));
    const each = (read: (run: PushRun) => number): string => `each run ${runs.map((run) => read(run).toFixed(2)).join(", ")} ms`;
    return [
      belowRow(
        "latency",
        "10,000 updates/s, due at A to visible at B, p50",
        3,
        "ms",
        mid(runs.map((run) => run.p50Ms)),
        each((run) => run.p50Ms),
      ),
      belowRow(
        "latency",
        "the same, p99",
        15,
        "ms",
        mid(runs.map((run) => run.p99Ms)),
        each((run) => run.p99Ms),
      ),
      context("latency", "processor time per update, us", showCpu(middle(runs).cpuUs)),
    ];
  });
}

/** split measures push and commands in split mode against single mode; both pairs of hubs run, one is idle. */
export async function split(): Promise<Row[]> {
  const floor = 0.7;
  return withRig(await Rig.start("single"), async (single) =>
    withRig(await Rig.start("split"), async (apart) => {
      const load = { kind: "numeric", seconds: PUSH_SECONDS } as const;
      const run = { seconds: COMMAND_SECONDS, inFlight: 64 };
      await warm(...[apart, single].map((rig) => () => rig.push({ ...load, seconds: WARM_SECONDS })));
      const pushed = await alternate(
        ROUNDS,
        () => apart.push(load),
        () => single.push(load),
      );
      await warm(...[apart, single].map((rig) => () => rig.command({ ...run, seconds: WARM_SECONDS })));
      const commanded = await alternate(
        ROUNDS,
        () => apart.command(run),
        () => single.command(run),
      );
      const note = (rounds: readonly { a: { perSecond: number }; b: { perSecond: number } }[]): string =>
        `split ${showRate(mid(rounds.map(({ a }) => a.perSecond)))}, single ${showRate(mid(rounds.map(({ b }) => b.perSecond)))}`;
      return [
        ratioRow(
          "split",
          "push in split mode, against single mode",
          floor,
          pushed.map(({ a, b }) => a.perSecond / b.perSecond),
          note(pushed),
        ),
        ratioRow(
          "split",
          "commands in split mode, against single mode",
          floor,
          commanded.map(({ a, b }) => a.perSecond / b.perSecond),
          note(commanded),
        ),
      ];
    }),
  );
}

/** raw puts the push beside bare TLS. */
export async function raw(): Promise<Row[]> {
  return withRig(await Rig.start("single"), (rig) =>
    withDir(async (dir) => {
      const pair = await RawPair.start(dir);
      try {
        await warm(
          () => rig.push({ kind: "numeric", seconds: WARM_SECONDS }),
          () => pair.push(WARM_SECONDS),
        );
        const rounds = await alternate(
          ROUNDS,
          () => rig.push({ kind: "numeric", seconds: PUSH_SECONDS }),
          () => pair.push(1),
        );
        const ratios = rounds.map(({ a, b }) => a.perSecond / b);
        return [
          context(
            "raw",
            "numeric push, against 500 x 16 B frames over Node's TLS",
            `${mid(ratios).toFixed(2)} x (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
            `TLS ${showRate(mid(rounds.map(({ b }) => b)))}`,
          ),
        ];
      } finally {
        await pair.stop();
      }
    }),
  );
}
