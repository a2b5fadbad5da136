import { DIMENSIONS, type Dimension } from "./amounts.ts";

/** WORKS, HOLDS and NETWORKS are the words for what is done, kept and carried (S4-9). */
export const WORKS = ["inference", "batch", "analysis"] as const;
export const HOLDS = ["weights", "data", "cache"] as const;
export const NETWORKS = ["bandwidth", "pooling"] as const;

/**
 * Kind is what an offer offers: agents of a type, each with its name, or compute, storage, network. Lists are sorted and say each thing
 * once. A horizon is how far ahead predictions reach; 0 where there are none.
 */
export type Kind =
  | { readonly kind: "agent"; readonly type: string; readonly agents: readonly string[] }
  | {
      readonly kind: "compute";
      readonly work: (typeof WORKS)[number];
      readonly models: readonly string[];
      readonly maxBatch: number;
      readonly horizonMs: number;
    }
  | {
      readonly kind: "storage";
      readonly holds: (typeof HOLDS)[number];
      /** How long something is kept at the most, and in how many copies. */
      readonly retentionMs: number;
      readonly replication: number;
    }
  | { readonly kind: "network"; readonly mode: (typeof NETWORKS)[number] };

/** Want is what a request asks for. An empty text and a zero ask for nothing in particular. */
export type Want =
  | { readonly kind: "agent"; readonly type: string }
  | {
      readonly kind: "compute";
      readonly work: (typeof WORKS)[number];
      readonly model: string;
      readonly batch: number;
      readonly horizonMs: number;
    }
  | { readonly kind: "storage"; readonly holds: (typeof HOLDS)[number]; readonly replication: number }
  | { readonly kind: "network"; readonly mode: (typeof NETWORKS)[number] };

/** Each kind counts in some dimensions, of which the first must not be zero. */
const COUNTED: Readonly<Record<Kind["kind"], readonly Dimension[]>> = {
  agent: ["agents", "cpuMilli", "gpuMilli", "memoryMb"],
  compute: ["cpuMilli", "gpuMilli", "memoryMb"],
  storage: ["storageMb"],
  network: ["networkKbps"],
};

/** uncounted is the first dimension with an amount in which a kind does not count, if any. */
export function uncounted(kind: Kind["kind"], amounts: readonly number[]): Dimension | undefined {
  return DIMENSIONS.find((dimension, index) => amounts[index] !== 0 && !COUNTED[kind].includes(dimension));
}

/** typeOf is the word by which an owner's policy allows what is asked for: the type of agents, or what is done, kept or carried. */
export function typeOf(what: Kind | Want): string {
  switch (what.kind) {
    case "agent":
      return what.type;
    case "compute":
      return what.work;
    case "storage":
      return what.holds;
    case "network":
      return what.mode;
  }
}

/** classOf names the offers among which a request chooses. */
export function classOf(what: Kind | Want): string {
  return `${what.kind}:${typeOf(what)}`;
}

/** matches tells whether an offer of the same class has what is asked for, apart from amounts. */
export function matches(kind: Kind, want: Want, durationMs: number): boolean {
  if (classOf(kind) !== classOf(want)) return false;
  if (kind.kind === "compute" && want.kind === "compute")
    return (want.model === "" || kind.models.includes(want.model)) && want.batch <= kind.maxBatch && want.horizonMs <= kind.horizonMs;
  if (kind.kind === "storage" && want.kind === "storage") return want.replication <= kind.replication && durationMs <= kind.retentionMs;
  return true;
}
