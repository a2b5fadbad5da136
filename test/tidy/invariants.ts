import { filesUnder, read } from "./files.ts";

/**
 * What the code promises stands as numbered lines in docstrings: ` * DR7 meanwhile steps go on …`, in READMEs as `- CI1 …`. Two letters are a
 * series, which belongs to one file; one letter is a rule of docs/PROTOCOL.md. Elsewhere comments, names of tests and pages cite the number.
 */
export interface Series {
  readonly prefix: string;
  readonly file: string;
  readonly numbers: readonly number[];
}

const PROTOCOL = "docs/PROTOCOL.md";
const IN_DOCSTRING = /^(?:[ \t]*\*|\/\/) ([A-Z]{1,3})(\d{1,2}) \S/gm;
const IN_PYTHON = /^ +([A-Z]{1,3})(\d{1,2}) \S/gm;
const IN_README = /^- (?:\*\*)?([A-Z]{1,3})(\d{1,2})(?:\*\*)? \S/gm;
/** A line of a comment, or a comment behind code. */
const COMMENT = /^[ \t]*(?:\/\*\*?|\*|\/\/).*$|[;,{}()[\]] \/\/ .*$/gm;
/** An id of a series. Those of requirements have a dash (`S0-17`), hashes and addresses other neighbours. */
const CITED = /(?<![\w:/#.+=-])([A-Z]{2})(\d{1,2})(?![\w-])/g;
const RULE = /(?<![\w:/#.+=-])[A-Z]\d{1,2}(?![\w-])/g;
/** What reads as a rule of the protocol in the name of a test. */
const RULE_LETTERS = /^[BCDEFHKNORSTVWX]\d{1,2}$/;
const PROTOCOL_CITED = /\bPROTOCOL(?:\.md)?,? (?:[A-Z]\d{1,2}(?:, | and | to )?)+/g;
/** Ids at the beginning of a test's name, up to the word PROTOCOL. */
const IN_NAME = /(?:\(|^[ \t]*)["'`]((?:[A-Z]{1,2}\d*(?:-\w+)? )+)/gm;
/** Names of engines that look like ids. */
const NAMES: ReadonlySet<string> = new Set(["V8", "RE2"]);

/** commentsIn gives the comments of a file, of which pages have nothing else. */
function commentsIn(file: string, text: string): string {
  return file.endsWith(".ts") ? (text.match(COMMENT) ?? []).join("\n") : text;
}

/** numbered lists the numbered lines of a file. A test cites at the beginning of its comments, and defines nothing. */
function numbered(file: string, text: string): readonly (readonly [string, number])[] {
  if (file.endsWith(".spec.ts")) return [];
  const line = file.endsWith(".py") ? IN_PYTHON : file.endsWith(".ts") ? IN_DOCSTRING : file.endsWith("README.md") ? IN_README : undefined;
  return line === undefined ? [] : [...text.matchAll(line)].map(([, prefix = "", number = ""]) => [prefix, Number(number)]);
}

/** seriesOf lists the series of some files. A README that repeats those of a file in its folder defines none. */
export function seriesOf(files: ReadonlyMap<string, string>): Series[] {
  const found: Series[] = [];
  for (const [file, text] of files)
    for (const [prefix, lines] of Map.groupBy(numbered(file, text), ([prefix]) => prefix))
      found.push({ prefix, file, numbers: lines.map(([, number]) => number) });
  const repeated = ({ prefix, file }: Series): boolean =>
    file.endsWith("README.md") &&
    found.some((other) => other.file !== file && other.prefix === prefix && other.file.startsWith(file.slice(0, -"README.md".length)));
  return found.filter((series) => !repeated(series)).sort((a, b) => (a.prefix < b.prefix ? -1 : 1));
}

/** misnumbered tells what is wrong with series: they have a letter too few, two places, gaps, or repetitions. */
function misnumbered(series: readonly Series[]): string[] {
  const problems: string[] = [];
  for (const [prefix, places] of Map.groupBy(series, ({ prefix }) => prefix)) {
    if (prefix.length !== 2) problems.push(`${places[0]?.file}: ${prefix}1: a series has two letters; one is a rule of ${PROTOCOL}`);
    if (places.length > 1) problems.push(`${prefix} is a series of ${places.map(({ file }) => file).join(" and of ")}`);
    for (const { file, numbers } of places) {
      const at = numbers.findIndex((number, index) => number !== index + 1);
      if (at >= 0) problems.push(`${file}: ${prefix}${numbers[at]} stands where ${prefix}${at + 1} should`);
    }
  }
  return problems;
}

/** miscited tells which numbers a file cites that nobody defines, and which rules of the protocol without saying whose they are. */
function miscited(file: string, text: string, known: ReadonlyMap<string, ReadonlySet<number>>): string[] {
  const comments = commentsIn(file, text);
  const series = (of: string, isKnown: boolean): string[] =>
    [...of.matchAll(CITED)]
      .filter(([id, prefix = "", number]) => !NAMES.has(id) && known.has(prefix) === isKnown && !known.get(prefix)?.has(Number(number)))
      .map(([id]) => `${file}: nothing defines ${id}`);
  const rules = /^docs\/(PROTOCOL|CONFORMANCE|REQUIREMENTS|SCENARIOS)\.md$/.test(file)
    ? []
    : (comments.replace(PROTOCOL_CITED, "").match(RULE) ?? [])
        .filter((id) => !NAMES.has(id))
        .map((id) => `${file}: ${id}: write PROTOCOL ${id}, or the two letters of its series`);
  const names = file.endsWith(".spec.ts") ? [...text.matchAll(IN_NAME)].flatMap(([, ids = ""]) => ids.trim().split(" ")) : [];
  const inNames = names
    .filter((id) => RULE_LETTERS.test(id) && !NAMES.has(id))
    .map((id) => `${file}: ${id} in the name of a test: write PROTOCOL ${id} if it is that rule`);
  return [...series(text, true), ...series(comments, false), ...rules, ...inNames];
}

/** problemsOf tells what is wrong with the invariants of some files and with the places that cite them. */
export function problemsOf(files: ReadonlyMap<string, string>): string[] {
  const series = seriesOf(files);
  const known = new Map<string, Set<number>>();
  for (const { prefix, numbers } of series) known.set(prefix, new Set([...(known.get(prefix) ?? []), ...numbers]));
  return [...misnumbered(series), ...[...files].flatMap(([file, text]) => miscited(file, text, known))];
}

/** citingFiles are the files that define invariants or may cite them, with their texts. */
export function citingFiles(): Map<string, string> {
  const paths = ["services", "cli", "clients", "adapters", "certs", "test", "docs", "proto"].flatMap((folder) =>
    filesUnder(
      folder,
      (path) =>
        /\.(ts|py|md|proto)$/.test(path) &&
        !path.startsWith("proto/gen/") &&
        !/^test\/tidy\/(invariants|protocol)/.test(path) &&
        path !== "docs/INVARIANTS.md",
    ),
  );
  return new Map(["README.md", "CONTRIBUTING.md", ...paths].map((path) => [path, read(path)] as const));
}

/** invariantsPage is docs/INVARIANTS.md. */
export function invariantsPage(): string {
  const rows = seriesOf(citingFiles()).map(({ prefix, file, numbers }) => {
    const last = `${prefix}${numbers.length}`;
    return `| ${numbers.length > 1 ? `${prefix}1 to ${last}` : last} | \`${file}\` |`;
  });
  return [
    "# Invariants",
    "",
    "Generated from the numbered lines in docstrings and READMEs by `make generate`; a test fails when this page lies.",
    "",
    "What a file promises has a number there, such as DR7. Comments and names of tests cite it where it is kept and where it is shown. Two letters",
    "are a series of one file; one letter is a rule of [PROTOCOL.md](PROTOCOL.md).",
    "",
    "| invariants | defined in |",
    "|---|---|",
    ...rows,
    "",
  ].join("\n");
}
