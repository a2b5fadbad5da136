import type { DescMethod } from "@bufbuild/protobuf";
import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import { rpcStats } from "../rpc-metrics.ts";
import type { Interceptor } from "./interceptor.ts";

/** metricsInterceptor counts every call that reaches a server; cancelled and timed-out calls included. Every method has series from the start. */
export function metricsInterceptor(registry: Registry, clock: Clock, methods: Iterable<DescMethod>): Interceptor {
  const stats = rpcStats(registry, "server");
  for (const method of methods) stats.of(method);
  return {
    name: "metrics",
    open(call) {
      stats.of(call.method).begin(call);
      return undefined;
    },
    close(call, outcome) {
      stats.of(call.method).end(call, outcome.code, (clock.mono() - call.startedMono) / 1000);
    },
  };
}
