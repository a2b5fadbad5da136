// `make up`: three hubs as processes of their own, federated, with real nodes; a tour; then a live screen.
// `make tour`: the same, but it ends after the tour, with 0 if every step held and 1 if not.

import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { Freshness } from "#gen/foedus/common/v1/value_pb.ts";
import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { Severity } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { type Clients, Federation, type HubProcess, ROOT } from "../support/federation.ts";
import { agentNodes } from "./agents.ts";
import { demoLamp, Gateway, type RanCommand } from "./gateways.ts";
import { dealByVendor, loadInventory } from "./inventory.ts";
import {
  DEMO_DIR,
  DEMO_PKI,
  DEMO_PORT,
  demoPortProblem,
  PID_FILE,
  portsInUse,
  RUN_DIR,
  runningDemo,
  runningHubs,
  takenPorts,
} from "./running.ts";
import { asSeen, type HubRow, type LinkRow, type Model, render, toSvg } from "./screen.ts";
import { tour } from "./tour.ts";

const HUBS = ["home", "factory", "lab"] as const;
const REFRESH_MS = 500;
const COLUMNS = 118;
const SCREENSHOT_ROWS = 56;
/** Before the picture for the README is taken: the next pings show round trips of a system at rest. */
const SETTLE_MS = 18_000;

const GRPCURL = ".tools/bin/grpcurl";
const HINTS = [
  'export PATH="$PWD/bin:$PATH"      # then',
  "foedus send factory/demo-lamp state ON --hub home",
  "foedus status --hub home          foedus peers --hub lab           foedus doctor --hub factory",
  "foedus watch factory/demo-lamp --hub lab          foedus federation members --hub lab",
  `pki=${relative(ROOT, join(DEMO_PKI, "home"))}`,
  `node_modules/.bin/buf curl --protocol grpc --cacert $pki/ca.pem --cert $pki/operator-admin.pem --key $pki/operator-admin.key https://localhost:${DEMO_PORT}/foedus.hub.v1alpha1.HubService/GetStatus`,
  // Only where `make tools` has built it.
  ...(existsSync(join(ROOT, GRPCURL))
    ? [`${GRPCURL} -cacert $pki/ca.pem -cert $pki/operator-admin.pem -key $pki/operator-admin.key localhost:${DEMO_PORT} list`]
    : []),
  `curl http://127.0.0.1:${DEMO_PORT + 10}/metrics       home; factory ${DEMO_PORT + 30}, lab ${DEMO_PORT + 50}`,
];

const only = process.argv.includes("--tour");
const screenshot = process.argv.find((argument) => argument.startsWith("--screenshot="))?.slice("--screenshot=".length);
// A terminal that cannot be written over (TERM=dumb) is told in lines, as a pipe is.
const live = process.stdout.isTTY === true && process.env["TERM"] !== "dumb" && !only;
/** The alternate screen, without a cursor; what was on the terminal comes back at the end. */
const [ENTER, LEAVE] = ["\u001b[?1049h\u001b[?25l\u001b[2J", "\u001b[?25h\u001b[?1049l"];
/** Time to read a step of the tour before the next one begins, ms; nobody reads along where there is no live screen. */
const READING_MS = live ? Number(process.env["FOEDUS_DEMO_PACE_MS"] ?? 2_500) : 0;
/** How it ends, in the first line of the screen. */
const ENDS = "ctrl-c stops the hubs";
const startedAt = systemClock.mono();
const story: string[] = [];
const commands: (RanCommand & { readonly at: number })[] = [];
const events: { at: number; hub: string; severity: string; text: string }[] = [];

/** The live screen is drawn from when the hubs are up; what is said before is printed, and is on it too. */
let drawn = false;
let progress = "starting";
/** What of the story stands on the terminal already, before the live screen. */
let printed = 0;

/** leave brings back what was on the terminal, and says there what the screen said: it is gone with it. */
function leave(): void {
  if (!drawn) return;
  drawn = false;
  const told = story.slice(printed).map((line) => `          ${line}\n`);
  process.stdout.write(`${LEAVE}${told.join("")}`);
}

