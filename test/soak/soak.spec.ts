// The short form of `make soak`.
import { expect, test } from "vitest";
import { systemEntropy } from "#runtime/entropy.ts";
import { soak } from "./soak.ts";

const SECONDS = 60;

test("F-28 F-29 F-31 a minute of load and faults: nothing acknowledged is lost, nothing steps back, no command runs twice, no ERROR line", {
  timeout: 360_000,
}, async () => {
  const seed = systemEntropy.seed();
  const said: string[] = [];
  const { wrong, counts, faults, errors } = await soak({
    seed,
    ms: SECONDS * 1_000,
    everyMs: [2_500, 5_000],
    say: (line) => said.push(line),
  });
  const story = `seed ${seed}: ${said.join(", ")}`;
  expect(wrong, story).toEqual([]);
  expect([...errors], story).toEqual([]);
  expect(
    [...faults.values()].reduce((sum, times) => sum + times, 0),
    story,
  ).toBeGreaterThan(8);
  expect(counts.updates, story).toBeGreaterThan(10_000);
  expect(counts.done, story).toBeGreaterThan(500);
  expect(counts.watched, story).toBeGreaterThan(counts.updates);
});
