import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { RaftFrameSchema } from "#gen/foedus/coordination/v1alpha1/raft_pb.ts";
import { assert } from "#kernel/assert.ts";
import type { StoreOp } from "#kernel/core.ts";
import { Prng } from "#kernel/prng.ts";
import { raftFrameFromProto, raftFrameToProto } from "../../../services/coordination/codec/engines/raft-frames.ts";
import { hubOf, type LogEngine } from "../../../services/coordination/log/engine.ts";
import type { RaftOptions, RaftTuning } from "../../../services/coordination/raft/config.ts";
import { RAFT_PARTS, RaftEngine, type RaftParts } from "../../../services/coordination/raft/engine.ts";
import type { RaftFrame } from "../../../services/coordination/raft/frames.ts";
import { HARD, SNAPSHOT, storeNames } from "../../../services/coordination/raft/state/pen.ts";
import { majorityOf } from "../../../services/coordination/raft/state/quorum.ts";
import { readEntry, readHard, readStoredManifest } from "../../../services/coordination/raft/state/record.ts";
import { feedKeyOf, simCrypto } from "../crypto.ts";
import { hashBytes } from "./app.ts";
import type { EngineSetup, Fact, Pledge, Subject } from "./subject.ts";

const NAMES = storeNames("raft");

/** tuningOf draws the bounds of a run: small ones are met often. */
export function tuningOf({ seed, snapshotEvery, leaseReads, valueLength }: EngineSetup): Partial<RaftTuning> {
  const prng = new Prng(seed ^ 0x7a57);
  return {
    leaseReads,
    snapshotEntries: snapshotEvery,
    keepEntries: 2 + prng.below(8),
    // Who needs a snapshot must get it faster than the log grows.
    keepBytes: prng.chance(0.5) && valueLength === 0 ? 500 : 100_000,
    partBytes: Math.max(64 << prng.below(5), valueLength),
    partWindow: 1 + prng.below(4),
    windowMessages: 1 + prng.below(8),
    windowBytes: prng.chance(0.3) ? 800 : 100_000,
    appendEntries: prng.chance(0.5) ? 1 + prng.below(4) : 512,
    appendBytes: prng.chance(0.3) ? 400 : 100_000,
    uncommittedEntries: prng.chance(0.3) ? 8 : 1_000,
    noticeMs: prng.chance(0.5) ? 5 : 50,
    hintMs: prng.chance(0.5) ? 20 : 500,
    promoteLag: prng.chance(0.5) ? 4 : 64,
  };
}

/** raftOptions are those of a replica of a run. */
export function raftOptions(setup: EngineSetup): RaftOptions {
  const { self, founding, prng } = setup;
  return {
    self,
    prng,
    crypto: simCrypto(hubOf(self)),
    keysOf: (replica) => [feedKeyOf(hubOf(replica))],
    ...(founding.voters.includes(self) ? { bootstrap: founding } : {}),
    tuning: { ...tuningOf(setup), ...(setup.tuning as Partial<RaftTuning> | undefined) },
  };
}

/** raftSubject is the shipping Raft. */
export const raftSubject: Subject<RaftFrame> = {
  name: "raft",
  voters: [3, 7],
  fewest: 2,
  oneLeader: true,
  introduces: false,
  changes: true,
  create: (setup): LogEngine<RaftFrame> =>
    new RaftEngine(raftOptions(setup), setup.stored, { ...RAFT_PARTS, ...(setup.parts as Partial<RaftParts> | undefined) }),
  encode: (frame) => toBinary(RaftFrameSchema, raftFrameToProto(frame)),
  decode: (bytes) => {
    const frame = raftFrameFromProto(fromBinary(RaftFrameSchema, bytes));
    assert(frame !== undefined, "a frame that was written can be read");
    return frame;
  },
  factsOf,
  pledgesOf: (frame, from, to): readonly Pledge[] => {
    if (frame.type === "vote_answer" && frame.granted && !frame.pre) return [{ key: `vote ${frame.term}`, value: to }];
    return frame.type === "vote_request" && !frame.pre ? [{ key: `vote ${frame.term}`, value: from }] : [];
  },
  nameOf: (frame) => {
    if (frame.type !== "append") return JSON.stringify(frame, (_, value) => (value instanceof Uint8Array ? value.length : value));
    const { term, prevIndex, prevTerm, entries, commit, probe } = frame;
    return `append term ${term} behind ${prevIndex}@${prevTerm}: ${entries.length}, commit ${commit}, probe ${probe}`;
  },
  enough: majorityOf,
};

function factsOf(op: StoreOp): readonly Fact[] {
  switch (op.op) {
    case "append": {
      if (op.log !== NAMES.log) return [];
      const { index, term, membership } = readEntry("entry", op.bytes);
      return [{ kind: "entry", index, term, digest: hashBytes(op.bytes), membership: membership !== undefined }];
    }
    case "cut":
      return op.log === NAMES.log ? [{ kind: "cut", from: op.from }] : [];
    case "drop":
      return op.log === NAMES.log ? [{ kind: "drop" }] : [];
    case "put": {
      if (op.space !== NAMES.space) return [];
      if (op.key === HARD) {
        const { term, vote } = readHard("hard", op.bytes);
        return [{ kind: "hard", term, vote }];
      }
      if (op.key !== SNAPSHOT) return [];
      const { index, term } = readStoredManifest("snapshot", op.bytes);
      return [{ kind: "snapshot", index, term }];
    }
    default:
      return [];
  }
}
