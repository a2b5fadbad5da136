import type { X509Certificate } from "node:crypto";
import { join } from "node:path";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { Registry } from "prom-client";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { describeHoldings } from "#kernel/bounds/holdings.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { type Clock, clockPlausible, JumpDetector, sleep, type Timer } from "#runtime/clock.ts";
import { renderEffective } from "#runtime/config/describe.ts";
import type { Noted } from "#runtime/config/follow.ts";
import { connectionsFor, descriptorLimit } from "#runtime/descriptors.ts";
import type { Entropy } from "#runtime/entropy.ts";
import { closeToOthers, notFile, readText } from "#runtime/files.ts";
import { limitedLog } from "#runtime/log/limited.ts";
import type { Logger, LogLevel } from "#runtime/log/log.ts";
import type { SinkState } from "#runtime/log/sink.ts";
import { sampledCounter, sampledGauge } from "#runtime/metrics/declare.ts";
import { collectProcessMetrics } from "#runtime/metrics/process.ts";
import { admitReader } from "#runtime/ops/readers.ts";
import { isLoopback, type OpsServer, startOps } from "#runtime/ops/server.ts";
import type { Caller, ClientOf, ServiceBinding } from "#runtime/rpc/call.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import { portTaken } from "#runtime/rpc/handshakes/listen-error.ts";
import { createRpcServer, type RpcServer } from "#runtime/rpc/server/server.ts";
import type { Platform, ServiceModule } from "#runtime/service/module.ts";
import { type ModuleRow, Supervisor } from "#runtime/service/supervisor.ts";
import { storeInUse } from "#runtime/store/open.ts";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { showDisk, showStoreSize } from "#runtime/store/usage.ts";
import { createServerCredentials } from "#runtime/tls/credentials.ts";
import { judgeMaterial, tlsProblem } from "#runtime/tls/judge.ts";
import { thumbprintOf } from "#runtime/tls/peer-identity.ts";
import { JwtVerifier } from "#runtime/tokens/verify.ts";
import type { Tracer } from "#runtime/trace/tracer.ts";
import type { LocalCommandHandler } from "../command-forwarding/index.ts";
import { createAdmin } from "./admin.ts";
import { type Automation, AutomationSeat } from "./compose/automation.ts";
import { type HubConfig, hubConfig, opsPorts } from "./config.ts";
import { Credentials } from "./credentials.ts";
import { EventForwarder } from "./events.ts";
import { nextIncarnation, resolveFrom } from "./files/identity.ts";
import { LiveConfig } from "./files/live-config.ts";
import { mendable } from "./files/mendable.ts";
import { keptRevoked, RevokedFile } from "./files/revoked-file.ts";
import { createSessionReporter, followViews, PeerFeed, ViewAuthority } from "./peers.ts";
import { nameOfRpc, SERVICES, type ServiceName, TABLE } from "./services.ts";
import { SOFTWARE } from "./version.ts";
import type { Wiring } from "./wiring.ts";

/** Proto packages that this software speaks, for Hello and SessionOpen. */
const PACKAGES = [...SERVICES.map((name) => TABLE[name].rpc), HubService].map((service) => service.file.proto.package);

const CLOCK_RETRY_MS = 5_000;
const CLOCK_CHECK_MS = 1_000;
const CLOCK_JUMP_MS = 2_000;
/** Readiness is told to watchers of grpc.health.v1 this late at most. */
const HEALTH_MS = 500;
/** Time that a stopping hub gives its collector. */
const TRACES_MS = 1_000;

function readOwn(file: string, what: string): string {
  try {
    return readText(file);
  } catch (cause) {
    throw fail(
      "NOT_CONFIGURED",
      `cannot read the ${what} ${file}${notFile(cause)}; correct the path in the configuration or make the file readable`,
      {
        cause,
      },
    );
  }
}

