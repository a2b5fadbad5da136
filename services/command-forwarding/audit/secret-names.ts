import { LIMITS } from "#kernel/bounds/limits.ts";

/** Names whose answer is remembered: those of a hub's own devices are few. */
const KNOWN_MAX = 1_024;

/**
 * SecretNames tells by its name whether the values of a capability are secret. A pattern fits a whole name or one of its words, in any case;
 * `*` stands for any characters. What is hidden without need is only not seen; what is not hidden is in the audit for good.
 */
export class SecretNames {
  readonly #patterns: readonly RegExp[];
  readonly #known = new Map<string, boolean>();

  constructor(patterns: readonly string[]) {
    this.#patterns = patterns.map((pattern) => new RegExp(`^${pattern.toLowerCase().split("*").map(literal).join(".*")}$`, "u"));
  }

  has(name: string): boolean {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const secret = this.#judge(name.slice(0, LIMITS.nameLength));
    if (this.#known.size >= KNOWN_MAX) this.#known.clear();
    this.#known.set(name.length > LIMITS.nameLength ? name.slice(0, LIMITS.nameLength) : name, secret);
    return secret;
  }

  #judge(name: string): boolean {
    const words = name.replaceAll(/(?<=[\p{Ll}\p{N}])(?=\p{Lu})/gu, " ").toLowerCase();
    const candidates = [name.toLowerCase(), ...words.split(/[^\p{L}]+/u)];
    return this.#patterns.some((pattern) => candidates.some((candidate) => pattern.test(candidate)));
  }
}

function literal(text: string): string {
  return text.replaceAll(/[\\^$.|?+()[\]{}/]/g, "\\$&");
}
