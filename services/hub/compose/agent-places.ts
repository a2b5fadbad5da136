import { create } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import { ListAgentsRequestSchema, type ListAgentsResponse } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import type { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import type { AgentPlaces, AgentPlacesSource } from "../../command-forwarding/index.ts";

/** Coordination is asked so often while there are agents, and so often while there are none, ms. */
const POLL_MS = 500;
const IDLE_MS = 5_000;
const TIMEOUT_MS = 2_000;
/** More pages than coordination has. */
const PAGES_MAX = 100;

/**
 * createAgentPlaces asks coordination, in this process or elsewhere, where agents are, and tells it on when something was decided. What is told
 * is late by one round of that at most; until then the program at the old place answers itself. Without coordination it stays as it was.
 */
export function createAgentPlaces(
  client: () => Pick<ClientOf<typeof CoordinationService>, "listAgents">,
  clock: Clock,
): AgentPlacesSource & { start(): void; stop(): void } {
  const listeners = new Set<(places: AgentPlaces) => void>();
  let index = 0n;
  let waitMs = IDLE_MS;
  let timer: Timer | undefined;
  let stopped = false;

  /** all reads page after page. What is decided meanwhile shows with the next round, as the index is that of the first page. */
  const all = async (): Promise<Pick<ListAgentsResponse, "agents" | "formerly" | "index">> => {
    const read = (after: string): Promise<ListAgentsResponse> =>
      client().listAgents(create(ListAgentsRequestSchema, { unlessIndex: after === "" ? index : 0n, after }), { timeoutMs: TIMEOUT_MS });
    const first = await read("");
    const pages = [first];
    for (let { next } = first; next !== "" && pages.length < PAGES_MAX; { next } = pages.at(-1) as ListAgentsResponse)
      pages.push(await read(next));
    return { agents: pages.flatMap(({ agents }) => agents), formerly: pages.flatMap(({ formerly }) => formerly), index: first.index };
  };
  const ask = async (): Promise<void> => {
    try {
      const answer = await all();
      if (answer.index !== index || index === 0n) {
        index = answer.index;
        waitMs = answer.agents.length > 0 ? POLL_MS : IDLE_MS;
        const places = placesOf(answer);
        for (const listener of listeners) listener(places);
      }
    } catch (error) {
      if (!(error instanceof FoedusError)) throw error;
      // This hub is in no federation, or coordination is away: what it said last is the best that is known.
      waitMs = IDLE_MS;
      index = 0n;
    }
  };
  const next = (): void => {
    if (!stopped) timer = clock.setTimer(waitMs, () => void ask().finally(next));
  };
  return {
    subscribe: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    start: () => void ask().finally(next),
    stop: () => {
      stopped = true;
      timer?.cancel();
    },
  };
}

/** placesOf makes what commands ask out of what coordination says. */
export function placesOf({ agents, formerly }: Pick<ListAgentsResponse, "agents" | "formerly">): AgentPlaces {
  const now = new Map<string, { readonly hubId: string; readonly fence: number }>();
  for (const { agent } of agents)
    if (agent !== undefined && !agent.lost) now.set(agent.agent, { hubId: agent.owner, fence: Number(agent.fence) });
  const old = new Set(formerly.map(({ hubId, agent }) => `${hubId}/${agent}`));
  return {
    movedTo: (hubId, nodeId) => {
      const place = old.has(`${hubId}/${nodeId}`) ? now.get(nodeId) : undefined;
      return place?.hubId === hubId ? undefined : place;
    },
    fence: (hubId, nodeId) => {
      const place = now.get(nodeId);
      return place !== undefined && (place.hubId === hubId || old.has(`${hubId}/${nodeId}`)) ? place.fence : 0;
    },
  };
}
