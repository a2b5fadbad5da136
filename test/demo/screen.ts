// The live screen: a pure function from what the hubs say to lines of text.
import { stripVTControlCharacters, styleText } from "node:util";
import { printable, printableOutput } from "#kernel/printable.ts";

/** LinkRow is one link as one hub sees it. */
export interface LinkRow {
  readonly from: string;
  readonly to: string;
  readonly state: string;
  readonly level: string;
  readonly share: string;
  readonly rttMs: number;
}

/** HubRow is one hub. */
export interface HubRow {
  readonly id: string;
  readonly address: string;
  /** "starting" until it answered once; "silent" when it does not, and what is shown is of a moment ago; then "down". */
  readonly health: "starting" | "up" | "silent" | "down";
  readonly own: number;
  /** Nodes that it sees of others, by hub, with freshness. */
  readonly seen: readonly { readonly hub: string; readonly nodes: number; readonly freshness: string; readonly ageMs: number }[];
  readonly updatesPerSecond: number;
  readonly rssMiB: number;
  readonly cpuPercent: number;
}

/** Model is everything that is shown. */
export interface Model {
  readonly hubs: readonly HubRow[];
  readonly links: readonly LinkRow[];
  /** Lines of the tour; like commands and events, oldest first. */
  readonly story: readonly string[];
  readonly commands: readonly { readonly age: string; readonly caller: string; readonly what: string; readonly refused: string }[];
  readonly events: readonly { readonly age: string; readonly hub: string; readonly severity: string; readonly text: string }[];
  /** What to type, the most useful first. */
  readonly hints: readonly string[];
  /** How far the tour is, and how it all ends: in the first line. */
  readonly status: string;
}

/** Without an answer for so long, what a hub said is no longer shown as it is now, ms; and then no longer at all. */
const SILENT_MS = 1_500;
const DOWN_MS = 4_000;
/** What a hub has of another one is confirmed several times a second; an age above this is worth a word, ms. */
const AGE_SHOWN_MS = 2_000;

/** asSeen is what may be said of a hub whose last answer is so old: nothing stale looks fresh, and one late answer is not a crash. */
export function asSeen(
  row: HubRow,
  links: readonly LinkRow[],
  silentMs: number,
): { readonly row: HubRow; readonly links: readonly LinkRow[] } {
  if (row.health === "starting" || silentMs < SILENT_MS) return { row, links };
  if (silentMs >= DOWN_MS) return { row: { ...row, health: "down" }, links: [] };
  return { row: { ...row, health: "silent" }, links: links.map((link) => ({ ...link, state: "NO ANSWER", rttMs: 0 })) };
}

type Style = Parameters<typeof styleText>[0];

const STATES: Readonly<Record<string, Style>> = {
  OPERATIONAL: "green",
  RECOVERING: "yellow",
  SYNCING: "yellow",
  CONNECTING: "yellow",
  DISCOVERING: "yellow",
};
const FRESH: Readonly<Record<string, Style>> = { FRESH: "green", STALE: "yellow", UNKNOWN: "red" };

const HEALTH: Readonly<Record<HubRow["health"], Style>> = { starting: "yellow", up: "green", silent: "yellow", down: "red" };
const HEALTH_WORDS: Readonly<Record<HubRow["health"], string>> = { starting: "starting", up: "", silent: "no answer", down: "down" };

const ESC = "\u001b";
/** A colour or weight; the capture keeps it in `split`. */
const SGR = new RegExp(`(${ESC}\\[[0-9;]*m)`);

/** width of a text on the screen. */
function width(text: string): number {
  return stripVTControlCharacters(text).length;
}

function pad(text: string, columns: number): string {
  return width(text) >= columns ? text : text + " ".repeat(columns - width(text));
}

/** cut shortens a line to the screen without breaking colours. */
function cut(line: string, columns: number): string {
  if (width(line) <= columns) return line;
  let shown = 0;
  let out = "";
  for (const part of line.split(SGR)) {
    if (part.startsWith(ESC)) out += part;
    else {
      out += part.slice(0, Math.max(0, columns - shown));
      shown += part.length;
    }
  }
  return out;
}

/** wrap breaks a line of plain text at spaces, the rest indented. */
function wrap(line: string, columns: number, indent: string): string[] {
  const lines: string[] = [];
  let rest = line;
  while (rest.length > columns) {
    const at = rest.lastIndexOf(" ", columns);
    if (at <= indent.length) break;
    lines.push(rest.slice(0, at));
    rest = `${indent}${rest.slice(at + 1)}`;
  }
  return [...lines, rest];
}

type Styler = (format: Style, text: string) => string;

