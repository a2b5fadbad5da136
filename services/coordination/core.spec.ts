import { describe, expect, test } from "vitest";
import { CoordinationHubs } from "../../test/support/coordination-hubs.ts";
import { stateIn } from "../../test/support/deciding.ts";
import { verifyCertificate } from "./ballots/certificate.ts";
import { holdingProblem } from "./members/holding.ts";
import type { Request } from "./messages.ts";

const text = (value: Uint8Array | undefined): string | undefined => (value === undefined ? undefined : new TextDecoder().decode(value));
const found = (founders: readonly string[] = [], more: Partial<Extract<Request, { kind: "found" }>> = {}): Request => ({
  kind: "found",
  federationId: "street",
  name: "",
  engine: "raft",
  admission: "founder",
  founders,
  ...more,
});
const put = (key: string, value: string, expect?: number): Request => ({
  kind: "change",
  command: {
    book: "values",
    command: { kind: "put", key, value: new TextEncoder().encode(value), conditional: expect !== undefined, expect: expect ?? 0 },
  },
});
const get = (key: string, local = false): Request => ({ kind: "query", query: { kind: "value", key }, local });
const join: Request = { kind: "join", federationId: "street", via: "" };

function read(hubs: CoordinationHubs, id: string, key: string, local = false): string | undefined {
  const { answer } = hubs.ask(id, "queried", get(key, local));
  return answer.kind === "value" ? text(answer.value?.value) : undefined;
}

const leaderOf = (hubs: CoordinationHubs, id: string): string => hubs.status(id).leader;

/** Three hubs that founded a federation together. */
function three(): CoordinationHubs {
  const hubs = new CoordinationHubs("a", "b", "c");
  hubs.advance(10);
  expect(hubs.ask("a", "standing", found(["b", "c"])).standing).toBe("founding");
  hubs.advance(10);
  for (const id of ["b", "c"]) expect(hubs.ask(id, "standing", join).standing).toBe("founding");
  hubs.until(() => ["a", "b", "c"].every((id) => leaderOf(hubs, id) !== ""));
  return hubs;
}

