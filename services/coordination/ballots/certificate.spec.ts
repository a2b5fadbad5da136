import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decode, encode } from "#kernel/wire/shape.ts";
import { candidateOf, FederationBooks, joinOf, keyOf, reasonOf } from "../../../test/fakes/federation-books.ts";
import { SIGNED_FOUNDING, type TrustedKeys } from "../members/messages.ts";
import { statementOf } from "./ballots.ts";
import { type TrustAnchor, type Verdict, verifyCertificate } from "./certificate.ts";
import {
  type Action,
  BALLOT_LIMITS,
  type Ballot,
  CERTIFICATE,
  type Certificate,
  type ClosingStatement,
  type SignedVote,
} from "./messages.ts";
import { closingBytes, openingDigest, voteBytes, votesDigest } from "./statements.ts";

const PRIORITY: Action = { kind: "prioritize", id: "job-1", priority: 50 };
const POLICY: Action = { kind: "set_policy", key: "max_agents", value: { kind: "int", value: 9 }, basis: 0 };

function certificateOf(books: FederationBooks, ballotId = "x"): Uint8Array {
  const bytes = books.ballots.certificate(ballotId);
  if (typeof bytes === "string") throw new Error(bytes);
  return bytes;
}

function keysOf(books: FederationBooks): TrustAnchor {
  return { kind: "keys", trusted: books.members.trustedKeys() as TrustedKeys };
}

function foundingOf(books: FederationBooks): TrustAnchor {
  return { kind: "founding", statement: encode(SIGNED_FOUNDING, books.founding), history: books.members.keyHistory() };
}

const said = (verdict: Verdict): string => (verdict.ok ? `ok ${verdict.certificate.result}` : verdict.reason);

/** decided is a federation of five in which these votes were cast in ballot `x`, and the time has run out. */
function decided(votes: Readonly<Record<string, "APPROVE" | "REJECT" | "ABSTAIN">>, action: Action = PRIORITY): FederationBooks {
  const books = new FederationBooks(["a", "b", "c", "d", "e"]);
  books.propose("x", "a", action, { reasoning: "why not" });
  for (const [hub, vote] of Object.entries(votes)) books.ballot(hub, books.voteOf("x", hub, vote, { reasoning: `${hub} thinks so` }));
  books.instant(60_000);
  return books;
}

/** Three of five voted: somebody who hides the REJECT makes it another certificate, so hubs attest. */
const SOME = { a: "APPROVE", b: "ABSTAIN", c: "REJECT" } as const;

/** attested has hubs sign the result, until there are enough. */
function attested(books: FederationBooks, hubs = "abcdef", ballotId = "x"): FederationBooks {
  const { eligible } = books.ballots.ballot(ballotId)?.opening ?? { eligible: [] };
  for (const hub of hubs) if (eligible.some(({ hubId }) => hubId === hub)) books.attest(ballotId, hub);
  return books;
}

function attestedSome(): FederationBooks {
  return attested(decided(SOME), "ace");
}

/** rotations has hub d change its key from one serial to another. */
function rotations(books: FederationBooks, from: number, to: number): void {
  for (let serial = from; serial <= to; serial++) expect(reasonOf(books.rotate("d", `d${serial}`, serial))).toBe("ok");
}

/** comeBack has hub d leave, and be let in again with another key. */
function comeBack(books: FederationBooks, { publicKey }: { readonly publicKey: Uint8Array }): void {
  books.member("d", { kind: "leave" });
  const candidate = candidateOf("d", { incarnation: 2, publicKey });
  books.keys.set("d", keyOf("other d"));
  expect(reasonOf(books.member("d", joinOf(candidate, "fed", keyOf("other d"))))).toBe("ok");
  books.decide("again", "a", { kind: "admit", hubId: "d", incarnation: 2, publicKey, weight: 1 });
}

