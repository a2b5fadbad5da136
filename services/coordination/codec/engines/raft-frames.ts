import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type RaftAppend,
  type RaftEntry,
  type RaftEntrySchema,
  type RaftFrame as RaftFrameMessage,
  RaftFrameSchema,
} from "#gen/foedus/coordination/v1alpha1/raft_pb.ts";
import type { Committed } from "../../log/engine.ts";
import type { Append, RaftFrame } from "../../raft/frames.ts";

type Kind = NonNullable<MessageInitShape<typeof RaftFrameSchema>["kind"]>;
type EntryInit = MessageInitShape<typeof RaftEntrySchema>;

const big = BigInt;

/** raftFrameToProto writes a frame of a replica. */
export function raftFrameToProto(frame: RaftFrame): RaftFrameMessage {
  return create(RaftFrameSchema, { kind: kindOf(frame) });
}

function kindOf(frame: RaftFrame): Kind {
  const term = big(frame.term);
  switch (frame.type) {
    case "vote_request": {
      const { pre, transfer } = frame;
      return { case: "voteRequest", value: { term, pre, lastIndex: big(frame.lastIndex), lastTerm: big(frame.lastTerm), transfer } };
    }
    case "vote_answer": {
      const { pre, granted } = frame;
      const [commitIndex, commitTerm] = [big(frame.commitIndex), big(frame.commitTerm)];
      return { case: "voteAnswer", value: { term, pre, granted, commitIndex, commitTerm } };
    }
    case "append": {
      const { ageMs, entries, lease } = frame;
      const [prevIndex, prevTerm] = [big(frame.prevIndex), big(frame.prevTerm)];
      const [commit, probe] = [big(frame.commit), big(frame.probe)];
      return { case: "append", value: { term, prevIndex, prevTerm, entries: entries.map(entryToProto), commit, probe, ageMs, lease } };
    }
    case "append_answer": {
      const [index, hintIndex, hintTerm] = [big(frame.index), big(frame.hintIndex), big(frame.hintTerm)];
      return { case: "appendAnswer", value: { term, ok: frame.ok, index, hintIndex, hintTerm, probe: big(frame.probe) } };
    }
    case "snapshot_offer":
      return { case: "snapshotOffer", value: { term, manifest: frame.manifest, signature: frame.signature } };
    case "snapshot_part":
      return { case: "snapshotPart", value: { term, index: big(frame.index), part: frame.part, data: frame.bytes } };
    case "snapshot_answer":
      return { case: "snapshotAnswer", value: { term, index: big(frame.index), have: frame.have } };
    case "transfer_now":
      return { case: "transferNow", value: { term } };
  }
}

function entryToProto({ index, term, time, payloads, membership }: Committed): EntryInit {
  const changed =
    membership === undefined
      ? {}
      : { membership: { voters: [...membership.voters], outgoing: [...membership.outgoing], learners: [...membership.learners] } };
  return { index: big(index), term: big(term), time: big(time), payloads: [...payloads], ...changed };
}

/**
 * raftFrameFromProto reads a frame of a replica; undefined for a kind that this version does not know. Numbers come as they are, rounded
 * beyond 2^53: the engine checks them (frameProblem). Bytes are views of the message.
 */
export function raftFrameFromProto({ kind }: RaftFrameMessage): RaftFrame | undefined {
  switch (kind.case) {
    case "voteRequest": {
      const { term, pre, lastIndex, lastTerm, transfer } = kind.value;
      return { type: "vote_request", term: Number(term), pre, lastIndex: Number(lastIndex), lastTerm: Number(lastTerm), transfer };
    }
    case "voteAnswer": {
      const { term, pre, granted, commitIndex, commitTerm } = kind.value;
      return { type: "vote_answer", term: Number(term), pre, granted, commitIndex: Number(commitIndex), commitTerm: Number(commitTerm) };
    }
    case "append":
      return appendFromProto(kind.value);
    case "appendAnswer": {
      const { term, ok, index, hintIndex, hintTerm, probe } = kind.value;
      const [at, hint, of] = [Number(index), Number(hintIndex), Number(hintTerm)];
      return { type: "append_answer", term: Number(term), ok, index: at, hintIndex: hint, hintTerm: of, probe: Number(probe) };
    }
    case "snapshotOffer":
      return { type: "snapshot_offer", term: Number(kind.value.term), manifest: kind.value.manifest, signature: kind.value.signature };
    case "snapshotPart": {
      const { term, index, part, data } = kind.value;
      return { type: "snapshot_part", term: Number(term), index: Number(index), part, bytes: data };
    }
    case "snapshotAnswer":
      return { type: "snapshot_answer", term: Number(kind.value.term), index: Number(kind.value.index), have: kind.value.have };
    case "transferNow":
      return { type: "transfer_now", term: Number(kind.value.term) };
    default:
      return undefined;
  }
}

function appendFromProto({ term, prevIndex, prevTerm, entries, commit, probe, ageMs, lease }: RaftAppend): Append {
  return {
    type: "append",
    term: Number(term),
    prevIndex: Number(prevIndex),
    prevTerm: Number(prevTerm),
    entries: entries.map(entryFromProto),
    commit: Number(commit),
    probe: Number(probe),
    ageMs,
    lease,
  };
}

function entryFromProto({ index, term, time, payloads, membership }: RaftEntry): Committed {
  const { voters, outgoing, learners } = membership ?? {};
  return {
    index: Number(index),
    term: Number(term),
    time: Number(time),
    payloads,
    ...(voters === undefined || outgoing === undefined || learners === undefined ? {} : { membership: { voters, outgoing, learners } }),
  };
}
