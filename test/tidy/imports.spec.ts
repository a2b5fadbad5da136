import { describe, expect, test } from "vitest";
import { SERVICES } from "../../services/hub/services.ts";
import { areaOf, type Import, importsOf, isTest, sources } from "./files.ts";

/** Files of a service that are pure: they may import the kernel and each other. All others of the service are its shell. */
const PURE_NAMES = ["core", "messages", "describe", "ports"];

/** The packages that a program needs to call a hub. */
const CALL_PACKAGES = /^(?:@grpc\/grpc-js|@bufbuild\/protobuf)(?:\/|$)/;

/** Schema that belongs to no service. */
const COMMON_SCHEMA = /^proto\/gen\/(?!foedus\/(?!common\/))/;

/** How registry-sync and command-forwarding write and read what is on the wire, and the table that blocks are read into. */
const WIRE =
  /^services\/(?:registry-sync\/(?:codec|table)\/|command-forwarding\/codec\/|(?:registry-sync|command-forwarding)\/(?:messages|ports)\.ts$)/;

/** reach calls back with every import of what a file reaches, itself included. */
function reach(byFile: ReadonlyMap<string, readonly Import[]>, start: string, follow: (item: Import) => boolean): void {
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const item of byFile.get(path) ?? []) if (follow(item)) visit(item.target);
  };
  visit(start);
}

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
    case "channel": {
      if (["kernel", "channel", "node"].includes(item.area) || CALL_PACKAGES.test(item.target)) return undefined;
      if (item.area === "gen" && COMMON_SCHEMA.test(item.target)) return undefined;
      return "the channel is what both ends of a call need: the kernel, the common schema, grpc-js and protobuf";
    }
    case "sdk":
      if (["gen", "kernel", "channel", "sdk", "node"].includes(item.area) || CALL_PACKAGES.test(item.target)) return undefined;
      if (WIRE.test(item.target)) return undefined;
      return "the SDK knows the channel, the schema and how services write what is on the wire; it runs without a hub";
    case "runtime": {
      if (["kernel", "channel", "runtime", "npm", "node"].includes(item.area)) return undefined;
      if (item.area === "gen" && COMMON_SCHEMA.test(item.target)) return undefined;
      return "the runtime knows the kernel, the common schema and packages, and no service";
    }
    case "hub":
      if (item.area.startsWith("adapter:") && !item.target.endsWith("/config.ts"))
        return "the hub knows an adapter by its configuration, and runs it as a process of its own";
      if (item.area.startsWith("service:") && !item.target.endsWith("/index.ts") && !item.target.endsWith("/config.ts"))
        return "the hub enters a service through its index.ts";
      if (item.area === "cli") return "the hub does not know the command line";
      return undefined;
    case "cli":
      if (item.area.startsWith("service:") && !/\/(index|config)\.ts$/.test(item.target))
        return "the command line uses the SDK, not a service's insides";
      return undefined;
    case "certs":
      // Files are read and placed in one way everywhere.
      if (item.target === "services/runtime/files.ts") return undefined;
      // A development hub has certificates for what a hub runs.
      if (item.from === "certs/dev.ts" && item.target === "services/hub/services.ts") return undefined;
      return ["certs", "npm", "node", "kernel"].includes(item.area) ? undefined : "the PKI stands alone";
    case "console":
      // What builds the page runs in Node; the page itself has what a browser has.
      if (item.from === "console/build.ts")
        return ["console", "npm", "node"].includes(item.area) ? undefined : "it builds the page and nothing else";
      return ["console", "npm", "kernel"].includes(item.area)
        ? undefined
        : "the page knows its own files, the kernel, and packages for browsers";
    default: {
      if (from.startsWith("adapter:")) {
        if (item.target === "clients/typescript/index.ts" || item.target === "clients/typescript/schema.ts") return undefined;
        if (["kernel", "npm", "node", "adapter:shared", from].includes(item.area)) return undefined;
        return "an adapter stands on the SDK and its own libraries: it knows neither services nor other adapters";
      }
      if (item.area.startsWith("adapter:")) return "a service does not know what stands on the SDK";
      if (item.area.startsWith("service:") && item.area !== from)
        return "services do not import each other: declare a port, the hub wires it";
      if (item.area === "sdk") return "a service declares a port for what it needs of another one; the hub wires it with the SDK";
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
  const byFile = new Map<string, Import[]>();
  for (const item of all) byFile.set(item.from, [...(byFile.get(item.from) ?? []), item]);

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
    const wrong: string[] = [];
    for (const start of files.filter((path) => /^services\/[^/]+\/core\.ts$/.test(path) && !path.startsWith("services/kernel/")))
      reach(byFile, start, ({ area, from, line, target }) => {
        const impure = ["npm", "node", "gen", "channel", "runtime", "sdk", "hub", "cli", "certs", "test", "tools"].includes(area);
        if (impure) wrong.push(`${from}:${line} imports ${target}, and ${start} reaches it: a core is pure`);
        return !impure;
      });
    expect(wrong).toEqual([]);
  });

  test("what the SDK imports needs no hub, to the last file", () => {
    const wrong: string[] = [];
    let seen = 0;
    reach(byFile, "clients/typescript/index.ts", ({ area, from, line, target }) => {
      seen++;
      const fits = ["gen", "kernel", "channel", "sdk", "node"].includes(area) || area.startsWith("service:") || CALL_PACKAGES.test(target);
      if (!fits) wrong.push(`${from}:${line} imports ${target}, and a program that uses the SDK has it not`);
      return fits && area !== "node" && area !== "npm";
    });
    expect(seen).toBeGreaterThan(200);
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
    for (const target of ["services/runtime/clock.ts", "services/hub/config.ts", "clients/typescript/hub.ts", "adapters/other/x.ts"])
      expect(allowed({ from: "adapters/mqtt/x.ts", line: 1, target, area: areaOf(target) })).toBeDefined();
    expect(
      allowed({ from: "services/hub/x.ts", line: 1, target: "adapters/mqtt/broker.ts", area: areaOf("adapters/mqtt/broker.ts") }),
    ).toBeDefined();
    for (const target of ["services/runtime/clock.ts", "services/registry-sync/core.ts", "services/hub/index.ts"])
      expect(allowed({ from: "clients/typescript/x.ts", line: 1, target, area: areaOf(target) })).toBeDefined();
    expect(allowed({ from: "clients/typescript/x.ts", line: 1, target: "pino", area: "npm" })).toBeDefined();
    expect(allowed({ from: "services/channel/x.ts", line: 1, target: "prom-client", area: "npm" })).toBeDefined();
    expect(isTest("services/kernel/x.spec.ts")).toBe(true);
  });
});
