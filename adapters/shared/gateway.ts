import { Backoff } from "#kernel/backoff.ts";
import { Prng } from "#kernel/prng.ts";
import {
  type Clock,
  type ExecutorClient,
  type Failure,
  FoedusError,
  type Hub,
  isRetryable,
  type NodeInit,
  type SetValue,
  STREAM_BACKOFF,
  type Timer,
  type Updater,
  VALUE_TYPE,
  type ValueType,
} from "../../clients/typescript/index.ts";
import { create, registrySync } from "../../clients/typescript/schema.ts";
import type { HubSide, OnRefused, RunTask } from "./port.ts";

/** Nodes of one call. */
const PAGE = 250;
/** Keys that one updater is told of: nodes come and go. */
const TYPED_MAX = 1_000_000;
/** Tasks that may be under way. */
const TASKS_MAX = 1_024;

/** Kept is a node as the adapter last said that it is. */
interface Kept {
  readonly node: NodeInit;
  readonly types: ReadonlyMap<string, ValueType>;
  /** The newest value of each key, for a hub that has lost its own. */
  readonly values: Map<string, SetValue>;
  /** Keys whose newest value was not handed to the updater. */
  readonly unsent: Set<string>;
  readonly fields: Map<string, number>;
  registered: boolean;
}

/** GatewayOptions say who is told what. */
export interface GatewayOptions {
  readonly clock: Clock;
  /** Seed of the waits. */
  readonly seed: number;
  readonly run: RunTask;
  readonly onRefused: OnRefused;
  /** The hub is there, or is not; with a failure that nothing here can mend, the gateway is over. */
  readonly onLink: (up: boolean, failure: Failure | undefined, over: boolean) => void;
}

/**
 * Gateway is the side of an adapter that faces the hub: it keeps nodes registered, tells their values, and takes their commands.
 *
 * GW1 of each key only the newest value is kept, however fast it changes and however long the hub is away.
 * GW2 a value is handed to the hub when its node is registered there, never before.
 * GW3 a hub that comes back is told everything again: it may have lost what it had.
 */
export class Gateway implements HubSide {
  readonly #hub: Hub;
  readonly #o: GatewayOptions;
  readonly #backoff: Backoff;
  readonly #nodes = new Map<string, Kept>();
  /** Nodes with something that the hub was not told. */
  readonly #todo = new Set<string>();
  /** Nodes of a call that was refused: each is told alone, so that the one at fault keeps no other from being there. */
  readonly #suspects = new Set<string>();
  readonly #dirty = new Set<Kept>();
  #updater: Updater;
  /** Types that the updater knows keys by, which it does not change. */
  #typed = new Map<string, ValueType>();
  readonly #executor: ExecutorClient;
  #pumping: Promise<void> | undefined;
  #timer: Timer | undefined;
  #offering: Timer | undefined;
  #blocked = false;
  #up = false;
  #closed = false;

