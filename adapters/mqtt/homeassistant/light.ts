import { isTree, isUnreadable, parseJson } from "../../shared/values.ts";
import type { Options } from "./discovery.ts";
import { type EntityKey, has, numberIn, onOff, partOf, quantity, structure, textsIn, topicIn, Unmapped, wordIn, words } from "./entity.ts";

/** light maps a light of any of the three schemas. */
export function light(options: Options, problems: string[]): (EntityKey | undefined)[] {
  switch (options["schema"] ?? "basic") {
    case "basic":
      return basic(options, problems);
    case "json":
      return json(options, problems);
    case "template":
      throw new Unmapped("lights of the schema template are templates throughout, which are not evaluated");
    default:
      throw new Unmapped("its schema is not known");
  }
}

function scaleOf(options: Options, name = "brightness_scale"): number {
  const scale = numberIn(options, name);
  return scale === undefined || scale <= 0 ? 255 : scale;
}

function temperature(options: Options): { readonly min: number; readonly max: number; readonly unit: string } {
  if (options["color_temp_kelvin"] === true)
    return { min: numberIn(options, "min_kelvin") ?? 2_000, max: numberIn(options, "max_kelvin") ?? 6_535, unit: "K" };
  return { min: numberIn(options, "min_mireds") ?? 153, max: numberIn(options, "max_mireds") ?? 500, unit: "mired" };
}

function basic(options: Options, problems: string[]): (EntityKey | undefined)[] {
  topicIn(options, "command_topic");
  const [on, off] = [wordIn(options, "payload_on", "ON"), wordIn(options, "payload_off", "OFF")];
  const stateTemplate = has(options, "state_value_template") ? "state_value_template" : "value_template";
  const part = (name: string, what: string, template = `${name}_value_template`) => ({
    part: name,
    state: `${name}_state_topic`,
    stateTemplate: template,
    command: `${name}_command_topic`,
    commandTemplate: `${name}_command_template`,
    what,
  });
  const colours = ["rgb", "rgbw", "rgbww", "hs", "xy"].map((name) =>
    partOf(options, part(name, "Colour, its parts with commas."), words(), problems),
  );
  if (has(options, "white_command_topic")) problems.push("the white part of a light is not mapped");
  // A command template of a light writes something else than its state.
  const state = {
    part: "",
    state: "state_topic",
    stateTemplate,
    command: "command_topic",
    commandTemplate: "no_template",
    what: "On or off.",
  };
  return [
    partOf(options, state, onOff(on, off), problems),
    partOf(options, part("brightness", "Brightness."), quantity({ min: 0, max: scaleOf(options) }), problems),
    partOf(options, part("color_temp", "Colour temperature."), quantity(temperature(options)), problems),
    partOf(options, part("effect", "Effect."), words(textsIn(options, "effect_list")), problems),
    ...colours,
  ];
}

function json(options: Options, problems: string[]): (EntityKey | undefined)[] {
  topicIn(options, "command_topic");
  const modes = textsIn(options, "supported_color_modes");
  const dims = options["brightness"] === true || modes.some((mode) => mode !== "onoff");
  const part = (name: string, member: string, what: string) => ({
    options: { ...options, value_template: `{{ value_json.${member} }}` },
    names: { part: name, state: "state_topic", command: "command_topic", commandTemplate: "no_template", what },
  });
  const made = (name: string, member: string, what: string, kind: Parameters<typeof partOf>[2]): EntityKey | undefined => {
    const { options: own, names } = part(name, member, what);
    const key = partOf(own, names, kind, problems);
    const { write = (value) => value } = kind;
    if (key?.commanding === undefined) return key;
    const payload = (value: Parameters<typeof write>[0]): string => {
      const wire = name === "color" ? parsed(String(value)) : write(value);
      return JSON.stringify(name === "" ? { state: wire } : { state: "ON", [member]: wire });
    };
    return { ...key, commanding: { ...key.commanding, payload } };
  };
  const coloured = modes.some((mode) => ["hs", "rgb", "rgbw", "rgbww", "xy"].includes(mode));
  return [
    made("", "state", "On or off.", onOff("ON", "OFF")),
    dims ? made("brightness", "brightness", "Brightness.", quantity({ min: 0, max: scaleOf(options) })) : undefined,
    modes.includes("color_temp") ? made("color_temp", "color_temp", "Colour temperature.", quantity(temperature(options))) : undefined,
    coloured ? made("color", "color", "Colour.", structure()) : undefined,
    options["effect"] === true ? made("effect", "effect", "Effect.", words(textsIn(options, "effect_list"))) : undefined,
  ];
}

function parsed(text: string): unknown {
  const read = parseJson(text);
  return isUnreadable(read) || !isTree(read) ? {} : read;
}
