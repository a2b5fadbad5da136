import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  DiscoveryService,
  GetDialledRequestSchema,
  GetDialledResponseSchema,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { doorBindings } from "./door.ts";

const WHY = "the federation has lab dialled at lab-2.example:18800";
const HOME = { hubId: "home", endpoint: { host: "home-2.example", port: 18_800 }, standby: true, fence: 4, incarnation: 7 };

function reasonOf(act: () => unknown): string {
  try {
    act();
    return "answered";
  } catch (error) {
    return error instanceof FoedusError ? `${error.reason} ${error.message}` : String(error);
  }
}

describe("the door of an installation that does not act", () => {
  const told: unknown[] = [];
  const bindings = doorBindings({
    why: () => WHY,
    known: (hubId) => (hubId === "home" ? HOME : undefined),
    said: (...report) => {
      told.push(report);
      return "the log has no data";
    },
  });
  const handlersOf = (typeName: string) =>
    bindings.find(({ service }) => service.typeName === typeName)!.handlers as Record<
      string,
      (request: unknown, context: unknown) => unknown
    >;
  const by = (kind: string, hubId: string, name = "hub") => ({ caller: { kind, hubId, name } });

  test("SI1 SI4 PROTOCOL H12 whoever calls at the door of an installation that waits hears why, and other hubs what it was told of theirs", () => {
    const { getDialled } = handlersOf(DiscoveryService.typeName);
    expect(getDialled!({}, by("peer", "home"))).toMatchObject({
      member: { hubId: "home", host: "home-2.example", port: 18_800, standby: true, fence: 4n, incarnation: 7n },
    });
    for (const context of [by("peer", "factory"), by("service", "lab"), by("service", "home"), by("operator", "home")])
      expect(reasonOf(() => getDialled!({}, context))).toBe(`FENCE_STALE ${WHY}`);
  });

  test("SI6 a process of its own hub hears why it has to wait, and what it found of the data is taken; no other caller's word of that is", () => {
    const { getDialled } = handlersOf(DiscoveryService.typeName);
    const held = (more: object) => create(GetDialledRequestSchema, { held: { service: "coordination", ...more } });
    expect(getDialled!(held({ incarnation: 7n }), by("service", "lab"))).toEqual(
      create(GetDialledResponseSchema, { waits: "the log has no data" }),
    );
    expect(getDialled!(held({ acts: true, fence: 4n, incarnation: 9n }), by("service", "lab"))).toMatchObject({
      waits: "the log has no data",
    });
    expect(told.splice(0)).toEqual([
      ["coordination", { data: { problem: undefined, replica: { incarnation: 7, returning: undefined } }, fence: undefined }],
      ["coordination", { data: undefined, fence: 4 }],
    ]);
    for (const context of [by("peer", "factory"), by("operator", "lab"), by("node", "lab"), by("gateway", "lab"), by("stranger", "lab")])
      expect(reasonOf(() => getDialled!(held({ acts: true, fence: 4n }), context))).toBe(`FENCE_STALE ${WHY}`);
    expect(reasonOf(() => getDialled!(held({ service: "coordination2" }), by("service", "lab")))).toBe(`FENCE_STALE ${WHY}`);
    expect(reasonOf(() => getDialled!(held({}), by("service", "lab", "telemetry")))).toBe(`FENCE_STALE ${WHY}`);
    expect(told).toEqual([]);
    getDialled!(held({}), by("service", "lab", "coordination"));
    expect(told).toHaveLength(1);
  });

  test("SI1 every other call of every service is refused, with the sentence of the moment", () => {
    let calls = 0;
    for (const { service, handlers } of bindings)
      for (const { localName } of service.methods) {
        if (localName === "getDialled") continue;
        const handler = (handlers as Record<string, (request: unknown, context: unknown) => unknown>)[localName];
        expect([localName, reasonOf(() => handler!({}, by("peer", "home")))]).toEqual([localName, `FENCE_STALE ${WHY}`]);
        calls++;
      }
    expect(calls).toBeGreaterThan(60);
  });
});
