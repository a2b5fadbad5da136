import { existsSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";
import { REASONS } from "#kernel/error.ts";
import { filesUnder, ROOT, read } from "./files.ts";

/** PAGES are the pages for people. */
const PAGES = [
  "README.md",
  "CONTRIBUTING.md",
  ...["docs", "cli", "certs", "clients", "helm", "tools"].flatMap((folder) => filesUnder(folder, (path) => path.endsWith(".md"))),
];

/** slugOf is what the address of a heading ends with, as Git forges write it. */
function slugOf(heading: string): string {
  return heading
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
}

/** slugsOf are the headings of a page; what stands in a block of code is none. */
function slugsOf(text: string): Set<string> {
  return new Set([...text.replace(/^```[\s\S]*?^```/gm, "").matchAll(/^#+ (.+)$/gm)].map(([, heading]) => slugOf(heading!)));
}

/** lostLinks are links of a page to a file or a heading that is not there. */
function lostLinks(path: string, text: string): string[] {
  const links = [...text.replace(/^```[\s\S]*?^```/gm, "").matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!);
  return links.flatMap((link) => {
    if (/^[a-z]+:/.test(link)) return [];
    const [file = "", heading] = link.split("#");
    const target = file === "" ? path : normalize(join(dirname(path), file));
    if (target !== path && !existsSync(join(ROOT, target))) return [`${path}: there is no ${link}`];
    if (heading === undefined || (target !== path && statSync(join(ROOT, target)).isDirectory())) return [];
    return slugsOf(target === path ? text : read(target)).has(heading) ? [] : [`${path}: ${target} has no heading #${heading}`];
  });
}

describe("pages", () => {
  test("link to files and headings that are there", () => {
    expect(PAGES.length).toBeGreaterThan(50);
    expect(PAGES.flatMap((path) => lostLinks(path, read(path)))).toEqual([]);
  });

  test("a link that leads nowhere is found", () => {
    const text = "# A page\n[a](#a-page) [b](#b) [c](GONE.md) [d](CLIENTS.md#python) [e](CLIENTS.md#cobol) [f](https://example.org/#x)\n";
    expect(lostLinks("docs/X.md", text)).toEqual([
      "docs/X.md: docs/X.md has no heading #b",
      "docs/X.md: there is no GONE.md",
      "docs/X.md: docs/CLIENTS.md has no heading #cobol",
    ]);
  });

  test("in docs are all reached from the README, itself or over one of them", () => {
    const linked = (path: string): string[] =>
      [...read(path).matchAll(/\]\(([^)#\s:]+)(?:#[^)]*)?\)/g)].map(([, link]) => normalize(join(dirname(path), link!)));
    const seen = new Set(["README.md"]);
    for (const path of seen) if (path.endsWith(".md") && existsSync(join(ROOT, path))) for (const next of linked(path)) seen.add(next);
    const pages = filesUnder("docs", (path) => path.endsWith(".md") && !path.startsWith("docs/adr/"));
    expect(pages.filter((path) => !seen.has(path))).toEqual([]);
  });
});

describe("docs/TROUBLESHOOTING.md", () => {
  const page = read("docs/TROUBLESHOOTING.md");
  const spans = [...page.matchAll(/`([^`\n]+)`/g)].map(([, span]) => span!);

  test("lists its symptoms, each with a section, and no other", () => {
    const listed = [...page.matchAll(/^- \[.*\]\(#([^)]+)\)$/gm)].map(([, slug]) => slug);
    expect(listed.length).toBeGreaterThan(10);
    expect([...page.matchAll(/^## (.+)$/gm)].map(([, heading]) => slugOf(heading!))).toEqual(listed);
  });

  test("S4-22 names reasons that there are, and quotes what programs say", () => {
    const reasons = spans.filter((span) => /^[A-Z]+(?:_[A-Z]+)+$/.test(span));
    expect(reasons.length).toBeGreaterThan(15);
    expect(reasons.filter((reason) => !(REASONS as readonly string[]).includes(reason))).toEqual([]);
    const said = ["no contexts file says where a hub is", "nothing listens at", "was written by newer software", "is already in use"];
    const texts = ["cli", "services", "clients", "bin"].flatMap((folder) =>
      filesUnder(folder, (path) => /\.ts$|^bin\//.test(path) && !path.endsWith(".spec.ts")),
    );
    const code = texts.map(read).join("\n");
    for (const sentence of [...said, "the packages of this checkout are not installed", "it needs Node 24 or newer"]) {
      expect([sentence, page.includes(sentence)]).toEqual([sentence, true]);
      expect([sentence, code.includes(sentence)]).toEqual([sentence, true]);
    }
  });
});

describe("docs/COMPARISON.md", () => {
  const page = read("docs/COMPARISON.md").replaceAll("\n", " ");
  const measured = read("docs/BENCHMARKS.md");

  /** ratioOf is the median of a row of the measurements. */
  const ratioOf = (row: string): number =>
    Number(new RegExp(`^\\| ${row.replace(/[/.]/g, "\\$&")} \\|[^|]*\\| ([\\d.]+) `, "m").exec(measured)?.[1]);

  test.each([
    [/state changes about ([\d.]+) times as many per second as numbers/, "numbers, against NATS messages of 64 B"],
    [/([\d.]+) times as opaque values/, "opaque values of 44 B, against NATS messages of 64 B"],
    [/commands about ([\d.]+) times as many with 16 in flight/, "16 in flight, against NATS request/reply"],
    [/([\d.]+) times with 64/, "64 in flight, against NATS request/reply"],
    [/([\d.]+) times with 256/, "256 in flight, against NATS request/reply"],
    [/about ([\d.]+) MiB with ten idle links/, "resident memory with 10 idle links, bundled"],
  ])("%s is what was measured, within a fifth", (words, row) => {
    const [, said] = words.exec(page) ?? [];
    const ratio = ratioOf(row);
    expect(ratio).toBeGreaterThan(0);
    expect(Math.abs(Number(said) / ratio - 1)).toBeLessThan(0.2);
  });
});
