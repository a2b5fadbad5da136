import { emitWarning } from "node:process";
import type { Clock } from "#channel/clock.ts";
import { type Failure, fail, type Reason } from "#kernel/error.ts";
import { printable } from "#kernel/printable.ts";
import { remedyOf } from "../errors.ts";
import { type OnError, tellError } from "../kept-stream.ts";
import type { Refusal } from "../updater-options.ts";

/** A reason that was told is not told again so soon, even if a stream worked meanwhile, ms. */
const AGAIN_MS = 60_000;
/** Most refusals that `refusalsTold` tells. */
const REFUSALS_MAX = 1_000;

const CHECK_FILES = "Check the address, and that ca, cert and key belong to this hub.";
/** What to do about a connection that fails, for a program: the remedies of these reasons are for the operator of a hub. */
const REMEDIES: Readonly<Partial<Record<Reason, string>>> = {
  PEER_UNREACHABLE: "Start the hub, or correct the address.",
  FOREIGN_CA: CHECK_FILES,
  UNKNOWN_IDENTITY: CHECK_FILES,
};

/** Link is what one stream says of its connection. */
export interface Link {
  /** works: the hub has answered. */
  works(): void;
  /** down: the stream was cut, or could not be opened. */
  down(failure: Failure, willRetry: boolean): void;
  /** over: it was closed. */
  over(): void;
}

/**
 * Links tells which streams of a hub are down, and why, of programs that do not ask for it. Each reason is one warning of Node until the
 * stream works again, one for all streams that are down for it, and at most one a minute. That a stream is not opened again is always told.
 */
export class Links {
  readonly #hubId: string;
  readonly #clock: Clock;
  /** Reasons since it worked last, of each stream that is down. */
  readonly #down = new Map<Link, Set<Reason>>();
  readonly #toldAt = new Map<Reason, number>();

  constructor(hubId: string, clock: Clock) {
    this.#hubId = hubId;
    this.#clock = clock;
  }

  /** of makes the link of a stream. */
  of(what: string): Link {
    let over = false;
    const link: Link = {
      works: () => void this.#down.delete(link),
      down: (failure, willRetry) => {
        const { reason } = failure;
        // It was this program.
        if (reason === "CANCELLED") return;
        const known = [...this.#down.values()].some((reasons) => reasons.has(reason));
        // What came again too soon is told a minute after the last time, if it is still so.
        if (willRetry && !known && this.#isTooSoon(reason)) return;
        if (willRetry && !over) this.#down.set(link, (this.#down.get(link) ?? new Set()).add(reason));
        if (willRetry && known) return;
        this.#toldAt.set(reason, this.#clock.mono());
        this.#tell(what, failure, willRetry);
      },
      over: () => {
        over = true;
        this.#down.delete(link);
      },
    };
    return link;
  }

  #tell(what: string, failure: Failure, willRetry: boolean): void {
    const fate = willRetry ? "is down and will be reopened" : "has ended and will not be reopened";
    const sentence = `the stream to hub ${this.#hubId} for ${what} ${fate}: ${failure.message}. ${REMEDIES[failure.reason] ?? remedyOf(failure)}`;
    emitWarning(printable(sentence), { type: "FoedusWarning", code: failure.reason });
  }

  #isTooSoon(reason: Reason): boolean {
    const toldAt = this.#toldAt.get(reason);
    return toldAt !== undefined && this.#clock.mono() < toldAt + AGAIN_MS;
  }
}

/**
 * refusalsTold makes the `onRefused` of a program that has none: what was refused is told to `onError`, or else by a warning of Node. Each node,
 * and each key of a node, is told once for each reason: a device that reports every second is refused every second. Of a node that was
 * refused the keys are refused as well, which is no news.
 */
export function refusalsTold(onError: OnError | undefined): (refusal: Refusal) => void {
  const told = new Set<string>();
  const nodes = new Set<string>();
  return ({ nodeId, key, failure }) => {
    const name = JSON.stringify([nodeId, key, failure.reason]);
    if (told.has(name) || told.size === REFUSALS_MAX || (key !== "" && nodes.has(nodeId))) return;
    told.add(name);
    if (key === "") nodes.add(nodeId);
    tellError(onError, fail(failure.reason, `${key === "" ? nodeId : `${nodeId} ${key}`}: ${failure.message}`));
  };
}
