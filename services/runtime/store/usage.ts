import { statfsSync, statSync } from "node:fs";
import type { Registry } from "prom-client";
import { sampledGauge } from "../metrics/declare.ts";

/** Files that belong to a SQLite store, by what is added to its path: the database, its write-ahead log, and the space set aside. */
const SUFFIXES = ["", "-wal", "-shm", ".reserve"] as const;

/** showStoreSize shows how much disk a store takes, looked up when someone scrapes; the answer removes the series. */
export function showStoreSize(registry: Registry, service: string, path: string): () => void {
  const spec = { name: "foedus_store_size_bytes", help: "Bytes on disk of a service's store with its log.", labels: ["service"] as const };
  const size = (): number => SUFFIXES.reduce((sum, suffix) => sum + (statSync(path + suffix, { throwIfNoEntry: false })?.size ?? 0), 0);
  return sampledGauge(registry, spec)({ service }, size);
}

/** showDisk shows the file system that a folder is on, looked up when someone scrapes. A folder that is not there has no space: 0. */
export function showDisk(registry: Registry, folder: string): () => void {
  const free = { name: "foedus_disk_free_bytes", help: "Bytes that this process may still write where its stores are." };
  const all = { name: "foedus_disk_size_bytes", help: "Size of the file system where its stores are." };
  const look = (): { readonly free: number; readonly all: number } => {
    try {
      const { bavail, blocks, bsize } = statfsSync(folder);
      return { free: bavail * bsize, all: blocks * bsize };
    } catch {
      return { free: 0, all: 0 };
    }
  };
  const ends = [sampledGauge<never>(registry, free)({}, () => look().free), sampledGauge<never>(registry, all)({}, () => look().all)];
  return () => {
    for (const end of ends) end();
  };
}
