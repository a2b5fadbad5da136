import type { Effect, Note } from "../messages.ts";

/** report makes an event of something that operators are to know of a hub. */
export function report(
  out: Effect[],
  hubId: string,
  event: NonNullable<Note["event"]>,
  severity: NonNullable<Note["severity"]>,
  text: string,
  fields: Readonly<Record<string, string>> = {},
): void {
  out.push({ kind: "observe", what: "event", peer: hubId, event, severity, text, fields });
}
