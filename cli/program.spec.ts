import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { issueCommand } from "./pki/issue-command.ts";
import { buildProgram } from "./program.ts";
import { nearPath, shellWord, typedPath } from "./reach/near-path.ts";

/** helps gives the help of a command and of all below it, as a terminal of a width shows it. */
function helps(command: Command, width: number): string[] {
  let text = "";
  command.configureOutput({ ...command.configureOutput(), getOutHelpWidth: () => width, writeOut: (more) => (text += more) });
  command.outputHelp();
  return [text, ...command.commands.flatMap((child) => helps(child, width))];
}

describe("the help", () => {
  test.each([80, 60])("breaks no words at %d columns", (width) => {
    const all = helps(
      buildProgram(async () => undefined),
      width,
    );
    expect(all.length).toBeGreaterThan(30);
    const long = all.flatMap((text) => text.split("\n")).filter((line) => line.length > width && !line.startsWith("Usage: "));
    expect(long).toEqual([]);
  });
});

/** paths are the commands that can be given, as they are typed. */
function paths(command: Command, before: readonly string[] = []): string[] {
  return command.commands.flatMap((child) => {
    const path = [...before, child.name()];
    return child.commands.length === 0 ? [path.join(" ")] : paths(child, path);
  });
}

/** listed are the commands in the table of a page: `peer list, add` names two, and so does `peers enable\|disable <hub>`. */
function listed(page: string): string[] {
  const cells = [...page.matchAll(/^\| (`.*?`) +\| .*\|$/gm)].map(([, cell = ""]) => cell);
  return cells
    .flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, span = ""]) => span))
    .flatMap((span) => {
      const [first = "", ...others] = span
        .replace(/\[[^\]]*\]|<[^>]*>|--\w+ \w+/g, "")
        .split(/, |\\\|/)
        .map((part) => part.trim());
      const group = first.split(" ").slice(0, -1);
      return [first, ...others.map((word) => [...group, word].join(" "))];
    });
}

test("cli/README.md lists every command, and none that does not exist", () => {
  const page = readFileSync(join(import.meta.dirname, "README.md"), "utf8").split("\n## ")[0]!;
  const [known, named] = [paths(buildProgram(async () => undefined)), listed(page)];
  const takes = (path: string, command: string): boolean => path === command || path.startsWith(`${command} `);
  expect(known.length).toBeGreaterThan(50);
  expect(known.filter((command) => !named.some((path) => takes(path, command)))).toEqual([]);
  expect(named.filter((path) => !known.some((command) => takes(path, command) || takes(command, path)))).toEqual([]);
});

test("paths are written as they would be typed here", () => {
  expect([
    nearPath("/home/me/foedus", "/etc/foedus"),
    nearPath("/root", "/etc/foedus"),
    nearPath("/home/me", "/home/me"),
    nearPath("/home/me", "/home/me/my-hub/hub.json"),
    nearPath("/home/me/my-hub", "/home/me/partner/ca.pem"),
  ]).toEqual(["/etc/foedus", "/etc/foedus", ".", "my-hub/hub.json", "../partner/ca.pem"]);
});

describe("names in commands that are to be copied", () => {
  const words = (line: string): string[] =>
    execFileSync("bash", ["-c", `printf '%s\\0' ${line}`], { encoding: "utf8" })
      .split("\0")
      .slice(0, -1);

  test("are one word for a shell, whatever is in them, and plain names stay as they are", () => {
    const names = fc.sample(fc.string({ minLength: 1, unit: fc.constantFrom(..."ab/ '\"$`*?~!&;|<>()\\{}[]#\t") }), 200);
    expect(words(names.map(shellWord).join(" "))).toEqual(names);
    for (const plain of ["pki", "../my-hub/hub.json", "/etc/foedus/hub.json", "a=b:1,2@c%d+e_f"]) expect(shellWord(plain)).toBe(plain);
    expect(typedPath("/home/me", "/home/me/my hub/hub.json")).toBe("'my hub/hub.json'");
  });

  test("a command that issues a certificate again names its folder so", () => {
    expect(words(issueCommand("/x/node-lamp.pem", "my hub/pki", { force: true }))).toEqual([
      "foedus",
      "pki",
      "issue",
      "node",
      "lamp",
      "--force",
      "--dir",
      "my hub/pki",
    ]);
  });
});
