import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { VALUE_TYPE } from "#kernel/wire/value.ts";
import { DEVICE_TYPES, type Feature, type FeatureValue, SimulatedDevice } from "./kinds.ts";

/** fits tells whether a value is one that a feature says it may have. */
function fits({ type, min, max, allowed }: Feature, value: FeatureValue | undefined): boolean {
  if (type === VALUE_TYPE.BOOL) return typeof value === "boolean";
  if (type === VALUE_TYPE.STRING) return typeof value === "string" && value !== "TOGGLE" && allowed!.includes(value);
  return typeof value === "number" && value >= (min ?? Number.NEGATIVE_INFINITY) && value <= (max ?? Number.POSITIVE_INFINITY);
}

const states = (device: SimulatedDevice): object => Object.fromEntries(device.state);

describe("a simulated device", () => {
  test("a lamp is switched, toggled and dimmed; a brightness switches it, and off keeps the brightness", () => {
    const lamp = new SimulatedDevice("lamp", "lamp");
    expect(lamp.invoke("state", "ON")).toEqual({ value: "ON", changes: [{ key: "state", before: "OFF", value: "ON" }] });
    expect(lamp.invoke("state", "ON")).toEqual({ value: "ON", changes: [] });
    expect(lamp.invoke("state", "TOGGLE")).toMatchObject({ value: "OFF" });
    expect(lamp.invoke("brightness", 40)).toEqual({
      value: 40,
      changes: [
        { key: "brightness", before: 100, value: 40 },
        { key: "state", before: "OFF", value: "ON" },
      ],
    });
    lamp.invoke("state", "OFF");
    expect(states(lamp)).toEqual({ state: "OFF", brightness: 40 });
    lamp.invoke("brightness", 0);
    expect(states(lamp)).toEqual({ state: "OFF", brightness: 0 });
  });

  test("a thermostat heats to its target and lets the room cool down after it", () => {
    const thermostat = new SimulatedDevice("thermostat", "warm");
    thermostat.invoke("target", 21);
    for (let second = 0; second < 60; second++) thermostat.step();
    expect(states(thermostat)).toEqual({ target: 21, temperature: 21, heating: false });
    thermostat.invoke("target", 5);
    for (let second = 0; second < 600; second++) thermostat.step();
    expect(states(thermostat)).toEqual({ target: 5, temperature: 15, heating: false });
    thermostat.invoke("target", 30);
    expect(thermostat.step()).toContainEqual({ key: "heating", before: false, value: true });
  });

  test("a plug draws power while it is on; sensors of two names measure different things, the same each time", () => {
    const plug = new SimulatedDevice("plug", "plug");
    plug.invoke("state", "ON");
    for (let second = 0; second < 100; second++) {
      plug.step();
      expect(Number(plug.state.get("power"))).toBeGreaterThanOrEqual(30);
    }
    plug.invoke("state", "OFF");
    expect(plug.step()).toEqual([]);
    expect(plug.state.get("power")).toBe(0);
    const measured = (name: string): object => {
      const sensor = new SimulatedDevice("sensor", name);
      for (let second = 0; second < 20; second++) sensor.step();
      return states(sensor);
    };
    expect(measured("hall")).toEqual(measured("hall"));
    expect(measured("hall")).not.toEqual(measured("attic"));
  });

  test.each([
    ["lamp", "state", "DIM", "VALUE_OUT_OF_RANGE"],
    ["lamp", "state", 1, "VALUE_OUT_OF_RANGE"],
    ["lamp", "brightness", 101, "VALUE_OUT_OF_RANGE"],
    ["lamp", "brightness", Number.NaN, "VALUE_OUT_OF_RANGE"],
    ["lamp", "brightness", 7n, "VALUE_OUT_OF_RANGE"],
    ["lamp", "colour", "red", "CAPABILITY_NOT_FOUND"],
    ["thermostat", "target", undefined, "VALUE_OUT_OF_RANGE"],
    ["thermostat", "temperature", 20, "CAPABILITY_ACCESS"],
    ["sensor", "__proto__", 20, "CAPABILITY_NOT_FOUND"],
  ] as const)("a %s refuses %s %s, and nothing changes", (type, capability, value, reason) => {
    const device = new SimulatedDevice(type, "it");
    const before = states(device);
    expect(device.invoke(capability, value)).toMatchObject({ failure: { reason } });
    expect(states(device)).toEqual(before);
  });

  test("whatever it is told, it reports what its features say, and each change once", () => {
    const value = fc.oneof(
      fc.constantFrom("ON", "OFF", "TOGGLE", "", "DIM"),
      fc.double(),
      fc.integer({ min: -50, max: 150 }),
      fc.boolean(),
      fc.bigInt(),
      fc.constant(undefined),
      fc.constant({ json: "{}" }),
    );
    const act = fc.record({ name: fc.constantFrom("state", "brightness", "target", "temperature", "power", "x"), value });
    fc.assert(
      fc.property(fc.constantFrom(...DEVICE_TYPES), fc.string(), fc.array(fc.option(act), { maxLength: 60 }), (type, id, acts) => {
        const device = new SimulatedDevice(type, id);
        const seen = new Map(device.state);
        for (const next of acts) {
          const reaction = next === null ? { changes: device.step() } : device.invoke(next.name, next.value);
          for (const change of "changes" in reaction ? reaction.changes : []) {
            expect(seen.get(change.key)).toBe(change.before);
            expect(change.value).not.toBe(change.before);
            seen.set(change.key, change.value);
          }
          expect(device.state).toEqual(seen);
          for (const feature of device.features)
            expect([feature.name, fits(feature, device.state.get(feature.name))]).toEqual([feature.name, true]);
        }
      }),
    );
  });
});
