import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";

/** A process as a hub is one: a heap that stays, and buffers that come and go, of which the newest are kept for a while. */
const PROGRAM = `
  import { PerformanceObserver, constants } from "node:perf_hooks";
  if (process.argv[1] === "tuned") (await import(${JSON.stringify(new URL("heap.ts", import.meta.url).href)})).tuneHeap();
  let whole = 0;
  const count = (entries) => {
    for (const { detail } of entries) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) whole++;
  };
  const observer = new PerformanceObserver((list) => count(list.getEntries()));
  observer.observe({ entryTypes: ["gc"] });
  const heap = Array.from({ length: 300_000 }, (_, i) => ({ i }));
  const ring = [];
  for (let n = 0; n < 500; n++) {
    for (let i = 0; i < 200; i++) ring[(n * 200 + i) % 256] = Buffer.allocUnsafeSlow(16_384);
    await new Promise(setImmediate);
  }
  await new Promise(setImmediate);
  count(observer.takeRecords());
  console.log(whole, heap.length, ring.length);
`;

function wholeCollections(how: "tuned" | "plain"): number {
  const out = execFileSync(process.execPath, ["--input-type=module", "--eval", PROGRAM, how], { encoding: "utf8" });
  return Number(out.split(" ")[0]);
}

describe("tuneHeap", () => {
  test("1.6 GB of short-lived buffers do not make V8 collect the whole heap over and over", () => {
    const plain = wholeCollections("plain");
    const tuned = wholeCollections("tuned");
    expect(plain).toBeGreaterThan(5);
    expect(tuned).toBeLessThanOrEqual(plain / 3);
  });
});
