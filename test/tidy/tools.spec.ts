// Programs of other people: what a test asks for is got by `make tools`, and nothing is got that no test asks for.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT, read, sources } from "./files.ts";

const folders = readdirSync(join(ROOT, "tools")).filter((name) => existsSync(join(ROOT, "tools", name, "go.mod")));
const { unpack, install } = JSON.parse(read("tools/debian.json")) as {
  readonly unpack: Readonly<Record<string, { readonly programs: readonly string[] }>>;
  readonly install: Readonly<Record<string, string>>;
};
const unpacked = Object.values(unpack).flatMap(({ programs }) => programs);
const wheels = [...read("tools/wheels.txt").matchAll(/^# program=(\S+):/gm)].map(([, name]) => name!);

/** Asked for by name in tests; the spec of `tool` itself asks for what is everywhere and for what is nowhere. */
const asked = new Set(
  sources()
    .filter((path) => path !== "test/support/tools.spec.ts")
    .flatMap((path) => [...read(path).matchAll(/\btool\("([\w.-]+)"\)/g)].map(([, name]) => name!)),
);

describe("programs of other people", () => {
  test("each that a test asks for is got by make tools", () => {
    const got = new Set([...folders, ...wheels, ...unpacked, ...Object.values(install), "foedus-python"]);
    expect(asked.size).toBeGreaterThan(15);
    expect([...asked].filter((name) => !got.has(name))).toEqual([]);
  });

  test("make packages gets by itself what the wheel needs, and nothing else", () => {
    const [, recipe] = /^packages:.*\n((?:\t.*\n)+)/m.exec(read("Makefile"))!;
    const install = recipe!.indexOf("node tools/install.ts foedus-python\n");
    expect(install).toBeGreaterThan(0);
    expect(recipe!.indexOf("tools/packages/python.sh")).toBeGreaterThan(install);
    const run = (...names: string[]) => spawnSync(process.execPath, [join(ROOT, "tools/install.ts"), ...names], { encoding: "utf8" });
    expect(run("helm")).toMatchObject({ status: 2, stdout: "", stderr: expect.stringContaining("only foedus-python") });
  });

  test("none is built, unpacked or taken from a wheel that no test asks for", () => {
    // What writes the schemas for kubeconform is run by make tools itself.
    const wanted = [...folders, ...wheels, ...unpacked].filter((name) => name !== "kube-schemas");
    expect(wanted.filter((name) => !asked.has(name))).toEqual([]);
  });

  test("the Go that is fetched where there is none, or an old one, is new enough for each module", () => {
    const parts = (version: string): number[] => version.split(".").map(Number);
    const [major, minor, patch] = parts(read("tools/go-version").trim()) as [number, number, number];
    expect(folders.length).toBeGreaterThan(5);
    for (const name of folders) {
      const [, least] = /^go (\d[\d.]*)$/m.exec(read(`tools/${name}/go.mod`))!;
      const [x, y, z = 0] = parts(least!) as [number, number, number?];
      expect(major * 1e6 + minor * 1e3 + patch, `tools/${name} asks for go ${least}`).toBeGreaterThanOrEqual(x * 1e6 + y * 1e3 + z);
    }
  });
});
