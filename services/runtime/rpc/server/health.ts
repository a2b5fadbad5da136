import { create } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { whenAborted } from "#channel/abort.ts";
import {
  Health,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
  HealthCheckResponse_ServingStatus as Serving,
} from "#gen/grpc/health/v1/health_pb.ts";
import { bind, type CallContext, type ServiceBinding } from "../call.ts";
import { PlainStatus } from "../status.ts";

/** HealthService is grpc.health.v1 with a setter per service. The empty name stands for the whole server. */
export interface HealthService {
  readonly binding: ServiceBinding;
  /** set tells whether a service serves; watchers hear of changes. */
  set(service: string, serving: boolean): void;
  /** setAll answers the same for every known service: used when the server drains. */
  setAll(serving: boolean): void;
}

/** untilOver resolves when a call is aborted. */
function untilOver(context: CallContext): Promise<void> {
  return new Promise((resolve) => whenAborted(context.signal, resolve));
}

/** createHealth makes the health service for the named services; they start as NOT_SERVING until `set`. */
export function createHealth(services: readonly string[]): HealthService {
  const statuses = new Map<string, boolean>(["", ...services].map((name) => [name, false]));
  const watchers = new Set<(service: string) => void>();
  const statusOf = (service: string): Serving => {
    const serving = statuses.get(service);
    if (serving === undefined) return Serving.SERVICE_UNKNOWN;
    return serving ? Serving.SERVING : Serving.NOT_SERVING;
  };
  const set = (service: string, serving: boolean): void => {
    if (statuses.get(service) === serving) return;
    statuses.set(service, serving);
    for (const notify of watchers) notify(service);
  };
  const binding = bind(Health, {
    check: ({ service }) => {
      const status = statusOf(service);
      if (status === Serving.SERVICE_UNKNOWN) throw new PlainStatus(grpc.status.NOT_FOUND, "unknown service");
      return create(HealthCheckResponseSchema, { status });
    },
    list: () => {
      const entries = [...statuses.keys()].map((name) => [name, { status: statusOf(name) }]);
      return create(HealthListResponseSchema, { statuses: Object.fromEntries(entries) });
    },
    watch: async ({ service }, out, context) => {
      const notify = (changed: string): void => {
        if (changed === service) out.send(create(HealthCheckResponseSchema, { status: statusOf(service) }));
      };
      watchers.add(notify);
      notify(service);
      await untilOver(context);
      watchers.delete(notify);
      throw context.signal.reason;
    },
  });
  const setAll = (serving: boolean): void => {
    for (const name of [...statuses.keys()]) set(name, serving);
  };
  return { binding, set, setAll };
}
