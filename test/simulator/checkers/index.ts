import type { Checker } from "./checker.ts";
import { answered, answers, atMostOnce } from "./commands.ts";
import { convergence } from "./convergence.ts";
import { durability } from "./durability.ts";
import { events } from "./events.ts";
import { expiry } from "./expiry.ts";
import { links } from "./links.ts";
import { memory } from "./memory.ts";
import { reachable } from "./reachable.ts";
import { watchers } from "./watchers.ts";

/** CHECKERS judge each run, in this order. What they cannot see at rest is checked as it happens: see `watcher.ts`. */
export const CHECKERS: readonly Checker[] = [
  reachable,
  expiry,
  atMostOnce,
  answers,
  answered,
  durability,
  convergence,
  watchers,
  memory,
  events,
  links,
];
