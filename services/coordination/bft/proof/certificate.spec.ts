import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign as signEd25519,
  verify as verifyEd25519,
} from "node:crypto";
import { describe, expect, test } from "vitest";
import { simCrypto } from "../../../../test/simulator/crypto.ts";
import { FEDERATION, keyOf, replicasOf } from "../../../../test/simulator/twins/world.ts";
import { hubOf, type ReplicaId } from "../../log/engine.ts";
import { type Certificate, GENESIS, type Manifest, NIL, NO_ROUND, STEP, type Vote } from "../frames.ts";
import { Members } from "../members.ts";
import { isCertificate, isWellFormed, judgeManifest, verifyCommitCertificate } from "./certificate.ts";
import { manifestBytes, type Verifier, voteBytes } from "./signed.ts";

const VALUE = "a".repeat(64);
const verifier: Verifier = { federation: FEDERATION, crypto: simCrypto("anyone"), keyOf };

function certificateOf(n: number, signers: readonly number[], change: Partial<Certificate> = {}, federation = FEDERATION): Certificate {
  const base = { height: 7, round: 2, step: STEP.PRECOMMIT, value: VALUE, ...change };
  const votes = signers.map((voter) => {
    const replica = replicasOf(n)[voter] as ReplicaId;
    return {
      voter,
      relies: NO_ROUND,
      signature: simCrypto(hubOf(replica)).sign(voteBytes(federation, replica, { ...base, relies: NO_ROUND })),
    };
  });
  return { ...base, votes };
}

const holds = (n: number, certificate: Certificate): boolean => verifyCommitCertificate(verifier, replicasOf(n), certificate);

describe("certificates", () => {
  test("BC1 more than two thirds are enough, exactly two thirds are not", () => {
    expect(holds(4, certificateOf(4, [0, 2, 3]))).toBe(true);
    expect(holds(4, certificateOf(4, [0, 2]))).toBe(false);
    expect(holds(6, certificateOf(6, [0, 1, 2, 3]))).toBe(false);
    expect(holds(6, certificateOf(6, [0, 1, 2, 3, 5]))).toBe(true);
    expect(holds(9, certificateOf(9, [0, 1, 2, 3, 4, 5]))).toBe(false);
  });

  test("BC1 a signer that is named twice, or out of order, refuses the whole", () => {
    expect(holds(4, certificateOf(4, [0, 0, 0]))).toBe(false);
    expect(holds(4, certificateOf(4, [0, 1, 1, 2]))).toBe(false);
    expect(holds(4, certificateOf(4, [2, 1, 0]))).toBe(false);
  });

  test("BC1 one signature that is wrong refuses the whole, though there are enough without it", () => {
    const { votes, ...rest } = certificateOf(4, [0, 1, 2, 3]);
    for (let i = 0; i < 4; i++) {
      const signature = (votes[i] as Vote).signature.slice();
      signature[5]! ^= 1;
      expect(holds(4, { ...rest, votes: votes.with(i, { ...(votes[i] as Vote), signature }) })).toBe(false);
      expect(holds(4, { ...rest, votes: votes.with(i, { ...(votes[i] as Vote), signature: new Uint8Array(0) }) })).toBe(false);
    }
  });

  test("BC2 nothing can be moved to another height, round, step, value, federation or member", () => {
    const good = certificateOf(4, [0, 1, 2]);
    expect(holds(4, good)).toBe(true);
    for (const change of [{ height: 8 }, { round: 3 }, { value: "b".repeat(64) }, { step: STEP.PREVOTE }])
      expect(holds(4, { ...good, ...change })).toBe(false);
    expect(holds(4, certificateOf(4, [0, 1, 2], {}, "another"))).toBe(false);
    const moved = { ...good, votes: good.votes.map((vote) => ({ ...vote, voter: vote.voter + 1 })) };
    expect(holds(4, moved)).toBe(false);
    expect(
      verifyCommitCertificate(
        verifier,
        replicasOf(4).map((replica) => replica.replace("/1", "/2")),
        good,
      ),
    ).toBe(false);
  });

  test("BC3 what is certified is a decision: no polka, no nil, no log with too few members", () => {
    expect(holds(4, certificateOf(4, [0, 1, 2], { step: STEP.PREVOTE }))).toBe(false);
    expect(holds(4, certificateOf(4, [0, 1, 2], { value: NIL }))).toBe(false);
    expect(verifyCommitCertificate(verifier, replicasOf(3), certificateOf(3, [0, 1, 2]))).toBe(false);
    const members = new Members({ voters: replicasOf(4), outgoing: [], learners: [] });
    expect(isCertificate(verifier, members, certificateOf(4, [0, 1, 2], { step: STEP.PREVOTE }))).toBe(true);
  });

  test("BC1 BC2 hold with Ed25519 as well", () => {
    const keys = new Map<ReplicaId, KeyObject>();
    const raw = new Map<ReplicaId, Uint8Array>();
    for (const replica of replicasOf(4)) {
      const { privateKey, publicKey } = generateKeyPairSync("ed25519");
      keys.set(replica, privateKey);
      raw.set(replica, new Uint8Array(publicKey.export({ type: "spki", format: "der" }).subarray(-32)));
    }
    const prefix = Buffer.from("302a300506032b6570032100", "hex");
    const crypto: Verifier["crypto"] = {
      hash: (data) => new Uint8Array(createHash("sha256").update(data).digest()),
      verify: (key, data, signature) =>
        verifyEd25519(null, data, createPublicKey({ key: Buffer.concat([prefix, key]), format: "der", type: "spki" }), signature),
    };
    const base = { height: 1, round: 0, step: STEP.PRECOMMIT, value: VALUE };
    const votes = [0, 1, 3].map((voter) => {
      const replica = replicasOf(4)[voter] as ReplicaId;
      const data = voteBytes("real", replica, { ...base, relies: NO_ROUND });
      return { voter, relies: NO_ROUND, signature: new Uint8Array(signEd25519(null, data, keys.get(replica) as KeyObject)) };
    });
    const real: Verifier = { federation: "real", crypto, keyOf: (replica) => raw.get(replica) };
    expect(verifyCommitCertificate(real, replicasOf(4), { ...base, votes })).toBe(true);
    expect(verifyCommitCertificate({ ...real, federation: "other" }, replicasOf(4), { ...base, votes })).toBe(false);
    expect(verifyCommitCertificate({ ...real, keyOf: () => undefined }, replicasOf(4), { ...base, votes })).toBe(false);
  });

  test("numbers from the wire are checked before anything is looked up with them", () => {
    const good: Vote = { height: 1, round: 1, step: STEP.PREVOTE, value: VALUE, relies: 0, voter: 3, signature: new Uint8Array(64) };
    expect(isWellFormed(good, 4)).toBe(true);
    const bad: Partial<Record<keyof Vote, unknown[]>> = {
      height: [-1, Number.NaN, 0.5, 2 ** 60, Number.POSITIVE_INFINITY],
      round: [-1, Number.NaN, 0.5, 2 ** 40],
      step: [0, 3, Number.NaN],
      value: ["A".repeat(64), "a", "a".repeat(65)],
      relies: [1, 7, -2, Number.NaN],
      voter: [4, -1, Number.NaN, 1.5, 2 ** 32],
    };
    for (const [name, values] of Object.entries(bad))
      for (const value of values) expect(isWellFormed({ ...good, [name]: value } as Vote, 4), `${name} ${value}`).toBe(false);
    expect(isWellFormed({ ...good, step: STEP.PRECOMMIT }, 4)).toBe(false);
    expect(isWellFormed({ ...good, value: NIL }, 4)).toBe(false);
  });
});

