import type { KeyMaterial } from "#channel/tls/material.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { describeHoldings } from "#kernel/bounds/holdings.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { bind, type ServiceBinding } from "#runtime/rpc/call.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { notDurable, type Platform, type ServiceModule } from "#runtime/service/module.ts";
import type { Store } from "#runtime/store/port.ts";
import { restoring } from "#runtime/store/restoring.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { coreOptionsOf, type RegistrySyncConfig, sharesOf } from "./config.ts";
import { RegistryCore } from "./core.ts";
import { holdingsOf } from "./describe.ts";
import { overtakes } from "./feed/overtakes.ts";
import { type Ground, SYSTEM_GROUND } from "./ground.ts";
import type { Effect, Input, Output } from "./messages.ts";
import { RegistryMetrics } from "./metrics.ts";
import { type RegistryNodes, SharedNodes } from "./read/nodes.ts";
import type { AutomationPort } from "./shell/automation.ts";
import { type LinkPorts, Links } from "./shell/links.ts";
import { createNodeHandlers } from "./shell/node-handler.ts";
import { createReadHandlers } from "./shell/read-handler.ts";
import { Shell } from "./shell/shell.ts";
import { createStateHandlers } from "./shell/state-handler.ts";
import { createWatchHandlers } from "./shell/watch-handler.ts";
import { changesOf } from "./table/changes.ts";
import { REGISTRY_DEFAULTS } from "./world.ts";

const STORE = "registry-sync";
const STOPPING: Failure = { reason: "SHUTTING_DOWN", message: "the hub is stopping; call again in a moment" };

/** RegistrySyncPorts are what this service needs of the composition. */
export interface RegistrySyncPorts extends LinkPorts {
  /** identity is the service's certificate and key as they are now; they sign the statement about the feed key. */
  readonly identity: () => KeyMaterial;
  readonly automation?: AutomationPort;
}

/** RegistrySyncOptions are what the service is made of. */
export interface RegistrySyncOptions {
  readonly platform: Platform;
  readonly config: RegistrySyncConfig;
  readonly ports: RegistrySyncPorts;
  /** Called once if the core failed an assertion: the process must end with a non-zero code (DC6). */
  readonly onFatal: (error: unknown) => void;
  /** What it takes from the machine; the machine itself by default. */
  readonly ground?: Ground;
}

/** RegistrySync is the service, and what can be changed while it runs. */
export interface RegistrySync extends ServiceModule {
  /** The nodes that it holds, for readers in this process; there are none before the start. */
  readonly nodes: RegistryNodes;
  /** setShares takes the share rules of a changed configuration: peers see the difference, without a restart. */
  setShares(config: RegistrySyncConfig): void;
  /** setAutomation turns the automation port on or off. */
  setAutomation(enabled: boolean): void;
}

/** createRegistrySync makes the federated registry; nothing is opened before `start`. */
export function createRegistrySync(options: RegistrySyncOptions): RegistrySync {
  return new RegistryModule(options);
}

/** Running is what exists between start and stop. */
interface Running {
  readonly core: RegistryCore;
  readonly store: Store;
  readonly driver: Driver<Input>;
  readonly links: Links;
  readonly metrics: RegistryMetrics;
  readonly stopped: PromiseWithResolvers<void>;
}