describe("a federation", () => {
  test("FO1 what a peer said of itself stands when its session is replaced by one to which it moved first", () => {
    const hubs = new CoordinationHubs("a", "b");
    hubs.advance(10);
    hubs.renew("a", "b");
    expect(hubs.ask("a", "standing", found(["b"])).standing).toBe("founding");
  });

  test("CO3 of one hub: values are decided at once, and are there after a restart", () => {
    const hubs = new CoordinationHubs("a");
    expect(hubs.ask("a", "standing", found()).standing).toBe("member");
    const { index } = hubs.ask("a", "changed", put("k", "1"));
    expect(read(hubs, "a", "k")).toBe("1");
    expect(() => hubs.ask("a", "changed", put("k", "2", index + 1))).toThrow("VERSION_CONFLICT");
    hubs.ask("a", "changed", put("k", "2", index));
    hubs.restart("a");
    expect(read(hubs, "a", "k")).toBe("2");
  });

  test("FO1 of three: exists when all have joined; each writes and reads, whoever leads", () => {
    const hubs = three();
    for (const id of ["a", "b", "c"]) hubs.ask(id, "changed", put(`by/${id}`, id));
    for (const id of ["a", "b", "c"]) for (const by of ["a", "b", "c"]) expect(read(hubs, id, `by/${by}`)).toBe(by);
    const states = ["a", "b", "c"].map((id) => stateIn(hubs.ask(id, "status", { kind: "status", withDigest: true }).status));
    expect(states[0]).toMatch(/^\d+ [0-9a-f]{64}$/);
    expect(new Set(states).size).toBe(1);
    expect(hubs.status("a").stateDigest).toHaveLength(0);
  });

  test("a digest of the state is made once for a position, and not again within a second", () => {
    const hubs = three();
    const digest = () => text(hubs.ask("a", "status", { kind: "status", withDigest: true }).status.stateDigest);
    hubs.advance(2_000);
    const before = digest();
    expect(before).not.toBe("");
    expect(digest()).toBe(before);
    hubs.ask("a", "changed", put("k", "v"));
    expect(digest()).toBe("");
    hubs.advance(1_001);
    expect(["", before]).not.toContain(digest());
  });

  test("S1-18 RO2 who is alone decides nothing and says why, and goes on reading what it has; afterwards all agree", () => {
    const hubs = three();
    hubs.ask("a", "changed", put("k", "before"));
    const leader = leaderOf(hubs, "a");
    const other = ["a", "b", "c"].find((id) => id !== leader)!;
    hubs.advance(1_000);
    hubs.cut(leader);
    hubs.ask(other, "changed", put("k", "after"));
    hubs.advance(4_000);
    const lack = "NO_QUORUM: fewer than a quorum of the federation's voters (a, b, c) are in contact;";
    const missing = "and `foedus federation status` shows who is missing";
    expect(() => hubs.ask(leader, "changed", put("k", "never"))).toThrow(`${lack} nothing was done, ${missing}`);
    const unread = "this read was not answered: `--local` shows what this hub has,";
    expect(() => read(hubs, leader, "k")).toThrow(`${lack} ${unread} ${missing}`);
    expect(read(hubs, leader, "k", true)).toBe("before");
    expect(hubs.status(leader).problem).toContain("too few voters are in contact");
    hubs.heal();
    hubs.until(() => hubs.status(leader).canDecide);
    for (const id of ["a", "b", "c"]) expect(read(hubs, id, "k")).toBe("after");
  });

  test("RO1 a command of a hub whose leader is stopped is decided under the next one, once", () => {
    const hubs = three();
    const leader = leaderOf(hubs, "a");
    const other = ["a", "b", "c"].find((id) => id !== leader)!;
    const calls = Array.from({ length: 20 }, (_, i) => hubs.call(other, put(`k${i}`, String(i))));
    hubs.advance(1);
    hubs.stop(leader);
    for (const call of calls) expect(hubs.wait(other, call).kind).toBe("changed");
    hubs.start(leader);
    for (let i = 0; i < 20; i++) expect(read(hubs, leader, `k${i}`)).toBe(String(i));
  });

  test("PROTOCOL G13 HO1 leadership is handed over by the word of any member's hub: when that is told the hub, it sees the other one lead", () => {
    const hubs = three();
    for (let turn = 0; turn < 4; turn++) {
      const leader = leaderOf(hubs, "a");
      const [to, bystander] = ["a", "b", "c"].filter((id) => id !== leader) as [string, string];
      const asks = turn % 2 === 0 ? bystander : to;
      hubs.ask(asks, "done", { kind: "transfer", hubId: to });
      expect(leaderOf(hubs, asks)).toBe(to);
      hubs.until(() => ["a", "b", "c"].every((id) => leaderOf(hubs, id) === to));
      // One hub does not have it go round and round (HO3).
      hubs.advance(5_000);
    }
    const leader = leaderOf(hubs, "a");
    const other = ["a", "b", "c"].find((id) => id !== leader)!;
    expect(() => hubs.ask(other, "done", { kind: "transfer", hubId: "z" })).toThrow("PEER_NOT_FOUND");
    hubs.ask(other, "done", { kind: "transfer", hubId: leader });
  });

  test("RO6 the leader's answer waits for no write behind its own; a follower's waits for all, as it does not know which are done", () => {
    const hubs = three();
    const leader = leaderOf(hubs, "a");
    const other = ["a", "b", "c"].find((id) => id !== leader) as string;
    expect(hubs.ask(leader, "changed", put("k", "1")).early).toBe(true);
    expect(hubs.ask(other, "changed", put("k", "2")).early).toBe(false);
    // What was durable in a term that is over says nothing of what stands there now.
    hubs.cut(leader);
    const calls = [1, 2, 3, 4].map((i) => hubs.call(leader, put("k", `lost ${i}`)));
    hubs.until(() => leaderOf(hubs, other) !== leader && leaderOf(hubs, other) !== "");
    hubs.heal();
    for (const call of calls) expect(hubs.wait(leader, call)).toMatchObject({ kind: "changed", early: false });
  });

  test("PT3 who left and comes back stays, although it reads in the log that it left before it reads that it is back", () => {
    const hubs = three();
    const [leader] = ["a", "b", "c"].filter((id) => id === leaderOf(hubs, "a")) as [string];
    const [back, other] = ["a", "b", "c"].filter((id) => id !== leader) as [string, string];
    hubs.ask(back, "done", { kind: "leave", federationId: "street", force: false });
    hubs.until(() => hubs.status(back).standing === "none");
    // More than one append has: it learns that it left before it has the rest.
    for (let i = 0; i < 60; i++) hubs.ask(other, "changed", put(`k${i}`, "x".repeat(4_000)));
    hubs.ask(back, "standing", { kind: "join", federationId: "street", via: leader });
    hubs.advance(50);
    hubs.ask(leader, "changed", { kind: "admit", hubId: back, weight: 1 });
    hubs.advance(2_000);
    expect(hubs.status(back).standing).toBe("member");
    expect(read(hubs, back, "k59")).toHaveLength(4_000);
    expect(hubs.status(leader).members.find(({ hubId }) => hubId === back)?.voter).toBe(true);
  });

  test("PT1 PT2 CO4 a hub joins later, has all that was decided, and gets a seat; it leaves by its own word", () => {
    const hubs = new CoordinationHubs("a", "b");
    hubs.advance(10);
    hubs.ask("a", "standing", found());
    hubs.ask("a", "changed", put("k", "1"));
    expect(hubs.ask("b", "standing", { kind: "join", federationId: "street", via: "a" }).standing).toBe("joining");
    hubs.advance(100);
    hubs.ask("a", "changed", { kind: "admit", hubId: "b", weight: 1 });
    hubs.until(() => hubs.status("b").members.filter(({ voter }) => voter).length === 2);
    expect(read(hubs, "b", "k")).toBe("1");
    hubs.ask("b", "changed", put("k", "2"));
    hubs.ask("b", "done", { kind: "leave", federationId: "street", force: false });
    hubs.until(() => hubs.status("b").standing === "none");
    hubs.until(() => hubs.status("a").members.length === 1);
    expect(read(hubs, "a", "k")).toBe("2");
  });

  test.each([1, 5])("RX4 RP1 a hub that decides alone lets another one in, also after it was called late: %i times", (times) => {
    const hubs = new CoordinationHubs("a", "b");
    hubs.advance(10);
    hubs.ask("a", "standing", found());
    hubs.until(() => leaderOf(hubs, "a") === "a");
    for (let i = 0; i < times; i++) hubs.starve(1_000);
    hubs.ask("b", "standing", { kind: "join", federationId: "street", via: "a" });
    hubs.until(() => hubs.status("a").joins.length === 1);
    hubs.ask("a", "changed", { kind: "admit", hubId: "b", weight: 1 });
    hubs.until(() => hubs.status("b").members.filter(({ voter }) => voter).length === 2, 5_000);
    // It is no quorum by itself any more, and gives up in time.
    const leader = leaderOf(hubs, "a");
    hubs.cut("a", "b");
    hubs.until(() => hubs.observed(leader).includes("quorum_lost"), 2_000);
  });

  test("PROTOCOL G4 AQ1 a voter that was away while others were let in follows one of them, by the word of one that it knows", () => {
    const hubs = new CoordinationHubs("a", "b", "c", "d");
    hubs.advance(10);
    hubs.ask("a", "standing", found(["b", "c"]));
    hubs.advance(10);
    for (const id of ["b", "c"]) hubs.ask(id, "standing", { kind: "join", federationId: "street", via: "" });
    hubs.until(() => ["a", "b", "c"].every((id) => hubs.status(id).canDecide));
    hubs.stop("c");
    hubs.ask("d", "standing", { kind: "join", federationId: "street", via: "a" });
    hubs.advance(100);
    hubs.ask("a", "changed", { kind: "admit", hubId: "d", weight: 1 });
    hubs.until(() => hubs.status("a").members.filter(({ voter }) => voter).length === 4);
    hubs.ask(leaderOf(hubs, "a"), "done", { kind: "transfer", hubId: "d" });
    hubs.ask("a", "changed", put("k", "1"));
    // Who knows it is met later than who leads.
    hubs.start("c");
    hubs.cut("c");
    hubs.advance(2_000);
    expect(hubs.status("a").leader).toBe("d");
    hubs.heal();
    hubs.until(() => hubs.status("c").leader === "d");
    expect(read(hubs, "c", "k")).toBe("1");
  });
});