function say(line: string): void {
  story.push(line);
  if (!drawn) process.stdout.write(`${((systemClock.mono() - startedAt) / 1_000).toFixed(1).padStart(6)} s  ${line}\n`);
}

/** A hub of this run was started, so that its log is of now. */
let begun = false;

/** startHubs issues the PKI into certs/dev, starts the hubs and writes the contexts for the command line. */
async function startHubs(stopped: Promise<void>): Promise<Federation> {
  const wrong = demoPortProblem();
  if (wrong !== undefined) throw new Error(wrong);
  const ports = HUBS.flatMap((_, i) => [DEMO_PORT + 20 * i, DEMO_PORT + 20 * i + 10]);
  const taken = await takenPorts(ports);
  if (taken.length > 0) throw new Error(portsInUse(taken, runningHubs()));
  rmSync(RUN_DIR, { recursive: true, force: true });
  mkdirSync(RUN_DIR, { recursive: true });
  writeFileSync(PID_FILE, `${JSON.stringify({ pid: process.pid })}\n`);
  begun = true;
  say(`starting three hubs: ${HUBS.join(", ")}; the first start issues their certificates`);
  const federation = await Federation.prepare({
    dir: RUN_DIR,
    pkiDir: DEMO_PKI,
    basePort: DEMO_PORT,
    hubs: [
      { id: "home", peers: [{ hub: "factory" }, { hub: "lab" }] },
      { id: "factory", peers: [{ hub: "home" }, { hub: "lab", maxTrust: "full" }] },
      { id: "lab", reachable: false, peers: [{ hub: "home", maxTrust: "limited", share: "limited" }, { hub: "factory" }] },
    ],
  });
  const contexts = Object.fromEntries(
    [...federation.hubs.values()].map((hub) => [
      hub.id,
      { hub_id: hub.id, address: hub.address("discovery"), ...hub.pki("operator-admin"), config: join(hub.dir, "hub.json") },
    ]),
  );
  writeFileSync(join(DEMO_DIR, "contexts.json"), `${JSON.stringify({ current: "home", contexts }, undefined, 2)}\n`);
  const started = systemClock.mono();
  try {
    const up = Promise.all([...federation.hubs.values()].map((hub) => hub.start())).then(() => federation.operational());
    await Promise.race([up, interrupted(stopped)]);
  } catch (error) {
    await federation.stop();
    throw error;
  }
  say(`three hubs started, proved who they are and are OPERATIONAL (${((systemClock.mono() - started) / 1_000).toFixed(1)} s)`);
  return federation;
}

/** Interrupted ends what is under way when somebody asked for the end. */
class Interrupted extends Error {
  override readonly name = "Interrupted";
  override readonly message = "it was stopped before it was up";
}

async function interrupted(stopped: Promise<void>): Promise<never> {
  await stopped;
  throw new Interrupted();
}

async function startNodes(federation: Federation): Promise<Gateway[]> {
  const inventory = await loadInventory();
  const dealt = dealByVendor(inventory.nodes, HUBS);
  const agents = agentNodes();
  const gateways = HUBS.map((id, index) => {
    const nodes = [demoLamp(id), ...dealt.get(id)!, ...agents.filter((_, agent) => agent % HUBS.length === index)];
    return new Gateway(federation.hub(id), nodes, index + 1, (command) => {
      commands.push({ ...command, at: systemClock.wall() });
      commands.splice(0, commands.length - 100);
    });
  });
  await Promise.all(gateways.map((gateway) => gateway.start()));
  const registered = gateways.map((gateway) => `${gateway.hub.id} ${gateway.devices.size + 4}`).join(", ");
  say(
    `${inventory.definitions} published device definitions with ${inventory.features} features and ${agents.length} agents registered (${registered})`,
  );
  return gateways;
}

/** Watcher follows one hub for the screen; while the hub is down it says so and keeps trying. */
class Watcher {
  readonly hub: HubProcess;
  readonly #clients: Clients;
  #entries = 0;
  #at = 0;
  #cpu = 0;
  #row: HubRow;
  #links: LinkRow[] = [];
  #answeredAt = systemClock.mono();

