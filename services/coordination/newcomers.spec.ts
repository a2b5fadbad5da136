import { describe, expect, test } from "vitest";
import { feedKeyOf, simCrypto } from "../../test/simulator/crypto.ts";
import { CoordinationHubs } from "../../test/support/coordination-hubs.ts";
import { type Begun, storedFederation } from "./formation/record.ts";
import type { Candidate, Introduced } from "./members/messages.ts";
import { joinBytes } from "./members/statements.ts";
import type { Frame } from "./messages.ts";
import { federationId } from "./state/federation-state.ts";

const statusOf = (hubs: CoordinationHubs, id: string) => hubs.status(id);

/** put has values agreed on, so that the log is cut behind a snapshot. */
function put(hubs: CoordinationHubs, by: string, count: number): void {
  for (let i = 0; i < count; i++)
    hubs.ask(by, "changed", {
      kind: "change",
      command: { book: "values", command: { kind: "put", key: `k${i % 3}`, value: Uint8Array.of(i), conditional: false, expect: 0 } },
    });
}

function found(engine: "raft" | "bft", founders: readonly string[], ...more: readonly string[]): CoordinationHubs {
  const hubs = new CoordinationHubs(...founders, ...more);
  hubs.tune({ snapshotEntries: 20, keepEntries: 5 });
  for (const id of founders) hubs.restart(id);
  for (const id of more) hubs.restart(id);
  return hubs.found(founders, { engine });
}

function join(hubs: CoordinationHubs, id: string, via: string, by: string): void {
  hubs.wait(id, hubs.call(id, { kind: "join", federationId: "street", via }));
  hubs.until(() => statusOf(hubs, by).joins.includes(id));
  hubs.ask(by, "changed", { kind: "admit", hubId: id, weight: 1 });
}

/** leads hands the leadership to a hub. */
function leads(hubs: CoordinationHubs, by: string, id: string): void {
  hubs.until(() => statusOf(hubs, id).role === "follower");
  hubs.ask(by, "done", { kind: "transfer", hubId: id });
  hubs.until(() => statusOf(hubs, id).role === "leader");
}

const isIn = (hubs: CoordinationHubs, id: string, as: string): boolean => {
  const { standing, applied } = statusOf(hubs, id);
  return standing === "member" && applied > 0 && applied === statusOf(hubs, as).applied;
};

