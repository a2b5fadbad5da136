import type { Failure } from "#kernel/error.ts";
import type { PolicyValue } from "./messages.ts";

/** Fraction is a part of a whole in whole numbers, so that exactly one half and two thirds can be told from more. */
export interface Fraction {
  readonly numerator: number;
  readonly denominator: number;
}

/** isMoreThan tells whether `part` of `whole` is more than a fraction of it: exactly as much is not. Weights are below 2^20. */
export function isMoreThan(fraction: Fraction, part: number, whole: number): boolean {
  return part * fraction.denominator > whole * fraction.numerator;
}

interface IntRule {
  readonly kind: "int";
  readonly fallback: number;
  readonly min: number;
  readonly max: number;
}
interface FractionRule {
  readonly kind: "fraction";
  readonly fallback: Fraction;
  /** Smallest allowed; the largest is below the whole. */
  readonly least: Fraction;
}
interface WordsRule {
  readonly kind: "words";
  readonly fallback: readonly string[];
}

const int = (fallback: number, min: number, max: number): IntRule => ({ kind: "int", fallback, min, max });
const HALF: Fraction = { numerator: 1, denominator: 2 };
const more = (numerator: number, denominator: number): FractionRule => ({
  kind: "fraction",
  fallback: { numerator, denominator },
  least: HALF,
});
const words = (...fallback: string[]): WordsRule => ({ kind: "words", fallback });
const DAY_MS = 86_400_000;

/**
 * POLICIES are what a federation decides for all its hubs, with defaults; only an approved ballot of subject FEDERATION_POLICY changes
 * them. Times are log time in ms. A majority or quorum is *more* than its fraction.
 */
export const POLICIES = {
  /** Voters below which no hub may leave or be removed; never fewer than the engine needs. */
  min_voters: int(1, 1, 30),
  /** Of the weight that said APPROVE or REJECT. */
  majority: more(1, 2),
  /** The same for MEMBERSHIP and FEDERATION_POLICY. */
  strict_majority: more(2, 3),
  /** Of all weight that may vote: so much must have voted, ABSTAIN included (S1-18). */
  participation: more(1, 2),
  /** How long a ballot is open that does not say so, and the longest. */
  ballot_ms: int(60_000, 1_000, 7 * DAY_MS),
  ballot_longest_ms: int(7 * DAY_MS, 60_000, 30 * DAY_MS),
  /** How long a request to join waits. */
  join_ms: int(7 * DAY_MS, 60_000, 30 * DAY_MS),
  /** Accusations of one hub count together within this (S1-16). */
  accusation_ms: int(60_000, 1_000, 3_600_000),
  /** Between two failovers of one hub's endpoint. */
  failover_hold_ms: int(300_000, 1_000, DAY_MS),
  /** A hub that is confirmed failed `flaps` times within this is damped. */
  flap_window_ms: int(1_800_000, 60_000, DAY_MS),
  flaps: int(3, 2, 8),
  /** First time of being damped; it doubles with each further failure, up to an hour or to this. */
  damp_ms: int(300_000, 1_000, DAY_MS),
  /** What one request for agents may ask for (S1-22). */
  max_agents: int(5, 0, 1_000_000),
  max_duration_ms: int(7_200_000, 1_000, 365 * DAY_MS),
  allowed_types: words("researcher", "coder"),
} as const satisfies Readonly<Record<string, IntRule | FractionRule | WordsRule>>;

/** PolicyKey names a policy. */
export type PolicyKey = keyof typeof POLICIES;
type KeyOf<R> = { readonly [K in PolicyKey]: (typeof POLICIES)[K] extends R ? K : never }[PolicyKey];
/** IntPolicy names a policy that is a number. */
export type IntPolicy = KeyOf<IntRule>;
/** FractionPolicy names a policy that is a fraction. */
export type FractionPolicy = KeyOf<FractionRule>;
/** WordsPolicy names a policy that is a list of words. */
export type WordsPolicy = KeyOf<WordsRule>;