describe("BA6 certificates", () => {
  const { crypto } = new FederationBooks();

  test("a result is verified from keys and from the founding entry", () => {
    const books = attested(decided({ a: "APPROVE", b: "APPROVE", c: "APPROVE" }));
    const bytes = certificateOf(books);
    for (const anchor of [keysOf(books), foundingOf(books)]) {
      const verdict = verifyCertificate(bytes, anchor, crypto);
      expect(said(verdict)).toBe("ok APPROVED");
      expect(verdict.sentence).toBe(
        "federation fed has APPROVED ballot x of hub a: to give job-1 priority 50 " +
          "(approve 3, reject 0, abstain 0, not voted 2; more than 1/2 was needed; 3 hubs attest that)",
      );
    }
    expect(decode(CERTIFICATE, bytes)).toMatchObject({ value: { votes: [{ statement: { reasoning: "a thinks so" } }, {}, {}] } });
  });

  test("hubs with more than half of all weight attest a result", () => {
    const books = decided(SOME);
    expect(books.news.at(-1)).toMatchObject({ kind: "decided", result: "REJECTED", attest: expect.objectContaining({ length: 32 }) });
    const words = "voters with 2 of 5 weight have attested the result of ballot x; more than half is needed";
    books.attest("x", "a");
    books.attest("x", "b");
    expect(books.ballots.certificate("x")).toBe(words);
    books.attest("x", "e");
    expect(books.news.at(-1)).toEqual({ kind: "certified", ballotId: "x" });
    expect(said(verifyCertificate(certificateOf(books), foundingOf(books), crypto))).toBe("ok REJECTED");
  });

  test("a result cannot be turned by leaving a vote out, whatever the others decide alone", () => {
    const books = attested(decided({ a: "APPROVE", b: "ABSTAIN", c: "REJECT", d: "ABSTAIN" }));
    const certificate: Certificate = { ...read(books), result: "APPROVED" };
    const votes = certificate.votes.filter(({ statement }) => statement.vote !== "REJECT");
    expect(said(verify({ ...certificate, votes, attestations: [] }, books))).toBe("MISSING_SIGNATURE");
    expect(said(verify({ ...certificate, votes }, books))).toBe("WRONG_SIGNATURE");
    expect(said(verify({ ...certificate, votes: votes.slice(0, 2), attestations: [] }, books))).toBe("NO_QUORUM");
  });

  test("votes that were signed in time and came too late for the log, or after the ballot was withdrawn, show nothing", () => {
    for (const end of ["EXPIRED", "WITHDRAWN"]) {
      const books = new FederationBooks(["a", "b", "c", "d", "e"]);
      const opened = books.propose("x", "a", PRIORITY);
      const commands = ["a", "b", "c", "d"].map((hub) => books.voteOf("x", hub, "APPROVE"));
      if (end === "EXPIRED") books.instant(60_000);
      else books.ballot("a", { kind: "withdraw", ballotId: "x" });
      expect(books.ballots.ballot("x")).toMatchObject({ result: end, votes: [] });
      expect(opened.ok).toBe(true);
      const { opening } = books.ballots.ballot("x") as Ballot;
      const votes = commands.map((command, i) => ({
        statement: statementOf(opening, "abcd"[i] as string, command),
        signature: command.signature,
      }));
      const made: Certificate = { opening, votes, result: "APPROVED", attestations: [], keys: [] };
      expect(said(verify(made, books))).toBe("MISSING_SIGNATURE");
      expect(() => books.attestOf("x", "a")).toThrow("ballot x is not decided");
    }
  });

  test("BA1 an opening that somebody wrote alone shows nothing", () => {
    const books = attested(decided({ a: "APPROVE", b: "APPROVE", c: "APPROVE" }));
    const certificate = read(books);
    const eligible = certificate.opening.eligible.filter(({ hubId }) => hubId === "a");
    const opening = { ...certificate.opening, eligible };
    const vote = certificate.votes[0] as SignedVote;
    const statement = { ...vote.statement, openingDigest: openingDigest(opening, crypto) };
    const votes = [{ statement, signature: keyOf("a").crypto.sign(voteBytes(statement)) }];
    const digests = { openingDigest: openingDigest(opening, crypto), votesDigest: votesDigest(votes, crypto) };
    const closing = { federationId: "fed", ballotId: "x", ...digests, result: "APPROVED", hubId: "a", keySerial: 1, asOfIndex: 9 } as const;
    const attestations = [{ hubId: "a", keySerial: 1, asOfIndex: 9, signature: keyOf("a").crypto.sign(closingBytes(closing)) }];
    const forged: Certificate = { opening, votes, result: "APPROVED", attestations, keys: [] };
    for (const anchor of [keysOf(books), foundingOf(books)])
      expect(verifyCertificate(encode(CERTIFICATE, forged), anchor, crypto)).toMatchObject({
        reason: "NOT_VOUCHED",
        sentence: "hubs with 1 of the 5 weight that is trusted here have signed; give the keys of the members at that time",
      });
  });

  test("BM4 keys that changed while the ballot was open are in it, and those before in the history", () => {
    const books = new FederationBooks(["a", "b", "c"]);
    books.rotate("a", "a2", 2);
    books.propose("x", "a", PRIORITY);
    books.vote("x", "a", "APPROVE");
    books.rotate("b", "b7", 7);
    books.rotate("b", "b9", 9);
    books.vote("x", "b", "APPROVE");
    const bytes = certificateOf(attested(books, "ab"));
    expect(read(books).keys.map(({ hubId, previous, serial }) => `${hubId} ${previous}-${serial}`)).toEqual(["b 1-7", "b 7-9"]);
    expect(said(verifyCertificate(bytes, keysOf(books), crypto))).toBe("ok APPROVED");
    expect(said(verifyCertificate(bytes, foundingOf(books), crypto))).toBe("ok APPROVED");
    const bare: TrustAnchor = { kind: "founding", statement: encode(SIGNED_FOUNDING, books.founding) };
    expect(said(verifyCertificate(bytes, bare, crypto))).toBe("NOT_VOUCHED");
    // Also later, when the keys are others again.
    books.rotate("a", "a3", 3);
    books.rotate("b", "b10", 10);
    expect(said(verifyCertificate(bytes, keysOf(books), crypto))).toBe("ok APPROVED");
  });

  test("BM4 a signature with a key that was replaced at that time is refused", () => {
    const books = new FederationBooks(["a", "b", "c"]);
    books.propose("x", "a", PRIORITY);
    const before = books.index;
    books.rotate("b", "b2", 2);
    books.vote("x", "a", "APPROVE");
    books.vote("x", "b", "APPROVE");
    const certificate = read(attested(books, "ab"));
    const [a, b] = certificate.votes as [SignedVote, SignedVote];
    const signedBy = (name: string, more: Partial<SignedVote["statement"]>) => {
      const statement = { ...b.statement, ...more };
      return closedAnew(
        { ...certificate, votes: [a, { statement, signature: keyOf(name).crypto.sign(voteBytes(statement)) }] },
        { b: "b2" },
      );
    };
    expect(said(verify(signedBy("b2", {}), books))).toBe("ok APPROVED");
    expect(said(verify(signedBy("b", { keySerial: 1 }), books))).toBe("KEY_ROTATED_OUT");
    expect(said(verify(signedBy("b2", { asOfIndex: before }), books))).toBe("KEY_UNKNOWN");
    // With a key from before the opening it is refused by the founding entry alone, too.
    const later = new FederationBooks(["a", "b", "c"]);
    later.rotate("b", "b2", 2);
    later.propose("x", "a", PRIORITY);
    for (const hub of ["a", "b"]) later.vote("x", hub, "APPROVE");
    attested(later, "ab");
    const [first, second] = read(later).votes as [SignedVote, SignedVote];
    const statement = { ...second.statement, keySerial: 1 };
    const old = { ...read(later), votes: [first, { statement, signature: keyOf("b").crypto.sign(voteBytes(statement)) }] };
    expect(said(verifyCertificate(encode(CERTIFICATE, old), foundingOf(later), crypto))).toBe("KEY_ROTATED_OUT");
  });

  test("BM4 a key that a founder's link leads to is believed without a history", () => {
    const books = new FederationBooks(["a", "b", "c"]);
    books.propose("x", "a", PRIORITY);
    for (const hub of ["a", "b"]) books.rotate(hub, `${hub}2`, 2);
    for (const hub of ["a", "b"]) books.vote("x", hub, "APPROVE");
    const bare: TrustAnchor = { kind: "founding", statement: encode(SIGNED_FOUNDING, books.founding) };
    expect(said(verifyCertificate(certificateOf(attested(books)), bare, crypto))).toBe("ok APPROVED");
  });

  test("two of three vouch for the removal of the third", () => {
    const books = new FederationBooks(["a", "b", "c"].map((hub) => candidateOf(hub, { weight: hub === "c" ? 2 : 1 })));
    const anchors = [keysOf(books), foundingOf(books)];
    books.decide("x", "a", { kind: "remove", hubId: "c" });
    expect(books.members.member("c")).toBeUndefined();
    const bytes = certificateOf(attested(books));
    for (const anchor of anchors) expect(said(verifyCertificate(bytes, anchor, crypto))).toBe("ok APPROVED");
  });

  test("bad attestations are refused with the reason, and change nothing", () => {
    const books = decided(SOME);
    const reason = (hub: string, more: object, key = keyOf(hub)): string => {
      const before = books.bytes();
      const { closedIndex } = books.ballots.ballot("x") as Ballot;
      const base = books.attestOf("x", hub, key);
      const asOfIndex = (more as { asOfIndex?: number }).asOfIndex ?? base.asOfIndex;
      const statement = { ...(books.ballots.closing("x", hub, base.keySerial, asOfIndex) as ClosingStatement), ...more };
      const outcome = books.ballot(hub, { ...base, asOfIndex, signature: key.crypto.sign(closingBytes(statement)) });
      expect(closedIndex).toBeGreaterThan(0);
      if (!outcome.ok) expect(books.bytes()).toEqual(before);
      return reasonOf(outcome);
    };
    const { closedIndex } = books.ballots.ballot("x") as Ballot;
    expect(reason("a", { asOfIndex: closedIndex - 1 })).toBe("VALUE_OUT_OF_RANGE");
    expect(reason("a", { asOfIndex: books.index + 5 })).toBe("VALUE_OUT_OF_RANGE");
    expect(reason("a", { result: "APPROVED" })).toBe("SIGNATURE_INVALID");
    expect(reason("a", { votesDigest: new Uint8Array(32) })).toBe("SIGNATURE_INVALID");
    expect(reason("a", {}, keyOf("b"))).toBe("SIGNATURE_INVALID");
    expect(reason("a", {})).toBe("ok");
    expect(reason("z", {})).toBe("ACCESS_DENIED");
  });

  test("hubs that came later are believed through the founders that voted with them", () => {
    const books = new FederationBooks(["a", "b", "c"]);
    for (const hub of ["m", "n"]) books.admit(candidateOf(hub));
    books.decide("x", "m", PRIORITY);
    attested(books, "abc");
    expect(said(verifyCertificate(certificateOf(books), foundingOf(books), crypto))).toBe("ok APPROVED");
    books.propose("y", "m", PRIORITY);
    for (const hub of ["m", "n", "a"]) books.vote("y", hub, "APPROVE");
    attested(books, "mna", "y");
    expect(said(verifyCertificate(certificateOf(books, "y"), foundingOf(books), crypto))).toBe("NOT_VOUCHED");
    expect(said(verifyCertificate(certificateOf(books, "y"), keysOf(books), crypto))).toBe("ok APPROVED");
  });

  function read(books: FederationBooks): Certificate {
    const result = decode(CERTIFICATE, certificateOf(books));
    if (!result.ok) throw new Error(result.problem);
    return result.value;
  }

  function verify(certificate: Certificate, books: FederationBooks, anchor = keysOf(books)): Verdict {
    return verifyCertificate(encode(CERTIFICATE, certificate), anchor, crypto);
  }

  const good = attestedSome();
  const whole = read(good);

  /** resigned votes are signed anew by the keys of their hubs after a change. */
  function resigned(change: (statement: SignedVote["statement"]) => Partial<SignedVote["statement"]>, signer?: string): Certificate {
    const votes = whole.votes.map((vote) => {
      if (vote.statement.hubId !== "a") return vote;
      const statement = { ...vote.statement, ...change(vote.statement) };
      return { statement, signature: keyOf(signer ?? statement.hubId).crypto.sign(voteBytes(statement)) };
    });
    votes.sort((x, y) => (x.statement.hubId < y.statement.hubId ? -1 : 1));
    return closedAnew({ ...whole, votes });
  }

  /** closedAnew has the same hubs attest a certificate as it is now. */
  function closedAnew(certificate: Certificate, keys: Readonly<Record<string, string>> = {}): Certificate {
    const { opening, votes, result } = certificate;
    const digests = { openingDigest: openingDigest(opening, crypto), votesDigest: votesDigest(votes, crypto) };
    const attestations = certificate.attestations.map((one) => {
      const { hubId, keySerial, asOfIndex } = one;
      const closing = { federationId: "fed", ballotId: "x", ...digests, result, hubId, keySerial, asOfIndex };
      return { ...one, signature: keyOf(keys[hubId] ?? hubId).crypto.sign(closingBytes(closing)) };
    });
    return { ...certificate, attestations };
  }

  const [vote] = whole.votes as [SignedVote, ...SignedVote[]];
  const zeros = new Uint8Array(64);

  test.each<[string, string, Certificate]>([
    ["as it is", "ok REJECTED", whole],
    ["signed anew", "ok REJECTED", resigned(() => ({}))],
    ["a wrong signature", "WRONG_SIGNATURE", { ...whole, votes: [{ ...vote, signature: zeros }, ...whole.votes.slice(1)] }],
    ["a signature of another hub", "WRONG_SIGNATURE", resigned(() => ({}), "e")],
    ["a duplicate signature", "DOUBLE_VOTE", { ...whole, votes: [vote, ...whole.votes] }],
    ["a missing signature", "MISSING_SIGNATURE", { ...whole, attestations: whole.attestations.slice(1) }],
    ["a duplicate attestation", "DOUBLE_VOTE", { ...whole, attestations: [whole.attestations[0]!, ...whole.attestations] }],
    ["a wrong attestation", "WRONG_SIGNATURE", { ...whole, attestations: whole.attestations.map((one) => ({ ...one, signature: zeros })) }],
    ["an attestation of a non-voter", "NOT_A_VOTER", { ...whole, attestations: [{ ...whole.attestations[2]!, hubId: "z" }] }],
    ["a vote of a non-voter", "NOT_A_VOTER", resigned(() => ({ hubId: "z" }))],
    ["a wrong weight", "WRONG_WEIGHT", resigned(() => ({ weight: 2 }))],
    ["a wrong digest", "WRONG_DIGEST", resigned(() => ({ openingDigest: new Uint8Array(32) }))],
    ["a vote in another ballot", "WRONG_DIGEST", resigned(() => ({ ballotId: "y" }))],
    ["a vote in another federation", "OTHER_FEDERATION", resigned(() => ({ federationId: "other" }))],
    ["a vote after the deadline", "LATE_VOTE", resigned(() => ({ asOfTime: whole.opening.deadline }))],
    ["a vote before the opening", "LATE_VOTE", resigned(() => ({ asOfIndex: whole.opening.index - 1 }))],
    ["a key that nobody knows", "KEY_UNKNOWN", resigned(() => ({ keySerial: 5 }))],
    ["another result", "WRONG_RESULT", { ...whole, result: "APPROVED" }],
    ["a changed proposal", "WRONG_DIGEST", changed({ proposal: { ...whole.opening.proposal, reasoning: "because" } })],
    ["a changed deadline", "OPENING_INVALID", changed({ deadline: whole.opening.deadline + 1 })],
    ["a smaller majority", "OPENING_INVALID", changed({ majority: { numerator: 1, denominator: 3 } })],
    ["a voter twice", "OPENING_INVALID", changed({ eligible: [whole.opening.eligible[0]!, ...whole.opening.eligible] })],
    ["another federation", "OTHER_FEDERATION", changed({ federationId: "other" })],
    ["another federation of the same name", "OTHER_FEDERATION", changed({ foundingDigest: new Uint8Array(32) })],
  ])("%s: %s", (_what, reason, certificate) => {
    expect(said(verify(certificate, good))).toBe(reason);
  });

  function changed(more: Partial<Certificate["opening"]>): Certificate {
    return { ...whole, opening: { ...whole.opening, ...more } };
  }

  test("exactly 2/3 is WRONG_RESULT, whoever signs it", () => {
    const books = new FederationBooks(["a", "b", "c"]);
    books.propose("x", "a", POLICY);
    books.vote("x", "a", "APPROVE");
    books.vote("x", "b", "APPROVE");
    books.vote("x", "c", "REJECT");
    attested(books, "ab");
    const verdict = verify({ ...read(books), result: "APPROVED" }, books);
    expect(verdict).toMatchObject({
      reason: "WRONG_RESULT",
      sentence: "the certificate says APPROVED, and 2 to 1 is REJECTED: more than 2/3 has to approve",
    });
    expect(said(verify(read(books), books))).toBe("ok REJECTED");
  });

  test("what is no certificate, or too large, is said to be so", () => {
    expect(said(verifyCertificate(new Uint8Array(BALLOT_LIMITS.certificate + 1), keysOf(good), crypto))).toBe("TOO_LARGE");
    expect(said(verifyCertificate(new Uint8Array(0), keysOf(good), crypto))).toBe("MALFORMED");
    expect(said(verifyCertificate(certificateOf(good), { kind: "founding", statement: new Uint8Array(3) }, crypto))).toBe("ANCHOR_INVALID");
    const signatures = good.founding.signatures.map((one) => ({ ...one, signature: zeros }));
    const statement = encode(SIGNED_FOUNDING, { ...good.founding, signatures });
    expect(said(verifyCertificate(certificateOf(good), { kind: "founding", statement }, crypto))).toBe("ANCHOR_INVALID");
    const [twin, rotated] = [new FederationBooks(["a", "b", "c"]), new FederationBooks(["a", "b", "c"])];
    rotated.rotate("a", "a2", 2);
    twin.rotate("a", "stolen", 2);
    const links = [...rotated.members.keyHistory().links, ...twin.members.keyHistory().links];
    const forked: TrustAnchor = { kind: "founding", statement: encode(SIGNED_FOUNDING, rotated.founding), history: { links } };
    expect(said(verifyCertificate(certificateOf(good), forked, crypto))).toBe("ANCHOR_INVALID");
    const other = new FederationBooks(["a", "b", "c"], { federationId: "other" });
    expect(said(verifyCertificate(certificateOf(good), keysOf(other), crypto))).toBe("OTHER_FEDERATION");
    expect(said(verifyCertificate(certificateOf(good), foundingOf(other), crypto))).toBe("OTHER_FEDERATION");
  });

  test.each<[string, (books: FederationBooks) => void]>([
    ["changed its key more often than is remembered", (books) => rotations(books, 2, 18)],
    ["changed its key more often than a ballot has room for", (books) => rotations(books, 2, 6)],
    ["left and came back with another key", (books) => comeBack(books, keyOf("other d"))],
    [
      "left, came back with another key, and changed it",
      (books) => {
        comeBack(books, keyOf("other d"));
        rotations(books, 2, 2);
      },
    ],
  ])("BA8 a hub that %s since the opening is refused, and the others' certificate holds", (_what, prepare) => {
    for (const asks of ["vote", "attest"] as const) {
      const books = new FederationBooks(["a", "b", "c", "d"]);
      const anchor = foundingOf(books);
      books.propose("x", "a", PRIORITY);
      if (asks === "vote") prepare(books);
      for (const hub of ["b", "c"]) books.vote("x", hub, "APPROVE");
      if (asks === "vote") expect(reasonOf(books.vote("x", "d", "APPROVE"))).toBe("SIGNATURE_INVALID");
      books.vote("x", "a", "APPROVE");
      if (asks === "attest") {
        prepare(books);
        expect(reasonOf(books.attest("x", "d"))).toBe("SIGNATURE_INVALID");
      }
      for (const hub of ["a", "b", "c"]) books.attest("x", hub);
      expect(said(verifyCertificate(certificateOf(books), anchor, crypto))).toBe("ok APPROVED");
    }
  });

  test("every certificate with any flipped bit is refused", () => {
    const books = new FederationBooks(["a", "b", "c"]);
    books.propose("x", "a", PRIORITY, { reasoning: "so it is" });
    books.rotate("b", "b2", 2);
    books.vote("x", "b", "APPROVE");
    books.vote("x", "a", "ABSTAIN");
    books.instant(60_000);
    for (const hub of ["a", "c"]) books.attest("x", hub);
    const bytes = certificateOf(books);
    const anchors = [keysOf(books), foundingOf(books)];
    for (const anchor of anchors) expect(said(verifyCertificate(bytes, anchor, crypto))).toBe("ok APPROVED");
    const accepted: number[] = [];
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const flipped = Uint8Array.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      // The second one differs in whose keys it believes only, and takes longer.
      for (const anchor of anchors.slice(0, bit % 32 === 3 ? 2 : 1)) if (verifyCertificate(flipped, anchor, crypto).ok) accepted.push(bit);
    }
    expect(accepted).toEqual([]);
  });

  test("bytes that are cut, doubled or made up never throw", () => {
    const bytes = certificateOf(good);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.uint8Array({ maxLength: 8 }), (at, more) => {
        const cut = Uint8Array.from([...bytes.subarray(0, at), ...more]);
        expect(verifyCertificate(cut, keysOf(good), crypto).ok).toBe(false);
        expect(verifyCertificate(Uint8Array.from([...bytes, ...more]), keysOf(good), crypto).ok).toBe(more.length === 0);
      }),
    );
  });
});
