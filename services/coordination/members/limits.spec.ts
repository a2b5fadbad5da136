import { describe, expect, test } from "vitest";
import { candidateOf, FederationBooks, joinOf, reasonOf } from "../../../test/fakes/federation-books.ts";
import { GENESIS } from "../bft/frames.ts";
import { problemOf as bftProblem } from "../bft/members.ts";
import { batchBytes, readBatch } from "../bft/record.ts";
import { membersCodec } from "../codec/members-codec.ts";
import { RAFT_TUNING } from "../raft/config.ts";
import { changeProblem } from "../raft/lead/change.ts";
import { Members } from "./members.ts";
import { type Engine, MEMBER_LIMITS, type MembersDump, VOTERS } from "./messages.ts";
import { LEADER } from "./roster.ts";

const letters = (count: number): string[] => Array.from({ length: count }, (_, i) => String.fromCharCode(97 + i));
const federation = (engine: Engine): FederationBooks =>
  new FederationBooks(letters(VOTERS[engine].min + 2), { engine, admission: "founder" });

/** letIn has hubs ask, and lets them in. */
function letIn(books: FederationBooks, ...hubs: readonly string[]): string {
  for (const hub of hubs) {
    const candidate = candidateOf(hub, { incarnation: books.members.nextIncarnation(hub) });
    const asked = reasonOf(books.member("a", joinOf(candidate)));
    if (asked !== "ok") return asked;
    const { hubId, incarnation, publicKey } = candidate;
    const admitted = reasonOf(books.member("a", { kind: "admit", hubId, incarnation, publicKey, weight: 1 }));
    if (admitted !== "ok") return admitted;
  }
  return "ok";
}

/** reread is the book as a snapshot brings it to another hub, and to this one when it starts again (BK3, BK4). */
function reread({ members }: FederationBooks): Members {
  const other = new Members({ hash: () => new Uint8Array(32), verify: () => true });
  const dump = membersCodec.dump.decode(membersCodec.dump.encode(members.dump()));
  if (!dump.ok) throw new Error(dump.problem);
  other.load(dump.value);
  return other;
}

describe("BK4 a book that is as full as it can be", () => {
  test.each(["raft", "bft"] as const)("has a membership that the engine takes (%s)", (engine) => {
    const books = federation(engine);
    const hubs = Array.from({ length: MEMBER_LIMITS.members }, (_, i) => `h${i}`);
    expect(letIn(books, ...hubs)).toBe("LIMIT_EXCEEDED");
    expect(books.members.members()).toHaveLength(MEMBER_LIMITS.members);
    const { voters, learners } = books.members.wanted();
    const membership = { voters, outgoing: [], learners };
    const batch = { height: 1, time: 1, previous: GENESIS, payloads: [], markers: [], membership };
    if (engine === "bft") expect([bftProblem(membership), readBatch(batchBytes(batch))]).toEqual([undefined, batch]);
    else expect(changeProblem({ voters, outgoing: [], learners: [] }, voters, learners, { ...RAFT_TUNING })).toBeUndefined();
    reread(books);
  });

  test("BM2 lets nobody in whose number it could not keep when all leave", () => {
    const books = federation("raft");
    const { members } = books;
    const dump: MembersDump = members.dump();
    const gone = MEMBER_LIMITS.retired - dump.members.length - 2;
    members.load({
      ...dump,
      retired: Array.from({ length: gone }, (_, i) => ({ hubId: `g${String(i).padStart(5, "0")}`, incarnation: 1 })),
    });
    expect(letIn(books, "x", "y")).toBe("ok");
    expect(letIn(books, "z")).toBe("LIMIT_EXCEEDED");
    // Who was there before has its place.
    expect(letIn(books, "g00000")).toBe("ok");
    for (const hub of ["x", "y", "g00000", "b"]) expect(reasonOf(books.member(hub, { kind: "leave" }))).toBe("ok");
    expect(reread(books).dump().retired).toHaveLength(MEMBER_LIMITS.retired - 2);
    expect(letIn(books, "b", "x")).toBe("ok");
    expect(letIn(books, "z")).toBe("LIMIT_EXCEEDED");
  });

  test.each(["raft", "bft"] as const)("BM3 has no fewest voters above the most that there can be (%s)", (engine) => {
    const { members } = federation(engine);
    const { max } = VOTERS[engine];
    const problem = (value: number) =>
      members.actionProblem({ kind: "set_policy", key: "min_voters", value: { kind: "int", value }, basis: 0 })?.reason;
    expect([problem(max), problem(max + 1)]).toEqual([undefined, "VALUE_OUT_OF_RANGE"]);
  });

  test("BM9 keeps a place for the role that every federation has", () => {
    const books = new FederationBooks(["a", "b"], { admission: "founder" });
    const { members } = books;
    expect(letIn(books, "x")).toBe("ok");
    const at = books.instant();
    const act = (action: Parameters<Members["carryOut"]>[2]): string => reasonOf(members.carryOut(at, "ballot", action));
    members.load({
      ...members.dump(),
      members: members.dump().members.map((one) => (one.hubId === "x" ? { ...one, voter: false, ready: false } : one)),
    });
    for (const hubId of ["a", "b"]) expect(act({ kind: "confirm_failed", hubId, life: 0 })).toBe("ok");
    expect(act({ kind: "remove", hubId: members.role(LEADER)?.hubId ?? "" })).toBe("ok");
    expect(members.role(LEADER)).toBeUndefined();
    const given = Array.from({ length: MEMBER_LIMITS.roles }, (_, i) =>
      act({ kind: "assign_role", role: `r${i}`, hubId: "x", standbys: [] }),
    );
    expect(given.filter((reason) => reason === "ok")).toHaveLength(MEMBER_LIMITS.roles - 1);
    expect(given.at(-1)).toBe("LIMIT_EXCEEDED");
    const [left] = members.members().filter(({ voter }) => voter);
    expect(reasonOf(books.member(left?.hubId ?? "", { kind: "refute", life: 1 }))).toBe("ok");
    expect(members.role(LEADER)?.hubId).toBe(left?.hubId);
    reread(books);
  });
});
