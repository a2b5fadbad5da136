import { assert } from "#kernel/assert.ts";
import { Prng } from "#kernel/prng.ts";
import { BftEngine } from "../../../services/coordination/bft/engine.ts";
import type { BftFrame } from "../../../services/coordination/bft/frames.ts";
import { hexOf } from "../../../services/coordination/bft/hex.ts";
import type { BftLimits, BftOptions } from "../../../services/coordination/bft/options.ts";
import { bftFrameBytes, readBftFrame } from "../../../services/coordination/codec/engines/bft-frames.ts";
import { hubOf } from "../../../services/coordination/log/engine.ts";
import { feedKeyOf, simCrypto } from "../crypto.ts";
import type { EngineSetup, Pledge, Subject } from "./subject.ts";

/** limitsOf draws the times and bounds of a run. */
function limitsOf({ seed, snapshotEvery }: EngineSetup): Partial<BftLimits> {
  const prng = new Prng(seed ^ 0xbf7);
  return {
    proposeMs: 150,
    voteMs: 80,
    proposeMoreMs: 60,
    voteMoreMs: 40,
    timeoutMaxMs: 1_500,
    resendMs: prng.chance(0.5) ? 100 : 300,
    aheadMs: 30_000,
    batchPayloads: prng.chance(0.3) ? 1 + prng.below(3) : 100,
    snapshotEvery,
    keepHeights: 2 + prng.below(20),
    catchUp: 2 + prng.below(8),
  };
}

function optionsOf(setup: EngineSetup): BftOptions {
  return {
    self: setup.self,
    federation: "simulated",
    crypto: simCrypto(hubOf(setup.self)),
    keyOf: (replica) => feedKeyOf(hubOf(replica)),
    check: () => true,
    checkMembership: () => true,
    membership: setup.founding,
    introduced: setup.told,
    limits: limitsOf(setup),
  };
}

/** What a frame says once and for all, of its sender or of whoever signed it: others pass votes and proposals on. */
function pledgesOf(frame: BftFrame, from: string): readonly Pledge[] {
  switch (frame.kind) {
    case "votes":
      return frame.votes.map(({ height, round, step, voter, value, relies }) => ({
        by: `voter ${voter}`,
        key: `vote ${height}/${round}/${step}`,
        value: `${value || "nil"} relying on ${relies}`,
      }));
    case "certificate": {
      const { height, round, step, value, votes } = frame.certificate;
      return votes.map(({ voter, relies }) => ({
        by: `voter ${voter}`,
        key: `vote ${height}/${round}/${step}`,
        value: `${value || "nil"} relying on ${relies}`,
      }));
    }
    case "proposal": {
      const { height, round, value, validRound } = frame.proposal;
      return [{ by: "the proposer", key: `proposal ${height}/${round}`, value: `${value} of round ${validRound}` }];
    }
    case "attest":
      return [{ by: from, key: `state ${frame.index}`, value: hexOf(frame.digest) }];
    default:
      return [];
  }
}

/** bftSubject is the shipping Tendermint, among hubs that fail and do not lie: those that do are for the Twins. */
export const bftSubject: Subject<BftFrame> = {
  name: "bft",
  voters: [4, 10],
  fewest: 4,
  oneLeader: false,
  introduces: true,
  changes: true,
  create: (setup) => new BftEngine(optionsOf(setup), setup.stored),
  encode: bftFrameBytes,
  decode: (bytes) => {
    const frame = readBftFrame(bytes);
    assert(frame !== undefined, "a frame that was written can be read");
    return frame;
  },
  factsOf: () => [],
  pledgesOf,
  nameOf: (frame) => JSON.stringify(frame, (_, value) => (value instanceof Uint8Array ? value.length : value)).slice(0, 200),
  enough: (n) => Math.floor((2 * n) / 3) + 1,
};
