import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import type { Ground } from "../ground.ts";
import { startOrder } from "../services.ts";
import { dataOf } from "./holding.ts";

const JSON_BYTES = new TextEncoder().encode(JSON.stringify({ bootId: "x", clean: true }));
const BOOT = { op: "put", space: "meta", key: "boot", bytes: JSON_BYTES } as const;
const STORE = join(import.meta.dirname, "../../runtime/store/sqlite.ts");

const folders: string[] = [];
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), "foedus-holding-"));
  folders.push(made);
  return made;
};
afterEach(() => {
  for (const made of folders.splice(0)) rmSync(made, { recursive: true });
});

/** What dataOf asks of the ground. */
function groundOf(dataDir: string, runs: Ground["runs"]): Ground {
  return { config: { hub_id: "lab", data_dir: dataDir }, folder: dataDir, runs } as unknown as Ground;
}

/** Makes the stores of all services, as an installation leaves them that has stopped. */
function stores(dataDir: string): void {
  for (const service of startOrder()) {
    const store = openSqliteStore({ path: join(dataDir, `${service}.sqlite`), durability: "full" });
    if (service === "registry-sync") void store.commit([BOOT]);
    store.close();
  }
}

/** Everything in a folder. */
function contents(dataDir: string): ReadonlyMap<string, string> {
  return new Map(readdirSync(dataDir).map((name) => [name, readFileSync(join(dataDir, name), "base64")]));
}

describe("a look at the data of an installation that does not act", () => {
  test("LF2 finds it; without the feed or the log it is missing, and without another store only for whoever takes over", async () => {
    const dataDir = folder();
    stores(dataDir);
    expect(await dataOf(groundOf(dataDir, "hub"))).toEqual({
      problem: undefined,
      replica: { incarnation: undefined, returning: undefined },
    });
    rmSync(join(dataDir, "telemetry.sqlite"));
    expect(await dataOf(groundOf(dataDir, "hub"))).toMatchObject({
      problem: undefined,
      missing: expect.stringMatching(/no data of lab in/),
    });
    rmSync(join(dataDir, "registry-sync.sqlite"));
    expect((await dataOf(groundOf(dataDir, "hub"))).problem).toMatch(/no data of lab in .*restore a backup/);
  });

  test("SI1 changes nothing, not even of a store that was left by a crash and is on its way here", async () => {
    const dataDir = folder();
    stores(dataDir);
    const path = join(dataDir, "registry-sync.sqlite");
    const crash = `
      const { openSqliteStore } = await import(${JSON.stringify(STORE)});
      const store = openSqliteStore({ path: ${JSON.stringify(path)}, durability: "full" });
      for (let seq = 0; seq < 100; seq++) store.commit([{ op: "append", log: "feed", seq, bytes: new Uint8Array(2000) }]);
      process.kill(process.pid, "SIGKILL");`;
    spawnSync(process.execPath, ["--input-type=module", "--eval", crash]);
    const before = contents(dataDir);
    expect([...before.keys()]).toContain("registry-sync.sqlite-wal");
    expect((await dataOf(groundOf(dataDir, "hub"))).problem).toBeUndefined();
    const after = contents(dataDir);
    for (const [name, bytes] of before) if (!name.endsWith("-shm")) expect([name, after.get(name) === bytes]).toEqual([name, true]);
    const store = openSqliteStore({ path, durability: "full" });
    expect([...store.read("feed", 0)]).toHaveLength(100);
    store.close();
  });

  test("LF2 what is damaged, or in use, is a reason to wait and not to end", async () => {
    const dataDir = folder();
    stores(dataDir);
    const path = join(dataDir, "coordination.sqlite");
    const store = openSqliteStore({ path, durability: "full" });
    expect((await dataOf(groundOf(dataDir, "coordination"))).problem).toMatch(/another process uses/);
    void store.commit([{ op: "put", space: "coordination", key: "federation", bytes: Uint8Array.of(1, 2, 3) }]);
    store.close();
    expect((await dataOf(groundOf(dataDir, "coordination"))).problem).toMatch(/what was stored of this hub's federation is damaged/);
  });
});
