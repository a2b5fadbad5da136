import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { WITNESS_SPACE } from "../core.ts";
import { WITNESS_FILE, Witness } from "./witness.ts";

let folder: string;
let clock: ManualClock;
let numbers: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "witness-"));
  clock = new ManualClock();
  numbers = 0;
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A witness whose store does what it is told at once, unless told by hand. */
function witnessOf(store: MemoryStore, atOnce = true) {
  const told: string[] = [];
  const failures: unknown[] = [];
  const witness: Witness = new Witness({
    folder,
    clock,
    number: () => `n${++numbers}`,
    tell: (value) => {
      told.push(value);
      if (atOnce) take(value);
    },
    failed: (error) => void failures.push(error),
  });
  const store1 = (value: string): void => {
    void store.commit([{ op: "put", space: WITNESS_SPACE, key: "value", bytes: new TextEncoder().encode(value) }]);
  };
  const take = (value: string): void => {
    store1(value);
    witness.settled(value);
  };
  return { witness, told, take, store1, failures };
}
const inFile = (): unknown => (JSON.parse(readFileSync(join(folder, WITNESS_FILE), "utf8")) as { numbers: unknown }).numbers;

describe("Witness", () => {
  test("WN2 a store that ran last is not doubted, start after start; one that was copied before is", () => {
    const store = new MemoryStore();
    const first = witnessOf(store);
    expect(first.witness.doubt(store)).toBeUndefined();
    first.witness.rotate();
    const copy = store.backup();
    first.witness.stop();
    const second = witnessOf(store);
    expect(second.witness.doubt(store)).toBeUndefined();
    expect(witnessOf(copy).witness.doubt(copy)).toContain("another store");
  });

  test("WN2 the number changes once a minute while the hub runs", () => {
    const store = new MemoryStore();
    const { witness, told } = witnessOf(store);
    witness.doubt(store);
    witness.rotate();
    const copy = store.backup();
    clock.advance(60_000);
    expect(told).toEqual(["n1", "n2"]);
    expect(witnessOf(copy).witness.doubt(copy)).toContain("another store");
    witness.stop();
    clock.advance(600_000);
    expect(told).toHaveLength(3);
  });

  test("WN1 whatever was written when the process died, the store is not doubted", () => {
    const store = new MemoryStore();
    const { witness, told, store1, take } = witnessOf(store, false);
    witness.doubt(store);
    const isSure = () => expect(witnessOf(store).witness.doubt(store)).toBeUndefined();
    witness.rotate();
    store1("n1");
    isSure();
    witness.settled("n1");
    isSure();
    // Two changes are on their way together.
    witness.rotate();
    witness.rotate();
    isSure();
    expect(told).toEqual(["n1", "n2", "n3"]);
    store1("n2");
    isSure();
    store1("n3");
    isSure();
    take("n2");
    isSure();
    take("n3");
    isSure();
    expect(inFile()).toEqual(["n3"]);
  });

  test("a store without its file, a file without what the store had, and a damaged file are doubted; a first start is not", () => {
    const store = new MemoryStore();
    const { witness } = witnessOf(store);
    expect(witness.doubt(store)).toBeUndefined();
    witness.rotate();
    expect(witnessOf(store).witness.doubt(new MemoryStore())).toContain("another store");
    writeFileSync(join(folder, WITNESS_FILE), "{");
    expect(witnessOf(store).witness.doubt(store)).toContain("another store");
    rmSync(join(folder, WITNESS_FILE));
    expect(witnessOf(store).witness.doubt(store)).toContain("is missing");
  });

  test("a file that cannot be written leaves the number as it is", () => {
    const store = new MemoryStore();
    const { witness, told, failures } = witnessOf(store);
    witness.doubt(store);
    rmSync(folder, { recursive: true });
    writeFileSync(folder, "in the way");
    witness.rotate();
    expect(told).toEqual([]);
    expect(failures).toHaveLength(1);
  });
});
