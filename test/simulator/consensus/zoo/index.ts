import { LOGS } from "./logs.ts";
import { MEMBERS } from "./members.ts";
import type { Mutant } from "./mutant.ts";
import { READS } from "./reads.ts";
import { VOTES } from "./votes.ts";

/** ZOO are all rows of the Raft list, in its order. */
export const ZOO: readonly Mutant[] = [...VOTES, ...LOGS, ...READS, ...MEMBERS].sort(
  (a, b) => Number.parseInt(a.row, 10) - Number.parseInt(b.row, 10) || (a.row < b.row ? -1 : 1),
);
