import { expect, test } from "vitest";
import { citingFiles, problemsOf, seriesOf } from "./invariants.ts";

/** problemsIn tells what is wrong with made-up files. */
const problemsIn = (files: Readonly<Record<string, string>>): string[] => problemsOf(new Map(Object.entries(files)));

const JOURNAL = "/**\n * Journal keeps.\n *\n * JR1 one blob (PROTOCOL X1, D-3).\n *    It is trimmed.\n * JR2 in order (JR1).\n */";

test("invariants have numbers of their own, and what is cited is there", () => {
  const files = citingFiles();
  expect(files.size).toBeGreaterThan(1_000);
  const series = seriesOf(files);
  expect(series.length).toBeGreaterThan(50);
  expect(series.reduce((sum, { numbers }) => sum + numbers.length, 0)).toBeGreaterThan(220);
  expect(problemsOf(files)).toEqual([]);
});

test("each series knows its file, also where a README repeats it", () => {
  const files = {
    "services/a/journal.ts": JOURNAL,
    "services/a/README.md": "- JR1 one blob\n- JR2 in order\n- **AR1** a rule of its own, see JR2\n",
    "clients/python/kept.py": '    """Kept is open.\n\n    PK1 one stream.\n    """\n',
    "services/a/journal.spec.ts": 'test("JR2 S0-17 in order", () => {\n  // JR1 one of many, on V8.\n});',
  };
  expect(problemsIn(files)).toEqual([]);
  expect(seriesOf(new Map(Object.entries(files)))).toEqual([
    { prefix: "AR", file: "services/a/README.md", numbers: [1] },
    { prefix: "JR", file: "services/a/journal.ts", numbers: [1, 2] },
    { prefix: "PK", file: "clients/python/kept.py", numbers: [1] },
  ]);
});

test("a series of two files is found", () => {
  expect(problemsIn({ "a.ts": JOURNAL, "b.ts": "// JR1 another\n" })).toEqual(["JR is a series of a.ts and of b.ts"]);
  expect(problemsIn({ "x/a.ts": JOURNAL, "y/README.md": "- JR1 another\n" })).toEqual(["JR is a series of x/a.ts and of y/README.md"]);
});

test("a gap, a repetition and a single letter are found", () => {
  expect(problemsIn({ "a.ts": "/**\n * JR1 one\n * JR3 three\n */" })).toEqual(["a.ts: JR3 stands where JR2 should"]);
  expect(problemsIn({ "a.ts": "/**\n * JR1 one\n * JR1 again\n */" })).toEqual(["a.ts: JR1 stands where JR2 should"]);
  expect(problemsIn({ "a.ts": "/**\n * C1 one\n */" })).toEqual([
    "a.ts: C1: a series has two letters; one is a rule of docs/PROTOCOL.md",
    "a.ts: C1: write PROTOCOL C1, or the two letters of its series",
  ]);
});

test("a citation of what is not there is found, in comments, names of tests and pages", () => {
  expect(problemsIn({ "a.ts": JOURNAL, "b.ts": "/** trim drops blobs (JR3). */" })).toEqual(["b.ts: nothing defines JR3"]);
  expect(problemsIn({ "a.ts": JOURNAL, "b.ts": "let x = 1; // as in QR1" })).toEqual(["b.ts: nothing defines QR1"]);
  expect(problemsIn({ "a.ts": JOURNAL, "b.spec.ts": 'test("JR4 JR2 trims", () => {});' })).toEqual(["b.spec.ts: nothing defines JR4"]);
  expect(problemsIn({ "a.ts": JOURNAL, "README.md": "It keeps JR1 to JR9." })).toEqual(["README.md: nothing defines JR9"]);
  expect(problemsIn({ "b.ts": "/** trim drops (X1, as PROTOCOL S3, S4 and F12 say). */" })).toEqual([
    "b.ts: X1: write PROTOCOL X1, or the two letters of its series",
  ]);
  expect(problemsIn({ "b.spec.ts": 'test("F-8 PROTOCOL O14 is bounded", f);\ntest.each([1])(\n  "D-3 X7 goes",\n  f,\n);' })).toEqual([
    "b.spec.ts: X7 in the name of a test: write PROTOCOL X7 if it is that rule",
  ]);
});
