import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { whenAborted } from "#channel/abort.ts";
import type { ClientOf } from "#channel/call.ts";
import { createClient } from "#channel/client.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import type { ExpectedPeer } from "#channel/tls/peer-identity.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { changesOf, type StateChange } from "../../services/registry-sync/table/changes.ts";
import { AgentHost, type AgentHostOptions } from "./agents/agent-host.ts";
import { type ChangeOptions, ChangeStream } from "./change-stream.ts";
import { CommandStream, OUTCOME_NAMES, type PlainCommand, type PlainValue, plainOf } from "./command-stream.ts";
import { type EventOptions, EventStream } from "./event-stream.ts";
import { ExecutorClient, type ExecutorOptions } from "./executor-client.ts";
import type { FollowOptions } from "./following.ts";
import { callProgram, type OnError } from "./kept-stream.ts";
import type { Mirror, MirrorOptions } from "./mirror.ts";
import { FileCredentials, hubOf, readMaterial } from "./reach/file-credentials.ts";
import { misconfigured } from "./reach/misconfigured.ts";
import { endpointOf, resolveTarget, type ServiceName, type TargetOptions } from "./reach/target.ts";
import { type Link, Links, refusalsTold } from "./reach/telling.ts";
import { type NodeInit, type RegisteringOptions, RegistryClient } from "./registry-client.ts";
import type { Updater } from "./updater.ts";
import { ValueStream } from "./values/value-stream.ts";

/** HubClients are typed clients of a hub's services: every RPC of the schema, one function each. */
export interface HubClients {
  readonly discovery: ClientOf<typeof DiscoveryService>;
  readonly registry: ClientOf<typeof RegistrySyncService>;
  readonly commands: ClientOf<typeof CommandForwardingService>;
  readonly telemetry: ClientOf<typeof TelemetryService>;
  readonly coordination: ClientOf<typeof CoordinationService>;
}

/** ConnectOptions say which hub is called, as whom, and how. */
export interface ConnectOptions extends TargetOptions {
  /** The hub that must answer. Default: the one that the certificate, or the context, belongs to. */
  readonly hubId?: string;
  /** Deadline of single calls, ms. Default 10,000. */
  readonly timeoutMs?: number;
  /** Closes the hub. */
  readonly signal?: AbortSignal;
  /** Told what has nobody else to go to, such as a renewed certificate that cannot be used. Without it Node prints a warning. */
  readonly onError?: OnError;
  readonly clock?: Clock;
}

/** Cancellable is what ends when a signal aborts. */
interface Cancellable {
  /** Closes it. */
  readonly signal?: AbortSignal;
}

/** Keepable is what a hub closes with itself. */
interface Keepable {
  close(): void;
  whenOver(listener: () => void): void;
}

/** UpdaterOfHubOptions shape an updater of a hub. */
export type UpdaterOfHubOptions = RegisteringOptions & Cancellable;

/** WatchOptions say what of the registry is watched, and who is told. */
export interface WatchOptions extends MirrorOptions, Cancellable {
  /** Told of every change of a value after the first copy, by name. Costs an object for each; `onBatch` does not. */
  readonly onChange?: (change: StateChange) => void;
}

/** ServeOptions say which commands are answered, and how. */
export type ServeOptions = ExecutorOptions & Cancellable;

/** HostAgentsOptions say which agents this program has, and which it takes in. */
export type HostAgentsOptions = AgentHostOptions & Cancellable;

/** OutcomeName is what became of a command: DONE and FAILED ran, REJECTED and EXPIRED provably did not, UNKNOWN may have. */
export type OutcomeName = "DONE" | "FAILED" | "REJECTED" | "EXPIRED" | "UNKNOWN";

/** CommandResult is the outcome of a command. */
export interface CommandResult {
  readonly outcome: OutcomeName;
  /** What the executor answered. */
  readonly value: PlainValue | undefined;
  /** Why it is not DONE. */
  readonly failure: Failure | undefined;
  /** Time at the hub, ms. */
  readonly durationMs: number;
  /** The answer is that of an earlier command with the same idempotency key. */
  readonly replayed: boolean;
}

/**
 * Hub is a hub that this program calls. Everything that it opens is kept open: streams are opened again after a cut, with growing waits, and
 * a certificate that was renewed in its file is shown from the next connection on. Failures are FoedusError.
 */
export class Hub implements AsyncDisposable {
  /** The hub's id; empty for one that was made of clients. */
  readonly hubId: string;
  /** Every RPC of the schema. */
  readonly clients: HubClients;
  readonly #clock: Clock;
  readonly #onError: OnError | undefined;
  readonly #open = new Set<Keepable>();
  readonly #disconnect: () => void;
  /** Missing for a hub that was made of clients: whoever has those knows how they do. */
  readonly #links: Links | undefined;
  #registry: RegistryClient | undefined;
  #commands: CommandStream | undefined;
  #closed = false;

  private constructor(hubId: string, clients: HubClients, options: Pick<ConnectOptions, "clock" | "onError">, disconnect: () => void) {
    this.hubId = hubId;
    this.clients = clients;
    this.#clock = options.clock ?? systemClock;
    this.#onError = options.onError;
    this.#links = hubId === "" ? undefined : new Links(hubId, this.#clock);
    this.#disconnect = disconnect;
  }

