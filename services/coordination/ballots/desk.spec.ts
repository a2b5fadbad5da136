import fc from "fast-check";
import { expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { encode } from "#kernel/wire/shape.ts";
import { FederationBooks, keyOf, reasonOf } from "../../../test/fakes/federation-books.ts";
import { SIGNED_FOUNDING } from "../members/messages.ts";
import { verifyCertificate } from "./certificate.ts";
import { BallotDesk } from "./desk.ts";
import type { Action } from "./messages.ts";

const ACTION: Action = { kind: "prioritize", id: "job", priority: 1 };

test("S1-5 every ballot of a hub has an id of its own, however long the hub's is", () => {
  const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
  fc.assert(
    fc.property(fc.oneof(name, fc.constantFrom("x".repeat(63), `${"x-".repeat(31)}x`)), fc.nat(), (hubId, seed) => {
      const books = new FederationBooks([hubId]);
      const { members, ballots } = books;
      const at = () => ({ index: books.index, term: 1, time: books.time });
      const desk = new BallotDesk({ hubId, crypto: keyOf(hubId).crypto, prng: new Prng(seed), members, ballots, at });
      for (let i = 0; i < 3; i++) expect(reasonOf(books.ballot(hubId, desk.propose(ACTION, "", 0)))).toBe("ok");
    }),
  );
});

test("BA3 a hub whose replica was replaced while a ballot is open votes with the new one", () => {
  const books = new FederationBooks(["a", "b", "c"]);
  books.propose("x", "a", ACTION);
  expect(reasonOf(books.member("b", { kind: "replace", incarnation: 2 }))).toBe("ok");
  const { members, ballots } = books;
  const at = () => ({ index: books.index, term: 1, time: books.time });
  const desk = new BallotDesk({ hubId: "b", crypto: keyOf("b").crypto, prng: new Prng(1), members, ballots, at });
  const command = desk.vote("x", "APPROVE", "");
  expect("reason" in command ? command.reason : reasonOf(books.ballot("b", command))).toBe("ok");
  for (const hub of ["a", "c"]) books.vote("x", hub, "APPROVE");
  for (const hub of ["a", "b", "c"]) books.attest("x", hub);
  const statement = encode(SIGNED_FOUNDING, books.founding);
  const verdict = verifyCertificate(ballots.certificate("x") as Uint8Array, { kind: "founding", statement }, books.crypto);
  expect(verdict.sentence).toContain("has APPROVED ballot x");
});
