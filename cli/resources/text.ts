import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Allocation, ResourceTake } from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import {
  ComputeWork,
  LeaseEnd,
  LeaseEndSchema,
  LeasePriority,
  LeaseState,
  LeaseStateSchema,
  NetworkMode,
  type ResourceAmounts,
  type ResourceAmountsSchema,
  type ResourceKind,
  type ResourceKindSchema,
  type ResourceWantSchema,
  StorageContent,
} from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { own } from "#kernel/own.ts";
import { usage } from "../exit.ts";
import { parseWord } from "../parse.ts";
import { duration, label } from "../print/format.ts";
import type { Cell } from "../print/table.ts";

const DIMENSIONS: Readonly<Record<string, keyof Omit<ResourceAmounts, "$typeName" | "$unknown">>> = {
  agents: "agents",
  "cpu-milli": "cpuMilli",
  "gpu-milli": "gpuMilli",
  "memory-mb": "memoryMb",
  "storage-mb": "storageMb",
  "network-kbps": "networkKbps",
};

const WORKS: Readonly<Record<string, ComputeWork>> = {
  inference: ComputeWork.INFERENCE,
  batch: ComputeWork.BATCH,
  analysis: ComputeWork.ANALYSIS,
};
const CONTENTS: Readonly<Record<string, StorageContent>> = {
  weights: StorageContent.WEIGHTS,
  data: StorageContent.DATA,
  cache: StorageContent.CACHE,
};
const MODES: Readonly<Record<string, NetworkMode>> = { bandwidth: NetworkMode.BANDWIDTH, pooling: NetworkMode.POOLING };
const PRIORITIES: Readonly<Record<string, LeasePriority>> = {
  low: LeasePriority.LOW,
  medium: LeasePriority.MEDIUM,
  high: LeasePriority.HIGH,
  critical: LeasePriority.CRITICAL,
};

/** parsePriority reads a priority. Throws CliError (usage). */
export function parsePriority(text: string): LeasePriority {
  return parseWord(PRIORITIES, text, "priority");
}

/** parseAmounts reads amounts such as agents=3 or cpu-milli=4000. Throws CliError (usage). */
export function parseAmounts(texts: readonly string[]): MessageInitShape<typeof ResourceAmountsSchema> {
  const amounts: MessageInitShape<typeof ResourceAmountsSchema> = {};
  for (const text of texts) {
    const [, dimension = "", amount = ""] = /^([a-z-]+)=(\d{1,13})$/.exec(text) ?? [];
    const field = own(DIMENSIONS, dimension);
    if (field === undefined)
      throw usage(`"${text}" is no amount`, `Write <dimension>=<whole number>, with one of ${Object.keys(DIMENSIONS).join(", ")}.`);
    if (amounts[field] !== undefined) throw usage(`"${text}" is the second amount of ${dimension}`, "Say each dimension once.");
    amounts[field] = BigInt(amount);
  }
  return amounts;
}

/** MOST is the largest amount, which is no limit. */
const MOST = 1_000_000_000_000n;

/** parseLimit reads limits: what is not named has none. Throws CliError (usage). */
export function parseLimit(texts: readonly string[]): MessageInitShape<typeof ResourceAmountsSchema> {
  const none = Object.fromEntries(Object.values(DIMENSIONS).map((field) => [field, MOST]));
  return { ...none, ...parseAmounts(texts) };
}

/** Words that follow a kind; agents are followed by any type. */
const WORDS_OF = { compute: WORKS, storage: CONTENTS, network: MODES } as const;

/** KIND_WORDS are the kinds with what may follow them, as they are typed: agents:<type>, compute:inference|batch|analysis, … */
export const KIND_WORDS: readonly string[] = [
  "agents:<type>",
  ...Object.entries(WORDS_OF).map(([kind, words]) => `${kind}:${Object.keys(words).join("|")}`),
];

/** split takes a kind apart. Throws CliError (usage) for what hubs do not lend. */
function split(text: string): readonly [kind: string, type: string] {
  const at = text.indexOf(":");
  const [kind, type] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  if (kind === "agents" && type === "")
    throw usage(`"${text}" does not say which type of agents`, "Write agents:<type>, for example agents:planner.");
  const words = own<Readonly<Record<string, unknown>>>(WORDS_OF, kind);
  if (words !== undefined && own(words, type) === undefined)
    throw usage(
      type === "" ? `"${text}" does not say which kind of ${kind}` : `"${text}" is no kind of ${kind} that hubs lend`,
      `Write ${Object.keys(words)
        .map((word) => `${kind}:${word}`)
        .join(", ")
        .replace(/, ([^,]*)$/, " or $1")}.`,
    );
  return [kind, type];
}

/**
 * parseKind reads what is offered: agents:<type>, compute:<work>, storage:<content> or network:<mode>, with names of agents or models.
 * Throws CliError (usage), also for agents without names.
 */
