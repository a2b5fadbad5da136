import type { X509Certificate } from "node:crypto";
import { join } from "node:path";
import type { Timer } from "#channel/clock.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { JumpDetector } from "#runtime/clock.ts";
import { renderEffective } from "#runtime/config/describe.ts";
import { notFile, readText } from "#runtime/files.ts";
import { sampledCounter, sampledGauge } from "#runtime/metrics/declare.ts";
import { collectProcessMetrics } from "#runtime/metrics/process.ts";
import { admitReader } from "#runtime/ops/readers.ts";
import { isLoopback, type OpsServer, startOps } from "#runtime/ops/server.ts";
import type { ServiceBinding } from "#runtime/rpc/call.ts";
import { portTaken } from "#runtime/rpc/handshakes/listen-error.ts";
import type { RpcServer } from "#runtime/rpc/server/server.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import type { Supervisor } from "#runtime/service/supervisor.ts";
import { storeInUse } from "#runtime/store/open.ts";
import { showDisk } from "#runtime/store/usage.ts";
import { createAdmin } from "./admin.ts";
import { hubConfig, opsPorts } from "./config.ts";
import type { Credentials } from "./credentials.ts";
import { resolveFrom } from "./files/identity.ts";
import { certificateFilesOf, dataDirOf, type Ground, listenOf, servicesOf } from "./ground.ts";
import { SEAT_STATES, type SeatState } from "./seat/seat.ts";
import { SERVICES } from "./services.ts";
import { SOFTWARE } from "./version.ts";

const CLOCK_CHECK_MS = 1_000;
const CLOCK_JUMP_MS = 2_000;
/** Readiness is told to watchers of grpc.health.v1 this late at most. */
const HEALTH_MS = 500;

/** Observed are the parts of the process that are looked at; each is there from some moment of the start on. */
export interface Observed {
  readonly supervisor: () => Supervisor | undefined;
  readonly modules: () => ReadonlyMap<string, ServiceModule>;
  readonly server: () => RpcServer | undefined;
  readonly port: () => number;
  readonly credentials: () => Credentials | undefined;
  /** revoked tells whether a certificate is refused. */
  readonly revoked: (thumbprint: string) => boolean;
  readonly seat: () => SeatState;
}

/** Observe is how a process shows itself: readiness, grpc.health.v1, /statusz, metrics of itself, and the operator's surface. */
export class Observe {
  readonly #ground: Ground;
  readonly #seen: Observed;
  readonly #stops: (() => void)[] = [];
  #ops: OpsServer | undefined;
  #clockTimer: Timer | undefined;
  #healthTimer: Timer | undefined;
  #ended = false;
  /** What the start waits for; empty once it waits for nothing any more. */
  waiting = "starting";

  constructor(ground: Ground, seen: Observed) {
    this.#ground = ground;
    this.#seen = seen;
  }

  get opsPort(): number {
    return this.#ops?.healthPort ?? 0;
  }

  /** metricsPort is where /metrics is served: the ops port on loopback, else a port of its own with mutual TLS. */
  get metricsPort(): number {
    return this.#ops?.metricsPort ?? 0;
  }

  /** failed are the modules that did not start: the others serve without them (S0-24). */
  get failed(): readonly string[] {
    return (
      this.#seen
        .supervisor()
        ?.states()
        .flatMap(({ name, state }) => (state === "failed" ? [name] : [])) ?? []
    );
  }

  /** start shows the process from before there is anything else of it. Rejects if a port is taken. */
  async start(): Promise<void> {
    this.#stops.push(collectProcessMetrics(this.#ground.metrics), this.#showSelf());
    this.#ops = await this.#startOps();
  }

  /** follow shows what changes while it runs: renewed certificates, readiness, jumps of the clock. */
  follow(): void {
    this.#followHealth();
    this.#watchClock();
  }

  /** followCertificate has the ops server show a renewed certificate. */
  followCertificate(credentials: Credentials): void {
    if (this.#metricsHost !== undefined) credentials.onRenewed(() => this.#ops?.rotate(this.#opsTls()));
  }

  /** end tells all who watch that this process is going; what it did so far stays readable until `stop`. */
  end(): void {
    this.#ended = true;
    this.#clockTimer?.cancel();
    this.#healthTimer?.cancel();
    this.#seen.server()?.health.setAll(false);
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops) stop();
    await this.#ops?.stop();
  }

