import { createHash } from "node:crypto";
import type { ClientOf } from "#channel/call.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { SessionFrame } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { describeHoldings } from "#kernel/bounds/holdings.ts";
import type { Core } from "#kernel/core.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { parseTrace } from "#kernel/trace-context.ts";
import type { Traced } from "#runtime/metrics/exemplars.ts";
import type { PeerSource, PeerView, SessionReporter } from "#runtime/peers.ts";
import type { TokenVerifier } from "#runtime/rpc/server/token-verifier.ts";
import { failureOf } from "#runtime/rpc/status.ts";
import { Calls } from "#runtime/service/calls.ts";
import { createDriver, type Driver, type Output } from "#runtime/service/driver.ts";
import { notDurable, type Platform, type Readiness, type ServiceModule } from "#runtime/service/module.ts";
import { sessionGround } from "#runtime/service/session-ground.ts";
import { type ConnectOptions, createPeerLinks, type PeerLinks, type PeerLinksOptions } from "#runtime/sessions/peer-links.ts";
import type { Store } from "#runtime/store/port.ts";
import { restoring } from "#runtime/store/restoring.ts";
import { traceFields } from "#runtime/trace/span.ts";
import { AUDIT_LOG } from "./audit/audit.ts";
import { OPEN_LOG } from "./audit/open-commands.ts";
import { checkFrame, installSessionDecoder, invocationsIn, resultsIn, valueBytes, valueOf } from "./codec/codec.ts";
import { type CommandOutcome, type CommandRequest, valueFrom } from "./codec/request.ts";
import { type CommandForwardingConfig, settingsOf } from "./config.ts";
import { CommandCore } from "./core.ts";
import { LOG } from "./journal/journal.ts";
import { META_KEY, META_SPACE } from "./journal/restore.ts";
import { isAnswer, isUrgent, overtakes, storedInput } from "./journal/store-refusal.ts";
import { type Command, type CommandEffect, type Input, type Observation, OUTCOME, type Reply } from "./messages.ts";
import { CommandMetrics } from "./metrics.ts";
import type { AgentPlacesSource, AuditSink, DirectorySource, PresenceSink, SharePolicySource } from "./ports.ts";
import { mergeChanges } from "./route/directory-changes.ts";
import type { Settings } from "./settings.ts";
import { AuditCopier } from "./shell/audit-copier.ts";
import type { AutomationPort, LocalCommandHandler } from "./shell/automation.ts";
import { ExecutorsIo } from "./shell/executors-io.ts";
import { CommandHandler } from "./shell/handler.ts";
import { PeerOutbox, waitingBytes } from "./shell/links.ts";
import { CommandTraces } from "./shell/traces.ts";
import { type CommandCalls, Turn } from "./shell/turn.ts";

/** CommandForwardingPorts join the service to the others. Those of the federation are missing when it is not configured (S0-23). */
export interface CommandForwardingPorts {
  readonly directory: DirectorySource;
  readonly presence: PresenceSink;
  /** Where the audit of commands is copied to; without it records wait in the store. */
  readonly audit?: AuditSink;
  readonly federation?: FederationPorts;
}

/** FederationPorts are what commands between hubs need. */
export interface FederationPorts {
  readonly peers: PeerSource;
  readonly sessions: SessionReporter;
  readonly sharePolicy: SharePolicySource;
  /** Where agents are that move; without it none do. */
  readonly places?: AgentPlacesSource;
  /** connect makes a client for one dial to a peer with an endpoint; its channel is closed with the session. */
  readonly connect: (view: PeerView, options: ConnectOptions) => ClientOf<typeof CommandForwardingService>;
  /** Checks the tokens of Refresh frames. */
  readonly tokens?: TokenVerifier;
  /** Overrides for tests. */
  readonly links?: Partial<Pick<PeerLinksOptions<SessionFrame>, "times" | "backoff" | "windowBytes" | "closeTimeoutMs">>;
}

