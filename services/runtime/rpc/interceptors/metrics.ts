import type { DescMethod } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { Counter, Histogram, type Registry } from "prom-client";
import type { Clock } from "#runtime/clock.ts";
import type { ServerCall } from "../call-context.ts";
import type { Interceptor } from "./interceptor.ts";

const LABELS = ["grpc_type", "grpc_service", "grpc_method"] as const;
type Labels = Record<(typeof LABELS)[number], string>;

/** Names of the kinds of RPC as go-grpc-middleware spells them. */
const TYPES = {
  unary: "unary",
  server_streaming: "server_stream",
  client_streaming: "client_stream",
  bidi_streaming: "bidi_stream",
} as const;

/** Bounds of the latency histogram in seconds: from a lookup in memory to the default deadline. */
const BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** MethodStats counts one method in plain numbers; Prometheus gets them when it scrapes. So a message costs one addition. */
class MethodStats {
  readonly labels: Labels;
  started = 0;
  received = 0;
  sent = 0;
  readonly handled = new Map<string, number>();
  readonly live = new Set<ServerCall>();
  readonly observe: (seconds: number) => void;

  constructor(method: DescMethod, seconds: Histogram) {
    this.labels = { grpc_type: TYPES[method.methodKind], grpc_service: method.parent.typeName, grpc_method: method.name };
    const child = seconds.labels(this.labels);
    this.observe = (value) => child.observe(value);
  }

  /** total adds what calls that still run have counted. */
  total(field: "received" | "sent"): number {
    let sum = this[field];
    for (const call of this.live) sum += call[field];
    return sum;
  }
}

type Stats = Map<DescMethod, MethodStats>;

function publish(stats: Stats, registers: Registry[]): Histogram {
  const plain = (name: string, help: string, value: (s: MethodStats) => number): void => {
    new Counter({
      name,
      help,
      labelNames: LABELS,
      registers,
      collect() {
        this.reset();
        for (const s of stats.values()) this.inc(s.labels, value(s));
      },
    });
  };
  plain("grpc_server_started_total", "RPCs started on the server.", (s) => s.started);
  plain("grpc_server_msg_received_total", "Messages received from clients.", (s) => s.total("received"));
  plain("grpc_server_msg_sent_total", "Messages sent to clients.", (s) => s.total("sent"));
  new Counter({
    name: "grpc_server_handled_total",
    help: "RPCs completed on the server, whatever the outcome.",
    labelNames: [...LABELS, "grpc_code"],
    registers,
    collect() {
      this.reset();
      for (const s of stats.values()) for (const [grpc_code, n] of s.handled) this.inc({ ...s.labels, grpc_code }, n);
    },
  });
  const name = "grpc_server_handling_seconds";
  return new Histogram({ name, help: "Time until an RPC was completed, in seconds.", labelNames: LABELS, buckets: BUCKETS_S, registers });
}

/** One set of counters per registry: a process may have several servers (the introduction door is one of its own). */
const shared = new WeakMap<Registry, { readonly stats: Stats; readonly seconds: Histogram }>();

/** metricsInterceptor counts as go-grpc-middleware does, so that its dashboards work; cancelled and timed-out calls included. */
export function metricsInterceptor(registry: Registry, clock: Clock, methods: Iterable<DescMethod>): Interceptor {
  let own = shared.get(registry);
  if (own === undefined) {
    const stats: Stats = new Map();
    own = { stats, seconds: publish(stats, [registry]) };
    shared.set(registry, own);
  }
  const { stats, seconds } = own;
  for (const method of methods) if (!stats.has(method)) stats.set(method, new MethodStats(method, seconds));
  return {
    name: "metrics",
    open(call) {
      const s = stats.get(call.method) as MethodStats;
      s.started++;
      s.live.add(call);
      return undefined;
    },
    close(call, outcome) {
      const s = stats.get(call.method) as MethodStats;
      const code = codeName(outcome.code);
      s.handled.set(code, (s.handled.get(code) ?? 0) + 1);
      s.live.delete(call);
      s.received += call.received;
      s.sent += call.sent;
      s.observe((clock.mono() - call.startedMono) / 1000);
    },
  };
}

/** codeName spells a code as go-grpc-middleware does: `OK`, `InvalidArgument`, `Canceled` with one l. */
function codeName(code: number): string {
  if (code === grpc.status.CANCELLED) return "Canceled";
  const name = grpc.status[code];
  if (name === undefined) return `Code(${code})`;
  if (name === "OK") return name;
  return name.toLowerCase().replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
