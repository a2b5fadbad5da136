import { create } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { describe, expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { agentNodes, runSkill } from "./agents.ts";
import { Device } from "./devices.ts";

const lamp = (): Device =>
  new Device(
    create(NodeSchema, {
      nodeId: "lamp",
      capabilities: [
        { name: "state", type: ValueType.STRING, readable: true, invocable: true, allowed: ["ON", "OFF", "TOGGLE"] },
        { name: "brightness", type: ValueType.DOUBLE, readable: true, invocable: true, min: 0, max: 254 },
        { name: "linkquality", type: ValueType.DOUBLE, readable: true, min: 0, max: 255 },
        { name: "effect", type: ValueType.STRING, invocable: true, allowed: ["blink"] },
      ],
    }),
    new Prng(1),
  );

describe("devices behave like what they stand for", () => {
  test("S0-20 a light that is switched changes its state, and says so", () => {
    const device = lamp();
    expect(device.invoke("state", "ON")).toEqual({ ok: true, value: "ON", changes: [{ key: "state", value: "ON" }] });
    expect(device.invoke("state", "TOGGLE")).toMatchObject({ ok: true, value: "OFF" });
    expect(device.state.get("state")).toBe("OFF");
    expect(device.invoke("brightness", 100)).toMatchObject({
      ok: true,
      changes: [
        { key: "brightness", value: 100 },
        { key: "state", value: "ON" },
      ],
    });
  });

  test("what only acts has no state", () => {
    expect(lamp().invoke("effect", "blink")).toEqual({ ok: true, value: "blink", changes: [] });
  });

  test.each([
    ["linkquality", 5, "CAPABILITY_ACCESS"],
    ["brightness", 255, "VALUE_OUT_OF_RANGE"],
    ["brightness", -1, "VALUE_OUT_OF_RANGE"],
    ["brightness", "bright", "VALUE_OUT_OF_RANGE"],
    ["state", "DIM", "VALUE_OUT_OF_RANGE"],
    ["colour", "red", "CAPABILITY_NOT_FOUND"],
  ] as const)("%s = %s is refused with %s and nothing changes", (capability, value, reason) => {
    const device = lamp();
    const before = new Map(device.state);
    expect(device.invoke(capability, value)).toMatchObject({ ok: false, failure: { reason } });
    expect(device.state).toEqual(before);
  });

  test("a sensor drifts within its range", () => {
    const device = lamp();
    const prng = new Prng(7);
    for (let i = 0; i < 1_000; i++) {
      const change = device.drift(prng)!;
      expect(change.key).toBe("linkquality");
      expect(change.value).toBeGreaterThanOrEqual(0);
      expect(change.value).toBeLessThanOrEqual(255);
    }
  });
});

describe("agents", () => {
  test("S2-5 a dozen cards pass the schema's rules, each with a key of its own", () => {
    const nodes = agentNodes();
    expect(nodes).toHaveLength(12);
    const validator = createValidator();
    for (const node of nodes) expect(validator.validate(NodeSchema, node).kind).toBe("valid");
    expect(new Set(nodes.map((node) => Buffer.from(node.agent!.publicKey).toString("hex"))).size).toBe(12);
  });

  test("a skill computes; a wrong input is a failure with a reason", () => {
    expect(runSkill("agent-statistician", "median", '{"values":[3,1,2,10]}')).toMatchObject({ ok: true, value: '{"median":2.5}' });
    expect(runSkill("agent-courier", "route", '{"edges":[["a","b",2],["b","c",2],["a","c",5]],"from":"a","to":"c"}')).toMatchObject({
      ok: true,
      value: '{"path":["a","b","c"],"length":4}',
    });
    expect(runSkill("agent-courier", "route", "{}")).toMatchObject({ ok: false, failure: { reason: "EXECUTOR_FAILED" } });
    expect(runSkill("agent-editor", "route", "{}")).toMatchObject({ ok: false, failure: { reason: "CAPABILITY_NOT_FOUND" } });
  });
});