/** CommandForwardingOptions make the service. */
export interface CommandForwardingOptions {
  readonly platform: Platform;
  readonly config: CommandForwardingConfig;
  readonly ports: CommandForwardingPorts;
  /** Called once when the core failed an assertion (DC6). */
  readonly onFatal: (error: unknown) => void;
  /** Overrides for tests. */
  readonly settings?: Partial<Settings>;
  /** drive gives the core that the driver runs, for who wants to look on: the simulator. */
  readonly drive?: (core: CommandCore) => Core<Input, CommandEffect>;
}

/** CommandForwarding is the running service, with what this process may ask of it. */
export interface CommandForwarding extends ServiceModule, AutomationPort {
  /** setLocalCommandHandler wires execution of commands for nodes that have no other executor (S0-20); undefined takes it away. */
  setLocalCommandHandler(handler: LocalCommandHandler | undefined): void;
  /** links of this service with its peers; undefined without federation. */
  readonly peerLinks: PeerLinks<SessionFrame> | undefined;
}

/** createCommandForwarding makes the service that runs commands at most once, here or at their owners. */
export function createCommandForwarding(options: CommandForwardingOptions): CommandForwarding {
  return new Service(options);
}

const SERVICE = "command-forwarding";
const STOPPING: Failure = { reason: "SHUTTING_DOWN", message: "the hub is stopping" };

class Service implements CommandForwarding {
  readonly name = SERVICE;
  readonly bindings;
  readonly #o: CommandForwardingOptions;
  readonly #core: CommandCore;
  readonly #calls: CommandCalls = new Calls<Input, Reply>("command forwarding");
  readonly #handler: CommandHandler;
  readonly #executors: ExecutorsIo;
  readonly #outbox: PeerOutbox;
  readonly #metrics: CommandMetrics;
  /** Undefined while tracing is off. */
  readonly #traces: CommandTraces | undefined;
  readonly #unsubscribe: (() => void)[] = [];
  #store: Store | undefined;
  #driver: Driver<Input> | undefined;
  #turn: Turn<Input> | undefined;
  #copier: AuditCopier | undefined;
  #links: PeerLinks<SessionFrame> | undefined;
  #onIdle: (() => void) | undefined;
  #stopping = false;

