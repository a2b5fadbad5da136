import { BYZANTINE } from "./byzantine.ts";
import { HAPPY } from "./happy.ts";
import { LOAD } from "./load.ts";
import { NUMBERS } from "./numbers.ts";
import { PARTITION } from "./partition.ts";
import type { Scenario } from "./promises.ts";
import { RECOVERY } from "./recovery.ts";

/** SCENARIOS are all of them. */
export const SCENARIOS: readonly Scenario[] = [HAPPY, PARTITION, BYZANTINE, LOAD, RECOVERY, NUMBERS];
