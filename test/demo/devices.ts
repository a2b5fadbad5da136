// Devices that behave like what they stand for: a light that is switched changes its state, what is read-only refuses.
import type { Capability, Node } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import type { Failure } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";

/** Plain is a value as the device keeps it; structured values are JSON text. */
export type Plain = boolean | number | string;

/** Change is a state that became another one. */
export interface Change {
  readonly key: string;
  readonly value: Plain;
}

/** Reaction is what a device answers to a command. */
export type Reaction =
  | { readonly ok: true; readonly value: Plain; readonly changes: readonly Change[] }
  | { readonly ok: false; readonly failure: Failure };

/** Device is one simulated device: its state, what commands do to it, and how it drifts by itself. */
export class Device {
  readonly node: Node;
  readonly state = new Map<string, Plain>();
  readonly #byName: ReadonlyMap<string, Capability>;

  constructor(node: Node, prng: Prng) {
    this.node = node;
    this.#byName = new Map(node.capabilities.map((capability) => [capability.name, capability]));
    for (const capability of node.capabilities) if (capability.readable) this.state.set(capability.name, initial(capability, prng));
  }

  /** invoke runs a command. Nothing changes unless it is ok. */
  invoke(name: string, value: Plain | undefined): Reaction {
    const capability = this.#byName.get(name);
    if (capability === undefined)
      return refuse("CAPABILITY_NOT_FOUND", `${this.node.nodeId} has no capability ${name}; get the node to see what it has`);
    if (!capability.invocable)
      return refuse("CAPABILITY_ACCESS", `${name} of ${this.node.nodeId} is read-only; it reports a state and cannot be set`);
    const checked = check(capability, value, this.state.get(name));
    if (typeof checked === "object") return { ok: false, failure: checked.failure };
    const changes: Change[] = [{ key: name, value: checked }];
    // A lamp that is given a brightness is on; one that is switched off keeps the brightness for the next time.
    if (name === "brightness" && typeof checked === "number") this.#follow(changes, "state", checked > 0 ? "ON" : "OFF");
    if (name === "position" && typeof checked === "number") this.#follow(changes, "state", checked > 0 ? "OPEN" : "CLOSE");
    for (const change of changes) if (this.#byName.get(change.key)?.readable) this.state.set(change.key, change.value);
    return { ok: true, value: checked, changes: changes.filter((change) => this.#byName.get(change.key)?.readable === true) };
  }

  /** drift moves one measured number a little, as sensors do. Undefined if the device measures nothing. */
  drift(prng: Prng): Change | undefined {
    const measured = this.node.capabilities.filter(
      (capability) => capability.type === ValueType.DOUBLE && capability.readable && !capability.invocable,
    );
    if (measured.length === 0) return undefined;
    const capability = measured[prng.below(measured.length)]!;
    const [low, high] = range(capability);
    const now = this.state.get(capability.name) as number;
    const next = Math.min(high, Math.max(low, now + (prng.unit() - 0.5) * (high - low) * 0.01));
    const value = Math.round(next * 100) / 100;
    this.state.set(capability.name, value);
    return { key: capability.name, value };
  }

  #follow(changes: Change[], key: string, value: string): void {
    const capability = this.#byName.get(key);
    if (
      capability !== undefined &&
      capability.type === ValueType.STRING &&
      (capability.allowed.length === 0 || capability.allowed.includes(value))
    )
      changes.push({ key, value });
  }
}

function check(capability: Capability, value: Plain | undefined, current: Plain | undefined): Plain | { readonly failure: Failure } {
  const outOfRange = (what: string): { failure: Failure } => ({
    failure: { reason: "VALUE_OUT_OF_RANGE", message: `${capability.name} ${what}`, field: "value" },
  });
  switch (capability.type) {
    case ValueType.BOOL:
      return typeof value === "boolean" ? value : outOfRange("takes true or false");
    case ValueType.DOUBLE:
    case ValueType.SINT64: {
      if (typeof value !== "number" || Number.isNaN(value)) return outOfRange("takes a number");
      if (capability.min !== undefined && value < capability.min) return outOfRange(`is at least ${capability.min}, not ${value}`);
      if (capability.max !== undefined && value > capability.max) return outOfRange(`is at most ${capability.max}, not ${value}`);
      return value;
    }
    case ValueType.JSON:
      if (typeof value !== "string") return outOfRange("takes JSON text");
      try {
        JSON.parse(value);
        return value;
      } catch {
        return outOfRange("takes JSON text, and this is not");
      }
    default: {
      if (typeof value !== "string") return outOfRange("takes a text");
      if (capability.allowed.length > 0 && !capability.allowed.includes(value))
        return outOfRange(`takes one of ${capability.allowed.slice(0, 8).join(", ")}`);
      return value === "TOGGLE" && capability.allowed.includes("TOGGLE") ? (current === "ON" ? "OFF" : "ON") : value;
    }
  }
}

function refuse(reason: Failure["reason"], message: string): Reaction {
  return { ok: false, failure: { reason, message } };
}

function range(capability: Capability): readonly [number, number] {
  const low = capability.min ?? 0;
  return [low, Math.max(low, capability.max ?? 100)];
}

function initial(capability: Capability, prng: Prng): Plain {
  switch (capability.type) {
    case ValueType.BOOL:
      return prng.chance(0.5);
    case ValueType.DOUBLE: {
      const [low, high] = range(capability);
      return Math.round((low + prng.unit() * (high - low)) * 100) / 100;
    }
    case ValueType.SINT64:
      return 0;
    case ValueType.JSON:
      return "{}";
    default: {
      const stable = capability.allowed.filter((value) => value !== "TOGGLE");
      return stable.length === 0 ? "" : stable[prng.below(stable.length)]!;
    }
  }
}
