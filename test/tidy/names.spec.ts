import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SERVICES as FOLDERS } from "../../services/hub/services.ts";
import { filesUnder, ROOT, read } from "./files.ts";
import { SERVICES } from "./schema.ts";

const snake = (kebab: string): string => kebab.replaceAll("-", "_");
const pascal = (kebab: string): string => kebab.replaceAll(/(^|-)(\w)/g, (_all, _dash, letter: string) => letter.toUpperCase());

/** Longest name of a service: the chart's objects are called by it, and their names become labels (helm/foedus/templates/_helpers.tpl). */
const NAME_MAX = "command-forwarding".length;

describe("one word per service, spelled by rule", () => {
  test("no name is too long for the chart", () => {
    expect(FOLDERS.filter((name) => name.length > NAME_MAX)).toEqual([]);
  });

  test.each(FOLDERS)("%s has the same name everywhere", (folder) => {
    const service = SERVICES.find((candidate) => candidate.typeName === `foedus.${snake(folder)}.v1alpha1.${pascal(folder)}Service`);
    expect(service).toBeDefined();
    expect(existsSync(join(ROOT, `proto/foedus/${snake(folder)}/v1alpha1/${snake(folder)}_service.proto`))).toBe(true);
    const metrics = filesUnder(`services/${folder}`, (path) => path.endsWith(".ts") && !path.endsWith(".spec.ts")).flatMap((path) =>
      [...read(path).matchAll(/name: "(foedus_\w+)"/g)].map((match) => match[1]!),
    );
    expect(metrics.length).toBeGreaterThan(0);
    expect(metrics.filter((name) => !name.startsWith(`foedus_${snake(folder)}_`))).toEqual([]);
  });

  test.each([...FOLDERS, "introduction"])("%s has the files that every service has, or its README says which do not apply", (folder) => {
    const here = (file: string): boolean => existsSync(join(ROOT, "services", folder, file));
    const readme = read(`services/${folder}/README.md`);
    const wanted = ["index.ts", "messages.ts", "ports.ts", "core.ts", "module.ts", "config.ts", "metrics.ts"];
    const missing = wanted.filter((file) => !here(file));
    expect(missing.filter((file) => !readme.includes(`\`${file}\``))).toEqual([]);
    // What is there is not said to be missing.
    expect(/\bno\s+`/.test(readme)).toBe(missing.length > 0);
    expect(filesUnder(`services/${folder}`, (path) => path.endsWith(".spec.ts")).length).toBeGreaterThan(0);
  });

  test.each(FOLDERS)("the README of %s names each of its rooms, and no other", (folder) => {
    const rooms = readdirSync(join(ROOT, "services", folder), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name !== "testdata")
      .map(({ name }) => name);
    const named = [...read(`services/${folder}/README.md`).matchAll(/^\|.*?`([a-z-]+)\/`.*?\|/gm)].map(([, name]) => name);
    expect(named.sort()).toEqual(rooms.sort());
  });

  test("files are in kebab case", () => {
    const odd = ["services", "clients", "adapters", "cli", "certs", "test"]
      .flatMap((folder) => filesUnder(folder, (path) => path.endsWith(".ts")))
      .filter((path) => !/^[a-z0-9-]+(\.[a-z0-9-]+)*\.ts$/.test(path.split("/").at(-1)!));
    expect(odd).toEqual([]);
  });
});
