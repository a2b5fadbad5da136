// Runs all tests and ends with one line that counts them: `N passed, N failed, N skipped`.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { stripVTControlCharacters } from "node:util";

interface Assertion {
  readonly status: string;
  readonly fullName: string;
  readonly failureMessages: readonly string[];
}

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly Assertion[];
  }[];
}

/** failures names what failed, in a line each: the end of a log is often all that is kept. */
function failures(report: Report): string[] {
  return report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(process.cwd(), name);
    if (status === "failed" && assertionResults.length === 0) return [`FAILED ${file}: ${brief(message)}`];
    return assertionResults
      .filter((assertion) => assertion.status === "failed")
      .map(({ fullName, failureMessages }) => `FAILED ${file}: ${fullName}: ${brief(failureMessages[0] ?? "")}`);
  });
}

/** brief is the start of a message on one line, without colours. */
function brief(message: string): string {
  return stripVTControlCharacters(message).replaceAll(/\s+/g, " ").slice(0, 300);
}

const folder = mkdtempSync(join(tmpdir(), "foedus-test-"));
const file = join(folder, "report.json");
const vitest = spawn("vitest", ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`, ...process.argv.slice(2)], {
  stdio: ["ignore", "inherit", "inherit"],
});
const code = await new Promise<number>((resolve) => vitest.on("close", (status) => resolve(status ?? 1)));

let failed = 1;
let line = "0 passed, 1 failed, 0 skipped";
let broken: string[] = [];
try {
  const report = JSON.parse(readFileSync(file, "utf8")) as Report;
  // A file that does not load has no failed test in it, yet nothing in it ran.
  const brokenFiles = report.testResults.filter((result) => result.status === "failed" && result.assertionResults.length === 0).length;
  failed = report.numFailedTests + brokenFiles;
  broken = failures(report);
  line = `${report.numPassedTests} passed, ${failed} failed, ${report.numPendingTests + report.numTodoTests} skipped`;
} catch (error) {
  process.stderr.write(`the test run left no report: ${error instanceof Error ? error.message : String(error)}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const failure of broken) process.stdout.write(`${failure}\n`);
process.stdout.write(`\n${line}\n`);
process.exit(failed > 0 ? 1 : code);