  constructor(options: CommandForwardingOptions) {
    this.#o = options;
    const { platform, config, ports } = options;
    const hash = (data: Uint8Array): Uint8Array => createHash("sha256").update(data).digest();
    const settings = { ...settingsOf(config), ...options.settings };
    this.#core = new CommandCore({ hubId: platform.hubId, settings, nodes: ports.directory.table, hash });
    this.#metrics = new CommandMetrics(
      platform.metrics,
      () => this.#core.inFlight(),
      () => this.#core.rooms(),
      this.#core.audit,
    );
    this.#traces = platform.tracer === undefined ? undefined : new CommandTraces(platform.tracer);
    this.#executors = new ExecutorsIo({
      clock: platform.clock,
      calls: this.#calls,
      atEnd: (run) => this.#turn?.atEnd(run),
      onBug: (error, trace) => failureOf(error, { ids: platform.entropy, log: platform.log }, { service: SERVICE, ...traceFields(trace) }),
    });
    this.#outbox = new PeerOutbox(
      platform.clock,
      () => this.#requireLinks(),
      waitingBytes(config.pending_per_peer),
      (peer) => this.#calls.tell({ kind: "peer-room", peer }, `room ${peer}`),
    );
    this.#handler = new CommandHandler({
      core: this.#core,
      clock: platform.clock,
      calls: this.#calls,
      executors: this.#executors,
      links: () => this.#requireLinks(),
      traces: this.#traces,
    });
    this.bindings = [this.#handler.binding()];
    installSessionDecoder();
  }

  get peerLinks(): PeerLinks<SessionFrame> | undefined {
    return this.#links;
  }

  async start(): Promise<void> {
    const { platform, onFatal } = this.#o;
    const store = platform.store(SERVICE);
    this.#store = store;
    restoring(SERVICE, store, () =>
      this.#core.restore(platform.clock.now(), {
        meta: store.get(META_SPACE, META_KEY),
        blobs: store.read(LOG, 0),
        audit: store.read(AUDIT_LOG, 0),
        open: store.read(OPEN_LOG, 0),
        tailAtRisk: store.tailAtRisk === true,
      }),
    );
    const driver = createDriver<Input, CommandEffect>({
      service: SERVICE,
      core: this.#o.drive?.(this.#core) ?? this.#core,
      store,
      clock: platform.clock,
      log: platform.log,
      metrics: platform.metrics,
      execute: (effect) => this.#execute(effect),
      observe: (effect) => this.#observe(effect.what),
      reject: (effect) => this.#rejected(effect),
      overtakes,
      urgent: isUrgent,
      onStored: storedInput,
      onFatal,
      commit: "now",
      ...platform.mailbox,
    });
    this.#driver = driver;
    this.#turn = new Turn(platform.clock, driver, () => this.#flush());
    this.#calls.attach(this.#turn);
    this.#copier = this.#createCopier(store);
    this.#calls.tell({ kind: "start" });
    this.#copier?.start();
    this.#subscribe();
  }

  readiness(): Readiness {
    const state = this.#driver?.state;
    if (state === "running") return { ready: true };
    return { ready: false, reason: state === "refusing" ? "the store refuses writes" : `the core is ${state ?? "not started"}` };
  }

  describe(): string {
    const parts = [this.#core.describe(), this.#links?.describe() ?? "", describeHoldings(this.#core.holdings())];
    return parts.filter((part) => part !== "").join("\n");
  }

  links() {
    return this.#links?.counters("invoke") ?? [];
  }

  setLocalCommandHandler(handler: LocalCommandHandler | undefined): void {
    this.#executors.setHandler(handler);
  }

  async submit(command: CommandRequest, origin: string): Promise<CommandOutcome> {
    const { result, name, durationMs, replayed } = await this.#handler.run(this.#commandOf(command, origin), `automation:${origin}`);
    return { outcome: result.outcome, failure: result.failure, value: valueOf(result.value), name, durationMs, replayed };
  }

  forwardToFederation(command: CommandRequest, origin: string): boolean {
    if (this.#o.ports.federation === undefined || !this.#calls.running || this.#stopping) return false;
    if (command.hubId !== undefined && command.hubId !== "" && this.#links?.current(command.hubId) === undefined) return false;
    // Its outcome is in the metrics and events; whoever needs it uses `submit`.
    this.#handler
      .run(this.#commandOf(command, origin), `automation:${origin}`)
      .catch((err: unknown) => this.#o.platform.log.warn({ err, origin }, "forwarded command was not taken"));
    return true;
  }

  /** stop refuses new commands, waits for open ones within the grace, tells executors and peers, and commits. */
  async stop(graceMs: number): Promise<void> {
    const driver = this.#driver;
    if (driver === undefined || this.#stopping) return;
    this.#stopping = true;
    for (const end of this.#unsubscribe.splice(0)) end();
    this.#calls.tell({ kind: "stop" });
    await this.#idle(graceMs);
    this.#handler.end(STOPPING);
    this.#executors.detachAll(STOPPING);
    await this.#links?.stop(Math.max(0, Math.min(graceMs, 1_000)));
    const durable = await driver.stop();
    this.#copier?.stop();
    this.#metrics.close();
    this.#store?.close();
    if (!durable) throw notDurable(this.name);
  }

  async #idle(graceMs: number): Promise<void> {
    if (this.#core.inFlight() === 0) return;
    const idle = Promise.withResolvers<void>();
    this.#onIdle = idle.resolve;
    const timer = this.#o.platform.clock.setTimer(graceMs, idle.resolve);
    await idle.promise;
    timer.cancel();
  }

  #requireLinks(): PeerLinks<SessionFrame> {
    if (this.#links === undefined) throw fail("NOT_CONFIGURED", "federation is not configured on this hub");
    return this.#links;
  }

  #commandOf(command: CommandRequest, origin: string): Omit<Command, "corr"> {
    const { hubId = "", nodeId, capability, value, timeoutMs = 0, idempotencyKey = "", hops = [], traceparent, tracestate } = command;
    return {
      hubId,
      nodeId,
      capability,
      value: valueBytes(valueFrom(value)),
      timeoutMs,
      key: idempotencyKey,
      hops: origin === "" ? hops : [...hops, origin],
      trace: traceparent === undefined ? undefined : parseTrace(traceparent, tracestate),
    };
  }

  #subscribe(): void {
    const { directory, federation } = this.#o.ports;
    const calls = this.#calls;
    this.#unsubscribe.push(directory.subscribe((changes) => calls.tell({ kind: "directory", changes }, "directory", bothDirectories)));
    if (federation === undefined) return;
    this.#links = this.#createLinks(federation);
    this.#unsubscribe.push(federation.sharePolicy.subscribe((policy) => calls.tell({ kind: "policy", policy }, "policy")));
    if (federation.places !== undefined)
      this.#unsubscribe.push(federation.places.subscribe((places) => calls.tell({ kind: "places", places }, "places")));
    this.#unsubscribe.push(federation.peers.subscribe(SERVICE, (views) => this.#setPeers(views)));
  }

  #createCopier(store: Store): AuditCopier | undefined {
    const { platform, ports } = this.#o;
    if (ports.audit === undefined) return undefined;
    const { clock, log } = platform;
    const onCopied = (epoch: number, number: number): void => this.#calls.tell({ kind: "audit-copied", epoch, number }, "audit-copied");
    return new AuditCopier({ store, sink: ports.audit, clock, log, onCopied }, this.#core.audit.next);
  }

  #setPeers(views: readonly PeerView[]): void {
    this.#calls.tell(
      { kind: "peers", peers: views.map(({ hubId, level, minTokenIssuedAtWall }) => ({ hubId, level, voidedAt: minTokenIssuedAtWall })) },
      "peers",
    );
    this.#links?.setPeers(views);
  }

  #createLinks(federation: FederationPorts): PeerLinks<SessionFrame> {
    return createPeerLinks<SessionFrame>({
      ...sessionGround(this.#o.platform, CommandForwardingService.method.session),
      service: SERVICE,
      connect: federation.connect,
      ...(federation.tokens === undefined ? {} : { tokens: federation.tokens }),
      onUp: (peer, session, replaced) => {
        if (replaced === undefined) this.#outbox.drop(peer);
        this.#calls.tell({ kind: "peer-up", peer, session: session.streamId });
      },
      onDown: (peer) => {
        if (this.#links?.current(peer) !== undefined) return;
        this.#outbox.drop(peer);
        this.#calls.tell({ kind: "peer-down", peer });
      },
      check: checkFrame,
      onFrame: (peer, session, frame, bytes) => this.#frame(peer, session.streamId, frame, bytes),
      onCredit: (peer) => this.#outbox.pump(peer),
      reporter: federation.sessions,
      ...federation.links,
    });
  }

  /** frame takes a peer's frame. While the mailbox is full the session is not read further (DC3). */
  #frame(peer: string, session: number, { frame }: SessionFrame, bytes: number): void | Promise<void> {
    if (frame.case !== "invocations" && frame.case !== "results") return;
    const input: Input =
      frame.case === "invocations"
        ? { kind: "invocations", peer, session, frame: invocationsIn(frame.value) }
        : { kind: "results", peer, session, frame: resultsIn(frame.value) };
    if (input.kind === "invocations") this.#traces?.arrived(peer, input.frame);
    return this.#calls.offer(input, bytes);
  }

  #execute(effect: Output<CommandEffect>): void {
    switch (effect.kind) {
      case "reply":
        this.#reply(effect);
        break;
      case "invoke":
        this.#outbox.invoke(effect);
        break;
      case "tell-room":
        this.#outbox.tellRoom(effect.peer);
        break;
      case "respond":
        this.#traces?.responded(effect);
        this.#outbox.respond(effect);
        break;
      case "tasks":
        this.#traces?.handed(effect.items);
        this.#executors.tasks(effect);
        break;
      case "cancel-task":
        this.#executors.cancel(effect.executor, effect.taskId);
        break;
      case "tell-undelivered":
        return this.#executors.tellUndelivered(effect.executor);
      case "attached":
        return this.#executors.attachedNow(effect.executor, effect.nodes, effect.refused);
      case "detach":
        return this.#executors.detach(effect.executor, effect.failure);
      case "presence":
        return this.#o.ports.presence.report(effect.nodeIds, effect.online);
    }
    this.#turn?.wrote();
  }

  #reply(reply: Reply): void {
    this.#traces?.replied(reply);
    this.#metrics.called(reply.result.outcome, reply.durationMs, this.#tracedBy(reply));
    if (reply.result.outcome === OUTCOME.UNKNOWN && !reply.replayed) this.#tellUnknown(reply);
    this.#handler.reply(reply);
  }

  /** tracedBy is the trace that explains a command's latency, for the exemplar of its histogram: only of one that somebody records. */
  #tracedBy({ trace }: Reply): Traced | undefined {
    return trace?.sampled === true ? { traceId: trace.traceId, wallMs: this.#o.platform.clock.wall() } : undefined;
  }

  /** An unknown outcome is the one thing that a person may have to look after. */
  #tellUnknown({ name, result }: Reply): void {
    const command = name === undefined ? "" : `${name.hubId}/${name.epoch}/${name.seq}`;
    this.#o.platform.events.report({
      kind: "COMMAND",
      severity: "WARNING",
      text: "the outcome of a command is not known",
      fields: { command, reason: result.failure?.message ?? "" },
    });
  }

  #observe(what: Observation): void {
    const { events } = this.#o.platform;
    if (what.event === "owned") return this.#metrics.owned(what.outcome);
    if (what.event === "audited") return this.#copier?.written(what.next);
    if (what.event === "journal-epoch") {
      this.#o.platform.log.info({ service: SERVICE, epoch: what.epoch, why: what.why, peer: what.peer }, "journal epoch");
      if (what.why !== "start")
        events.report({
          kind: "STORE",
          severity: "WARNING",
          ...(what.peer === undefined ? {} : { peer: what.peer }),
          text: `command journal has a new epoch: ${what.why}`,
          fields: { epoch: String(what.epoch) },
        });
      return;
    }
    events.report({
      kind: "EXECUTOR",
      severity: "INFO",
      text: `executor ${what.executor} ${what.state}`,
      fields: { nodes: String(what.nodes) },
    });
  }

  /** What waits for a store that refuses stays in line; a reply tells the truth already and need not wait. */
  #rejected(effect: Output<CommandEffect>): "drop" | "keep" {
    if (!isAnswer(effect)) return "keep";
    this.#execute(effect);
    return "drop";
  }

  #flush(): void {
    this.#handler.flush();
    if (this.#links !== undefined) this.#outbox.flush();
    this.#executors.flush();
    if (this.#onIdle !== undefined && this.#core.inFlight() === 0) this.#onIdle();
  }
}

function bothDirectories(older: Input, newer: Input): Input {
  return older.kind === "directory" && newer.kind === "directory"
    ? { ...newer, changes: mergeChanges(older.changes, newer.changes) }
    : newer;
}
