import type { CapabilityInit } from "../mapping.ts";
import type { Options } from "./discovery.ts";
import { type EntityKey, numberIn, onOff, partOf, quantity, textsIn, wordIn, words } from "./entity.ts";

/** parts makes a key of each pair of topics that begins with a name: `mode_state_topic`, `mode_command_topic`. */
function parts(options: Options, problems: string[]) {
  return (part: string, name: string, what: string, kind: Parameters<typeof partOf>[2], template?: string): EntityKey | undefined => {
    const stateTemplate = template ?? `${name}_state_template`;
    const names = {
      part,
      state: `${name}_state_topic`,
      stateTemplate: options[stateTemplate] === undefined ? "value_template" : stateTemplate,
      command: `${name}_command_topic`,
      commandTemplate: `${name}_command_template`,
      what,
    };
    return partOf(options, names, kind, problems);
  };
}

/** measured is a value that is read only: `current_temperature_topic`. */
function measured(
  options: Options,
  problems: string[],
  name: string,
  what: string,
  kind: Parameters<typeof partOf>[2],
): EntityKey | undefined {
  const [state, own] = [`${name}_topic`, `${name}_template`];
  const stateTemplate = options[own] === undefined ? "value_template" : own;
  return partOf(options, { part: name, state, stateTemplate, what }, kind, problems);
}

function bounds(options: Options, name: string, low: number, high: number, unit: string): Partial<CapabilityInit> {
  const [min, max] = [numberIn(options, `min_${name}`) ?? low, numberIn(options, `max_${name}`) ?? high];
  return { unit, ...(min <= max ? { min, max } : {}) };
}

const MODES = ["auto", "off", "cool", "heat", "dry", "fan_only"];
const FANS = ["auto", "low", "medium", "high"];

/** climate maps thermostats and air conditioners. */
export function climate(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const part = parts(options, problems);
  const fahrenheit = wordIn(options, "temperature_unit", "C") === "F";
  const unit = fahrenheit ? "°F" : "°C";
  const degrees = quantity(bounds(options, "temp", fahrenheit ? 44.6 : 7, fahrenheit ? 95 : 35, unit));
  const listed = (name: string, fallback: readonly string[]): readonly string[] =>
    Array.isArray(options[name]) ? textsIn(options, name) : fallback;
  const power = onOff(wordIn(options, "payload_on", "ON"), wordIn(options, "payload_off", "OFF"));
  const presets = ["none", ...textsIn(options, "preset_modes")];
  return [
    part("mode", "mode", "Mode.", words(listed("modes", MODES))),
    part("temperature", "temperature", "Temperature that it is set to.", degrees),
    part("temperature_high", "temperature_high", "Highest temperature.", degrees),
    part("temperature_low", "temperature_low", "Lowest temperature.", degrees),
    part("fan_mode", "fan_mode", "Fan mode.", words(listed("fan_modes", FANS))),
    part("swing_mode", "swing_mode", "Swing mode.", words(listed("swing_modes", ["on", "off"]))),
    part("preset_mode", "preset_mode", "Preset.", words(presets), "preset_mode_value_template"),
    part("humidity", "target_humidity", "Humidity that it is set to.", quantity(bounds(options, "humidity", 30, 99, "%"))),
    part("power", "power", "On or off.", power),
    measured(options, problems, "current_temperature", "Temperature.", quantity({ unit })),
    measured(options, problems, "current_humidity", "Humidity.", quantity({ unit: "%" })),
    measured(
      options,
      problems,
      "action",
      "What it does.",
      words(["off", "heating", "cooling", "drying", "idle", "fan", "preheating", "defrosting"]),
    ),
  ];
}

/** waterHeater maps a boiler. */
export function waterHeater(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const part = parts(options, problems);
  const fahrenheit = wordIn(options, "temperature_unit", "C") === "F";
  const unit = fahrenheit ? "°F" : "°C";
  const modes = Array.isArray(options["modes"])
    ? textsIn(options, "modes")
    : ["off", "eco", "electric", "gas", "heat_pump", "high_demand", "performance"];
  const power = onOff(wordIn(options, "payload_on", "ON"), wordIn(options, "payload_off", "OFF"));
  return [
    part("mode", "mode", "Mode.", words(modes)),
    part(
      "temperature",
      "temperature",
      "Temperature that it is set to.",
      quantity(bounds(options, "temp", fahrenheit ? 110 : 43.3, fahrenheit ? 140 : 60, unit)),
    ),
    part("power", "power", "On or off.", power),
    measured(options, problems, "current_temperature", "Temperature.", quantity({ unit })),
  ];
}

/** state is the switch of what is on or off, and has more parts beside that. */
function state(options: Options, problems: string[]): EntityKey | undefined {
  const stateTemplate = options["state_value_template"] === undefined ? "value_template" : "state_value_template";
  const names = {
    part: "",
    state: "state_topic",
    stateTemplate,
    command: "command_topic",
    commandTemplate: "command_template",
    what: "On or off.",
  };
  return partOf(options, names, onOff(wordIn(options, "payload_on", "ON"), wordIn(options, "payload_off", "OFF")), problems);
}

/** fan maps a fan. */
export function fan(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const part = parts(options, problems);
  const [low, high] = [numberIn(options, "speed_range_min") ?? 1, numberIn(options, "speed_range_max") ?? 100];
  // Speeds count from one below the lowest, which is off, to the highest.
  const scale = high >= low ? (high - low + 1) / 100 : 1;
  const swings = onOff(
    wordIn(options, "payload_oscillation_on", "oscillate_on"),
    wordIn(options, "payload_oscillation_off", "oscillate_off"),
  );
  return [
    state(options, problems),
    part("percentage", "percentage", "Speed.", quantity({ min: 0, max: 100, unit: "%" }, scale, low - 1), "percentage_value_template"),
    part("preset_mode", "preset_mode", "Preset.", words(textsIn(options, "preset_modes")), "preset_mode_value_template"),
    part("oscillation", "oscillation", "Whether it swings.", swings, "oscillation_value_template"),
    part("direction", "direction", "Direction.", words(["forward", "reverse"]), "direction_value_template"),
  ];
}

/** humidifier maps humidifiers and dehumidifiers. */
export function humidifier(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const part = parts(options, problems);
  return [
    state(options, problems),
    part("humidity", "target_humidity", "Humidity that it is set to.", quantity(bounds(options, "humidity", 0, 100, "%"))),
    part("mode", "mode", "Mode.", words(textsIn(options, "modes"))),
    measured(options, problems, "current_humidity", "Humidity.", quantity({ unit: "%" })),
    measured(options, problems, "action", "What it does.", words(["off", "humidifying", "drying", "idle"])),
  ];
}
