import { expect, test } from "vitest";
import { AMOUNT_MAX } from "../../services/coordination/resources/amounts.ts";
import { parseAmounts, parseLimit } from "./text.ts";

test("S4-11 a limit of one dimension leaves the others without one", () => {
  const most = BigInt(AMOUNT_MAX);
  expect(parseLimit(["gpu-milli=2000", "agents=0"])).toEqual({
    ...{ agents: 0n, cpuMilli: most, gpuMilli: 2_000n, memoryMb: most, storageMb: most, networkKbps: most },
  });
});

test.each(["agents", "agents=", "agents=-1", "agents=1.5", "agents=NaN", "agents=1e3", "agents=99999999999999", "toString=1", "cpu=1"])(
  "an amount that is none is refused: %s",
  (text) => {
    expect(() => parseAmounts([text])).toThrow("is no amount");
  },
);

test("an amount that is said twice is refused, instead of one of both being taken", () => {
  expect(() => parseAmounts(["agents=1", "agents=2"])).toThrow("second amount of agents");
});
