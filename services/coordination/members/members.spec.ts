import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { candidateOf, FederationBooks, foundingOf, joinOf, keyOf, reasonOf } from "../../../test/fakes/federation-books.ts";
import { membersCodec } from "../codec/members-codec.ts";
import { Members } from "./members.ts";
import type { Candidate, Founding, MemberCommand, SignedFounding } from "./messages.ts";
import { POLICIES } from "./policies.ts";

const letters = (count: number): string[] => Array.from({ length: count }, (_, i) => String.fromCharCode(97 + i));
const kinds = (books: FederationBooks): string[] => books.news.map(({ kind }) => kind);
const dumpOf = (books: FederationBooks): Uint8Array => membersCodec.dump.encode(books.members.dump());

describe("BM1 the founding entry", () => {
  const apply = (founding: SignedFounding, author = "a"): string =>
    reasonOf(new FederationBooks([]).member(author, { kind: "found", ...founding }));
  const trio = ["a", "b", "c"].map((hub) => candidateOf(hub));

  test("is signed by each founder, and comes once", () => {
    const good = foundingOf(trio);
    expect(apply(good)).toBe("ok");
    expect(apply(good, "z")).toBe("ACCESS_DENIED");
    const [a, b, c] = good.signatures;
    expect(apply({ ...good, signatures: [a!, b!] })).toBe("SIGNATURE_INVALID");
    expect(apply({ ...good, signatures: [a!, c!, b!] })).toBe("SIGNATURE_INVALID");
    expect(apply({ ...good, signatures: [a!, b!, { ...c!, signature: b!.signature }] })).toBe("SIGNATURE_INVALID");
    expect(apply({ ...good, founding: { ...good.founding, name: "Other" } })).toBe("SIGNATURE_INVALID");
    const books = new FederationBooks();
    expect(reasonOf(books.member("a", { kind: "found", ...good }))).toBe("ALREADY_EXISTS");
  });

  test("before it there is nothing else", () => {
    const books = new FederationBooks([]);
    expect(reasonOf(books.member("a", { kind: "leave" }))).toBe("NOT_CONFIGURED");
    expect(books.members.federation()).toBeUndefined();
    expect(books.members.describe()).toBe("no founding entry");
  });

  test.each<[string, string, readonly Candidate[], Partial<Founding>]>([
    ["a member list with a hub twice", "INVALID_FIELD", [...trio, candidateOf("c", { publicKey: keyOf("other").publicKey })], {}],
    ["a member list with a key twice", "INVALID_FIELD", [...trio, candidateOf("d", { publicKey: keyOf("a").publicKey })], {}],
    ["a list that is not sorted", "INVALID_FIELD", trio, { founders: [...trio].reverse() }],
    ["nobody", "INVALID_FIELD", [], {}],
    ["nobody with a weight", "INVALID_FIELD", trio.map((one) => ({ ...one, weight: 0 })), {}],
    ["three for BFT", "INVALID_FIELD", trio, { engine: "bft" }],
    ["31 founders", "INVALID_FIELD", Array.from({ length: 31 }, (_, i) => candidateOf(`h${i}`)), {}],
    ["a negative weight", "INVALID_FIELD", [candidateOf("a", { weight: -1 })], {}],
    ["a weight that is no number", "INVALID_FIELD", [candidateOf("a", { weight: Number.NaN })], {}],
    ["an absurd weight", "INVALID_FIELD", [candidateOf("a", { weight: 1e300 })], {}],
    ["an incarnation of 0", "INVALID_FIELD", [candidateOf("a", { incarnation: 0 })], {}],
    ["a hub id that is none", "INVALID_FIELD", [candidateOf("A.b")], {}],
    ["a port that is none", "INVALID_FIELD", [candidateOf("a", { primary: { host: "a", port: 0 } })], {}],
    ["a host that is none", "INVALID_FIELD", [candidateOf("a", { primary: { host: "a b", port: 1 } })], {}],
    ["an engine that is none", "INVALID_FIELD", trio, { engine: "paxos" as never }],
    ["a name of blanks", "INVALID_FIELD", trio, { name: " " }],
  ])("with %s is refused: %s", (_what, reason, founders, more) => {
    const books = new FederationBooks([]);
    let founding: SignedFounding;
    try {
      founding = foundingOf(founders, more);
    } catch {
      // What cannot even be written is signed by nobody.
      founding = { ...foundingOf(trio), founding: { ...foundingOf(trio).founding, founders, ...more } };
    }
    expect(reasonOf(books.member("a", { kind: "found", ...founding }))).toBe(reason);
    expect(books.members.dump()).toEqual(new Members(books.crypto).dump());
  });

  test("BM3 has at most 7 voters, and all founders of BFT", () => {
    expect(new FederationBooks(letters(9)).wanted()).toBe("a/1 b/1 c/1 d/1 e/1 f/1 g/1 (h/1) (i/1)");
    expect(FederationBooks.bft(letters(9)).wanted()).toBe("a/1 b/1 c/1 d/1 e/1 f/1 g/1 h/1 i/1");
    expect(new FederationBooks().members.role("leader")).toMatchObject({ hubId: "a", fence: 4 });
  });
});

