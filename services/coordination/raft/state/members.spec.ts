import { describe, expect, test } from "vitest";
import { everyoneIn, isMemberOf, isVoterOf, Members } from "./members.ts";

const of = (...voters: string[]): { voters: string[]; outgoing: string[]; learners: string[] } => ({ voters, outgoing: [], learners: [] });
const [ONE, TWO, THREE] = [of("a/1"), of("a/1", "b/1"), of("a/1", "b/1", "c/1")];

describe("RG1 the membership in force is the newest committed one", () => {
  test("an entry brings it when it is committed, not before", () => {
    const members = new Members({ index: 0, membership: ONE });
    members.note(3, TWO);
    expect(members.active).toBe(ONE);
    expect(members.pending).toEqual({ index: 3, membership: TWO });
    expect(members.commit(2)).toBe(false);
    expect(members.commit(5)).toBe(true);
    expect([members.active, members.activeIndex, members.pending]).toEqual([TWO, 3, undefined]);
  });

  test("zoo 14: cutting what is not committed takes nothing back, and what is committed is never cut", () => {
    const members = new Members({ index: 0, membership: ONE });
    members.note(3, TWO);
    members.commit(3);
    members.note(6, THREE);
    members.cut(5);
    expect([members.active, members.pending]).toEqual([TWO, undefined]);
    members.note(5, THREE);
    expect(members.pending?.index).toBe(5);
    expect(() => members.cut(3)).toThrow("never cut");
  });

  test("zoo 15: a snapshot gets that of its own position", () => {
    const members = new Members({ index: 0, membership: ONE });
    members.note(3, TWO);
    members.note(6, THREE);
    members.commit(8);
    expect([2, 3, 5, 6, 8].map((index) => members.at(index))).toEqual([ONE, TWO, TWO, THREE, THREE]);
    expect(() => members.at(9)).toThrow("not committed");
    members.trim(4);
    expect([4, 6].map((index) => members.at(index))).toEqual([TWO, THREE]);
    expect(members.active).toBe(THREE);
  });

  test("a snapshot that is put in place brings its own", () => {
    const members = new Members({ index: 0, membership: ONE });
    members.note(3, TWO);
    members.reset({ index: 9, membership: THREE });
    expect([members.active, members.activeIndex, members.pending]).toEqual([THREE, 9, undefined]);
  });
});

describe("who is listened to", () => {
  test("members of what is in force, and of what may follow it", () => {
    const members = new Members({ index: 0, membership: ONE });
    expect(members.knows("b/1")).toBe(false);
    members.note(1, TWO);
    expect(["a/1", "b/1", "c/1"].map((id) => members.knows(id))).toEqual([true, true, false]);
  });

  test("zoo 27: not the replica that a newer one of its hub has replaced", () => {
    const members = new Members({ index: 0, membership: of("a/10", "b/1") });
    expect(["a/9", "a/10", "a/11", "b/1", "c/1"].map((id) => members.isReplaced(id))).toEqual([true, false, false, false, false]);
    members.note(1, { ...of("b/1"), learners: ["a/11"] });
    expect(members.isReplaced("a/10")).toBe(false);
  });

  test("who is in a joint membership is in either list", () => {
    const joint = { voters: ["b/1", "c/1"], outgoing: ["a/1", "b/1"], learners: ["a/1", "d/1"] };
    expect(everyoneIn(joint)).toEqual(["a/1", "b/1", "c/1", "d/1"]);
    expect(["a/1", "c/1", "d/1"].map((id) => isVoterOf(joint, id))).toEqual([true, true, false]);
    expect(["a/1", "d/1", "e/1"].map((id) => isMemberOf(joint, id))).toEqual([true, true, false]);
  });
});
