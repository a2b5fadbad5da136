import { printable } from "#kernel/printable.ts";
import type { Value } from "./types.ts";

/** shown is a text from elsewhere as the page shows it: what cannot be seen, or turns the direction, is written out. */
export function shown(text: string | undefined): string {
  return printable(text ?? "");
}

/** Longest value that a list shows. */
const SHORT = 60;

/** shortened cuts a text at so many characters. */
export function shortened(text: string, most = SHORT): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** valueText is a value as people read it. */
export function valueText(value: Value | undefined, unit?: string): string {
  if (value === undefined) return "–";
  const { boolValue, intValue, doubleValue, stringValue, bytesValue, jsonValue } = value;
  const text =
    boolValue ?? intValue ?? doubleValue ?? stringValue ?? jsonValue ?? (bytesValue === undefined ? undefined : `base64 ${bytesValue}`);
  if (text === undefined) return "–";
  return shown(unit === undefined || unit === "" ? String(text) : `${text} ${unit}`);
}

/** wordOf is the word of an enum in the schema: wordOf("LINK_STATE_", "LINK_STATE_SYNCING") is "syncing". */
export function wordOf(prefix: string, name: string | undefined, none = "unknown"): string {
  const word = (name ?? "").replace(prefix, "").replaceAll("_", " ").toLowerCase();
  return word === "" || word === "unspecified" ? none : word;
}

/** ageText is how long something took or ago it was. */
export function ageText(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  return ms < 86_400_000 ? `${Math.floor(ms / 3_600_000)} h` : `${Math.floor(ms / 86_400_000)} d`;
}

/** bytesText is a number of bytes. */
export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let left = bytes;
  for (; left >= 1_024 && at < units.length - 1; at++) left /= 1_024;
  return `${at === 0 ? Math.round(left) : left.toFixed(1)} ${units[at]}`;
}

/** timeText is an instant by the clock of whoever looks. */
export function timeText(wallMs: number): string {
  return new Date(wallMs).toLocaleTimeString();
}
