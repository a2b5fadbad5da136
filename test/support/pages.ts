// Pages whose commands are run as they stand there: taking a page apart, and running a line as a reader's shell would.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./federation.ts";
import { GivenUp, until } from "./until.ts";

/** EXPORT puts the command on the path, in the project's folder: the first line in each terminal. */
export const EXPORT = 'export PATH="$PWD/bin:$PATH"';

/** Section is a chapter of a page: the commands of its sh blocks, continued lines joined and comments left out, and its other blocks. */
export interface Section {
  readonly title: string;
  readonly commands: readonly string[];
  blocks(language: string): readonly string[];
}

/** page reads a page of the project. */
export function page(name: string): string {
  return readFileSync(join(ROOT, name), "utf8");
}

function sectionOf(title: string, text: string): Section {
  const blocks = (language: string): string[] =>
    [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm"))].map(([, body]) => body!);
  const lines = blocks("sh")
    .flatMap((body) => body.replaceAll("\\\n", " ").split("\n"))
    .map((line) => line.replace(/\s+# .*$/, "").trim());
  return { title, commands: lines.filter((line) => line !== ""), blocks };
}

/** sectionsOf takes a page apart, by the titles of its sections; what stands before the first has the title "". */
export function sectionsOf(text: string): ReadonlyMap<string, Section> {
  const [before = "", ...parts] = text.split(/^## /m);
  const found = parts.map((part) => sectionOf(part.slice(0, part.indexOf("\n")), part));
  return new Map([sectionOf("", before), ...found].map((section) => [section.title, section]));
}

/** typed runs a line as a person's shell would after EXPORT, which was typed in the project's folder: arguments of bash. */
export function typed(line: string): string[] {
  return ["-c", `cd '${ROOT}'\n${EXPORT}\ncd "$OLDPWD"\n${line}`];
}

/** replaced is a line whose command takes the place of the shell: a signal would end the shell and not the command. */
export function replaced(line: string): string {
  return line.replace(/^foedus\b/, `exec '${ROOT}/bin/foedus'`);
}

/** Started is a command that runs, with its output so far. */
export class Started {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  text = "";
  /** True when it has ended and all that it printed is in `text`. */
  #closed = false;

  constructor(command: string, args: readonly string[], options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv }) {
    this.child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout!, this.child.stderr!])
      stream.setEncoding("utf8").on("data", (text: string) => (this.text += text));
    this.ended = new Promise((resolve) =>
      this.child.once("close", (code) => {
        this.#closed = true;
        resolve(code);
      }),
    );
  }

  async prints(words: string, timeoutMs = 30_000): Promise<void> {
    const here = (): boolean => {
      if (this.text.includes(words)) return true;
      if (this.#closed) throw new GivenUp(`it ended with ${this.child.exitCode ?? this.child.signalCode}`);
      return false;
    };
    await until(`"${words}" being printed`, here, timeoutMs).catch((error: unknown) => {
      throw new Error(`${String(error)}; it printed:\n${this.text.slice(-2_000)}`, { cause: error });
    });
  }
}
