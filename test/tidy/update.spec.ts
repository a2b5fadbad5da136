// `make test-update` rewrites what specs expect and keep in files, and nothing that must stay as it was released.
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { ROOT, read, sources } from "./files.ts";

test("make test-update runs every spec with transcripts or goldens so that it rewrites them, and none with golden vectors", () => {
  const plan = execFileSync("make", ["-n", "test-update"], { cwd: ROOT, encoding: "utf8" });
  const recipe = plan.slice(plan.indexOf("FOEDUS_UPDATE_TRANSCRIPTS=1 vitest "));
  const said = execFileSync("bash", ["-euc", `vitest() { printf '%s\\n' "$@"; }\n${recipe}`], { cwd: ROOT, encoding: "utf8" });
  const [verb, update, ...files] = said.trim().split("\n");
  expect([verb, update]).toEqual(["run", "--update=all"]);

  const specs = sources().filter((path) => path.endsWith(".spec.ts") && path !== "test/tidy/update.spec.ts");
  const kept = specs.filter((path) => /\b(?:checkTranscript|toMatchFileSnapshot)\(|\bFOEDUS_UPDATE_TRANSCRIPTS\b/.test(read(path)));
  const vectors = kept.filter((path) => /toMatchFileSnapshot\("testdata\/vectors/.test(read(path)));
  expect(vectors).toEqual(["services/registry-sync/codec/segment-codec.spec.ts"]);
  expect(files.sort()).toEqual(kept.filter((path) => !vectors.includes(path)).sort());
});
