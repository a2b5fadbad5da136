// What a service costs beside its own folder: a copy of the project gets a further one, and nothing but one row of one table is edited.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SERVICES } from "../../services/hub/services.ts";
import { endProcess } from "../support/processes.ts";
import { tool } from "../support/tools.ts";
import { ROOT } from "../tidy/files.ts";

/** The one file that names the service outside of its folders. */
const TABLE = "services/hub/services.ts";

/** Folders of the service: its code, its schema, and what is generated of that. */
const OWN = /^(?:services|proto\/foedus|proto\/gen\/foedus)\/toy\//;

/** Files that `make generate` writes from the table and the schema. */
const GENERATED = [
  "Dockerfile",
  "clients/python/src/foedus/_core/methods.py",
  "clients/typescript/reach/target.ts",
  "docs/CONFIG.md",
  "docs/INSTALL.md",
  "docs/METRICS.md",
  "docs/PROTOCOL.md",
  "helm/foedus/README.md",
  "helm/foedus/templates/_services.tpl",
  "helm/foedus/values.schema.json",
  "helm/foedus/values.yaml",
  "ops/image/build.sh",
  "ops/systemd/foedus-hub.service",
  "ops/systemd/foedus.target",
  "ops/systemd/foedus@.service",
];

/** Row of the table. */
const ROW = `  toy: {
    rpc: ToyService,
    port: 18_805,
    config: () => toyConfig,
    after: [],
    sessions: true,
    calls: [],
    volume: "1Gi",
    heading: "Toy",
    make: async ({ platform, config, peers, sessions, credentials, verifier, onFatal }: Wiring<{ readonly toy: ToyConfig }>) =>
      (await import("../toy/index.ts")).createToy({
        platform,
        config: config.toy,
        peers,
        sessions: sessions(),
        connect: (view, options) => credentials.peerClient(ToyService, view, options),
        tokens: verifier,
        onFatal,
      }),
  },
} as const satisfies `;

const IMPORTS = {
  "import type { ServiceModule } from": 'import { ToyService } from "#gen/foedus/toy/v1alpha1/toy_service_pb.ts";\n',
  "import type { CommandSettings } from": 'import { type ToyConfig, toyConfig } from "../toy/config.ts";\n',
};

/** The spec of the service that starts hubs. */
const FEDERATION_SPEC = "federation.spec.ts";

/** A step over the whole copy may take this long on a small machine that does other things too, ms. */
const STEP_MS = 300_000;

const folder = mkdtempSync(join(tmpdir(), "foedus-toy-"));
const project = join(folder, "project");
/** What the copy was made of is a release before the service. */
const FORMER_ENTRY = join(ROOT, "cli/main.ts");
const env = { PATH: `${join(project, "node_modules/.bin")}:${process.env["PATH"]}`, HOME: folder, FORMER_ENTRY };
const children: ChildProcess[] = [];

afterAll(async () => {
  await Promise.all(children.map((child) => endProcess(child, "a process of the copy")));
  rmSync(folder, { recursive: true, force: true });
});

const filesOf = (root: string): string[] =>
  execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
    .split("\n")
    .filter((path) => path !== "" && path !== "node_modules" && path !== ".tools");

/** sums gives what is in each file of a folder. */
function sums(paths: readonly string[]): Map<string, string> {
  return new Map(
    paths.map((path) => [
      path,
      createHash("sha256")
        .update(readFileSync(join(project, path)))
        .digest("hex"),
    ]),
  );
}

/** run runs a program in the copy; it throws what the program says if that fails. */
function run(program: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: project, env, encoding: "utf8", timeout: STEP_MS });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

let before: ReadonlyMap<string, string>;

