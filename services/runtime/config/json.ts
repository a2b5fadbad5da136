import { notJson } from "./words.ts";

/** Lists and objects inside each other; what people write has ten at most. */
const DEPTH_MAX = 64;
/** Values of one text. Each takes some sixty bytes of memory, however few characters it has. */
const VALUES_MAX = 400_000;

/**
 * parseSettings parses the JSON of a file that people or other programs write. It throws an Error whose message is a part of a sentence, and
 * refuses before parsing what would take many times its length in memory.
 */
export function parseSettings(text: string): unknown {
  const problem = excess(text);
  if (problem !== undefined) throw new Error(problem);
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(notJson(text));
  }
}

const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c];
/** `[` and `{`, `]` and `}` differ in this bit alone. */
const BRACE_BIT = 0x20;
const [OPENING, CLOSING] = [0x7b, 0x7d];

/** excess says what of a text is too much. Up to its first fault, if it has one, it is read as a parser reads it. */
function excess(text: string): string | undefined {
  let [depth, values, quoted] = [0, 0, false];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (quoted) {
      if (code === BACKSLASH) i++;
      else if (code === QUOTE) quoted = false;
    } else if (code === QUOTE) quoted = true;
    else if ((code | BRACE_BIT) === OPENING) {
      values++;
      if (++depth > DEPTH_MAX) return `it has more than ${DEPTH_MAX} lists and objects inside each other`;
    } else if ((code | BRACE_BIT) === CLOSING) depth--;
    else if (code === COMMA && ++values > VALUES_MAX) return `it holds more than ${VALUES_MAX} values`;
  }
  return undefined;
}
