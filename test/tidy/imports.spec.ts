import { describe, expect, test } from "vitest";
import { SERVICES } from "../../services/hub/services.ts";
import { areaOf, type Import, importsOf, isTest, sources } from "./files.ts";

/** Files of a service that are pure: they may import the kernel and each other. All others of the service are its shell. */
const PURE_NAMES = ["core", "messages", "describe", "ports"];

/** allowed tells why a file may not import another one, or undefined. */
function allowed(item: Import): string | undefined {
  const from = areaOf(item.from);
  if (from === "test" || item.from.endsWith(".spec.ts")) return undefined;
  if (from === "tools") return undefined;
  if (item.area === "test" || item.area === "tools") return "nothing that ships imports test/ or tools/";
  switch (from) {
    case "gen":
      return undefined;
    case "kernel":
      return item.area === "kernel" ? undefined : "the kernel imports nothing outside itself";
    case "runtime": {
      if (["kernel", "runtime", "npm", "node"].includes(item.area)) return undefined;
      if (item.area === "gen" && !/proto\/gen\/foedus\/(?!common\/)/.test(item.target)) return undefined;
      return "the runtime knows the kernel, the common schema and packages, and no service";
    }
    case "hub":
      if (item.area.startsWith("service:") && !item.target.endsWith("/index.ts") && !item.target.endsWith("/config.ts"))
        return "the hub enters a service through its index.ts";
      if (item.area === "cli") return "the hub does not know the command line";
      return undefined;
    case "cli":
      if (item.area.startsWith("service:") && !/\/(index|client|config)\.ts$/.test(item.target))
        return "the command line uses a service's client, not its insides";
      return undefined;
    case "certs":
      // Files are read and placed in one way everywhere.
      if (item.target === "services/runtime/files.ts") return undefined;
      // A development hub has certificates for what a hub runs.
      if (item.from === "certs/dev.ts" && item.target === "services/hub/services.ts") return undefined;
      return ["certs", "npm", "node", "kernel"].includes(item.area) ? undefined : "the PKI stands alone";
    default: {
      if (item.area.startsWith("service:") && item.area !== from)
        return "services do not import each other: declare a port, the hub wires it";
      if (item.area === "hub" || item.area === "cli" || item.area === "certs") return "a service does not know what it is composed into";
      const name = item.from.split("/").at(-1)!.replace(/\.ts$/, "");
      if (PURE_NAMES.includes(name) && item.area !== "kernel" && item.area !== from)
        return "a core imports the kernel and its own pure files";
      return undefined;
    }
  }
}

describe("who may import whom", () => {
  const files = sources();
  const all = files.flatMap(importsOf);

  test("the check sees the whole house", () => {
    expect(files.length).toBeGreaterThan(100);
    expect(all.length).toBeGreaterThan(300);
    for (const service of SERVICES) expect(files).toContain(`services/${service}/core.ts`);
  });

  test("every import goes where the house allows it", () => {
    const wrong = all.flatMap((item) => {
      const rule = allowed(item);
      return rule === undefined ? [] : [`${item.from}:${item.line} imports ${item.target}: ${rule}`];
    });
    expect(wrong).toEqual([]);
  });

  test("what a core imports is pure to the last file", () => {
    const byFile = new Map<string, Import[]>();
    for (const item of all) byFile.set(item.from, [...(byFile.get(item.from) ?? []), item]);
    const wrong: string[] = [];
    for (const start of files.filter((path) => /^services\/[^/]+\/core\.ts$/.test(path) && !path.startsWith("services/kernel/"))) {
      const seen = new Set<string>();
      const visit = (path: string): void => {
        if (seen.has(path)) return;
        seen.add(path);
        for (const item of byFile.get(path) ?? []) {
          if (["npm", "node", "gen", "runtime", "hub", "cli", "certs", "test", "tools"].includes(item.area))
            wrong.push(`${path}:${item.line} imports ${item.target}, and ${start} reaches it: a core is pure`);
          else visit(item.target);
        }
      };
      visit(start);
    }
    expect(wrong).toEqual([]);
  });

  test("a broken rule is found", () => {
    expect(allowed({ from: "services/kernel/x.ts", line: 1, target: "node:fs", area: "node" })).toBeDefined();
    expect(
      allowed({ from: "services/telemetry/module.ts", line: 1, target: "services/discovery/core.ts", area: "service:discovery" }),
    ).toBeDefined();
    expect(
      allowed({ from: "services/runtime/x.ts", line: 1, target: "proto/gen/foedus/hub/v1alpha1/hub_service_pb.ts", area: "gen" }),
    ).toBeDefined();
    expect(isTest("services/kernel/x.spec.ts")).toBe(true);
  });
});