  /**
   * connect prepares to call a hub over mutual TLS: by address, by context, or by what `FOEDUS_*` variables say. The hub need not be up;
   * nothing is dialled before the first call. Throws FoedusError (NOT_CONFIGURED, INVALID_FIELD) for settings or files that cannot be used.
   */
  static async connect(options: ConnectOptions = {}): Promise<Hub> {
    const target = resolveTarget(options);
    const material = readMaterial(target);
    const hubId = options.hubId ?? target.hubId ?? hubOf(material);
    if (!isHubId(hubId)) throw misconfigured(`"${hubId}" is not the id of a hub`, "Correct hubId.");
    const { clock = systemClock, timeoutMs, onError } = options;
    const made: { close(): void }[] = [];
    let closed = false;
    const client = <S extends GenService<GenServiceMethods>>(service: S, name: ServiceName): ClientOf<S> => {
      if (closed) throw fail("CANCELLED", "the hub was closed by this program");
      const endpoint = endpointOf(target, name);
      // Processes of one hub may share a certificate, so any service of this very hub will do.
      const expected: ExpectedPeer = endpoint.service === "hub" ? { hubId, name: "hub" } : { hubId };
      const credentials = new FileCredentials(expected, target, material, clock, onError);
      const deadline = timeoutMs === undefined ? {} : { defaultTimeoutMs: timeoutMs };
      const one = createClient(service, { address: endpoint.address, credentials, clock, namesAddress: true, ...deadline });
      made.push(one as { close(): void });
      return one;
    };
    const clients = lazily({
      discovery: () => client(DiscoveryService, "discovery"),
      registry: () => client(RegistrySyncService, "registry-sync"),
      commands: () => client(CommandForwardingService, "command-forwarding"),
      telemetry: () => client(TelemetryService, "telemetry"),
      coordination: () => client(CoordinationService, "coordination"),
    });
    const abort = (): void => hub.close();
    const hub = new Hub(hubId, clients, options, () => {
      closed = true;
      options.signal?.removeEventListener("abort", abort);
      for (const one of made) one.close();
    });
    whenAborted(options.signal, abort);
    return hub;
  }

  /** over uses clients that are there, such as those of a hub in this process; they stay the caller's to close. */
  static over(clients: HubClients, options: Pick<ConnectOptions, "clock" | "onError"> = {}): Hub {
    return new Hub("", clients, options, () => undefined);
  }

  /** register adds or replaces nodes. Throws the first refusal (FoedusError); nodes before and after it are registered all the same. */
  async register(...nodes: readonly NodeInit[]): Promise<void> {
    return this.registry().registerAll(nodes);
  }

  /** deregister removes a node; false if there was none. */
  async deregister(nodeId: string): Promise<boolean> {
    return this.registry().deregisterNode(nodeId);
  }