  constructor(hub: HubProcess) {
    this.hub = hub;
    this.#clients = hub.clients();
    const address = hub.spec.reachable === false ? "dials out only" : hub.address("discovery");
    this.#row = { id: hub.id, address, health: "starting", own: 0, seen: [], updatesPerSecond: 0, rssMiB: 0, cpuPercent: 0 };
  }

  /** shown is what the screen may say of the hub now. */
  shown(): { readonly row: HubRow; readonly links: readonly LinkRow[] } {
    return asSeen(this.#row, this.#links, systemClock.mono() - this.#answeredAt);
  }

  async look(): Promise<void> {
    try {
      const [{ feeds }, { peers }, metrics] = await Promise.all([
        this.#clients.registry.listFeeds({ $typeName: "foedus.registry_sync.v1alpha1.ListFeedsRequest" }, { timeoutMs: 400 }),
        this.#clients.discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" }, { timeoutMs: 400 }),
        this.hub.ops("/metrics", "hub"),
      ]);
      const now = systemClock.mono();
      const entries = feeds.reduce((sum, feed) => sum + Number(feed.entries), 0);
      const cpu = metric(metrics, "process_cpu_seconds_total");
      const seconds = (now - this.#at) / 1_000;
      const fresh = this.#at > 0 && entries >= this.#entries && cpu >= this.#cpu;
      this.#row = {
        ...this.#row,
        health: "up",
        own: feeds.find((feed) => feed.own && feed.head?.share === "full")?.nodes ?? 0,
        seen: feeds.flatMap((feed) =>
          feed.own
            ? []
            : [{ hub: feed.head?.hubId ?? "", nodes: feed.nodes, freshness: nameOf(Freshness, feed.freshness), ageMs: Number(feed.ageMs) }],
        ),
        updatesPerSecond: fresh ? (entries - this.#entries) / seconds : 0,
        rssMiB: metric(metrics, "process_resident_memory_bytes") / 1_048_576,
        cpuPercent: fresh ? ((cpu - this.#cpu) / seconds) * 100 : 0,
      };
      this.#links = peers.map((peer) => ({
        from: this.hub.id,
        to: peer.hubId,
        state: nameOf(LinkState, peer.state),
        level: nameOf(TrustLevel, peer.level),
        share: peer.share,
        rttMs: Math.max(...peer.sessions.map((session) => session.rttMs), 0),
      }));
      [this.#entries, this.#at, this.#cpu, this.#answeredAt] = [entries, now, cpu, now];
    } catch {
      this.#at = 0;
    }
  }

  /** follow collects the hub's events; a cut stream is opened again. */
  async follow(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      try {
        const request = { $typeName: "foedus.telemetry.v1alpha1.WatchEventsRequest" as const, fromSeq: 0n };
        for await (const push of this.#clients.telemetry.watchEvents(request, { signal: until })) {
          for (const event of push.events) {
            if (event.severity < Severity.INFO) continue;
            events.push({ at: Number(event.wallMs), hub: this.hub.id, severity: nameOf(Severity, event.severity), text: event.text });
          }
          events.splice(0, events.length - 100);
        }
      } catch {
        // The hub is down; the screen shows it.
      }
      await new Promise<void>((resolve) => systemClock.setTimer(REFRESH_MS, resolve));
    }
  }
}

function nameOf(values: Readonly<Record<string, number | string>>, value: number): string {
  return Object.entries(values).find(([, number]) => number === value)?.[0] ?? "";
}

function metric(page: string, name: string): number {
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+]+)$`, "m").exec(page)?.[1] ?? 0);
}

function ageOf(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

function model(watchers: readonly Watcher[]): Model {
  const now = systemClock.wall();
  const shown = watchers.map((watcher) => watcher.shown());
  return {
    hubs: shown.map(({ row }) => row),
    links: shown.flatMap(({ links }) => links),
    story,
    commands: commands.map(({ at, caller, what, refused }) => ({ age: ageOf(now - at), caller, what, refused })),
    events: events
      .toSorted((a, b) => a.at - b.at)
      .map((event) => ({ age: ageOf(now - event.at), hub: event.hub, severity: event.severity, text: event.text })),
    hints: HINTS,
    status: `${progress} · ${ENDS}`,
  };
}

async function main(): Promise<number> {
  const other = runningDemo();
  if (other !== undefined)
    throw new Error(`it runs here already, as process ${other}: use it from another terminal, or stop it with \`make down\` first`);
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => stop.signal.addEventListener("abort", () => resolve(), { once: true }));
  // SIGHUP: the terminal is closed. A second one may follow, from the shell, and must not end this before the hubs are stopped.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process[signal === "SIGHUP" ? "on" : "once"](signal, () => {
      if (!stop.signal.aborted) {
        leave();
        process.stdout.write("\nstopping the hubs…\n");
      }
      stop.abort();
    });
  const federation = await startHubs(stopped);
  try {
    return await run(federation, stop, stopped);
  } finally {
    await federation.stop();
    // A tour that was interrupted between the end of a hub and its return may have started it again meanwhile.
    if (stop.signal.aborted) await federation.stop();
    rmSync(PID_FILE, { force: true });
    if (process.stdout.isTTY && !only) process.stdout.write("all hubs stopped\n");
  }
}

