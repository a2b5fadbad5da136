/** JSON_DEPTH_MAX is how deep a JSON request may be nested: twice what the deepest of ours needs. */
export const JSON_DEPTH_MAX = 32;
/** JSON_VALUES_MAX is how many values a JSON request may have, a thousand nodes with 32 each: three bytes of text become an object of hundreds. */
export const JSON_VALUES_MAX = 32_768;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * jsonProblem says what is wrong with the shape of a JSON text before anything is made of it; undefined if nothing is. Whether it is JSON at
 * all it leaves to the parser.
 */
export function jsonProblem(bytes: Uint8Array): string | undefined {
  let depth = 0;
  let values = 1;
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case QUOTE:
        at = endOfString(bytes, at + 1);
        break;
      case 0x5b: // [
      case 0x7b: // {
        values++;
        if (++depth > JSON_DEPTH_MAX) return `the JSON is nested deeper than ${JSON_DEPTH_MAX} levels`;
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
      case 0x2c: // ,
        values++;
        break;
      default:
    }
    if (values > JSON_VALUES_MAX) return `the JSON has more than ${JSON_VALUES_MAX} values; send less at once`;
  }
  return undefined;
}

/** endOfString is where the string that is open at `from` ends, or the end of the text. */
function endOfString(bytes: Uint8Array, from: number): number {
  let at = from;
  for (; at < bytes.length && bytes[at] !== QUOTE; at++) if (bytes[at] === BACKSLASH) at++;
  return at;
}
