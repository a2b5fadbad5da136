import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import { type ClientOptions as BareClientOptions, type CallMeter, createClient as createBareClient } from "#channel/client.ts";
import type { Clock } from "#channel/clock.ts";
import { ClientCall, rpcStats } from "../rpc-metrics.ts";

/** ClientOptions are what a client is made of. */
export interface ClientOptions extends Omit<BareClientOptions, "meter"> {
  /** Where calls are counted (`grpc_client_*`); without it they are not. */
  readonly metrics?: Registry;
}

function meterOf(metrics: Registry, clock: Clock): CallMeter {
  const stats = rpcStats(metrics, "client");
  return { call: (method) => new ClientCall(stats.of(method), clock) };
}

/** createClient makes a typed client of a service at an address. The connection is made with the first call. */
export function createClient<S extends GenService<GenServiceMethods>>(service: S, { metrics, ...options }: ClientOptions): ClientOf<S> {
  return createBareClient(service, metrics === undefined ? options : { ...options, meter: meterOf(metrics, options.clock) });
}
