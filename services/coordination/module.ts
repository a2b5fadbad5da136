import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { SessionFrame } from "#gen/foedus/coordination/v1alpha1/session_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { createCrypto } from "#runtime/crypto.ts";
import type { PeerSource, SessionReporter } from "#runtime/peers.ts";
import type { TokenVerifier } from "#runtime/rpc/server/token-verifier.ts";
import { Calls } from "#runtime/service/calls.ts";
import { StorePoisoned } from "#runtime/service/committer.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { notDurable, type Platform, type ServiceModule } from "#runtime/service/module.ts";
import { sessionGround } from "#runtime/service/session-ground.ts";
import { createPeerLinks, type PeerLinks, type PeerLinksOptions } from "#runtime/sessions/peer-links.ts";
import type { Store } from "#runtime/store/port.ts";
import { restoring } from "#runtime/store/restoring.ts";
import { frameFromProto, frameToProto } from "./codec/session.ts";
import type { CoordinationConfig } from "./config.ts";
import { CoordinationCore } from "./core.ts";
import { isEarly, overtakes } from "./leaving.ts";
import type { Endpoint } from "./members/messages.ts";
import type { Answer, Effect, Event, Frame, Input, Output } from "./messages.ts";
import { type CoordinationMetrics, createMetrics } from "./metrics.ts";
import { AgentPrograms } from "./shell/agent-programs.ts";
import { createBinding } from "./shell/handler.ts";
import { type CoordinationKeys, loadKeys } from "./shell/keys.ts";
import { ParcelQueue } from "./shell/parcel-queue.ts";
import { Sealing } from "./shell/sealing.ts";
import { Witness } from "./shell/witness.ts";

/** Dialled is where members with standbys are dialled. */
export type Dialled = Pick<Extract<Output, { kind: "dialled" }>, "members" | "voters" | "confirmed">;

/** CoordinationOptions join the service to its process. */
export interface CoordinationOptions {
  readonly platform: Platform;
  readonly config: CoordinationConfig;
  readonly peers: PeerSource;
  readonly sessions: SessionReporter;
  /** connect makes a client of a peer's service for one session. */
  readonly connect: PeerLinksOptions<SessionFrame>["connect"];
  /** Checks tokens that peers renew on a session. */
  readonly tokens: TokenVerifier;
  /** endpoint is where peers reach this service. */
  readonly endpoint: () => Endpoint;
  /** misconduct tells discovery of a peer that was proved to have broken the protocol, as a sentence. */
  readonly misconduct: (hubId: string, sentence: string) => void;
  /** dialled tells discovery where members with standbys are dialled. */
  readonly dialled: (report: Dialled) => void;
  /** doubt says why the store may be older than what another installation of this hub has; undefined if it is not. */
  readonly doubt?: () => string | undefined;
  readonly onFatal: (error: unknown) => void;
}

const STOPPING: Failure = { reason: "SHUTTING_DOWN", message: "the hub is stopping; call again in a moment" };
const RESTARTING: Failure = {
  reason: "STORE_UNAVAILABLE",
  message: "the store failed in the middle of a write, so it is read again before anything more is believed of it; look before you repeat",
};

/** After a store that failed, the service reads it again so much later, ms. */
const REREAD_MS = 1_000;

/** Running is the core with what drives it, on one opening of its store. */
interface Running {
  readonly core: CoordinationCore;
  readonly driver: Driver<Input>;
  readonly store: Store;
}

/**
 * createCoordination makes the service. Its store is not believed after a write that failed half-way: the service then stops, opens it again,
 * and goes on with what is there, as after a restart (DR12).
 */
export function createCoordination(options: CoordinationOptions): ServiceModule {
  return new CoordinationModule(options);
}

class CoordinationModule implements ServiceModule {
  readonly name = "coordination";
  readonly bindings;
  readonly #o: CoordinationOptions;
  readonly #links: PeerLinks<SessionFrame>;
  readonly #metrics: CoordinationMetrics;
  readonly #keys: CoordinationKeys;
  readonly #programs: AgentPrograms;
  readonly #parcels = new ParcelQueue<SessionFrame>(() => this.#links);
  readonly #up = new Set<string>();
  #calls = new Calls<Input, Answer>("coordination");
  #running: Running | undefined;
  readonly #witness: Witness | undefined;
  #unsubscribe: (() => void) | undefined;
  #stopped = false;
  #opened = 0;

