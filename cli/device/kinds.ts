// Devices that are simulated: pure machines that react to commands and to time as what they stand for does.
import { type Failure, fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { VALUE_TYPE, type ValueType } from "#kernel/wire/value.ts";

/** DEVICE_TYPES are the devices that can be simulated. */
export const DEVICE_TYPES = ["lamp", "thermostat", "sensor", "plug"] as const;

/** DeviceType is one of them. */
export type DeviceType = (typeof DEVICE_TYPES)[number];

/** isDeviceType tells whether a text names one. */
export function isDeviceType(text: string): text is DeviceType {
  return (DEVICE_TYPES as readonly string[]).includes(text);
}

/** FeatureValue is a value of a simulated device. */
export type FeatureValue = boolean | number | string;

/** Feature is something that a simulated device reports, and perhaps takes commands for. */
export interface Feature {
  readonly name: string;
  readonly type: ValueType;
  readonly unit?: string;
  readonly min?: number;
  readonly max?: number;
  readonly allowed?: readonly string[];
  readonly invocable: boolean;
  readonly description: string;
  readonly initial: FeatureValue;
}

/** Change is a value that became another one. */
export interface Change {
  readonly key: string;
  readonly before: FeatureValue;
  readonly value: FeatureValue;
}

/** Reaction is what a device does about a command. */
export type Reaction = { readonly value: FeatureValue; readonly changes: readonly Change[] } | { readonly failure: Failure };

interface Kind {
  /** What the registry calls it. */
  readonly nodeType: string;
  readonly features: readonly Feature[];
  /** What else a command changes. */
  readonly follows?: (key: string, value: FeatureValue) => readonly (readonly [string, FeatureValue])[];
  /** What a second does. */
  readonly step?: (state: ReadonlyMap<string, FeatureValue>, prng: Prng) => readonly (readonly [string, FeatureValue])[];
  /** Commands to try. */
  readonly examples: readonly (readonly [string, string])[];
}

const SWITCH: Feature = {
  name: "state",
  type: VALUE_TYPE.STRING,
  allowed: ["ON", "OFF", "TOGGLE"],
  invocable: true,
  description: "On or off.",
  initial: "OFF",
};

/** measured is a number that is only reported. */
const measured = (name: string, unit: string, min: number, max: number, initial: number, description: string): Feature => ({
  name,
  type: VALUE_TYPE.DOUBLE,
  unit,
  min,
  max,
  invocable: false,
  description,
  initial,
});

const tenth = (value: number): number => Math.round(value * 10) / 10;
const within = (value: number, min: number, max: number): number => Math.min(max, Math.max(min, value));
const wander = (value: unknown, prng: Prng, by: number): number => tenth(Number(value) + (prng.unit() - 0.5) * by);

/** Temperature of a room that nobody heats, °C. */
const UNHEATED = 15;

const KINDS: Readonly<Record<DeviceType, Kind>> = {
  lamp: {
    nodeType: "light",
    features: [
      SWITCH,
      {
        name: "brightness",
        type: VALUE_TYPE.DOUBLE,
        unit: "%",
        min: 0,
        max: 100,
        invocable: true,
        description: "How bright it is when it is on.",
        initial: 100,
      },
    ],
    // A lamp that is given a brightness is on; one that is switched off keeps its brightness.
    follows: (key, value) => (key === "brightness" ? [["state", Number(value) > 0 ? "ON" : "OFF"]] : []),
    examples: [
      ["state", "ON"],
      ["brightness", "40"],
    ],
  },
  thermostat: {
    nodeType: "thermostat",
    features: [
      {
        name: "target",
        type: VALUE_TYPE.DOUBLE,
        unit: "°C",
        min: 5,
        max: 30,
        invocable: true,
        description: "Temperature that it heats to.",
        initial: 20,
      },
      measured("temperature", "°C", -40, 80, 17.5, "Temperature of the room."),
      { name: "heating", type: VALUE_TYPE.BOOL, invocable: false, description: "Whether it heats now.", initial: true },
    ],
    step: (state) => {
      const [now, target] = [Number(state.get("temperature")), Number(state.get("target"))];
      const next = tenth(now < target ? Math.min(target, now + 0.2) : Math.max(target, UNHEATED, now - 0.1));
      return [
        ["temperature", next],
        ["heating", next < target],
      ];
    },
    examples: [["target", "22.5"]],
  },
  sensor: {
    nodeType: "sensor",
    features: [
      measured("temperature", "°C", -40, 80, 21, "Temperature of the air."),
      measured("humidity", "%", 0, 100, 45, "Relative humidity of the air."),
    ],
    step: (state, prng) => [
      ["temperature", within(wander(state.get("temperature"), prng, 0.6), -40, 80)],
      ["humidity", within(wander(state.get("humidity"), prng, 2), 0, 100)],
    ],
    examples: [],
  },
  plug: {
    nodeType: "plug",
    features: [SWITCH, measured("power", "W", 0, 3_680, 0, "Power that is drawn now.")],
    follows: (key, value) => (key === "state" ? [["power", value === "ON" ? 42 : 0]] : []),
    step: (state, prng) => (state.get("state") === "ON" ? [["power", within(wander(state.get("power"), prng, 3), 30, 55)]] : []),
    examples: [["state", "ON"]],
  },
};

/** seedOf makes a seed of a name, so that two sensors measure different things (FNV-1a). */
function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

/** SimulatedDevice is one device. What it reports is always within what its features say. */
export class SimulatedDevice {
  readonly type: DeviceType;
  readonly nodeType: string;
  readonly features: readonly Feature[];
  /** Commands to try: capability and value. */
  readonly examples: readonly (readonly [string, string])[];
  readonly #kind: Kind;
  readonly #prng: Prng;
  readonly #state: Map<string, FeatureValue>;

  constructor(type: DeviceType, nodeId: string) {
    this.#kind = KINDS[type];
    this.type = type;
    this.nodeType = this.#kind.nodeType;
    this.features = this.#kind.features;
    this.examples = this.#kind.examples;
    this.#prng = new Prng(seedOf(nodeId));
    this.#state = new Map(this.features.map(({ name, initial }) => [name, initial]));
  }

  /** state is what it reports now, in the order of its features. */
  get state(): ReadonlyMap<string, FeatureValue> {
    return this.#state;
  }

  /** invoke runs a command. Nothing changes if it is refused. */
  invoke(name: string, value: unknown): Reaction {
    const feature = this.features.find((candidate) => candidate.name === name);
    if (feature === undefined) return refused("CAPABILITY_NOT_FOUND", `a simulated ${this.type} has no ${name}`);
    if (!feature.invocable) return refused("CAPABILITY_ACCESS", `${name} is only reported and cannot be set`);
    const problem = problemOf(feature, value);
    if (problem !== undefined) return refused("VALUE_OUT_OF_RANGE", `${name} ${problem}`);
    const taken = value === "TOGGLE" ? (this.#state.get(name) === "ON" ? "OFF" : "ON") : (value as FeatureValue);
    return { value: taken, changes: this.#apply([[name, taken], ...(this.#kind.follows?.(name, taken) ?? [])]) };
  }

  /** step lets a second pass. */
  step(): readonly Change[] {
    return this.#apply(this.#kind.step?.(this.#state, this.#prng) ?? []);
  }

  #apply(values: readonly (readonly [string, FeatureValue])[]): readonly Change[] {
    return values.flatMap(([key, value]) => {
      const before = this.#state.get(key);
      if (before === undefined || before === value) return [];
      this.#state.set(key, value);
      return [{ key, before, value }];
    });
  }
}

function refused(reason: Failure["reason"], message: string): Reaction {
  return { failure: fail(reason, message).failure };
}

/** problemOf says what is wrong with a value; undefined if the feature takes it. */
function problemOf({ type, min = -Infinity, max = Infinity, allowed = [], unit = "" }: Feature, value: unknown): string | undefined {
  if (type === VALUE_TYPE.STRING)
    return typeof value === "string" && allowed.includes(value) ? undefined : `takes one of ${allowed.join(", ")}`;
  return typeof value === "number" && value >= min && value <= max ? undefined : `takes a number from ${min} to ${max} ${unit}`.trim();
}
