import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { type ListAgentsRequest, ListAgentsResponseSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import type { AgentPlaces } from "../../command-forwarding/index.ts";
import { createAgentPlaces, placesOf } from "./agent-places.ts";

const answer = (init: MessageInitShape<typeof ListAgentsResponseSchema>) => create(ListAgentsResponseSchema, init);
const agent = (owner: string, fence: bigint, lost = false) => ({ agent: { agent: "counter", owner, fence, lost } });
const AT_FACTORY = { agents: [agent("factory", 2n)], formerly: [{ agent: "counter", hubId: "home" }], index: 9n };

describe("S1-13 where agents are, as commands know it", () => {
  test("an old name has the new place, and the newest fence; other names have neither", () => {
    const places = placesOf(answer(AT_FACTORY));
    expect(places.movedTo("home", "counter")).toEqual({ hubId: "factory", fence: 2 });
    expect([places.movedTo("factory", "counter"), places.movedTo("lab", "counter"), places.movedTo("home", "lamp")]).toEqual(
      Array(3).fill(undefined),
    );
    expect(["home", "factory", "lab"].map((hub) => places.fence(hub, "counter"))).toEqual([2, 2, 0]);
    expect(placesOf(answer({ ...AT_FACTORY, agents: [agent("factory", 2n, true)] })).movedTo("home", "counter")).toBeUndefined();
  });

  test("is asked for again and again, told only when something was decided, and stays while coordination is away", async () => {
    const clock = new ManualClock();
    const asked: bigint[] = [];
    let next: () => ReturnType<typeof answer> = () => answer(AT_FACTORY);
    const client = {
      listAgents: async (request: ListAgentsRequest) => {
        asked.push(request.unlessIndex);
        return next();
      },
    };
    const told: AgentPlaces[] = [];
    const places = createAgentPlaces(() => client as never, clock);
    places.subscribe((place) => told.push(place));
    const turn = async (ms: number): Promise<void> => {
      clock.advance(ms);
      for (let at = 0; at < 8; at++) await Promise.resolve();
    };
    places.start();
    await turn(0);
    expect([asked, told.length]).toEqual([[0n], 1]);
    next = () => answer({ index: 9n });
    await turn(500);
    expect([asked, told.length]).toEqual([[0n, 9n], 1]);
    next = () => {
      throw new FoedusError({ reason: "PEER_UNREACHABLE", message: "away" });
    };
    await turn(500);
    expect([asked.length, told.length]).toEqual([3, 1]);
    next = () => answer({ agents: [agent("home", 3n)], index: 12n });
    await turn(500);
    expect(asked.length).toBe(3);
    await turn(4_500);
    expect([asked.at(-1), told.length]).toEqual([0n, 2]);
    expect(told[1]!.movedTo("home", "counter")).toBeUndefined();
    places.stop();
    await turn(60_000);
    expect(asked.length).toBe(4);
  });

  test("of many agents all are asked for, page after page, and of a coordination whose pages have no end not more than there can be", async () => {
    const clock = new ManualClock();
    const asked: string[] = [];
    let answerTo = (after: string) =>
      after === "" ? answer({ agents: [agent("factory", 2n)], index: 9n, next: "~" }) : answer({ ...AT_FACTORY, agents: [], index: 11n });
    const client = {
      listAgents: async ({ after, unlessIndex }: ListAgentsRequest) => {
        asked.push(`${after} ${unlessIndex}`);
        return answerTo(after);
      },
    };
    const told: AgentPlaces[] = [];
    const places = createAgentPlaces(() => client as never, clock);
    places.subscribe((place) => told.push(place));
    const turn = async (ms: number): Promise<void> => {
      clock.advance(ms);
      for (let at = 0; at < 1_000; at++) await Promise.resolve();
    };
    places.start();
    await turn(0);
    expect(told[0]!.movedTo("home", "counter")).toEqual({ hubId: "factory", fence: 2 });
    // What was decided between the two pages is asked for with the next round.
    answerTo = () => answer({ agents: [agent("home", 3n)], index: 12n, next: "more" });
    await turn(500);
    expect(asked.slice(0, 3)).toEqual([" 0", "~ 0", " 9"]);
    expect(asked).toHaveLength(102);
    places.stop();
  });
});