class RegistryModule implements RegistrySync {
  readonly name = "registry-sync";
  readonly bindings: readonly ServiceBinding[];
  readonly #o: RegistrySyncOptions;
  readonly #ground: Ground;
  readonly #shell = new Shell();
  readonly nodes = new SharedNodes((followed) => this.#follow(followed));
  #running: Running | undefined;
  #state: "starting" | "running" | "stopping" = "starting";

  constructor(options: RegistrySyncOptions) {
    this.#o = options;
    this.#ground = options.ground ?? SYSTEM_GROUND;
    const { platform, config } = options;
    const shell = this.#shell;
    const handlers = {
      ...createNodeHandlers(shell, platform.clock),
      ...createStateHandlers(shell, config.limits.streams, platform.clock),
      ...createReadHandlers(shell, platform.entropy, async (hubId) => this.#running?.links.probe(hubId), platform.clock),
      ...createWatchHandlers(shell, config.limits.watchers, platform.clock),
      session: (...call: Parameters<Links["accept"]>) => this.#require().links.accept(...call),
    };
    this.bindings = [bind(RegistrySyncService, handlers, ["updateState"])];
  }

  /** start restores what is in the store and then follows the peers. It throws if key or store cannot be used. */
  async start(): Promise<void> {
    const { platform, config, ports } = this.#o;
    const ground = this.#ground;
    const feedKey = ground.openFeedKey({ hubId: platform.hubId, dataDir: platform.dataDir, identity: ports.identity });
    const store = platform.store(STORE);
    const core = new RegistryCore({
      ...REGISTRY_DEFAULTS,
      ...coreOptionsOf(config, ground.heapBytes()),
      ...ground.core,
      hubId: platform.hubId,
      codec: segmentCodec,
      crypto: feedKey.crypto,
      publicKey: feedKey.publicKey,
      keySerial: feedKey.serial,
    });
    const boot = { bootId: ground.bootId() ?? `unknown-${platform.incarnation}`, durability: store.durability };
    restoring(STORE, store, () => core.restore(store, boot));
    const metrics = new RegistryMetrics(platform.hubId, platform.metrics, platform.events, {
      feeds: () => core.feeds(),
      watchers: () => this.#shell.watches.size,
      streams: () => this.#shell.streams.size,
      callers: () => core.callers(),
      numbers: () => core.numbers(),
    });
    const links = new Links({
      platform,
      ports,
      shell: this.#shell,
      statement: () => feedKey.statement(),
      renewed: () => feedKey.takeRenewed(),
      verifyKeyStatement: ground.verifyKeyStatement,
      heads: (peer) => core.heads(peer),
      onPeers: (hubIds) => metrics.follow(hubIds),
      serial: feedKey.serial,
      heartbeatMs: config.sync_interval_ms,
    });
    const driver = this.#drive(core, store, metrics);
    this.#running = { core, store, driver, links, metrics, stopped: Promise.withResolvers() };
    this.#shell.attach(driver);
    this.#shell.tell({ kind: "start" });
    this.setAutomation(ports.automation?.enabled ?? false);
    this.nodes.tables = core;
    if (this.nodes.followed) this.#follow(true);
    links.start();
    this.#state = "running";
  }

  #drive(core: RegistryCore, store: Store, metrics: RegistryMetrics): Driver<Input> {
    const { platform, config, onFatal } = this.#o;
    return createDriver<Input, Effect>({
      service: this.name,
      core: this.#ground.drive(core),
      store,
      clock: platform.clock,
      log: platform.log,
      metrics: platform.metrics,
      execute: (output) => this.#execute(output),
      observe: (event) => metrics.observe(event),
      reject: (output, failure) => this.#shell.reject(output, failure),
      overtakes,
      onStored: (report) => this.#shell.stored(report),
      onFatal,
      commit: "turn",
      paceMs: config.pace_ms,
      ...platform.mailbox,
    });
  }

  #execute(output: Output): void {
    if (this.#shell.route(output)) return;
    switch (output.kind) {
      case "want_flush":
        this.#o.platform.clock.setImmediate(() => this.#shell.tell({ kind: "flush" }));
        return;
      case "send":
        return this.#running?.links.send(output);
      case "synced":
        return this.#running?.links.synced(output.session);
      case "trouble":
        return this.#running?.links.trouble(output);
      case "compress":
        return void this.#compress(output.job, output.raw);
      case "decompress":
        return void this.#decompress(output);
      case "automate":
        return this.#automate(output);
      case "came":
        return this.nodes.came(output.nodeIds);
      case "stopped":
        return this.#running?.stopped.resolve();
    }
  }

  async #compress(job: number, raw: Uint8Array): Promise<void> {
    this.#shell.tell({ kind: "compressed", job, ...(await this.#ground.compress(raw)) });
  }

  async #decompress({ job, codec, bytes, rawLen }: Extract<Output, { kind: "decompress" }>): Promise<void> {
    this.#shell.tell({ kind: "decompressed", job, bytes: await this.#ground.decompress(codec, bytes, rawLen) });
  }

  #automate({ hub, batch, names }: Extract<Output, { kind: "automate" }>): void {
    const { automation } = this.#o.ports;
    if (automation === undefined) return;
    for (const change of changesOf(hub, batch, names)) automation.onChange(change);
  }

  setShares(config: RegistrySyncConfig): void {
    this.#shell.tell({ kind: "shares", shares: sharesOf(config) }, "shares");
  }

  setAutomation(enabled: boolean): void {
    this.#shell.tell({ kind: "automation", enabled }, "automation");
  }

  #follow(followed: boolean): void {
    if (this.#running !== undefined) this.#shell.tell({ kind: "directory", followed }, "directory");
  }

  readiness(): { readonly ready: boolean; readonly reason?: string } {
    if (this.#state !== "running") return { ready: false, reason: `the registry is ${this.#state}` };
    const { state } = this.#require().driver;
    return state === "running"
      ? { ready: true }
      : { ready: false, reason: state === "refusing" ? "the store refuses writes" : `the registry has ${state}` };
  }

  describe(): string {
    const running = this.#running;
    if (running === undefined) return `registry-sync ${this.#state}`;
    const { core, links } = running;
    const held = [...holdingsOf(core.callers(), core.feeds()), ...this.#shell.parts.map((parts) => parts.shared())];
    return `${core.describe()}\n\nsessions\n${links.describe()}\n\n${describeHoldings(held)}`.trimEnd();
  }

  links(): ReturnType<Links["counters"]> {
    return this.#running?.links.counters() ?? [];
  }

  /** stop says goodbye to peers and callers, commits what waits, and leaves the mark of a clean stop. */
  async stop(graceMs: number): Promise<void> {
    const running = this.#running;
    if (running === undefined || this.#state === "stopping") return;
    this.#state = "stopping";
    const { driver, links, metrics, store, stopped } = running;
    await links.stop(graceMs);
    this.#shell.stop(STOPPING);
    if (driver.state === "running" && driver.tell({ kind: "stop" })) {
      const timer = this.#o.platform.clock.setTimer(graceMs, () => stopped.resolve());
      await stopped.promise;
      timer.cancel();
    }
    const durable = await driver.stop();
    metrics.stop();
    store.close();
    if (!durable) throw notDurable(this.name);
  }

  #require(): Running {
    if (this.#running === undefined) throw fail("SHUTTING_DOWN", "the registry is not running; retry in a moment");
    return this.#running;
  }
}
