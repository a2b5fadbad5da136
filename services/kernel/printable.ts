/**
 * Text from elsewhere (names, errors, values, events of other hubs) may hold what rewrites a terminal or what a person does not see:
 * control characters and escape sequences, bidirectional overrides, zero-width and blank characters, halves of characters. This file is
 * the one place that knows which; every printer goes through it.
 */

/** Controls (Cc, U+009B among them, which begins a sequence as ESC [ does), formats (Cf: bidi, zero-width, tags), line ends, halves, and fillers. */
const UNSAFE = /\u034f|\u17b4|\u17b5|[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029\u115f\u1160\u2800\u3164\uffa0\ufff9-\ufffb]/gu;

const escaped = (character: string): string => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;

/** printable is a text on one line that shows all that is in it: line ends and tabs are spaces, the rest is written as \u{...}. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => (character === "\n" || character === "\t" ? " " : escaped(character)));
}

/** printableLines is `printable` for text of our own that has several lines: line ends stay. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

/** Colours of our own: the sequences that `styleText` writes. */
const COLOUR = new RegExp(`(${String.fromCharCode(0x1b)}\\[\\d{1,3}m)`, "u");

/** printableOutput is what stands between a program and its terminal: line ends and our own colours pass, all else that is unsafe does not. */
export function printableOutput(text: string): string {
  return text
    .split(COLOUR)
    .map((part, i) =>
      i % 2 === 1 ? part : part.replace(UNSAFE, (character) => (character === "\n" || character === "\t" ? character : escaped(character))),
    )
    .join("");
}

/** printableJson writes the same JSON without a character that a terminal could take for more: programs read what they did before. */
export function printableJson(json: string): string {
  return json.replace(UNSAFE, (character) =>
    // Line ends of JSON itself stay; within strings they are escaped already.
    character === "\n"
      ? character
      : character
          .split("")
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
          .join(""),
  );
}

/** listed are words as they stand in a sentence: "a, b and c". */
export function listed(words: readonly string[], conjunction = "and"): string {
  const last = words.at(-1) ?? "";
  return words.length < 2 ? last : `${words.slice(0, -1).join(", ")} ${conjunction} ${last}`;
}

/** withArticle is a noun as it stands in a sentence: "an operator", "a node". */
export function withArticle(noun: string): string {
  return `${/^[aeiou]/iu.test(noun) ? "an" : "a"} ${noun}`;
}
