import { VALUE_TYPE, type ValueType } from "../../../clients/typescript/index.ts";
import { textOf } from "../../shared/node-id.ts";
import { CAPABILITIES_MAX } from "../../shared/source.ts";
import { isTree, isUnreadable, parseJson } from "../../shared/values.ts";
import type { CapabilityInit } from "../mapping.ts";

/** Bits of `access`: the property is in what the device publishes, can be set, can be asked for. */
const STATE = 1;
const SET = 2;
const GET = 4;

/** Nesting of features that is followed, and values of one that are told. */
const DEPTH_MAX = 8;
const ALLOWED_MAX = 256;
const NAME_MAX_BYTES = 127;
const SCHEMA_MAX_BYTES = 16 * 1024;

/** Key is a property of a device as a node has it. */
export interface Key {
  readonly capability: CapabilityInit & { readonly name: string; readonly type: ValueType };
  /** The device publishes it. */
  readonly reported: boolean;
  readonly settable: boolean;
  readonly gettable: boolean;
  /** Values that ask for a change and are no state: whatever is reported next confirms them. */
  readonly verbs: ReadonlySet<string>;
  /** value_on and value_off as they are on the wire, by what they are called here. */
  readonly wire: ReadonlyMap<string, unknown>;
}

/** Exposed is what of a device's features became a key, and what did not. */
export interface Exposed {
  readonly keys: ReadonlyMap<string, Key>;
  readonly unmapped: readonly { readonly feature: string; readonly why: string }[];
}

type Tree = Readonly<Record<string, unknown>>;

const num = (value: unknown): number | undefined => (typeof value === "number" && Number.isFinite(value) ? value : undefined);
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** exposedBy reads the features of a definition. */
export function exposedBy(exposes: unknown): Exposed {
  const keys = new Map<string, Key>();
  const unmapped: { feature: string; why: string }[] = [];
  for (const feature of list(exposes).flatMap((expose) => flatten(expose, DEPTH_MAX))) {
    const key = keyOf(feature);
    if (typeof key === "string") unmapped.push({ feature: textOf(feature["name"] ?? feature["type"], NAME_MAX_BYTES), why: key });
    else {
      const { name } = key.capability;
      const known = keys.get(name);
      if (known !== undefined) keys.set(name, merged(known, key));
      else if (keys.size < CAPABILITIES_MAX) keys.set(name, key);
      else unmapped.push({ feature: name, why: `a node has at most ${CAPABILITIES_MAX} capabilities` });
    }
  }
  return { keys, unmapped };
}

/** typeOf is what a device is, by its features. */
export function typeOf(exposes: unknown): string {
  const types = new Set(list(exposes).flatMap((expose) => (isTree(expose) ? [expose["type"], expose["name"]] : [])));
  const known = ["light", "switch", "cover", "climate", "lock", "fan"].find((name) => types.has(name));
  return known ?? (types.has("action") ? "remote" : "sensor");
}

/** Features of one function of the device (light, switch, climate) stand for themselves; a composite or a list is one value. */
function flatten(expose: unknown, left: number): readonly Tree[] {
  if (!isTree(expose)) return [{ type: "nothing that is known" }];
  const features = expose["features"];
  if (expose["type"] === "composite" || expose["type"] === "list" || !Array.isArray(features) || left === 0) return [expose];
  return features.flatMap((feature) => flatten(feature, left - 1));
}

function keyOf(feature: Tree): Key | string {
  const named = feature["property"] ?? feature["name"];
  const name = textOf(named, NAME_MAX_BYTES);
  if (name === "" || name !== named) return "its name is not a text of 1 to 127 bytes";
  if (name.startsWith("source:")) return "names that begin with source: are the adapter's own";
  const access = num(feature["access"]) ?? STATE;
  const [reported, settable, gettable] = [(access & STATE) !== 0, (access & SET) !== 0, (access & GET) !== 0];
  const capability = {
    name,
    unit: textOf(feature["unit"], 63),
    description: textOf(feature["description"], 1_024),
    readable: reported || gettable,
    invocable: settable,
    idempotent: settable && feature["value_toggle"] === undefined,
  };
  const rest = { reported: reported || gettable, settable, gettable, verbs: new Set<string>(), wire: new Map<string, unknown>() };
  switch (feature["type"]) {
    case "numeric":
      return { ...rest, capability: { ...capability, type: VALUE_TYPE.DOUBLE, ...rangeOf(feature) } };
    case "binary":
      return binary(feature, capability, rest);
    case "enum": {
      const values = list(feature["values"]).filter((value) => typeof value !== "object");
      const allowed = [...new Set(values.map((value) => textOf(String(value), 1_024)))].slice(0, ALLOWED_MAX);
      const verbs = new Set(allowed.filter((value) => VERBS.test(value)));
      const wire = new Map(values.map((value) => [String(value), value]));
      // A command takes what is listed; a state may be anything else as well, and is told as it is.
      return { ...rest, verbs, wire, capability: { ...capability, type: VALUE_TYPE.STRING, allowed } };
    }
    case "text":
      return { ...rest, capability: { ...capability, type: VALUE_TYPE.STRING } };
    case "composite":
    case "list": {
      const schema = JSON.stringify(schemaOf(feature, DEPTH_MAX));
      const short = Buffer.byteLength(schema) <= SCHEMA_MAX_BYTES ? { schema } : {};
      return { ...rest, capability: { ...capability, type: VALUE_TYPE.JSON, ...short } };
    }
    default:
      return `features of the type ${textOf(feature["type"], 63) || "?"} are not known`;
  }
}

