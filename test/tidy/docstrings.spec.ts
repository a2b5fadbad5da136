import { expect, test } from "vitest";
import { isTest, read, sources } from "./files.ts";

const VERBS =
  "is|are|has|have|serves|makes|make|says|say|tells|tell|adds|takes|take|keeps|keep|holds|hold|gives|give|reads|writes|runs|counts|shows|decides|deals|puts|sends|waits";
const DECLARATION =
  /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n[ \t]*(export )?(?:default )?(?:abstract |async |declare )*(?:function\*?|class|interface|type|const|let)\s+(\w+)/g;

interface Docstring {
  readonly name: string;
  readonly exported: boolean;
  readonly doc: string;
}

/** docstringsIn lists the declarations of a text that have a docstring. */
function docstringsIn(text: string): Docstring[] {
  return [...text.matchAll(DECLARATION)].map(([, comment = "", exported, name = ""]) => ({
    name,
    exported: exported !== undefined,
    doc: comment.replace(/^\s*\*/gm, "").trim(),
  }));
}

/** nameless lists exported declarations whose docstring does not begin with their name, in plain text. */
function nameless(docstrings: readonly Docstring[]): string[] {
  return docstrings
    .filter(({ name, exported, doc }) => exported && /^\w+/.exec(doc)?.[0] !== name)
    .map(({ name, doc }) => `${name}: ${doc.slice(0, 60)}`);
}

/**
 * misnamed lists docstrings that begin with the name of another symbol: a word in camel case, or a part of the symbol's own name, that is the
 * subject of the sentence. That of a declaration which is not exported may also begin with a sentence of its own.
 */
function misnamed(text: string): string[] {
  return docstringsIn(text).flatMap(({ name, doc }) => {
    const subject = new RegExp(`^(\\w+) (?:${VERBS})\\b`).exec(doc)?.[1];
    if (subject === undefined || subject === name) return [];
    const another = /[a-z0-9][A-Z]/.test(subject) || (/^[A-Z]/.test(subject) && name.includes(subject));
    return another ? [`${name}: ${doc.slice(0, 60)}`] : [];
  });
}

test("a docstring that begins with a symbol's name begins with its own", () => {
  const files = sources();
  expect(files.length).toBeGreaterThan(300);
  const found = files.flatMap((path) => misnamed(read(path)).map((problem) => `${path} ${problem}`));
  expect(found).toEqual([]);
});

test("a docstring of another symbol is found", () => {
  expect(misnamed("/** streamsAt counts streams. */\nconst noCalls = 1;")).toEqual(["noCalls: streamsAt counts streams."]);
  expect(misnamed("/** Handler serves callers. */\nexport class CommandHandler {")).toEqual(["CommandHandler: Handler serves callers."]);
  expect(misnamed("/** CommandHandler serves callers. */\nexport class CommandHandler {")).toEqual([]);
  expect(misnamed("/** Tokens are renewed at half of this. */\nconst LIFE_MS = 1;")).toEqual([]);
});

test("the docstring of an exported declaration begins with its name", () => {
  const files = sources().filter((path) => /^(services|cli|adapters|console|clients\/typescript)\//.test(path) && !isTest(path));
  const found = files.map((path) => ({ path, docstrings: docstringsIn(read(path)).filter(({ exported }) => exported) }));
  expect(found.reduce((sum, { docstrings }) => sum + docstrings.length, 0)).toBeGreaterThan(1_800);
  expect(found.flatMap(({ path, docstrings }) => nameless(docstrings).map((problem) => `${path} ${problem}`))).toEqual([]);
});

test("a docstring that begins with anything else is found", () => {
  const problems = (text: string): string[] => nameless(docstringsIn(text));
  expect(problems("/** The states of a run. */\nexport const RUN = {};")).toEqual(["RUN: The states of a run."]);
  expect(problems("/** A Journal keeps. */\nexport abstract class Journal {")).toEqual(["Journal: A Journal keeps."]);
  expect(problems("/** `keep` keeps. */\nexport async function keep() {")).toEqual(["keep: `keep` keeps."]);
  expect(problems("/** keeps all. */\nexport type keep = string;")).toEqual(["keep: keeps all."]);
  expect(problems("/**\n * keep keeps.\n */\nexport function keep() {")).toEqual([]);
  expect(problems("/** Kept for a while. */\nconst KEEP_MS = 1;")).toEqual([]);
});
