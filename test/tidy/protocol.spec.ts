import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { filesUnder, ROOT, read } from "./files.ts";

const PAGE = read("docs/PROTOCOL.md");
/** Ids that stand in front of a rule. */
const RULE = /^- \*\*([A-Z])(\d+)\.\*\* /gm;
/** Citations outside of the page: `PROTOCOL S3`, also of several. */
const CITED = /\bPROTOCOL(?:\.md)? ((?:[A-Z]\d{1,2}(?:, | and | to )?)+)/g;
const ID = /\b[A-Z]\d{1,2}\b/g;

/** rulesOf lists the ids of a page, in its order. */
function rulesOf(page: string): string[] {
  return [...page.matchAll(RULE)].map(([, letter = "", number = ""]) => `${letter}${number}`);
}

/** problemsOf tells which ids are not the next of their letter, or of a letter that came before. */
function problemsOf(rules: readonly string[]): string[] {
  const problems: string[] = [];
  const seen = new Map<string, number>();
  let last = "";
  for (const id of rules) {
    const letter = id[0] as string;
    const next = (seen.get(letter) ?? 0) + 1;
    if (Number(id.slice(1)) !== next) problems.push(`${id} stands where ${letter}${next} should`);
    else if (letter !== last && next > 1) problems.push(`${id} stands apart from the rules before it`);
    seen.set(letter, next);
    last = letter;
  }
  return problems;
}

/** citedIn lists the ids of rules that a text cites. */
function citedIn(text: string): string[] {
  return [...text.matchAll(CITED)].flatMap(([, ids = ""]) => ids.match(ID) ?? []);
}

/** namesIn finds the names of tests as they stand in a file. */
function namesIn(text: string): Set<string> {
  return new Set([...text.matchAll(/(["'`])((?:\\.|(?!\1)[^\\\n])+)\1/g)].map((match) => match[2]!));
}

const RULES = rulesOf(PAGE);
/** NOT_YET are the rules without a test. A new rule comes with one. */
const NOT_YET: readonly string[] = [];

describe("docs/PROTOCOL.md", () => {
  test("numbers its rules: each id once, consecutive, the rules of a letter together", () => {
    expect(RULES.length).toBeGreaterThan(150);
    expect(problemsOf(RULES)).toEqual([]);
  });

  test("an id that is missing, double or out of place is found", () => {
    expect(problemsOf(["S1", "S3"])).toEqual(["S3 stands where S2 should"]);
    expect(problemsOf(["S1", "S1"])).toEqual(["S1 stands where S2 should"]);
    expect(problemsOf(["S1", "H1", "S2"])).toEqual(["S2 stands apart from the rules before it"]);
  });

  test("says what its letters stand for, and links sections that are there", () => {
    const letters = [...PAGE.matchAll(/\| ([A-Z]) \| \[/g)].map(([, letter]) => letter);
    expect(letters.sort()).toEqual([...new Set(RULES.map((id) => id[0]))].sort());
    const anchors = new Set(
      [...PAGE.matchAll(/^##+ (.+)$/gm)].map(([, title = ""]) =>
        title
          .toLowerCase()
          .replace(/[^a-z0-9 _-]/g, "")
          .replaceAll(" ", "-"),
      ),
    );
    const linked = [...PAGE.matchAll(/\]\(#([^)]+)\)/g)].map(([, anchor = ""]) => anchor);
    expect(linked.length).toBeGreaterThan(10);
    expect(linked.filter((anchor) => !anchors.has(anchor))).toEqual([]);
  });

  test("the rules that it refers to itself are there", () => {
    const prose = PAGE.replace(/```[\s\S]*?```/g, "").replace(/`[^`\n]*`/g, "");
    const letters = new Set(RULES.map((id) => id[0]));
    const referred = [...prose.matchAll(ID)].map(([id]) => id).filter((id) => letters.has(id[0]));
    expect(referred.length).toBeGreaterThan(RULES.length);
    expect(referred.filter((id) => !RULES.includes(id))).toEqual([]);
  });

  test("every rule is on the page of conformance, in order, with tests that are there under that name, or says that there is none yet", () => {
    const rows = [...read("docs/CONFORMANCE.md").matchAll(/^\| ([A-Z]\d+) \| (.+) \|$/gm)].map(([, id = "", cell = ""]) => ({ id, cell }));
    expect(rows.map(({ id }) => id)).toEqual(RULES);
    const texts = new Map<string, Set<string>>();
    const wrong = rows.flatMap(({ id, cell }) =>
      (cell === "not yet" ? [] : cell.split("<br>")).flatMap((part) => {
        const [, file = "", name = ""] = /^`([^`]+\.spec\.ts)` (.+)$/.exec(part) ?? [];
        if (file === "" || !existsSync(join(ROOT, file))) return [`${id}: there is no ${part}`];
        const names = texts.get(file) ?? namesIn(read(file));
        texts.set(file, names);
        return names.has(name) ? [] : [`${id}: ${file} has no test "${name}"`];
      }),
    );
    expect(wrong).toEqual([]);
    expect(rows.filter(({ cell }) => cell === "not yet").map(({ id }) => id)).toEqual(NOT_YET);
  });

  test("every rule that code, schema, tests and other pages cite is there", () => {
    const files = ["services", "cli", "certs", "clients", "adapters", "proto", "test", "docs"].flatMap((folder) =>
      filesUnder(
        folder,
        (path) => /\.(ts|py|proto|md)$/.test(path) && !path.startsWith("proto/gen/") && path !== "test/tidy/protocol.spec.ts",
      ),
    );
    const cited = files.flatMap((path) => citedIn(read(path)).map((id) => ({ path, id })));
    expect(cited.length).toBeGreaterThan(0);
    expect(cited.filter(({ id }) => !RULES.includes(id))).toEqual([]);
    expect(citedIn("as PROTOCOL S3, S4 and F12 say; PROTOCOL.md O1")).toEqual(["S3", "S4", "F12", "O1"]);
  });
});
