import type { Io, Style } from "../io.ts";
import { clean } from "./format.ts";
import { cut, displayWidth, prose, wrap } from "./text.ts";

/** Cell is a text, or a text with a colour. Text is made safe to print (see `clean`). */
export type Cell = string | { readonly text: string; readonly style: Style | undefined };

/** Column of a table. */
export interface Column {
  readonly title: string;
  /** Numbers stand right. Default left. */
  readonly align?: "left" | "right";
  /** The column that is cut first when the terminal is too narrow. Default: it keeps its width, or goes below the row. */
  readonly flexible?: boolean;
  /** A flexible column is not cut below this width; what is then too much goes below the row. */
  readonly least?: number;
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
/** A terminal that is narrower than this is taken to be as wide: nothing can be read in less. */
const MIN_TERMINAL = 20;

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
    const candidates = [...columns.keys()].filter(
      (i) => columns[i]?.flexible === true && (widths[i] ?? 0) > (columns[i]?.least ?? MIN_FLEXIBLE_WIDTH),
    );
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

/** Layout says which columns stand in the rows, and which below them. */
interface Layout {
  readonly beside: readonly number[];
  /** Columns that there is no room for: "TITLE value" below each row that has one. */
  readonly folded: readonly number[];
  /** The column of sentences below the rows. */
  readonly prose: number | undefined;
}

function layoutOf(columns: readonly Column[], texts: readonly (readonly string[])[], terminal: number | undefined): Layout {
  const all = [...columns.keys()];
  if (terminal === undefined) return { beside: all, folded: [], prose: undefined };
  const prose = belowOf(columns, texts, terminal);
  const beside = all.filter((i) => i !== prose);
  const folded: number[] = [];
  // The first column says what a row is about; one without a title is a mark beside it.
  const kept = columns[0]?.title === "" ? 2 : 1;
  const needed = (): number => {
    const some = beside.map((i) => columns[i]!);
    const widths = widthsOf(
      some,
      texts.map((row) => beside.map((i) => row[i] ?? "")),
      terminal,
    );
    return widths.reduce((sum, width) => sum + width, GAP.length * (some.length - 1));
  };
  while (beside.length > kept && needed() > terminal) folded.unshift(beside.pop()!);
  return { beside, folded, prose };
}

/**
 * table lays rows out in aligned columns, one line each, without trailing spaces. Widths follow the terminal, if there is one, and no line is
 * longer: a column of sentences that it is too narrow for goes below the rows, and so do the last columns if there is no room for them.
 */
export function table(io: Pick<Io, "columns" | "style">, columns: readonly Column[], rows: readonly (readonly Cell[])[]): string {
  const terminal = io.columns === undefined ? undefined : Math.max(MIN_TERMINAL, io.columns);
  const { beside, folded, prose } = layoutOf(
    columns,
    rows.map((row) => row.map(textOf)),
    terminal,
  );
  const pick = <T>(from: readonly T[]): T[] => beside.map((i) => from[i]!);
  const [head = "", ...lines] = aligned(
    { columns: terminal, style: (style, text) => io.style(style, text) },
    pick(columns),
    rows.map(pick),
  );
  if (folded.length === 0 && prose === undefined) return [head, ...lines].join("");
  const width = Math.max(MIN_FLEXIBLE_WIDTH, (terminal ?? 0) - BELOW.length);
  const under = (row: readonly Cell[]): string => {
    const sentences = prose === undefined ? undefined : row[prose];
    const style = typeof sentences === "object" ? sentences.style : undefined;
    return [
      ...pairLines(io, columns, row, folded, width),
      ...wrap(textOf(sentences ?? ""), width)
        .filter((text) => text !== "")
        .map((text) => (style === undefined ? text : io.style(style, text))),
    ]
      .map((text) => `${BELOW}${text}\n`)
      .join("");
  };
  return head + lines.map((line, r) => line + under(rows[r] ?? [])).join("");
}

/** pairLines writes columns of a row as "TITLE value", several in a line. A column that says nothing is left out. */
function pairLines(
  io: Pick<Io, "style">,
  columns: readonly Column[],
  row: readonly Cell[],
  which: readonly number[],
  width: number,
): string[] {
  const lines: { text: string; used: number }[] = [];
  for (const i of which) {
    const cell = row[i] ?? "";
    const { title } = columns[i]!;
    const text = textOf(cell);
    if (text === "" || text === "-") continue;
    const used = displayWidth(title) + 1 + displayWidth(text);
    if (used > width) {
      lines.push(...wrap(`${title} ${text}`, width).map((line) => ({ text: line, used: width })));
      continue;
    }
    const styled = `${io.style("bold", title)} ${typeof cell === "object" && cell.style !== undefined ? io.style(cell.style, text) : text}`;
    const last = lines.at(-1);
    if (last === undefined || last.used + GAP.length + used > width) lines.push({ text: styled, used });
    else lines[lines.length - 1] = { text: `${last.text}${GAP}${styled}`, used: last.used + GAP.length + used };
  }
  return lines.map(({ text }) => text);
}

/** hard cuts the last column to what is left: there is nothing beside it any more that could give way. */
function hard(widths: readonly number[], terminal: number | undefined): readonly number[] {
  const excess = widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1)) - (terminal ?? Number.POSITIVE_INFINITY);
  return excess <= 0 ? widths : widths.map((width, i) => (i === widths.length - 1 ? Math.max(1, width - excess) : width));
}

/** aligned is the head and the rows of a table, each a line. */
function aligned(io: Pick<Io, "columns" | "style">, columns: readonly Column[], rows: readonly (readonly Cell[])[]): string[] {
  const texts = rows.map((row) => row.map(textOf));
  const widths = hard(widthsOf(columns, texts, io.columns), io.columns);
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

/** facts lays out names and values, one pair per line. Empty values are left out; a value that is too long goes on below itself. */
export function facts(io: Pick<Io, "columns" | "style">, pairs: readonly (readonly [string, Cell])[]): string {
  const shown = pairs.filter(([, cell]) => textOf(cell) !== "");
  const width = shown.reduce((most, [name]) => Math.max(most, displayWidth(name)), 0);
  const indent = " ".repeat(width + GAP.length);
  return shown
    .map(([name, cell]) => {
      const style = typeof cell === "object" ? cell.style : undefined;
      const lines = prose(textOf(cell), io.columns, indent.length).map((text) => (style === undefined ? text : io.style(style, text)));
      return `${io.style("bold", name)}${" ".repeat(width - displayWidth(name))}${GAP}${lines.join(`\n${indent}`)}\n`;
    })
    .join("");
}
