import { describe, expect, test } from "vitest";
import { CoordinationHubs } from "../../../test/support/coordination-hubs.ts";
import type { Request } from "../messages.ts";

/** What waits for others: each would be answered once they are in contact. */
const WAITING: readonly Request[] = [
  {
    kind: "change",
    command: { book: "values", command: { kind: "put", key: "k", value: new Uint8Array(1), conditional: false, expect: 0 } },
  },
  { kind: "query", query: { kind: "value", key: "k" }, local: false },
  { kind: "propose", action: { kind: "remove", hubId: "b" }, reasoning: "", durationMs: 0 },
  { kind: "transfer", hubId: "b" },
  { kind: "leave", federationId: "street", force: false },
  { kind: "lending", ask: { kind: "audit" } },
  { kind: "lending", ask: { kind: "release", lease: 1, fence: 1 } },
  { kind: "lending", ask: { kind: "command", command: { kind: "withdraw", name: "o" }, take: "no" } },
  { kind: "migrate", agent: "a1", to: "b", stepMs: 0, why: "" },
  { kind: "abort_migration", transfer: 1, why: "" },
];

/** Three hubs, of which c has lost the others, and calls there that wait. */
function waiting() {
  const hubs = new CoordinationHubs("a", "b", "c").found(["a", "b", "c"]);
  hubs.advance(2_000);
  hubs.cut("c");
  const calls = WAITING.map((request) => hubs.call("c", request)).filter((call) => hubs.answered("c", call) === undefined);
  expect(calls.length).toBeGreaterThan(6);
  return { hubs, calls };
}

describe("OC1 no call is left without an answer", () => {
  test.each<[string, Request]>([
    ["leaves without the others' word", { kind: "leave", federationId: "street", force: true }],
    ["gives its replica up", { kind: "rejoin", federationId: "street", trust: false }],
  ])("when the hub %s", (_how, request) => {
    const { hubs, calls } = waiting();
    hubs.wait("c", hubs.call("c", request));
    expect(calls.map((call) => hubs.answered("c", call)?.kind)).toEqual(calls.map(() => "refused"));
    expect(hubs.answered("c", calls[0] as number)).toMatchObject({ failure: { reason: "OUTCOME_UNKNOWN" } });
  });

  test("when the hub was removed by others; and who gave up is not answered", () => {
    const { hubs } = waiting();
    // A ballot lets nobody go whose word is not asked: here c goes by its own word, which the others carry out.
    hubs.heal();
    hubs.until(() => hubs.status("c").canDecide);
    hubs.call("c", { kind: "leave", federationId: "street", force: false });
    const later: number[] = [];
    hubs.until(() => {
      for (const request of WAITING) later.push(hubs.call("c", request));
      return hubs.status("c").standing === "none";
    });
    const given = later.at(-1) as number;
    hubs.advance(1);
    expect(later.filter((call) => call !== given && hubs.answered("c", call) === undefined)).toEqual([]);
  });
});
