import { nearest } from "#runtime/config/shape.ts";
import { clean } from "../print/format.ts";

/** Names that are listed at most. */
const LISTED_MAX = 8;

/** meant is "Did you mean x?" if a known word is much like the mistyped one. */
export function meant(word: string, known: readonly string[]): string | undefined {
  const near = nearest(word, known);
  return near === undefined ? undefined : `Did you mean ${clean(near)}?`;
}

/** didYouMean is "Did you mean x?" if a known word is much like the mistyped one, the known words if they are few, else `otherwise`. */
export function didYouMean(word: string, known: readonly string[], otherwise = ""): string {
  const near = meant(word, known);
  if (near !== undefined) return near;
  if (known.length === 0 || known.length > LISTED_MAX) return otherwise;
  return `Known ${known.length === 1 ? "is" : "are"} ${known.map(clean).join(", ")}.`;
}
