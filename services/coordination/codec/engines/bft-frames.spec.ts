import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BFT_BOUNDS, type BftFrame, NIL, STEP } from "../../bft/frames.ts";
import { bftFrameBytes, readBftFrame } from "./bft-frames.ts";

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const some = fc.uint8Array({ maxLength: 300 });
const height = fc.integer({ min: 0, max: BFT_BOUNDS.heights - 1 });
const round = fc.integer({ min: 0, max: BFT_BOUNDS.rounds - 1 });
const relies = fc.integer({ min: -1, max: BFT_BOUNDS.rounds - 1 });
const id = bytes(32).map((raw) => Buffer.from(raw).toString("hex"));
const value = fc.oneof(fc.constant(NIL), id);
const step = fc.constantFrom(STEP.PREVOTE, STEP.PRECOMMIT);
const voter = fc.nat(29);
const signature = bytes(64);
const names = fc.array(fc.string({ maxLength: 20 }), { maxLength: 5 });
const votes = fc.array(fc.record({ height, round, step, value, relies, voter, signature }), { maxLength: 8 });
const small = fc.nat(63);
const certificate = fc.record({ height, round, step, value, votes: fc.array(fc.record({ voter, relies, signature }), { maxLength: 6 }) });
const manifest = fc.record({
  index: height,
  term: round,
  time: fc.integer({ min: 0, max: 8e15 }),
  previous: id,
  membership: fc.record({ voters: names, outgoing: names, learners: names }),
  digest: bytes(32),
  size: fc.nat(2 ** 28),
});

const frame: fc.Arbitrary<BftFrame> = fc.oneof(
  fc.record({
    kind: fc.constant("proposal" as const),
    proposal: fc.record({ height, round, value: id, size: fc.nat(2 ** 20), validRound: relies, signature }),
    bytes: some,
  }),
  fc.record({ kind: fc.constant("part" as const), height, value: id, index: small, count: small, bytes: some }),
  fc.record({ kind: fc.constant("votes" as const), height, votes }),
  fc.record({ kind: fc.constant("certificate" as const), certificate }),
  fc.record({ kind: fc.constant("payload" as const), marker: fc.boolean(), bytes: some }),
  fc.record({ kind: fc.constant("status" as const), height, round, previous: id }),
  fc.record({ kind: fc.constant("want" as const), height, value: id }),
  fc.record({ kind: fc.constant("evidence" as const), proof: some }),
  fc.record({ kind: fc.constant("attest" as const), index: height, digest: bytes(32), signature }),
  fc.record({
    kind: fc.constant("snapshot" as const),
    manifest,
    attestations: fc.array(fc.record({ voter, signature }), { maxLength: 6 }),
  }),
  fc.record({ kind: fc.constant("fetch" as const), index: height, chunk: small }),
  fc.record({ kind: fc.constant("chunk" as const), index: height, chunk: small, bytes: some }),
);

describe("frames of the BFT log", () => {
  test("come back as they were", () => {
    fc.assert(
      fc.property(frame, (given) => {
        expect(readBftFrame(bftFrameBytes(given))).toEqual(given);
      }),
      { numRuns: 1_000 },
    );
  });

  test("of noise there is none, or one whose bounds the engine checks; nothing throws", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (noise) => void readBftFrame(noise)));
    fc.assert(
      fc.property(frame, fc.nat(), fc.nat(255), (given, at, byte) => {
        const bent = bftFrameBytes(given);
        if (bent.length > 0) readBftFrame(bent.with(at % bent.length, byte));
      }),
    );
  });

  test("that are too long, or have longer lists than any, are none", () => {
    expect(readBftFrame(new Uint8Array(300 * 1024))).toBeUndefined();
    const vote = { height: 1, round: 0, step: STEP.PREVOTE, value: NIL, relies: -1, voter: 0, signature: new Uint8Array(64) };
    const many = (count: number): BftFrame => ({ kind: "votes", height: 1, votes: new Array(count).fill(vote) });
    expect(readBftFrame(bftFrameBytes(many(64)))).toEqual(many(64));
    expect(readBftFrame(bftFrameBytes(many(65)))).toBeUndefined();
    expect(readBftFrame(new Uint8Array(0))).toBeUndefined();
  });

  test("with the longest part fit into a frame", () => {
    const part: BftFrame = {
      kind: "part",
      height: 2 ** 47,
      value: "a".repeat(64),
      index: 63,
      count: 64,
      bytes: new Uint8Array(BFT_BOUNDS.partBytes),
    };
    expect(bftFrameBytes(part).length).toBeLessThan(248 * 1024);
  });
});
