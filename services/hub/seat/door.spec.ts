import { describe, expect, test } from "vitest";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
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
  const bindings = doorBindings({ why: () => WHY, known: (hubId) => (hubId === "home" ? HOME : undefined) });
  const handlersOf = (typeName: string) =>
    bindings.find(({ service }) => service.typeName === typeName)!.handlers as Record<
      string,
      (request: unknown, context: unknown) => unknown
    >;
  const by = (kind: string, hubId: string) => ({ caller: { kind, hubId } });

  test("SI1 SI4 PROTOCOL H12 whoever calls at the door of an installation that waits hears why, and other hubs what it was told of theirs", () => {
    const { getDialled } = handlersOf(DiscoveryService.typeName);
    expect(getDialled!({}, by("peer", "home"))).toMatchObject({
      member: { hubId: "home", host: "home-2.example", port: 18_800, standby: true, fence: 4n, incarnation: 7n },
    });
    for (const context of [by("peer", "factory"), by("service", "lab"), by("service", "home"), by("operator", "home")])
      expect(reasonOf(() => getDialled!({}, context))).toBe(`FENCE_STALE ${WHY}`);
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
