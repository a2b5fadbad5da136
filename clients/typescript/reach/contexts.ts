import { isHubId } from "#kernel/hub-id.ts";

/** HubContext is how one hub is reached: its addresses and the credentials of whoever calls. Paths are relative to the contexts file. */
export interface HubContext {
  readonly hub_id: string;
  /** `host:port` of everything; of discovery where services have their own. */
  readonly address?: string | undefined;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** `host:port` by service, where each is a process of its own. */
  readonly services?: Readonly<Record<string, string>> | undefined;
  /** Configuration file of the hub, if it is on this machine: what `foedus doctor` and `foedus peer` work on with --hub. */
  readonly config?: string | undefined;
}

/** Contexts are what a contexts file holds: hubs by name. */
export interface Contexts {
  /** Name of the context that is meant without a name; empty if there is none. */
  readonly current: string;
  readonly contexts: Readonly<Record<string, HubContext>>;
}

/** ADDRESS is `host:port`, an IPv6 host in brackets. */
export const ADDRESS = /^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]+):\d{1,5}$/;

/** Check says what is wrong with the value at a path, as a part of a sentence that begins with the path. */
type Check = (path: string, value: unknown) => string | undefined;
type Fields = Readonly<Record<string, Check>>;
type Values = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Values => typeof value === "object" && value !== null && !Array.isArray(value);
const below = (path: string, name: string): string => (path === "it" ? name : `${path}.${name}`);
const missing = (path: string, kind: string, value: unknown): string =>
  value === undefined ? `${path} is missing; it must be ${kind}` : `${path} must be ${kind}`;
const optional =
  (check: Check): Check =>
  (path, value) =>
    value === undefined ? undefined : check(path, value);

/** text is any text that `fits`. */
const text =
  (fits: (value: string) => boolean, wrong: string): Check =>
  (path, value) => {
    if (typeof value !== "string") return missing(path, "a text", value);
    return fits(value) ? undefined : `${path} ${wrong}`;
  };
const anyText = text(() => true, "");
const someText = text((value) => value !== "", "must have at least 1 character");
const address = text((value) => ADDRESS.test(value), "must be host:port, an IPv6 host in brackets");

/** recordOf checks every value of an object. */
const recordOf =
  (check: Check): Check =>
  (path, value) => {
    if (!isObject(value)) return missing(path, "an object", value);
    for (const [name, item] of Object.entries(value)) {
      const problem = check(below(path, name), item);
      if (problem !== undefined) return problem;
    }
    return undefined;
  };

/** fieldsOf checks an object field by field; with `strict` it may have no others: somebody may have mistyped one. */
const fieldsOf =
  (fields: Fields, strict: boolean): Check =>
  (path, value) => {
    if (!isObject(value)) return missing(path, "an object", value);
    for (const [name, check] of Object.entries(fields)) {
      const problem = check(below(path, name), value[name]);
      if (problem !== undefined) return problem;
    }
    const unknown = strict ? Object.keys(value).filter((name) => !Object.hasOwn(fields, name)) : [];
    return unknown.length === 0
      ? undefined
      : `${path} has ${unknownFields(unknown)}, which is not known; known are ${Object.keys(fields).join(", ")}`;
  };

/** So many fields are listed to somebody who mistyped them, and so much of each. */
const [LISTED_MAX, NAME_MAX] = [12, 63];

function unknownFields(names: readonly string[]): string {
  const listed = names.slice(0, LISTED_MAX).map((name) => `"${name.slice(0, NAME_MAX)}"`);
  return `${listed.join(", ")}${names.length > LISTED_MAX ? ` and ${names.length - LISTED_MAX} more` : ""}`;
}

const CONTEXT: Fields = {
  hub_id: text(isHubId, "must be the id of a hub"),
  address: optional(address),
  ca: someText,
  cert: someText,
  key: someText,
  services: optional(recordOf(address)),
  config: optional(someText),
};
const strictContexts = fieldsOf({ current: optional(anyText), contexts: optional(recordOf(fieldsOf(CONTEXT, true))) }, true);
const oneContext = fieldsOf(CONTEXT, false);

/** contextsProblem says what is wrong with a contexts file as a whole, fields that it should not have included; undefined if nothing is. */
export function contextsProblem(value: unknown): string | undefined {
  return strictContexts("it", value);
}

/** contextsOf reads what a contexts file holds. It checks no more than that there are contexts: `contextsProblem` or `contextProblem` do. */
export function contextsOf(value: unknown): { readonly current: string; readonly contexts: Readonly<Record<string, unknown>> } {
  const { current, contexts } = isObject(value) ? value : {};
  return {
    current: typeof current === "string" ? current : "",
    contexts: isObject(contexts) ? contexts : {},
  };
}

/** contextProblem says what is wrong with one context; undefined if nothing is. Fields of a later version are no problem. */
export function contextProblem(value: unknown): string | undefined {
  return oneContext("it", value);
}
