import { join } from "node:path";
import { Registry } from "prom-client";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { clockPlausible, sleep } from "#runtime/clock.ts";
import { closeToOthers } from "#runtime/files.ts";
import { limitedLog } from "#runtime/log/limited.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { SinkState } from "#runtime/log/sink.ts";
import type { ServiceBinding } from "#runtime/rpc/call.ts";
import type { Platform, ServiceModule } from "#runtime/service/module.ts";
import { type ModuleRow, Supervisor } from "#runtime/service/supervisor.ts";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { showStoreSize } from "#runtime/store/usage.ts";
import { tlsProblem } from "#runtime/tls/judge.ts";
import { JwtVerifier } from "#runtime/tokens/verify.ts";
import type { Tracer } from "#runtime/trace/tracer.ts";
import { Adapters } from "./adapters/adapters.ts";
import { givenTo } from "./adapters/given.ts";
import { OwnClients } from "./clients.ts";
import { AutomationSeat } from "./compose/automation.ts";
import type { HubConfig } from "./config.ts";
import { Credentials } from "./credentials.ts";
import { EventForwarder } from "./events.ts";
import { nextIncarnation, resolveFrom } from "./files/identity.ts";
import { LiveConfig } from "./files/live-config.ts";
import { operatorError } from "./files/operator-error.ts";
import { keptRevoked, RevokedFile } from "./files/revoked-file.ts";
import { Flow } from "./flow.ts";
import { certificateFilesOf, dataDirOf, type Ground, type ProcessOptions, servicesOf } from "./ground.ts";
import { Observe } from "./observe.ts";
import { ownAddress } from "./seat/address.ts";
import { Seat } from "./seat/seat.ts";
import { Serve } from "./serve.ts";
import { SERVICES, type ServiceName, type ServiceRow, TABLE } from "./services.ts";
import { SOFTWARE } from "./version.ts";
import type { Beside, Wiring } from "./wiring.ts";

/** Proto packages that this software speaks, for Hello and SessionOpen. */
const PACKAGES = [...SERVICES.map((name) => TABLE[name].rpc), HubService].map((service) => service.file.proto.package);

const CLOCK_RETRY_MS = 5_000;
/** Time that a stopping hub gives its collector. */
const TRACES_MS = 1_000;

/** Parts are what a process is made of once its certificates are read: each is there for all that follows. */
interface Parts {
  readonly credentials: Credentials;
  readonly clients: OwnClients;
  readonly verifier: JwtVerifier;
  readonly flow: Flow;
  readonly serve: Serve;
  readonly tracer: Tracer | undefined;
  /** What posts events, where telemetry runs and there is somebody to post to. */
  readonly webhooks: ServiceModule | undefined;
}

/**
 * HubProcess starts and stops one process of a hub: its modules, joined to each other, locally or over gRPC.
 *
 * HP1 readiness never depends on a peer (D-6).
 * HP2 a module that fails takes no other with it (S0-24), unless its core broke: then the process ends.
 *    What an operator must mend at the start (a port, a store, a key file) ends it too, with the sentence that says so.
 * HP3 nothing is dialled and nobody is served before the clock is plausible; the process waits and says so.
 */
export class HubProcess {
  readonly #ground: Ground;
  readonly #observe: Observe;
  /** For services and servers: what others can cause does not fill it. */
  readonly #log: Logger & { flush(): void };
  readonly #reloads: (() => void)[] = [];
  readonly #stops: (() => void)[] = [];
  readonly #interrupted = new AbortController();
  readonly #seat: Seat;
  #credentials: Credentials | undefined;
  #parts: Parts | undefined;
  #supervisor: Supervisor | undefined;
  #modules: ReadonlyMap<string, ServiceModule> = new Map();
  #bindings: readonly ServiceBinding[] = [];