describe("a federation that endures lies", () => {
  test("S1-29 four hubs decide by bft, with one stopped as well, and not with two; a fifth joins later", () => {
    const ids = ["a", "b", "c", "d"];
    const hubs = new CoordinationHubs(...ids, "e");
    hubs.advance(10);
    hubs.ask("a", "standing", found(["b", "c", "d"], { engine: "bft" }));
    hubs.advance(10);
    for (const id of ["b", "c", "d"]) hubs.ask(id, "standing", join);
    hubs.until(() => ids.every((id) => hubs.status(id).canDecide));
    for (const id of ids) hubs.ask(id, "changed", put(`by/${id}`, id));
    for (const id of ids) for (const by of ids) expect(read(hubs, id, `by/${by}`)).toBe(by);
    hubs.stop("d");
    hubs.ask("a", "changed", put("without", "d"));
    expect(read(hubs, "b", "without")).toBe("d");
    hubs.stop("c");
    const call = hubs.call("a", put("never", "x"));
    const refused = hubs.wait("a", call, 60_000);
    expect(refused.kind).toBe("refused");
    hubs.start("c");
    hubs.start("d");
    hubs.until(() => hubs.status("d").canDecide);
    expect(read(hubs, "d", "without")).toBe("d");
    hubs.ask("e", "standing", { kind: "join", federationId: "street", via: "a" });
    hubs.until(() => hubs.status("a").joins.length === 1);
    hubs.ask("a", "changed", { kind: "admit", hubId: "e", weight: 1 });
    hubs.until(() => hubs.status("e").members.filter(({ voter }) => voter).length === 5, 60_000);
    hubs.ask("e", "changed", put("by/e", "e"));
    expect(read(hubs, "a", "by/e")).toBe("e");
  });
});

