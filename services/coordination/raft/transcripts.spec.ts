import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { checkTranscript } from "../../../test/datadriven/index.ts";
import { RaftBench } from "../../../test/support/raft-bench.ts";

const TESTDATA = join(import.meta.dirname, "testdata");

test.each(readdirSync(TESTDATA).sort())("%s", async (name) => {
  const bench = new RaftBench();
  expect(await checkTranscript(join(TESTDATA, name), (step) => bench.run(step))).toBeGreaterThan(2);
});
