import { clean } from "./format.ts";
import type { Io, Style } from "./io.ts";

/** Cell is a text, or a text with a colour. Text is made safe to print (see `clean`). */
export type Cell = string | { readonly text: string; readonly style: Style | undefined };

/** Column of a table. */
export interface Column {
  readonly title: string;
  /** Numbers stand right. Default left. */
  readonly align?: "left" | "right";
  /** The column that is cut first when the terminal is too narrow. Default: it keeps its width. */
  readonly flexible?: boolean;
  /** Sentences. Where the terminal leaves too little beside the other columns, they stand below the row, whole. Default: they are cut. */
  readonly prose?: boolean;
}

const GAP = "  ";
/** A flexible column is not cut below this many columns of the terminal: less says nothing. */
const MIN_FLEXIBLE_WIDTH = 8;
/** A sentence that has less than this beside the other columns goes below the row. */
const MIN_PROSE_WIDTH = 32;
/** How far what stands below a row is indented. */
const BELOW = "    ";

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

function textOf(cell: Cell): string {
  return clean(typeof cell === "string" ? cell : cell.text);
}

function widthsOf(columns: readonly Column[], texts: readonly (readonly string[])[], terminal: number | undefined): number[] {
  const widths = columns.map(({ title }, i) =>
    texts.reduce((most, row) => Math.max(most, displayWidth(row[i] ?? "")), displayWidth(title)),
  );
  if (terminal === undefined) return widths;
  let excess = widths.reduce((sum, width) => sum + width, GAP.length * (columns.length - 1)) - terminal;
  // Widest first, so that one long text does not cost the others.
  while (excess > 0) {
    const candidates = [...columns.keys()].filter((i) => columns[i]?.flexible === true && (widths[i] ?? 0) > MIN_FLEXIBLE_WIDTH);
    const widest = candidates.sort((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0))[0];
    if (widest === undefined) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
    excess--;
  }
  return widths;
}

function pad(text: string, width: number, align: Column["align"]): readonly [string, string] {
  const space = " ".repeat(Math.max(0, width - displayWidth(text)));
  return align === "right" ? [space, ""] : ["", space];
}

/** belowOf is which column of sentences does not fit beside the others, so that it goes below the rows; undefined if none. */
function belowOf(columns: readonly Column[], texts: readonly (readonly string[])[], terminal: number | undefined): number | undefined {
  const widths = widthsOf(columns, texts, terminal);
  const at = columns.findIndex(({ prose }, i) => {
    const longest = texts.reduce((most, row) => Math.max(most, displayWidth(row[i] ?? "")), 0);
    return prose === true && (widths[i] ?? 0) < Math.min(longest, MIN_PROSE_WIDTH);
  });
  return at === -1 ? undefined : at;
}

/** wrap breaks a text at spaces into lines of a width; a longer word is cut. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && displayWidth(last) + 1 + displayWidth(word) <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(cut(word, width));
  }
  return lines;
}

/**
 * table lays rows out in aligned columns, one line each, without trailing spaces. Widths follow the terminal, if there is one; a column of
 * sentences that it is too narrow for goes below the rows.
 */
export function table(io: Pick<Io, "columns" | "style">, columns: readonly Column[], rows: readonly (readonly Cell[])[]): string {
  const below = belowOf(
    columns,
    rows.map((row) => row.map(textOf)),
    io.columns,
  );
  if (below === undefined) return aligned(io, columns, rows).join("");
  const others = <T>(all: readonly T[]): T[] => all.filter((_, i) => i !== below);
  const [head = "", ...lines] = aligned(io, others(columns), rows.map(others));
  const width = Math.max(MIN_FLEXIBLE_WIDTH, (io.columns ?? 0) - BELOW.length);
  const under = (cell: Cell | undefined): string =>
    wrap(textOf(cell ?? ""), width)
      .filter((text) => text !== "")
      .map((text) => `${BELOW}${typeof cell === "object" && cell.style !== undefined ? io.style(cell.style, text) : text}\n`)
      .join("");
  return head + lines.map((line, r) => line + under(rows[r]?.[below])).join("");
}

/** aligned is the head and the rows of a table, each a line. */
function aligned(io: Pick<Io, "columns" | "style">, columns: readonly Column[], rows: readonly (readonly Cell[])[]): string[] {
  const texts = rows.map((row) => row.map(textOf));
  const widths = widthsOf(columns, texts, io.columns);
  const line = (cells: readonly string[], style: (i: number, text: string) => string): string =>
    columns
      .map(({ align }, i) => {
        const width = widths[i] ?? 0;
        const text = cut(cells[i] ?? "", width);
        const [before, after] = pad(text, width, align);
        return `${before}${text === "" ? "" : style(i, text)}${i === columns.length - 1 ? "" : after}`;
      })
      .join(GAP)
      .trimEnd();
  const head = line(
    columns.map(({ title }) => title),
    (_i, text) => io.style("bold", text),
  );
  const body = texts.map((cells, r) =>
    line(cells, (i, text) => {
      const cell = rows[r]?.[i];
      return typeof cell === "object" && cell.style !== undefined ? io.style(cell.style, text) : text;
    }),
  );
  return [head, ...body].map((text) => `${text}\n`);
}

/** facts lays out names and values, one pair per line. Empty values are left out. */
export function facts(io: Pick<Io, "columns" | "style">, pairs: readonly (readonly [string, Cell])[]): string {
  const shown = pairs.filter(([, cell]) => textOf(cell) !== "");
  const width = shown.reduce((most, [name]) => Math.max(most, displayWidth(name)), 0);
  return shown
    .map(([name, cell]) => {
      const text = textOf(cell);
      const styled = typeof cell === "object" && cell.style !== undefined ? io.style(cell.style, text) : text;
      return `${io.style("bold", name)}${" ".repeat(width - displayWidth(name))}${GAP}${styled}\n`;
    })
    .join("");
}
