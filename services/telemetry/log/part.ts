/** Part is what is known of some events without looking at each: what they can be asked for by. */
export interface Part {
  readonly count: number;
  readonly wallFrom: number;
  readonly wallTo: number;
  /** Bit n stands for kind n of event. */
  readonly kinds: number;
  /** The highest of them. */
  readonly severity: number;
  /** Bit n stands for outcome n of a command. */
  readonly outcomes: number;
  /** Numbers in the names of commands. */
  readonly namesFrom: number;
  readonly namesTo: number;
  /** Hashes of the texts that events can be asked for by. */
  readonly tokens: readonly number[];
}

/** Wanted is a filter as parts are asked: what of them cannot have an event that matches is not looked at. */
export interface Wanted {
  readonly kinds: number;
  readonly minSeverity: number;
  readonly outcomes: number;
  readonly sinceMs: number;
  /** 0 for no end. */
  readonly untilMs: number;
  /** Each of these must be there. */
  readonly tokens: readonly number[];
  /** Number in the name of a command that is looked for; 0 for none. Its name may be among the tokens instead. */
  readonly nameNumber: number;
  readonly nameToken: number | undefined;
}

/** ALL_KINDS stands for no choice of kinds. */
export const ALL_KINDS = -1;

/** bitOf is the bit that stands for a number: those beyond 31 share one with others. */
export function bitOf(number: number): number {
  return (1 << (number & 31)) >>> 0;
}

/** tokenOf is the hash of a text: 32 bits (FNV-1a, with its bits spread). */
export function tokenOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  return (hash ^ (hash >>> 15)) | 0;
}

/** Slashes of a text whose ends are tokens, too. */
const ENDS_MAX = 6;

/** tokensOf are a text and its ends after each slash: "spiffe://home/operator/admin" is also found as "operator/admin" and "admin". */
export function tokensOf(text: string, into: number[]): void {
  if (text === "") return;
  into.push(tokenOf(text));
  let at = text.indexOf("/");
  for (let ends = 0; at >= 0 && ends < ENDS_MAX; ends++) {
    into.push(tokenOf(text.slice(at + 1)));
    at = text.indexOf("/", at + 1);
  }
}

/** joined is one part of several that follow each other. */
export function joined(parts: readonly Part[]): Part {
  const names = parts.filter(({ namesTo }) => namesTo > 0);
  return {
    count: parts.reduce((sum, { count }) => sum + count, 0),
    wallFrom: Math.min(...parts.map(({ wallFrom }) => wallFrom)),
    wallTo: Math.max(...parts.map(({ wallTo }) => wallTo)),
    kinds: parts.reduce((all, { kinds }) => (all | kinds) >>> 0, 0),
    severity: Math.max(...parts.map(({ severity }) => severity)),
    outcomes: parts.reduce((all, { outcomes }) => (all | outcomes) >>> 0, 0),
    namesFrom: names.length === 0 ? 0 : Math.min(...names.map(({ namesFrom }) => namesFrom)),
    namesTo: Math.max(0, ...names.map(({ namesTo }) => namesTo)),
    tokens: [...new Set(parts.flatMap(({ tokens }) => tokens))],
  };
}

/** mayHave tells whether a part can have an event that is wanted. `has` asks for a token. */
export function mayHave(part: Omit<Part, "tokens" | "count">, has: (token: number) => boolean, wanted: Wanted): boolean {
  if ((part.kinds & wanted.kinds) === 0 || part.severity < wanted.minSeverity) return false;
  if (wanted.outcomes !== 0 && (part.outcomes & wanted.outcomes) === 0) return false;
  if (part.wallTo < wanted.sinceMs || (wanted.untilMs > 0 && part.wallFrom >= wanted.untilMs)) return false;
  if (!wanted.tokens.every(has)) return false;
  if (wanted.nameToken === undefined) return true;
  const { nameNumber } = wanted;
  return (nameNumber > 0 && nameNumber >= part.namesFrom && nameNumber <= part.namesTo) || has(wanted.nameToken);
}
