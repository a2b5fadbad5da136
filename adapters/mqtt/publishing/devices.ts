import type { NodeInit, PlainValue, SetValue } from "../../../clients/typescript/index.ts";
import { VALUE_TYPE } from "../../../clients/typescript/index.ts";
import { textOf } from "../../shared/node-id.ts";
import { ORIGIN } from "../homeassistant/homeassistant.ts";
import type { CapabilityInit } from "../mapping.ts";

/** Longest state that Home Assistant takes, characters. */
const STATE_MAX = 255;
const PAYLOAD_MAX_BYTES = 4_096;

/** Published is how a capability of a peer's node is shown. */
export interface Published {
  readonly name: string;
  /** Id of its component, and the last part of its topics. */
  readonly id: string;
  readonly options: Readonly<Record<string, unknown>>;
  /** What it says at the broker, as text; undefined for what cannot be shown. */
  readonly show: (value: SetValue) => string | undefined;
  /** The value that a payload asks for; undefined for none. Missing: it takes no commands. */
  readonly ask?: (payload: string) => PlainValue | undefined;
}

/** PublishedDevice is a node of a peer as Home Assistant is told of it. */
export interface PublishedDevice {
  readonly config: string;
  readonly byName: ReadonlyMap<string, Published>;
  readonly byId: ReadonlyMap<string, Published>;
}

/** DeviceTopics say where the topics of a device are. */
export interface DeviceTopics {
  readonly id: string;
  readonly base: string;
  /** Topics that say whether the adapter, and the node, are there. */
  readonly availability: readonly string[];
}

/** idOf makes an object id of any text: what does not fit is written as its code. */
export function idOf(text: string): string {
  return text.replace(/[^A-Za-z0-9-]/gu, (character) =>
    character === "_" ? "__" : `_${(character.codePointAt(0) as number).toString(16)}_`,
  );
}

/** publishedDevice shows a node; undefined if nothing of it can be shown. */
export function publishedDevice(hubId: string, node: NodeInit, { id, base, availability }: DeviceTopics): PublishedDevice | undefined {
  const shown: Published[] = [];
  const components: Record<string, unknown> = {};
  for (const capability of node.capabilities ?? []) {
    const { name = "" } = capability;
    const part = name.startsWith("source:") || name === "" ? undefined : publishedOf(capability);
    if (part === undefined) continue;
    const key = idOf(name);
    shown.push({ name, id: key, show: part.show, options: part.options, ...(part.ask === undefined ? {} : { ask: part.ask }) });
    components[key] = {
      name: textOf(name, 127),
      unique_id: `${id}_${key}`,
      ...part.options,
      ...(capability.readable === true ? { state_topic: `${base}/${key}` } : {}),
      ...(part.ask === undefined ? {} : { command_topic: `${base}/${key}/set` }),
    };
  }
  if (shown.length === 0) return undefined;
  const config = {
    device: {
      identifiers: [id],
      name: textOf(node.name, 255) || `${node.nodeId} of ${hubId}`,
      manufacturer: ORIGIN,
      model: textOf(node.type, 255) || "node",
      suggested_area: hubId,
    },
    origin: { name: ORIGIN },
    availability: availability.map((topic) => ({ topic })),
    availability_mode: "all",
    qos: 1,
    components,
  };
  return {
    config: JSON.stringify(config),
    byName: new Map(shown.map((one) => [one.name, one])),
    byId: new Map(shown.map((one) => [one.id, one])),
  };
}

type Part = Pick<Published, "options" | "show" | "ask">;

const plainText = (value: SetValue): string | undefined => {
  const text = String(value);
  return text.length <= STATE_MAX ? text : undefined;
};

function publishedOf(capability: CapabilityInit): Part | undefined {
  const { readable = false, invocable = false, allowed = [] } = capability;
  if (!readable && !invocable) return undefined;
  switch (capability.type) {
    case VALUE_TYPE.BOOL:
      return boolean(readable, invocable);
    case VALUE_TYPE.DOUBLE:
    case VALUE_TYPE.SINT64:
      return number(capability, invocable);
    case VALUE_TYPE.STRING:
      return invocable && allowed.length > 0 ? choice(allowed, readable) : text(readable, invocable);
    default:
      // What is structured has no place in a state of Home Assistant.
      return undefined;
  }
}

const ON_OFF = { payload_on: "ON", payload_off: "OFF" };

function boolean(readable: boolean, invocable: boolean): Part | undefined {
  const show = (value: SetValue): string => (value === true ? "ON" : "OFF");
  if (!invocable) return { options: { platform: "binary_sensor", ...ON_OFF }, show };
  const ask = (payload: string): boolean | undefined => (payload === "ON" ? true : payload === "OFF" ? false : undefined);
  return { options: { platform: "switch", ...ON_OFF, ...(readable ? {} : { optimistic: true }) }, show, ask };
}

function number({ type, unit = "", min, max, step }: CapabilityInit, invocable: boolean): Part {
  const measure = unit === "" ? {} : { unit_of_measurement: unit };
  const show = plainText;
  if (!invocable) return { options: { platform: "sensor", ...measure, ...(unit === "" ? { state_class: "measurement" } : {}) }, show };
  const whole = type === VALUE_TYPE.SINT64;
  const ask = (payload: string): number | bigint | undefined => {
    if (whole) return /^-?\d{1,19}$/.test(payload) ? BigInt(payload) : undefined;
    const value = payload.trim() === "" ? Number.NaN : Number(payload);
    return Number.isFinite(value) ? value : undefined;
  };
  const range = { min: min ?? -1_000_000, max: max ?? 1_000_000, step: step ?? (whole ? 1 : 0.01), mode: "box" };
  return { options: { platform: "number", ...measure, ...range }, show, ask };
}

function choice(allowed: readonly string[], readable: boolean): Part {
  const [on, off] = [allowed.find((word) => /^on$/i.test(word)), allowed.find((word) => /^off$/i.test(word))];
  const ask = (payload: string): string | undefined => (allowed.includes(payload) ? payload : undefined);
  const others = allowed.filter((word) => word !== on && word !== off && !/^toggle$/i.test(word));
  if (readable && on !== undefined && off !== undefined && others.length === 0)
    return { options: { platform: "switch", payload_on: on, payload_off: off }, show: plainText, ask };
  if (!readable && allowed.length === 1) return { options: { platform: "button", payload_press: allowed[0] }, show: () => undefined, ask };
  return { options: { platform: "select", options: allowed.filter((word) => word.length <= STATE_MAX) }, show: plainText, ask };
}

function text(readable: boolean, invocable: boolean): Part {
  if (!invocable) return { options: { platform: "sensor" }, show: plainText };
  const ask = (payload: string): string | undefined =>
    Buffer.byteLength(payload) <= PAYLOAD_MAX_BYTES ? payload.toWellFormed() : undefined;
  if (!readable) return { options: { platform: "notify" }, show: () => undefined, ask };
  return { options: { platform: "text", max: STATE_MAX }, show: plainText, ask };
}