describe("BM1 BM2 who comes and goes", () => {
  test("a hub asks, a ballot lets it in with that very key, and it learns until it is ready", () => {
    const books = new FederationBooks();
    expect(reasonOf(books.member("d", joinOf(candidateOf("d", { weight: 7 }))))).toBe("ok");
    const admit = { kind: "admit", hubId: "d", incarnation: 1, publicKey: keyOf("d").publicKey, weight: 2 } as const;
    expect(reasonOf(books.propose("no", "a", { ...admit, publicKey: keyOf("mallory").publicKey }))).toBe("IDENTITY_MISMATCH");
    expect(reasonOf(books.propose("no", "a", { ...admit, incarnation: 2 }))).toBe("IDENTITY_MISMATCH");
    expect(reasonOf(books.propose("no", "a", { ...admit, hubId: "e" }))).toBe("PEER_NOT_FOUND");
    expect(reasonOf(books.member("a", admit))).toBe("ACCESS_DENIED");
    books.decide("yes", "a", admit);
    expect(books.members.member("d")).toMatchObject({ weight: 2, admittedBy: "ballot", admittedRef: "yes" });
    expect(books.wanted()).toBe("a/1 b/1 c/1 (d/1)");
    expect(reasonOf(books.member("d", { kind: "ready", incarnation: 2 }))).toBe("TOO_STALE");
    expect(reasonOf(books.member("d", { kind: "ready", incarnation: 1 }))).toBe("ok");
    expect(books.wanted()).toBe("a/1 b/1 c/1 d/1");
    expect(reasonOf(books.member("e", joinOf(candidateOf("d"))))).toBe("ALREADY_EXISTS");
  });

  test("requests are signed, brought by members, few, and forgotten", () => {
    const books = new FederationBooks();
    const ask = (author: string, hub: string, command = joinOf(candidateOf(hub))): string => reasonOf(books.member(author, command));
    expect(ask("x", "x", joinOf(candidateOf("x"), "fed", keyOf("y")))).toBe("SIGNATURE_INVALID");
    expect(ask("x", "x", joinOf(candidateOf("x"), "other"))).toBe("SIGNATURE_INVALID");
    expect(ask("y", "x")).toBe("ACCESS_DENIED");
    expect(ask("b", "x")).toBe("ok");
    // Another one may have brought it in x's name, with a key of its own.
    expect(ask("c", "x")).toBe("ok");
    expect(ask("x", "x")).toBe("ok");
    expect(ask("x", "x")).toBe("ok");
    expect(ask("x", "x", joinOf(candidateOf("x", { publicKey: keyOf("a").publicKey }), "fed", keyOf("a")))).toBe("ALREADY_EXISTS");
    for (let i = 0; i < 7; i++) expect(ask("b", `b${i}`)).toBe("ok");
    expect(ask("b", "b8")).toBe("LIMIT_EXCEEDED");
    for (let i = 0; i < 54; i++) expect(ask(`z${i}`, `z${i}`)).toBe("ok");
    expect(ask("z54", "z54")).toBe("LIMIT_EXCEEDED");
    expect([ask("a", "late"), ask("a", "later"), ask("c", "other")]).toEqual(["ok", "LIMIT_EXCEEDED", "LIMIT_EXCEEDED"]);
    expect(membersCodec.dump.decode(membersCodec.dump.encode(books.members.dump())).ok).toBe(true);
    books.instant(POLICIES.join_ms.fallback);
    expect(books.members.dump().joins).toEqual([]);
    expect(kinds(books).filter((kind) => kind === "join_expired")).toHaveLength(65);
    expect(books.members.due()).toBeUndefined();
  });

  test("where the founding entry says so, a founder decides alone, and never about founders", () => {
    const books = new FederationBooks(["a", "b", "c"], { admission: "founder" });
    books.member("d", joinOf(candidateOf("d")));
    const admit = { kind: "admit", hubId: "d", incarnation: 1, publicKey: keyOf("d").publicKey, weight: 1 } as const;
    expect(reasonOf(books.member("d", admit))).toBe("ACCESS_DENIED");
    expect(reasonOf(books.member("b", admit))).toBe("ok");
    expect(books.members.member("d")).toMatchObject({ admittedBy: "founder", admittedRef: "b" });
    books.member("e", joinOf(candidateOf("e")));
    expect(reasonOf(books.member("d", { ...admit, hubId: "e" }))).toBe("ACCESS_DENIED");
    expect(reasonOf(books.member("a", { kind: "remove", hubId: "b" }))).toBe("ACCESS_DENIED");
    expect(reasonOf(books.member("a", { kind: "remove", hubId: "d" }))).toBe("ok");
    expect(books.members.member("d")).toBeUndefined();
  });

  test("BM3 nobody goes if too few voters or no weight would be left", () => {
    const bft = FederationBooks.bft();
    expect(reasonOf(bft.member("a", { kind: "leave" }))).toBe("VALUE_OUT_OF_RANGE");
    expect(reasonOf(bft.propose("x", "a", { kind: "remove", hubId: "b" }))).toBe("VALUE_OUT_OF_RANGE");
    bft.admit(candidateOf("e"));
    expect(reasonOf(bft.member("a", { kind: "leave" }))).toBe("VALUE_OUT_OF_RANGE");
    bft.member("e", { kind: "ready", incarnation: 1 });
    expect(reasonOf(bft.member("a", { kind: "leave" }))).toBe("ok");
    expect(bft.wanted()).toBe("b/1 c/1 d/1 e/1");
    const one = new FederationBooks(["a"]);
    const last = "hub a is the last one, and the federation ends with it; --force leaves it all the same";
    expect(one.member("a", { kind: "leave" })).toMatchObject({ failure: { reason: "VALUE_OUT_OF_RANGE", message: last } });
    const light = new FederationBooks([candidateOf("a"), candidateOf("b", { weight: 0 })]);
    expect(reasonOf(light.member("a", { kind: "leave" }))).toBe("VALUE_OUT_OF_RANGE");
    expect(reasonOf(light.propose("w", "a", { kind: "weigh", hubId: "a", weight: 0 }))).toBe("VALUE_OUT_OF_RANGE");
    const three = new FederationBooks();
    three.set("min_voters", 3);
    expect(reasonOf(three.member("c", { kind: "leave" }))).toBe("VALUE_OUT_OF_RANGE");
  });

  test("BM2 an incarnation is never used twice, whatever happens in between", () => {
    const books = new FederationBooks(letters(4));
    expect(reasonOf(books.member("d", { kind: "replace", incarnation: 1 }))).toBe("ALREADY_EXISTS");
    expect(reasonOf(books.member("d", { kind: "replace", incarnation: 7 }))).toBe("ok");
    expect(books.wanted()).toBe("a/1 b/1 c/1 (d/7)");
    expect(reasonOf(books.member("d", { kind: "replace", incarnation: 3 }))).toBe("ALREADY_EXISTS");
    expect(reasonOf(books.member("d", { kind: "leave" }))).toBe("ok");
    const again = books.member("d", joinOf(candidateOf("d", { incarnation: 7 })));
    expect(again).toMatchObject({ failure: { reason: "ALREADY_EXISTS", facts: { next: "8" } } });
    expect(books.members.nextIncarnation("d")).toBe(8);
    books.admit(candidateOf("d", { incarnation: 8 }));
    expect(books.wanted()).toBe("a/1 b/1 c/1 (d/8)");
  });

  test("BM8 a replica that replaces another learns first, unless its seat is one of the last", () => {
    const bft = FederationBooks.bft();
    bft.member("d", { kind: "replace", incarnation: 2 });
    expect(bft.wanted()).toBe("a/1 b/1 c/1 d/2");
    const raft = new FederationBooks(letters(9));
    raft.member("b", { kind: "replace", incarnation: 2 });
    expect(raft.wanted()).toBe("a/1 c/1 d/1 e/1 f/1 g/1 h/1 (b/2) (i/1)");
    raft.member("b", { kind: "ready", incarnation: 2 });
    expect(raft.wanted()).toBe("a/1 c/1 d/1 e/1 f/1 g/1 h/1 (b/2) (i/1)");
    raft.member("a", { kind: "leave" });
    expect(raft.wanted()).toBe("b/2 c/1 d/1 e/1 f/1 g/1 h/1 (i/1)");
  });

  test("BM4 a key follows another by a higher serial, signed by both", () => {
    const books = new FederationBooks();
    expect(reasonOf(books.member("a", books.rotationOf("a", "a2", 2, keyOf("b"))))).toBe("SIGNATURE_INVALID");
    expect(reasonOf(books.member("b", books.rotationOf("a", "a2", 2)))).toBe("SIGNATURE_INVALID");
    expect(reasonOf(books.member("a", { ...books.rotationOf("a", "a2", 2), proof: new Uint8Array(64) } as MemberCommand))).toBe(
      "SIGNATURE_INVALID",
    );
    expect(reasonOf(books.rotate("a", "b", 2))).toBe("ALREADY_EXISTS");
    expect(reasonOf(books.rotate("a", "a2", 2))).toBe("ok");
    expect(reasonOf(books.member("a", books.rotationOf("a", "a3", 2)))).toBe("ALREADY_EXISTS");
    expect(reasonOf(books.rotate("b", "a", 2))).toBe("ALREADY_EXISTS");
    expect(reasonOf(books.rotate("a", "a9", 9))).toBe("ok");
    expect(books.members.member("a")?.keys.map(({ serial, from, until }) => [serial, from, until])).toEqual([
      [1, 1, 6],
      [2, 6, 9],
      [9, 9, 0],
    ]);
    for (let serial = 10; serial < 40; serial++) books.rotate("a", `a${serial}`, serial);
    expect(books.members.member("a")?.keys).toHaveLength(16);
  });

  test("sealing keys and endpoints change by the hub's own word, with a new fence", () => {
    const books = new FederationBooks();
    const sealingKey = keyOf("new").publicKey;
    expect(reasonOf(books.member("a", { kind: "set_sealing_key", serial: 2, sealingKey }))).toBe("ok");
    expect(reasonOf(books.member("a", { kind: "set_sealing_key", serial: 2, sealingKey }))).toBe("ALREADY_EXISTS");
    const { fence } = books.members.endpoint("a")!;
    const primary = { host: "new.example", port: 1 };
    expect(reasonOf(books.member("a", { kind: "set_endpoints", primary, standbys: [primary] }))).toBe("INVALID_FIELD");
    expect(reasonOf(books.member("a", { kind: "set_endpoints", primary, standbys: [] }))).toBe("ok");
    expect(books.members.endpoint("a")).toMatchObject({ endpoint: primary });
    expect(books.members.endpoint("a")!.fence).toBeGreaterThan(fence);
  });
});