/** Values that a device does and does not become. */
const VERBS = /^(toggle|stop|open|close|lock|unlock|pause)$/i;

function rangeOf(feature: Tree): { readonly min?: number; readonly max?: number; readonly step?: number } {
  const [min, max, step] = [num(feature["value_min"]), num(feature["value_max"]), num(feature["value_step"])];
  const sound = min === undefined || max === undefined || min <= max;
  return {
    ...(min !== undefined && sound ? { min } : {}),
    ...(max !== undefined && sound ? { max } : {}),
    ...(step !== undefined && step > 0 ? { step } : {}),
  };
}

type Base = Omit<Key, "capability">;

function binary(feature: Tree, capability: CapabilityInit & { readonly name: string }, rest: Base): Key {
  const { value_on: on, value_off: off, value_toggle: toggle } = feature;
  if (typeof on === "boolean" && typeof off === "boolean" && toggle === undefined) {
    // A device for which `on` is false means the opposite of what it says.
    const wire = new Map<string, unknown>(on ? [] : [["inverted", true]]);
    return { ...rest, wire, capability: { ...capability, type: VALUE_TYPE.BOOL } };
  }
  const values = [on, off, toggle].filter((value) => value !== undefined && value !== null && typeof value !== "object");
  const allowed = [...new Set(values.map((value) => textOf(String(value), 1_024)))];
  const verbs = new Set(toggle === undefined ? [] : [String(toggle)]);
  const wire = new Map(values.map((value) => [String(value), value]));
  return { ...rest, verbs, wire, capability: { ...capability, type: VALUE_TYPE.STRING, allowed } };
}

function schemaOf(feature: Tree, left: number): object {
  if (left === 0) return {};
  const inner = (part: unknown): object => (isTree(part) ? schemaOf(part, left - 1) : {});
  const [min, max] = [num(feature["value_min"]), num(feature["value_max"])];
  switch (feature["type"]) {
    case "composite": {
      const parts = list(feature["features"]).flatMap((part) => (isTree(part) ? [part] : []));
      return { type: "object", properties: Object.fromEntries(parts.map((part) => [partName(part), inner(part)])) };
    }
    case "list":
      return { type: "array", items: inner(feature["item_type"]) };
    case "numeric":
      return { type: "number", ...(min === undefined ? {} : { minimum: min }), ...(max === undefined ? {} : { maximum: max }) };
    case "binary":
      return { enum: [feature["value_on"], feature["value_off"]].filter((value) => value !== undefined) };
    case "enum":
      return { enum: list(feature["values"]).slice(0, ALLOWED_MAX) };
    default:
      return { type: "string" };
  }
}

function partName(part: Tree): string {
  return textOf(part["property"] ?? part["name"] ?? part["type"], NAME_MAX_BYTES);
}

/** Two functions of one device may share a property: the key then does what either does. */
function merged(a: Key, b: Key): Key {
  const { capability: one } = a;
  const { capability: two } = b;
  const both = {
    reported: a.reported || b.reported,
    settable: a.settable || b.settable,
    gettable: a.gettable || b.gettable,
    verbs: new Set([...a.verbs, ...b.verbs]),
    wire: new Map([...a.wire, ...b.wire]),
  };
  const capability = {
    ...one,
    readable: both.reported,
    invocable: both.settable,
    idempotent: one.idempotent === true && two.idempotent === true,
  };
  if (one.type !== two.type) return { ...both, capability };
  const [a0, b0] = [one.allowed ?? [], two.allowed ?? []];
  if (a0.length > 0) return { ...both, capability: { ...capability, allowed: b0.length > 0 ? [...new Set([...a0, ...b0])] : [] } };
  const wider = (pick: (x: number, y: number) => number, x?: number, y?: number): number | undefined =>
    x === undefined || y === undefined ? undefined : pick(x, y);
  const { min: _min, max: _max, step: _step, ...plain } = capability;
  const [min, max] = [wider(Math.min, one.min, two.min), wider(Math.max, one.max, two.max)];
  const range = { ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) };
  return { ...both, capability: one.type === VALUE_TYPE.DOUBLE ? { ...plain, ...range } : capability };
}

/** wireOf is a value of a command as it stands in the message to the device. */
export function wireOf(key: Key, value: unknown): unknown {
  if (key.capability.type === VALUE_TYPE.BOOL) return key.wire.get("inverted") === true ? !value : value;
  if (key.capability.type !== VALUE_TYPE.JSON) return key.wire.get(String(value)) ?? value;
  const read = parseJson(String(value));
  return isUnreadable(read) ? undefined : read;
}