/** From this width on, all that is known of a hub stands beside it. */
const WIDE = 110;
/** Below this height there is no air between sections, and a line has all links of a hub. */
const HIGH = 36;

function seenOf(hub: HubRow, style: Styler): string {
  const seen = hub.seen.map(({ hub: other, nodes, freshness, ageMs }) => {
    const old = ageMs >= AGE_SHOWN_MS;
    const word = old ? `${Math.round(ageMs / 1_000)} s old` : freshness.toLowerCase();
    return `${other} ${nodes} ${style(old && freshness === "FRESH" ? "yellow" : (FRESH[freshness] ?? "white"), word)}`;
  });
  return seen.length === 0 ? "nothing" : seen.join(", ");
}

function hubLines(model: Model, style: Styler, columns: number): string[] {
  const wide = columns >= WIDE;
  // What is left beside the other columns, of which a narrow screen has fewer.
  const sees = wide ? 42 : Math.max(12, columns - 40);
  const address = (text: string): string => (wide ? pad(text, 18) : "");
  const own = wide ? ["own nodes", 12] : ["own", 8];
  const head = `  ${pad("hub", 10)}${address("address")}${pad(own[0] as string, own[1] as number)}${pad("sees of others", sees)}${pad("updates/s", 11)}memory${wide ? "    cpu" : ""}`;
  const rows = model.hubs.map((hub) => {
    const color = HEALTH[hub.health];
    const name = `${style(color, "●")} ${pad(style("bold", hub.id), 10)}${address(hub.address)}`;
    if (hub.health !== "up") return `${name}${style(color, HEALTH_WORDS[hub.health])}`;
    const memory = `${hub.rssMiB.toFixed(0)} MiB`;
    const numbers = `${pad(String(Math.round(hub.updatesPerSecond)), 11)}${wide ? `${pad(memory, 10)}${hub.cpuPercent.toFixed(0)} %` : memory}`;
    return `${name}${pad(String(hub.own), own[1] as number)}${pad(cut(seenOf(hub, style), sees - 1), sees)}${numbers}`;
  });
  return [style("dim", head), ...rows];
}

function linkLines(model: Model, style: Styler): string[] {
  const head = style("dim", `  ${pad("link", 20)}${pad("state", 15)}${pad("trusts it", 12)}${pad("shows it", 12)}round trip`);
  const rows = model.links.map((link) => {
    const color = STATES[link.state] ?? "red";
    const shows = link.level === "MINIMAL" || link.share === "" ? "nothing" : link.share;
    const rtt = link.rttMs > 0 ? `${link.rttMs.toFixed(1)} ms` : "";
    return `${style(color, "●")} ${pad(`${link.from} → ${link.to}`, 20)}${pad(style(color, link.state), 15)}${pad(link.level.toLowerCase(), 12)}${pad(shows, 12)}${rtt}`;
  });
  return [head, ...rows];
}

/** shortLinks has all links of a hub in one line: what is not operational stands there in words. */
function shortLinks(model: Model, style: Styler): string[] {
  const from = [...new Set(model.links.map((link) => link.from))];
  return from.map((id) => {
    const links = model.links
      .filter((link) => link.from === id)
      .map(({ to, state, rttMs }) => {
        const color = STATES[state] ?? "red";
        const word = state === "OPERATIONAL" ? (rttMs > 0 ? ` ${rttMs.toFixed(1)} ms` : "") : ` ${style(color, state)}`;
        return `${style(color, "●")} ${to}${word}`;
      });
    return `  ${pad(id, 10)}→ ${links.join("   ")}`;
  });
}

/**
 * shareOut gives each of some lists its part of the lines that are left: one first, and then by turns, which come as often as a list weighs.
 * No list gets more than it has.
 */
export function shareOut(left: number, lists: readonly { readonly has: number; readonly weight: number }[]): number[] {
  const given = lists.map(() => 0);
  let rest = left;
  const take = (i: number): boolean => {
    if (rest === 0 || given[i]! >= lists[i]!.has) return false;
    given[i]!++;
    rest--;
    return true;
  };
  for (const i of lists.keys()) take(i);
  for (let took = true; took; ) {
    took = false;
    for (const [i, { weight }] of lists.entries()) for (let turn = 0; turn < weight; turn++) took = take(i) || took;
  }
  return given;
}

/** render draws the screen: lines of at most `columns` characters, at most `rows` of them. A low screen says less, a high one more. */
export function render(model: Model, columns: number, rows: number, color = true): string[] {
  return draw(model, columns, rows, color)
    .slice(0, rows)
    .map((line) => printableOutput(cut(line.replace(/[\n\t]/g, " "), columns)));
}

