import { expect, test } from "vitest";
import type { Manifest } from "../checkpoint/checkpoint.ts";
import { missingIn } from "../checkpoint/checkpoint.ts";
import { Wanted } from "./wanted.ts";

const WINDOW = 1_000;
const chunks = Array.from({ length: 60 }, (_none, at) => ({ digest: `chunk ${at}`, length: 50 + ((at * 37) % 250) }));
const manifest: Manifest = {
  agent: "counter",
  fence: 1,
  transfer: 1,
  from: "home",
  to: "factory",
  round: 1,
  final: false,
  memoryBytes: chunks.reduce((sum, { length }) => sum + length, 0),
  contextBytes: 0,
  progress: 0,
  dependencies: [],
  chunks,
};

test("WC1 asks for each chunk once, for more before the window is empty, and never for more than a window", () => {
  const wanted = new Wanted(WINDOW);
  const held = new Map<string, Uint8Array>();
  const under = [...wanted.again(manifest, missingIn(manifest, held))];
  const all = [...under];
  for (let number = under.shift(); number !== undefined; number = under.shift()) {
    expect([wanted.take([number]), wanted.take([number])]).toEqual([true, false]);
    expect([wanted.opened([number]), wanted.opened([number])]).toEqual([true, false]);
    held.set(chunks[number]!.digest, new Uint8Array(0));
    const more = wanted.more(manifest, held);
    under.push(...more);
    all.push(...more);
    expect(under.reduce((sum, one) => sum + chunks[one]!.length, 0)).toBeLessThanOrEqual(WINDOW);
    expect(under.length > 0 || missingIn(manifest, held).length === 0).toBe(true);
  }
  expect(all).toEqual([...chunks.keys()]);
  expect([wanted.none, wanted.opens]).toEqual([true, false]);
});

test("WC2 takes nothing that it did not ask for, and nothing of what it asked for before it began anew", () => {
  const wanted = new Wanted(WINDOW);
  expect(wanted.take([0])).toBe(false);
  wanted.again(manifest, [0, 1]);
  expect(wanted.take([0, 2])).toBe(false);
  expect(wanted.take([0])).toBe(true);
  wanted.clear();
  expect([wanted.opened([0]), wanted.take([1])]).toEqual([false, false]);
});
