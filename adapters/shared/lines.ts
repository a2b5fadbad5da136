import type { AdapterStatus } from "./port.ts";

/**
 * Line is what an adapter writes on its standard output, one JSON object a line, for the hub that runs it: how it fares, or something to be
 * logged.
 */
export type Line =
  | { readonly status: AdapterStatus }
  | { readonly level: "info" | "warn" | "error"; readonly message: string; readonly about?: string };

/** writeLine is a line as it is written. */
export function writeLine(line: Line): string {
  return `${JSON.stringify(line)}\n`;
}

/** AdapterTask is what a hub gives an adapter that it runs, as JSON on its standard input, which stays open as long as the hub runs. */
export interface AdapterTask {
  readonly hub: { readonly hub_id: string; readonly address: string; readonly ca: string };
  /** Relative paths of the configuration start here. */
  readonly folder: string;
  readonly config: unknown;
}
