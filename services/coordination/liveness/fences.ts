/** Verdict is yes, or no with a sentence. */
export type Verdict = { readonly ok: true } | { readonly ok: false; readonly why: string };

/** Place is an address at which an installation of a hub is dialled. */
export interface Place {
  readonly host: string;
  readonly port: number;
}

/** Word is what a member says of a hub: which installation of it the federation has dialled. */
export interface Word {
  readonly endpoint: Place;
  /** Token of the installation there. */
  readonly fence: number;
  /** Number of the hub's replica of the log. */
  readonly incarnation: number;
}

/** SeatFacts is what an installation knows when it asks itself whether it acts for its hub. */
export interface SeatFacts {
  readonly hub: string;
  /** Where it is dialled itself. */
  readonly own: Place;
  /** It was made to stand by for another installation, and acts never of its own accord. */
  readonly standby: boolean;
  /** Hubs whose word counts. */
  readonly hubs: readonly string[];
  /** What they said since this installation asks. Undefined: that its hub is no member, or has no standbys. Those missing said nothing. */
  readonly words: ReadonlyMap<string, Word | undefined>;
}

/** Seat is whether an installation acts for its hub. `alone`: the federation knows of no other one. */
export type Seat =
  | { readonly kind: "acts"; readonly word: Word }
  | { readonly kind: "alone" }
  | { readonly kind: "waits"; readonly why: string }
  | { readonly kind: "superseded"; readonly word: Word; readonly why: string };

/**
 * seatOf decides whether an installation acts for its hub.
 *
 * LF1 of the installations of a hub the one acts that more than half of the hubs whose word counts name, with one fence, in words that they
 *    gave since it asks. One that lies makes nobody act and nobody stand down.
 * LF2 an installation serves its hub only with data of the replica that the hub has in the log, or of one that is about to take its place.
 */
export function seatOf({ hub, own, standby, hubs, words }: SeatFacts): Seat {
  const counted = [...new Set(hubs)].filter((name) => name !== hub);
  const needed = Math.floor(counted.length / 2) + 1;
  if (counted.length === 0)
    return { kind: "waits", why: `nobody can tell who acts for ${hub}: name hubs in standby.hubs, or add peers to the federation file` };
  const groups = new Map<string, { readonly word: Word; count: number }>();
  let none = 0;
  for (const name of counted) {
    const word = words.get(name);
    if (word === undefined) {
      none += words.has(name) ? 1 : 0;
      continue;
    }
    const key = `${show(word.endpoint)} ${word.fence} ${word.incarnation}`;
    const group = groups.get(key) ?? { word, count: 0 };
    group.count++;
    groups.set(key, group);
  }
  const said = [...groups.values()].find(({ count }) => count >= needed)?.word;
  if (said !== undefined && show(said.endpoint) === show(own)) return { kind: "acts", word: said };
  if (said !== undefined) return { kind: "superseded", word: said, why: superseded(hub, own, said) };
  if (none >= needed && !standby) return { kind: "alone" };
  if (none >= needed)
    return {
      kind: "waits",
      why: `the federation knows of no standby of ${hub}: say so at the installation that acts, with foedus federation standby set ${show(own)}`,
    };
  const missing = counted.filter((name) => !words.has(name));
  const silent = missing.length === 0 ? "they do not agree yet" : `${missing.join(", ")} did not answer yet`;
  return {
    kind: "waits",
    why: `${needed} of ${counted.join(", ")} have to say that ${hub} is dialled at ${show(own)} before this installation acts; ${silent}`,
  };
}

function superseded(hub: string, own: Place, { endpoint, fence }: Word): string {
  return `the federation has ${hub} dialled at ${show(endpoint)} with fence ${fence}; this installation at ${show(own)} stands by and does nothing. To have it act again, bring the data from there here, and give there: foedus federation standby set ${show(endpoint)} --primary ${show(own)}`;
}

/** Held is what an installation has of its hub's data. */
export interface Held {
  /** Number of the replica in its store; undefined if there is none. */
  readonly incarnation: number | undefined;
  /** Number of the one that is about to take its place here; undefined while it takes part itself. */
  readonly returning: number | undefined;
}

/**
 * mayServe decides whether an installation has the data to serve its hub. The endpoint that is dialled moves without the data; with a copy that
 * is missing, or from before another replica took its place, what others know of the hub would become untrue (LF2).
 */
export function mayServe(hub: string, { incarnation, returning }: Held, seen: number): Verdict {
  if (incarnation === undefined)
    return no(`this installation has no data of ${hub}: restore a backup of its data folder here, or bring the other one back`);
  if (incarnation === seen || returning === seen) return { ok: true };
  if (incarnation > seen)
    return no(`the data here is of replica ${incarnation} of ${hub}, and the federation knows ${seen} only; it waits to hear more`);
  return no(
    `the data here is of replica ${incarnation} of ${hub}, and another installation went on with replica ${seen}: bring its data folder here, or restore a newer backup`,
  );
}

function no(why: string): Verdict {
  return { ok: false, why };
}

function show({ host, port }: Place): string {
  const lower = host.toLowerCase();
  return lower.includes(":") ? `[${lower}]:${port}` : `${lower}:${port}`;
}
