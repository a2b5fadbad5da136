/** Kind of finding: what the plain detector suspects, what ours suspects, and what ours accuses. */
export type Found = "plain" | "suspected" | "accused";

/** Death is a hub that was really killed, and when each of those who lived found it. */
export interface Death {
  readonly hub: string;
  readonly at: number;
  readonly starved: boolean;
  readonly witnesses: number;
  /** By who found it, ms after the death: the first finding of the plain detector, and the last of ours. */
  readonly found: Record<Found, Map<string, number>>;
}

/** deathOf begins the record of a death. */
export function deathOf(hub: string, at: number, starved: boolean, witnesses: number): Death {
  return { hub, at, starved, witnesses, found: { plain: new Map(), suspected: new Map(), accused: new Map() } };
}

/** Tally counts the findings of one run: those about the living are false. */
export class Tally {
  /** False findings by kind: made by a hub that is starved of CPU, made about one, and neither. */
  readonly byStarved: Record<Found, number> = { plain: 0, suspected: 0, accused: 0 };
  readonly aboutStarved: Record<Found, number> = { plain: 0, suspected: 0, accused: 0 };
  readonly healthy: Record<Found, number> = { plain: 0, suspected: 0, accused: 0 };
  readonly deaths: Death[] = [];
  /** Verdicts of starved hubs about the living that were held back at the last moment, because none of the others was heard. */
  held = 0;

  /** note takes a finding. `death` is that of its subject if it is dead. */
  note(found: Found, mono: number, observer: { readonly hub: string; readonly starved: boolean }, starved: boolean, death?: Death): void {
    if (death === undefined) (starved ? this.aboutStarved : observer.starved ? this.byStarved : this.healthy)[found]++;
    else if (found !== "plain" || !death.found.plain.has(observer.hub)) death.found[found].set(observer.hub, mono - death.at);
  }

  /** add puts another run to this one. */
  add(other: Tally): void {
    for (const found of ["plain", "suspected", "accused"] as const) {
      this.byStarved[found] += other.byStarved[found];
      this.aboutStarved[found] += other.aboutStarved[found];
      this.healthy[found] += other.healthy[found];
    }
    this.deaths.push(...other.deaths);
    this.held += other.held;
  }

  false(found: Found): number {
    return this.byStarved[found] + this.aboutStarved[found] + this.healthy[found];
  }

  /** times lists how long after each death a majority of those who could see it had found it, ms; infinity if they never did. */
  times(found: Found, which: (death: Death) => boolean = () => true): number[] {
    return this.deaths.filter(which).map((death) => {
      const times = [...death.found[found].values()].sort((a, b) => a - b);
      return times[Math.floor(death.witnesses / 2)] ?? Number.POSITIVE_INFINITY;
    });
  }

  /** report draws the figures side by side. */
  report(): string {
    const row = (what: string, counts: Record<Found, number>): string =>
      `${what.padEnd(34)}${cell(counts.plain)}${cell(counts.suspected)}${cell(counts.accused)}`;
    const times = (what: string, pick: (sorted: number[]) => number, which?: (death: Death) => boolean): string => {
      const of = (found: Found): number => Math.round(pick(this.times(found, which).sort((a, b) => a - b)));
      return row(what, { plain: of("plain"), suspected: of("suspected"), accused: of("accused") });
    };
    const total = { plain: this.false("plain"), suspected: this.false("suspected"), accused: this.false("accused") };
    return [
      `${"".padEnd(34)}${cell("plain")}${cell("suspected")}${cell("accused")}`,
      row("false, about a starved hub", this.aboutStarved),
      row("false, by a starved hub", this.byStarved),
      row("false, between healthy hubs", this.healthy),
      row("false, all", total),
      `deaths: ${this.deaths.length}, ${this.deaths.filter(({ starved }) => starved).length} of them of starved hubs; found by a majority after ms`,
      times("mean", mean),
      times("mean, healthy hubs", mean, ({ starved }) => !starved),
      times("mean, starved hubs", mean, ({ starved }) => starved),
      times("median", (sorted) => sorted[Math.floor(sorted.length / 2)] ?? 0),
      times("longest", (sorted) => sorted.at(-1) ?? 0),
    ].join("\n");
  }
}

/** mean of numbers; 0 for none. */
export function mean(numbers: readonly number[]): number {
  return numbers.length === 0 ? 0 : numbers.reduce((sum, each) => sum + each, 0) / numbers.length;
}

function cell(value: number | string): string {
  return String(value).padStart(11);
}
