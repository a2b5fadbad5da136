import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { beforeAll, describe, expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { dealByVendor, type Inventory, loadInventory } from "./inventory.ts";

describe("the published device definitions as nodes", () => {
  let inventory: Inventory;
  beforeAll(async () => {
    inventory = await loadInventory();
  });

  test("S0-14 every definition and every feature is there", () => {
    expect(inventory.definitions).toBe(4_516);
    expect(inventory.features).toBe(28_798);
    expect(inventory.nodes).toHaveLength(4_516);
    expect(new Set(inventory.nodes.map((node) => node.nodeId)).size).toBe(4_516);
    expect(inventory.unmapped).toEqual([]);
  });

  test("every node passes the schema's own rules and survives its encoding", () => {
    const validator = createValidator();
    const refused = inventory.nodes.flatMap((node) => {
      const result = validator.validate(NodeSchema, node);
      return result.kind === "valid" ? [] : [`${node.nodeId}: ${String(result.error)}`];
    });
    expect(refused).toEqual([]);
    for (const node of inventory.nodes) expect(fromBinary(NodeSchema, toBinary(NodeSchema, node))).toEqual(node);
  });

  test("three hubs get similar shares and nothing is lost", () => {
    const dealt = dealByVendor(inventory.nodes, ["home", "factory", "lab"]);
    const sizes = [...dealt.values()].map((nodes) => nodes.length);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(4_516);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThan(50);
  });
});
