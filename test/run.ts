// Runs all tests and ends with one line that counts them: `N passed, N failed, N skipped`.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Report, type Summary, summarise } from "./summary.ts";

const folder = mkdtempSync(join(tmpdir(), "foedus-test-"));
const file = join(folder, "report.json");
const vitest = spawn("vitest", ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`, ...process.argv.slice(2)], {
  stdio: ["ignore", "inherit", "inherit"],
});
const code = await new Promise<number>((resolve) => vitest.on("close", (status) => resolve(status ?? 1)));

let summary: Summary = { failed: 1, line: "0 passed, 1 failed, 0 skipped", failures: [] };
try {
  summary = summarise(JSON.parse(readFileSync(file, "utf8")) as Report, code, process.cwd());
} catch (error) {
  process.stderr.write(`the test run left no report: ${error instanceof Error ? error.message : String(error)}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const failure of summary.failures) process.stdout.write(`${failure}\n`);
process.stdout.write(`\n${summary.line}\n`);
process.exit(summary.failed > 0 ? 1 : code);