/** titleLine says what this is, how far it is, and how it ends. */
function titleLine({ status }: Model, style: Styler, columns: number): string {
  const [name, what] = [" FOEDUS ", "hubs of different owners, working as one"];
  const room = columns - name.length - 1;
  const said = what.length + 3 + status.length <= room ? `${what}${" ".repeat(room - what.length - status.length)}${status}` : status;
  return `${style(["bold", "inverse"], name)} ${style("dim", said)}`;
}

function draw(model: Model, columns: number, rows: number, color: boolean): string[] {
  const style: Styler = (format, text) => (color ? styleText(format, text, { validateStream: false }) : text);
  const title = (text: string): string =>
    `${style(["bold", "cyan"], text)} ${style("dim", "─".repeat(Math.max(0, columns - text.length - 1)))}`;
  const commands = model.commands.map(({ age, caller, what, refused }) => {
    const outcome = refused === "" ? style("green", "done") : style("yellow", printable(refused));
    return `  ${style("dim", pad(age, 8))}${pad(printable(caller), 9)}→ ${printable(what)}  ${outcome}`;
  });
  const events = model.events.map(({ age, hub, severity, text }) => {
    return `  ${style("dim", pad(age, 8))}${pad(hub, 9)}${severity === "INFO" ? printable(text) : style("yellow", printable(text))}`;
  });
  const high = rows >= HIGH;
  const fixed: readonly (readonly [string, readonly string[]])[] = [
    ["hubs", hubLines(model, style, columns)],
    ["links", high ? linkLines(model, style) : shortLinks(model, style)],
  ];
  const story = model.story.flatMap((line) => wrap(`  ${printable(line)}`, columns, "    "));
  const hints = model.hints.flatMap((hint) => wrap(`  ${hint}`, columns, "    "));
  const lists = [
    { title: "what happens", lines: story, weight: 3 },
    { title: "last commands", lines: commands, weight: 2 },
    { title: "last events", lines: events, weight: 2 },
    { title: "try it in another terminal", lines: hints, weight: high ? 4 : 1 },
  ];
  const gap = high ? 1 : 0;
  const used = 1 + [...fixed.map(([, lines]) => lines.length), ...lists.map(() => 0)].reduce((sum, lines) => sum + lines + 1 + gap, 0);
  const given = shareOut(
    Math.max(0, rows - used),
    lists.map(({ lines, weight }) => ({ has: lines.length, weight })),
  );
  const parts: readonly (readonly [string, readonly string[]])[] = [
    ...fixed,
    // The end of what happens, and the beginning of what to type.
    ...lists.map(({ title: name, lines }, i) => {
      const count = given[i]!;
      return [name, lines === hints ? lines.slice(0, count) : count === 0 ? [] : lines.slice(-count)] as const;
    }),
  ];
  const drawn = [titleLine(model, style, columns)];
  for (const [name, content] of parts) drawn.push(...(high ? [""] : []), title(name), ...content);
  return drawn;
}

const COLORS: Readonly<Record<string, string>> = { "31": "#f85149", "32": "#3fb950", "33": "#d29922", "36": "#39c5cf", "37": "#c9d1d9" };

/** toSvg draws lines with colours as a picture, for the README. */
export function toSvg(lines: readonly string[], columns: number): string {
  const [cw, ch, margin] = [8.4, 19, 16];
  const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const rows = lines.map((line, row) => {
    let [fill, weight, opacity, inverse, column] = ["#c9d1d9", "normal", 1, false, 0];
    const spans: string[] = [];
    for (const part of line.split(SGR)) {
      const code = SGR.exec(part)?.[1]?.slice(2, -1);
      if (code !== undefined) {
        if (code === "1") weight = "bold";
        else if (code === "2") opacity = 0.6;
        else if (code === "7") inverse = true;
        else if (code === "22") [weight, opacity] = ["normal", 1];
        else if (code === "27") inverse = false;
        else fill = COLORS[code] ?? "#c9d1d9";
        continue;
      }
      if (part === "") continue;
      const x = margin + column * cw;
      const y = margin + row * ch;
      if (inverse) spans.push(`<rect x="${x}" y="${y}" width="${part.length * cw}" height="${ch}" fill="#39c5cf"/>`);
      spans.push(
        `<text x="${x}" y="${y + 14}" fill="${inverse ? "#0d1117" : fill}" font-weight="${weight}" opacity="${opacity}" textLength="${part.length * cw}" xml:space="preserve">${escaped(part)}</text>`,
      );
      column += part.length;
    }
    return spans.join("");
  });
  const [w, h] = [columns * cw + 2 * margin, lines.length * ch + 2 * margin];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="14" role="img"><title>Three hubs, live: their links, nodes, commands and events</title><rect width="100%" height="100%" rx="8" fill="#0d1117"/>${rows.join("\n")}</svg>\n`;
}
