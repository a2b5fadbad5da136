import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { buildProgram } from "./program.ts";
import { nearPath } from "./reach/near-path.ts";

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

test("paths are written as they would be typed here", () => {
  expect([
    nearPath("/home/me/foedus", "/etc/foedus"),
    nearPath("/root", "/etc/foedus"),
    nearPath("/home/me", "/home/me"),
    nearPath("/home/me", "/home/me/my-hub/hub.json"),
    nearPath("/home/me/my-hub", "/home/me/partner/ca.pem"),
  ]).toEqual(["/etc/foedus", "/etc/foedus", ".", "my-hub/hub.json", "../partner/ca.pem"]);
});
