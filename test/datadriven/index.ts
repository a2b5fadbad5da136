import { readFileSync } from "node:fs";
import { expect } from "vitest";

/** Step is one command of a transcript: its words, and `key=value` words apart. */
export interface Step {
  readonly words: readonly string[];
  readonly args: Readonly<Record<string, string>>;
}

function parse(line: string): Step {
  const words: string[] = [];
  const args: Record<string, string> = {};
  for (const word of line.split(/\s+/)) {
    const at = word.indexOf("=");
    if (at < 0) words.push(word);
    else args[word.slice(0, at)] = word.slice(at + 1);
  }
  return { words, args };
}

/**
 * checkTranscript runs the commands of a file and compares what they print with what stands there. The form is that of
 * etcd-io/raft's datadriven tests: lines of comment (`#`) are kept; a command is one line, then `----`, then its output,
 * up to an empty line. `vitest -u` writes the outputs; read the difference before you commit it.
 */
export async function checkTranscript(path: string, run: (step: Step) => string): Promise<number> {
  const rendered: string[] = [];
  let skipping = false;
  let count = 0;
  for (const line of readFileSync(path, "utf8").split("\n")) {
    if (line === "") skipping = false;
    if (line === "----") skipping = true;
    if (skipping) continue;
    if (line === "" || line.startsWith("#")) {
      if (line !== "" || rendered.at(-1) !== "") rendered.push(line);
      continue;
    }
    count++;
    const output = run(parse(line));
    rendered.push(line, "----", ...(output === "" ? [] : output.split("\n")), "");
  }
  while (rendered.at(-1) === "") rendered.pop();
  await expect(`${rendered.join("\n")}\n`).toMatchFileSnapshot(path);
  return count;
}
