// Real nodes for demos, tests and benches: every device definition that the package zigbee-herdsman-converters publishes.
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { create } from "@bufbuild/protobuf";
import { type Capability, CapabilitySchema, type Node, NodeKind, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";

/** Expose is a feature as the package describes it; only what is read here. */
interface Expose {
  readonly type: string;
  readonly name?: string;
  readonly property?: string;
  readonly endpoint?: string;
  readonly access?: number;
  readonly unit?: string;
  readonly description?: string;
  readonly values?: readonly unknown[];
  readonly value_min?: number;
  readonly value_max?: number;
  readonly value_step?: number;
  readonly value_on?: unknown;
  readonly value_off?: unknown;
  readonly value_toggle?: unknown;
  readonly features?: readonly Expose[];
  readonly item_type?: Expose;
  readonly category?: string;
}

interface Definition {
  readonly model: string;
  readonly vendor: string;
  readonly description: string;
  readonly exposes: readonly Expose[] | ((device: object, options: object) => readonly Expose[]);
}

/** Unmapped is something of the package that has no place in a node, and why. */
export interface Unmapped {
  readonly model: string;
  readonly feature: string;
  readonly reason: string;
}

/** Inventory is the whole package as nodes. */
export interface Inventory {
  readonly nodes: readonly Node[];
  readonly definitions: number;
  /** Features as the package counts them: top-level entries of `exposes`. */
  readonly features: number;
  readonly unmapped: readonly Unmapped[];
}

const ACCESS_STATE = 1;
const ACCESS_SET = 2;
const ACCESS_GET = 4;

/** Defined is a definition with its features. */
export interface Defined {
  readonly definition: Definition;
  readonly exposes: readonly Expose[];
}

/** loadDefinitions reads the installed package; about two seconds. */
export async function loadDefinitions(): Promise<Defined[]> {
  const dist = join(createRequire(import.meta.url).resolve("zigbee-herdsman-converters"), "..");
  const library = (await import(pathToFileURL(join(dist, "index.js")).href)) as { prepareDefinition(definition: unknown): Definition };
  const all: Defined[] = [];
  for (const file of readdirSync(join(dist, "devices")).sort()) {
    if (!file.endsWith(".js") || file === "index.js") continue;
    const loaded = (await import(pathToFileURL(join(dist, "devices", file)).href)) as { definitions: readonly unknown[] };
    for (const raw of loaded.definitions) {
      const definition = library.prepareDefinition(raw);
      // Some definitions compute their features from the paired device; the package's own documentation asks with a dummy.
      const exposes = typeof definition.exposes === "function" ? definition.exposes({ isDummyDevice: true }, {}) : definition.exposes;
      all.push({ definition, exposes });
    }
  }
  return all;
}

/** loadInventory makes nodes of the installed package. */
export async function loadInventory(): Promise<Inventory> {
  const nodes: Node[] = [];
  const unmapped: Unmapped[] = [];
  const ids = new Set<string>();
  const all = await loadDefinitions();
  for (const { definition, exposes } of all) nodes.push(nodeOf(definition, exposes, ids, unmapped));
  return { nodes, definitions: all.length, features: all.reduce((sum, { exposes }) => sum + exposes.length, 0), unmapped };
}

function nodeOf(definition: Definition, exposes: readonly Expose[], ids: Set<string>, unmapped: Unmapped[]): Node {
  const byName = new Map<string, Capability>();
  for (const expose of exposes) {
    for (const feature of flatten(expose)) {
      const capability = capabilityOf(feature);
      if (typeof capability === "string")
        unmapped.push({ model: definition.model, feature: feature.name ?? feature.type, reason: capability });
      else if (!byName.has(capability.name)) byName.set(capability.name, capability);
      else merge(byName.get(capability.name)!, capability);
    }
  }
  return create(NodeSchema, {
    nodeId: uniqueId(`${definition.vendor}-${definition.model}`, ids),
    kind: NodeKind.DEVICE,
    type: typeOf(exposes),
    name: `${definition.vendor} ${definition.model}`,
    vendor: definition.vendor,
    description: definition.description,
    capabilities: [...byName.values()],
    labels: { model: definition.model },
  });
}

/** Composites of one device function (light, switch, climate, ...) stand for their parts; a `composite` or `list` is one structured value. */
function flatten(expose: Expose): readonly Expose[] {
  if (expose.type === "composite" || expose.type === "list" || expose.features === undefined) return [expose];
  return expose.features.flatMap(flatten);
}

function capabilityOf(feature: Expose): Capability | string {
  const name = feature.property ?? feature.name;
  if (name === undefined || name === "") return "it has no name";
  const access = feature.access ?? ACCESS_STATE;
  const base = {
    name,
    unit: feature.unit ?? "",
    description: feature.description ?? "",
    readable: (access & (ACCESS_STATE | ACCESS_GET)) !== 0,
    invocable: (access & ACCESS_SET) !== 0,
    // Setting the same value again leaves the device as it is; toggling does not, so what can toggle is not idempotent.
    idempotent: feature.value_toggle === undefined,
  };
  switch (feature.type) {
    case "numeric":
      return create(CapabilitySchema, {
        ...base,
        type: ValueType.DOUBLE,
        ...(feature.value_min === undefined ? {} : { min: feature.value_min }),
        ...(feature.value_max === undefined ? {} : { max: feature.value_max }),
        ...(feature.value_step === undefined ? {} : { step: feature.value_step }),
      });
    case "binary": {
      if (typeof feature.value_on === "boolean" && typeof feature.value_off === "boolean" && feature.value_toggle === undefined)
        return create(CapabilitySchema, { ...base, type: ValueType.BOOL });
      const allowed = [feature.value_on, feature.value_off, feature.value_toggle].filter((value) => value !== undefined && value !== null);
      return create(CapabilitySchema, { ...base, type: ValueType.STRING, allowed: allowed.map(String) });
    }
    case "enum":
      return create(CapabilitySchema, { ...base, type: ValueType.STRING, allowed: (feature.values ?? []).map(String) });
    case "text":
      return create(CapabilitySchema, { ...base, type: ValueType.STRING });
    case "composite":
    case "list":
      return create(CapabilitySchema, { ...base, type: ValueType.JSON, schema: JSON.stringify(schemaOf(feature)) });
    default:
      return `features of the type ${feature.type} are not known`;
  }
}

/** Two parts of one device may share a property (a light's and a switch's `state`): the capability then allows what either does. */
function merge(into: Capability, from: Capability): void {
  into.readable ||= from.readable;
  into.invocable ||= from.invocable;
  into.idempotent &&= from.idempotent;
  if (into.type !== from.type) return;
  if (into.allowed.length > 0 && from.allowed.length > 0) into.allowed = [...new Set([...into.allowed, ...from.allowed])];
  if (into.min !== undefined && from.min !== undefined) into.min = Math.min(into.min, from.min);
  if (into.max !== undefined && from.max !== undefined) into.max = Math.max(into.max, from.max);
}

function schemaOf(feature: Expose): object {
  switch (feature.type) {
    case "composite":
      return {
        type: "object",
        properties: Object.fromEntries((feature.features ?? []).map((part) => [part.property ?? part.name ?? part.type, schemaOf(part)])),
      };
    case "list":
      return { type: "array", ...(feature.item_type === undefined ? {} : { items: schemaOf(feature.item_type) }) };
    case "numeric":
      return {
        type: "number",
        ...(feature.value_min === undefined ? {} : { minimum: feature.value_min }),
        ...(feature.value_max === undefined ? {} : { maximum: feature.value_max }),
      };
    case "binary":
      return { enum: [feature.value_on, feature.value_off] };
    case "enum":
      return { enum: feature.values ?? [] };
    default:
      return { type: "string" };
  }
}

function typeOf(exposes: readonly Expose[]): string {
  const functions = ["light", "switch", "cover", "climate", "lock", "fan"];
  return (
    functions.find((name) => exposes.some((expose) => expose.type === name)) ??
    (exposes.some((e) => e.name === "action") ? "remote" : "sensor")
  );
}

function uniqueId(text: string, ids: Set<string>): string {
  const ascii = text.normalize("NFKD").replace(/[^A-Za-z0-9._:-]+/g, "_");
  const stem = ascii.replace(/^[^A-Za-z0-9]+/, "").slice(0, 58) || "device";
  let id = stem;
  for (let n = 2; ids.has(id); n++) id = `${stem}-${n}`;
  ids.add(id);
  return id;
}

/** dealByVendor deals the nodes to hubs by vendor, so that each hub is a plausible owner. */
export function dealByVendor(nodes: readonly Node[], hubs: readonly string[]): Map<string, Node[]> {
  const dealt = new Map<string, Node[]>(hubs.map((hub) => [hub, []]));
  const sizes = new Map<string, number>();
  for (const node of nodes) sizes.set(node.vendor, (sizes.get(node.vendor) ?? 0) + 1);
  const home = new Map<string, string>();
  const load = new Map<string, number>(hubs.map((hub) => [hub, 0]));
  for (const [vendor, size] of [...sizes].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))) {
    const lightest = [...load].sort((a, b) => a[1] - b[1] || (a[0] < b[0] ? -1 : 1))[0]![0];
    home.set(vendor, lightest);
    load.set(lightest, load.get(lightest)! + size);
  }
  for (const node of nodes) dealt.get(home.get(node.vendor)!)!.push(node);
  return dealt;
}
