// A dozen agents whose skills really compute something, so that an answer from another hub can be checked.
import { generateKeyPairSync, sign } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { CapabilitySchema, type Node, NodeKind, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import type { Reaction } from "./devices.ts";

interface Skill {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly tags: readonly string[];
  /** JSON Schema of the input. */
  readonly input: object;
  run(input: Record<string, unknown>): unknown;
}

const numbers = { type: "object", required: ["values"], properties: { values: { type: "array", items: { type: "number" } } } };
const text = { type: "object", required: ["text"], properties: { text: { type: "string" } } };
const listOf = (input: Record<string, unknown>): number[] => {
  if (!Array.isArray(input["values"]) || input["values"].length === 0 || !input["values"].every((value) => typeof value === "number"))
    throw new Error("values must be a list of at least one number");
  return input["values"];
};
const textOf = (input: Record<string, unknown>): string => {
  if (typeof input["text"] !== "string") throw new Error("text must be a text");
  return input["text"];
};

const SKILLS: Readonly<Record<string, Skill>> = {
  mean: {
    id: "mean",
    name: "Mean",
    description: "Mean and standard deviation of numbers.",
    tags: ["statistics"],
    input: numbers,
    run: (input) => spread(listOf(input)),
  },
  median: {
    id: "median",
    name: "Median",
    description: "Median of numbers.",
    tags: ["statistics"],
    input: numbers,
    run: (input) => {
      const sorted = listOf(input).toSorted((a, b) => a - b);
      const half = sorted.length >> 1;
      return { median: sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1]! + sorted[half]!) / 2 };
    },
  },
  outliers: {
    id: "outliers",
    name: "Outliers",
    description: "Values more than three standard deviations from the mean.",
    tags: ["statistics", "maintenance"],
    input: numbers,
    run: (input) => {
      const values = listOf(input);
      const { mean, deviation } = spread(values);
      return { outliers: values.filter((value) => Math.abs(value - mean) > 3 * deviation) };
    },
  },
  words: {
    id: "words",
    name: "Count words",
    description: "Words of a text, by frequency.",
    tags: ["text"],
    input: text,
    run: (input) => ({ words: frequencies(textOf(input)) }),
  },
  keywords: {
    id: "keywords",
    name: "Keywords",
    description: "The five most frequent words of four letters or more.",
    tags: ["text"],
    input: text,
    run: (input) => ({
      keywords: Object.entries(frequencies(textOf(input)))
        .filter(([word]) => word.length >= 4)
        .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
        .slice(0, 5)
        .map(([word]) => word),
    }),
  },
  convert: {
    id: "convert",
    name: "Convert temperature",
    description: "Celsius to Fahrenheit and kelvin.",
    tags: ["units"],
    input: { type: "object", required: ["celsius"], properties: { celsius: { type: "number", minimum: -273.15 } } },
    run: (input) => {
      const celsius = input["celsius"];
      if (typeof celsius !== "number" || celsius < -273.15) throw new Error("celsius must be a number of at least -273.15");
      return { fahrenheit: (celsius * 9) / 5 + 32, kelvin: celsius + 273.15 };
    },
  },
  route: {
    id: "route",
    name: "Shortest route",
    description: "Shortest path through a weighted graph (Dijkstra 1959).",
    tags: ["planning", "logistics"],
    input: {
      type: "object",
      required: ["edges", "from", "to"],
      properties: { edges: { type: "array" }, from: { type: "string" }, to: { type: "string" } },
    },
    run: (input) => {
      const { edges, from, to } = input;
      if (!Array.isArray(edges) || typeof from !== "string" || typeof to !== "string")
        throw new Error("edges must be a list, from and to texts");
      return route(edges as [string, string, number][], from, to);
    },
  },
};

function spread(values: readonly number[]): { mean: number; deviation: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, deviation: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length) };
}

