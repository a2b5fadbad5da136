import { type SetValue, VALUE_TYPE, type ValueType } from "../../../clients/typescript/index.ts";
import { sameNumber } from "../../shared/confirmations.ts";
import { textOf } from "../../shared/node-id.ts";
import { isUnreadable, readValue, type Unreadable } from "../../shared/values.ts";
import type { CapabilityInit } from "../mapping.ts";
import type { Options } from "./discovery.ts";
import { type Read, reader, spoken, type Write, writer } from "./templates.ts";

/** Allowed values that are told. */
const ALLOWED_MAX = 256;

/** Unmapped is why an entity, or a part of one, is not mapped: one sentence. */
export class Unmapped extends Error {}

/** Reading is where a value comes from. `of` gives undefined where the message says nothing of it. */
export interface Reading {
  readonly topic: string;
  readonly of: (payload: string) => SetValue | Unreadable | undefined;
}

/** Commanding is where a command goes, and what confirms it. */
export interface Commanding {
  readonly topic: string;
  readonly payload: (value: SetValue) => string | Unreadable;
  readonly retain: boolean;
  /** Part of the entity whose report confirms it; missing: nothing does. */
  readonly confirmedBy?: string;
  readonly accepts: (asked: SetValue, said: SetValue) => boolean;
}

/** EntityKey is one capability of an entity. */
export interface EntityKey {
  /** Empty for the entity itself. */
  readonly part: string;
  readonly type: ValueType;
  readonly capability: Omit<CapabilityInit, "name" | "type">;
  readonly reading?: Reading | undefined;
  readonly commanding?: Commanding | undefined;
}