async function run(federation: Federation, stop: AbortController, stopped: Promise<void>): Promise<number> {
  const watchers = [...federation.hubs.values()].map((hub) => new Watcher(hub));
  const following = Promise.all(watchers.map((watcher) => watcher.follow(stop.signal)));
  const draw = async (): Promise<void> => {
    await Promise.all(watchers.map((watcher) => watcher.look()));
    if (!live || stop.signal.aborted) return;
    const lines = render(model(watchers), (process.stdout.columns || 80) - 1, process.stdout.rows || 24, process.stdout.hasColors());
    // A column less: what is cleared behind a line that reaches the last one would be its last character.
    // Lines are overwritten in place and only what is left of the last picture is cleared: no flicker.
    process.stdout.write(`\u001b[H${lines.map((line) => `${line}\u001b[K`).join("\n")}\u001b[J`);
  };
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await draw();
      await new Promise<void>((resolve) => systemClock.setTimer(REFRESH_MS, resolve));
    }
  };
  printed = story.length;
  drawn = live;
  if (live) process.stdout.write(ENTER);
  const drawing = loop();
  let code = 0;
  let gateways: readonly Gateway[] = [];
  /** What steps of the tour left running. */
  const ends: (() => void)[] = [];
  try {
    gateways = await Promise.race([startNodes(federation), interrupted(stopped)]);
    const pace = async (step: number, of: number): Promise<void> => {
      progress = `step ${step} of ${of}`;
      if (step > 1 && READING_MS > 0) await new Promise<void>((resolve) => systemClock.setTimer(READING_MS, resolve));
    };
    const steps = await Promise.race([tour(federation, { say, atEnd: (end) => ends.push(end), pace }), interrupted(stopped)]);
    say(`the tour is over: ${steps} steps, all as promised`);
    progress = "the tour is over, the hubs stay up";
  } catch (error) {
    const asked = error instanceof Interrupted;
    code = asked && !only ? 0 : 1;
    if (!asked) say(`the tour failed: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (screenshot !== undefined && !stop.signal.aborted) {
    await new Promise<void>((resolve) => systemClock.setTimer(SETTLE_MS, resolve));
    writeFileSync(screenshot, toSvg(render(model(watchers), COLUMNS, SCREENSHOT_ROWS), COLUMNS));
  }
  if (!only && code === 0 && !stop.signal.aborted) {
    if (!live)
      for (const line of ["", "it stays up; `make down` or ctrl-c stops it. In another terminal:", ...HINTS])
        process.stdout.write(`          ${line}\n`);
    await stopped;
  }
  stop.abort();
  for (const gateway of gateways) gateway.stop();
  for (const end of ends) end();
  await Promise.all([drawing, following]);
  leave();
  return code;
}

// A terminal that was closed, or `head`, takes nothing more; the hubs must be stopped all the same.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);

main().then(
  (code) => process.exit(code),
  async (error: unknown) => {
    if (error instanceof Interrupted) process.exit(only ? 1 : 0);
    process.stderr.write(`make ${only ? "tour" : "up"} failed: ${error instanceof Error ? error.message : String(error)}\n`);
    if (begun) process.stderr.write(`the logs of this run are in ${relative(process.cwd(), RUN_DIR)}/*/log\n`);
    process.exit(1);
  },
);
