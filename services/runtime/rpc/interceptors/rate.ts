import { type DescMessage, getOption, type Message } from "@bufbuild/protobuf";
import type { Clock } from "#channel/clock.ts";
import { costs } from "#gen/foedus/common/v1/access_pb.ts";
import type { Rate } from "#kernel/bounds/token-bucket.ts";
import { TokenBuckets } from "#kernel/bounds/token-buckets.ts";
import type { Failure } from "#kernel/error.ts";
import type { Cost } from "../access.ts";
import { principalOf } from "../connections/principal.ts";
import type { ServerCall } from "../server/call-context.ts";
import type { Interceptor } from "./interceptor.ts";

/** Rates per cost class; a class without one is not limited. */
export type Rates = Readonly<Partial<Record<Cost, Rate>>>;

const costly = new WeakMap<DescMessage, readonly string[]>();

/** costlyFields are the repeated fields of a request whose items each cost as much as a call. */
export function costlyFields(schema: DescMessage): readonly string[] {
  let names = costly.get(schema);
  if (names === undefined) {
    names = schema.fields.filter((field) => field.fieldKind === "list" && getOption(field, costs)).map(({ localName }) => localName);
    costly.set(schema, names);
  }
  return names;
}

/** extraCost of a request, beyond that of any other call of its class. */
function extraCost(schema: DescMessage, message: Message): number {
  let extra = 0;
  for (const name of costlyFields(schema)) extra += Math.max(0, (Reflect.get(message, name) as readonly unknown[]).length - 1);
  return extra;
}

/** rateInterceptor limits calls per caller and cost class, by the rates of the moment. This hub's own services are not limited: they are this hub. */
export function rateInterceptor(rates: () => Rates, clock: Clock): Interceptor {
  const buckets = new TokenBuckets();
  const take = ({ caller, entry }: ServerCall, tokens = 1): Failure | undefined => {
    const rate = rates()[entry.rule.cost];
    if (rate === undefined || caller.kind === "service") return undefined;
    const waitMs = buckets.take(`${entry.rule.cost} ${principalOf(caller)}`, rate, clock.mono(), tokens);
    if (waitMs === 0) return undefined;
    const facts = { retry_after_ms: String(waitMs), cost: entry.rule.cost };
    return {
      reason: "RATE_LIMITED",
      message: `more than ${rate.perSecond} ${entry.rule.cost} calls, or items that cost as much, a second; wait ${waitMs} ms`,
      facts,
    };
  };
  return {
    name: "rate",
    open: (call) => take(call),
    // The first message was paid for with the call. Messages that are not validated are those of hot streams, which have bounds of their own.
    request: (call, message) => {
      const tokens = (call.received > 1 ? 1 : 0) + extraCost(call.method.input, message);
      return tokens === 0 ? undefined : take(call, tokens);
    },
  };
}
