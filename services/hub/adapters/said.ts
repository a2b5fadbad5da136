import { printable } from "#kernel/printable.ts";

/** Characters of a line that are looked at, and those that wait for their end. */
const LINE_MAX = 16 * 1024;

/** Status is how an adapter says that it fares. */
export interface Status {
  readonly hub: boolean;
  readonly other: boolean;
  readonly nodes: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly problem: string;
}

/** Said is what an adapter wrote in a line. */
export type Said =
  | { readonly kind: "status"; readonly status: Status }
  | { readonly kind: "log"; readonly level: "info" | "warn" | "error"; readonly message: string; readonly about: string };

/** lines cuts what a program writes into lines. A line that is too long is cut, and so is one that does not end. */
export function lines(tell: (line: string) => void): (text: string) => void {
  let rest = "";
  return (text) => {
    const parts = `${rest}${text}`.split("\n");
    rest = (parts.pop() ?? "").slice(0, LINE_MAX);
    for (const line of parts) if (line !== "") tell(line.slice(0, LINE_MAX));
  };
}

const count = (value: unknown): number => (typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : 0);

const text = (value: unknown): string => (typeof value === "string" ? printable(value).slice(0, 1_000) : "");

/** said reads a line of an adapter: a program that has lost its mind says nothing that hurts. */
export function said(line: string): Said {
  let read: unknown;
  try {
    read = JSON.parse(line);
  } catch {
    read = undefined;
  }
  if (typeof read !== "object" || read === null) return { kind: "log", level: "warn", message: text(line), about: "" };
  const { status, level, message, about } = read as Readonly<Record<string, unknown>>;
  if (typeof status !== "object" || status === null) {
    const known = level === "info" || level === "error" ? level : "warn";
    return { kind: "log", level: known, message: text(message), about: text(about) };
  }
  const { hub, other, nodes, counts, problem } = status as Readonly<Record<string, unknown>>;
  const all = typeof counts === "object" && counts !== null ? Object.entries(counts).slice(0, 64) : [];
  return {
    kind: "status",
    status: {
      hub: hub === true,
      other: other === true,
      nodes: count(nodes),
      counts: Object.fromEntries(all.map(([name, value]) => [name.slice(0, 40), count(value)])),
      problem: text(problem),
    },
  };
}