function frequencies(input: string): Record<string, number> {
  const counts = new Map<string, number>();
  for (const word of input.toLowerCase().match(/\p{L}+/gu) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  return Object.fromEntries(counts);
}

function route(edges: readonly (readonly [string, string, number])[], from: string, to: string): { path: string[]; length: number } {
  const length = new Map([[from, 0]]);
  const before = new Map<string, string>();
  const open = new Set([from]);
  while (open.size > 0) {
    const here = [...open].reduce((best, node) => (length.get(node)! < length.get(best)! ? node : best));
    open.delete(here);
    if (here === to) break;
    for (const [a, b, weight] of edges) {
      if (a !== here || length.get(here)! + weight >= (length.get(b) ?? Number.POSITIVE_INFINITY)) continue;
      length.set(b, length.get(here)! + weight);
      before.set(b, here);
      open.add(b);
    }
  }
  if (!length.has(to)) throw new Error(`there is no way from ${from} to ${to}`);
  const path = [to];
  while (path[0] !== from) path.unshift(before.get(path[0]!)!);
  return { path, length: length.get(to)! };
}

const AGENTS: readonly {
  readonly id: string;
  readonly name: string;
  readonly models: readonly string[];
  readonly skills: readonly string[];
}[] = [
  { id: "agent-statistician", name: "Statistician", models: ["welford-1962"], skills: ["mean", "median", "outliers"] },
  { id: "agent-maintenance", name: "Maintenance planner", models: ["three-sigma"], skills: ["outliers", "mean"] },
  { id: "agent-librarian", name: "Librarian", models: ["bag-of-words"], skills: ["words", "keywords"] },
  { id: "agent-editor", name: "Editor", models: ["bag-of-words"], skills: ["keywords"] },
  { id: "agent-dispatcher", name: "Dispatcher", models: ["dijkstra-1959"], skills: ["route"] },
  { id: "agent-courier", name: "Courier", models: ["dijkstra-1959"], skills: ["route"] },
  { id: "agent-metrologist", name: "Metrologist", models: ["si-2019"], skills: ["convert", "mean"] },
  { id: "agent-climate", name: "Climate advisor", models: ["si-2019", "three-sigma"], skills: ["convert", "outliers"] },
  { id: "agent-auditor", name: "Auditor", models: ["three-sigma"], skills: ["outliers", "median"] },
  { id: "agent-analyst", name: "Analyst", models: ["welford-1962", "bag-of-words"], skills: ["mean", "median", "words"] },
  { id: "agent-secretary", name: "Secretary", models: ["bag-of-words"], skills: ["words"] },
  { id: "agent-navigator", name: "Navigator", models: ["dijkstra-1959"], skills: ["route", "convert"] },
];

/** agentNodes are the dozen agents as nodes, with a key and a signed card each. */
export function agentNodes(): Node[] {
  return AGENTS.map((agent) => {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const skills = agent.skills.map((id) => SKILLS[id]!);
    const card = { name: agent.name, version: "1.0.0", models: agent.models, skills: skills.map(({ id }) => id) };
    return create(NodeSchema, {
      nodeId: agent.id,
      kind: NodeKind.AGENT,
      type: "agent",
      name: agent.name,
      vendor: "Foedus",
      description: `An agent that can: ${skills.map((skill) => skill.name.toLowerCase()).join(", ")}.`,
      capabilities: skills.map((skill) =>
        create(CapabilitySchema, {
          name: skill.id,
          type: ValueType.JSON,
          invocable: true,
          idempotent: true,
          description: skill.description,
          schema: JSON.stringify(skill.input),
        }),
      ),
      agent: {
        version: card.version,
        endpoint: `foedus:///${agent.id}`,
        publicKey: publicKey.export({ type: "spki", format: "der" }),
        signature: sign(null, Buffer.from(JSON.stringify(card)), privateKey),
        models: [...agent.models],
        skills: skills.map((skill) => ({
          id: skill.id,
          name: skill.name,
          description: skill.description,
          tags: [...skill.tags],
          inputModes: ["application/json"],
          outputModes: ["application/json"],
        })),
      },
    });
  });
}

/** runSkill is the executor of all agents. */
export function runSkill(nodeId: string, skillId: string, input: string): Reaction {
  const agent = AGENTS.find(({ id }) => id === nodeId);
  const skill = agent?.skills.includes(skillId) === true ? SKILLS[skillId] : undefined;
  if (skill === undefined) return { ok: false, failure: { reason: "CAPABILITY_NOT_FOUND", message: `${nodeId} has no skill ${skillId}` } };
  try {
    const parsed: unknown = JSON.parse(input);
    if (typeof parsed !== "object" || parsed === null) throw new Error("the input must be a JSON object");
    return { ok: true, value: JSON.stringify(skill.run(parsed as Record<string, unknown>)), changes: [] };
  } catch (error) {
    return {
      ok: false,
      failure: { reason: "EXECUTOR_FAILED", message: `${skillId} failed: ${error instanceof Error ? error.message : String(error)}` },
    };
  }
}
