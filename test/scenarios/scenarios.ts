import { BYZANTINE } from "./byzantine.ts";
import { HAPPY } from "./happy.ts";
import { PARTITION } from "./partition.ts";
import type { Scenario } from "./promises.ts";

/** SCENARIOS are all of them. */
export const SCENARIOS: readonly Scenario[] = [HAPPY, PARTITION, BYZANTINE];
