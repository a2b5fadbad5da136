import type { CapabilityInit } from "../mapping.ts";
import { climate, fan, humidifier, waterHeater } from "./comfort.ts";
import type { Options } from "./discovery.ts";
import {
  type EntityKey,
  has,
  numberIn,
  onOff,
  type PartNames,
  partOf,
  quantity,
  textsIn,
  Unmapped,
  verbsOf,
  wordIn,
  words,
} from "./entity.ts";
import { light } from "./light.ts";
import { alarm, cover, lawnMower, lock, vacuum, valve } from "./moving.ts";

/** Mapped is what an entity becomes, and what of it does not. */
export interface Mapped {
  readonly keys: readonly EntityKey[];
  readonly problems: readonly string[];
}

/** Mapper makes keys of the options of one kind of component. What it throws is Unmapped. */
export type Mapper = (options: Options, problems: string[]) => (EntityKey | undefined)[];

const STATE: PartNames = { part: "", state: "state_topic", command: "command_topic", what: "State." };

/** Device classes whose values are texts. */
const TEXTS = new Set(["enum", "timestamp", "date"]);

function range(options: Options, min?: number, max?: number): Partial<CapabilityInit> {
  const [low, high, step] = [numberIn(options, "min") ?? min, numberIn(options, "max") ?? max, numberIn(options, "step")];
  if (low !== undefined && high !== undefined && low > high) throw new Unmapped("its min is greater than its max");
  return {
    ...(low === undefined ? {} : { min: low }),
    ...(high === undefined ? {} : { max: high }),
    ...(step === undefined || step <= 0 ? {} : { step }),
    unit: wordIn(options, "unit_of_measurement", "").slice(0, 20),
  };
}

const sensor: Mapper = (options, problems) => {
  const names = { part: "", state: "state_topic", what: wordIn(options, "device_class", "Value.") };
  const numeric = ["unit_of_measurement", "state_class", "suggested_display_precision"].some((name) => has(options, name));
  if (numeric && !TEXTS.has(wordIn(options, "device_class", ""))) {
    const unit = wordIn(options, "unit_of_measurement", "").slice(0, 20);
    return [partOf(options, names, quantity({ unit }), problems)];
  }
  return [partOf(options, names, words(textsIn(options, "options")), problems)];
};

const binarySensor: Mapper = (options, problems) => {
  const kind = onOff(wordIn(options, "payload_on", "ON"), wordIn(options, "payload_off", "OFF"));
  return [partOf(options, { part: "", state: "state_topic", what: wordIn(options, "device_class", "On or off.") }, kind, problems)];
};

const switching: Mapper = (options, problems) => {
  const [on, off] = [wordIn(options, "payload_on", "ON"), wordIn(options, "payload_off", "OFF")];
  const kind = onOff(on, off, [wordIn(options, "state_on", on), wordIn(options, "state_off", off)]);
  return [partOf(options, { ...STATE, what: "On or off." }, kind, problems)];
};

const number: Mapper = (options, problems) => [partOf(options, { ...STATE, what: "Value." }, quantity(range(options, 1, 100)), problems)];

const select: Mapper = (options, problems) => {
  const allowed = textsIn(options, "options");
  if (allowed.length === 0) throw new Unmapped("it has no options");
  return [partOf(options, { ...STATE, what: "One of its options." }, words(allowed), problems)];
};

const text: Mapper = (options, problems) => [partOf(options, { ...STATE, what: "Text." }, words(), problems)];

/** press makes a mapper of what can be set off and has no state. */
function press(option: string, fallback: string, word: string): Mapper {
  return (options) => {
    const payload = wordIn(options, option, fallback);
    return [verbsOf(options, "", "Sets it off.", [{ word, payload }], undefined)];
  };
}

const notify: Mapper = (options, problems) => [
  partOf(options, { part: "", command: "command_topic", what: "Message to be shown." }, words(), problems),
];

