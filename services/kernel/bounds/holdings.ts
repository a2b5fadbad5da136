import { printable } from "../printable.ts";

/** Holding is what one holder has of something that is bounded. */
export interface Holding {
  readonly holder: string;
  readonly count: number;
  readonly bytes: number;
}

/** Shared is something that is bounded, and who holds how much of it. */
export interface Shared {
  /** Name of the bound, as in failures and metrics. */
  readonly what: string;
  /** Entries and bytes that there are; undefined where only the parts of each holder are bounded. */
  readonly max?: number | undefined;
  readonly maxBytes?: number | undefined;
  readonly holdings: Iterable<Holding>;
}

/** Holders that are named of each; the others are summed up. */
const SHOWN = 10;

/** describeHoldings draws who holds how much, largest first: for `/statusz`. What nobody holds anything of is left out. */
export function describeHoldings(shared: readonly Shared[]): string {
  const lines = shared.flatMap(linesOf);
  return lines.length === 0 ? "" : `who holds how much\n${lines.join("\n")}`;
}

function linesOf({ what, max, maxBytes, holdings }: Shared): string[] {
  const largest: Holding[] = [];
  const all = { holders: 0, count: 0, bytes: 0 };
  for (const holding of holdings) {
    all.holders++;
    all.count += holding.count;
    all.bytes += holding.bytes;
    insert(largest, holding);
  }
  if (all.holders === 0) return [];
  const rest = { ...all };
  for (const { count, bytes } of largest) {
    rest.holders--;
    rest.count -= count;
    rest.bytes -= bytes;
  }
  const lines = [`  ${what} ${amount(all, max, maxBytes)} holders=${all.holders}`];
  for (const holding of largest) lines.push(`    ${printable(holding.holder)} ${amount(holding)}`);
  if (rest.holders > 0) lines.push(`    and ${rest.holders} more ${amount(rest)}`);
  return lines;
}

/** insert keeps the largest few in order, without sorting all of what may be many. */
function insert(largest: Holding[], holding: Holding): void {
  let at = largest.length;
  while (at > 0 && isLarger(holding, largest[at - 1] as Holding)) at--;
  if (at >= SHOWN) return;
  largest.splice(at, 0, holding);
  if (largest.length > SHOWN) largest.pop();
}

/** isLarger goes by bytes, which is what runs out, and by entries where there are none. */
function isLarger(a: Holding, b: Holding): boolean {
  return a.bytes === b.bytes ? a.count > b.count : a.bytes > b.bytes;
}

function amount({ count, bytes }: Pick<Holding, "count" | "bytes">, max?: number, maxBytes?: number): string {
  const entries = `count=${count}${max === undefined ? "" : `/${max}`}`;
  return bytes === 0 && maxBytes === undefined ? entries : `${entries} bytes=${bytes}${maxBytes === undefined ? "" : `/${maxBytes}`}`;
}
