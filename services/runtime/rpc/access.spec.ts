import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { RefreshSchema, SessionControlSchema, SessionOpenSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { DiscoveryService, HelloRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { TokenBuckets } from "#kernel/bounds/token-buckets.ts";
import { EchoService, OpenService } from "../../../test/proto/echo-service.gen.ts";
import { authorise, frameRule, methodRule, requireMethodRule } from "./access.ts";
import type { Caller } from "./call.ts";
import { rateInterceptor } from "./interceptors/rate.ts";
import { ServerCall } from "./server/call-context.ts";

describe("authorise", () => {
  const peer = (level: number) => ({ kind: "peer", level, role: 0 }) as const;

  test("S0-4 unknown is denied", () => {
    expect(methodRule(OpenService.method.anything)).toBeUndefined();
    expect(authorise(peer(3), undefined)).toMatchObject({ reason: "ACCESS_DENIED" });
    expect(() => requireMethodRule(OpenService.method.anything)).toThrow("(foedus.common.v1.access)");
    expect(frameRule(SessionControlSchema)).toBeUndefined();
  });

  test("frames are decided by the same function", () => {
    for (const schema of [SessionOpenSchema, RefreshSchema]) {
      expect(authorise(peer(1), frameRule(schema))).toBeUndefined();
      expect(authorise(peer(0), frameRule(schema))).toMatchObject({ reason: "TRUST_TOO_LOW" });
      expect(authorise({ kind: "node", level: 0, role: 0 }, frameRule(schema))).toMatchObject({ reason: "ACCESS_DENIED" });
    }
    expect(frameRule(SessionOpenSchema)).toBe(frameRule(SessionOpenSchema));
  });

  test.each([0, 1, 2, 3])("a peer of level %i", (level) => {
    expect(authorise(peer(level), methodRule(EchoService.method.greet)) === undefined).toBe(level >= 1);
    expect(authorise(peer(level), methodRule(EchoService.method.echo)) === undefined).toBe(level >= 2);
    expect(authorise(peer(level), methodRule(EchoService.method.reset))).toMatchObject({ reason: "ACCESS_DENIED" });
  });

  test("a rule that names peers but no level lets no peer in", () => {
    const rule = { ...requireMethodRule(EchoService.method.greet), minTrust: 0 };
    expect(authorise(peer(3), rule)).toMatchObject({ reason: "TRUST_TOO_LOW" });
  });
});

describe("token buckets", () => {
  test("burst, then the rate, per key", () => {
    const buckets = new TokenBuckets();
    const rate = { perSecond: 10, burst: 3 };
    expect([0, 0, 0, 0].map(() => buckets.take("a", rate, 0))).toEqual([0, 0, 0, 100]);
    expect(buckets.take("b", rate, 0)).toBe(0);
    expect(buckets.take("a", rate, 99)).toBe(1);
    expect(buckets.take("a", rate, 100)).toBe(0);
    expect(buckets.take("a", rate, 60_000)).toBe(0);
    expect([0, 0, 0].map(() => buckets.take("a", rate, 60_000))).toEqual([0, 0, 100]);
  });
});

test("A8 a Hello is charged for each of its certificates before they are looked at", () => {
  const method = DiscoveryService.method.hello;
  const rates = () => ({ expensive: { perSecond: 10, burst: 20 } });
  const hello = (leaves: number) => {
    const { open, request } = rateInterceptor(rates, { ...systemClock, mono: () => 0 });
    const message = create(HelloRequestSchema, { leaves: Array.from({ length: leaves }, () => new Uint8Array(1)) });
    for (let n = 0; ; n++) {
      const call = new ServerCall({ entry: { method, rule: requireMethodRule(method), validated: true }, startedMono: 0, timeoutMs: 0 });
      call.identify({ kind: "peer", hubId: "beta", name: "hub" } as Caller);
      call.received = 1;
      const failure = open?.(call) ?? request?.(call, message);
      if (failure === undefined) continue;
      expect(failure).toMatchObject({ reason: "RATE_LIMITED", facts: { cost: "expensive" } });
      return n;
    }
  };
  expect([0, 1, 2, 16].map(hello)).toEqual([20, 20, 10, 1]);
});
