import { describe, expect, test } from "vitest";
import { LIMITS } from "./limits.ts";
import { StreamsPerCaller } from "./streams-per-caller.ts";

describe("parts", () => {
  test("one caller takes an eighth and no more; others still get theirs", () => {
    const parts = new StreamsPerCaller("streams", 256);
    expect(parts.perCaller).toBe(32);
    for (let i = 0; i < 32; i++) expect(parts.take("node/greedy")).toBeUndefined();
    expect(parts.take("node/greedy")).toMatchObject({ reason: "LIMIT_EXCEEDED", facts: { limit: "streams_per_caller", max: "32" } });
    expect(parts.take("gateway/zigbee")).toBeUndefined();
    parts.give("node/greedy");
    expect(parts.take("node/greedy")).toBeUndefined();
  });

  test("all together get no more than there are, and what is given back is there again", () => {
    const parts = new StreamsPerCaller("watchers", 10);
    expect(parts.perCaller).toBe(LIMITS.streamsPerCaller);
    for (let i = 0; i < 10; i++) expect(parts.take(`operator/${i}`)).toBeUndefined();
    expect(parts.take("operator/late")).toMatchObject({ facts: { limit: "watchers", max: "10" } });
    parts.give("operator/late");
    expect(parts.take("operator/late")).toMatchObject({ facts: { limit: "watchers" } });
    parts.give("operator/3");
    expect(parts.take("operator/late")).toBeUndefined();
  });

  test("where there are few, one caller may have them all", () => {
    const parts = new StreamsPerCaller("streams", 2);
    expect([parts.take("a"), parts.take("a")]).toEqual([undefined, undefined]);
    expect(parts.take("a")).toMatchObject({ reason: "LIMIT_EXCEEDED" });
  });
});
