// docs/COORDINATION.md on four real hubs: every command is run by the hub in front of it, and prints what stands there.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runHere } from "../cli/here.ts";
import { Federation, ROOT, until } from "../support/federation.ts";

const PAGE = readFileSync(join(ROOT, "docs/COORDINATION.md"), "utf8");
const HUBS = ["home", "factory", "lab", "office"] as const;
/** Commands that do something each time; they are not tried again. `admit` is: what was asked elsewhere may still be on its way, and a refusal does nothing. */
const ONCE = /^foedus (federation (propose|value set)|resources (request|release)) /;
/** The row of an allocation, with its number, and a command that names one. */
const ROW = /^ *(\d+) +[\w-]+\/[\w-]+ /m;
const ALLOCATION = /^(foedus resources (?:renew|release) )(\d+)\b/;

/** Step is a command of the page, who gives it, and what it prints. */
interface Step {
  readonly hub: string;
  readonly command: string;
  readonly prints: string;
}

/** steps are the commands of the page, in its order. */
function steps(): Step[] {
  return [...PAGE.matchAll(/^```console\n([\s\S]*?)^```/gm)].flatMap(([, body = ""]) =>
    [...body.matchAll(/^(\w+)\$ (.*)\n((?:(?!\w+\$ ).*\n)*)/gm)].map(([, hub = "", command = "", prints = ""]) => ({
      hub,
      command,
      prints,
    })),
  );
}

/** patternOf is what a text of the page stands for: numbers and widths may be others, and `…` may be anything. */
function patternOf(prints: string): RegExp {
  const parts = prints
    .replace(/^…\n/gm, "⁂")
    .split(/(\d+|[ \t]+|…|⁂)/)
    .map((part) => {
      if (part === "⁂") return "[\\s\\S]*";
      if (part === "…") return "[^\\n]*?";
      if (/^\d/.test(part)) return "\\d+";
      return /^[ \t]/.test(part) ? "[ \\t]+" : part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
    });
  return new RegExp(`^${parts.join("")}$`);
}

let federation: Federation;

beforeAll(async () => {
  const others = (id: string) => HUBS.filter((hub) => hub !== id).map((hub) => ({ hub }));
  federation = await Federation.start({ hubs: HUBS.map((id) => ({ id, peers: others(id) })) });
  await federation.operational(60_000);
}, 120_000);

afterAll(() => federation?.stop());

/** say gives a command as the operator of a hub does. */
function say(hubId: string, command: string): ReturnType<typeof runHere> {
  const hub = federation.hub(hubId);
  const { ca, cert, key } = hub.pki("operator-admin");
  const env = { FOEDUS_ADDRESS: hub.address("coordination"), FOEDUS_CA: ca, FOEDUS_CERT: cert, FOEDUS_KEY: key };
  return runHere(command.split(" ").slice(1), { cwd: federation.hub("home").dir, env });
}

describe("docs/COORDINATION.md", () => {
  const all = steps();

  test("shows founding, joining, values, a ballot with its certificate, and leaving; all its commands are run", () => {
    const text = all.map(({ command }) => command).join("\n");
    for (const verb of ["found", "join", "admit", "value set", "propose", "vote", "ballot", "founding", "verify", "lead", "leave"])
      expect(text).toContain(`foedus federation ${verb}`);
    for (const verb of ["offer", "quota", "offers", "request", "renew", "allocations", "release", "requests", "audit", "withdraw"])
      expect(text).toMatch(new RegExp(`foedus resources ${verb}\\b`));
    expect(
      [...PAGE.matchAll(/^```(\w*)$/gm)].map(([, language]) => language).filter((language) => language !== "" && language !== "console"),
    ).toEqual([]);
    for (const { hub } of all) expect(HUBS).toContain(hub);
  });

  test("the hubs to try it with can be created as the page says, on ports of their own, and each has a context in its folder", async () => {
    const cwd = mkdtempSync(join(tmpdir(), "foedus-try-"));
    try {
      const commands = [...PAGE.matchAll(/^foedus (hub init .*)$/gm)].map(([, command = ""]) => command.split(" "));
      for (const command of commands) expect(await runHere(command, { cwd })).toMatchObject({ code: 0 });
      const ports = HUBS.map((hub) => JSON.parse(readFileSync(join(cwd, hub, "hub.json"), "utf8")).listen.port as number);
      expect(ports).toEqual([18_800, 18_820, 18_840, 18_860]);
      for (const hub of HUBS)
        expect(await runHere(["contexts", "list", "-q"], { cwd: join(cwd, hub) })).toMatchObject({ code: 0, out: `${hub}\n` });
    } finally {
      rmSync(cwd, { recursive: true, force: true });
    }
  });

  test("each command prints what stands below it", async () => {
    /** Ids of ballots and numbers of allocations on the page, and those of this run. */
    const ids = new Map<string, string>();
    const numbers = new Map<string, string>();
    const here = (text: string): string =>
      [...ids]
        .reduce((now, [page, real]) => now.replaceAll(page, real), text)
        .replace(ALLOCATION, (whole, verb, number) => (numbers.has(number) ? `${verb}${numbers.get(number)}` : whole));
    for (const { hub, command, prints } of all) {
      let last = "";
      const wanted = /ballot (\S+) is open/.exec(prints)?.[1];
      const matches = async (): Promise<boolean> => {
        const { out, err } = await say(hub, here(command));
        last = `${out}${err}`;
        const real = /ballot (\S+) is open/.exec(last)?.[1];
        if (wanted !== undefined && real !== undefined && !ids.has(wanted)) ids.set(wanted, real);
        const [row, realRow] = [ROW.exec(prints)?.[1], ROW.exec(last)?.[1]];
        if (row !== undefined && realRow !== undefined && !numbers.has(row)) numbers.set(row, realRow);
        if (patternOf(here(prints)).test(last)) return true;
        throw new Error(`${hub}$ ${here(command)}\n${last}\n\ninstead of\n${here(prints)}`);
      };
      if (ONCE.test(command)) await matches();
      else await until(command, matches, 15_000);
    }
  }, 120_000);
});

test("CO8 what is mistyped ends with a sentence that names what was meant, and nothing is waited for", async () => {
  const none = async () => (await say("office", "foedus federation status")).out.includes("this hub belongs to no federation");
  await until("office having left", none, 15_000);
  const wanted = [
    ["join stret --via home", 1, "foedus: home refused: it does not belong to federation stret, but to street; did you mean street?\n"],
    ["join street --via hmoe", 5, "foedus: there is no peer hmoe. Did you mean home?\n"],
    ["found road --with home --with factroy", 5, "foedus: there is no peer factroy. Did you mean factory?\n"],
  ] as const;
  for (const [command, code, err] of wanted) expect(await say("office", `foedus federation ${command}`)).toMatchObject({ code, err });
  expect(await none()).toBe(true);
}, 60_000);