beforeAll(() => {
  // Stores of the last version are large, and no business of a service that it did not have.
  const there = filesOf(ROOT).filter((path) => !path.startsWith("test/upgrade/testdata/"));
  for (const path of there) {
    mkdirSync(dirname(join(project, path)), { recursive: true });
    cpSync(join(ROOT, path), join(project, path), { dereference: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(project, "node_modules"));
  run("git", "init", "--quiet");
  before = sums(filesOf(project));
  const files = join(import.meta.dirname, "files");
  for (const path of readdirSync(files, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".txt"))) {
    const to = join(project, path.slice(0, -".txt".length));
    mkdirSync(dirname(to), { recursive: true });
    cpSync(join(files, path), to);
  }
  let table = readFileSync(join(project, TABLE), "utf8");
  for (const [where, line] of Object.entries(IMPORTS)) table = table.replace(where, () => `${line}${where}`);
  table = table.replace("} as const satisfies ", () => ROW);
  writeFileSync(join(project, TABLE), table);
  run("buf", "generate");
  run("node", "test/tidy/docs.ts", "--write");
}, 2 * STEP_MS);

describe("a further service", () => {
  test("touches its own folders and one table; the rest is generated from that", () => {
    const after = sums(filesOf(project));
    const touched = [...new Set([...before.keys(), ...after.keys()])].filter((path) => before.get(path) !== after.get(path)).sort();
    const own = touched.filter((path) => OWN.test(path));
    expect(own).toContain("proto/gen/foedus/toy/v1alpha1/toy_service_pb.ts");
    expect(touched.filter((path) => !OWN.test(path))).toEqual([...GENERATED, TABLE].sort());
    // What is edited by hand is the row and the imports that it needs: nothing of what was there is gone.
    const lines = (root: string): string[] => readFileSync(join(root, TABLE), "utf8").split("\n");
    const now = lines(project);
    expect(lines(ROOT).filter((line) => !now.includes(line))).toEqual([]);
    expect(now.length - lines(ROOT).length).toBe(ROW.split("\n").length - 1 + Object.keys(IMPORTS).length);
  });

  test(
    "has the right types everywhere",
    () => {
      expect(run("tsc", "--noEmit", "-p", ".")).toBe("");
    },
    STEP_MS,
  );

  test(
    "keeps the rules of the house",
    () => {
      // Those of tools and scripts look at programs and are about no service.
      const specs = readdirSync(join(project, "test/tidy")).filter(
        (name) => name.endsWith(".spec.ts") && !/^(?:tools|scripts)\./.test(name),
      );
      expect(run("vitest", "run", ...specs.map((name) => `test/tidy/${name}`))).toMatch(/Test Files .*passed/);
    },
    STEP_MS,
  );

  test(
    "is one more in what other tests say of all services",
    () => {
      const specs = ["certs/issue.spec.ts", "services/hub/flow.spec.ts", "services/hub/mounts.spec.ts"];
      expect(run("vitest", "run", ...specs)).toMatch(/Test Files .*3 passed/);
    },
    STEP_MS,
  );

  test(
    "keeps what it says of itself",
    () => {
      const specs = readdirSync(join(project, "services/toy")).filter((name) => name.endsWith(".spec.ts") && name !== FEDERATION_SPEC);
      expect(run("vitest", "run", ...specs.map((name) => `services/toy/${name}`))).toMatch(/Test Files .*passed/);
    },
    STEP_MS,
  );

  test(
    "has sessions with its counterparts at peers, in one process and by itself, and waits for none with a hub that has it not",
    () => {
      expect(run("vitest", "run", `services/toy/${FEDERATION_SPEC}`)).toMatch(/Tests .*3 passed/);
    },
    STEP_MS,
  );

  test.skipIf(tool("helm").reason !== undefined)("has a workload, a volume and a Service in the chart, and one for peers", () => {
    const { path } = tool("helm");
    const set = "hubId=home,mode=split,image.repository=registry.example.org/foedus";
    const expose = "expose.type=LoadBalancer,expose.sharedAddress=true,advertise.host=home.example.org";
    const objects = run(path, "template", "example", "helm/foedus", "--set", `${set},${expose}`).split("\n---\n");
    const ofToy = objects.flatMap((text) => {
      const [kind, name] = [/^kind: (\w+)$/m, /^ {2}name: example-foedus-(toy[\w-]*)$/m].map((what) => what.exec(text)?.[1]);
      return name === undefined ? [] : [`${kind} ${name}`];
    });
    expect(ofToy.sort()).toEqual(["NetworkPolicy toy", "Service toy", "Service toy-peers", "StatefulSet toy"]);
  });
});

/** Started is a process of the copy and where it serves. */
interface Started {
  readonly port: number;
  readonly child: ChildProcess;
}

/** start runs a verb of the copy's command line until it says where it serves. */
async function start(...verb: readonly string[]): Promise<Started> {
  const args = ["cli/main.ts", ...verb, "--config", join(folder, "hub.json"), "--json"];
  const child = spawn("node", args, { cwd: project, env, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let said = "";
  child.stderr.on("data", (bytes: Buffer) => {
    said += String(bytes);
  });
  const port = await new Promise<number>((resolve, reject) => {
    child.stdout.once("data", (bytes: Buffer) => resolve((JSON.parse(String(bytes)) as { port: number }).port));
    child.once("exit", (code) => reject(new Error(`${verb.join(" ")} ended with ${code}: ${said}`)));
  });
  return { port, child };
}

/** raise calls the service over gRPC with mutual TLS, by a program that is not ours. */
function raise(port: number, who: string, amount: number): { readonly number?: number; readonly error?: string } {
  const file = (name: string): string => join(folder, "pki/home", name);
  const certificate = ["--cacert", file("ca.pem"), "--cert", file(`${who}.pem`), "--key", file(`${who}.key`)];
  const where = `https://localhost:${port}/foedus.toy.v1alpha1.ToyService/Raise`;
  const args = ["curl", "--protocol", "grpc", ...certificate, "-d", JSON.stringify({ amount }), where];
  const { status, stdout, stderr } = spawnSync("buf", args, { cwd: project, env, encoding: "utf8", timeout: STEP_MS });
  return status === 0 ? (JSON.parse(stdout) as { number: number }) : { error: stderr };
}

describe("a hub with a further service", () => {
  beforeAll(() => {
    run("node", "certs/dev.ts", join(folder, "pki"), "home");
    const services = Object.fromEntries(
      [...SERVICES, "toy"].map((name) => [
        name,
        { port: 0, ops_port: 0, cert: `pki/home/service-${name}.pem`, key: `pki/home/service-${name}.key` },
      ]),
    );
    const tls = { ca: "pki/home/ca.pem", cert: "pki/home/service-hub.pem", key: "pki/home/service-hub.key" };
    const config = { hub_id: "home", listen: { port: 0 }, ops: { port: 0 }, services, tls, toy: { step: 2 }, log: { level: "error" } };
    writeFileSync(join(folder, "hub.json"), JSON.stringify(config));
  }, STEP_MS);

  test(
    "serves it in one process with the others, and by itself on the same store; the schema says who may call",
    async () => {
      const hub = await start("hub");
      expect(raise(hub.port, "operator-admin", 3)).toEqual({ number: 6 });
      expect(raise(hub.port, "operator-viewer", 3).error).toMatch(/permission_denied|unauthenticated/i);
      expect(raise(hub.port, "operator-admin", 1_001).error).toMatch(/amount/);
      expect(await endProcess(hub.child, "hub")).toBe(0);
      const alone = await start("serve", "toy");
      expect(raise(alone.port, "operator-admin", 1)).toEqual({ number: 6 });
      expect(await endProcess(alone.child, "serve toy")).toBe(0);
    },
    STEP_MS,
  );
});