describe("S1-22 S1-23 BM10 policies", () => {
  test("have the defaults of the specification", () => {
    const { policies } = new FederationBooks().members;
    expect(policies.int("max_agents")).toBe(5);
    expect(policies.int("max_duration_ms")).toBe(7_200_000);
    expect(policies.words("allowed_types")).toEqual(["researcher", "coder"]);
    expect(policies.int("ballot_ms")).toBe(60_000);
  });

  test("each one is read by what it governs: none is voted on for nothing", () => {
    const folder = fileURLToPath(new URL("..", import.meta.url));
    const sources = readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts") && !path.endsWith(".spec.ts") && !path.endsWith("policies.ts"))
      .map((path) => readFileSync(join(folder, path), "utf8"))
      .join();
    const isRead = (key: string): boolean => new RegExp(`\\.(int|fraction|words)\\([^;]*"${key}"`).test(sources);
    expect(Object.keys(POLICIES).filter((key) => !isRead(key))).toEqual([]);
  });

  test.each([
    ["a policy that is none", "no_such", { kind: "int", value: 1 }, "INVALID_FIELD"],
    ["a policy of all objects", "toString", { kind: "int", value: 1 }, "INVALID_FIELD"],
    ["another kind", "max_agents", { kind: "words", words: ["a"] }, "VALUE_OUT_OF_RANGE"],
    ["too large a value", "flaps", { kind: "int", value: 9 }, "VALUE_OUT_OF_RANGE"],
    ["a negative value", "max_agents", { kind: "int", value: -1 }, "INVALID_FIELD"],
    ["a value that is no number", "max_agents", { kind: "int", value: Number.NaN }, "INVALID_FIELD"],
    ["a majority of less than half", "majority", { kind: "fraction", numerator: 49, denominator: 100 }, "VALUE_OUT_OF_RANGE"],
    ["a majority of all", "majority", { kind: "fraction", numerator: 2, denominator: 2 }, "VALUE_OUT_OF_RANGE"],
    ["a fraction of nothing", "majority", { kind: "fraction", numerator: 0, denominator: 0 }, "INVALID_FIELD"],
    ["a word twice", "allowed_types", { kind: "words", words: ["a", "a"] }, "VALUE_OUT_OF_RANGE"],
  ] as const)("%s (%s) is refused", (_what, key, value, reason) => {
    const books = new FederationBooks();
    const before = dumpOf(books);
    expect(reasonOf(books.propose("x", "a", { kind: "set_policy", key, value, basis: 0 } as never))).toBe(reason);
    expect(dumpOf(books)).toEqual(before);
  });

  test("change by ballot, and hold from then on", () => {
    const books = new FederationBooks();
    books.set("max_agents", 1);
    expect(books.members.policies.int("max_agents")).toBe(1);
    expect(books.news.at(-1)).toMatchObject({ kind: "policy_changed", key: "max_agents", version: 1 });
    books.decide("m", "a", {
      kind: "set_policy",
      key: "strict_majority",
      value: { kind: "fraction", numerator: 1, denominator: 2 },
      basis: 0,
    });
    books.propose("x", "a", { kind: "weigh", hubId: "a", weight: 5 });
    books.vote("x", "a", "APPROVE");
    books.vote("x", "b", "APPROVE");
    expect(books.ballots.ballot("x")?.result).toBe("APPROVED");
  });
});

describe("S1-18 quorum", () => {
  test("more than half of the voters, of BFT more than two thirds; learners do not count", () => {
    const can = (books: FederationBooks, hubs: string): boolean => books.members.canOperate(new Set(hubs));
    const raft = new FederationBooks(letters(9));
    expect([can(raft, "abc"), can(raft, "abcd"), can(raft, "abchi"), can(new FederationBooks(letters(4)), "ab")]).toEqual([
      false,
      true,
      false,
      false,
    ]);
    expect([can(FederationBooks.bft(), "abc"), can(FederationBooks.bft(), "ab")]).toEqual([true, false]);
    expect(can(FederationBooks.bft(letters(6)), "abcd")).toBe(false);
  });
});