/** ProcessOptions say what this process runs. */
export interface ProcessOptions {
  readonly config: HubConfig;
  /** Folder that relative paths of the configuration start from. */
  readonly folder: string;
  /** again reads the configuration when its file changed; undefined: it stays as it is. */
  readonly again?: ((noted: Noted) => HubConfig) | undefined;
  /** setLogLevel follows `log.level`. */
  readonly setLogLevel?: (level: LogLevel) => void;
  /** "hub": all services on one port; else the one service of a split hub. */
  readonly runs: "hub" | ServiceName;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  /** How the output of the log fares, for the metrics. */
  readonly logSink?: { readonly failing: string | undefined; readonly lost: number };
  /** onFatal is called when a core failed an assertion: the process must end with a failure (D6). */
  readonly onFatal: (error: unknown) => void;
  readonly automation?: Automation;
  readonly localCommands?: LocalCommandHandler;
}

/**
 * HubProcess is one process of a hub: its modules, joined to each other here, locally or over gRPC.
 *
 * H1 readiness never depends on a peer (D-6).
 * H2 a module that fails takes no other with it (S0-24), unless its core broke: then the process ends.
 *    What an operator must mend at the start (a port, a store, a key file) ends it too, with the sentence that says so.
 * H3 nothing is dialled and nobody is served before the clock is plausible; the process waits and says so.
 */
export class HubProcess {
  readonly #o: ProcessOptions;
  readonly #registry = new Registry();
  readonly #startedAt: number;
  readonly #events: EventForwarder;
  readonly #feeds = new Map<ServiceName, PeerFeed>();
  readonly #reporters = new Map<ServiceName, ReturnType<typeof createSessionReporter>>();
  readonly #live: LiveConfig;
  readonly #reloads: (() => void)[] = [];
  readonly #clients: { close(): void }[] = [];
  readonly #stops: (() => void)[] = [];
  /** For services and servers: what others can cause does not fill it. */
  readonly #log: Logger & { flush(): void };
  #waiting = "starting";
  #ops: OpsServer | undefined;
  #credentials: Credentials | undefined;
  #authority: ViewAuthority | undefined;
  #verifier: JwtVerifier | undefined;
  #tracer: Tracer | undefined;
  #server: RpcServer | undefined;
  #supervisor: Supervisor | undefined;
  #modules: ReadonlyMap<string, ServiceModule> = new Map();
  #bindings: readonly ServiceBinding[] = [];
  #port = 0;
  #clockTimer: Timer | undefined;
  #healthTimer: Timer | undefined;
  readonly #interrupted = new AbortController();

  constructor(options: ProcessOptions) {
    const { config, again, clock } = options;
    const log = limitedLog(options.log, clock);
    this.#log = log;
    // Nothing of this process has any other logger: what somebody else can cause, however often, costs few lines.
    this.#o = { ...options, log };
    this.#startedAt = clock.mono();
    this.#events = new EventForwarder({ clock, log, metrics: this.#registry });
    this.#live = new LiveConfig({ config, again, clock, log, events: this.#events.sink("hub") });
    this.#live.onChange(({ log: { level } }) => options.setLogLevel?.(level));
  }

  /** port on which gRPC is served. */
  get port(): number {
    return this.#port;
  }

  /** registry with this process's metrics. */
  get metrics(): Registry {
    return this.#registry;
  }

  get opsPort(): number {
    return this.#ops?.healthPort ?? 0;
  }

  /** failed are the modules that did not start: the others serve without them (S0-24). */
  get failed(): readonly string[] {
    return this.#supervisor?.states().flatMap(({ name, state }) => (state === "failed" ? [name] : [])) ?? [];
  }

  /** metricsPort is where /metrics is served: the ops port on loopback, else a port of its own with mutual TLS. */
  get metricsPort(): number {
    return this.#ops?.metricsPort ?? 0;
  }