/** topicIn is a topic of some options. Throws Unmapped if it is missing, or none to be used. */
export function topicIn(options: Options, name: string): string {
  const topic = options[name];
  if (topic === undefined) throw new Unmapped(`it has no ${name}`);
  if (typeof topic !== "string" || topic === "" || Buffer.byteLength(topic) > 1_024 || /[+#\0]/.test(topic) || topic.startsWith("$"))
    throw new Unmapped(`its ${name} is not a topic`);
  return topic;
}

/** has tells whether an option is there. */
export function has(options: Options, name: string): boolean {
  return options[name] !== undefined && options[name] !== null;
}

/** numberIn is a finite number of some options. */
export function numberIn(options: Options, name: string): number | undefined {
  const value = options[name];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** textsIn is a list of texts of some options. */
export function textsIn(options: Options, name: string): string[] {
  const value = options[name];
  return Array.isArray(value) ? value.slice(0, ALLOWED_MAX).map((item) => textOf(spoken(item), 1_024)) : [];
}

/** wordIn is a payload of some options. */
export function wordIn(options: Options, name: string, fallback: string): string {
  const value = options[name];
  return value === undefined || value === null ? fallback : spoken(value);
}

/** readBy makes what reads by the template of an option. Opaque: the template is not evaluated, and the payload is told as it is. */
export function readBy(options: Options, template: string): { readonly read: Read; readonly opaque: boolean } {
  const read = reader(options[template]);
  return read === undefined ? { read: (payload) => payload, opaque: true } : { read, opaque: false };
}

const OPAQUE = "The template of this value is not evaluated: it is the payload as it came.";

/** writeBy makes what writes by the template of an option. Throws Unmapped for one that cannot be evaluated. */
export function writeBy(options: Options, template: string): Write {
  const write = writer(options[template]);
  if (write === undefined) throw new Unmapped(`its ${template} is more than text with {{ value }}, and is not evaluated`);
  return write;
}

/** PartNames are the options that a part is made of. */
export interface PartNames {
  readonly part: string;
  readonly state?: string;
  readonly stateTemplate?: string;
  readonly command?: string;
  readonly commandTemplate?: string;
  readonly what: string;
}

/** Kind is how the values of a part are read and written. */
interface Kind {
  readonly type: ValueType;
  readonly capability?: Partial<CapabilityInit>;
  readonly read: (value: unknown) => SetValue | Unreadable | undefined;
  readonly write?: (value: SetValue) => unknown;
  readonly accepts?: (asked: SetValue, said: SetValue) => boolean;
}

/** NOTHING are the words by which a program says that it does not know. */
const NOTHING = new Set(["None", "unknown", "unavailable", ""]);

/** partOf makes a key of the options that are there; undefined if there are none. A command that cannot be written leaves what can be read. */
export function partOf(options: Options, names: PartNames, kind: Kind, problems: string[]): EntityKey | undefined {
  const { part, state, stateTemplate = "value_template", command, commandTemplate = "command_template", what } = names;
  const by = readBy(options, stateTemplate);
  const readable = state !== undefined && has(options, state);
  let reading: Reading | undefined;
  if (readable) reading = { topic: topicIn(options, state), of: by.opaque ? opaque(by.read) : (payload) => told(kind, by.read(payload)) };
  if (readable && by.opaque) problems.push(`the ${stateTemplate} of ${what} is more than a path, so its values are told as they come`);
  let commanding: Commanding | undefined;
  if (command !== undefined && has(options, command) && !by.opaque) {
    try {
      const write = writeBy(options, commandTemplate);
      const { write: wire = (value: SetValue): unknown => value, accepts = same } = kind;
      commanding = {
        topic: topicIn(options, command),
        payload: (value) => write(wire(value)),
        retain: options["retain"] === true,
        accepts,
        ...(readable ? { confirmedBy: part } : {}),
      };
    } catch (error) {
      if (!(error instanceof Unmapped)) throw error;
      problems.push(error.message);
    }
  }
  if (reading === undefined && commanding === undefined) return undefined;
  const description = by.opaque && readable ? `${what} ${OPAQUE}` : what;
  const own = by.opaque && readable ? { type: VALUE_TYPE.STRING as ValueType, more: {} } : { type: kind.type, more: kind.capability ?? {} };
  return {
    part,
    type: own.type,
    capability: { ...own.more, description, readable, invocable: commanding !== undefined, idempotent: commanding !== undefined },
    reading,
    commanding,
  };
}

function told(kind: Kind, value: unknown): SetValue | Unreadable | undefined {
  if (value === undefined || isUnreadable(value)) return value;
  if (typeof value === "string" && NOTHING.has(value)) return undefined;
  return kind.read(value);
}

function opaque(read: Read): Reading["of"] {
  return (payload) => readValue(VALUE_TYPE.STRING, read(payload));
}

/** same tells whether a report is what was asked for. */
export function same(asked: SetValue, said: SetValue): boolean {
  return typeof asked === "number" && typeof said === "number" ? sameNumber(asked, said) : asked === said;
}

/** onOff is a BOOL with words for both. `reads` are those of its state, where they are others. */
export function onOff(on: string, off: string, reads: readonly [on: string, off: string] = [on, off]): Kind {
  return {
    type: VALUE_TYPE.BOOL,
    read: (value) => {
      const word = spoken(value);
      if (word === reads[0]) return true;
      return word === reads[1] ? false : { problem: "the value is neither on nor off" };
    },
    write: (value) => (value === true ? on : off),
  };
}

/** quantity is a DOUBLE, perhaps with bounds; `scale` is what one of its units is on the wire. */
export function quantity(capability: Partial<CapabilityInit> = {}, scale = 1, offset = 0): Kind {
  const step = capability.step;
  return {
    type: VALUE_TYPE.DOUBLE,
    capability,
    read: (value) => {
      const read = readValue(VALUE_TYPE.DOUBLE, value);
      return typeof read === "number" && (scale !== 1 || offset !== 0) ? (read - offset) / scale : read;
    },
    write: (value) => (scale === 1 && offset === 0 ? value : Math.round(Number(value) * scale + offset)),
    // What was rounded on the way there comes back as another number.
    accepts: (asked, said) => sameNumber(Number(asked), Number(said), Math.max(step ?? 0, scale === 1 ? 0 : 1 / Math.abs(scale))),
  };
}

/** words is a STRING, one of some if they are known. */
export function words(allowed: readonly string[] = [], capability: Partial<CapabilityInit> = {}): Kind {
  const one = allowed.length === 0 ? {} : { allowed: [...allowed] };
  return { type: VALUE_TYPE.STRING, capability: { ...capability, ...one }, read: (value) => readValue(VALUE_TYPE.STRING, spoken(value)) };
}

/** structure is a JSON value. */
export function structure(): Kind {
  return { type: VALUE_TYPE.JSON, read: (value) => readValue(VALUE_TYPE.JSON, value) };
}

/** Verb is a word that a command may be, and what it is on the wire. */
export interface Verb {
  readonly word: string;
  readonly payload: string;
  /** Option with its topic. */
  readonly topic?: string;
  /** Reports that confirm it; missing: any does. */
  readonly becomes?: readonly string[];
}

/** verbsOf makes a key of commands that are no states: they are words of their own. */
export function verbsOf(options: Options, part: string, what: string, verbs: readonly Verb[], confirmedBy: string | undefined): EntityKey {
  const byWord = new Map(verbs.map((verb) => [verb.word, verb]));
  const topics = new Set(verbs.map(({ topic = "command_topic" }) => topicIn(options, topic)));
  const [topic] = topics;
  if (topic === undefined || topics.size > 1) throw new Unmapped("its commands have several topics");
  const commanding: Commanding = {
    topic,
    payload: (value) => byWord.get(String(value))?.payload ?? { problem: "there is no such command" },
    retain: options["retain"] === true,
    accepts: (asked, said) => {
      const becomes = byWord.get(String(asked))?.becomes;
      return becomes === undefined || becomes.includes(String(said));
    },
    ...(confirmedBy === undefined ? {} : { confirmedBy }),
  };
  const capability = { description: what, readable: false, invocable: true, idempotent: false, allowed: verbs.map(({ word }) => word) };
  return { part, type: VALUE_TYPE.STRING, capability, commanding };
}
