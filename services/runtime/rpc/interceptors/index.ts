import type { DescMethod } from "@bufbuild/protobuf";
import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import type { Failure } from "#kernel/error.ts";
import type { EventSink } from "#runtime/events.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Tracer } from "#runtime/trace/tracer.ts";
import type { Accounts } from "../connections/accounts.ts";
import type { Connection } from "../connections/connection.ts";
import type { Identities } from "../server/identities.ts";
import type { TokenCache } from "../server/token-verifier.ts";
import { accessInterceptor } from "./access.ts";
import { accountInterceptor } from "./account.ts";
import { deadlineInterceptor } from "./deadline.ts";
import { identityInterceptor } from "./identity.ts";
import type { Interceptor } from "./interceptor.ts";
import { logInterceptor } from "./log.ts";
import { metricsInterceptor } from "./metrics.ts";
import { type Rates, rateInterceptor } from "./rate.ts";
import { traceInterceptor } from "./trace.ts";
import { validationInterceptor } from "./validation.ts";

/** InterceptorOptions are what the interceptors need. */
export interface InterceptorOptions {
  readonly metrics: Registry;
  readonly log: Logger;
  readonly events: EventSink | undefined;
  readonly clock: Clock;
  readonly identities: Identities;
  /** Told of connections that outlived the admission of their callers, with each call on them. */
  readonly onOutlived: (connection: Connection, failure: Failure) => void;
  readonly accounts: Accounts;
  readonly tokens: TokenCache | undefined;
  readonly rates: () => Rates;
  readonly defaultTimeoutMs: number;
  readonly methods: readonly DescMethod[];
  /** Undefined while tracing is off. */
  readonly tracer: Tracer | undefined;
}

/**
 * createInterceptors gives the chain in its one order. Metrics and log come first, so that they see refusals too; nobody spends
 * a rate or has a request parsed before it is known and allowed.
 */
export function createInterceptors(options: InterceptorOptions): readonly Interceptor[] {
  return [
    metricsInterceptor(options.metrics, options.clock, options.methods),
    logInterceptor(options.log, options.clock, options.events),
    identityInterceptor(options.identities, options.onOutlived),
    accountInterceptor(options.accounts),
    accessInterceptor(options.tokens, options.clock),
    ...(options.tracer === undefined ? [] : [traceInterceptor(options.tracer)]),
    deadlineInterceptor(options.clock, options.defaultTimeoutMs),
    rateInterceptor(options.rates, options.clock),
    validationInterceptor(),
  ];
}