  /** describe is what /statusz shows. */
  describe(): string {
    const { config, runs, clock, startedAt } = this.#ground;
    const head = `foedus ${SOFTWARE} hub=${config.hub_id} runs=${runs} port=${this.#seen.port()} up=${Math.round((clock.mono() - startedAt) / 1_000)}s`;
    return `${head}\n\n${this.#seen.supervisor()?.describe() ?? this.waiting}`;
  }

  /** admin is the operator's surface of this process. */
  admin(): ServiceBinding {
    const { config, runs, clock, startedAt, live } = this.#ground;
    return createAdmin({
      hubId: config.hub_id,
      software: SOFTWARE,
      mode: runs === "hub" ? "single" : runs,
      durability: config.durability,
      uptimeMs: () => clock.mono() - startedAt,
      wallMs: () => clock.wall(),
      certificateExpiresMs: () => this.#seen.credentials()?.certificate.notAfterWall ?? 0,
      supervisor: () => this.#seen.supervisor()!,
      describe: (name) => this.#seen.modules().get(name)?.describe() ?? "",
      config: () => {
        live.look();
        return { inForce: renderEffective(hubConfig, live.current), problem: live.problem };
      },
    });
  }

  #readiness(): { ready: boolean; reasons: readonly string[] } {
    const supervisor = this.#seen.supervisor();
    if (supervisor === undefined || this.waiting !== "") return { ready: false, reasons: [this.waiting || "starting"] };
    const states = supervisor.states();
    return {
      ready: states.every((state) => state.ready),
      reasons: states.flatMap((state) => (state.ready ? [] : [`${state.name}: ${state.reason ?? state.state}`])),
    };
  }

  /** followHealth says by grpc.health.v1 what /readyz says: each service as its module is, the empty name as the whole process. */
  #followHealth(): void {
    const health = this.#seen.server()?.health;
    if (health === undefined || this.#ended) return;
    const ready = new Map(
      this.#seen
        .supervisor()
        ?.states()
        .map((state) => [state.name, state.ready]),
    );
    for (const { name, bindings } of this.#seen.modules().values())
      for (const { service } of bindings) health.set(service.typeName, ready.get(name) === true);
    health.set(HubService.typeName, true);
    health.set("", this.#readiness().ready);
    this.#healthTimer = this.#ground.clock.setTimer(HEALTH_MS, () => this.#followHealth());
  }

  #watchClock(): void {
    const { clock, events } = this.#ground;
    const jumps = new JumpDetector(CLOCK_JUMP_MS);
    const sink = events.sink("hub");
    const look = (): void => {
      const jump = jumps.check(clock.now());
      if (Math.abs(jump) >= CLOCK_JUMP_MS)
        sink.report({
          kind: "CLOCK",
          severity: "WARNING",
          text: `the wall clock jumped by ${Math.round(jump)} ms`,
          fields: { jump_ms: String(Math.round(jump)) },
        });
      this.#clockTimer = clock.setTimer(CLOCK_CHECK_MS, look);
    };
    look();
  }

  async #startOps(): Promise<OpsServer> {
    const { config, runs, metrics, log } = this.#ground;
    const admit = (certificate: X509Certificate, path: string): boolean =>
      admitReader(config.hub_id, certificate, path) && !this.#seen.revoked(thumbprintOf(certificate));
    const ports = opsPorts(config, runs);
    const host = this.#metricsHost;
    const apart = host === undefined ? {} : { metrics: { host, ...ports.metrics }, tls: this.#opsTls(), admit };
    const started = startOps({
      health: { host: config.ops.host, ...ports.health },
      ...apart,
      registry: metrics,
      readiness: () => this.#readiness(),
      describe: () => this.describe(),
      log,
    });
    return started.catch(async (error: unknown) => {
      const known = this.#runsAlready(error, ports.health.port);
      throw known === error ? await this.#alsoTaken(error) : known;
    });
  }

  /** runsAlready turns a taken ops port into what is behind it if this very hub has it: its store is in use as well. */
  #runsAlready(error: unknown, port: number): unknown {
    const { config, runs } = this.#ground;
    const dataDir = dataDirOf(this.#ground);
    if (!isTaken(error) || !storeInUse(join(dataDir, `${runs === "hub" ? SERVICES[0] : runs}.sqlite`))) return error;
    const who = runs === "hub" ? config.hub_id : `${runs} of ${config.hub_id}`;
    const message = `${who} runs already: another process uses its data folder ${dataDir} and has ops port ${port}; stop that one first`;
    return fail("NOT_CONFIGURED", message, { cause: error });
  }

  /** alsoTaken names the port for gRPC, too, if it is taken like the ops port: who moves only one of both meets the other next. */
  async #alsoTaken(error: unknown): Promise<unknown> {
    const { host, port, setting } = listenOf(this.#ground);
    const taken = isTaken(error) && port !== 0 ? await portTaken(host, port, setting) : undefined;
    return taken === undefined ? error : fail("NOT_CONFIGURED", `${taken.message}. Its ${(error as Error).message}`, { cause: error });
  }

  /** metricsHost is where /metrics and /statusz have a port of their own with mutual TLS: beyond loopback only probes are plain. */
  get #metricsHost(): string | undefined {
    const { host, metrics_host: own } = this.#ground.config.ops;
    if (own !== "") return own;
    return isLoopback(host) ? undefined : host;
  }

  /** opsTls is the certificate of this process as its files are now, for the ops server, which starts before all else. */
  #opsTls(): { cert: string; key: string; ca: string } {
    const { folder, config } = this.#ground;
    const { certFile, keyFile } = certificateFilesOf(this.#ground);
    return {
      cert: readOwn(certFile, "certificate"),
      key: readOwn(keyFile, "private key"),
      ca: readOwn(resolveFrom(folder, config.tls.ca), "CA certificate"),
    };
  }

  /** showSelf adds what this process is, how its modules fare and the disk that it writes to. */
  #showSelf(): () => void {
    const { config, runs, metrics, logSink: sink } = this.#ground;
    const self = {
      name: "foedus_build_info",
      help: "Always 1. Labels: hub ID, services that this process runs, version.",
      labels: ["hub", "runs", "version"],
    } as const;
    const ready = sampledGauge(metrics, {
      name: "foedus_module_ready",
      help: "1 while a module of this process is ready.",
      labels: ["module"],
    });
    const seat = sampledGauge(metrics, {
      name: "foedus_installation",
      help: "1 for what this installation does of those of its hub: acts, stands_by for the one that acts, or waits: it should act and cannot.",
      labels: ["state"],
    });
    const failing = { name: "foedus_log_failing", help: "1 while the log cannot be written; the hub runs on without it." };
    const lost = {
      name: "foedus_log_lines_lost_total",
      help: "Log lines that were never written, because the log failed or its reader was too slow.",
    };
    const isReady = (module: string): boolean =>
      this.#seen
        .supervisor()
        ?.states()
        .find(({ name }) => name === module)?.ready === true;
    const modules = [...servicesOf(this.#ground), "rpc", "flow"];
    const ends = [
      sampledGauge<never>(metrics, failing)({}, () => (sink?.failing === undefined ? 0 : 1)),
      sampledCounter<never>(metrics, lost)({}, () => sink?.lost ?? 0),
      sampledGauge(metrics, self)({ hub: config.hub_id, runs, version: SOFTWARE }, () => 1),
      showDisk(metrics, dataDirOf(this.#ground)),
      ...SEAT_STATES.map((state) => seat({ state }, () => (this.#seen.seat() === state ? 1 : 0))),
      ...modules.map((module) => ready({ module }, () => (isReady(module) ? 1 : 0))),
    ];
    return () => {
      for (const end of ends) end();
    };
  }
}

function isTaken(error: unknown): boolean {
  const cause = error instanceof FoedusError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
  return cause?.code === "EADDRINUSE";
}

function readOwn(file: string, what: string): string {
  try {
    return readText(file);
  } catch (cause) {
    throw fail(
      "NOT_CONFIGURED",
      `cannot read the ${what} ${file}${notFile(cause)}; correct the path in the configuration or make the file readable`,
      { cause },
    );
  }
}
