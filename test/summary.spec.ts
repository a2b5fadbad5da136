// The last line of a test run is what people and CI believe: nothing that failed may be missing from it.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Report, summarise } from "./summary.ts";

type FileResult = Report["testResults"][number];

const assertion = (status: string, fullName: string, ...failureMessages: string[]) => ({ status, fullName, failureMessages });
const file = (name: string, over: Partial<FileResult> = {}): FileResult => ({
  name: `/project/test/${name}.spec.ts`,
  status: "passed",
  message: "",
  assertionResults: [assertion("passed", "is good")],
  ...over,
});

/** report counts as vitest does: by the state of each test. */
function report(...testResults: FileResult[]): Report {
  const count = (wanted: string): number =>
    testResults.reduce((sum, { assertionResults }) => sum + assertionResults.filter(({ status }) => status === wanted).length, 0);
  return {
    numPassedTests: count("passed"),
    numFailedTests: count("failed"),
    numPendingTests: count("skipped"),
    numTodoTests: count("todo"),
    testResults,
  };
}

const skippedBy = (message: string): Partial<FileResult> => ({
  status: "failed",
  message,
  assertionResults: [assertion("skipped", "one"), assertion("skipped", "two")],
});

describe("the summary of a run", () => {
  test("counts what passed, failed and was skipped, and names what failed in a line", () => {
    const bad = {
      status: "failed",
      assertionResults: [assertion("failed", "is bad", "\u001B[31mexpected 1\n   to be 2\u001B[39m"), assertion("todo", "later")],
    };
    expect(summarise(report(file("a"), file("b", bad)), 1, "/project")).toEqual({
      failed: 1,
      line: "1 passed, 1 failed, 1 skipped",
      failures: ["FAILED test/b.spec.ts: is bad: expected 1 to be 2"],
    });
  });

  test("a run in which all is well has no failure", () => {
    expect(summarise(report(file("a")), 0, "/project")).toEqual({ failed: 0, line: "1 passed, 0 failed, 0 skipped", failures: [] });
  });

  test.each([
    [
      "a file that does not load",
      { status: "failed", message: "Cannot find module", assertionResults: [] },
      "1 passed, 1 failed, 0 skipped",
      "Cannot find module",
    ],
    ["a beforeAll that throws, whose tests vitest calls skipped", skippedBy("no hub"), "1 passed, 1 failed, 2 skipped", "no hub"],
    [
      "a beforeAll of a describe that throws: its message is in no report",
      skippedBy(""),
      "1 passed, 1 failed, 2 skipped",
      "a hook in it failed (see above)",
    ],
    [
      "an afterAll that throws after tests that passed",
      { status: "failed", message: "did not stop" },
      "2 passed, 1 failed, 0 skipped",
      "did not stop",
    ],
  ])("counts %s as one failure", (_, broken, line, why) => {
    const failures = [`FAILED test/b.spec.ts: ${why}`];
    expect(summarise(report(file("a"), file("b", broken)), 1, "/project")).toEqual({ failed: 1, line, failures });
  });

  test("a hook that throws in a file with a failed test is a failure of its own", () => {
    const both = { status: "failed", message: "did not stop", assertionResults: [assertion("failed", "is bad", "no")] };
    expect(summarise(report(file("b", both)), 1, "/project")).toEqual({
      failed: 2,
      line: "0 passed, 2 failed, 0 skipped",
      failures: ["FAILED test/b.spec.ts: did not stop", "FAILED test/b.spec.ts: is bad: no"],
    });
  });

  test("an error that no test caught is a failure: only the exit code tells of it", () => {
    const { failed, line, failures } = summarise(report(file("a")), 1, "/project");
    expect({ failed, line }).toEqual({ failed: 1, line: "1 passed, 1 failed, 0 skipped" });
    expect(failures).toEqual([expect.stringMatching(/^FAILED the run: vitest ended with 1 /)]);
  });
});

describe("the summary of a real run", () => {
  const HEAD = 'import { afterAll, beforeAll, describe, expect, test } from "vitest";\nconst good = () => expect(1).toBe(1);\n';
  const SPECS: Readonly<Record<string, string>> = {
    good: 'test("one", good); test.skip("two", good);',
    before: 'beforeAll(() => { throw new Error("no hub"); }); test("three", good); test("four", good);',
    nested: 'describe("in it", () => { beforeAll(() => { throw new Error("no hub"); }); test("five", good); }); test("six", good);',
    after: 'afterAll(() => { throw new Error("did not stop"); }); test("seven", good);',
    unloadable: 'import "./nowhere.ts"; test("eight", good);',
    bad: 'test("nine", () => expect(1).toBe(2));',
    uncaught: 'test("ten", () => { void Promise.reject(new Error("nobody caught it")); });',
  };

  /** run runs specs in a project of their own, and gives the lines that end the output. */
  function run(names: readonly string[]): { readonly code: number | null; readonly last: readonly string[] } {
    const root = mkdtempSync(join(tmpdir(), "foedus-summary-"));
    try {
      const modules = join(import.meta.dirname, "../node_modules");
      symlinkSync(modules, join(root, "node_modules"));
      writeFileSync(join(root, "vitest.config.ts"), 'export default { test: { include: ["*.spec.ts"], pool: "forks" } };\n');
      for (const name of names) writeFileSync(join(root, `${name}.spec.ts`), `${HEAD}${SPECS[name]}\n`);
      const env = { PATH: `${join(modules, ".bin")}${delimiter}${process.env["PATH"] ?? ""}` };
      const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, "run.ts")], { cwd: root, env, encoding: "utf8" });
      const lines = stdout.trimEnd().split("\n");
      return { code: status, last: [...lines.filter((line) => line.startsWith("FAILED ")).sort(), lines.at(-1)!] };
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  }

  test("has every broken file and every failed test in it", { timeout: 60_000 }, () => {
    expect(run(["good", "before", "nested", "after", "unloadable", "bad"])).toEqual({
      code: 1,
      last: [
        "FAILED after.spec.ts: did not stop",
        expect.stringMatching(/^FAILED bad\.spec\.ts: nine: AssertionError: expected 1 to be 2/),
        "FAILED before.spec.ts: no hub",
        "FAILED nested.spec.ts: a hook in it failed (see above)",
        expect.stringMatching(/^FAILED unloadable\.spec\.ts: Cannot find module/),
        "3 passed, 5 failed, 4 skipped",
      ],
    });
  });

  test("does not end with 0 failed after an error that no test caught", { timeout: 60_000 }, () => {
    expect(run(["good", "uncaught"])).toEqual({
      code: 1,
      last: [expect.stringContaining("an error that no test caught"), "2 passed, 1 failed, 1 skipped"],
    });
    expect(run(["good"])).toEqual({ code: 0, last: ["1 passed, 0 failed, 1 skipped"] });
  });
});
