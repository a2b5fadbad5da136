import { listed } from "#kernel/printable.ts";

/** MetRun is one process of a hub's discovery, as it introduced itself. */
export interface MetRun {
  /** Random for each start; empty from hubs that do not send it, which are told apart by the number of the start. */
  readonly run: string;
  /** Number of the start; 0 if it is not known. */
  readonly incarnation: number;
  /** Where it was met, if that is known. */
  readonly address: string | undefined;
}

interface Sighting {
  incarnation: number;
  address: string | undefined;
  lastAt: number;
  /** How often it was met after a later run had been met. */
  again: number;
  /** Its start has a lower number than one that was met before: it is late, or restored from a backup, or a copy. */
  readonly doubtful: boolean;
}

/** Runs of one hub that are told apart. */
const RUNS_MAX = 4;

/** A run that was overtaken and not met for so long counts as ended. One that cannot link says Hello each minute. */
const ALIVE_MS = 300_000;

/** While there are copies, they are told so this often. */
const TELL_MS = 60_000;

/**
 * Runs remembers which processes of one hub were met. After a restart only the new one is met. A run that is met again, twice, after a
 * later one was there, runs beside it: two processes have the keys of one hub. Once would be too little, as the last bytes of a process
 * that has ended may arrive after the first of the next one. They may even be all that is ever met of it: a start with a lower number than
 * one before is no later run, and counts only as often as others were met in between.
 */
export class Runs {
  /** In the order in which they were first met. */
  readonly #runs = new Map<string, Sighting>();
  #toldAt = Number.NEGATIVE_INFINITY;
  /** The one that was met last. */
  #last: string | undefined;

  /** met notes a run. True if that shows that there are two copies, and it was not known before. */
  met(mono: number, { run, incarnation, address }: MetRun): boolean {
    const known = this.copies(mono).length > 0;
    const id = run || `start ${incarnation}`;
    const before = this.#runs.get(id);
    if (before === undefined) {
      if (this.#runs.size >= RUNS_MAX) this.#runs.delete(this.#oldest());
      const doubtful = incarnation > 0 && [...this.#runs.values()].some((run) => run.incarnation > incarnation);
      this.#runs.set(id, { incarnation, address, lastAt: mono, again: 0, doubtful });
    } else {
      const overtaken = this.#newest() !== id && !(before.doubtful && this.#last === id);
      const again = before.lastAt + ALIVE_MS < mono ? 0 : before.again;
      before.address = address ?? before.address;
      before.incarnation = incarnation || before.incarnation;
      before.lastAt = mono;
      before.again = overtaken ? again + 1 : again;
    }
    this.#last = id;
    return !known && this.copies(mono).length > 0;
  }

  /** copies is where the processes are that run at the same time; empty if there is one. */
  copies(mono: number): string[] {
    if (this.#runs.size < 2) return [];
    const newest = this.#newest();
    const runs = [...this.#runs].filter(([id, run]) => id === newest || (run.again >= 2 && run.lastAt + ALIVE_MS >= mono));
    return runs.length < 2 ? [] : runs.map(([, run]) => placeOf(run));
  }

  /** tellAgain is true if there are copies that were not told so for a while, and counts as telling them. */
  tellAgain(mono: number): boolean {
    if (mono < this.#toldAt + TELL_MS || this.copies(mono).length === 0) return false;
    this.#toldAt = mono;
    return true;
  }

  #newest(): string | undefined {
    const runs = [...this.#runs];
    return (runs.findLast(([, { doubtful }]) => !doubtful) ?? runs.at(-1))?.[0];
  }

  #oldest(): string {
    return [...this.#runs].reduce((least, run) => (run[1].lastAt < least[1].lastAt ? run : least))[0];
  }
}

function placeOf({ address = "an unknown address", incarnation }: Sighting): string {
  return incarnation > 0 ? `${address} (start ${incarnation})` : address;
}

/** Longest place that a peer may name. */
const WHERE_MAX = 80;

/** placesOf takes what a peer says of where copies of this hub run: two or more places, as this software writes them. */
export function placesOf(places: readonly string[]): string[] {
  const kept = places.slice(0, RUNS_MAX).filter((place) => place.length <= WHERE_MAX && /^[\w.:% -]+( \(start \d+\))?$/.test(place));
  return kept.length < 2 ? [] : kept;
}

/** ToldCopies is what one peer said last of copies of this hub. */
export class ToldCopies {
  #places: readonly string[] = [];
  #until = Number.NEGATIVE_INFINITY;

  /** told notes what a peer says. True if it says so for the first time in a while. */
  told(mono: number, places: readonly string[]): boolean {
    const known = this.places(mono).length > 0;
    this.#places = placesOf(places);
    this.#until = mono + ALIVE_MS;
    return !known && this.#places.length > 0;
  }

  places(mono: number): readonly string[] {
    return mono < this.#until ? this.#places : [];
  }
}

/** atPlaces writes places for people: "at A and at B". */
export function atPlaces(places: readonly string[]): string {
  return listed(places.map((place) => `at ${place}`));
}