describe("S1-6 who comes when the log is cut", () => {
  test("CO4 takes the state of a leader that came later than the founders", () => {
    const hubs = found("raft", ["a", "b", "c"], "d", "e");
    join(hubs, "d", "a", "a");
    leads(hubs, "a", "d");
    put(hubs, "d", 60);
    join(hubs, "e", "b", "a");
    hubs.until(() => isIn(hubs, "e", "d"));
  });

  test("CO4 takes the state of voters that came later than the founders", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "e", "f", "g");
    for (const id of ["e", "f"]) join(hubs, id, "a", "a");
    hubs.until(() => ["e", "f"].every((id) => isIn(hubs, id, "a")));
    put(hubs, "e", 300);
    join(hubs, "g", "e", "a");
    hubs.until(() => isIn(hubs, "g", "e"), 60_000);
  });

  test("SW3 PROTOCOL G8 with liars about, no single one of them puts it out again while it catches up", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "e");
    put(hubs, "a", 100);
    let lies = 0;
    hubs.forge("d", (frame, to) => {
      if (to !== "e" || frame.kind !== "log") return frame;
      lies++;
      const { incarnation } = statusOf(hubs, "a")
        .members.map(({ hubId, replica }) => ({ hubId, incarnation: Number(replica.split("/")[1]) }))
        .find(({ hubId }) => hubId === "e")!;
      return [{ kind: "dismissed", federation: frame.federation, incarnation }, frame];
    });
    join(hubs, "e", "a", "a");
    hubs.until(() => isIn(hubs, "e", "a"));
    hubs.advance(1_000);
    expect(lies).toBeGreaterThan(0);
    expect(statusOf(hubs, "e").standing).toBe("member");
    expect(hubs.events("e").filter((event) => event.includes("does not belong"))).toEqual([]);
  });

  test("NM1 with liars about, nobody comes in under the name of a hub that says that it has another key", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "v");
    const candidate: Candidate = {
      hubId: "v",
      incarnation: 1,
      publicKey: feedKeyOf("mallory"),
      sealingKey: feedKeyOf("mallory", 2),
      weight: 1,
      primary: { host: "mallory", port: 1 },
      standbys: [],
    };
    const signature = simCrypto("mallory").sign(joinBytes("street", candidate));
    const command = { kind: "request_join", candidate, signature } as const;
    hubs.ask("d", "changed", { kind: "change", command: { book: "members", command } });
    expect(() => hubs.ask("a", "changed", { kind: "admit", hubId: "v", weight: 1 })).toThrow(
      "IDENTITY_MISMATCH: the request of v that d brought",
    );
    const { incarnation, publicKey } = candidate;
    const action = { kind: "admit", hubId: "v", incarnation, publicKey, weight: 1 } as const;
    const opened = hubs.ask("d", "changed", { kind: "propose", action, reasoning: "", durationMs: 0 });
    const { ballotId } = opened.value as { readonly ballotId: string };
    const vote = (vote: "APPROVE" | "REJECT") => hubs.ask("b", "changed", { kind: "vote", ballotId, vote, reasoning: "" });
    expect(() => vote("APPROVE")).toThrow("IDENTITY_MISMATCH");
    expect(vote("REJECT").kind).toBe("changed");
    expect(statusOf(hubs, "a").members.map(({ hubId }) => hubId)).toEqual(["a", "b", "c", "d"]);
    // Nor does that keep the hub itself out.
    join(hubs, "v", "a", "a");
    hubs.until(() => isIn(hubs, "v", "a"));
    expect(statusOf(hubs, "a").joins).toEqual([]);
  });

  test("FO5 with liars about, it takes the word of the member through which it joins, and of nobody else", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "n", "o", "p", "e");
    for (const id of ["n", "o", "p"]) join(hubs, id, "a", "a");
    hubs.until(() => ["n", "o", "p"].every((id) => statusOf(hubs, id).role === "follower"));
    for (const id of ["c", "d"]) {
      hubs.ask(id, "done", { kind: "leave", federationId: "street", force: false });
      hubs.until(() => statusOf(hubs, id).standing === "none");
    }
    put(hubs, "a", 300);
    const forged = ["x", "y", "z", "w"].map((hubId) => ({
      hubId,
      incarnation: 1,
      publicKey: hubs.crypto(hubId).hash(new TextEncoder().encode(hubId)),
    }));
    const lie = (frame: Frame): Frame => (frame.kind === "founded" ? { ...frame, voters: forged } : frame);
    for (const id of ["b", "n", "o", "p"]) hubs.forge(id, lie);
    join(hubs, "e", "a", "a");
    hubs.until(() => isIn(hubs, "e", "a"));
    expect(storedFederation(hubs.stored("e"))?.voters.map(({ hubId }) => hubId)).toEqual(["a", "b", "n", "o", "p"]);
  });

  test.each<[string, (voters: readonly Introduced[]) => readonly Introduced[]]>([
    ["a hub twice", (voters) => [...voters, { ...voters[0]!, publicKey: new Uint8Array(32) }]],
    ["a hub id that is none", (voters) => voters.map((voter) => ({ ...voter, hubId: `${voter.hubId} b` }))],
    ["a key twice", (voters) => [...voters, { ...voters[0]!, hubId: "z" }]],
    [
      "more voters than there can be",
      (voters) => Array.from({ length: 31 }, (_, i) => ({ ...voters[0]!, hubId: `h${i}`, publicKey: new Uint8Array(32).fill(i) })),
    ],
  ])("FO5 it does not begin with an introduction that has %s", (_what, change) => {
    const hubs = found("bft", ["a", "b", "c", "d"], "e");
    hubs.forge("a", (frame) => (frame.kind === "founded" ? { ...frame, voters: change(frame.voters) } : frame));
    join(hubs, "e", "a", "a");
    hubs.advance(2_000);
    expect(statusOf(hubs, "e").standing).toBe("joining");
    // Another member can be named.
    hubs.wait("e", hubs.call("e", { kind: "join", federationId: "street", via: "b" }));
    hubs.until(() => isIn(hubs, "e", "b"));
  });

  test("BC4 WB2 a hub that was restored comes back among voters of whom it has known, though founders have gone", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "e", "f", "g");
    for (const id of ["e", "f", "g"]) join(hubs, id, "a", "a");
    hubs.until(() => ["e", "f", "g"].every((id) => isIn(hubs, id, "a") && statusOf(hubs, id).role === "follower"));
    hubs.advance(2_000);
    const backup = hubs.backup("f");
    for (const id of ["b", "c", "d"]) {
      hubs.ask(id, "done", { kind: "leave", federationId: "street", force: false });
      hubs.until(() => statusOf(hubs, id).standing === "none");
    }
    put(hubs, "a", 300);
    hubs.stop("f");
    hubs.start("f", backup, "the number beside the store is another one");
    hubs.until(() => statusOf(hubs, "f").standing === "member" && isIn(hubs, "f", "a"), 60_000);
  });

  test.each(["raft", "bft"] as const)("CO4 takes the state of voters of whom none is a founder (%s)", (engine) => {
    const founders = ["a", "b", "c", "d"];
    const hubs = found(engine, founders, "n", "o", "p", "q", "e");
    for (const id of ["n", "o", "p", "q"]) join(hubs, id, "a", "a");
    // There are seven seats with Raft.
    hubs.until(() =>
      ["n", "o", "p", "q"].every((id) => statusOf(hubs, id).role === (engine === "raft" && id === "q" ? "learner" : "follower")),
    );
    hubs.wait("e", hubs.call("e", { kind: "join", federationId: "street", via: "n" }));
    hubs.until(() => statusOf(hubs, "a").joins.includes("e"));
    hubs.cut("e");
    hubs.ask("a", "changed", { kind: "admit", hubId: "e", weight: 1 });
    for (const id of founders) {
      hubs.ask(id, "done", { kind: "leave", federationId: "street", force: false });
      hubs.until(() => statusOf(hubs, id).standing === "none");
    }
    put(hubs, "n", 300);
    hubs.heal();
    hubs.until(() => isIn(hubs, "e", "n"), 60_000);
  });

  test("CO4 it knows the voters of whom it was told also after a restart, until its own log has it", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "n", "o", "p", "e");
    for (const id of ["n", "o", "p"]) join(hubs, id, "a", "a");
    hubs.until(() => ["n", "o", "p"].every((id) => statusOf(hubs, id).role === "follower"));
    for (const id of ["b", "c", "d"]) {
      hubs.ask(id, "done", { kind: "leave", federationId: "street", force: false });
      hubs.until(() => statusOf(hubs, id).standing === "none");
    }
    put(hubs, "a", 300);
    join(hubs, "e", "a", "a");
    hubs.until(() => statusOf(hubs, "e").standing === "member");
    hubs.cut("e");
    hubs.advance(3_000);
    hubs.restart("e");
    hubs.heal();
    hubs.until(() => isIn(hubs, "e", "a"), 60_000);
  });

  test("CO4 it goes by the voters of whom it was told also when it has taken some of the log", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "n", "o", "p", "e");
    put(hubs, "a", 40);
    for (const id of ["n", "o", "p"]) join(hubs, id, "a", "a");
    hubs.until(() => ["n", "o", "p"].every((id) => statusOf(hubs, id).role === "follower"));
    for (const id of ["b", "c", "d"]) {
      hubs.ask(id, "done", { kind: "leave", federationId: "street", force: false });
      hubs.until(() => statusOf(hubs, id).standing === "none");
    }
    join(hubs, "e", "a", "a");
    hubs.until(() => statusOf(hubs, "e").applied > 0);
    hubs.cut("e");
    expect(statusOf(hubs, "e").applied).toBeLessThan(40);
    put(hubs, "a", 300);
    hubs.heal();
    hubs.until(() => isIn(hubs, "e", "a"), 60_000);
  });
});

