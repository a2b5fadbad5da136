import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FoedusError } from "#kernel/error.ts";
import { openSqliteStore } from "./sqlite.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-irregular-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const SUFFIXES = ["", "-journal", "-wal", "-shm", ".reserve"];
const KINDS: Readonly<Record<string, (path: string) => void>> = {
  pipe: (path) => spawnSync("mkfifo", [path]),
  folder: (path) => mkdirSync(path),
  zero: (path) => symlinkSync("/dev/zero", path),
  full: (path) => symlinkSync("/dev/full", path),
  loop: (path) => symlinkSync(path, path),
};

/** A process that opens stores and says how each open ended, line by line: one that hangs in the system can only be killed. */
const CHILD = `
  import { storeInUse } from "#runtime/store/open.ts";
  import { openSqliteStore } from "#runtime/store/sqlite.ts";
  for (const path of process.argv.slice(1)) {
    let said;
    try {
      storeInUse(path);
      openSqliteStore({ path, durability: "full", busyTimeoutMs: 0, reserveBytes: 100 }).close();
      said = "opened";
    } catch (error) {
      said = (error.failure?.reason ?? error.constructor.name) + " " + error.message.replaceAll("\\n", " ");
    }
    process.stdout.write(said + "\\n");
  }
`;

test("S-18 whatever stands at a store's paths, opening it ends: with a store, or a sentence that names the path", () => {
  const cases = SUFFIXES.flatMap((suffix) =>
    Object.keys(KINDS).map((kind) => ({ suffix, kind, path: join(folder, `${kind}${suffix}.db`) })),
  );
  for (const { suffix, kind, path } of cases) KINDS[kind]?.(path + suffix);
  const { stdout, status } = spawnSync(
    process.execPath,
    ["--input-type=module-typescript", "-e", CHILD, ...cases.map(({ path }) => path)],
    { encoding: "utf8", timeout: 30_000, killSignal: "SIGKILL" },
  );
  const said = stdout.trimEnd().split("\n");
  const found = cases.map(({ suffix, kind }, i) => `${kind} at ${suffix === "" ? "the file" : suffix}: ${said[i] ?? "hangs"}`);
  for (const [i, line] of found.entries()) {
    const { suffix, kind, path } = cases[i] as (typeof cases)[number];
    // What was set aside is made anew; only a folder in its place is somebody's.
    if (suffix === ".reserve" && kind !== "folder") expect(line).toMatch(/: opened$/);
    else expect(line).toMatch(new RegExp(`: STORE_UNAVAILABLE .*${path.replaceAll(".", "\\.")}`));
  }
  expect(status).toBe(0);
  expect(found.find((line) => line.startsWith("pipe at -journal"))).toContain("-journal is a pipe and not a file");
});

test("S-18 a link in the place of what is set aside is not followed", () => {
  const path = join(folder, "a.db");
  writeFileSync(join(folder, "victim"), "precious");
  symlinkSync("victim", `${path}.reserve`);
  openSqliteStore({ path, durability: "full" }).close();
  expect(readFileSync(join(folder, "victim"), "utf8")).toBe("precious");
  expect(existsSync(`${path}.reserve`)).toBe(false);
});

test("S-18 a folder that comes into the place of what is set aside hinders neither a full disk's way out nor the stop", () => {
  const path = join(folder, "a.db");
  const store = openSqliteStore({ path, durability: "full" });
  rmSync(`${path}.reserve`);
  mkdirSync(`${path}.reserve`);
  store.freeReserve();
  store.close();
  expect(readdirSync(folder)).toContain("a.db.reserve");
});

test("F-27 a store that is damaged behind its first page is refused with a reason, too", () => {
  const path = join(folder, "a.db");
  const store = openSqliteStore({ path, durability: "full" });
  void store.commit([{ op: "append", log: "n", seq: 0, bytes: new Uint8Array(10) }]);
  store.close();
  const { length } = readFileSync(path);
  const first = readFileSync(path).subarray(0, 4_096);
  writeFileSync(path, Buffer.concat([first, Buffer.alloc(length - 4_096, 0x41)]));
  const open = (): unknown => openSqliteStore({ path, durability: "full", busyTimeoutMs: 0 });
  expect(open).toThrow(FoedusError);
  expect(open).toThrow(/a\.db is damaged or not a store/);
  truncateSync(path, 4_096);
  expect(open).toThrow(FoedusError);
});