describe("snapshots", () => {
  const manifestFor = (voters: readonly ReplicaId[]): Manifest => ({
    index: 8,
    term: 0,
    time: 9,
    previous: GENESIS,
    membership: { voters, outgoing: [], learners: [] },
    digest: new Uint8Array(32),
    size: 3,
  });
  const attest = (manifest: Manifest, who: readonly number[]) =>
    who.map((voter) => {
      const replica = manifest.membership.voters[voter] as ReplicaId;
      return { voter, signature: simCrypto(hubOf(replica)).sign(manifestBytes(FEDERATION, manifest)) };
    });
  const trusting = (voters: readonly ReplicaId[]): Members => new Members({ voters, outgoing: [], learners: [] });

  const judge = (trusted: readonly Members[], manifest: Manifest, who: readonly number[], keys = verifier.keyOf) =>
    judgeManifest(verifier, (replica) => [keys(replica)].filter((key) => key !== undefined), trusted, manifest, attest(manifest, who));

  test("BC4 more than two thirds of the voters sign, among them f + 1 of those that are trusted", () => {
    const voters = replicasOf(4);
    const manifest = manifestFor(voters);
    const trusted = [trusting(voters)];
    expect(judge(trusted, manifest, [0, 1, 3])).toBe("proven");
    expect(judge(trusted, manifest, [0, 1])).toBe("bad");
    expect(judge(trusted, manifest, [1, 1, 1])).toBe("bad");
    const forged = { ...manifest, size: 4 };
    expect(judgeManifest(verifier, (replica) => [verifier.keyOf(replica)!], trusted, forged, attest(manifest, [0, 1, 3]))).toBe("unproven");
    const short = attest(manifest, [0, 1, 3]).map((one) => ({ ...one, signature: new Uint8Array(63) }));
    expect(judgeManifest(verifier, () => [], trusted, manifest, short)).toBe("bad");
  });

  test("BC4 members that nobody knows cannot make a snapshot of their own; those of whom a newcomer was told can", () => {
    const strangers = replicasOf(10).slice(6);
    const manifest = manifestFor(strangers);
    const founders = trusting(replicasOf(4));
    expect(judge([founders], manifest, [0, 1, 2, 3])).toBe("unproven");
    expect(judge([founders, trusting(strangers)], manifest, [0, 1, 2, 3])).toBe("proven");
    const mixed = manifestFor([...replicasOf(1), ...replicasOf(10).slice(6)]);
    expect(judge([founders], mixed, [0, 1, 2, 3])).toBe("unproven");
    const half = manifestFor([...replicasOf(2), ...replicasOf(10).slice(8)]);
    expect(judge([founders], half, [0, 1, 2, 3])).toBe("proven");
    // f + 1 are of one set: one of the founders and one of those of whom it was told are two that may both lie.
    const split = manifestFor([...replicasOf(1), ...replicasOf(10).slice(7)]);
    expect(judge([founders, trusting(replicasOf(10).slice(3, 8))], split, [0, 1, 2, 3])).toBe("unproven");
  });

  test("BC4 a voter whose key is not known counts for nothing, and does no harm", () => {
    const manifest = manifestFor(replicasOf(4));
    const knows =
      (...known: readonly number[]) =>
      (replica: ReplicaId) =>
        known.some((i) => replicasOf(4)[i] === replica) ? verifier.keyOf(replica) : undefined;
    expect(judge([trusting(replicasOf(4))], manifest, [0, 1, 2], knows(0, 1))).toBe("proven");
    expect(judge([trusting(replicasOf(4))], manifest, [0, 1, 2], knows(0, 3))).toBe("unproven");
  });
});
