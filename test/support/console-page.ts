// A real Chromium at the console of a real hub.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { CONSOLE_PORT } from "../../services/hub/services.ts";
import { start } from "../cli/fixture.ts";
import type { HubProcess } from "./federation.ts";
import { tool } from "./tools.ts";

/** CHROMIUM is where Debian's Chromium is, or why it is not there. */
export const CHROMIUM = tool("chromium");

/** withConsole has a hub serve its console at its own address from the next start on. */
export function withConsole(hub: HubProcess): void {
  const file = join(hub.dir, "hub.json");
  const config = JSON.parse(readFileSync(file, "utf8")) as object;
  writeFileSync(file, JSON.stringify({ ...config, console: { enabled: true, host: hub.host } }));
}

/** originOf is where a hub's console is. */
export function originOf(hub: HubProcess): string {
  return `https://${hub.host}:${CONSOLE_PORT}`;
}

/** foedusAt runs a command at a hub as one of its operators, and gives what it printed. */
export async function foedusAt(hub: HubProcess, who: "admin" | "viewer", ...args: readonly string[]): Promise<string> {
  const { ca, cert, key } = hub.pki(`operator-${who}`);
  const flags = ["--address", hub.address("discovery"), "--ca", ca, "--cert", cert, "--key", key];
  const { code, out, err } = await start([...args, ...flags], { cwd: hub.dir }).done;
  if (code !== 0) throw new Error(`foedus ${args.join(" ")}: ${err}`);
  return out.trim();
}

/** linkOf has an operator print a link. */
export function linkOf(hub: HubProcess, who: "admin" | "viewer"): Promise<string> {
  return foedusAt(hub, who, "console");
}

/** launch starts a Chromium. As root it has no sandbox of its own; it sees nothing but the hubs of the test. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: CHROMIUM.path ?? "",
    args: [...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), "--disable-dev-shm-usage", "--disable-gpu"],
  });
}

/** Visit is a browser with cookies of its own, and all that a page of it complained of or asked for. */
export interface Visit {
  readonly context: BrowserContext;
  readonly page: Page;
  /** What was written to its console as an error, thrown, or asked in a dialog. */
  readonly complaints: string[];
  /** Addresses that it asked for. */
  readonly asked: string[];
}

/** visit opens an empty page. Certificates of tests are of no authority that a browser knows. */
export async function visit(browser: Browser, dark = false): Promise<Visit> {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    colorScheme: dark ? "dark" : "light",
    viewport: { width: 1280, height: 800 },
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const [complaints, asked]: [string[], string[]] = [[], []];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => asked.push(request.url()));
  return { context, page, complaints, asked };
}
