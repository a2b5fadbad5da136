import { create } from "@bufbuild/protobuf";
import { ListOffersRequestSchema } from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import { clean } from "../print/format.ts";
import { type Better, corrected } from "../reach/candidates.ts";
import type { Connection } from "../reach/connect.ts";
import { meant } from "../reach/did-you-mean.ts";
import { everyPage } from "../reach/pages.ts";
import { kindText } from "./text.ts";

/** Owners that are listed at most. */
const LISTED_MAX = 8;
const LIST = "List what is offered with `foedus resources offers`.";

/** Looked is what somebody looked for: an offer by its name, or any of a kind; of one owner, or of any. */
export interface Looked {
  /** Empty for any. */
  readonly owner?: string;
  /** Empty for any; with an owner. */
  readonly name?: string;
  /** As it is typed, e.g. agents:planner. */
  readonly kind?: string;
}

/** Offered is an offer that is in force. */
export interface Offered {
  readonly owner: string;
  readonly name: string;
  readonly kind: string;
}

/**
 * nearOffer says what was probably meant by somebody who found no offer, or where what is looked for is offered. Undefined if it is offered
 * as it was typed: then the hub's own words say why it is not for this caller.
 */
export function nearOffer({ owner = "", name = "", kind = "" }: Looked, offers: readonly Offered[]): Better | undefined {
  if (name !== "") {
    const names = offers.map((offer) => `${offer.owner}/${offer.name}`);
    const text = `${owner}/${name}`;
    return names.includes(text) ? undefined : { message: `there is no offer ${clean(text)}`, remedy: meant(text, names) ?? LIST };
  }
  const owners = [...new Set(offers.filter((offer) => offer.kind === kind).map((offer) => offer.owner))].sort();
  if (owner === "" ? owners.length > 0 : owners.includes(owner)) return undefined;
  const by = owners.length === 0 || owners.length > LISTED_MAX ? undefined : `It is offered by ${owners.map(clean).join(", ")}.`;
  const kinds = [...new Set(offers.filter((offer) => owner === "" || offer.owner === owner).map((offer) => offer.kind))];
  return {
    message: `nobody offers ${clean(kind)}${owner === "" ? "" : ` at ${clean(owner)}`}`,
    remedy: (owner === "" ? undefined : meant(owner, owners)) ?? by ?? meant(kind, kinds) ?? LIST,
  };
}

/** withOffers makes a call about offers; when what is looked for is not offered, the error says what was probably meant. */
export function withOffers<T>(connection: Connection, looked: Looked, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  return corrected("OFFER_NOT_FOUND", call, async () => {
    const read = (after: string) => connection.coordination.listOffers(create(ListOffersRequestSchema, { after }), { signal });
    const offers = (await everyPage("offers", read)).flatMap((page) => page.offers);
    // A hub does not lend to itself.
    const others = (owner: string): boolean => looked.kind === undefined || owner !== connection.target.hubId;
    const inForce = offers.filter(({ withdrawn, offer, owner }) => !withdrawn && offer !== undefined && others(owner));
    const known = inForce.map(({ owner, offer }) => ({ owner, name: offer!.name, kind: kindText(offer!.what) }));
    return nearOffer(looked, known);
  });
}