  constructor(options: ProcessOptions) {
    const { config, again, clock } = options;
    const log = limitedLog(options.log, clock);
    const metrics = new Registry();
    const events = new EventForwarder({ clock, log, metrics });
    const live = new LiveConfig({ config, again, clock, log, events: events.sink("hub") });
    live.onChange(({ log: { level } }) => options.setLogLevel?.(level));
    this.#log = log;
    // Nothing of this process has any other logger: what somebody else can cause, however often, costs few lines.
    this.#ground = { ...options, log, metrics, events, live, startedAt: clock.mono() };
    this.#seat = new Seat(this.#ground, () => ownAddress(config.hub_id, this.#parts?.serve.endpoints() ?? []));
    this.#observe = new Observe(this.#ground, {
      supervisor: () => this.#supervisor,
      modules: () => this.#modules,
      server: () => this.#parts?.serve.server,
      port: () => this.port,
      credentials: () => this.#credentials,
      revoked: (thumbprint) => this.#parts?.flow.authority.revoked(thumbprint) === true,
      seat: () => this.#seat.state,
    });
  }

  /** port on which gRPC is served. */
  get port(): number {
    return this.#parts?.serve.port ?? 0;
  }

  /** metrics is the registry with this process's metrics. */
  get metrics(): Registry {
    return this.#ground.metrics;
  }

  get opsPort(): number {
    return this.#observe.opsPort;
  }

  /** failed are the modules that did not start: the others serve without them (S0-24). */
  get failed(): readonly string[] {
    return this.#observe.failed;
  }

  /** metricsPort is where /metrics is served: the ops port on loopback, else a port of its own with mutual TLS. */
  get metricsPort(): number {
    return this.#observe.metricsPort;
  }

  /** start brings the process up. It rejects only for what an operator must mend: configuration, files, ports. */
  async start(): Promise<void> {
    const { config, runs, log, clock, live, startedAt } = this.#ground;
    const unable = tlsProblem();
    if (unable !== undefined) throw new FoedusError(unable);
    await this.#observe.start();
    await this.#plausibleClock();
    if (this.#interrupted.signal.aborted) return;
    const parts = await this.#make();
    this.#observe.followCertificate(parts.credentials);
    await this.#takeSeat(parts.credentials);
    if (this.#interrupted.signal.aborted) return;
    this.#followRevoked(parts.flow);
    await this.#build(parts);
    this.#observe.waiting = "";
    await this.#supervisor?.start();
    this.#mustMend();
    this.#observe.follow();
    live.start();
    this.#seat.follow(parts.credentials, (error) => this.#ground.onFatal(error));
    const startMs = Math.round(clock.mono() - startedAt);
    log.info({ hub: config.hub_id, runs, port: this.port, ops: this.opsPort, startMs }, "hub started");
  }

  /** logState tells of a log that begins to fail, or is written again: where people look who cannot see it there. */
  logState({ code, text }: SinkState): void {
    const fields = code === undefined ? {} : { code };
    this.#ground.events.sink("hub").report({ kind: "MODULE", severity: code === undefined ? "INFO" : "ERROR", text, fields });
  }

  /** interrupt makes a start that waits for the clock give up; `stop` follows. */
  interrupt(): void {
    this.#interrupted.abort();
  }

  /** stop ends sessions, finishes what runs, commits and marks a clean stop. True if everything is durable. */
  async stop(): Promise<boolean> {
    const { live, events } = this.#ground;
    const { flow, clients, tracer } = this.#parts ?? {};
    this.#interrupted.abort();
    this.#seat.stop();
    live.stop();
    this.#observe.end();
    const graceMs = live.current.stop_grace_ms;
    await events.stop();
    flow?.stop();
    const clean = (await this.#supervisor?.stop(graceMs)) ?? true;
    for (const stop of this.#stops) stop();
    flow?.close();
    clients?.close();
    await tracer?.stop(Math.min(graceMs, TRACES_MS));
    this.#credentials?.close();
    this.#log.flush();
    await this.#observe.stop();
    return clean;
  }

  /**
   * reload reads the configuration, the federation file, the list of revoked certificates and the certificates now, whether they seem to
   * have changed or not (SIGHUP); else they are looked at within seconds.
   */
  async reload(): Promise<void> {
    this.#ground.live.reread();
    for (const reread of this.#reloads) reread();
    await this.#credentials?.reload();
  }

  /** describe is what /statusz shows. */
  describe(): string {
    return this.#observe.describe();
  }

  /**
   * mustMend throws what the first module failed with, if an operator has to mend it: a hub whose port is taken or whose store is
   * damaged would else look alive and serve nobody. A module that failed by a bug, or was slow, stays isolated (S0-24).
   */
  #mustMend(): void {
    const error = operatorError(this.#supervisor?.firstError());
    if (error !== undefined) throw error;
  }

  /** plausibleClock waits for a clock that was set; a machine without a battery clock boots in 1970. */
  async #plausibleClock(): Promise<void> {
    const { clock, log } = this.#ground;
    for (;;) {
      const failure = clockPlausible(clock.wall());
      if (failure === undefined || this.#interrupted.signal.aborted) return;
      this.#observe.waiting = failure.message;
      log.error({ failure, retryMs: CLOCK_RETRY_MS }, "clock is not set; waiting for it");
      await sleep(clock, CLOCK_RETRY_MS, this.#interrupted.signal).catch(() => undefined);
    }
  }

  /** takeSeat waits until this installation acts for its hub, if that has several. */
  async #takeSeat(credentials: Credentials): Promise<void> {
    if (!this.#seat.isOneOfSeveral) return this.#seat.alone();
    await this.#seat.take(credentials, this.#interrupted.signal, (why) => {
      this.#observe.waiting = why;
    });
  }

  /** make reads the certificates and makes the parts that rest on them. They know each other by functions: each is made once. */
  async #make(): Promise<Parts> {
    const { config, clock, metrics } = this.#ground;
    const credentials = await this.#loadCredentials();
    this.#credentials = credentials;
    const bindings = (): readonly ServiceBinding[] => this.#bindings;
    const clients = new OwnClients(this.#ground, { credentials, bindings, revoked: () => flow.authority.ownRevoked });
    const flow = this.#makeFlow(credentials, clients, (jwks) => verifier.setKeySet(jwks));
    const verifier: JwtVerifier = new JwtVerifier({
      hubId: config.hub_id,
      clock,
      authority: flow.authority,
      fetchKeySet: async () => {
        const answer = await clients.client(DiscoveryService).getKeySet({ $typeName: "foedus.discovery.v1alpha1.GetKeySetRequest" });
        return answer.jwks;
      },
    });
    // A hub that does not trace loads nothing of it.
    const tracing = config.tracing.endpoint === "" ? undefined : await import("./tracing.ts");
    const tracer = await tracing?.startTracing({ ...this.#ground, credentials, metrics });
    const serve = new Serve(this.#ground, { credentials, authority: () => flow.authority, verifier, tracer, bindings });
    const parts: Parts = { credentials, clients, verifier, flow, serve, tracer, webhooks: await this.#makeWebhooks(clients) };
    this.#parts = parts;
    return parts;
  }

  /** makeWebhooks loads what posts events only where it has something to do: in the process of telemetry. */
  async #makeWebhooks(clients: OwnClients): Promise<ServiceModule | undefined> {
    const wanted = servicesOf(this.#ground).includes("telemetry") && Object.keys(this.#ground.config.webhooks).length > 0;
    return wanted ? (await import("./webhooks/module.ts")).createWebhooks(this.#ground, clients) : undefined;
  }

  async #loadCredentials(): Promise<Credentials> {
    const { config, folder, clock, log, metrics } = this.#ground;
    return Credentials.load({
      caFile: resolveFrom(folder, config.tls.ca),
      ...certificateFilesOf(this.#ground),
      hubId: config.hub_id,
      intervalMs: config.tls.reload_ms,
      clock,
      log,
      metrics,
    });
  }

  #makeFlow(credentials: Credentials, clients: OwnClients, onKeySet: (jwks: string) => void): Flow {
    const { config, clock, log } = this.#ground;
    return new Flow({
      hubId: config.hub_id,
      services: servicesOf(this.#ground),
      leaf: () => credentials.certificate.leaf.raw,
      own: () => credentials.trusted,
      discovery: () => clients.client(DiscoveryService),
      server: () => this.#parts?.serve.server,
      onKeySet,
      onCas: () => this.#parts?.serve.casChanged(),
      onOwnRevoked: () => credentials.again(),
      clock,
      log,
    });
  }

  /** followRevoked refuses this hub's own certificates that an operator revoked, and cuts what they have open. */
  #followRevoked(flow: Flow): void {
    const { config, folder, runs, clock, log, events } = this.#ground;
    const file = new RevokedFile({
      path: resolveFrom(folder, config.tls.revoked),
      kept: keptRevoked(dataDirOf(this.#ground), runs),
      clock,
      log,
      events: events.sink("hub"),
      apply: (thumbprints) => flow.revokeOwn(thumbprints),
    });
    file.start();
    this.#reloads.push(() => file.reread());
    this.#stops.push(() => file.stop());
  }

  #platform(service: string, incarnation: number, tracer: Tracer | undefined): Platform {
    const { config, clock, entropy, metrics, events } = this.#ground;
    const dataDir = dataDirOf(this.#ground);
    return {
      hubId: config.hub_id,
      clock,
      entropy,
      log: this.#log.child({ service }),
      metrics,
      events: events.sink(service),
      incarnation,
      packages: PACKAGES,
      software: SOFTWARE,
      dataDir,
      tracer,
      store: (name, flush = "loop") => {
        const path = join(dataDir, `${name}.sqlite`);
        this.#stops.push(showStoreSize(metrics, name, path));
        return openSqliteStore({ path, durability: config.durability, flush });
      },
    };
  }

  /** build makes the modules and joins them. */
  async #build(parts: Parts): Promise<void> {
    const { runs, clock, log, events } = this.#ground;
    const dataDir = dataDirOf(this.#ground);
    // Keys of tokens and of the feed are in it. A folder that was made by hand is often open to all.
    if (!closeToOthers(dataDir)) log.warn({ folder: dataDir, fix: "chmod o-rwx" }, "data folder is open to other users of this machine");
    const incarnation = nextIncarnation(join(dataDir, `${runs}.incarnation`));
    const automation = this.#automation();
    const modules: ServiceModule[] = [];
    const beside: Beside = {};
    for (const service of servicesOf(this.#ground))
      modules.push(
        await TABLE[service].make(this.#wiring(service, parts, this.#platform(service, incarnation, parts.tracer), automation, beside)),
      );
    this.#modules = new Map(modules.map((module) => [module.name, module]));
    this.#bindings = [...modules.flatMap((module) => module.bindings), this.#observe.admin()];
    for (const module of modules) if (module.links !== undefined) events.addLinks({ service: module.name, links: () => module.links!() });
    this.#supervisor = new Supervisor({ modules: this.#rows(modules, parts), clock, log });
  }

  #wiring(
    service: ServiceName,
    parts: Parts,
    platform: Platform,
    automation: AutomationSeat | undefined,
    beside: Beside,
  ): Wiring<HubConfig> {
    const { config, folder, live, onFatal, localCommands } = this.#ground;
    const { credentials, verifier, flow, clients, serve } = parts;
    return {
      config,
      live,
      folder,
      credentials,
      verifier,
      platform,
      peers: flow.peers(service),
      sessions: () => flow.sessions(service),
      beside,
      client: (rpc) => clients.client(rpc),
      endpoints: () => serve.endpoints(),
      seat: this.#seat,
      onFatal,
      reloads: this.#reloads,
      automation,
      localCommands,
    };
  }

  #automation(): AutomationSeat | undefined {
    const { automation, config, log, events } = this.#ground;
    return automation === undefined ? undefined : new AutomationSeat(automation, { hubId: config.hub_id, log, events: events.sink("hub") });
  }

  /** rows order the start: stores and cores, then the port, then who dials out, then what flows between services. */
  #rows(modules: readonly ServiceModule[], parts: Parts): ModuleRow[] {
    const afterOf = ({ name }: ServiceModule): readonly string[] => (TABLE[name as ServiceName] as ServiceRow).after;
    const before = modules.filter((module) => !afterOf(module).includes("rpc"));
    return [
      ...modules.map((module) => ({ module, after: afterOf(module) })),
      { module: parts.serve.module(), after: before.map(({ name }) => name) },
      { module: this.#flowModule(parts), needs: ["rpc"], after: modules.map(({ name }) => name) },
      ...(parts.webhooks === undefined ? [] : [{ module: parts.webhooks, needs: ["telemetry"], after: ["flow"] }]),
      ...(this.#ground.runs === "hub" ? [{ module: this.#adapters(), after: ["flow"] }] : []),
    ];
  }

  /** adapters are run by a hub in one process; those of a split hub are started by whoever starts its services. */
  #adapters(): Adapters {
    const { clock, entropy, events, metrics, live, command, folder } = this.#ground;
    const adapters = new Adapters({
      clock,
      entropy,
      log: this.#log.child({ service: "adapters" }),
      events: events.sink("hub"),
      metrics,
      command,
      settings: (name) => live.current.adapters[name],
      given: (name) => givenTo(name, live.current, folder, this.port),
    });
    live.onChange(() => adapters.look());
    return adapters;
  }

  /** flowModule starts what flows between services once all of them are there: peers, and events. */
  #flowModule({ flow, clients, credentials }: Parts): ServiceModule {
    return {
      name: "flow",
      bindings: [],
      start: () => {
        this.#ground.events.connect(clients.client(TelemetryService));
        flow.start();
        credentials.onLeaf(() => flow.restart());
        return Promise.resolve();
      },
      readiness: () => ({ ready: true }),
      describe: () => flow.describe(),
      stop: () => Promise.resolve(),
    };
  }
}
