// What a test run comes to: how many tests passed, failed and were skipped, and what failed, in a line each.
import { relative } from "node:path";
import { stripVTControlCharacters } from "node:util";

interface Assertion {
  readonly status: string;
  readonly fullName: string;
  readonly failureMessages: readonly string[];
}

interface FileResult {
  /** Absolute path of the spec. */
  readonly name: string;
  /** "failed" also when only a hook of the file failed, or the file did not load. */
  readonly status: string;
  /** What befell the file itself; empty when a test failed, and also when a hook of a `describe` in it did. */
  readonly message: string;
  readonly assertionResults: readonly Assertion[];
}

/** Report is what of vitest's JSON report is read here. */
export interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly FileResult[];
}

/** Summary is a test run in a line, and why it failed if it did. */
export interface Summary {
  /** Failed tests, and broken files as one each; 0 only if vitest itself ended with 0. */
  readonly failed: number;
  /** `N passed, N failed, N skipped`. */
  readonly line: string;
  /** A line for each failure: the end of a log is often all that is kept. */
  readonly failures: readonly string[];
}

const failedTests = ({ assertionResults }: FileResult): readonly Assertion[] =>
  assertionResults.filter(({ status }) => status === "failed");

/**
 * isBroken tells whether something in a file failed that is no test: it did not load, or a hook threw. Below a `beforeAll` that throws,
 * vitest counts every test as skipped and none as failed.
 */
function isBroken(file: FileResult): boolean {
  return file.status === "failed" && (file.message !== "" || failedTests(file).length === 0);
}

/** brief is the start of a message on one line, without colours. */
function brief(message: string): string {
  return stripVTControlCharacters(message).replaceAll(/\s+/g, " ").slice(0, 300);
}

/** summarise counts a report of a run that ended with an exit code; files are named relative to `root`. */
export function summarise(report: Report, exitCode: number, root: string): Summary {
  const failures = report.testResults.flatMap((result) => {
    const file = relative(root, result.name);
    const own = result.message === "" ? "a hook in it failed (see above)" : brief(result.message);
    return [
      ...(isBroken(result) ? [`FAILED ${file}: ${own}`] : []),
      ...failedTests(result).map(({ fullName, failureMessages }) => `FAILED ${file}: ${fullName}: ${brief(failureMessages[0] ?? "")}`),
    ];
  });
  let failed = report.numFailedTests + report.testResults.filter(isBroken).length;
  // Errors that no test caught are in no file's result: only vitest's exit code tells of them.
  if (exitCode !== 0 && failed === 0) {
    failed = 1;
    failures.push(`FAILED the run: vitest ended with ${exitCode} though no test failed: an error that no test caught (see above)`);
  }
  return {
    failed,
    failures,
    line: `${report.numPassedTests} passed, ${failed} failed, ${report.numPendingTests + report.numTodoTests} skipped`,
  };
}
