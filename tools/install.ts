// Builds and installs the programs that tests and charts need: `make tools`. What is there already is left alone; what cannot be had
// gets one line that says why, and the tests that need it are skipped. It ends with 0 either way: a machine without Go still tests.
// `node tools/install.ts foedus-python` gets the Python environment alone, in which `make packages` builds the wheel; it ends with 1 without.
// Debian's packages come first, for they bring the Go that builds the others.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";
import { systemClock } from "#channel/clock.ts";

const SOURCES = import.meta.dirname;
const HOME = join(SOURCES, "..", ".tools");
const BIN = join(HOME, "bin");
const STAMPS = join(HOME, "stamps");
const SHARE = join(HOME, "share");
/** Programs that are started by a script in BIN. */
const LIB = join(HOME, "lib");

/** Go modules that are not wanted, by name: an API server alone takes five minutes to build on two cores. */
const WITHOUT: ReadonlySet<string> = new Set((process.env["FOEDUS_TOOLS_WITHOUT"] ?? "").split(/[\s,]+/).filter((name) => name !== ""));

/** A build or an installation that takes longer hangs, ms. */
const LONGEST_MS = 900_000;

/** What the checksum database does not know; its go.sum here pins it all the same. */
const UNLISTED = { GONOSUMDB: "github.com/grpc-ecosystem/*" };

/** Unpacked says what is taken out of a Debian package that is not installed. */
interface Unpacked {
  /** Programs that run from anywhere. */
  readonly programs: readonly string[];
  /** Folder of /usr/share that they read, kept in .tools/share. */
  readonly share?: string;
  /** True if it needs libraries that this machine may not have: those are taken out of their packages, too. */
  readonly libraries?: boolean;
  /** A flag that tells a program where `$share` is, by program: it would look in /usr/share, where nothing is. */
  readonly flags?: Readonly<Record<string, string>>;
}

/** DebianPackages: `unpack` lists what is taken out of packages; `install` a command or file that shows that a package is there. */
interface DebianPackages {
  readonly unpack: Readonly<Record<string, Unpacked>>;
  readonly install: Readonly<Record<string, string>>;
}

interface Outcome {
  readonly status: number;
  readonly text: string;
}

function run(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = process.env): Outcome {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    env,
    encoding: "utf8",
    timeout: LONGEST_MS,
    maxBuffer: 64 << 20,
    stdio: ["ignore", "pipe", "pipe"],
  });
  return { status: status ?? 1, text: error === undefined ? `${stdout}${stderr}` : error.message };
}

