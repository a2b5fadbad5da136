import { Prng } from "#kernel/prng.ts";
import type { Target } from "./target.ts";

/** WORLD is how many messages a target gets before it starts anew. */
export const WORLD = 400;

/** Fault is a message that was neither applied nor refused with a reason. `at`, where its world began, with the seed gives it again. */
export interface Fault {
  readonly target: string;
  readonly at: number;
  readonly error: unknown;
}

/** CampaignOptions are how far a campaign goes. */
export interface CampaignOptions {
  readonly seed: number;
  readonly messages: number;
  readonly targets: readonly Target[];
  /** Stop after so many faults. */
  readonly faults?: number;
  /** Told now and then how far it is. */
  readonly each?: (done: number) => void;
}

/**
 * runCampaign gives the targets generated messages. Each world of a target has a seed of its own, made of the campaign's and the number
 * of its first message, so that a fault comes again without all that came before.
 */
export async function runCampaign(options: CampaignOptions): Promise<readonly Fault[]> {
  const { seed, messages, targets, faults = 1, each } = options;
  const found: Fault[] = [];
  const turns = targets.flatMap((target) => Array.from({ length: target.weight }, () => target));
  for (let done = 0, world = 0; done < messages && found.length < faults; world++) {
    const target = turns[world % turns.length] as Target;
    const began = done;
    const prng = new Prng(seed + began);
    target.renew(prng);
    for (let i = 0; i < WORLD && done < messages; i++, done++) {
      try {
        await target.take(prng);
      } catch (error) {
        found.push({ target: target.name, at: began, error });
        done += WORLD - i;
        break;
      }
    }
    each?.(done);
  }
  return found;
}
