/** Characters that take two columns: East Asian wide and full-width forms, and emoji (Unicode UAX #11). */
const WIDE =
  /^(?:\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6])/u;
const ZERO_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;
const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

function graphemeWidth(grapheme: string): number {
  if (ZERO_WIDTH.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}

/** displayWidth is how many columns of a terminal a text takes. */
export function displayWidth(text: string): number {
  // Most text is ASCII, where every character is one column.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of segmenter.segment(text)) width += graphemeWidth(segment);
  return width;
}

/** cut shortens a text to a width and marks the cut with "…". */
export function cut(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let kept = "";
  let used = 1;
  for (const { segment } of segmenter.segment(text)) {
    used += graphemeWidth(segment);
    if (used > width) break;
    kept += segment;
  }
  return `${kept}…`;
}

/** wrap breaks a text at spaces into lines of a width; a longer word is broken too. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ").flatMap((whole) => pieces(whole, width))) {
    const last = lines.at(-1);
    if (last !== undefined && displayWidth(last) + 1 + displayWidth(word) <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** pieces breaks a word into parts of a width at most. */
function pieces(word: string, width: number): string[] {
  if (displayWidth(word) <= width) return [word];
  const parts = [""];
  for (const { segment } of segmenter.segment(word)) {
    const last = parts[parts.length - 1] ?? "";
    if (displayWidth(last) + graphemeWidth(segment) <= width) parts[parts.length - 1] = last + segment;
    else parts.push(segment);
  }
  return parts;
}

/** Less than this beside an indentation is no room for words. */
const MIN_PROSE_LINE = 16;

/**
 * prose breaks a text at spaces into lines for what a terminal has left beside an indentation. A command in backquotes and a long word stay
 * whole, for they are copied: the terminal breaks those itself.
 */
export function prose(text: string, columns: number | undefined, indent = 0): string[] {
  const width = (columns ?? 0) - indent;
  if (columns === undefined || width < MIN_PROSE_LINE || displayWidth(text) <= width) return [text];
  const lines: string[] = [];
  for (const [word] of text.matchAll(/[^\s`]*`[^`]*`\S*|\S+/g)) {
    const last = lines.at(-1);
    if (last !== undefined && displayWidth(last) + 1 + displayWidth(word) <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** paragraphs is prose of several lines. What is indented is laid out already, or a command to be copied. */
export function paragraphs(text: string, columns: number | undefined): string {
  if (columns === undefined) return text;
  return text
    .split("\n")
    .map((line) => (line.startsWith(" ") ? line : prose(line, columns).join("\n")))
    .join("\n");
}
