import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { simCrypto } from "../../../../test/simulator/crypto.ts";
import { FEDERATION, keyOf, replicasOf, World } from "../../../../test/simulator/twins/world.ts";
import { hubOf, type ReplicaId } from "../../log/engine.ts";
import { NIL, NO_ROUND, type Proposal, STEP, type Vote } from "../frames.ts";
import { proposalProof, verifyEvidence, voteProof } from "./evidence.ts";
import { proposalBytes, type Verifier, voteBytes } from "./signed.ts";

const A = "a".repeat(64);
const B = "b".repeat(64);
const LIAR = replicasOf(4)[2] as ReplicaId;
const verifier: Verifier = { federation: FEDERATION, crypto: simCrypto("anyone"), keyOf };

function vote(change: Partial<Vote> = {}, replica = LIAR): Vote {
  const base = { height: 1, round: 0, step: STEP.PREVOTE, value: A, relies: NO_ROUND, voter: 2, ...change };
  return { ...base, signature: simCrypto(hubOf(replica)).sign(voteBytes(FEDERATION, replica, base)) };
}

function proposal(change: Partial<Proposal> = {}): Proposal {
  const base = { height: 1, round: 1, value: A, size: 9, validRound: NO_ROUND, ...change };
  return { ...base, signature: simCrypto(hubOf(LIAR)).sign(proposalBytes(FEDERATION, LIAR, base)) };
}

describe("evidence", () => {
  test("BE3 two votes in one step, two proposals in one round, and a vote against the own lock are proofs, in either order", () => {
    for (const pair of [
      [vote(), vote({ value: B })],
      [vote({ value: B }), vote()],
      [vote(), vote({ value: NIL })],
    ] as const) {
      const proof = voteProof(FEDERATION, "equivocation", LIAR, pair[0], pair[1]);
      expect(verifyEvidence(verifier, proof)).toEqual({ against: LIAR, kind: "equivocation", height: 1 });
    }
    expect(voteProof(FEDERATION, "equivocation", LIAR, vote(), vote({ value: B }))).toEqual(
      voteProof(FEDERATION, "equivocation", LIAR, vote({ value: B }), vote()),
    );
    expect(verifyEvidence(verifier, proposalProof(FEDERATION, LIAR, proposal(), proposal({ value: B })))?.kind).toBe("proposals");
    const precommit = vote({ step: STEP.PRECOMMIT });
    const later = vote({ round: 3, value: B, relies: NO_ROUND });
    expect(verifyEvidence(verifier, voteProof(FEDERATION, "amnesia", LIAR, precommit, later))?.kind).toBe("amnesia");
  });

  test("BE1 nothing that an honest hub may sign proves anything", () => {
    const precommit = vote({ round: 1, step: STEP.PRECOMMIT });
    const harmless: [Vote, Vote][] = [
      [vote(), vote()],
      [vote(), vote({ round: 1, value: B })],
      [vote(), vote({ height: 2, value: B })],
      [vote(), vote({ step: STEP.PRECOMMIT, value: NIL })],
    ];
    for (const [first, second] of harmless)
      expect(verifyEvidence(verifier, voteProof(FEDERATION, "equivocation", LIAR, first, second))).toBeUndefined();
    const freed = [
      vote({ round: 3, value: B, relies: 1 }),
      vote({ round: 3, value: B, relies: 2 }),
      vote({ round: 3 }),
      vote({ round: 3, value: NIL }),
    ];
    for (const later of [...freed, vote({ round: 1, value: B }), vote({ round: 0, value: B }), vote({ height: 2, round: 3, value: B })])
      expect(verifyEvidence(verifier, voteProof(FEDERATION, "amnesia", LIAR, precommit, later))).toBeUndefined();
    expect(verifyEvidence(verifier, proposalProof(FEDERATION, LIAR, proposal(), proposal({ round: 2, value: B })))).toBeUndefined();
  });

  test("BE1 nobody is named by what another one signed, under another federation, or under an incarnation before", () => {
    const proof = voteProof(FEDERATION, "equivocation", LIAR, vote(), vote({ value: B }));
    expect(verifyEvidence({ ...verifier, federation: "another" }, proof)).toBeUndefined();
    const honest = replicasOf(4)[1] as ReplicaId;
    expect(verifyEvidence(verifier, voteProof(FEDERATION, "equivocation", honest, vote(), vote({ value: B })))).toBeUndefined();
    // The key of the hub is the same.
    const next = LIAR.replace("/1", "/2");
    expect(verifyEvidence(verifier, voteProof(FEDERATION, "equivocation", next, vote(), vote({ value: B })))).toBeUndefined();
    const mixed = voteProof(FEDERATION, "equivocation", LIAR, vote(), vote({ value: B }, next));
    expect(verifyEvidence(verifier, mixed)).toBeUndefined();
  });

  test("BE1 a proof of which any byte is another one names nobody else, and throws nothing", () => {
    const proof = voteProof(FEDERATION, "equivocation", LIAR, vote(), vote({ value: B }));
    fc.assert(
      fc.property(fc.nat(proof.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
        const bent = proof.slice();
        bent[at]! ^= by;
        const read = verifyEvidence(verifier, bent);
        expect(read === undefined || read.against === LIAR).toBe(true);
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => verifyEvidence(verifier, bytes) === undefined));
  });

  test("BE2 what one honest hub sees is recorded by all, once, and is there after a restart", () => {
    const world = new World({ n: 4 });
    world.copy(2).up = false;
    world.run(10);
    for (const value of [A, B, NIL]) world.deliver(LIAR, world.copy(0), { kind: "votes", height: 1, votes: [vote({ value })] });
    world.run(50);
    for (const i of [0, 1, 3]) {
      expect(world.copy(i).evidence.map(({ against, what }) => `${against} ${what}`)).toEqual([`${LIAR} equivocation`]);
      world.restart(world.copy(i));
      expect(world.copy(i).engine.proofs()).toHaveLength(1);
    }
    world.run(1_000);
    expect(world.copy(0).evidence).toHaveLength(1);
  });

  test("BE2 who was out of reach is told when it is reached again", () => {
    const world = new World({ n: 4 });
    world.copy(3).up = false;
    world.run(10);
    const proof = voteProof(FEDERATION, "equivocation", LIAR, vote({ value: A }), vote({ value: B }));
    world.deliver(LIAR, world.copy(0), { kind: "evidence", proof });
    world.run(50);
    world.restart(world.copy(3));
    world.run(60);
    expect(world.copy(3).evidence).toEqual([]);
    world.give(world.copy(0), { kind: "reachable", replica: replicasOf(4)[3] as ReplicaId, up: true });
    world.run(70);
    expect(world.copy(3).evidence.map(({ against }) => against)).toEqual([LIAR]);
  });

  test("BE2 late votes of a height that is decided are evidence too", () => {
    const world = new World({ n: 4 });
    world.propose(world.copy(2), "x");
    world.run(10);
    expect(world.copy(0).height).toBe(1);
    world.deliver(LIAR, world.copy(0), { kind: "votes", height: 1, votes: [vote({ value: B })] });
    expect(world.copy(0).evidence.map(({ against }) => against)).toEqual([LIAR]);
  });
});
