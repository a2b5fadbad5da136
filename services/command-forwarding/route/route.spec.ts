import { expect, test } from "vitest";
import type { CapabilityInfo } from "../messages.ts";
import { Directory, type RoutedNode } from "./route.ts";

const MIB = 1024 * 1024;

function capability(name: string, allowed: readonly string[] = []): CapabilityInfo {
  return { name, type: 4, invocable: true, readable: true, idempotent: true, min: undefined, max: undefined, step: undefined, allowed };
}

/** A text of some 160 KiB in parts, as one node may carry them. */
const ALLOWED = Array.from({ length: 4_096 }, (_, i) => `${i}`.padEnd(40, "x"));

test("A2 capabilities that commands have asked for are bounded, and read again when a command wants them", () => {
  const directory = new Directory("home");
  const reads = new Map<string, number>();
  for (let i = 0; i < 300; i++) {
    const nodeId = `n${i}`;
    const capabilities = (): readonly CapabilityInfo[] => {
      reads.set(nodeId, (reads.get(nodeId) ?? 0) + 1);
      return [capability("mode", ALLOWED)];
    };
    directory.apply({ kind: "put", hubId: "peer", nodeId, online: true, capabilities });
  }
  const ask = (i: number) => (directory.node("peer", `n${i}`) as RoutedNode).capabilities.get("mode");
  for (let round = 0; round < 2; round++)
    for (let i = 0; i < 300; i++) {
      expect(ask(i)?.allowed).toHaveLength(4_096);
      expect(directory.readBytes).toBeLessThanOrEqual(16 * MIB);
    }
  // What is in the room is not read again.
  ask(299);
  expect(reads.get("n299")).toBe(2);
  expect(reads.get("n0")).toBe(2);
});

test("A2 what goes, changes, or is larger than the room is not counted for good", () => {
  const directory = new Directory("home");
  const huge = Array.from({ length: 60 }, (_, i) => capability(`c${i}`, ALLOWED));
  for (const nodeId of ["a", "b", "c"]) {
    directory.apply({ kind: "put", hubId: "peer", nodeId, online: true, capabilities: () => huge });
    const node = directory.node("peer", nodeId) as RoutedNode;
    expect(node.capabilities.size).toBe(60);
    expect(node.capabilities).toBe(node.capabilities);
  }
  expect(directory.readBytes).toBeLessThan(40 * MIB);
  directory.apply({ kind: "put", hubId: "peer", nodeId: "c", online: true, capabilities: [capability("on")] });
  expect(directory.readBytes).toBe(0);
  expect((directory.node("peer", "c") as RoutedNode).capabilities.has("on")).toBe(true);
  expect(directory.readBytes).toBeGreaterThan(0);
  directory.apply({ kind: "removed", hubId: "peer", nodeId: "c" });
  expect(directory.readBytes).toBe(0);
});