  constructor(hub: Hub, options: GatewayOptions) {
    this.#hub = hub;
    this.#o = options;
    this.#backoff = new Backoff(new Prng(options.seed), STREAM_BACKOFF);
    this.#updater = this.#open();
    this.#executor = hub.serve({
      nodeIds: [],
      maxInFlight: TASKS_MAX,
      run: options.run,
      onDetached: (failure, willRetry) => {
        if (!willRetry && !this.#closed) options.onLink(false, failure, true);
      },
    });
  }

  /** up tells whether the hub is there. */
  get up(): boolean {
    return this.#up;
  }

  /** size is how many nodes there are. */
  get size(): number {
    return this.#nodes.size;
  }

  /** has tells whether a node is there. */
  has(nodeId: string): boolean {
    return this.#nodes.has(nodeId);
  }

  put(node: NodeInit): void {
    const nodeId = node.nodeId ?? "";
    const types = new Map((node.capabilities ?? []).map(({ name, type }) => [name ?? "", (type ?? VALUE_TYPE.STRING) as ValueType]));
    const before = this.#nodes.get(nodeId);
    const kept: Kept = { node, types, values: new Map(), unsent: new Set(), fields: new Map(), registered: false };
    for (const [key, value] of before?.values ?? []) {
      if (types.get(key) !== before?.types.get(key)) continue;
      kept.values.set(key, value);
      kept.unsent.add(key);
    }
    if (before !== undefined) this.#dirty.delete(before);
    this.#nodes.set(nodeId, kept);
    this.#change(nodeId);
  }

  remove(nodeId: string): void {
    const kept = this.#nodes.get(nodeId);
    if (kept !== undefined) this.#dirty.delete(kept);
    this.#nodes.delete(nodeId);
    this.#change(nodeId);
  }

  set(nodeId: string, key: string, value: SetValue): void {
    const kept = this.#nodes.get(nodeId);
    if (kept === undefined || !kept.types.has(key)) return;
    kept.values.set(key, value);
    if (kept.registered && !this.#blocked) return this.#send(nodeId, kept, key, value);
    kept.unsent.add(key);
    this.#dirty.add(kept);
  }

  /** leftovers takes away the nodes with some labels that are not among those here: an earlier run left them. How many there were. */
  async leftovers(labels: Record<string, string>): Promise<number> {
    const { hubId, clients } = this.#hub;
    const gone: string[] = [];
    for (let pageToken = ""; ; ) {
      const filter = { hubIds: [hubId], labels };
      const page = await clients.registry.listNodes(create(registrySync.ListNodesRequestSchema, { filter, pageToken, summary: true }));
      for (const { name } of page.records) if (name !== undefined && !this.#nodes.has(name.nodeId)) gone.push(name.nodeId);
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    for (const nodeId of gone) this.#change(nodeId);
    return gone.length;
  }

  /** stored resolves when the hub has on disk what it was told so far. Without a link it resolves at once: what is kept here is told later. */
  async stored(): Promise<void> {
    await this.#pumping;
    if (!this.#up || this.#closed) return;
    await this.#updater.drain().catch(() => undefined);
  }

  /** close tells the rest, as far as that goes at once, and ends. */
  async close(withinMs: number): Promise<void> {
    this.#executor.close();
    if (this.#up) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = this.#o.clock.setTimer(withinMs, resolve);
      await Promise.race([promise, this.stored()]);
      timer.cancel();
    }
    this.#closed = true;
    this.#timer?.cancel();
    this.#offering?.cancel();
    this.#hub.close();
  }

  #open(): Updater {
    const updater: Updater = this.#hub.updater({
      nodes: [],
      onRefused: ({ nodeId, key, failure }) => this.#o.onRefused({ about: key === "" ? nodeId : `${nodeId} ${key}`, why: failure.message }),
      onLink: (failure, willRetry) => {
        if (updater === this.#updater) this.#onLink(failure, willRetry);
      },
    });
    return updater;
  }

  /** renew goes on with another updater: one that knows a key by its type knows it by that for ever. All is told again when it is there (GW3). */
  #renew(): void {
    const before = this.#updater;
    this.#typed = new Map();
    for (const { fields } of this.#nodes.values()) fields.clear();
    this.#blocked = false;
    this.#up = false;
    this.#updater = this.#open();
    before.close();
  }

  /** knows tells whether the updater knows a key by this type, or does not know it yet. */
  #knows(nodeId: string, key: string, type: ValueType): boolean {
    const name = `${nodeId} ${key}`;
    const known = this.#typed.get(name);
    if (known === undefined && this.#typed.size < TYPED_MAX) this.#typed.set(name, type);
    return known === undefined ? this.#typed.size < TYPED_MAX : known === type;
  }

  #onLink(failure: Failure | undefined, willRetry: boolean): void {
    this.#up = failure === undefined;
    if (this.#up) {
      for (const kept of this.#nodes.values()) this.#again(kept);
      this.#flush();
      this.#pump();
    }
    if (!this.#closed) this.#o.onLink(this.#up, failure, failure !== undefined && !willRetry);
  }

  #again(kept: Kept): void {
    for (const key of kept.values.keys()) kept.unsent.add(key);
    if (kept.unsent.size > 0) this.#dirty.add(kept);
  }

  #change(nodeId: string): void {
    this.#todo.add(nodeId);
    if (this.#pumping === undefined && this.#timer === undefined) this.#timer = this.#o.clock.setImmediate(() => this.#pump());
  }

  #pump(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#pumping !== undefined || this.#todo.size === 0 || !this.#up || this.#closed) return;
    this.#pumping = this.#tellAll().finally(() => {
      this.#pumping = undefined;
      if (this.#todo.size > 0 && this.#timer === undefined && !this.#closed) this.#timer = this.#o.clock.setImmediate(() => this.#pump());
    });
  }

  async #tellAll(): Promise<void> {
    const [first = ""] = this.#todo;
    const page = this.#suspects.has(first) ? [first] : [...this.#todo].slice(0, PAGE);
    for (const nodeId of page) this.#todo.delete(nodeId);
    const puts = page.flatMap((nodeId) => this.#nodes.get(nodeId) ?? []);
    const gone = page.filter((nodeId) => !this.#nodes.has(nodeId));
    try {
      if (puts.length > 0) await this.#register(puts);
      for (const nodeId of gone) await this.#hub.deregister(nodeId);
      this.#backoff.succeeded();
      for (const nodeId of page) this.#suspects.delete(nodeId);
    } catch (error) {
      this.#failed(page, error);
    }
    this.#offerSoon();
  }

  async #register(puts: readonly Kept[]): Promise<void> {
    const results = await this.#hub.registry().registerNodes(puts.map(({ node }) => node));
    for (const [at, { failure, nodeId }] of results.entries()) {
      const kept = puts[at] as Kept;
      if (failure !== undefined) this.#o.onRefused({ about: nodeId, why: failure.message });
      // Another may have taken its place meanwhile, and is in line.
      else if (this.#nodes.get(kept.node.nodeId ?? "") === kept) {
        kept.registered = true;
        if (kept.unsent.size > 0) this.#dirty.add(kept);
      }
    }
    this.#flush();
  }

  /** failed puts nodes in line again, or tells that the hub does not take them. */
  #failed(page: readonly string[], error: unknown): void {
    if (this.#closed) return;
    if (error instanceof FoedusError && !isRetryable(error)) {
      const [about = ""] = page;
      this.#suspects.delete(about);
      if (page.length === 1) return this.#o.onRefused({ about, why: error.message });
      for (const nodeId of page) {
        this.#suspects.add(nodeId);
        this.#todo.add(nodeId);
      }
      return;
    }
    for (const nodeId of page) this.#todo.add(nodeId);
    this.#timer ??= this.#o.clock.setTimer(this.#backoff.failed(this.#o.clock.mono()), () => this.#pump());
  }

  #offerSoon(): void {
    this.#offering ??= this.#o.clock.setImmediate(() => {
      this.#offering = undefined;
      if (!this.#closed) this.#executor.offer([...this.#nodes].flatMap(([nodeId, { registered }]) => (registered ? [nodeId] : [])));
    });
  }

  /** flush sends what was kept back, as much as the hub takes. */
  #flush(): void {
    for (const kept of this.#dirty) {
      if (this.#blocked) return;
      this.#dirty.delete(kept);
      if (!kept.registered) continue;
      for (const key of kept.unsent) {
        if (this.#blocked) {
          this.#dirty.add(kept);
          return;
        }
        kept.unsent.delete(key);
        this.#send(kept.node.nodeId ?? "", kept, key, kept.values.get(key) as SetValue);
      }
    }
  }

  #send(nodeId: string, kept: Kept, key: string, value: SetValue): void {
    let field = kept.fields.get(key);
    if (field === undefined) {
      const type = kept.types.get(key) as ValueType;
      if (!this.#knows(nodeId, key, type)) {
        kept.unsent.add(key);
        this.#dirty.add(kept);
        return this.#renew();
      }
      field = this.#updater.field(nodeId, key, type as Exclude<ValueType, 0>);
      kept.fields.set(key, field);
    }
    try {
      if (this.#updater.setField(field, value)) return;
    } catch (error) {
      if (!(error instanceof FoedusError) || error.failure.reason !== "OVERLOADED")
        return this.#o.onRefused({ about: `${nodeId} ${key}`, why: error instanceof Error ? error.message : String(error) });
      kept.unsent.add(key);
      this.#dirty.add(kept);
    }
    this.#wait();
  }

  /** wait holds back what comes until the hub takes more. */
  #wait(): void {
    if (this.#blocked) return;
    this.#blocked = true;
    const updater = this.#updater;
    updater.writable().then(
      () => {
        if (updater !== this.#updater) return;
        this.#blocked = false;
        this.#flush();
      },
      () => undefined,
    );
  }
}
