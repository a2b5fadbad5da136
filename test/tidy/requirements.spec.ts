import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { filesUnder, ROOT, read } from "./files.ts";

/** How many ids each source has. */
const COUNTS = { S0: 28, S1: 43, S2: 18, S3: 30, S4: 22, B0: 8, B2: 4, D: 22 } as const;

const ALL = Object.entries(COUNTS).flatMap(([source, count]) => Array.from({ length: count }, (_, i) => `${source}-${i + 1}`));

interface Shown {
  readonly file: string;
  readonly test: string;
}

interface Row {
  readonly id: string;
  readonly asks: string;
  readonly planned: boolean;
  readonly shown: readonly Shown[];
}

/** rowsOf reads the page: `| id | asks | planned, or files with test names | note |`. */
function rowsOf(page: string): Row[] {
  return [...page.matchAll(/^\| ((?:S\d|B\d|D)-\d+) \| ([^|]*) \| ([^|]*) \| [^|]* \|$/gm)].map(([, id = "", asks = "", cell = ""]) => ({
    id,
    asks,
    planned: cell === "planned",
    shown:
      cell === "planned"
        ? []
        : cell.split("<br>").map((part) => ({ file: /^`([^`]+)` /.exec(part)?.[1] ?? part, test: part.replace(/^`[^`]+` /, "") })),
  }));
}

/** namesIn finds the names of tests and describes as they stand in a file. */
function namesIn(text: string): Set<string> {
  return new Set([...text.matchAll(/(["'`])((?:\\.|(?!\1)[^\\\n])+)\1/g)].map((match) => match[2]!));
}

const ROWS = rowsOf(read("docs/REQUIREMENTS.md"));

describe("docs/REQUIREMENTS.md", () => {
  test("has every id once, in order, and says what each asks for", () => {
    expect(ROWS.map(({ id }) => id)).toEqual(ALL);
    expect(ROWS.filter(({ asks }) => asks.trim() === "")).toEqual([]);
  });

  test("every test that it names is there, under that name", () => {
    const texts = new Map<string, Set<string>>();
    const wrong = ROWS.flatMap(({ id, planned, shown }) => {
      if (!planned && shown.length === 0) return [`${id} names no test`];
      return shown.flatMap(({ file, test: name }) => {
        if (!file.endsWith(".spec.ts") || !existsSync(join(ROOT, file))) return [`${id}: there is no ${file}`];
        const names = texts.get(file) ?? namesIn(read(file));
        texts.set(file, names);
        return names.has(name) ? [] : [`${id}: ${file} has no test "${name}"`];
      });
    });
    expect(wrong).toEqual([]);
  });

  test("every requirement of the first design has a test", () => {
    expect(ROWS.filter(({ id, planned }) => id.startsWith("S0-") && planned).map(({ id }) => id)).toEqual([]);
  });

  test("every id that a test cites is on the page", () => {
    const specs = ["services", "clients", "adapters", "cli", "certs", "test"].flatMap((folder) =>
      filesUnder(folder, (path) => path.endsWith(".spec.ts")),
    );
    const known = new Set(ROWS.map(({ id }) => id));
    const cited = specs.flatMap((path) =>
      [...read(path).matchAll(/\b(?:test|describe)(?:\.\w+)?\((?:[^"`\n]*\)\()?\s*(["`])((?:\\.|(?!\1)[^\\])+)\1/g)].flatMap((match) =>
        [...match[2]!.matchAll(/\b(?:S[0-4]|B[02]|D)-\d+\b/g)].map((id) => ({ path, id: id[0] })),
      ),
    );
    expect(cited.length).toBeGreaterThan(100);
    expect(cited.filter(({ id }) => !known.has(id))).toEqual([]);
  });

  test("a page that lies is found", () => {
    const [row] = rowsOf("| S0-1 | a link | `test/e2e/gone.spec.ts` S0-1 no such test<br>`x.spec.ts` y | |\n".replace("| |", "|  |"));
    expect(row).toEqual({
      id: "S0-1",
      asks: "a link",
      planned: false,
      shown: [
        { file: "test/e2e/gone.spec.ts", test: "S0-1 no such test" },
        { file: "x.spec.ts", test: "y" },
      ],
    });
    expect(namesIn('test("S0-1 a \\"b\\" c", () => 1)').has('S0-1 a \\"b\\" c')).toBe(true);
  });
});