/** isPolicyKey tells whether there is such a policy. */
export function isPolicyKey(key: string): key is PolicyKey {
  return Object.hasOwn(POLICIES, key);
}

/** policyProblem says why a value cannot be that of a policy, or undefined. The value has the form of one. */
export function policyProblem(key: string, value: PolicyValue): Failure | undefined {
  if (!isPolicyKey(key))
    return {
      reason: "INVALID_FIELD",
      message: `there is no policy ${key}; one of ${Object.keys(POLICIES).join(", ")} is meant`,
      field: "key",
    };
  const rule: IntRule | FractionRule | WordsRule = POLICIES[key];
  const out = (message: string): Failure => ({ reason: "VALUE_OUT_OF_RANGE", message: `policy ${key} ${message}`, field: "value" });
  if (rule.kind !== value.kind)
    return out(`is ${rule.kind === "int" ? "a whole number" : rule.kind === "words" ? "a list of words" : "a fraction"}`);
  if (rule.kind === "int" && value.kind === "int")
    return value.value >= rule.min && value.value <= rule.max ? undefined : out(`must be from ${rule.min} to ${rule.max}`);
  if (rule.kind === "fraction" && value.kind === "fraction") {
    const { numerator, denominator } = value;
    const { least } = rule;
    const fits = numerator < denominator && numerator * least.denominator >= denominator * least.numerator;
    return fits ? undefined : out(`must be at least ${least.numerator}/${least.denominator} and less than the whole`);
  }
  const given = value.kind === "words" ? value.words : [];
  return new Set(given).size === given.length ? undefined : out("has a word twice");
}

/** PolicyStatus is a policy as it holds. */
export interface PolicyStatus {
  readonly key: PolicyKey;
  readonly value: PolicyValue;
  /** 0 until it is changed for the first time. */
  readonly version: number;
  /** What holds until it is changed. */
  readonly fallback: PolicyValue;
}

function fallbackOf(key: PolicyKey): PolicyValue {
  const rule: IntRule | FractionRule | WordsRule = POLICIES[key];
  switch (rule.kind) {
    case "int":
      return { kind: "int", value: rule.fallback };
    case "fraction":
      return { kind: "fraction", ...rule.fallback };
    case "words":
      return { kind: "words", words: rule.fallback };
  }
}

/** Policies are the values that hold, changed or not. */
export class Policies {
  readonly #changed: ReadonlyMap<string, { readonly value: PolicyValue; readonly version: number }>;

  /** `changed` is looked into at each question, not copied. */
  constructor(changed: ReadonlyMap<string, { readonly value: PolicyValue; readonly version: number }>) {
    this.#changed = changed;
  }

  /** int is the number that holds. */
  int(key: IntPolicy): number {
    const value = this.#changed.get(key)?.value;
    return value?.kind === "int" ? value.value : POLICIES[key].fallback;
  }

  /** fraction is the fraction that holds. */
  fraction(key: FractionPolicy): Fraction {
    const value = this.#changed.get(key)?.value;
    return value?.kind === "fraction" ? { numerator: value.numerator, denominator: value.denominator } : POLICIES[key].fallback;
  }

  /** words are those that hold. */
  words(key: WordsPolicy): readonly string[] {
    const value = this.#changed.get(key)?.value;
    return value?.kind === "words" ? value.words : POLICIES[key].fallback;
  }

  /** all policies that there are, with what holds. */
  all(): readonly PolicyStatus[] {
    return (Object.keys(POLICIES) as PolicyKey[]).map((key) => {
      const fallback = fallbackOf(key);
      return { key, value: this.#changed.get(key)?.value ?? fallback, version: this.version(key), fallback };
    });
  }

  /** version of a policy, 0 until it is changed for the first time. A change names the version that it is based on. */
  version(key: string): number {
    return this.#changed.get(key)?.version ?? 0;
  }
}
