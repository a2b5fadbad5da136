import type { Options } from "./discovery.ts";
import {
  type EntityKey,
  has,
  numberIn,
  partOf,
  quantity,
  textsIn,
  topicIn,
  Unmapped,
  type Verb,
  verbsOf,
  wordIn,
  words,
} from "./entity.ts";

/** states reads the words of a state as they are called here. */
function states(options: Options, named: readonly (readonly [option: string, fallback: string, word: string])[]): ReturnType<typeof words> {
  const byWire = new Map(named.map(([option, fallback, word]) => [wordIn(options, option, fallback), word]));
  const kind = words([...new Set(named.map(([, , word]) => word))]);
  return { ...kind, read: (value) => kind.read(byWire.get(String(value)) ?? value) };
}

const OPENING = [
  ["state_open", "open", "open"],
  ["state_opening", "opening", "opening"],
  ["state_closed", "closed", "closed"],
  ["state_closing", "closing", "closing"],
  ["state_stopped", "stopped", "stopped"],
] as const;

/** position is how far something is open, 0 to 100. */
function position(options: Options, state: string, stateTemplate: string, problems: string[]): EntityKey | undefined {
  const [closed, open] = [numberIn(options, "position_closed") ?? 0, numberIn(options, "position_open") ?? 100];
  if (closed === open) throw new Unmapped("its position_open is its position_closed");
  const scale = (open - closed) / 100;
  const names = {
    part: "position",
    state,
    stateTemplate,
    command: "set_position_topic",
    commandTemplate: "set_position_template",
    what: "How far it is open.",
  };
  return partOf(options, names, quantity({ min: 0, max: 100, unit: "%" }, scale, closed), problems);
}

function opened(options: Options, what: string): readonly Verb[] {
  const verb = (word: string, option: string, fallback: string, becomes: readonly string[]): Verb[] =>
    options[option] === null ? [] : [{ word, payload: wordIn(options, option, fallback), becomes }];
  return [
    ...verb("OPEN", "payload_open", "OPEN", ["open", "opening"]),
    ...verb("CLOSE", "payload_close", "CLOSE", ["closed", "closing"]),
    ...(what === "valve" && !has(options, "payload_stop") ? [] : verb("STOP", "payload_stop", "STOP", ["stopped", "open", "closed"])),
  ];
}

/** cover maps blinds, doors and gates. */
export function cover(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const state = partOf(options, { part: "", state: "state_topic", what: "Whether it is open." }, states(options, OPENING), problems);
  const tilts = quantity({ min: numberIn(options, "tilt_min") ?? 0, max: numberIn(options, "tilt_max") ?? 100 });
  const tilt = {
    part: "tilt",
    state: "tilt_status_topic",
    stateTemplate: "tilt_status_template",
    command: "tilt_command_topic",
    commandTemplate: "tilt_command_template",
    what: "Its tilt.",
  };
  return [
    state,
    has(options, "command_topic") ? verbsOf(options, "command", "Moves it.", opened(options, "cover"), state && "") : undefined,
    position(options, "position_topic", "position_template", problems),
    partOf(options, tilt, tilts, problems),
  ];
}

/** valve maps a valve, which reports a state or a position on one topic. */
export function valve(options: Options, problems: string[]): (EntityKey | undefined)[] {
  if (options["reports_position"] === true) {
    const both = { ...options, set_position_topic: options["command_topic"], set_position_template: options["command_template"] };
    return [position(both, "state_topic", "value_template", problems)];
  }
  const state = partOf(options, { part: "", state: "state_topic", what: "Whether it is open." }, states(options, OPENING), problems);
  return [
    state,
    has(options, "command_topic") ? verbsOf(options, "command", "Moves it.", opened(options, "valve"), state && "") : undefined,
  ];
}

/** lock maps a lock; one that wants a code takes no command from here. */
export function lock(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const named = ["locked", "unlocked", "locking", "unlocking", "jammed"].map(
    (word) => [`state_${word}`, word.toUpperCase(), word] as const,
  );
  const state = partOf(options, { part: "", state: "state_topic", what: "Whether it is locked." }, states(options, named), problems);
  if (has(options, "code_format")) {
    problems.push("a lock that wants a code takes no commands");
    return [state];
  }
  const verbs: Verb[] = [
    { word: "LOCK", payload: wordIn(options, "payload_lock", "LOCK"), becomes: ["locked", "locking"] },
    { word: "UNLOCK", payload: wordIn(options, "payload_unlock", "UNLOCK"), becomes: ["unlocked", "unlocking"] },
    ...(has(options, "payload_open") ? [{ word: "OPEN", payload: wordIn(options, "payload_open", "OPEN") }] : []),
  ];
  return [state, verbsOf(options, "command", "Locks or unlocks it.", verbs, state && "")];
}

