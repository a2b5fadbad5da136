import { fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BftBatchSchema,
  BftCertificateSchema,
  BftSnapshotSchema,
  SignedBftManifestSchema,
  SignedBftProposalSchema,
  SignedBftVoteSchema,
  StoredBftDecisionSchema,
  StoredBftRecordSchema,
} from "#gen/foedus/coordination/v1alpha1/bft_pb.ts";
import { replicasOf } from "../../../test/simulator/twins/world.ts";
import { type Certificate, GENESIS, type Manifest, NO_ROUND, type Proposal, STEP, type Vote } from "./frames.ts";
import { type JournalRecord, journalBytes, readJournal } from "./height/journal.ts";
import { hexOf } from "./hex.ts";
import { manifestBytes, proposalBytes, voteBytes } from "./proof/signed.ts";
import { type Batch, batchBytes, certificateBytes, decisionBytes, readBatch, readDecision, readSnapshot, snapshotBytes } from "./record.ts";

const A = "ab".repeat(32);
const signature = new Uint8Array(64).fill(7);
const membership = { voters: replicasOf(4), outgoing: [], learners: ["z/3"] };
const batch: Batch = {
  height: 3,
  time: 1_800_000_000_000,
  previous: GENESIS,
  payloads: [new Uint8Array([1, 2]), new Uint8Array(0)],
  markers: [new Uint8Array(32)],
  membership,
};
const vote: Vote = { height: 3, round: 2, step: STEP.PREVOTE, value: A, relies: 1, voter: 3, signature };
const proposal: Proposal = { height: 3, round: 2, value: A, size: 300, validRound: NO_ROUND, signature };
const certificate: Certificate = {
  height: 3,
  round: 0,
  step: STEP.PRECOMMIT,
  value: A,
  votes: [0, 1, 3].map((voter) => ({ voter, relies: NO_ROUND, signature })),
};
const manifest: Manifest = { index: 8, term: 1, time: 9, previous: A, membership, digest: new Uint8Array(32).fill(1), size: 70_000 };
const records: JournalRecord[] = [
  { kind: "vote", vote },
  { kind: "proposal", proposal },
  { kind: "value", bytes: batchBytes(batch), verdict: "early" },
  { kind: "elapsed", step: "precommit", round: 5 },
];

describe("what is stored and signed", () => {
  test("has one form that does not change: golden bytes", () => {
    expect(hexOf(batchBytes({ ...batch, membership: undefined }))).toBe(
      `08031080a0f1c2b1341a20${"00".repeat(32)}22020102${"2200"}2a20${"00".repeat(32)}`,
    );
    expect(hexOf(voteBytes("f", "h/1", vote))).toBe(
      `0a1e${Buffer.from("foedus/coordination/bft/vote/1").toString("hex")}1201661a03682f31200328023001${`3a20${A}`}4002`,
    );
    expect(hexOf(proposalBytes("f", "h/1", proposal))).toBe(
      `0a22${Buffer.from("foedus/coordination/bft/proposal/1").toString("hex")}1201661a03682f3120032802${`3220${A}`}38ac02`,
    );
    expect(hexOf(journalBytes(3, records[3] as JournalRecord))).toBe("08032a0408031005");
    expect(hexOf(journalBytes(3, { kind: "vote", vote }))).toBe(`0803126e0803100218012220${A}280230033a40${"07".repeat(64)}`);
  });

  test("comes back as it was", () => {
    expect(readBatch(batchBytes(batch))).toEqual(batch);
    expect(readDecision(decisionBytes({ certificate, bytes: batchBytes(batch) }))).toEqual({ certificate, bytes: batchBytes(batch) });
    expect(readSnapshot(snapshotBytes({ manifest, attestations: [{ voter: 2, signature }] }))).toEqual({
      manifest,
      attestations: [{ voter: 2, signature }],
    });
    for (const record of records) expect(readJournal(journalBytes(9, record))).toEqual({ height: 9, record });
  });

  test("is what the schema says", () => {
    const same = [
      [BftBatchSchema, batchBytes(batch)],
      [SignedBftVoteSchema, voteBytes("f", "h/1", vote)],
      [SignedBftProposalSchema, proposalBytes("f", "h/1", proposal)],
      [SignedBftManifestSchema, manifestBytes("f", manifest)],
      [BftCertificateSchema, certificateBytes(certificate)],
      [BftSnapshotSchema, snapshotBytes({ manifest, attestations: [{ voter: 2, signature }] })],
      [StoredBftDecisionSchema, decisionBytes({ certificate, bytes: batchBytes(batch) })],
      ...records.map((record) => [StoredBftRecordSchema, journalBytes(9, record)] as const),
    ] as const;
    for (const [schema, bytes] of same) {
      const read = fromBinary(schema, bytes);
      expect(read.$unknown).toBeUndefined();
      expect(hexOf(toBinary(schema, read))).toBe(hexOf(bytes));
    }
  });

  test("is refused if it is anything else, and nothing throws", () => {
    const readers = [readBatch, readDecision, readSnapshot, readJournal];
    const bytes = batchBytes(batch);
    for (let cut = 0; cut < bytes.length; cut++) expect(readBatch(bytes.subarray(0, cut)) === undefined || cut > 40).toBe(true);
    // A batch with a number in a longer form, a field twice, or one that is not known, has another hash: it is none.
    expect(readBatch(new Uint8Array([...bytes, 0x38, 1]))).toBeUndefined();
    expect(readBatch(new Uint8Array([0x08, 3, ...bytes]))).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
        for (const read of readers) read(noise);
      }),
    );
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, byte) => {
        const bent = bytes.with(at, byte);
        const read = readBatch(bent);
        if (read !== undefined) expect(batchBytes(read)).toEqual(bent);
      }),
    );
  });
});
