import type { Clock } from "#channel/clock.ts";
import type { Event } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { Store } from "#runtime/store/port.ts";
import { eventsIn } from "../codec/events.ts";
import { SEGMENT_LOG, type TailRow } from "../log/event-log.ts";
import type { HappeningFilter, Output } from "../messages.ts";

/** Segments that one page looks into; what is further back comes with the next page. */
const PAGE_SEGMENTS = 64;
/** Segments that are read in one turn of the event loop: some milliseconds. */
const TURN_SEGMENTS = 4;

type Listed = Extract<Output, { readonly kind: "listed" }>;
type Push = Extract<Output, { readonly kind: "push" }>;

/** Page is some events, newest first. `nextBeforeSeq` is where the next page goes on; 0 at the end. */
export interface Page {
  readonly events: readonly Event[];
  readonly nextBeforeSeq: number;
}

/** EventReader reads events where the core says that they may be. */
export class EventReader {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #hubId: string;

  constructor(store: Store, clock: Clock, hubId: string) {
    this.#store = store;
    this.#clock = clock;
    this.#hubId = hubId;
  }

  /** page collects up to `limit` events, newest first. One that takes long to find gives other work its turn, and ends before it has all. */
  async page(listed: Listed, filter: HappeningFilter, beforeSeq: number, limit: number): Promise<Page> {
    const bounded = { ...filter, sinceMs: listed.sinceMs };
    const events: Event[] = [];
    const take = (bytes: Uint8Array, first: number): boolean => {
      const found = [...eventsIn(bytes, first, 0, bounded, this.#hubId)].reverse();
      for (const event of found) if (beforeSeq === 0 || Number(event.seq) < beforeSeq) events.push(event);
      return events.length > limit;
    };
    for (const row of listed.rows) if (take(row.bytes, row.first)) return full(events, limit);
    let looked = 0;
    for (const first of listed.segments) {
      if (looked === PAGE_SEGMENTS) return { events, nextBeforeSeq: Math.max(1, (listed.segments[looked - 1] as number) || 1) };
      if (looked > 0 && looked % TURN_SEGMENTS === 0) await this.#nextTurn();
      looked++;
      const bytes = this.#segment(first);
      if (bytes !== undefined && take(bytes, first)) return full(events, limit);
    }
    return { events, nextBeforeSeq: 0 };
  }

  /** pushed reads what a push to a watcher is about; undefined if it is not kept any more. */
  pushed({ rows, segment, fromSeq }: Push, filter: HappeningFilter): Event[] | undefined {
    if (segment !== undefined) {
      const bytes = this.#segment(segment);
      return bytes === undefined ? undefined : [...eventsIn(bytes, segment, fromSeq, filter, this.#hubId)];
    }
    return rows.flatMap(({ bytes, first }: TailRow) => [...eventsIn(bytes, first, fromSeq, filter, this.#hubId)]);
  }

  #segment(first: number): Uint8Array | undefined {
    for (const { seq, bytes } of this.#store.read(SEGMENT_LOG, first)) return seq === first ? bytes : undefined;
    return undefined;
  }

  #nextTurn(): Promise<void> {
    return new Promise((resolve) => void this.#clock.setImmediate(resolve));
  }
}

function full(events: readonly Event[], limit: number): Page {
  const shown = events.slice(0, limit);
  return { events: shown, nextBeforeSeq: Number(shown.at(-1)?.seq ?? 0n) };
}
