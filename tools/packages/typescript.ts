// Builds the TypeScript SDK as an npm package, dist/packages/foedus-client-<version>.tgz: `make packages`. `--out <folder>` is for tests.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { parseArgs } from "node:util";
import { build } from "esbuild";

const ROOT = join(import.meta.dirname, "../..");
const SDK = "clients/typescript";

/** What a program imports, by the name of the file. */
const ENTRIES = ["index", "schema"] as const;

/** The Node that it needs: dates of certificates are read as X509Certificate has them since then. */
const NODE = [22, 10] as const;

/** A module that each file of the package imports first, so that an older Node says what is wrong before anything else fails. */
const NODE_CHECK = "node-check.js";

/** nodeCheck is that module. */
function nodeCheck(): string {
  const [major, minor] = NODE;
  return `const [major, minor] = process.versions.node.split(".").map(Number);
if (major < ${major} || (major === ${major} && minor < ${minor}))
  throw new Error("foedus-client needs Node ${NODE.join(".")} or newer; this is Node " + process.versions.node);
`;
}

/** Folders that the aliases of the project's own package.json stand for. */
const ALIASES = [
  ["#gen/", "proto/gen/"],
  ["#kernel/", "services/kernel/"],
  ["#channel/", "services/channel/"],
] as const;

interface Manifest {
  readonly version: string;
  readonly license: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

/** manifestOf is the package.json of the package. */
function manifestOf({ version, license, dependencies }: Manifest): object {
  const entry = (name: string): object => ({ types: `./types/${SDK}/${name}.d.ts`, default: `./${name}.js` });
  return {
    name: "foedus-client",
    version,
    description: "Client of Foedus hubs: register nodes, report state, watch, send commands and answer them.",
    license,
    type: "module",
    engines: { node: `>=${NODE.join(".")}` },
    exports: { ".": entry("index"), "./schema": entry("schema") },
    types: `./types/${SDK}/index.d.ts`,
    sideEffects: [`./${NODE_CHECK}`],
    dependencies: {
      "@bufbuild/protobuf": `^${dependencies["@bufbuild/protobuf"]}`,
      // Exactly this one: its TLS connector is not a public interface.
      "@grpc/grpc-js": dependencies["@grpc/grpc-js"],
    },
    // The declarations name types of Node. Programs in JavaScript do without.
    peerDependencies: { "@types/node": `>=${NODE[0]}` },
    peerDependenciesMeta: { "@types/node": { optional: true } },
  };
}

/** bundle writes the code: what is ours goes into it, the two packages do not. */
async function bundle(out: string): Promise<void> {
  await build({
    entryPoints: ENTRIES.map((name) => join(ROOT, SDK, `${name}.ts`)),
    outdir: out,
    banner: { js: `import "./${NODE_CHECK}";` },
    bundle: true,
    splitting: true,
    chunkNames: "chunk-[hash]",
    format: "esm",
    platform: "node",
    target: "node22",
    external: ["@bufbuild/protobuf", "@grpc/grpc-js"],
    legalComments: "inline",
    logLevel: "warning",
  });
  writeFileSync(join(out, NODE_CHECK), nodeCheck());
}

/** declare writes the types of the entries and of what they name, with relative paths in place of aliases. */
function declare(out: string, scratch: string): void {
  const config = join(scratch, "tsconfig.json");
  const compilerOptions = {
    noEmit: false,
    declaration: true,
    emitDeclarationOnly: true,
    rootDir: ROOT,
    outDir: join(scratch, "types"),
  };
  const files = ENTRIES.map((name) => join(ROOT, SDK, `${name}.ts`));
  writeFileSync(config, JSON.stringify({ extends: join(ROOT, "tsconfig.json"), compilerOptions, include: [], files }));
  execFileSync(join(ROOT, "node_modules/.bin/tsc"), ["-p", config], { stdio: ["ignore", "inherit", "inherit"] });
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    const text = readFileSync(join(scratch, "types", path), "utf8").replaceAll(
      /((?:from|import)\s*\(?\s*)"([#.][^"]+)\.ts"/g,
      (_all, before: string, name: string) => {
        const [prefix = "", place = ""] = ALIASES.find(([alias]) => name.startsWith(alias)) ?? [];
        const target = prefix === "" ? normalize(join(dirname(path), name)) : place + name.slice(prefix.length);
        visit(`${target}.d.ts`);
        const to = relative(dirname(path), target);
        return `${before}"${to.startsWith(".") ? to : `./${to}`}.js"`;
      },
    );
    if (/"#[a-z]+\//.test(text)) throw new Error(`${path} names a file by an alias that the package does not have`);
    mkdirSync(dirname(join(out, "types", path)), { recursive: true });
    writeFileSync(join(out, "types", path), text);
  };
  for (const name of ENTRIES) visit(`${SDK}/${name}.d.ts`);
}

/** pack builds the package in a folder and answers the path of its tarball, which lies beside it. */
export async function pack(folder: string): Promise<string> {
  const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
  const out = join(folder, "typescript");
  const scratch = join(ROOT, "node_modules/.cache/packages", String(process.pid));
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  mkdirSync(scratch, { recursive: true });
  try {
    await bundle(out);
    declare(out, scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  writeFileSync(join(out, "package.json"), `${JSON.stringify(manifestOf(manifest), undefined, 2)}\n`);
  for (const file of [join(SDK, "README.md"), "LICENSE"])
    if (existsSync(join(ROOT, file))) copyFileSync(join(ROOT, file), join(out, file.split("/").at(-1) as string));
  const printed = execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder], {
    cwd: out,
    encoding: "utf8",
  });
  return join(folder, printed.trim());
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { out: { type: "string" } } });
  const tarball = await pack(values.out ?? join(ROOT, "dist/packages"));
  console.log(tarball);
}
