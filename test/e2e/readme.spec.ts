// Every command of the README is run here, as it stands there, in an empty folder.
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ROOT, until } from "../support/federation.ts";
import { OwnHubs } from "../support/own-hubs.ts";
import { EXPORT, page, type Started, sectionsOf } from "../support/pages.ts";

const README = page("README.md");
const SECTIONS = sectionsOf(README);
const TWO = SECTIONS.get("Two commands")!;
const FIVE = SECTIONS.get("Five minutes: two hubs of your own")!;
const DEVICE = SECTIONS.get("A device of your own")!;
const OTHERS = SECTIONS.get("A hub of somebody else")!;

/** What a reader reads, and the machine does, to the first command between two hubs of their own. */
const [WORDS_MOST, MACHINE_MS_MOST] = [1_000, 60_000];
/** A device of one's own takes no more lines. */
const LINES_MOST = 15;

describe("the README", () => {
  test("has commands in these sections and nowhere else, so that none is left out here", () => {
    const found = [...SECTIONS.values()].filter(({ commands }) => commands.length > 0).map(({ title }) => title);
    // test/chart/cluster.spec.ts runs those of the last one, against an API server.
    expect(found).toEqual([TWO.title, FIVE.title, DEVICE.title, "Deploy"]);
    expect([TWO, FIVE, DEVICE].map(({ commands }) => commands.length)).toEqual([2, 20, 3]);
  });

  test("names only files that exist", () => {
    const links = [...README.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1]!);
    expect(links.length).toBeGreaterThan(30);
    const missing = links.filter((link) => spawnSync("test", ["-e", join(ROOT, link)]).status !== 0);
    expect(missing).toEqual([]);
  });

  test("names only targets that `make` lists, and they run what is tested here", () => {
    const help = execFileSync("make", [], { cwd: ROOT, encoding: "utf8" });
    const named = [...README.matchAll(/(?:^|`)make ([a-z-]+)/gm)].map((match) => match[1]!);
    expect(named).toEqual(expect.arrayContaining(["up", "test", "down", "setup"]));
    expect(named.filter((target) => !help.includes(`  make ${target} `))).toEqual([]);
    const plan = (target: string): string => execFileSync("make", ["-n", target], { cwd: ROOT, encoding: "utf8" }).trim();
    expect([plan("up"), plan("down"), plan("test")].map((text) => text.split("\n").at(-1))).toEqual([
      "node test/demo/up.ts",
      "node test/demo/down.ts",
      "node test/run.ts",
    ]);
  });

  test(`reaches the first command between two hubs of one's own within ${WORDS_MOST} words`, () => {
    const [before = "", after] = README.split("foedus send home/lamp state ON");
    expect(after).toBeDefined();
    expect(before.split(/\s+/).length).toBeLessThanOrEqual(WORDS_MOST);
  });
});

describe("two hubs of one's own", () => {
  const hubs = new OwnHubs();
  afterAll(() => hubs.stop());

  /** Each terminal begins with the path and stays in the folder that it goes to; later the text names the one that it goes on in. */
  const [, first = [], second = [], third = [], fourth = []] = FIVE.commands
    .join("\n")
    .split(EXPORT)
    .map((text) => text.trim().split("\n"));
  const [init, cd, hub] = first as [string, string, string];
  const [initOther, cdOther, hubOther] = second as [string, string, string];
  const [cdAgain, invite] = third as [string, string];
  const [cdForAccept, given, accept, simulate, nodes, send, node, doctor] = fourth as [
    ...[string, string, string, string],
    ...[string, string, string, string],
  ];
  let lamp: Started;
  let begunAt: number;

  test("each terminal gets the path first and goes to its folder", () => {
    expect([first, second, third, fourth].map(({ length }) => length)).toEqual([3, 3, 2, 8]);
    expect([cd, cdAgain, cdOther, cdForAccept]).toEqual(["cd home", "cd home", "cd cabin", "cd cabin"]);
    expect(FIVE.commands[0]).toBe(EXPORT);
    for (const terminal of ["1", "2", "3", "4"]) expect(README).toContain(`**Terminal ${terminal}**`);
  });

  test("they become peers by an invite and a PIN", async () => {
    begunAt = systemClock.mono();
    hubs.init(init, "home");
    await hubs.begin(hub, "home").prints("on port");
    hubs.init(initOther, "cabin");
    await hubs.begin(hubOther, "cabin").prints("on port");
    const waiting = hubs.begin(invite, "home");
    await waiting.prints("waiting at");
    expect(given).toBe("INVITE='foedus-invite:...'");
    // README: or the whole line that it came in.
    const [whole = ""] = /foedus peer accept foedus-invite:\S+/.exec(waiting.text) ?? [];
    const [, pin = ""] = /^ {2}(\d{3} \d{3})$/m.exec(waiting.text) ?? [];
    const accepted = hubs.run(`${given.replace("foedus-invite:...", whole)}\n${accept}`, "cabin", `${pin}\n`);
    expect(accepted).toBe("home is a peer now (federation.json); the link is operational\n");
    expect(await waiting.ended).toBe(0);
    expect(waiting.text).toContain("cabin is a peer now (federation.json); the link is operational");
  }, 180_000);

  test(`a simulated lamp at one is switched from the other, within ${MACHINE_MS_MOST / 1_000} s of machine`, async () => {
    lamp = hubs.begin(simulate, "home");
    await lamp.prints("connected to home");
    await until("the lamp being shown to the cabin", () => hubs.run(nodes, "cabin").includes("home/lamp"));
    expect(hubs.run(send, "cabin")).toMatch(/^home\/lamp state: done in .*, value ON\n$/);
    const tookMs = systemClock.mono() - begunAt;
    await lamp.prints("state OFF -> ON  by cabin");
    expect(README).toContain("The lamp says `state OFF -> ON  by cabin`");
    await until("the state at the cabin", () => /state +string .* ON/.test(hubs.run(node, "cabin")));
    expect(hubs.run(doctor, "cabin")).toMatch(/^cabin \(hub\.json\): 0 errors/m);
    expect(tookMs).toBeLessThan(MACHINE_MS_MOST);
    process.stdout.write(`README: first command between two hubs of one's own after ${(tookMs / 1_000).toFixed(1)} s of machine\n`);
  }, 180_000);

  test("the lamp ends by ctrl-c, and a device of one's own takes its place: the program that the README shows", async () => {
    lamp.child.kill("SIGINT");
    expect(await lamp.ended).toBe(0);
    expect(lamp.text).toMatch(/home\/lamp ends: it answered 1 command in [^\n]+; home no longer has it\n$/);
    const [add, run, sendToIt] = DEVICE.commands as [string, string, string];
    hubs.run(add, "home");
    const file = join(hubs.in("home"), "desk-lamp.mjs");
    const program = readFileSync(file, "utf8");
    const [shown = ""] = DEVICE.blocks("js");
    const sdk = `${ROOT}/clients/typescript/index.ts`;
    expect(program.replaceAll(hubs.host, "127.0.0.1").replace(sdk, "../clients/typescript/index.ts")).toBe(shown);
    expect(shown.trim().split("\n").length).toBeLessThanOrEqual(LINES_MOST);
    const device = hubs.begin(run.replace("../node_modules", `${ROOT}/node_modules`), "home");
    await until("the lamp being there", () => hubs.run("foedus nodes -q", "cabin").includes("home/desk-lamp"), 40_000);
    await until("a command that is done", () => {
      try {
        return /done/.test(hubs.run(sendToIt, "cabin"));
      } catch {
        return false;
      }
    });
    await device.prints("ON, by cabin");
  }, 120_000);

  test("with the share of somebody else's hub only what the rules name is there, and may be commanded", async () => {
    const [member = ""] = OTHERS.blocks("json");
    hubs.edit("home", member);
    hubs.run("foedus peer add cabin --max-trust limited --share limited", "home");
    expect(hubs.run("foedus share test cabin --node desk-lamp -q", "home")).toBe("invoke\n");
    const other = hubs.begin("foedus device simulate hidden", "home");
    await other.prints("connected to home");
    await until("the rules in force", () => hubs.run("foedus nodes -q", "cabin") === "home/desk-lamp\n");
    expect(hubs.run("foedus send home/desk-lamp state OFF", "cabin")).toContain("done");
    expect(hubs.run("foedus share test cabin --node hidden -q", "home")).toBe("none\n");
  }, 90_000);

  test("it waits while the hub is away", async () => {
    const [shown = ""] = DEVICE.blocks("js");
    const file = join(hubs.in("home"), "lost.mjs");
    writeFileSync(file, shown.replace("../clients", `${ROOT}/clients`).replace("127.0.0.1:18800", "127.0.0.1:1"));
    const lost = hubs.begin(`'${ROOT}/node_modules/.bin/node' lost.mjs`, "home");
    await lost.prints("nothing listens at 127.0.0.1:1. Start the hub, or correct the address.");
    expect(lost.text).not.toMatch(/^ +at /m);
  }, 60_000);
});