const leave = (hubs: CoordinationHubs, ...ids: readonly string[]): void => {
  for (const id of ids) {
    hubs.ask(id, "done", { kind: "leave", federationId: "street", force: false });
    hubs.until(() => statusOf(hubs, id).standing === "none");
  }
};
const areVoters = (hubs: CoordinationHubs, ...ids: readonly string[]): void =>
  hubs.until(() => ids.every((id) => statusOf(hubs, id).members.find(({ hubId }) => hubId === id)?.voter === true));

/** federationOf is the short id of the federation that a hub belongs to. */
const federationOf = (hubs: CoordinationHubs, id: string): Uint8Array =>
  federationId((storedFederation(hubs.stored(id)) as Begun).founding, hubs.crypto(id));

/** anew is what the operator of a hub does that cannot come back by itself, as its status says. */
function anew(hubs: CoordinationHubs, id: string, via: string): void {
  hubs.ask(id, "done", { kind: "leave", federationId: "street", force: true });
  hubs.wait(id, hubs.call(id, { kind: "join", federationId: "street", via }));
  hubs.until(() => isIn(hubs, id, via), 60_000);
}

describe("SW3 SW4 who was away while others took the places of those whom it knew", () => {
  test.each(["raft", "bft"] as const)("is told what to do, and that helps (%s)", (engine) => {
    const founders = engine === "raft" ? ["a", "b", "c"] : ["a", "b", "c", "d"];
    const hubs = found(engine, founders, "e", "n", "o", "p", "q");
    join(hubs, "e", "a", "a");
    areVoters(hubs, "e");
    hubs.cut("e");
    for (const id of ["n", "o", "p", "q"].slice(0, engine === "raft" ? 3 : 4)) {
      join(hubs, id, "a", "a");
      areVoters(hubs, id);
    }
    leave(hubs, ...founders);
    put(hubs, "n", 300);
    hubs.heal();
    hubs.advance(20_000);
    expect(statusOf(hubs, "e")).toMatchObject({ standing: "member", canDecide: false });
    expect(statusOf(hubs, "e").problem).toBe(
      `${engine === "raft" ? "n, o, p" : "n, o, p, q"} say that they keep the log of street, and this hub cannot know that: of the voters that it knows too few are there. Bring those back into contact that are members still (foedus peers), or have this hub let in anew: foedus federation leave street --force, then foedus federation join street --via n`,
    );
    anew(hubs, "e", "n");
    expect(statusOf(hubs, "e").problem).toBe("");
  });

  test("is told so too if it had only just come in, and each of those has another replica now", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "e");
    put(hubs, "a", 300);
    join(hubs, "e", "a", "a");
    hubs.until(() => statusOf(hubs, "e").standing === "member");
    hubs.cut("e");
    for (const id of ["a", "b", "c", "d"]) {
      hubs.ask(id, "standing", { kind: "rejoin", federationId: "street", trust: false });
      const by = id === "a" ? "b" : "a";
      hubs.until(() => statusOf(hubs, id).standing === "member" && isIn(hubs, id, by) && statusOf(hubs, id).canDecide, 60_000);
      areVoters(hubs, id);
    }
    put(hubs, "a", 300);
    hubs.heal();
    hubs.advance(20_000);
    expect(statusOf(hubs, "e").problem).toMatch(/^a, b, c, d say that they keep the log of street, and this hub cannot know that/);
    anew(hubs, "e", "a");
  });

  test("is told so too by one whom it knows, whose state too few have signed whom it knows", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "e", "n", "o", "p");
    join(hubs, "e", "a", "a");
    areVoters(hubs, "e");
    hubs.cut("e");
    for (const id of ["n", "o", "p"]) {
      join(hubs, id, "a", "a");
      areVoters(hubs, id);
    }
    leave(hubs, "b", "c", "d");
    put(hubs, "a", 300);
    hubs.heal();
    for (const id of ["n", "o", "p"]) hubs.cut("e", id);
    hubs.until(() => hubs.observed("e").includes("snapshot_unproven"));
    expect(statusOf(hubs, "e").problem).toMatch(/^a says that it keeps the log of street, and this hub cannot know that/);
    anew(hubs, "e", "a");
  });

  test("no such thing is said while it only takes over what was decided", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "n", "o", "p", "q", "e");
    for (const id of ["n", "o", "p", "q"]) join(hubs, id, "a", "a");
    areVoters(hubs, "n", "o", "p", "q");
    hubs.wait("e", hubs.call("e", { kind: "join", federationId: "street", via: "n" }));
    hubs.until(() => statusOf(hubs, "a").joins.includes("e"));
    hubs.ask("a", "changed", { kind: "admit", hubId: "e", weight: 1 });
    const problems = new Set<string>();
    hubs.until(() => {
      problems.add(statusOf(hubs, "e").problem);
      return isIn(hubs, "e", "n");
    });
    expect([...problems].filter((problem) => problem.includes("cannot know"))).toEqual([]);
  });

  test("is not thrown out by one that lies before it has come to where it was let in", () => {
    const hubs = found("bft", ["a", "b", "c", "d"], "e");
    put(hubs, "b", 300);
    let incarnation = 0;
    hubs.watch((from, _to, frame) => void (from === "e" && frame.kind === "join_ask" && (incarnation = frame.candidate.incarnation)));
    hubs.forge("a", (frame, to) => (to === "e" ? [{ kind: "dismissed", federation: federationOf(hubs, "b"), incarnation }, frame] : frame));
    join(hubs, "e", "b", "b");
    hubs.until(() => statusOf(hubs, "e").standing === "member");
    hubs.until(() => {
      expect(statusOf(hubs, "e").standing).toBe("member");
      return isIn(hubs, "e", "b");
    });
  });

  test.each(["raft", "bft"] as const)("learns that it was removed before it had anything of the log (%s)", (engine) => {
    const founders = engine === "raft" ? ["a", "b", "c"] : ["a", "b", "c", "d"];
    const hubs = found(engine, founders, "n", "o", "p", "q", "e");
    for (const id of ["n", "o", "p", "q"]) join(hubs, id, "a", "a");
    areVoters(hubs, "n", "o", "p", "q");
    put(hubs, "a", 300);
    hubs.wait("e", hubs.call("e", { kind: "join", federationId: "street", via: "n" }));
    hubs.until(() => statusOf(hubs, "a").joins.includes("e"));
    // What is said of the log does not come.
    for (const id of [...founders, "n", "o", "p", "q"]) hubs.forge(id, (frame, to) => (frame.kind === "log" && to === "e" ? [] : frame));
    hubs.ask("a", "changed", { kind: "admit", hubId: "e", weight: 1 });
    hubs.until(() => statusOf(hubs, "e").standing === "member");
    hubs.ask("a", "changed", { kind: "remove", hubId: "e" });
    leave(hubs, ...founders);
    hubs.until(() => statusOf(hubs, "e").standing === "none");
  });
});

test("BM1 a founder that left and came back lets nobody in by its own word: it asks the members", () => {
  const hubs = found("raft", ["a", "b", "c"]);
  const leave = (id: string): void => {
    hubs.ask(id, "done", { kind: "leave", federationId: "street", force: false });
    hubs.until(() => statusOf(hubs, id).standing === "none");
    hubs.advance(1_000);
  };
  leave("c");
  join(hubs, "c", "a", "a");
  hubs.until(() => isIn(hubs, "c", "a"));
  leave("b");
  hubs.wait("b", hubs.call("b", { kind: "join", federationId: "street", via: "c" }));
  hubs.until(() => statusOf(hubs, "c").joins.includes("b"));
  const { value } = hubs.ask("c", "changed", { kind: "admit", hubId: "b", weight: 1 });
  const { ballotId } = value as { readonly ballotId: string };
  hubs.ask("a", "changed", { kind: "vote", ballotId, vote: "APPROVE", reasoning: "" });
  hubs.until(() => isIn(hubs, "b", "a"));
});
