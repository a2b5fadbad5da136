import type { AgentCard, AgentSkill } from "@a2a-js/sdk";
import { VALUE_TYPE } from "../../clients/typescript/index.ts";
import type { node as nodes, registrySync } from "../../clients/typescript/schema.ts";
import { ASK, clipped } from "./card.ts";

/** OFFERED_MAX is how many agents of other hubs are offered. */
export const OFFERED_MAX = 256;

/** Offered is an agent of another hub, as local agents may call it. */
export interface Offered {
  readonly hubId: string;
  readonly nodeId: string;
  readonly record: registrySync.NodeRecord;
}

/** offeredOf lists what is offered of what a hub knows: agents of other hubs that this hub may run something on. */
export function offeredOf(records: readonly registrySync.NodeRecord[], ownHub: string): Offered[] {
  return records.flatMap((record) => {
    const { hubId = "", nodeId = "" } = record.name ?? {};
    const runs = record.node?.kind === 2 && capabilitiesOf(record).length > 0;
    return hubId !== ownHub && runs ? [{ hubId, nodeId, record }] : [];
  });
}

/** capabilitiesOf are those that can be run with text, data, or nothing. */
export function capabilitiesOf({ node }: registrySync.NodeRecord): nodes.Capability[] {
  const types: readonly number[] = [VALUE_TYPE.STRING, VALUE_TYPE.JSON, VALUE_TYPE.NONE];
  return (node?.capabilities ?? []).filter(({ invocable, type }) => invocable && types.includes(type));
}

/** pathOf is where an offered agent is. Ids of hubs and nodes need no escape in a path. */
export function pathOf({ hubId, nodeId }: Pick<Offered, "hubId" | "nodeId">): string {
  return `/agents/${hubId}/${nodeId}`;
}

/** agentAt takes such a path apart. */
export function agentAt(path: string): { readonly hubId: string; readonly nodeId: string; readonly rest: string } | undefined {
  const [, hubId, nodeId, rest = ""] = /^\/agents\/([a-z0-9-]{1,63})\/([A-Za-z0-9][A-Za-z0-9._:-]{0,62})(\/.*)?$/.exec(path) ?? [];
  return hubId === undefined || nodeId === undefined ? undefined : { hubId, nodeId, rest };
}

function skillsOf({ record }: Offered, prefix = ""): AgentSkill[] {
  const described = new Map((record.node?.agent?.skills ?? []).map((skill) => [skill.id, skill]));
  return capabilitiesOf(record).map((capability) => {
    const skill = described.get(capability.name);
    const mode = capability.type === VALUE_TYPE.JSON ? "application/json" : "text/plain";
    return {
      id: `${prefix}${clipped(capability.name, 127)}`,
      name: clipped(skill?.name || capability.name, 255),
      description: clipped(skill?.description || capability.description || `run ${capability.name}`, 1_024),
      tags: ["foedus", ...(skill?.tags ?? []).slice(0, 16).map((tag) => clipped(tag, 63))],
      examples: [],
      inputModes: [mode],
      outputModes: ["text/plain", "application/json"],
      securityRequirements: [],
    };
  });
}

const VERSIONS = ["1.0", "0.3"] as const;

function cardOf(url: string, name: string, description: string, version: string, skills: AgentSkill[]): AgentCard {
  return {
    name,
    description,
    supportedInterfaces: VERSIONS.map((protocolVersion) => ({ url, protocolBinding: "JSONRPC", tenant: "", protocolVersion })),
    provider: undefined,
    version,
    capabilities: { streaming: true, pushNotifications: false, extensions: [], extendedAgentCard: false },
    securitySchemes: {
      bearer: { scheme: { $case: "httpAuthSecurityScheme", value: { scheme: "Bearer", bearerFormat: "", description: "" } } },
    },
    securityRequirements: [{ schemes: { bearer: { list: [] } } }],
    defaultInputModes: ["text/plain", "application/json"],
    defaultOutputModes: ["text/plain", "application/json"],
    skills,
    signatures: [],
  };
}

/** agentCard describes one offered agent. What its owner wrote is shortened, and visible to the last character. */
export function agentCard(offered: Offered, origin: string): AgentCard {
  const { hubId, nodeId, record } = offered;
  const name = clipped(record.node?.name || nodeId, 255);
  const description = `Agent of the hub ${hubId}, reached through Foedus. Its owner says: ${clipped(record.node?.description || "nothing", 2_048)}`;
  return cardOf(`${origin}${pathOf(offered)}`, name, description, clipped(record.node?.agent?.version || "1", 63), skillsOf(offered));
}

/** catalogueCard describes all of them as one agent, whose skills are theirs. */
export function catalogueCard(all: readonly Offered[], ownHub: string, origin: string): AgentCard {
  const description = `Agents of other hubs that the hub ${ownHub} reaches. A skill is called hub/node/capability: name the one that you mean as "skill" in the metadata of a message.`;
  const skills = all.flatMap((offered) => skillsOf(offered, `${offered.hubId}/${offered.nodeId}/`));
  return cardOf(`${origin}/`, `Agents at ${ownHub}`, description, "1", skills);
}

/** legacyFields are what clients of version 0.3 read of a card; those of 1.0 pass them over. */
export function legacyFields({ supportedInterfaces, capabilities }: AgentCard): object {
  const [first] = supportedInterfaces;
  return {
    protocolVersion: "0.3.0",
    url: first?.url ?? "",
    preferredTransport: "JSONRPC",
    capabilities: { streaming: capabilities?.streaming === true, pushNotifications: false },
    securitySchemes: { bearer: { type: "http", scheme: "Bearer" } },
    security: [{ bearer: [] }],
  };
}

/** Meant is which capability of which agent a message is for. */
export interface Meant {
  readonly offered: Offered;
  readonly capability: nodes.Capability;
}

/** meantBy finds it: by the skill that the metadata names, else `ask`, else the only one there is. A text is why there is none. */
export function meantBy(skill: unknown, offered: Offered | undefined, all: readonly Offered[]): Meant | string {
  const named = typeof skill === "string" ? skill : "";
  const one = offered ?? all.find(({ hubId, nodeId }) => named.startsWith(`${hubId}/${nodeId}/`));
  if (one === undefined) return 'name the skill that is meant as "skill" in the metadata of the message';
  const wanted = offered === undefined ? named.slice(`${one.hubId}/${one.nodeId}/`.length) : named;
  const known = capabilitiesOf(one.record);
  const capability =
    wanted === ""
      ? (known.find(({ name }) => name === ASK) ?? (known.length === 1 ? known[0] : undefined))
      : known.find(({ name }) => name === wanted);
  if (capability !== undefined) return { offered: one, capability };
  const names = known.slice(0, 12).map(({ name }) => clipped(name, 63));
  return `the agent has no such skill; name one as "skill" in the metadata of the message: ${names.join(", ")}`;
}
