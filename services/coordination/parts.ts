import type { Now } from "#kernel/instant.ts";
import { Lending } from "./lending.ts";
import { Directions } from "./liveness/directions.ts";
import { Mover } from "./migration/mover.ts";
import { Rebalancing } from "./migration/rebalancing.ts";
import type { Part, PartGround } from "./part.ts";
import { Sentry } from "./sentry.ts";
import { Sharing } from "./sharing.ts";

/** Parts are what a member does beside keeping the log; some are asked for by name too. */
export interface Parts {
  readonly all: readonly Part[];
  readonly sentry: Sentry;
  readonly mover: Mover;
}

/** createParts makes the parts of a member. */
export function createParts(ground: PartGround, now: Now): Parts {
  const sentry = new Sentry(ground);
  const mover = new Mover(ground, now);
  const sharing = new Sharing(ground);
  const rebalancing = new Rebalancing(ground, { rooms: () => sharing.rooms(), runs: (agent) => mover.runs(agent) }, now);
  return { all: [sentry, new Lending(ground, now), sharing, mover, rebalancing, new Directions(ground)], sentry, mover };
}
