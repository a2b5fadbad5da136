import { expect, test } from "vitest";
import { read, sources } from "./files.ts";

const VERBS =
  "is|are|has|have|serves|makes|make|says|say|tells|tell|adds|takes|take|keeps|keep|holds|hold|gives|give|reads|writes|runs|counts|shows|decides|deals|puts|sends|waits";
const DECLARATION =
  /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n[ \t]*(?:export )?(?:default )?(?:abstract |async |declare )*(?:function\*?|class|interface|type|const|let)\s+(\w+)/g;

/**
 * misnamed lists docstrings that begin with the name of another symbol: a word in camel case, or a part of the symbol's own name, that is the
 * subject of the sentence. A docstring may also begin with a sentence of its own.
 */
function misnamed(text: string): string[] {
  return [...text.matchAll(DECLARATION)].flatMap(([, comment = "", name = ""]) => {
    const doc = comment.replace(/^\s*\*/gm, "").trim();
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
