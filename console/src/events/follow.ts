import { call, RPC, stream } from "../api.ts";
import { after } from "../browser.ts";
import type { HubEvent } from "../types.ts";

/** EventFilter is what the feed of events is limited to. */
export interface EventFilter {
  readonly kind: string;
  readonly severity: string;
  readonly peer: string;
  readonly node: string;
}

/** KEPT is how many events the page keeps. */
export const KEPT = 1_000;
const PAGE = 100;
const RETRY_MS = 1_000;
const RETRY_MAX_MS = 10_000;

/** Followed is the feed as far as it is here, newest first. */
export interface Followed {
  readonly events: readonly HubEvent[];
  /** Events that the hub could not send any more. */
  readonly missed: number;
  readonly live: boolean;
  readonly problem: string;
}

/** NOTHING is known yet. */
export const NOTHING: Followed = { events: [], missed: 0, live: false, problem: "" };

/** requestOf is a filter as the schema has it. */
export function requestOf({ kind, severity, peer, node }: EventFilter): object {
  return {
    ...(kind === "" ? {} : { kinds: [kind] }),
    minSeverity: severity,
    ...(peer === "" ? {} : { peer }),
    ...(node === "" ? {} : { node }),
  };
}

/** added puts events of a push, oldest first, before those that are here. What came twice is shown once. */
export function added(old: readonly HubEvent[], more: readonly HubEvent[]): readonly HubEvent[] {
  const newest = Number(old[0]?.seq ?? 0);
  return [...more.filter(({ seq }) => Number(seq ?? 0) > newest).reverse(), ...old].slice(0, KEPT);
}

interface Push {
  readonly events?: readonly HubEvent[];
  readonly missed?: string;
  readonly nextSeq?: string;
}

/** follow lists the newest events and then follows what happens, again after each cut, until the signal ends it. */
export async function follow(filter: EventFilter, signal: AbortSignal, tell: (change: (old: Followed) => Followed) => void): Promise<void> {
  let next = "";
  let waitMs = RETRY_MS;
  while (!signal.aborted) {
    try {
      if (next === "") {
        const { events = [] } = await call<{ events?: readonly HubEvent[] }>(
          RPC.listEvents,
          { filter: requestOf(filter), pageSize: PAGE },
          { signal },
        );
        next = String(Number(events[0]?.seq ?? 0) + 1);
        tell((old) => ({ ...old, events }));
      }
      tell((old) => ({ ...old, live: true, problem: "" }));
      await stream<Push>(
        RPC.watchEvents,
        { filter: requestOf(filter), fromSeq: next },
        signal,
        ({ events = [], missed = "0", nextSeq }) => {
          waitMs = RETRY_MS;
          next = nextSeq ?? next;
          tell((old) => ({ ...old, events: added(old.events, events), missed: old.missed + Number(missed) }));
        },
      );
    } catch (error) {
      if (signal.aborted) return;
      tell((old) => ({ ...old, live: false, problem: error instanceof Error ? error.message : String(error) }));
    }
    await new Promise<void>((resolve) => after(waitMs, resolve));
    waitMs = Math.min(RETRY_MAX_MS, waitMs * 2);
  }
}