  constructor(options: CoordinationOptions) {
    this.#o = options;
    this.#links = this.#linksOf();
    const { clock, metrics, dataDir } = options.platform;
    this.#keys = loadKeys(dataDir);
    this.#programs = new AgentPrograms({
      clock,
      offer: (input, bytes) => this.#calls.offer({ kind: "agent", input }, bytes),
      tell: (input) => this.#calls.tell({ kind: "agent", input }),
      sealing: Sealing.create(this.#keys.sealing),
    });
    this.#metrics = createMetrics(metrics, () => this.#running?.core.logStatus(clock.now()));
    this.#witness = this.#witnessOf();
    const prng = new Prng(options.platform.entropy.seed());
    this.bindings = [
      createBinding({
        current: () => this.#calls,
        links: this.#links,
        programs: this.#programs,
        time: () => this.#time(),
        hubId: options.platform.hubId,
        clock,
        newId: () => `r-${prng.u32().toString(36)}${prng.u32().toString(36)}`,
      }),
    ];
  }

  async start(): Promise<void> {
    this.#run();
    this.#unsubscribe = this.#o.peers.subscribe("coordination", (views) => this.#links.setPeers(views));
  }

  readiness() {
    const state = this.#running?.driver.state;
    return state === "running" ? { ready: true } : { ready: false, reason: `coordination is ${state ?? "starting"}` };
  }

  describe(): string {
    return `${this.#running?.core.describe() ?? "not running"}\n${this.#links.describe()}`;
  }

  links() {
    return this.#links.counters("coordination");
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#unsubscribe?.();
    this.#programs.endAll(STOPPING);
    await this.#links.stop(graceMs);
    if (this.#running?.driver.state === "running") this.#witness?.stop();
    const durable = (await this.#running?.driver.stop()) ?? true;
    this.#calls.end(STOPPING);
    this.#running?.store.close();
    this.#metrics.stop();
    if (!durable) throw notDurable("coordination");
  }

  /** run opens the store and begins with what is there. */
  #run(): void {
    const { platform, config } = this.#o;
    const store = platform.store("coordination", "pool");
    const keys = this.#keys;
    const doubts = [this.#o.doubt?.(), this.#witness?.doubt(store)];
    const core = new CoordinationCore({
      hubId: platform.hubId,
      publicKey: keys.signing.publicKey,
      sealingKey: keys.sealing.publicKey,
      crypto: createCrypto(keys.signing),
      prng: new Prng(platform.entropy.seed()),
      doubt: doubts.find((doubt) => doubt !== undefined),
      life: platform.incarnation,
      opened: this.#opened++,
      endpoint: this.#o.endpoint,
      stored: store,
      tuning: {
        raft: {
          electionMs: config.election_ms,
          heartbeatMs: config.heartbeat_ms,
          leaseReads: config.lease_reads,
          snapshotEntries: config.snapshot_entries,
        },
        patienceMs: config.decision_timeout_ms,
        graceMs: config.quorum_grace_ms,
        livenessMs: config.liveness_ms,
        agentsMax: config.agents_max,
        rebalanceMs: config.rebalance_ms,
      },
    });
    restoring("coordination", store, () => core.restore(platform.clock.now()));
    const driver = createDriver<Input, Effect>({
      service: "coordination",
      core,
      store,
      clock: platform.clock,
      log: platform.log,
      metrics: platform.metrics,
      execute: (output) => this.#execute(output),
      observe: (measured) => this.#metrics.observe(measured),
      early: isEarly,
      overtakes,
      poison: true,
      // What was promised stays in line until it is true; who asks waits, and is told the truth in time.
      reject: () => "keep",
      onFatal: (error) => (error instanceof StorePoisoned ? this.#poisoned(error) : this.#o.onFatal(error)),
      commit: "turn",
      ...platform.mailbox,
    });
    this.#running = { core, driver, store };
    this.#calls.attach(driver);
    this.#witness?.rotate();
    for (const peer of this.#up) this.#calls.tell({ kind: "up", peer });
  }

  /** time begins to time a decision; its answer ends that. */
  #time(): () => void {
    const { clock } = this.#o.platform;
    const began = clock.mono();
    return () => this.#metrics.decided((clock.mono() - began) / 1_000);
  }

  /** poisoned steps down, and begins anew with what the store says. */
  #poisoned(error: StorePoisoned): void {
    const { platform } = this.#o;
    const { store } = this.#running!;
    this.#running = undefined;
    this.#witness?.pause();
    this.#programs.endAll(RESTARTING);
    this.#calls.end(RESTARTING);
    this.#calls = new Calls<Input, Answer>("coordination");
    platform.log.error({ error }, "coordination: the store failed in the middle of a write; it is read again");
    platform.events.report({ kind: "STORE", severity: "ERROR", text: `coordination: ${error.message}` });
    try {
      store.close();
    } catch {
      // It is opened anew; what is wrong with it shows then.
    }
    platform.clock.setTimer(REREAD_MS, () => {
      if (this.#stopped) return;
      try {
        this.#run();
      } catch (cause) {
        this.#o.onFatal(cause);
      }
    });
  }

  #execute(output: Output): void {
    switch (output.kind) {
      case "send":
        return this.#send(output.peer, output.frame);
      case "agent":
        return this.#programs.execute(output.effect);
      case "stored":
        return this.#calls.tell({ kind: "stored", mark: output.mark });
      case "event":
        return this.#event(output);
      case "misconduct":
        return this.#o.misconduct(output.hubId, output.sentence);
      case "dialled":
        return this.#o.dialled(output);
      case "witnessed":
        return this.#witness?.settled(output.value);
      case "refused":
        this.#metrics.refused(output.failure.reason);
        return void this.#calls.refuse(output.call, output.failure);
      default:
        this.#calls.answer(output.call, output);
    }
  }

  #send(peer: string, frame: Frame): void {
    const proto = frameToProto(frame);
    if (frame.kind === "migration" && frame.frame.kind === "parcel") this.#parcels.send(peer, proto, frame.frame.sealed.length);
    else this.#links.send(peer, proto);
  }

  #event({ severity, message, hubId }: Event): void {
    const peer = hubId === "" ? {} : { peer: hubId };
    this.#o.platform.events.report({ kind: "COORDINATION", severity: SEVERITY[severity], text: message, ...peer });
  }

  #witnessOf(): Witness | undefined {
    const { platform, config } = this.#o;
    if (!config.witness) return undefined;
    const { dataDir: folder, clock, entropy, log } = platform;
    return new Witness({
      folder,
      clock,
      number: () => entropy.id(),
      tell: (value) => this.#calls.tell({ kind: "witness", value }),
      failed: (error) => log.warn({ error }, "coordination: the witness beside the store cannot be written; see to the data folder"),
    });
  }

  #linksOf(): PeerLinks<SessionFrame> {
    const { platform, connect, tokens, sessions } = this.#o;
    const { hubId } = platform;
    return createPeerLinks<SessionFrame>({
      ...sessionGround(platform, CoordinationService.method.session),
      service: "coordination",
      connect,
      tokens,
      two: true,
      onUp: (peer) => {
        this.#up.add(peer);
        this.#calls.tell({ kind: "up", peer });
      },
      onDown: (peer) => {
        this.#up.delete(peer);
        this.#parcels.drop(peer);
        this.#calls.tell({ kind: "down", peer });
      },
      onFrame: (peer, _session, frame, bytes) => {
        const read = frameFromProto(frame, peer, hubId);
        if (read === undefined) return this.#metrics.observe({ kind: "observe", what: "malformed_frame" });
        return this.#calls.running ? this.#calls.offer({ kind: "frame", peer, frame: read }, bytes) : undefined;
      },
      onCredit: (peer) => this.#parcels.room(peer),
      reporter: sessions,
    });
  }
}

const SEVERITY = { info: "INFO", warning: "WARNING", error: "ERROR" } as const;