describe("ballots", () => {
  test("S1-5 S1-6 FB1 BD1 a majority changes a policy; the certificate shows it to anyone, without a hub", () => {
    const hubs = three();
    const propose: Request = {
      kind: "propose",
      action: { kind: "set_policy", key: "max_agents", value: { kind: "int", value: 9 }, basis: 0 },
      reasoning: "more agents",
      durationMs: 0,
    };
    const { ballotId } = hubs.ask("a", "changed", propose).value as { ballotId: string };
    hubs.until(
      () => hubs.ask("b", "queried", { kind: "query", query: { kind: "ballot", ballotId }, local: true }).answer.kind === "ballot",
    );
    for (const id of ["b", "c"]) hubs.ask(id, "changed", { kind: "vote", ballotId, vote: "APPROVE", reasoning: "" });
    const certificate = (): Uint8Array | string => {
      const { answer } = hubs.ask("c", "queried", { kind: "query", query: { kind: "ballot", ballotId }, local: true });
      return answer.kind === "ballot" ? answer.certificate : "";
    };
    hubs.until(() => typeof certificate() !== "string");
    const { founding } = hubs.status("c");
    const verdict = verifyCertificate(certificate() as Uint8Array, { kind: "founding", statement: founding }, hubs.crypto("nobody"));
    expect(verdict.ok, verdict.sentence).toBe(true);
  });
});

describe("what a hub that fails had", () => {
  const rolesOf = (hubs: CoordinationHubs, id: string, local = false) => {
    const { answer } = hubs.ask(id, "queried", { kind: "query", query: { kind: "roles" }, local });
    if (answer.kind !== "roles") throw new Error(answer.kind);
    return answer;
  };

  test("S1-17 BM6 BM9 its role and its endpoint move with a higher fence, and the old one is stale when it comes back", () => {
    const hubs = three();
    const standby = { host: "standby", port: 18_804 };
    const { endpoints, roles } = rolesOf(hubs, "a");
    const before = roles.find(({ role }) => role === "leader")!;
    const { hubId: holder } = before;
    const { primary } = endpoints.find(({ hubId }) => hubId === holder)!;
    hubs.ask(holder, "changed", {
      kind: "change",
      command: { book: "members", command: { kind: "set_endpoints", primary, standbys: [standby] } },
    });
    const other = ["a", "b", "c"].find((id) => id !== holder)!;
    const reach = () => rolesOf(hubs, other, true).endpoints.find(({ hubId }) => hubId === holder)!;
    const { fence } = reach();
    hubs.stop(holder);
    hubs.until(() => reach().dialled === 1, 60_000);
    expect(reach()).toMatchObject({ endpoint: standby, primary });
    expect(reach().fence).toBeGreaterThan(fence);
    const after = rolesOf(hubs, other, true).roles.find(({ role }) => role === "leader")!;
    expect(after.hubId).not.toBe(holder);
    expect(after.fence).toBeGreaterThan(before.fence);
    hubs.start(holder);
    hubs.until(() => hubs.status(holder).canDecide);
    expect(holdingProblem(rolesOf(hubs, holder).roles, "leader", holder, before.fence)?.reason).toBe("FENCE_STALE");
    expect(holdingProblem(rolesOf(hubs, after.hubId).roles, "leader", after.hubId, after.fence)).toBeUndefined();
  });
});

describe("who has failed", () => {
  test("S1-15 S1-16 SE1 SE2 a hub that is silent is confirmed failed by the others, and lives again by its own word", () => {
    const hubs = three();
    hubs.advance(30_000);
    const failed = (of: string) => hubs.status("a").members.find(({ hubId }) => hubId === of)?.failed;
    expect(["a", "b", "c"].map(failed)).toEqual([false, false, false]);
    hubs.stop("c");
    hubs.until(() => failed("c") === true, 60_000);
    expect(hubs.events("a").join()).toContain("c has failed, by the word of a majority of the voters");
    hubs.start("c");
    hubs.until(() => failed("c") === false, 60_000);
    hubs.until(() => hubs.events("b").at(-1) === "c lives");
  });
});
