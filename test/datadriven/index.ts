import { readFileSync } from "node:fs";
import { expect } from "vitest";

/** Step is one command of a transcript: its words, and `key=value` words apart. */
export interface Step {
  readonly words: readonly string[];
  readonly args: Readonly<Record<string, string>>;
  /** Lines between the command and its `----`, for what does not fit into one. */
  readonly body: readonly string[];
}

function parse(line: string, body: readonly string[]): Step {
  const words: string[] = [];
  const args: Record<string, string> = {};
  for (const word of line.split(/\s+/)) {
    const at = word.indexOf("=");
    if (at < 0) words.push(word);
    else args[word.slice(0, at)] = word.slice(at + 1);
  }
  return { words, args, body };
}

/**
 * checkTranscript runs the commands of a file and compares what they print with what stands there. The form is that of
 * etcd-io/raft's datadriven tests: lines of comment (`#`) are kept; a command is one line and the lines of its body, if it has any, then
 * `----`, then its output, up to an empty line. `vitest -u` writes the outputs; read the difference before you commit it.
 */
export async function checkTranscript(path: string, run: (step: Step) => string): Promise<number> {
  const rendered: string[] = [];
  const lines = readFileSync(path, "utf8").split("\n");
  let count = 0;
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] as string;
    if (line === "" || line.startsWith("#")) {
      if (line !== "" || rendered.at(-1) !== "") rendered.push(line);
      continue;
    }
    const end = endOf(lines, at);
    const mark = lines.slice(at, end).indexOf("----");
    const body = lines.slice(at + 1, mark < 0 ? end : at + mark);
    count++;
    const output = run(parse(line, body));
    rendered.push(line, ...body, "----", ...(output === "" ? [] : output.split("\n")), "");
    at = end - 1;
  }
  while (rendered.at(-1) === "") rendered.pop();
  await expect(`${rendered.join("\n")}\n`).toMatchFileSnapshot(path);
  return count;
}

/** endOf is where a command with its body and output ends: at the next empty line. */
function endOf(lines: readonly string[], start: number): number {
  const end = lines.indexOf("", start);
  return end < 0 ? lines.length : end;
}
