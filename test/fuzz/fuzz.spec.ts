import { expect, test } from "vitest";
import { systemEntropy } from "#channel/entropy.ts";
import { runCampaign } from "./campaign.ts";
import { createTargets } from "./targets.ts";

/** As many as fit into a run of all tests; `make fuzz` goes on for as long as one likes. */
const MESSAGES = 20_000;

test("F-1 F-2 F-3 F-20 any message, of any principal, is refused with a reason or applied, and what was stored can be shown, sent and found again", async () => {
  const seed = Number(process.env["FOEDUS_FUZZ_SEED"] ?? systemEntropy.seed() % 1_000_000_000);
  console.info(`seed ${seed}: FOEDUS_FUZZ_SEED=${seed} gives the same messages again`);
  const targets = createTargets();
  const faults = await runCampaign({ seed, messages: MESSAGES, targets });
  for (const { target, at, error } of faults) throw new Error(`seed ${seed}, message ${at}, ${target}`, { cause: error });
  for (const target of targets) {
    expect([target.name, target.applied > MESSAGES / 100]).toEqual([target.name, true]);
    expect([target.name, target.refused.size > 0]).toEqual([target.name, true]);
  }
}, 300_000);
