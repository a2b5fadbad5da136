// The live screen of `make up` on a terminal of 80x24: it leaves the terminal as it was, says how it ends, and is plain where that is wanted.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import { Running } from "../cli/fixture.ts";
import { ROOT, until } from "../support/federation.ts";
import { GivenUp } from "../support/until.ts";

/** What a terminal does with its other screen: go there, and come back. */
const [ENTER, LEAVE] = ["\u001b[?1049h", "\u001b[?1049l"];
const HOME = "\u001b[H";
let runs = 0;

/** played starts `make up` on a terminal, waits for `words` on it, presses ctrl-c, and gives all that was written. */
async function played(env: Readonly<Record<string, string>>, words: string): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "foedus-screen-"));
  // Ports below the ephemeral ones, apart from those of other specs.
  const port = 21_540 + (process.pid % 12) * 200 + 64 * runs++;
  const { PATH = "" } = process.env;
  const demo = { PATH, HOME: dir, FOEDUS_DEMO_DIR: dir, FOEDUS_DEMO_PORT: String(port), ...env };
  const command = `stty cols 80 rows 24; exec ${process.execPath} test/demo/up.ts`;
  const up = new Running(spawn("script", ["-qefc", command, "/dev/null"], { cwd: ROOT, env: demo, stdio: ["pipe", "pipe", "pipe"] }));
  try {
    const there = (): boolean => {
      if (up.child.exitCode !== null) throw new GivenUp(`it ended: ${up.out.slice(-1_000)}`);
      return stripVTControlCharacters(up.out).includes(words);
    };
    await until(`"${words}" on the terminal`, there, 150_000);
    up.child.stdin?.write("\u0003");
    const { code, out } = await up.done;
    expect([code, out.trimEnd().split("\n").at(-1)]).toEqual([0, "all hubs stopped"]);
    return out;
  } finally {
    execFileSync(process.execPath, ["test/demo/down.ts"], { cwd: ROOT, env: demo, timeout: 60_000 });
    up.child.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
}

describe("the live screen on a terminal", () => {
  test("is on the other screen, has something of everything in 24 lines, and leaves the terminal with what happened", async () => {
    const out = await played({ TERM: "xterm-256color" }, "step 2 of");
    const [before = "", shown = "", after = ""] = out.split(ENTER).flatMap((part) => part.split(LEAVE));
    expect(before).toContain("starting three hubs");
    const last = shown.split(HOME).at(-1) ?? "";
    // Pictures are written over each other, and none is longer than the terminal.
    expect(last.split("\n").length).toBeLessThanOrEqual(24);
    const plain = stripVTControlCharacters(last);
    for (const title of ["hubs", "links", "what happens", "try it in another terminal"]) expect(plain).toContain(`${title} ─`);
    expect(plain).toMatch(/step \d+ of \d+ · ctrl-c stops the hubs/);
    expect(shown).toContain("\u001b[1m");
    expect(shown).toContain("\u001b[?25l");
    expect(out).toContain("\u001b[?25h");
    expect(after).toMatch(/registered \(home[\s\S]*stopping the hubs…[\s\S]*all hubs stopped/);
  }, 240_000);

  test("has no colours with NO_COLOR", async () => {
    const out = await played({ TERM: "xterm-256color", NO_COLOR: "1" }, "· ctrl-c stops the hubs");
    expect(out).toContain(ENTER);
    expect(out.split("\u001b").filter((rest) => /^\[[0-9;]*m/.test(rest))).toEqual([]);
  }, 240_000);

  test("is lines of text with TERM=dumb", async () => {
    const out = await played({ TERM: "dumb" }, "OPERATIONAL (");
    expect(out).not.toContain("\u001b");
    expect(out).toMatch(/^ +\d+\.\d s {2}starting three hubs/m);
    expect(out).toMatch(/stopping the hubs…/);
  }, 240_000);
});
