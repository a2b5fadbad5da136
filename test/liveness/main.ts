// A measurement of the failure detector alone, not of hubs: processes that exchange its frames over UDP on loopback, some of them starved
// of CPU by SIGSTOP and busy loops, some killed. Both detectors run in each. `node test/liveness/main.ts [--seconds 180] [--hubs 6] [--seed 1]`
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Prng } from "#kernel/prng.ts";
import { type Death, deathOf, Tally } from "../simulator/liveness/tally.ts";
import { monoMs, type ToChild, type ToParent } from "./messages.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "180" },
    hubs: { type: "string", default: "6" },
    seed: { type: "string", default: "1" },
    longest: { type: "string", default: "6000" },
  },
});
const prng = new Prng(Number(values.seed));
const longestMs = Number(values.longest);
const hubCount = Number(values.hubs);
const endsAt = monoMs() + Number(values.seconds) * 1_000;
const names = Array.from({ length: hubCount }, (_, i) => `h${i}`);
const tally = new Tally();
const DEAD_MS = 12_000;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

class Hub {
  readonly name: string;
  readonly starved: boolean;
  boot = 0;
  port: number | undefined;
  child: ChildProcess | undefined;
  death: Death | undefined;
  stopped = false;
  /** When it was last stopped, kept busy or suspected by anybody. */
  troubledAt = 0;

  constructor(name: string, starved: boolean) {
    this.name = name;
    this.starved = starved;
  }
}

const hubs = names.map((name, i) => new Hub(name, i < (hubCount < 6 ? 1 : 2)));
const byName = new Map(hubs.map((hub) => [hub.name, hub]));

function start(hub: Hub): void {
  hub.boot++;
  const child = fork(join(import.meta.dirname, "child.ts"), [hub.name, String(hub.boot), names.join(",")]);
  hub.child = child;
  child.on("message", (message: ToParent) => {
    if (message.kind === "ready") {
      hub.port = message.port;
      hub.death = undefined;
      const ports = hubs.flatMap(({ name, port }): [string, number][] => (port === undefined ? [] : [[name, port]]));
      for (const each of hubs) if (each.child?.connected) each.child.send({ kind: "ports", ports } satisfies ToChild);
      return;
    }
    const subject = byName.get(message.hub) as Hub;
    const death = subject.death !== undefined && message.at >= subject.death.at ? subject.death : undefined;
    if (death === undefined) subject.troubledAt = monoMs();
    // An accusation is repeated until somebody takes note.
    const key = `${hub.name} ${message.hub}`;
    if (message.found === "suspected") accused.delete(key);
    if (message.found === "accused" && (accused.has(key) || !accused.add(key))) return;
    tally.note(message.found, message.at, { hub: hub.name, starved: hub.starved }, subject.starved, death);
  });
}
const accused = new Set<string>();

/** Pauses: long ones of SIGSTOP, or many short ones of computing; both from a heavy tail (Pareto). */
async function starve(hub: Hub): Promise<void> {
  const tail = (least: number, power: number): number => Math.min(longestMs, least / (1 - prng.unit()) ** (1 / power));
  while (monoMs() < endsAt) {
    await pause(1_000 + prng.unit() * 5_000);
    if (hub.death !== undefined || hub.port === undefined) continue;
    hub.stopped = true;
    if (prng.chance(0.7)) {
      const { child } = hub;
      child?.kill("SIGSTOP");
      await pause(tail(1_000, 0.8));
      child?.kill("SIGCONT");
    } else
      for (let i = 0; i < 10; i++) {
        const ms = tail(60, 1);
        if (hub.child?.connected) hub.child.send({ kind: "busy", ms } satisfies ToChild);
        await pause(ms + prng.unit() * 300);
      }
    hub.stopped = false;
    hub.troubledAt = monoMs();
  }
}

async function kill(): Promise<void> {
  while (monoMs() < endsAt - DEAD_MS) {
    await pause(500);
    const now = monoMs();
    const calm = hubs.filter((hub) => !hub.stopped && now - hub.troubledAt > 1_500 && hubs.every(({ death }) => death === undefined));
    if (now < endsAt - Number(values.seconds) * 1_000 + 30_000 || calm.length === 0) continue;
    const hub = calm[prng.below(calm.length)] as Hub;
    hub.port = undefined;
    hub.death = deathOf(hub.name, monoMs(), hub.starved, hubCount - 1);
    tally.deaths.push(hub.death);
    hub.child?.kill("SIGKILL");
    await pause(DEAD_MS);
    start(hub);
    await pause(4_000);
  }
}

for (const hub of hubs) start(hub);
const killing = kill();
await Promise.all([...hubs.filter(({ starved }) => starved).map(starve), killing]);
for (const { child } of hubs) {
  child?.kill("SIGCONT");
  child?.kill("SIGKILL");
}
process.stdout.write(
  `detector alone, UDP on loopback, ${hubCount} processes, pauses up to ${longestMs} ms, seed ${values.seed}, ${values.seconds} s\n`,
);
process.stdout.write(`${tally.report()}\n`);
process.exit(0);