export function parseKind(text: string, names: readonly string[]): MessageInitShape<typeof ResourceKindSchema> {
  const [kind, type] = split(text);
  const sorted = [...names].sort();
  switch (kind) {
    case "agents":
      if (sorted.length === 0)
        throw usage(
          "an offer of agents says which agents they are",
          `Name each with --with, for example: foedus resources offer bots ${text} --with ada --with bob.`,
        );
      return { what: { case: "agent", value: { type, agents: sorted } } };
    case "compute":
      return { what: { case: "compute", value: { work: parseWord(WORKS, type, "work"), models: sorted, maxBatch: 1n } } };
    case "storage":
      return {
        what: { case: "storage", value: { holds: parseWord(CONTENTS, type, "content"), retentionMs: 2_592_000_000n, replication: 1n } },
      };
    case "network":
      return { what: { case: "network", value: { mode: parseWord(MODES, type, "mode") } } };
    default:
      throw noKind(text);
  }
}

/** parseWant reads what is asked for, as parseKind reads what is offered. Throws CliError (usage). */
export function parseWant(text: string, model = ""): MessageInitShape<typeof ResourceWantSchema> {
  const [kind, type] = split(text);
  switch (kind) {
    case "agents":
      return { what: { case: "agent", value: { type } } };
    case "compute":
      return { what: { case: "compute", value: { work: parseWord(WORKS, type, "work"), model } } };
    case "storage":
      return { what: { case: "storage", value: { holds: parseWord(CONTENTS, type, "content") } } };
    case "network":
      return { what: { case: "network", value: { mode: parseWord(MODES, type, "mode") } } };
    default:
      throw noKind(text);
  }
}

function noKind(text: string): Error {
  return usage(`"${text}" is nothing that hubs lend`, `Write ${KIND_WORDS.join(", ").replace(/, ([^,]*)$/, " or $1")}.`);
}

/** Dimensions in which each kind is counted. An offer or request has an amount above zero of at least one of them. */
const COUNTED_IN: Readonly<Record<string, readonly string[]>> = {
  agents: ["agents", "cpu-milli", "gpu-milli", "memory-mb"],
  compute: ["cpu-milli", "gpu-milli", "memory-mb"],
  storage: ["storage-mb"],
  network: ["network-kbps"],
};

/** parseAmountsOf reads the amounts of a kind, as parseAmounts does. Throws CliError (usage) for none, and for those in which it is not counted. */
export function parseAmountsOf(kind: string, texts: readonly string[]): MessageInitShape<typeof ResourceAmountsSchema> {
  const amounts = parseAmounts(texts);
  const [word] = split(kind);
  const counted = own(COUNTED_IN, word) ?? [];
  const odd = Object.entries(DIMENSIONS).find(([dimension, field]) => amounts[field] !== undefined && !counted.includes(dimension));
  if (odd !== undefined) throw usage(`${word} is not counted in ${odd[0]}`, `Write an amount of ${counted.join(", ")}.`);
  if (word !== "agents" && texts.length === 0)
    throw usage(`there is no amount of ${kind}`, `Write for example ${counted[0]}=1000; ${word} is counted in ${counted.join(", ")}.`);
  return amounts;
}

/** takeOf is what the hub does with what is reserved. */
export function takeOf({ keep, hold }: { readonly keep?: boolean; readonly hold?: boolean }): ResourceTake {
  if (hold === false) return ResourceTake.ASK;
  return keep === true ? ResourceTake.KEEP : ResourceTake.HOLD;
}

/** amountsText writes amounts, those that are not zero. */
export function amountsText(amounts: ResourceAmounts | undefined): string {
  const some = Object.entries(DIMENSIONS).flatMap(([word, field]) => (amounts?.[field] ? [`${word}=${amounts[field]}`] : []));
  return some.length === 0 ? "-" : some.join(" ");
}

/** kindText writes what is offered as it is typed. */
export function kindText(kind: ResourceKind | undefined): string {
  const what = kind?.what;
  const word = <T>(words: Readonly<Record<string, T>>, value: T): string => Object.keys(words).find((key) => words[key] === value) ?? "?";
  switch (what?.case) {
    case "agent":
      return `agents:${what.value.type}`;
    case "compute":
      return `compute:${word(WORKS, what.value.work)}`;
    case "storage":
      return `storage:${word(CONTENTS, what.value.holds)}`;
    case "network":
      return `network:${word(MODES, what.value.mode)}`;
    default:
      return "?";
  }
}

/** unitsText writes a cost in units. */
export function unitsText(micro: bigint): string {
  return (Number(micro) / 1_000_000).toFixed(2);
}

/** stateCell shows where an allocation stands. */
export function stateCell({ lease }: Allocation): Cell {
  const { state = LeaseState.UNSPECIFIED, notice = LeaseEnd.UNSPECIFIED, end = LeaseEnd.UNSPECIFIED } = lease ?? {};
  if (end !== LeaseEnd.UNSPECIFIED) return { text: `ended: ${label(LeaseEndSchema, end)}`, style: "yellow" };
  if (notice !== LeaseEnd.UNSPECIFIED) return { text: `ends early: ${label(LeaseEndSchema, notice)}`, style: "yellow" };
  return { text: label(LeaseStateSchema, state), style: state === LeaseState.LIVE ? "green" : "yellow" };
}

/** leftText writes how much is left of an allocation. */
export function leftText({ remainingMs }: Allocation): string {
  return remainingMs === 0n ? "-" : duration(remainingMs);
}
