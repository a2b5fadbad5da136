import { PRIORITIES } from "../commands.ts";
import { classOf } from "../kinds.ts";
import { type OfferRecord, offerKey, type RequestRecord } from "./records.ts";

/** Of each borrower, so many of its requests are looked at for one offer: what is first may not fit. */
const HEADS = 8;

/** rankOf is a priority as a number: more is more urgent. */
export function rankOf(priority: (typeof PRIORITIES)[number]): number {
  return PRIORITIES.indexOf(priority);
}

/** Waiting is the requests for which there is no room yet, by what they are for and by borrower; each line by priority, then by age. */
export class Waiting {
  readonly #lines = new Map<string, Map<string, RequestRecord[]>>();
  size = 0;

  add(request: RequestRecord): void {
    const key = lineOf(request);
    const line = this.#lines.get(key) ?? new Map<string, RequestRecord[]>();
    this.#lines.set(key, line);
    const own = line.get(request.borrower) ?? [];
    line.set(request.borrower, own);
    const rank = rankOf(request.command.priority);
    let at = own.length;
    for (; at > 0; at--) {
      const other = own[at - 1] as RequestRecord;
      const otherRank = rankOf(other.command.priority);
      if (otherRank > rank || (otherRank === rank && other.seq < request.seq)) break;
    }
    own.splice(at, 0, request);
    this.size++;
  }

  delete(request: RequestRecord): void {
    const key = lineOf(request);
    const line = this.#lines.get(key);
    const own = line?.get(request.borrower);
    const at = own?.indexOf(request) ?? -1;
    if (line === undefined || own === undefined || at < 0) return;
    own.splice(at, 1);
    this.size--;
    if (own.length === 0) line.delete(request.borrower);
    if (line.size === 0) this.#lines.delete(key);
  }

  /** forOffer calls back with the first requests of each borrower that may be for an offer, until it has heard enough of that borrower. */
  forOffer(offer: OfferRecord, visit: (request: RequestRecord) => boolean): void {
    const kind = classOf(offer.offer.what);
    for (const key of [`${kind} `, `${kind} ${offer.owner}/`, `${kind} ${offer.key}`]) {
      for (const own of this.#lines.get(key)?.values() ?? []) {
        const heads = Math.min(HEADS, own.length);
        for (let at = 0; at < heads; at++) if (visit(own[at] as RequestRecord)) break;
      }
    }
  }

  /** named are all requests that wait for one offer and no other. */
  named(offer: OfferRecord): RequestRecord[] {
    const line = this.#lines.get(`${classOf(offer.offer.what)} ${offer.key}`);
    return [...(line?.values() ?? [])].flat().sort((a, b) => a.seq - b.seq);
  }
}

/** A line is for any offer of a class, for any of one owner, or for one offer. */
function lineOf({ command: { want, owner, name } }: RequestRecord): string {
  return `${classOf(want)} ${owner === "" ? "" : offerKey(owner, name)}`;
}
