import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { type StoreFactory, storeCompliance, storesAgree } from "./store.ts";

function sqlite(durability: "full" | "process", flush: "loop" | "pool" = "loop"): StoreFactory {
  const folders: string[] = [];
  const paths = new WeakMap<object, string>();
  const open = (path: string) => {
    const store = openSqliteStore({ path, durability, flush, reserveBytes: 0 });
    paths.set(store, path);
    return store;
  };
  return {
    name: `sqlite ${durability}${flush === "pool" ? ", synced on the pool" : ""}`,
    fresh() {
      const folder = mkdtempSync(join(tmpdir(), "foedus-store-"));
      folders.push(folder);
      return open(join(folder, "test.db"));
    },
    reopen(store) {
      store.close();
      return open(paths.get(store) ?? "");
    },
    dispose() {
      for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
    },
  };
}

const memory = (name: string, make: () => MemoryStore, what: "process" | "machine"): StoreFactory => ({
  name,
  fresh: make,
  reopen: (store) => (store as MemoryStore).crash(what),
  dispose: () => undefined,
});

const plain = memory("memory", () => new MemoryStore(), "machine");

storeCompliance(sqlite("full"));
storeCompliance(sqlite("full", "pool"));
storeCompliance(sqlite("process"));
storeCompliance(plain);
storeCompliance(memory("memory, asynchronous", () => new MemoryStore({ schedule: (run) => queueMicrotask(run) }), "machine"));
storeCompliance(memory("memory, durable against process death", () => new MemoryStore({ durability: "process" }), "process"));
storesAgree(sqlite("process"), plain);
