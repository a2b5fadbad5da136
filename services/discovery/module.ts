import { create } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import type { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { DiscoveryService, HelloRequestSchema, RefreshRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { AnnounceSchema, type SessionFrame, SessionFrameSchema } from "#gen/foedus/discovery/v1alpha1/session_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { RELEASED_AT_WALL } from "#runtime/clock.ts";
import type { LinkCounters } from "#runtime/events.ts";
import type { PeerView } from "#runtime/peers.ts";
import type { ServiceBinding } from "#runtime/rpc/call.ts";
import type { TokenVerifier } from "#runtime/rpc/server/token-verifier.ts";
import { Calls } from "#runtime/service/calls.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { notDurable, type Platform, type ServiceModule } from "#runtime/service/module.ts";
import { sessionGround } from "#runtime/service/session-ground.ts";
import { createPeerLinks, type LinkStatus, type PeerLinks } from "#runtime/sessions/peer-links.ts";
import { restoringAsync } from "#runtime/store/restoring.ts";
import { decodeRecord, endpointToProto, introductionOf, levelFromProto, recordCodec, reportsFromPort, tokensFromProto } from "./codec.ts";
import type { DiscoveryConfig } from "./config.ts";
import { DiscoveryCore } from "./core.ts";
import { type Ground, SYSTEM_GROUND } from "./ground.ts";
import type { Effect, Input, Note, Output, PeerRecord, Push } from "./messages.ts";
import { DiscoveryMetrics } from "./metrics.ts";
import { Bundles, ownLeaf } from "./peers/hello-certificates.ts";
import { PEER_SPACE } from "./peers/peer-table.ts";
import type { DialRequest, DiscoveryPorts } from "./ports.ts";
import { type Answer, createBinding, type Watch } from "./shell/handler.ts";
import { KeyKeeper } from "./shell/key-keeper.ts";
import { type Federation, NO_FEDERATION } from "./sources/federation.ts";

const PACKAGE = "foedus.discovery.v1alpha1";
const SERVICE = "discovery";

type Client = ClientOf<typeof DiscoveryService>;
type Outgoing = Extract<Output, { kind: "hello" | "refresh" }>;

/** DiscoveryServicePorts are the ports with their real types. */
export type DiscoveryServicePorts = DiscoveryPorts<Client, TokenVerifier>;

/** DiscoveryOptions join the service to its process. */
export interface DiscoveryOptions {
  readonly platform: Platform;
  readonly config: DiscoveryConfig;
  readonly ports: DiscoveryServicePorts;
  /** Peers of the start; none if federation is off (S0-23). */
  readonly federation?: Federation;
  readonly ground?: Ground;
  readonly onFatal: (error: unknown) => void;
}

/** Discovery is the service as the composition root sees it. */
export interface Discovery extends ServiceModule {
  /** setFederation makes another set of peers the wanted one, live (D-11), and answers how many there are. */
  setFederation(federation: Federation): number;
  /** leafChanged is to be called when this process has a new certificate: it says Hello for it and renews its sessions. */
  leafChanged(): void;
  /** keySet is the JWK set of this hub's tokens, JSON; empty before `start`. */
  keySet(): string;
  /** rotateKeys starts a planned rotation of the token keys now. */
  rotateKeys(): Promise<void>;
  /** sessions are the states of this service's own sessions. */
  sessions(): readonly LinkStatus[];
  links(): readonly LinkCounters[];
}

/** createDiscovery makes the service that finds peers, proves identities and decides trust. Nothing runs before `start`. */
export function createDiscovery(options: DiscoveryOptions): Discovery {
  return new DiscoveryModule(options);
}

class DiscoveryModule implements Discovery {
  readonly name = SERVICE;
  readonly bindings: readonly ServiceBinding[];
  readonly #o: DiscoveryOptions;
  readonly #core: DiscoveryCore;
  readonly #keys: KeyKeeper;
  readonly #bundles = new Bundles();
  readonly #links: PeerLinks<SessionFrame>;
  readonly #metrics: DiscoveryMetrics;
  readonly #store;
  readonly #calls = new Calls<Input, Answer>(SERVICE);
  readonly #watches = new Map<number, Watch>();
  readonly #views = new Map<string, PeerView>();
  /** Peers whose sessions must be renewed once there is a token for the new certificate. */
  readonly #redial = new Set<string>();
  readonly #abort = new AbortController();
  /** Tells this process from another one with the same keys. */
  readonly #run: Uint8Array;
  #ownWatch = 0;
  #driver: Driver<Input> | undefined;
  #federation: Federation;

  constructor(options: DiscoveryOptions) {
    this.#o = options;
    const { platform, ports } = options;
    this.#federation = options.federation ?? NO_FEDERATION;
    this.#store = platform.store(SERVICE);
    this.#run = platform.entropy.bytes(16);
    this.#core = new DiscoveryCore({ config: this.#coreConfig(), prng: new Prng(platform.entropy.seed()), codec: recordCodec });
    this.#metrics = new DiscoveryMetrics(platform.metrics, this.#core, platform.clock);
    this.#keys = this.#createKeys();
    this.#links = this.#createLinks();
    this.bindings = [
      createBinding({
        platform,
        keys: this.#keys,
        bundles: this.#bundles,
        run: this.#run,
        ownEndpoints: ports.ownEndpoints,
        held: (acting) => ports.seat?.held(acting),
        watches: this.#watches,
        calls: this.#calls,
        session: (requests, out, context) => this.#links.accept(requests, out, context),
      }),
    ];
  }

  async start(): Promise<void> {
    const { platform, onFatal } = this.#o;
    this.#bundles.set(this.#federation.peers);
    await restoringAsync(SERVICE, this.#store, async () => {
      await this.#keys.open(this.#store);
      this.#core.restore(this.#records());
    });
    this.#driver = createDriver<Input, Effect>({
      service: SERVICE,
      core: (this.#o.ground ?? SYSTEM_GROUND).drive(this.#core),
      store: this.#store,
      clock: platform.clock,
      log: platform.log,
      metrics: platform.metrics,
      execute: (output) => this.#execute(output),
      observe: (note) => this.#note(note as Note),
      reject: (output, failure) => this.#reject(output, failure),
      onFatal,
      commit: "turn",
      ...platform.mailbox,
    });
    this.#calls.attach(this.#driver);
    this.#tellFederation();
    this.leafChanged();
    this.#keys.run();
  }

  readiness() {
    const state = this.#driver?.state ?? "starting";
    return state === "running" ? { ready: true } : { ready: false, reason: `discovery is ${state}` };
  }

  describe(): string {
    return `${this.#core.describe()}\nsessions\n${this.#links.describe()}`;
  }

  links(): readonly LinkCounters[] {
    return this.#links.counters("link");
  }

  sessions(): readonly LinkStatus[] {
    return this.#links.status();
  }

  keySet(): string {
    return this.#keys.jwks;
  }

  rotateKeys(): Promise<void> {
    return this.#keys.rotate();
  }

  setFederation(federation: Federation): number {
    this.#federation = federation;
    this.#bundles.set(federation.peers);
    this.#tellFederation();
    return federation.peers.length;
  }

  #tellFederation(): void {
    this.#calls.tell({ kind: "federation", peers: this.#federation.peers }, "federation");
  }

  leafChanged(): void {
    const { platform, ports } = this.#o;
    if (this.#driver === undefined) return;
    const leaf = ownLeaf(platform.hubId, ports.ownLeaf());
    const before = this.#ownWatch;
    const watch = this.#calls.id();
    this.#ownWatch = watch;
    this.#watches.set(watch, { push: (pushes) => this.#ownPush(watch, pushes), jwks: () => undefined, end: () => undefined });
    for (const hubId of this.#views.keys()) this.#redial.add(hubId);
    this.#calls.tell({ kind: "watch", watch, services: [SERVICE], leaf });
    if (before === 0) return;
    this.#watches.delete(before);
    this.#calls.tell({ kind: "watch_end", watch: before });
  }

  async stop(graceMs: number): Promise<void> {
    this.#keys.stop();
    const failure: Failure = { reason: "SHUTTING_DOWN", message: "the hub is stopping; watch again in a moment" };
    await this.#links.stop(graceMs);
    for (const watch of this.#watches.values()) watch.end(failure);
    this.#abort.abort(failure);
    const durable = (await this.#driver?.stop()) ?? true;
    this.#calls.end(failure);
    this.#metrics.stop();
    this.#store.close();
    if (!durable) throw notDurable(SERVICE);
  }

  #coreConfig() {
    const { platform, config } = this.#o;
    return {
      hubId: platform.hubId,
      packageName: PACKAGE,
      minimumEvidence: config.minimum_evidence,
      verificationPeriodMs: config.verification_period_ms,
      backoff: { baseMs: config.backoff_base_ms, maxMs: Math.max(config.backoff_base_ms, config.backoff_max_ms), factor: 2, jitter: 0.25 },
      expects: config.session_services,
      leafDelayMs: 100,
      reintroduceMs: config.reintroduce_ms,
      releasedAtWall: RELEASED_AT_WALL,
      clockRetryMs: 5_000,
      skewWarnMs: config.clock_skew_warn_ms,
    };
  }

  #createKeys(): KeyKeeper {
    const { platform, config } = this.#o;
    const { hubId, clock, entropy, log } = platform;
    return new KeyKeeper({
      hubId,
      clock,
      entropy,
      log,
      ttlMs: config.token_ttl_ms,
      crypto: (this.#o.ground ?? SYSTEM_GROUND).tokens,
      ring: {
        rotationMs: config.key_rotation_ms,
        leadMs: Math.min(config.key_lead_ms, config.key_rotation_ms),
        retainMs: 2 * config.token_ttl_ms,
      },
      persist: async (put, remove) => void (await this.#calls.ask((call) => ({ kind: "store_keys", call, put, remove }))),
      published: (jwks) => {
        for (const watch of this.#watches.values()) watch.jwks(jwks);
      },
    });
  }

  #createLinks(): PeerLinks<SessionFrame> {
    const { platform, ports, config } = this.#o;
    return createPeerLinks<SessionFrame>({
      ...sessionGround(platform, DiscoveryService.method.session),
      service: SERVICE,
      // A few frames in the life of a session are not worth another connection.
      two: false,
      tokens: ports.tokens,
      backoff: this.#coreConfig().backoff,
      times: { connectTimeoutMs: config.hello_timeout_ms },
      connect: ({ hubId: peer, endpoint, caPems, revoked }) => {
        if (endpoint === undefined) throw fail("PEER_UNREACHABLE", `${peer} can only dial us`);
        return ports.dialPeer({ address: endpoint, hubId: peer, caPems, revoked, spiffeId: endpoint.spiffeId });
      },
      runs: { own: this.#run, met: (peer, run) => this.#calls.tell({ kind: "met", peer, ...run }, `met ${peer}`) },
      onUp: (peer) => this.#announce(peer),
      onDown: () => undefined,
      onFrame: (peer, _session, { frame }, bytes) =>
        frame.case === "announce"
          ? this.#calls.offer({ kind: "announced", peer, level: levelFromProto(frame.value.level), copies: frame.value.copies }, bytes)
          : undefined,
      reporter: {
        report: (reports) =>
          this.#calls.tell({ kind: "sessions", service: SERVICE, reports: reportsFromPort(reports) }, "sessions", bothReports),
      },
    });
  }

  /** announce tells a peer which level it has here, and where copies of it run, if its session is up. */
  #announce(peer: string): void {
    const level = (this.#views.get(peer)?.level ?? 0) as TrustLevel;
    const copies = [...this.#core.copies(peer, this.#o.platform.clock.mono())];
    const announce = create(AnnounceSchema, { software: this.#o.platform.software, level, copies });
    this.#links.send(peer, create(SessionFrameSchema, { frame: { case: "announce", value: announce } }));
  }

  *#records(): Iterable<readonly [string, PeerRecord]> {
    for (const { key, bytes } of this.#store.space(PEER_SPACE)) {
      yield [key, decodeRecord(bytes, `${PEER_SPACE}/${key}`)];
    }
  }

  #execute(output: Output): void {
    if (output.kind === "push") this.#watches.get(output.watch)?.push(output.pushes);
    else if (output.kind === "hello" || output.kind === "refresh") void this.#call(output);
    else if (output.kind === "own_dialled") this.#o.ports.seat?.told(output.member, output.hubs, output.members);
    else this.#answer(output);
  }

  #answer(output: Answer): void {
    if (output.kind === "refuse") this.#calls.refuse(output.call, output.failure);
    else this.#calls.answer(output.call, output);
  }

  #reject(output: Output, failure: Failure): "drop" | "keep" {
    if (!("call" in output)) return "keep";
    this.#calls.refuse(output.call, failure);
    return "drop";
  }

  /** call says Hello or Refresh to a peer and reports how it went. */
  async #call(effect: Outgoing): Promise<void> {
    const { peer, attempt } = effect;
    const refresh = effect.kind === "refresh";
    let input: Input;
    try {
      const { address, caPems, revoked } = effect;
      const request: DialRequest = { address, hubId: peer, caPems, revoked, spiffeId: undefined };
      const client = this.#o.ports.dialPeer(request);
      try {
        input = refresh ? await this.#refresh(client, effect) : await this.#hello(client, effect);
      } finally {
        client.close();
      }
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      const failure: Failure =
        error instanceof FoedusError ? error.failure : { reason: "INTERNAL", message: "the call failed in this process" };
      if (!(error instanceof FoedusError)) this.#o.platform.log.error({ peer, error }, "call to a peer failed");
      if (failure.reason === "FENCE_STALE") this.#o.ports.seat?.refused();
      input = { kind: refresh ? "refresh_failed" : "hello_failed", peer, attempt, failure };
    }
    this.#calls.tell(input);
  }

  async #hello(client: Client, { peer, attempt, leaves }: Outgoing): Promise<Input> {
    const { platform, ports, config } = this.#o;
    const request = create(HelloRequestSchema, {
      hubId: platform.hubId,
      incarnation: BigInt(platform.incarnation),
      software: platform.software,
      packages: [...platform.packages],
      endpoints: ports.ownEndpoints().map(endpointToProto),
      leaves: leaves.slice(0, 16).map(({ der }) => der),
      wallMs: BigInt(Math.round(platform.clock.wall())),
      run: this.#run,
      fence: BigInt(ports.seat?.held()?.fence ?? 0),
    });
    const response = await client.hello(request, { timeoutMs: config.hello_timeout_ms, signal: this.#abort.signal });
    return {
      kind: "hello_answered",
      peer,
      attempt,
      from: introductionOf(response),
      tokens: tokensFromProto(response.tokens),
      level: levelFromProto(response.level),
      copies: response.copies,
    };
  }

  async #refresh(client: Client, { peer, attempt, leaves, ...more }: Outgoing): Promise<Input> {
    const jwt = "jwt" in more ? more.jwt : "";
    const request = create(RefreshRequestSchema, { leaves: leaves.slice(0, 16).map(({ der }) => der) });
    const metadata = { authorization: `Bearer ${jwt}` };
    const response = await client.refresh(request, { timeoutMs: this.#o.config.hello_timeout_ms, signal: this.#abort.signal, metadata });
    return { kind: "refresh_answered", peer, attempt, tokens: tokensFromProto(response.tokens), level: levelFromProto(response.level) };
  }

  /** ownPush gives the views to this service's own sessions. */
  #ownPush(watch: number, pushes: readonly Push[]): void {
    for (const push of pushes) {
      if (push.kind === "view") {
        const before = this.#views.get(push.view.hubId)?.level;
        this.#views.set(push.view.hubId, this.#keepToken(push.view));
        if (before !== push.view.level) this.#announce(push.view.hubId);
      }
      if (push.kind === "removed") this.#views.delete(push.hubId);
    }
    this.#links.setPeers([...this.#views.values()]);
    for (const hubId of this.#redial) {
      const fresh = pushes.some((push) => push.kind === "view" && push.view.hubId === hubId && push.view.token !== undefined);
      if (!fresh) continue;
      this.#redial.delete(hubId);
      this.#links.redial(hubId);
    }
    this.#calls.tell({ kind: "watch_ready", watch }, `watch_ready ${watch}`);
  }

  /** keepToken leaves a running session its token until there is one for the new certificate. */
  #keepToken(view: PeerView): PeerView {
    const token = view.terminated || !this.#redial.has(view.hubId) ? undefined : this.#views.get(view.hubId)?.token;
    return view.token === undefined && token !== undefined ? { ...view, token } : view;
  }

  #note(note: Note): void {
    if (note.what === "hello") this.#metrics.hello(note.direction ?? "out", note.result ?? "other");
    else if (note.what === "copies") this.#announce(note.peer);
    else if (note.what === "peer_added") this.#metrics.added(note.peer);
    else if (note.what === "peer_removed") this.#metrics.removed(note.peer);
    else if (note.event !== undefined)
      this.#o.platform.events.report({
        kind: note.event,
        severity: note.severity ?? "INFO",
        peer: note.peer,
        text: note.text ?? "",
        fields: note.fields ?? {},
      });
  }
}

/** bothReports: of each peer the newer report counts. */
function bothReports(older: Input, newer: Input): Input {
  if (older.kind !== "sessions" || newer.kind !== "sessions") return newer;
  const told = new Set(newer.reports.map(({ hubId }) => hubId));
  return { ...newer, reports: [...older.reports.filter(({ hubId }) => !told.has(hubId)), ...newer.reports] };
}
