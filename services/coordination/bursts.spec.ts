import { expect, test } from "vitest";
import { CoordinationHubs } from "../../test/support/coordination-hubs.ts";

const HUBS = ["a", "b", "c", "d"];

test.each(["raft", "bft"] as const)(
  "PO3 however many commands a hub has at once, and whatever their size, all are decided (%s)",
  (engine) => {
    const hubs = new CoordinationHubs(...HUBS).found(HUBS, { engine });
    for (const id of ["a", "b"]) {
      const calls = Array.from({ length: 2_000 }, (_, i) => {
        const value = new Uint8Array(120 + (i % 40));
        const command = { book: "values", command: { kind: "put", key: `k${i}`, value, conditional: false, expect: 0 } } as const;
        return hubs.call(id, { kind: "change", command });
      });
      expect(new Set(calls.map((call) => hubs.wait(id, call).kind))).toEqual(new Set(["changed"]));
    }
  },
);