  /** updater opens a stream of state changes. With `nodes` it keeps these registered, also at a hub that has forgotten them. */
  updater({ signal, ...options }: UpdaterOfHubOptions = {}): Updater {
    const link = this.#link("updates", options.onLink);
    const common = { ...this.#common(), ...options, ...onLinkOf(link) };
    return this.#keep(this.registry().updater({ ...common, onRefused: options.onRefused ?? refusalsTold(common.onError) }), signal, link);
  }

  /** watch keeps a copy of what the hub knows of nodes, own and of its peers; after a cut it goes on where it was. */
  watch({ signal, onChange, ...options }: WatchOptions = {}): Mirror {
    const link = this.#link("watching", options.onLink);
    const common = { ...this.#common(), ...options, ...onLinkOf(link) };
    if (onChange === undefined) return this.#keep(this.registry().mirror(common), signal, link);
    const { onBatch, onError } = common;
    const told: Required<Pick<MirrorOptions, "onBatch">> = {
      onBatch: (feed, batch, slots) => {
        callProgram(onError, onBatch, feed, batch, slots);
        for (const change of changesOf(feed.hubId, batch, feed.table)) {
          if (mirror.closed) return;
          callProgram(onError, onChange, change);
        }
      },
    };
    const mirror = this.registry().mirror({ ...common, ...told });
    return this.#keep(mirror, signal, link);
  }

  /** changes follows the registry without a copy of it: `for await (const change of hub.changes())`. */
  changes(options: ChangeOptions = {}): ChangeStream {
    return this.#follow("changes", options, (told) => new ChangeStream(this.clients.registry, told));
  }

  /**
   * execute runs a command on a node, wherever it is, and tells what became of it. It rejects only for a value that cannot be encoded;
   * `signal` gives the command up, and the outcome says whether that came too late.
   */
  async execute(command: PlainCommand, { signal }: Cancellable = {}): Promise<CommandResult> {
    const { outcome, value, failure, durationMs, replayed } = await this.commands().execute(command, signal);
    return { outcome: OUTCOME_NAMES[outcome] as OutcomeName, value: plainOf(value), failure, durationMs, replayed };
  }

  /** commands is the stream that `execute` uses, for callers who count microseconds. */
  commands(): CommandStream {
    this.#mustBeOpen();
    this.#commands ??= new CommandStream(this.clients.commands, this.#clock, this.#onError === undefined ? {} : { onError: this.#onError });
    return this.#commands;
  }

  /** registry is what `register`, `updater` and `watch` use; it also registers many nodes with a result for each. */
  registry(): RegistryClient {
    this.#mustBeOpen();
    this.#registry ??= RegistryClient.connect(this.clients.registry);
    return this.#registry;
  }

  /** serve answers commands to nodes, until it is closed or another program serves them. */
  serve({ signal, ...options }: ServeOptions): ExecutorClient {
    this.#mustBeOpen();
    const link = this.#link("commands", options.onDetached);
    const told: Pick<ServeOptions, "onAttached" | "onDetached"> = {
      onAttached: (nodes, refused) => {
        link?.works();
        return options.onAttached?.(nodes, refused);
      },
      ...(link === undefined ? {} : { onDetached: link.down }),
    };
    return this.#keep(new ExecutorClient(this.clients.commands, { ...this.#common(), ...options, ...told }), signal, link);
  }

  /** hostAgents joins agents of this program to the hub, so that they can move to other hubs, and others can move in. */
  hostAgents({ signal, ...options }: HostAgentsOptions): AgentHost {
    this.#mustBeOpen();
    const link = this.#link("agents", options.onDetached);
    const told: Pick<AgentHostOptions, "onStanding" | "onDetached"> = {
      onStanding: (standing) => {
        link?.works();
        return options.onStanding?.(standing);
      },
      ...(link === undefined ? {} : { onDetached: link.down }),
    };
    const registry = { register: (node: NodeInit) => this.register(node), deregister: (nodeId: string) => this.deregister(nodeId) };
    return this.#keep(new AgentHost(this.clients.coordination, { registry, ...this.#common(), ...options, ...told }), signal, link);
  }

  /** values changes values on which the hubs of the federation agree, many at a time over one stream. For operators and services. */
  values({ signal }: Cancellable = {}): ValueStream {
    this.#mustBeOpen();
    return this.#keep(new ValueStream(this.clients.coordination, this.#common()), signal, undefined);
  }

  /** events follows what happens at the hub: `for await (const event of hub.events())`. For operators. */
  events(options: EventOptions = {}): EventStream {
    return this.#follow("events", options, (told) => new EventStream(this.clients.telemetry, told));
  }

  /**
   * close ends all that was opened here, and the connections. What an updater has not drained may be lost. What is called later throws, or
   * rejects with, FoedusError (CANCELLED).
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const one of this.#open) one.close();
    this.#open.clear();
    this.#commands?.close();
    this.#registry?.close();
    this.#disconnect();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  #mustBeOpen(): void {
    if (this.#closed) throw fail("CANCELLED", "the hub was closed by this program");
  }

  #common(): { readonly clock: Clock; readonly onError?: OnError } {
    return this.#onError === undefined ? { clock: this.#clock } : { clock: this.#clock, onError: this.#onError };
  }

  /** link tells how a stream is connected, unless the program has a callback for that. */
  #link(what: string, callback: unknown): Link | undefined {
    return callback === undefined ? this.#links?.of(what) : undefined;
  }

  /** follow keeps what is iterated, and throws there why it has ended. */
  #follow<O extends FollowOptions, T extends Keepable>(what: string, options: O, make: (told: O) => T): T {
    this.#mustBeOpen();
    const link = this.#link(what, options.onLink ?? options.onCut);
    return this.#keep(make({ ...this.#common(), ...options, ...onLinkOf(link, true) }), options.signal, link);
  }

  /** keep holds what is open as long as it is: a program may open and close a great many. */
  #keep<T extends Keepable>(one: T, signal: AbortSignal | undefined, link: Link | undefined): T {
    const abort = (): void => one.close();
    this.#open.add(one);
    whenAborted(signal, abort);
    one.whenOver(() => {
      this.#open.delete(one);
      link?.over();
      signal?.removeEventListener("abort", abort);
    });
    return one;
  }
}

/** onLinkOf makes the `onLink` of a stream whose link is told. Of one that throws its end, that is told already. */
function onLinkOf(
  link: Link | undefined,
  throws = false,
): { readonly onLink?: (failure: Failure | undefined, willRetry?: boolean) => void } {
  if (link === undefined) return {};
  return {
    onLink: (failure, willRetry = true) => {
      if (failure === undefined) link.works();
      else if (willRetry || !throws) link.down(failure, willRetry);
    },
  };
}

/** lazily makes each member when it is asked for first: a hub in parts may have no address for what nobody calls. */
function lazily<T extends object>(makers: { readonly [K in keyof T]: () => T[K] }): T {
  const made = {} as T;
  for (const name of Object.keys(makers) as (keyof T)[]) {
    let value: T[keyof T] | undefined;
    Object.defineProperty(made, name, { enumerable: true, get: () => (value ??= makers[name]()) });
  }
  return made;
}
