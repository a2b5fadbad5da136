// The short form of `make soak`.
import { expect, test } from "vitest";
import { systemEntropy } from "#channel/entropy.ts";
import { soak } from "./soak.ts";

const SECONDS = 60;

test("F-28 F-29 F-31 a minute of load and faults: nothing acknowledged is lost, nothing steps back, no command runs twice, no ERROR line", {
  timeout: 360_000,
}, async () => {
  // A seed in SOAK_SEED repeats the faults of a run.
  const seed = Number(process.env["SOAK_SEED"] ?? systemEntropy.seed());
  const said: string[] = [];
  const { wrong, counts, faults, errors } = await soak({
    seed,
    ms: SECONDS * 1_000,
    everyMs: [2_500, 5_000],
    say: (line) => said.push(line),
  });
  // What failed comes first: a long message is cut at its end.
  const failed = [
    ...wrong,
    ...[...errors].map(([line, times]) => `ERROR ${times} x ${line}`),
    ...tooFew(
      "faults",
      [...faults.values()].reduce((sum, times) => sum + times, 0),
      9,
    ),
    ...tooFew("updates", counts.updates, 10_000),
    ...tooFew("commands done", counts.done, 500),
    ...tooFew("values watched", counts.watched, counts.updates),
  ];
  expect(failed, `${failed.join("; ")}; counted ${JSON.stringify(counts)}; seed ${seed}: ${said.join(", ")}`).toEqual([]);
});

function tooFew(what: string, count: number, least: number): string[] {
  return count >= least ? [] : [`only ${count} ${what}, at least ${least} are expected`];
}
