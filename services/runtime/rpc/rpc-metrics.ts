import type { DescMethod } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { Counter, Histogram, type Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";

const LABELS = ["grpc_type", "grpc_service", "grpc_method"] as const;
type Labels = Record<(typeof LABELS)[number], string>;

/** Names of the kinds of RPC as go-grpc-middleware spells them. */
const TYPES = {
  unary: "unary",
  server_streaming: "server_stream",
  client_streaming: "client_stream",
  bidi_streaming: "bidi_stream",
} as const;

/** Bounds of the latency histograms in seconds: from a lookup in memory to the default deadline. */
const BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Side of a call that is measured. */
export type Side = "server" | "client";

/** Messages that one call has received and sent so far: plain numbers, so that a message costs one addition. */
export interface Messages {
  readonly received: number;
  readonly sent: number;
}

/** MethodStats counts one method in plain numbers; Prometheus gets them when it scrapes. */
export class MethodStats {
  readonly labels: Labels;
  readonly handled = new Map<string, number>();
  started = 0;
  #received = 0;
  #sent = 0;
  readonly #live = new Set<Messages>();
  readonly #observe: (seconds: number) => void;

  constructor(method: DescMethod, seconds: Histogram) {
    this.labels = { grpc_type: TYPES[method.methodKind], grpc_service: method.parent.typeName, grpc_method: method.name };
    const child = seconds.labels(this.labels);
    this.#observe = (value) => child.observe(value);
  }

  /** begin counts a call; what it counts itself shows while it runs. */
  begin(call: Messages): void {
    this.started++;
    this.#live.add(call);
  }

  /** end counts its outcome: a gRPC code, and how long it took. */
  end(call: Messages, code: number, seconds: number): void {
    const name = codeName(code);
    this.handled.set(name, (this.handled.get(name) ?? 0) + 1);
    this.#live.delete(call);
    this.#received += call.received;
    this.#sent += call.sent;
    this.#observe(seconds);
  }

  get received(): number {
    let sum = this.#received;
    for (const call of this.#live) sum += call.received;
    return sum;
  }

  get sent(): number {
    let sum = this.#sent;
    for (const call of this.#live) sum += call.sent;
    return sum;
  }
}

const HELP = {
  server: {
    started: "RPCs started on the server.",
    received: "Messages received from clients.",
    sent: "Messages sent to clients.",
    handled: "RPCs completed on the server, whatever the outcome.",
    seconds: "Time until an RPC was completed, in seconds.",
  },
  client: {
    started: "RPCs started by this process.",
    received: "Messages received from servers.",
    sent: "Messages sent to servers.",
    handled: "RPCs of this process that ended, whatever the outcome.",
    seconds: "Time until an RPC of this process ended, in seconds.",
  },
} as const;

/** RpcStats are the rate, errors and duration of every RPC on one side, named as go-grpc-middleware does, so that its dashboards work. */
export class RpcStats {
  readonly #methods = new Map<DescMethod, MethodStats>();
  readonly #seconds: Histogram;

  constructor(registry: Registry, side: Side) {
    const registers = [registry];
    const help = HELP[side];
    const all = this.#methods;
    const plain = (name: string, text: string, value: (stats: MethodStats) => number): void => {
      new Counter({
        name,
        help: text,
        labelNames: LABELS,
        registers,
        collect() {
          this.reset();
          for (const stats of all.values()) this.inc(stats.labels, value(stats));
        },
      });
    };
    plain(`grpc_${side}_started_total`, help.started, (stats) => stats.started);
    plain(`grpc_${side}_msg_received_total`, help.received, (stats) => stats.received);
    plain(`grpc_${side}_msg_sent_total`, help.sent, (stats) => stats.sent);
    new Counter({
      name: `grpc_${side}_handled_total`,
      help: help.handled,
      labelNames: [...LABELS, "grpc_code"],
      registers,
      collect() {
        this.reset();
        for (const { labels, handled } of all.values()) for (const [grpc_code, n] of handled) this.inc({ ...labels, grpc_code }, n);
      },
    });
    const name = `grpc_${side}_handling_seconds`;
    this.#seconds = new Histogram({ name, help: help.seconds, labelNames: LABELS, buckets: BUCKETS_S, registers });
  }

  /** of gives the numbers of one method. Methods are those of the schema, so the series are few. */
  of(method: DescMethod): MethodStats {
    const known = this.#methods.get(method);
    if (known !== undefined) return known;
    const made = new MethodStats(method, this.#seconds);
    this.#methods.set(method, made);
    return made;
  }
}

const shared = new WeakMap<Registry, Partial<Record<Side, RpcStats>>>();

/** rpcStats gives a registry's numbers of one side, the same for all servers, or all clients, of a process. */
export function rpcStats(registry: Registry, side: Side): RpcStats {
  const known = shared.get(registry) ?? {};
  const stats = known[side] ?? new RpcStats(registry, side);
  known[side] = stats;
  shared.set(registry, known);
  return stats;
}

/** ClientCall measures one call of a client. */
export class ClientCall implements Messages {
  received = 0;
  sent = 0;
  readonly #stats: MethodStats;
  readonly #clock: Clock;
  readonly #startedMono: number;

  constructor(stats: MethodStats, clock: Clock) {
    this.#stats = stats;
    this.#clock = clock;
    this.#startedMono = clock.mono();
  }

  /** follow counts the call until its status is known; grpc-js tells it exactly once, also for calls that never left. */
  follow(call: { on(event: "status", listener: (status: { readonly code: number }) => void): unknown }): void {
    this.#stats.begin(this);
    call.on("status", ({ code }) => this.#stats.end(this, code, (this.#clock.mono() - this.#startedMono) / 1000));
  }
}

/** codeName spells a code as go-grpc-middleware does: `OK`, `InvalidArgument`, `Canceled` with one l. */
function codeName(code: number): string {
  if (code === grpc.status.CANCELLED) return "Canceled";
  const name = grpc.status[code];
  if (name === undefined) return `Code(${code})`;
  if (name === "OK") return name;
  return name.toLowerCase().replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
