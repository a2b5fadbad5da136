import { describe, expect, test } from "vitest";
import type { Membership } from "../log/engine.ts";
import { Acquaintance } from "./acquaintance.ts";
import type { Engine } from "./messages.ts";

/** Hub a, which knows b from the state and c from the membership in force. */
function acquaintanceOf(membership: Partial<Membership> = {}, engine: Engine = "raft"): Acquaintance {
  const inBook = [{ hubId: "a" }, { hubId: "b" }];
  const members = { member: (hub: string) => inBook.find(({ hubId }) => hubId === hub), members: () => inBook } as never;
  const lists = { voters: ["a/1", "b/1"], outgoing: ["c/2"], learners: [], ...membership };
  return new Acquaintance({ engine, hubId: "a", members, membership: () => lists });
}

describe("frames of the log", () => {
  test("AQ1 are taken of members, as the state or the log has them, and of nobody who only says so", () => {
    const acquaintance = acquaintanceOf();
    expect(["b", "c", "z"].map((hub) => acquaintance.takes(hub))).toEqual([true, true, false]);
    acquaintance.met("z", ["z", "b"]);
    expect(acquaintance.takes("z")).toBe(false);
  });

  test("AQ1 are taken of whom a member names, while both are in contact, and of whom that one names", () => {
    const acquaintance = acquaintanceOf();
    acquaintance.met("d", ["a", "b", "d", "e"]);
    acquaintance.met("e", ["a", "b", "d", "e", "f"]);
    acquaintance.met("f", []);
    expect(["d", "e", "f"].map((hub) => acquaintance.takes(hub))).toEqual([false, false, false]);
    acquaintance.met("b", ["a", "b", "d"]);
    expect(["d", "e", "f", "g"].map((hub) => acquaintance.takes(hub))).toEqual([true, true, true, false]);
    acquaintance.met("d", undefined);
    expect(["d", "e", "f"].map((hub) => acquaintance.takes(hub))).toEqual([false, false, false]);
    acquaintance.met("d", ["d"]);
    acquaintance.met("b", undefined);
    expect(acquaintance.takes("d")).toBe(false);
  });

  test("AQ2 are taken of any fellow by who has no vote and meets nobody whom it knows", () => {
    for (const learners of [[], ["a/1"]]) {
      const acquaintance = acquaintanceOf({ voters: ["c/2"], learners });
      expect(acquaintance.takes("z")).toBe(false);
      acquaintance.met("z", []);
      expect(acquaintance.takes("z")).toBe(true);
      acquaintance.met("c", ["a", "c"]);
      expect(acquaintance.takes("z")).toBe(false);
    }
  });

  test("are looked at by the other engine itself", () => {
    const acquaintance = acquaintanceOf({}, "bft");
    expect(acquaintance.takes("z")).toBe(true);
    expect(acquaintance.named("b")).toEqual([]);
    acquaintance.widened();
    expect(acquaintance.isWider()).toBe(false);
  });
});

test("AQ1 members are named to members only, and again when others keep the log", () => {
  const acquaintance = acquaintanceOf();
  expect([acquaintance.named("b"), acquaintance.named("z")]).toEqual([["a", "b"], []]);
  expect(acquaintance.isWider()).toBe(false);
  acquaintance.widened();
  expect([acquaintance.isWider(), acquaintance.isWider()]).toEqual([true, false]);
});
