import type { DescEnum } from "@bufbuild/protobuf";
import type { GenEnum } from "@bufbuild/protobuf/codegenv2";
import type { Value } from "#gen/foedus/common/v1/value_pb.ts";
import { printable } from "#kernel/printable.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** clean makes text from elsewhere safe to print, on one line. */
export const clean = printable;

/** duration writes milliseconds in the largest unit that leaves at least one: "870 ms", "3 s", "12 min", "4 h", "9 d". */
export function duration(ms: number | bigint): string {
  const value = Math.abs(Number(ms));
  const sign = Number(ms) < 0 ? "-" : "";
  if (value < SECOND_MS) return `${sign}${value < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value)} ms`;
  if (value < MINUTE_MS) return `${sign}${Math.floor(value / SECOND_MS)} s`;
  if (value < HOUR_MS) return `${sign}${Math.floor(value / MINUTE_MS)} min`;
  if (value < DAY_MS) return `${sign}${Math.floor(value / HOUR_MS)} h`;
  return `${sign}${Math.floor(value / DAY_MS)} d`;
}

/** Ages above this are none: the hub gives its largest number for what was never confirmed. */
const NEVER_MS = 1_000 * 365 * DAY_MS;

/** ago writes an age: "now" below one second, else "3 s ago"; "never" for what did not happen. */
export function ago(ms: number | bigint): string {
  if (Number(ms) > NEVER_MS) return "never";
  return Number(ms) < SECOND_MS ? "now" : `${duration(ms)} ago`;
}

/** since writes how long ago an instant (Unix ms) was, or in how long it will be. */
export function since(wallMs: number | bigint, nowWallMs: number): string {
  const ms = nowWallMs - Number(wallMs);
  return ms <= -SECOND_MS ? `in ${duration(-ms)}` : ago(Math.max(0, ms));
}

/** clockTime writes an instant as hh:mm:ss of the local time zone. */
export function clockTime(wallMs: number): string {
  const date = new Date(wallMs);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** bytes writes a size: "512 B", "1.5 KiB", "3.2 MiB". */
export function bytes(size: number | bigint): string {
  let value = Number(size);
  if (value < 1024) return `${value} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let unit = -1;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** count writes "1 node", "2,500 nodes". */
export function count(n: number | bigint, noun: string): string {
  return `${n.toLocaleString("en-US")} ${noun}${Number(n) === 1 ? "" : "s"}`;
}

/** label names an enum value for people: LINK_STATE_OPERATIONAL is "operational". Unknown numbers are shown as they are. */
export function label(schema: DescEnum, value: number): string {
  const name = schema.value[value]?.name;
  if (name === undefined) return String(value);
  const prefix = `${schema.name.replace(/(?<=[a-z0-9])(?=[A-Z])/g, "_").toUpperCase()}_`;
  return (name.startsWith(prefix) ? name.slice(prefix.length) : name).toLowerCase().replaceAll("_", "-");
}

/** enumValue reads what `label` wrote; undefined for another text and for "unspecified". */
export function enumValue<T extends number>(schema: GenEnum<T>, text: string): T | undefined {
  const found = schema.values.find(({ number }) => number !== 0 && label(schema, number) === text.toLowerCase().replaceAll("_", "-"));
  return found?.number as T | undefined;
}

/** enumLabels lists what `enumValue` reads. */
export function enumLabels(schema: DescEnum): string[] {
  return schema.values.filter(({ number }) => number !== 0).map(({ number }) => label(schema, number));
}

/** Longest value in a table cell, in characters. */
const MAX_VALUE_CHARS = 200;

/** valueText writes a value on one line; a missing one is "-". */
export function valueText(value: Value | undefined, unit = ""): string {
  const text = bareValue(value);
  const short = text.length > MAX_VALUE_CHARS ? `${text.slice(0, MAX_VALUE_CHARS)}…` : text;
  return unit === "" || value?.kind.case === undefined ? short : `${short} ${unit}`;
}

function bareValue(value: Value | undefined): string {
  switch (value?.kind.case) {
    case "boolValue":
      return value.kind.value ? "true" : "false";
    case "intValue":
    case "doubleValue":
      return String(value.kind.value);
    case "stringValue":
    case "jsonValue":
      return value.kind.value;
    case "bytesValue":
      return `0x${Buffer.from(value.kind.value).toString("hex")}`;
    default:
      return "-";
  }
}

/** nodeText writes a node's name as people type it: "hub/node". */
export function nodeText(name: { readonly hubId: string; readonly nodeId: string } | undefined): string {
  return name === undefined ? "-" : `${name.hubId}/${name.nodeId}`;
}