  /** start brings the process up. It rejects only for what an operator must mend: configuration, files, ports. */
  async start(): Promise<void> {
    const { config, log, clock } = this.#o;
    const unable = tlsProblem();
    if (unable !== undefined) throw new FoedusError(unable);
    this.#stops.push(collectProcessMetrics(this.#registry), this.#showSelf());
    this.#ops = await this.#startOps();
    await this.#plausibleClock();
    if (this.#interrupted.signal.aborted) return;
    this.#credentials = await this.#loadCredentials();
    if (this.#metricsHost !== undefined) this.#credentials.onRenewed(() => this.#ops?.rotate(this.#opsTls()));
    this.#authority = new ViewAuthority(config.hub_id, () => this.#credentials?.trusted ?? []);
    this.#followRevoked();
    this.#verifier = this.#makeVerifier();
    // A hub that does not trace loads nothing of it.
    if (config.tracing.endpoint !== "") {
      const { startTracing } = await import("./tracing.ts");
      this.#tracer = await startTracing({ ...this.#o, credentials: this.#credentials, metrics: this.#registry });
    }
    await this.#build();
    this.#waiting = "";
    await this.#supervisor?.start();
    this.#mustMend();
    this.#followHealth();
    this.#watchClock();
    this.#live.start();
    log.info(
      { hub: config.hub_id, runs: this.#o.runs, port: this.#port, ops: this.opsPort, startMs: Math.round(clock.mono() - this.#startedAt) },
      "hub started",
    );
  }

  /** logState tells of a log that begins to fail, or is written again: where people look who cannot see it there. */
  logState({ code, text }: SinkState): void {
    const fields = code === undefined ? {} : { code };
    this.#events.sink("hub").report({ kind: "MODULE", severity: code === undefined ? "INFO" : "ERROR", text, fields });
  }

  /** interrupt makes a start that waits for the clock give up; `stop` follows. */
  interrupt(): void {
    this.#interrupted.abort();
  }

  /** stop ends sessions, finishes what runs, commits and marks a clean stop. True if everything is durable. */
  async stop(): Promise<boolean> {
    this.#interrupted.abort();
    this.#clockTimer?.cancel();
    this.#healthTimer?.cancel();
    this.#live.stop();
    this.#server?.health.setAll(false);
    const graceMs = this.#live.current.stop_grace_ms;
    await this.#events.stop();
    for (const feed of this.#feeds.values()) feed.stop();
    const clean = (await this.#supervisor?.stop(graceMs)) ?? true;
    for (const stop of this.#stops) stop();
    for (const client of this.#clients) client.close();
    await this.#tracer?.stop(Math.min(graceMs, TRACES_MS));
    this.#credentials?.close();
    this.#log.flush();
    await this.#ops?.stop();
    return clean;
  }

  /**
   * reload reads the configuration, the federation file, the list of revoked certificates and the certificates now, whether they seem to
   * have changed or not (SIGHUP); else they are looked at within seconds.
   */
  async reload(): Promise<void> {
    this.#live.reread();
    for (const reread of this.#reloads) reread();
    await this.#credentials?.reload();
  }

  /** describe is what /statusz shows. */
  describe(): string {
    const { config, runs, clock } = this.#o;
    const head = `foedus ${SOFTWARE} hub=${config.hub_id} runs=${runs} port=${this.#port} up=${Math.round((clock.mono() - this.#startedAt) / 1_000)}s`;
    return `${head}\n\n${this.#supervisor?.describe() ?? this.#waiting}`;
  }

  get #services(): readonly ServiceName[] {
    return this.#o.runs === "hub" ? SERVICES : [this.#o.runs];
  }

  #readiness(): { ready: boolean; reasons: readonly string[] } {
    if (this.#supervisor === undefined || this.#waiting !== "") return { ready: false, reasons: [this.#waiting || "starting"] };
    const states = this.#supervisor.states();
    return {
      ready: states.every((state) => state.ready),
      reasons: states.flatMap((state) => (state.ready ? [] : [`${state.name}: ${state.reason ?? state.state}`])),
    };
  }

  /** followHealth says by grpc.health.v1 what /readyz says: each service as its module is, the empty name as the whole process. */
  #followHealth(): void {
    const health = this.#server?.health;
    if (health === undefined || this.#interrupted.signal.aborted) return;
    const ready = new Map(this.#supervisor?.states().map((state) => [state.name, state.ready]));
    for (const { name, bindings } of this.#modules.values())
      for (const { service } of bindings) health.set(service.typeName, ready.get(name) === true);
    health.set(HubService.typeName, true);
    health.set("", this.#readiness().ready);
    this.#healthTimer = this.#o.clock.setTimer(HEALTH_MS, () => this.#followHealth());
  }

  /**
   * mustMend throws what the first module failed with, if an operator has to mend it: a hub whose port is taken or whose store is
   * damaged would else look alive and serve nobody. A module that failed by a bug, or was slow, stays isolated (S0-24).
   */
  #mustMend(): void {
    const error = mendable(this.#supervisor?.firstError());
    if (error !== undefined) throw error;
  }

  async #startOps(): Promise<OpsServer> {
    const { config, runs } = this.#o;
    const admit = (certificate: X509Certificate, path: string): boolean =>
      admitReader(config.hub_id, certificate, path) && this.#authority?.revoked(thumbprintOf(certificate)) !== true;
    const { health, metrics } = opsPorts(config, runs);
    const host = this.#metricsHost;
    const apart = host === undefined ? {} : { metrics: { host, ...metrics }, tls: this.#opsTls(), admit };
    const started = startOps({
      health: { host: config.ops.host, ...health },
      ...apart,
      registry: this.#registry,
      readiness: () => this.#readiness(),
      describe: () => this.describe(),
      log: this.#o.log,
    });
    return started.catch(async (error: unknown) => {
      const known = this.#runsAlready(error, health.port);
      throw known === error ? await this.#alsoTaken(error) : known;
    });
  }

  /** runsAlready turns a taken ops port into what is behind it if this very hub has it: its store is in use as well. */
  #runsAlready(error: unknown, port: number): unknown {
    const { config, folder, runs } = this.#o;
    const cause = error instanceof FoedusError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
    const dataDir = resolveFrom(folder, config.data_dir);
    if (cause?.code !== "EADDRINUSE" || !storeInUse(join(dataDir, `${runs === "hub" ? "discovery" : runs}.sqlite`))) return error;
    const who = runs === "hub" ? config.hub_id : `${runs} of ${config.hub_id}`;
    const message = `${who} runs already: another process uses its data folder ${dataDir} and has ops port ${port}; stop that one first`;
    return fail("NOT_CONFIGURED", message, { cause: error });
  }

  /** alsoTaken names the port for gRPC, too, if it is taken like the ops port: who moves only one of both meets the other next. */
  async #alsoTaken(error: unknown): Promise<unknown> {
    const { host, port, setting } = this.#listen;
    const cause = error instanceof FoedusError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
    const taken = cause?.code === "EADDRINUSE" && port !== 0 ? await portTaken(host, port, setting) : undefined;
    return taken === undefined ? error : fail("NOT_CONFIGURED", `${taken.message}. Its ${(error as Error).message}`, { cause: error });
  }

  /** listen is where this process serves gRPC, and the field that chooses the port. */
  get #listen(): { readonly host: string; readonly port: number; readonly setting: string } {
    const { config, runs } = this.#o;
    return runs === "hub" ? { ...config.listen, setting: "listen.port" } : { ...config.services[runs], setting: `services.${runs}.port` };
  }

  /** metricsHost is where /metrics and /statusz have a port of their own with mutual TLS: beyond loopback only probes are plain. */
  get #metricsHost(): string | undefined {
    const { host, metrics_host: own } = this.#o.config.ops;
    if (own !== "") return own;
    return isLoopback(host) ? undefined : host;
  }

  /** showSelf adds what this process is, how its modules fare and the disk that it writes to. */
  #showSelf(): () => void {
    const { config, folder, runs } = this.#o;
    const labels = ["hub", "runs", "version"] as const;
    const self = {
      name: "foedus_build_info",
      help: "Always 1. Labels: hub ID, services that this process runs, version.",
      labels,
    };
    const ready = sampledGauge(this.#registry, {
      name: "foedus_module_ready",
      help: "1 while a module of this process is ready.",
      labels: ["module"],
    });
    const dataDir = resolveFrom(folder, config.data_dir);
    const sink = this.#o.logSink;
    const failing = { name: "foedus_log_failing", help: "1 while the log cannot be written; the hub runs on without it." };
    const lost = {
      name: "foedus_log_lines_lost_total",
      help: "Log lines that were never written, because the log failed or its reader was too slow.",
    };
    const ends = [
      sampledGauge<never>(this.#registry, failing)({}, () => (sink?.failing === undefined ? 0 : 1)),
      sampledCounter<never>(this.#registry, lost)({}, () => sink?.lost ?? 0),
      sampledGauge(this.#registry, self)({ hub: config.hub_id, runs, version: SOFTWARE }, () => 1),
      showDisk(this.#registry, dataDir),
      ...[...this.#services, "rpc", "flow"].map((module) =>
        ready({ module }, () => (this.#supervisor?.states().find(({ name }) => name === module)?.ready === true ? 1 : 0)),
      ),
    ];
    return () => {
      for (const end of ends) end();
    };
  }

  /** opsTls is the certificate of this process as its files are now, for the ops server, which starts before all else. */
  #opsTls(): { cert: string; key: string; ca: string } {
    const { folder, config } = this.#o;
    const { certFile, keyFile } = this.#certificateFiles();
    return {
      cert: readOwn(certFile, "certificate"),
      key: readOwn(keyFile, "private key"),
      ca: readOwn(resolveFrom(folder, config.tls.ca), "CA certificate"),
    };
  }

  #certificateFiles(): { readonly certFile: string; readonly keyFile: string } {
    const { config, folder, runs } = this.#o;
    const own = runs === "hub" ? undefined : config.services[runs];
    const files = own === undefined || own.cert === "" ? config.tls : own;
    return { certFile: resolveFrom(folder, files.cert), keyFile: resolveFrom(folder, files.key) };
  }

  /** plausibleClock waits for a clock that was set; a machine without a battery clock boots in 1970. */
  async #plausibleClock(): Promise<void> {
    for (;;) {
      const failure = clockPlausible(this.#o.clock.wall());
      if (failure === undefined || this.#interrupted.signal.aborted) return;
      this.#waiting = failure.message;
      this.#o.log.error({ failure, retryMs: CLOCK_RETRY_MS }, "clock is not set; waiting for it");
      await sleep(this.#o.clock, CLOCK_RETRY_MS, this.#interrupted.signal).catch(() => undefined);
    }
  }

  /** followRevoked refuses this hub's own certificates that an operator revoked, and cuts what they have open. */
  #followRevoked(): void {
    const { config, folder, runs, clock, log } = this.#o;
    const file = new RevokedFile({
      path: resolveFrom(folder, config.tls.revoked),
      kept: keptRevoked(resolveFrom(folder, config.data_dir), runs),
      clock,
      log,
      events: this.#events.sink("hub"),
      apply: (thumbprints) => {
        this.#authority?.revokeOwn(thumbprints);
        this.#credentials?.again();
        this.#server?.cut(({ thumbprint }) => thumbprints.has(thumbprint));
      },
    });
    file.start();
    this.#reloads.push(() => file.reread());
    this.#stops.push(() => file.stop());
  }

  #watchClock(): void {
    const jumps = new JumpDetector(CLOCK_JUMP_MS);
    const sink = this.#events.sink("hub");
    const look = (): void => {
      const jump = jumps.check(this.#o.clock.now());
      if (Math.abs(jump) >= CLOCK_JUMP_MS)
        sink.report({
          kind: "CLOCK",
          severity: "WARNING",
          text: `the wall clock jumped by ${Math.round(jump)} ms`,
          fields: { jump_ms: String(Math.round(jump)) },
        });
      this.#clockTimer = this.#o.clock.setTimer(CLOCK_CHECK_MS, look);
    };
    look();
  }

  async #loadCredentials(): Promise<Credentials> {
    const { config, folder, clock, log } = this.#o;
    return Credentials.load({
      caFile: resolveFrom(folder, config.tls.ca),
      ...this.#certificateFiles(),
      hubId: config.hub_id,
      intervalMs: config.tls.reload_ms,
      clock,
      log,
      metrics: this.#registry,
    });
  }

  #platform(service: string, incarnation: number): Platform {
    const { config, folder, clock, entropy } = this.#o;
    const dataDir = resolveFrom(folder, config.data_dir);
    return {
      hubId: config.hub_id,
      clock,
      entropy,
      log: this.#log.child({ service }),
      metrics: this.#registry,
      events: this.#events.sink(service),
      incarnation,
      packages: PACKAGES,
      software: SOFTWARE,
      dataDir,
      tracer: this.#tracer,
      store: (name) => {
        const path = join(dataDir, `${name}.sqlite`);
        this.#stops.push(showStoreSize(this.#registry, name, path));
        return openSqliteStore({ path, durability: config.durability });
      },
    };
  }

  /** build makes the modules and joins them. */
  async #build(): Promise<void> {
    const { config, folder, runs, clock, log } = this.#o;
    const dataDir = resolveFrom(folder, config.data_dir);
    // Keys of tokens and of the feed are in it. A folder that was made by hand is often open to all.
    if (!closeToOthers(dataDir)) log.warn({ folder: dataDir, fix: "chmod o-rwx" }, "data folder is open to other users of this machine");
    const incarnation = nextIncarnation(join(dataDir, `${runs}.incarnation`));
    for (const service of this.#services) this.#feeds.set(service, this.#makeFeed(service));
    const seat = this.#seat();
    const modules: ServiceModule[] = [];
    for (const service of this.#services) modules.push(await TABLE[service].make(this.#wiring(service, incarnation, seat)));
    this.#modules = new Map(modules.map((module) => [module.name, module]));
    this.#bindings = [...modules.flatMap((module) => module.bindings), this.#admin()];
    for (const module of modules)
      if (module.links !== undefined) this.#events.addLinks({ service: module.name, links: () => module.links!() });
    this.#supervisor = new Supervisor({ modules: this.#table(modules), clock, log });
  }

  #wiring(service: ServiceName, incarnation: number, automation: AutomationSeat | undefined): Wiring<HubConfig> {
    const { config, folder, clock, log } = this.#o;
    return {
      config,
      live: this.#live,
      folder,
      credentials: this.#credentials!,
      verifier: this.#verifier!,
      platform: this.#platform(service, incarnation),
      peers: this.#feeds.get(service)!,
      sessions: () => {
        const reporter = createSessionReporter(service, () => this.#client(DiscoveryService), clock, log);
        this.#stops.push(() => reporter.stop());
        this.#reporters.set(service, reporter);
        return reporter;
      },
      client: (rpc) => this.#client(rpc),
      endpoints: () => this.#endpoints(),
      onFatal: (error) => this.#o.onFatal(error),
      reloads: this.#reloads,
      automation,
      localCommands: this.#o.localCommands,
    };
  }

  #seat(): AutomationSeat | undefined {
    const { automation, config, log } = this.#o;
    return automation === undefined
      ? undefined
      : new AutomationSeat(automation, { hubId: config.hub_id, log, events: this.#events.sink("hub") });
  }

  /** table orders the start: stores and cores, then the port, then who dials out, then what flows between services. */
  #table(modules: readonly ServiceModule[]): ModuleRow[] {
    const afterOf = ({ name }: ServiceModule): readonly string[] => TABLE[name as ServiceName].after;
    const before = modules.filter((module) => !afterOf(module).includes("rpc"));
    return [
      ...modules.map((module) => ({ module, after: afterOf(module) })),
      { module: this.#rpcModule(), after: before.map(({ name }) => name) },
      { module: this.#flowModule(), needs: ["rpc"], after: modules.map(({ name }) => name) },
    ];
  }

  #rpcModule(): ServiceModule {
    const { config, runs, clock, entropy } = this.#o;
    const listen = runs === "hub" ? config.listen : config.services[runs];
    let serving = false;
    return {
      name: "rpc",
      bindings: [],
      start: async () => {
        const server = createRpcServer({
          bindings: this.#bindings,
          credentials: createServerCredentials(this.#serverMaterial(), { maxConcurrentStreams: 1_000 }),
          authority: this.#authority!,
          tokens: this.#verifier!,
          metrics: this.#registry,
          log: this.#log,
          events: this.#events.sink("hub"),
          clock,
          ids: entropy,
          limits: { maxConnections: connectionsFor(descriptorLimit()) },
          rates: () => this.#live.rates,
          tracer: this.#tracer,
        });
        this.#port = await server.listen(listen.host, listen.port, this.#listen.setting);
        this.#server = server;
        this.#credentials!.onRenewed(() => {
          this.#authority!.bump();
          server.rotate(this.#serverMaterial());
          server.recheck();
        });
        serving = true;
      },
      readiness: () => (serving ? { ready: true } : { ready: false, reason: "not listening" }),
      describe: () =>
        `connections=${this.#server?.connections ?? 0} calls=${this.#server?.calls ?? 0}\n${describeHoldings(this.#server?.shared() ?? [])}`.trimEnd(),
      stop: async (graceMs) => {
        serving = false;
        await this.#server?.drain(graceMs);
      },
    };
  }

  /** flowModule starts what flows between services once all of them are there: views of peers, and events. */
  #flowModule(): ServiceModule {
    return {
      name: "flow",
      bindings: [],
      start: () => {
        this.#events.connect(this.#client(TelemetryService));
        for (const feed of this.#feeds.values()) feed.start(this.#client(DiscoveryService));
        this.#credentials!.onLeaf(() => {
          for (const feed of this.#feeds.values()) feed.restart(this.#client(DiscoveryService));
        });
        return Promise.resolve();
      },
      readiness: () => ({ ready: true }),
      describe: () =>
        [...this.#feeds]
          .map(([service, feed]) => `${service}: ${feed.current().length} peers${feed.synced ? "" : ", not told yet"}`)
          .join("\n"),
      stop: () => Promise.resolve(),
    };
  }

  #makeVerifier(): JwtVerifier {
    const { config, clock } = this.#o;
    return new JwtVerifier({
      hubId: config.hub_id,
      clock,
      authority: this.#authority!,
      fetchKeySet: async () => {
        const answer = await this.#client(DiscoveryService).getKeySet({ $typeName: "foedus.discovery.v1alpha1.GetKeySetRequest" });
        return answer.jwks;
      },
    });
  }

  #makeFeed(service: ServiceName): PeerFeed {
    const feed: PeerFeed = new PeerFeed({
      service,
      leaf: () => this.#credentials!.certificate.leaf.raw,
      clock: this.#o.clock,
      log: this.#o.log,
      onKeySet: (jwks) => this.#verifier!.setKeySet(jwks),
      // All feeds tell the same of who the peers are: those who call are judged by the first.
      onChange: () => {
        if (feed === this.#feeds.values().next().value) this.#peersChanged(feed);
      },
      onSynced: () => this.#reporters.get(service)?.again(),
    });
    return feed;
  }

  #peersChanged(feed: PeerFeed): void {
    const authority = this.#authority;
    if (authority === undefined) return;
    const { clock, log } = this.#o;
    const onCas = (): void => {
      this.#server?.rotate(this.#serverMaterial());
      void this.#judge();
    };
    followViews({ authority, server: () => this.#server, clock, log, onCas }, () => feed.current());
  }

  /** judge says when a peer's CA keeps TLS from taking our own certificate: two CAs of one name cannot always be told apart. */
  async #judge(): Promise<void> {
    const failure = await judgeMaterial(this.#serverMaterial(), this.#o.clock);
    if (failure === undefined) return;
    this.#o.log.error({ failure }, "certificate is not taken beside the CAs of the peers");
    const text = `with the CAs of the peers: ${failure.message}`;
    this.#events.sink("hub").report({ kind: "CREDENTIAL", severity: "ERROR", text });
  }

  #serverMaterial(): { cert: string; key: string; ca: readonly string[] } {
    const { cert, key } = this.#credentials!.certificate;
    return { cert, key, ca: [...this.#credentials!.caPems, ...this.#authority!.pems()] };
  }

  readonly #made = new Map<string, { close(): void }>();

  /** client of one of this hub's services: in this process, or wherever the configuration says. */
  #client<S extends GenService<GenServiceMethods>>(service: S): ClientOf<S> {
    let made = this.#made.get(service.typeName);
    if (made === undefined) {
      made = this.#makeClient(service);
      this.#made.set(service.typeName, made);
      this.#clients.push(made);
    }
    return made as ClientOf<S>;
  }

  #makeClient(service: GenService<GenServiceMethods>): { close(): void } {
    const { config, clock, log, entropy } = this.#o;
    const binding = this.#bindings.find((candidate) => candidate.service.typeName === service.typeName);
    if (binding !== undefined) return createLocalClient(service, binding, { caller: this.#self(), clock, log, ids: entropy });
    const name = nameOfRpc(service.typeName);
    if (name === undefined) throw fail("INTERNAL", `${service.typeName} is no service of a hub`);
    const { host, port } = config.services[name];
    return this.#credentials!.client(service, {
      host,
      port,
      expected: { hubId: config.hub_id },
      caPems: () => this.#credentials!.caPems,
      revoked: () => this.#authority!.ownRevoked,
    });
  }

  /** self is this process as a caller of its own services. */
  #self(): Caller {
    const { id, thumbprint, notAfterWall } = this.#credentials!.certificate;
    return {
      kind: "service",
      hubId: this.#o.config.hub_id,
      name: id.name,
      spiffeId: id.uri,
      thumbprint,
      notAfterWall,
      level: 0,
      role: 0,
      prefixes: [],
    };
  }

  /** endpoints are what peers are told; none for a hub that only dials out. */
  #endpoints(): { service: string; host: string; port: number; spiffeId: string }[] {
    const { config, runs } = this.#o;
    if (runs === "hub") {
      if (config.advertise_host === "") return [];
      const port = config.advertise_port === 0 ? this.#port : config.advertise_port;
      return SERVICES.map((service) => ({ service, host: config.advertise_host, port, spiffeId: this.#credentials!.certificate.id.uri }));
    }
    return SERVICES.flatMap((service) => {
      const at = config.services[service];
      const host = at.advertise_host === "" ? config.advertise_host : at.advertise_host;
      if (host === "") return [];
      const name = at.cert === "" ? this.#credentials!.certificate.id.name : service;
      return [
        {
          service,
          host,
          port: at.advertise_port === 0 ? at.port : at.advertise_port,
          spiffeId: `spiffe://${config.hub_id}/service/${name}`,
        },
      ];
    });
  }

  #admin(): ServiceBinding {
    const { config, runs, clock } = this.#o;
    return createAdmin({
      hubId: config.hub_id,
      software: SOFTWARE,
      mode: runs === "hub" ? "single" : runs,
      durability: config.durability,
      uptimeMs: () => clock.mono() - this.#startedAt,
      wallMs: () => clock.wall(),
      certificateExpiresMs: () => this.#credentials?.certificate.notAfterWall ?? 0,
      supervisor: () => this.#supervisor!,
      describe: (name) => this.#modules.get(name)?.describe() ?? "",
      config: () => renderEffective(hubConfig, this.#live.current),
    });
  }
}