const event: Mapper = (options, problems) => {
  const types = textsIn(options, "event_types");
  const kind = words(types);
  const names = { part: "", state: "state_topic", what: "The last event." };
  // What a template leaves is an object that has the type of the event in it.
  const plain = has(options, "value_template") ? options : { ...options, value_template: "{{ value_json.event_type }}" };
  return [partOf(plain, names, kind, problems)];
};

const siren: Mapper = (options, problems) => {
  const keys = switching(options, problems);
  if (has(options, "available_tones") || options["support_volume_set"] !== false || options["support_duration"] !== false)
    problems.push("tones, volume and duration of a siren are not mapped");
  return keys;
};

const update: Mapper = (options, problems) => {
  const installed = { part: "installed", state: "state_topic", what: "Installed version." };
  const latest = { part: "latest", state: "latest_version_topic", stateTemplate: "latest_version_template", what: "Latest version." };
  // Without a template the payload may be a version, or an object with one.
  const keys = [partOf(options, installed, words(), problems), partOf(options, latest, words(), problems)];
  if (!has(options, "command_topic")) return keys;
  const payload = wordIn(options, "payload_install", "install");
  return [...keys, verbsOf(options, "install", "Installs the latest version.", [{ word: "INSTALL", payload }], undefined)];
};

const tracker: Mapper = (options, problems) => {
  if (has(options, "json_attributes_topic")) problems.push("positions of a device tracker are not mapped");
  if (!has(options, "state_topic")) throw new Unmapped("it has only a position, which is not mapped");
  const kind = words([]);
  const home = new Map([
    [wordIn(options, "payload_home", "home"), "home"],
    [wordIn(options, "payload_not_home", "not_home"), "not_home"],
  ]);
  const named = { ...kind, read: (value: unknown) => kind.read(home.get(String(value)) ?? value) };
  return [partOf(options, { part: "", state: "state_topic", what: "Where it is." }, named, problems)];
};

/** never makes a mapper of what is not mapped at all. */
const never =
  (why: string): Mapper =>
  () => {
    throw new Unmapped(why);
  };

/** MAPPERS are the components that are known, by their name. */
const MAPPERS: ReadonlyMap<string, Mapper> = new Map<string, Mapper>([
  ["alarm_control_panel", alarm],
  ["binary_sensor", binarySensor],
  ["button", press("payload_press", "PRESS", "PRESS")],
  ["camera", never("pictures are not mapped")],
  ["climate", climate],
  ["cover", cover],
  ["device_automation", never("a trigger has no state and takes no command")],
  ["device_tracker", tracker],
  ["event", event],
  ["fan", fan],
  ["humidifier", humidifier],
  ["image", never("pictures are not mapped")],
  ["lawn_mower", lawnMower],
  ["light", light],
  ["lock", lock],
  ["notify", notify],
  ["number", number],
  ["scene", press("payload_on", "ON", "ON")],
  ["select", select],
  ["sensor", sensor],
  ["siren", siren],
  ["switch", switching],
  ["tag", never("what a tag reader reads is no state of it")],
  ["text", text],
  ["update", update],
  ["vacuum", vacuum],
  ["valve", valve],
  ["water_heater", waterHeater],
]);

/** COMPONENTS are their names. */
export const COMPONENTS: readonly string[] = [...MAPPERS.keys()];

/** mapped makes keys of a component; a text says why there are none. */
export function mapped(platform: string, options: Options): Mapped | string {
  const mapper = MAPPERS.get(platform);
  if (mapper === undefined) return `components of the kind ${platform.slice(0, 40)} are not known`;
  if (options["encoding"] === "") return "its values are bytes and no text";
  const problems: string[] = [];
  try {
    const keys = mapper(options, problems).filter((key) => key !== undefined);
    if (keys.length === 0) return problems[0] ?? "it has neither a state nor a command";
    return { keys, problems };
  } catch (error) {
    if (error instanceof Unmapped) return error.message;
    throw error;
  }
}
