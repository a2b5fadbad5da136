import fc from "fast-check";
import { expect, test } from "vitest";
import type { DirectoryChange } from "../messages.ts";
import { compactChanges, mergeChanges } from "./directory-changes.ts";
import { Directory } from "./route.ts";

const hubId = fc.constantFrom("home", "away");
const nodeId = fc.constantFrom("a", "b", "c");
const online = fc.boolean();
const change: fc.Arbitrary<DirectoryChange> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("put" as const), hubId, nodeId, online, capabilities: fc.constant([]) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("online" as const), hubId, nodeId, online }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("removed" as const), hubId, nodeId }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("hub-gone" as const), hubId }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("freshness" as const),
      hubId,
      freshness: fc.constantFrom("FRESH" as const, "STALE" as const),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "reset" as const }) },
);

/** view shows all that a directory knows. */
function view(changes: readonly DirectoryChange[]): string {
  const directory = new Directory("home");
  for (const each of changes) directory.apply(each);
  const nodes = ["home", "away"].flatMap((hub) => ["a", "b", "c"].map((node) => directory.node(hub, node)?.online ?? "-"));
  return `${directory.describe()}\n${nodes.join(" ")}`;
}

test("F-13 a compacted batch leaves the directory as the whole batch would, and is no longer than its subjects are many", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      const compact = compactChanges(changes);
      expect(view(compact)).toBe(view(changes));
      // Two hubs with three nodes: a put and an online for each, freshness and an end for each hub, and one reset.
      expect(compact.filter(({ kind }) => kind !== "hub-gone").length).toBeLessThanOrEqual(2 * 3 * 2 + 2 + 1);
    }),
  );
});

test("F-13 batches that are merged for hours take the memory of the nodes", () => {
  let waiting: readonly DirectoryChange[] = [];
  for (let i = 0; i < 50_000; i++)
    waiting = mergeChanges(waiting, [{ kind: "online", hubId: "home", nodeId: `n${i % 500}`, online: i % 3 === 0 }]);
  expect(waiting.length).toBeLessThanOrEqual(1_024);
});
