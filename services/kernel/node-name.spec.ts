import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isNodeId, nodeKey, parseNodeKey, parseNodeText, resolveNode } from "./node-name.ts";

const hubId = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/);
const nodeId = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,20}$/);

describe("node names", () => {
  test("keys are unique for the pair and read back", () => {
    fc.assert(
      fc.property(hubId, nodeId, (hub, node) => {
        expect(parseNodeKey(nodeKey(hub, node))).toEqual({ hubId: hub, nodeId: node });
      }),
    );
    for (const bad of ["", "/", "a/", "/b", "A/b", "a/b/c", "a"]) expect(parseNodeKey(bad), bad).toBeUndefined();
  });

  test("node ids have 1 to 63 characters and no slash", () => {
    expect(isNodeId("lamp.kitchen_1:a-b")).toBe(true);
    for (const bad of ["", "a".repeat(64), ".a", "a/b", "a b", "a\n"]) expect(isNodeId(bad), bad).toBe(false);
  });

  test("people may type a bare id", () => {
    expect(parseNodeText("lamp")).toEqual({ hubId: "", nodeId: "lamp" });
    expect(parseNodeText("home/lamp")).toEqual({ hubId: "home", nodeId: "lamp" });
    expect(parseNodeText("not a name")).toBeUndefined();
  });

  test("a bare id means the own hub first, else the only one, else it is ambiguous with candidates", () => {
    expect(resolveNode("", "home", ["work", "home"])).toEqual({ kind: "found", hubId: "home" });
    expect(resolveNode("", "home", ["work"])).toEqual({ kind: "found", hubId: "work" });
    expect(resolveNode("", "home", ["work", "barn", "work"])).toEqual({ kind: "ambiguous", candidates: ["barn", "work"] });
    expect(resolveNode("", "home", [])).toEqual({ kind: "not-found" });
  });

  test("a full name means that hub and no other", () => {
    expect(resolveNode("work", "home", ["work", "home"])).toEqual({ kind: "found", hubId: "work" });
    expect(resolveNode("barn", "home", ["work", "home"])).toEqual({ kind: "not-found" });
  });
});