const ARMS = ["arm_home", "arm_away", "arm_night", "arm_vacation", "arm_custom_bypass", "trigger"] as const;

/** alarm maps an alarm; what it wants a code for is not to be had from here. */
export function alarm(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const state = partOf(options, { part: "", state: "state_topic", what: "State of the alarm." }, words(), problems);
  topicIn(options, "command_topic");
  const coded = has(options, "code");
  const needs = (what: string): boolean => coded && options[`code_${what}_required`] !== false;
  const features = has(options, "supported_features") ? textsIn(options, "supported_features") : ARMS;
  const verbs: Verb[] = ARMS.filter((word) => features.includes(word) && !needs(word === "trigger" ? "trigger" : "arm")).map((word) => ({
    word: word.toUpperCase(),
    payload: wordIn(options, `payload_${word}`, word.toUpperCase()),
    becomes: word === "trigger" ? ["triggered", "pending"] : [`armed_${word.slice(4)}`, "arming"],
  }));
  if (!needs("disarm"))
    verbs.push({ word: "DISARM", payload: wordIn(options, "payload_disarm", "DISARM"), becomes: ["disarmed", "disarming"] });
  if (coded) problems.push("commands of an alarm that want a code are not mapped");
  if (verbs.length === 0) return [state];
  return [state, verbsOf({ ...options, command_template: undefined }, "command", "Arms or disarms it.", verbs, state && "")];
}

const CLEANS = [
  ["START", "payload_start", "start", ["cleaning"]],
  ["PAUSE", "payload_pause", "pause", ["paused"]],
  ["STOP", "payload_stop", "stop", ["idle", "paused"]],
  ["RETURN_TO_BASE", "payload_return_to_base", "return_to_base", ["returning", "docked"]],
  ["CLEAN_SPOT", "payload_clean_spot", "clean_spot", ["cleaning"]],
  ["LOCATE", "payload_locate", "locate", undefined],
] as const;

/** vacuum maps a vacuum cleaner, whose state is an object. */
export function vacuum(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const member = (name: string): Options => ({ ...options, value_template: `{{ value_json.${name} }}` });
  const state = partOf(member("state"), { part: "", state: "state_topic", what: "What it does." }, words(), problems);
  const speed = {
    part: "fan_speed",
    state: "state_topic",
    command: "set_fan_speed_topic",
    commandTemplate: "no_template",
    what: "Fan speed.",
  };
  const battery = { part: "battery", state: "state_topic", what: "Battery level." };
  if (has(options, "send_command_topic")) problems.push("commands of a vacuum's own are not mapped");
  const verbs = CLEANS.map(([word, option, fallback, becomes]) => ({
    word,
    payload: wordIn(options, option, fallback),
    ...(becomes === undefined ? {} : { becomes }),
  }));
  return [
    state,
    has(options, "command_topic") ? verbsOf(options, "command", "What it is to do.", verbs, state && "") : undefined,
    has(options, "set_fan_speed_topic")
      ? partOf(member("fan_speed"), speed, words(textsIn(options, "fan_speed_list")), problems)
      : undefined,
    partOf(member("battery_level"), battery, quantity({ unit: "%" }), problems),
  ];
}

/** lawnMower maps a lawn mower, which has a topic for each command. */
export function lawnMower(options: Options, problems: string[]): (EntityKey | undefined)[] {
  const names = { part: "", state: "activity_state_topic", stateTemplate: "activity_value_template", what: "What it does." };
  const state = partOf(options, names, words(["mowing", "paused", "docked", "returning", "error"]), problems);
  const verb = (option: string, word: string, becomes: readonly string[]): EntityKey | undefined => {
    const topic = `${option}_command_topic`;
    if (!has(options, topic)) return undefined;
    return verbsOf(options, option, "What it is to do.", [{ word, payload: option, topic, becomes }], state && "");
  };
  return [
    state,
    verb("start_mowing", "START", ["mowing"]),
    verb("pause", "PAUSE", ["paused"]),
    verb("dock", "DOCK", ["docked", "returning"]),
  ];
}