/** whereIs is the path of a command, or of a file, if it is there. */
function whereIs(name: string): string | undefined {
  const places = name.startsWith("/")
    ? [name]
    : (process.env["PATH"] ?? "")
        .split(delimiter)
        .concat("/usr/sbin", "/sbin", "/usr/local/go/bin")
        .map((dir) => join(dir, name));
  return places.find((place) => {
    try {
      accessSync(place, constants.R_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const found = (name: string): boolean => whereIs(name) !== undefined;

/** lastLine of what a program said is where compilers and apt put the reason. */
function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}

/** reason shortens the output of a failed download or build to the line that says why. */
function reason(text: string): string {
  const lines = text.trim().split("\n");
  return (lines.find((line) => /^(E:|go: )/.test(line) && !line.startsWith("go: downloading")) ?? lastLine(text)).slice(0, 300);
}

const missing: string[] = [];
let made = 0;
let kept = 0;

function give(name: string, why: string): void {
  missing.push(name);
  process.stdout.write(`  ${name}: not here, what needs it is skipped: ${why}\n`);
}

function say(what: string): void {
  process.stdout.write(`  ${what}\n`);
}

/** digest of a tool's folder: what decides whether the program built from it is the present one. */
function digest(folder: string): string {
  const hash = createHash("sha256").update(`${process.platform} ${process.arch}\n`);
  for (const file of readdirSync(folder).sort()) hash.update(`${file}\n`).update(readFileSync(join(folder, file)));
  return hash.digest("hex");
}

function stamped(name: string, wanted: string): boolean {
  const stamp = join(STAMPS, name);
  return existsSync(stamp) && readFileSync(stamp, "utf8") === wanted;
}

/**
 * goTools builds each folder with a go.mod: the program that its `tool` line names, or else the one in the folder. A file `ldflags`
 * beside it says what the project's own build would tell the linker, such as the version.
 */
function goTools(): void {
  const names = readdirSync(SOURCES).filter((name) => existsSync(join(SOURCES, name, "go.mod")) && !WITHOUT.has(name));
  const digests = new Map(names.map((name) => [name, digest(join(SOURCES, name))]));
  const stale = names.filter((name) => !existsSync(join(BIN, name)) || !stamped(name, digests.get(name)!));
  kept += names.length - stale.length;
  if (stale.length === 0) return;
  // One after another: the linker of a Kubernetes client takes 1.2 GB.
  for (const name of stale) {
    const go = goCommand();
    if ("missing" in go) give(name, go.missing);
    else build(go, name, digests.get(name)!);
  }
}

/** Go is a Go that is new enough for all modules here, and the environment to run it in; or why there is none. */
type Go = { readonly path: string; readonly env: NodeJS.ProcessEnv } | { readonly missing: string };

let knownGo: Go | undefined;

/** goCommand finds Go: the one of this machine, or else the one of `go-version`, which any older one can fetch. */
function goCommand(): Go {
  knownGo ??= findGo();
  return knownGo;
}

function findGo(): Go {
  const path = whereIs("go");
  if (path === undefined) return { missing: "Go is not installed (Debian: apt-get install golang-go)" };
  // A Go that would fetch another by itself is asked for its own version.
  const env = { ...process.env, GOTOOLCHAIN: "local" };
  const [version = "", os = "", arch = "", cache = ""] = run(
    path,
    ["env", "GOVERSION", "GOOS", "GOARCH", "GOMODCACHE"],
    SOURCES,
    env,
  ).text.split("\n");
  const needed = readdirSync(SOURCES)
    .map((name) => join(SOURCES, name, "go.mod"))
    .filter((file) => existsSync(file))
    .map((file) => /^go (\S+)$/m.exec(readFileSync(file, "utf8"))?.[1] ?? "");
  if (needed.every((least) => atLeast(version, least))) return { path, env: process.env };
  const wanted = readFileSync(join(SOURCES, "go-version"), "utf8").trim();
  const toolchain = `golang.org/toolchain@v0.0.1-go${wanted}.${os}-${arch}`;
  const { status, text } = run(path, ["mod", "download", toolchain], SOURCES, { ...env, GOFLAGS: "-modcacherw" });
  const tooOld = `${version} is too old, and go${wanted} cannot be had`;
  if (status !== 0) return { missing: `${tooOld}: ${reason(text)}` };
  const home = join(cache, toolchain);
  try {
    makeRunnable(home, `${os}_${arch}`);
  } catch (error) {
    return { missing: `${tooOld}: ${error instanceof Error ? error.message : String(error)}` };
  }
  say(`go: ${version} is too old for some programs and fetched go${wanted}`);
  return { path: join(home, "bin", "go"), env: { ...env, GOROOT: home } };
}

/** atLeast compares versions such as go1.26.8 and 1.26. */
function atLeast(version: string, least: string): boolean {
  const parts = (text: string): number[] => (/(\d+)\.(\d+)(?:\.(\d+))?/.exec(text)?.slice(1) ?? []).map((part) => Number(part ?? 0));
  const [have, want] = [parts(version), parts(least)];
  const at = want.findIndex((part, i) => part !== have[i]);
  return at < 0 || (have[at] ?? -1) > want[at]!;
}

/**
 * makeRunnable does what a Go of version 1.21 or newer does when it fetches another one: a module has no executable files and no second
 * go.mod in it, so those of the toolchain were packed as others.
 */
function makeRunnable(home: string, target: string): void {
  for (const folder of [join(home, "bin"), join(home, "pkg", "tool", target)])
    for (const file of readdirSync(folder)) chmodSync(join(folder, file), 0o755);
  for (const folder of [join(home, "src"), join(home, "src", "cmd")]) {
    if (existsSync(join(folder, "go.mod"))) continue;
    chmodSync(folder, 0o755);
    copyFileSync(join(folder, "_go.mod"), join(folder, "go.mod"));
  }
}

/** schemas writes the JSON schemas of Kubernetes and of the extensions that the chart uses, for kubeconform. */
function schemas(): void {
  const name = "schemas";
  const wanted = digest(join(SOURCES, "kube-schemas"));
  const program = join(BIN, "kube-schemas");
  if (!existsSync(program)) return;
  if (existsSync(join(HOME, name)) && stamped(name, wanted)) {
    kept++;
    return;
  }
  const go = goCommand();
  if ("missing" in go) return give(name, go.missing);
  const fresh = join(HOME, `.${name}.new`);
  for (const folder of [fresh, join(HOME, name)]) rmSync(folder, { recursive: true, force: true });
  const env = { ...go.env, PATH: `${dirname(go.path)}${delimiter}${go.env["PATH"] ?? ""}` };
  const { status, text } = run(program, [fresh], SOURCES, env);
  if (status !== 0) return give(name, reason(text));
  renameSync(fresh, join(HOME, name));
  writeFileSync(join(STAMPS, name), wanted);
  made++;
  say(`${name}: ${lastLine(text)}`);
}

function build(go: Exclude<Go, { readonly missing: string }>, name: string, wanted: string): void {
  const folder = join(SOURCES, name);
  const program = /^tool (\S+)$/m.exec(readFileSync(join(folder, "go.mod"), "utf8"))?.[1] ?? ".";
  const started = systemClock.mono();
  const fresh = join(BIN, `.${name}.new`);
  const env = { ...go.env, CGO_ENABLED: "0", GOFLAGS: "-trimpath -buildvcs=false -mod=readonly", GOWORK: "off", ...UNLISTED };
  const flags = existsSync(join(folder, "ldflags")) ? readFileSync(join(folder, "ldflags"), "utf8").trim() : "";
  const { status, text } = run(go.path, ["build", `-ldflags=-s -w ${flags}`, "-o", fresh, program], folder, env);
  if (status !== 0) return give(name, reason(text));
  renameSync(fresh, join(BIN, name));
  writeFileSync(join(STAMPS, name), wanted);
  made++;
  say(`${name}: built in ${Math.round((systemClock.mono() - started) / 1000)} s`);
}

/** asRoot is how to run a command as root without being asked anything; undefined when there is no way. */
function asRoot(): readonly string[] | undefined {
  if (process.getuid?.() === 0) return [];
  return found("sudo") && run("sudo", ["-n", "true"], SOURCES).status === 0 ? ["sudo", "-n"] : undefined;
}

let listsFresh = false;

/** refreshLists asks the archive what there is, once, if that is allowed: a machine made from an image has no lists, or old ones. */
function refreshLists(root: readonly string[] | undefined): void {
  if (listsFresh || root === undefined) return;
  listsFresh = true;
  const [command, ...args] = [...root, "apt-get", "update", "-qq"];
  run(command!, args, SOURCES);
}

function debianTools(): void {
  const { unpack, install } = JSON.parse(readFileSync(join(SOURCES, "debian.json"), "utf8")) as DebianPackages;
  const toUnpack = Object.entries(unpack).filter(([, wanted]) => !isUnpacked(wanted));
  const toInstall = Object.entries(install).filter(([, sign]) => !found(sign));
  kept += Object.keys(unpack).length + Object.keys(install).length - toUnpack.length - toInstall.length;
  if (toUnpack.length + toInstall.length === 0) return;
  if (!found("apt-get")) {
    for (const [name] of [...toUnpack, ...toInstall]) give(name, "this is not a Debian; install it yourself");
    return;
  }
  const root = asRoot();
  refreshLists(root);
  for (const [name, wanted] of toUnpack) unpackPackage(name, wanted);
  if (toInstall.length > 0) installPackages(toInstall, root);
}

/** isUnpacked tells whether the programs of a package are here with what they read, or installed on this machine. */
function isUnpacked({ programs, share }: Unpacked): boolean {
  const shareHere = share === undefined || existsSync(join(SHARE, share));
  return programs.every((name) => (existsSync(join(BIN, name)) ? shareHere : found(name)));
}

/** wrap puts a program into .tools/lib and a script in its place that tells it where its files are. */
function wrap(program: string, unpacked: string, flag: string, share: string): void {
  renameSync(unpacked, join(LIB, program));
  const script = `#!/bin/sh\nhere=$(dirname "$0")\nshare=$here/../share/${share}\nexec "$here/../lib/${program}" "$@" "${flag}"\n`;
  rmSync(join(BIN, program), { force: true });
  writeFileSync(join(BIN, program), script, { mode: 0o755 });
}

/** fetchPackage unpacks a package into a folder; the reason if it cannot be had. */
function fetchPackage(name: string, folder: string): string | undefined {
  const download = run("apt-get", ["download", "-qq", "-o", "APT::Sandbox::User=", name], folder);
  if (download.status !== 0) return reason(download.text);
  const file = readdirSync(folder).find((entry) => entry.startsWith(`${name}_`) && entry.endsWith(".deb"));
  if (file === undefined) return `apt-get download ${name} left no package`;
  const unpacked = run("dpkg-deb", ["-x", file, "."], folder);
  return unpacked.status === 0 ? undefined : reason(unpacked.text);
}

/** missingLibraries are the shared libraries that a program needs and this machine does not have, nor a folder. */
function missingLibraries(program: string, folder: string): string[] {
  const { text } = run("ldd", [program], SOURCES, { ...process.env, LD_LIBRARY_PATH: folder });
  return [...text.matchAll(/^\s*(\S+) => not found/gm)].map(([, name = ""]) => name);
}

/** librariesOf puts the libraries that a program of a package needs into a folder, and a script before it that says so; the reason if some cannot be had. */
function librariesOf(name: string, program: string, unpacked: string, folder: string): string | undefined {
  const home = join(LIB, program);
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home);
  renameSync(unpacked, join(home, program));
  const depends = run("apt-cache", ["depends", "--important", name], SOURCES).text;
  const packages = [...depends.matchAll(/^\s+Depends: (lib\S+)/gm)].map(([, library = ""]) => library);
  for (const library of packages) {
    const wanted = missingLibraries(join(home, program), home);
    if (wanted.length === 0) break;
    const failed = fetchPackage(library, folder);
    if (failed !== undefined) return failed;
    for (const file of filesBelow(join(folder, "usr/lib"), join(folder, "lib")))
      if (wanted.includes(basename(file))) copyFileSync(file, join(home, basename(file)));
  }
  const left = missingLibraries(join(home, program), home);
  if (left.length > 0) return `no package of ${name} has ${left.join(", ")}`;
  const script = `#!/bin/sh\nhome=$(dirname "$0")/../lib/${program}\nLD_LIBRARY_PATH=$home exec "$home/${program}" "$@"\n`;
  rmSync(join(BIN, program), { force: true });
  writeFileSync(join(BIN, program), script, { mode: 0o755 });
  return undefined;
}

/** filesBelow are the files in some folders and all below them. */
function filesBelow(...folders: readonly string[]): string[] {
  return folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder, { recursive: true, encoding: "utf8" }).map((file) => join(folder, file)));
}

/** programIn finds a program in what was unpacked. */
function programIn(folder: string, program: string): string | undefined {
  return ["usr/bin", "usr/sbin"].map((place) => join(folder, place, program)).find((path) => existsSync(path));
}

/** unpackPackage takes programs out of a package instead of installing it, for its installation would start a daemon. It needs no root. */
function unpackPackage(name: string, { programs, share, libraries = false, flags = {} }: Unpacked): void {
  const folder = mkdtempSync(join(HOME, "deb-"));
  try {
    const failed = fetchPackage(name, folder);
    if (failed !== undefined) return give(name, failed);
    for (const program of programs) {
      // Some releases of Debian have a package of its own for it.
      const why = programIn(folder, program) === undefined ? fetchPackage(program, folder) : undefined;
      const unpacked = programIn(folder, program);
      if (unpacked === undefined) {
        give(program, why ?? `the package ${name} of this release does not have it`);
        continue;
      }
      if (libraries) {
        const lacking = librariesOf(name, program, unpacked, folder);
        if (lacking !== undefined) give(program, lacking);
      } else if (flags[program] === undefined) renameSync(unpacked, join(BIN, program));
      else wrap(program, unpacked, flags[program], share!);
    }
    if (share !== undefined) {
      rmSync(join(SHARE, share), { recursive: true, force: true });
      renameSync(join(folder, "usr/share", share), join(SHARE, share));
    }
    made++;
    say(`${name}: taken from its Debian package`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function installPackages(packages: readonly (readonly [string, string])[], root: readonly string[] | undefined): void {
  const names = packages.map(([name]) => name);
  if (root === undefined) {
    for (const name of names) give(name, `as root: apt-get install ${names.join(" ")}`);
    return;
  }
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const [command, ...args] = [...root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", ...names];
  const { text } = run(command!, args, SOURCES, env);
  for (const [name, sign] of packages) {
    if (!found(sign)) give(name, reason(text));
    else {
      made++;
      say(`${name}: installed`);
    }
  }
}

/** PYTHON is the name of the environment in which clients/python is built and tested. */
const PYTHON = "foedus-python";

/** python makes a virtual environment for the client in clients/python, its packages pinned by hash, and `foedus-python`, which runs in it. */
function python(): void {
  const name = PYTHON;
  const home = join(HOME, "python");
  const requirements = join(SOURCES, "..", "clients", "python", "requirements.txt");
  const wanted = createHash("sha256").update(`${process.platform} ${process.arch}\n`).update(readFileSync(requirements)).digest("hex");
  if (existsSync(join(BIN, name)) && existsSync(join(home, "bin", "python")) && stamped(name, wanted)) {
    kept++;
    return;
  }
  const interpreter = ["/usr/bin/python3", "python3"].find(found);
  if (interpreter === undefined) return give(name, "Python is not installed (Debian: apt-get install python3-venv)");
  rmSync(home, { recursive: true, force: true });
  const steps: readonly (readonly [string, readonly string[]])[] = [
    [interpreter, ["-m", "venv", home]],
    [join(home, "bin", "pip"), ["install", "-q", "--require-hashes", "--only-binary", ":all:", "-r", requirements]],
  ];
  for (const [command, args] of steps) {
    const { status, text } = run(command, args, SOURCES);
    if (status !== 0) return give(name, reason(text));
  }
  writeFileSync(join(BIN, name), '#!/bin/sh\nexec "$(dirname "$0")/../python/bin/python" "$@"\n', { mode: 0o755 });
  writeFileSync(join(STAMPS, name), wanted);
  made++;
  say(`${name}: a virtual environment with the packages of clients/python`);
}

/** wheelTools installs the programs of wheels.txt into a Python environment that is thrown away, and keeps the programs. */
function wheelTools(): void {
  const list = join(SOURCES, "wheels.txt");
  const programs = [...readFileSync(list, "utf8").matchAll(/^# program=(\S+):/gm)].map((match) => match[1]!);
  const wanted = createHash("sha256").update(readFileSync(list)).digest("hex");
  if (programs.every((name) => existsSync(join(BIN, name))) && stamped("wheels", wanted)) {
    kept += programs.length;
    return;
  }
  const folder = mkdtempSync(join(HOME, "wheels-"));
  try {
    const environment = run("python3", ["-m", "venv", folder], SOURCES);
    const install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", list];
    const { status, text } = environment.status === 0 ? run(join(folder, "bin/pip"), install, SOURCES) : environment;
    for (const name of programs) {
      if (status === 0) renameSync(join(folder, "bin", name), join(BIN, name));
      else give(name, reason(text));
    }
    if (status !== 0) return;
    writeFileSync(join(STAMPS, "wheels"), wanted);
    made += programs.length;
    say(`${programs.join(", ")}: taken from Python wheels`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const only = process.argv.slice(2);
if (only.length > 0 && only.join() !== PYTHON) {
  process.stderr.write(`only ${PYTHON} is installed by itself; without an argument all tools are\n`);
  process.exit(2);
}
const started = systemClock.mono();
for (const folder of [BIN, STAMPS, SHARE, LIB]) mkdirSync(folder, { recursive: true });
if (only.length === 0) {
  debianTools();
  goTools();
  schemas();
  wheelTools();
}
python();
const seconds = ((systemClock.mono() - started) / 1000).toFixed(1);
const rest = missing.length === 0 ? "none missing" : `${missing.length} missing: ${missing.join(", ")}`;
if (only.length === 0) process.stdout.write(`tools: ${made} made, ${kept} already there, ${rest} (${seconds} s)\n`);
else process.exitCode = missing.length === 0 ? 0 : 1;
