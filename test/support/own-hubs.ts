// Hubs that a page has its reader make, in an empty folder: at addresses of this run, so that the page's ports are free.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SERVICES } from "./federation.ts";
import { replaced, Started, typed } from "./pages.ts";
import { allOf, endProcess } from "./processes.ts";

let stages = 0;

/** OwnHubs is the folder in which they are made, and what runs there. */
export class OwnHubs {
  readonly dir = mkdtempSync(join(tmpdir(), "foedus-own-"));
  /** In place of 127.0.0.1: loopback addresses that no other spec has. */
  readonly host = `127.${1 + (process.pid % 250)}.${1 + (Math.floor(process.pid / 250) % 250)}.${201 + (stages++ % 50)}`;
  readonly env: NodeJS.ProcessEnv;
  readonly #started: Started[] = [];

  constructor() {
    const everyService = SERVICES.map((name) => [`FOEDUS_SERVICES_${name.replaceAll("-", "_").toUpperCase()}_HOST`, this.host]);
    this.env = { ...process.env, ...Object.fromEntries(everyService), FOEDUS_OPS_HOST: this.host };
  }

  /** in is a folder of these. */
  in(folder: string): string {
    return join(this.dir, folder);
  }

  /** run types a line in a folder, and gives what it prints to stdout. */
  run(line: string, folder = ".", input?: string): string {
    const options = { cwd: this.in(folder), env: this.env, encoding: "utf8", timeout: 100_000, stdio: "pipe" } as const;
    return execFileSync("bash", typed(line), input === undefined ? options : { ...options, input });
  }

  /** init types the line that makes a hub, whose files then say our address of this machine. */
  init(line: string, folder: string): void {
    this.run(line);
    for (const file of ["hub.json", ".foedus/contexts.json"].map((name) => join(this.in(folder), name)))
      writeFileSync(file, readFileSync(file, "utf8").replaceAll("127.0.0.1", this.host));
  }

  /** begin types a line that stays. */
  begin(line: string, folder: string): Started {
    const started = new Started("bash", typed(replaced(line)), { cwd: this.in(folder), env: this.env });
    this.#started.push(started);
    return started;
  }

  /** edit adds a member to the configuration of a hub, and gives what takes it out again. */
  edit(folder: string, member: string): () => void {
    const file = join(this.in(folder), "hub.json");
    const before = readFileSync(file, "utf8");
    writeFileSync(file, before.replace("{", `{ ${member},`));
    return () => writeFileSync(file, before);
  }

  /** stop ends what still runs, and removes the folder. */
  async stop(): Promise<void> {
    await allOf(this.#started.map(({ child }, i) => endProcess(child, `command ${i}`, "SIGTERM")));
    rmSync(this.dir, { recursive: true, force: true });
  }
}
