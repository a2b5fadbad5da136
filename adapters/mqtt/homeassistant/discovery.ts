import { textOf } from "../../shared/node-id.ts";
import { isTree, isUnreadable, parseJson } from "../../shared/values.ts";
import { longNames } from "./abbreviations.ts";

/** Options is what a component of a discovery payload says, with long names, and topics without `~`. */
export type Options = Readonly<Record<string, unknown>>;

/** Components of one device. */
const COMPONENTS_MAX = 512;

/** Announcement is what one discovery topic says. */
export interface Announcement {
  /** What of a device it is about: its identifiers; those without a device stand alone. */
  readonly deviceKey: string;
  readonly device: Options;
  readonly origin: Options;
  /** It is about to be said in the other form: this one is to be forgotten, and what it says is not. */
  readonly migrates: boolean;
  readonly components: readonly Component[];
}

/** Component is one entity of an announcement. */
export interface Component {
  readonly platform: string;
  /** Id within its announcement. */
  readonly id: string;
  /** Empty if it has none. */
  readonly uniqueId: string;
  readonly options: Options;
}

/** DiscoveryTopic is what a topic says of what is announced on it. */
export interface DiscoveryTopic {
  /** The component, or `device` for the form with several. */
  readonly component: string;
  readonly group: string;
  readonly objectId: string;
}

const WORD = /^[A-Za-z0-9_-]+$/;

/** discoveryTopic reads `<prefix>/<component>/[<node_id>/]<object_id>/config`; undefined if it is none. */
export function discoveryTopic(prefix: string, topic: string): DiscoveryTopic | undefined {
  if (!topic.startsWith(`${prefix}/`) || !topic.endsWith("/config")) return undefined;
  const parts = topic.slice(prefix.length + 1, -"/config".length).split("/");
  if (parts.length < 2 || parts.length > 3 || !parts.every((part) => WORD.test(part))) return undefined;
  const [component = "", second = "", third] = parts;
  return third === undefined ? { component, group: "", objectId: second } : { component, group: second, objectId: third };
}

/** announcementOf reads a payload; a text says why it cannot be taken. */
export function announcementOf({ component, group, objectId }: DiscoveryTopic, payload: string): Announcement | string {
  const read = parseJson(payload);
  if (isUnreadable(read)) return "it is not JSON";
  if (!isTree(read)) return "it is not a JSON object";
  const options = longNames(read, "options");
  const device = isTree(options["device"]) ? longNames(options["device"], "device") : {};
  const origin = isTree(options["origin"]) ? longNames(options["origin"], "origin") : {};
  const alone = group === "" ? objectId : `${group}/${objectId}`;
  const deviceKey = keyOf(device) ?? (component === "device" ? `device/${alone}` : `${component}/${alone}`);
  const migrates = options["migrate_discovery"] === true;
  const common = { deviceKey, device, origin, migrates };
  if (component !== "device") {
    const plain = inFull(options, options["~"]);
    return {
      ...common,
      components: migrates ? [] : [{ platform: component, id: objectId, uniqueId: textOf(plain["unique_id"], 255), options: plain }],
    };
  }
  if (migrates) return { ...common, components: [] };
  if (keyOf(device) === undefined) return "its device has neither identifiers nor connections";
  const { components } = options;
  if (!isTree(components)) return "it has no components";
  const entries = Object.entries(components);
  if (entries.length > COMPONENTS_MAX) return `it has ${entries.length} components; at most ${COMPONENTS_MAX} are taken`;
  return { ...common, components: entries.flatMap(([id, part]) => componentOf(id, part, options)) };
}

/** What the components of a device share if they say nothing else. */
const SHARED = [
  "availability",
  "availability_mode",
  "availability_template",
  "availability_topic",
  "payload_available",
  "payload_not_available",
  "command_topic",
  "state_topic",
  "encoding",
  "qos",
];

function componentOf(id: string, part: unknown, root: Options): Component[] {
  if (!isTree(part)) return [];
  const own = longNames(part, "options");
  const { platform } = own;
  if (typeof platform !== "string") return [];
  // With nothing but its platform a component is taken away.
  if (Object.keys(own).every((name) => name === "platform")) return [];
  const shared = Object.fromEntries(SHARED.flatMap((name) => (Object.hasOwn(root, name) ? [[name, root[name]]] : [])));
  const plain = inFull({ ...shared, ...own }, own["~"] ?? root["~"]);
  return [{ platform, id, uniqueId: textOf(plain["unique_id"], 255), options: plain }];
}

/** keyOf is what tells a device from others; undefined if it has nothing of that. */
function keyOf(device: Options): string | undefined {
  const { identifiers, connections } = device;
  const ids = (Array.isArray(identifiers) ? identifiers : [identifiers]).filter((id) => typeof id === "string" || typeof id === "number");
  const first = ids.map(String).sort()[0];
  if (first !== undefined && first !== "") return first;
  const pairs = (Array.isArray(connections) ? connections : []).filter((pair) => Array.isArray(pair) && pair.length === 2);
  const connection = pairs.map((pair) => (pair as unknown[]).map(String).join(":")).sort()[0];
  return connection === undefined || connection === "" ? undefined : connection;
}

/** inFull replaces `~` at either end of the topics. */
function inFull(options: Options, base: unknown): Options {
  if (typeof base !== "string") return options;
  const full = (value: unknown): unknown => {
    if (typeof value !== "string") return value;
    if (value.startsWith("~")) return `${base}${value.slice(1)}`;
    return value.endsWith("~") ? `${value.slice(0, -1)}${base}` : value;
  };
  return Object.fromEntries(
    Object.entries(options).map(([name, value]) => {
      if (name.endsWith("topic")) return [name, full(value)];
      if (name !== "availability") return [name, value];
      const items = Array.isArray(value) ? value : [value];
      return [name, items.map((item) => (isTree(item) ? inFull(longNames(item, "options"), base) : item))];
    }),
  );
}
