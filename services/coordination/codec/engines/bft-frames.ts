import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type BftCertificate,
  type BftCertificateSchema,
  type BftFrame as BftFrameMessage,
  BftFrameSchema,
  type BftProposed,
  type BftSnapshot,
  type BftVote,
  type BftVoteSchema,
} from "#gen/foedus/coordination/v1alpha1/bft_pb.ts";
import { BFT_BOUNDS, type BftFrame, type Certificate, type Step, type ValueId, type Vote } from "../../bft/frames.ts";
import { bytesOfHex, hexOf } from "../../bft/hex.ts";

type Kind = NonNullable<MessageInitShape<typeof BftFrameSchema>["frame"]>;
type Of<K extends BftFrame["kind"]> = Extract<BftFrame, { kind: K }>;

const big = BigInt;
/** Whatever is longer is no frame. */
const FRAME_BYTES = 256 * 1024;

/** bftFrameToProto writes a frame of a replica. */
export function bftFrameToProto(frame: BftFrame): BftFrameMessage {
  return create(BftFrameSchema, { frame: kindOf(frame) });
}

/** bftFrameBytes encodes a frame. */
export function bftFrameBytes(frame: BftFrame): Uint8Array {
  return toBinary(BftFrameSchema, bftFrameToProto(frame));
}

/** readBftFrame decodes a frame; undefined for bytes that are none. */
export function readBftFrame(bytes: Uint8Array): BftFrame | undefined {
  if (bytes.length > FRAME_BYTES) return undefined;
  try {
    return bftFrameFromProto(fromBinary(BftFrameSchema, bytes));
  } catch {
    return undefined;
  }
}

function kindOf(frame: BftFrame): Kind {
  switch (frame.kind) {
    case "proposal":
      return { case: "proposed", value: proposedOf(frame) };
    case "part": {
      const { height, value, index, count, bytes } = frame;
      return { case: "part", value: { height: big(height), value: bytesOfHex(value), index, count, bytes } };
    }
    case "votes":
      return { case: "votes", value: { height: big(frame.height), votes: frame.votes.map(voteToProto) } };
    case "certificate":
      return { case: "certificate", value: certificateToProto(frame.certificate) };
    case "payload":
      return { case: "payload", value: { marker: frame.marker, bytes: frame.bytes } };
    case "status": {
      const { height, round, previous } = frame;
      return { case: "status", value: { height: big(height), round, previous: bytesOfHex(previous) } };
    }
    case "want":
      return { case: "want", value: { height: big(frame.height), value: bytesOfHex(frame.value) } };
    case "evidence":
      return { case: "evidence", value: { proof: frame.proof } };
    case "attest":
      return { case: "attest", value: { index: big(frame.index), digest: frame.digest, signature: frame.signature } };
    case "snapshot":
      return { case: "snapshot", value: snapshotOf(frame) };
    case "fetch":
      return { case: "fetch", value: { index: big(frame.index), chunk: frame.chunk } };
    case "chunk":
      return { case: "chunk", value: { index: big(frame.index), chunk: frame.chunk, bytes: frame.bytes } };
  }
}

function proposedOf({ proposal, bytes }: Of<"proposal">): Extract<Kind, { case: "proposed" }>["value"] {
  const { height, round, value, size, validRound, signature } = proposal;
  return { proposal: { height: big(height), round, value: bytesOfHex(value), size, validRound: validRound + 1, signature }, bytes };
}

function snapshotOf({ manifest, attestations }: Of<"snapshot">): Extract<Kind, { case: "snapshot" }>["value"] {
  const { index, term, time, previous, membership, digest, size } = manifest;
  const { voters, outgoing, learners } = membership;
  return {
    index: big(index),
    term,
    time: big(time),
    previous: bytesOfHex(previous),
    membership: { voters: [...voters], outgoing: [...outgoing], learners: [...learners] },
    digest,
    size,
    attestations: attestations.map(({ voter, signature }) => ({ voter, signature })),
  };
}

function voteToProto({ height, round, step, value, relies, voter, signature }: Vote): MessageInitShape<typeof BftVoteSchema> {
  return { height: big(height), round, step, value: bytesOfHex(value), reliesOn: relies + 1, voter, signature };
}

/** certificateToProto writes a certificate, for answers of RPCs too. */
export function certificateToProto({ height, round, step, value, votes }: Certificate): MessageInitShape<typeof BftCertificateSchema> {
  return {
    height: big(height),
    round,
    step,
    value: bytesOfHex(value),
    votes: votes.map((vote) => ({ voter: vote.voter, reliesOn: vote.relies + 1, signature: vote.signature })),
  };
}

/**
 * bftFrameFromProto reads a frame of a replica; undefined for a kind that this version does not know, and for lists that are longer than any
 * frame has. Numbers come as they are, rounded beyond 2^53, and ids as they are written: the engine checks both. Bytes are views of the message.
 */
export function bftFrameFromProto({ frame }: BftFrameMessage): BftFrame | undefined {
  switch (frame.case) {
    case "proposed":
      return proposedFrom(frame.value);
    case "part": {
      const { height, value, index, count, bytes } = frame.value;
      return { kind: "part", height: Number(height), value: idOf(value), index, count, bytes };
    }
    case "votes": {
      const { height, votes } = frame.value;
      return votes.length > BFT_BOUNDS.votes ? undefined : { kind: "votes", height: Number(height), votes: votes.map(voteFrom) };
    }
    case "certificate":
      return frame.value.votes.length > BFT_BOUNDS.votersMax
        ? undefined
        : { kind: "certificate", certificate: certificateFromProto(frame.value) };
    case "payload":
      return { kind: "payload", marker: frame.value.marker, bytes: frame.value.bytes };
    case "status": {
      const { height, round, previous } = frame.value;
      return { kind: "status", height: Number(height), round, previous: idOf(previous) };
    }
    case "want":
      return { kind: "want", height: Number(frame.value.height), value: idOf(frame.value.value) };
    case "evidence":
      return { kind: "evidence", proof: frame.value.proof };
    case "attest":
      return { kind: "attest", index: Number(frame.value.index), digest: frame.value.digest, signature: frame.value.signature };
    case "snapshot":
      return snapshotFrom(frame.value);
    case "fetch":
      return { kind: "fetch", index: Number(frame.value.index), chunk: frame.value.chunk };
    case "chunk":
      return { kind: "chunk", index: Number(frame.value.index), chunk: frame.value.chunk, bytes: frame.value.bytes };
    default:
      return undefined;
  }
}

function proposedFrom({ proposal, bytes }: BftProposed): BftFrame | undefined {
  if (proposal === undefined) return undefined;
  const { height, round, value, size, validRound, signature } = proposal;
  return {
    kind: "proposal",
    proposal: { height: Number(height), round, value: idOf(value), size, validRound: validRound - 1, signature },
    bytes,
  };
}

function snapshotFrom({ index, term, time, previous, membership, digest, size, attestations }: BftSnapshot): BftFrame | undefined {
  if (membership === undefined || attestations.length > BFT_BOUNDS.votersMax) return undefined;
  const { voters, outgoing, learners } = membership;
  return {
    kind: "snapshot",
    manifest: {
      index: Number(index),
      term,
      time: Number(time),
      previous: idOf(previous),
      membership: { voters, outgoing, learners },
      digest,
      size,
    },
    attestations: attestations.map(({ voter, signature }) => ({ voter, signature })),
  };
}

function voteFrom({ height, round, step, value, reliesOn, voter, signature }: BftVote): Vote {
  return { height: Number(height), round, step: step as number as Step, value: idOf(value), relies: reliesOn - 1, voter, signature };
}

function idOf(value: Uint8Array): ValueId {
  // One that is too long stays so, and is refused by the engine.
  return hexOf(value.length > 32 ? value.subarray(0, 33) : value);
}

/** certificateFromProto reads a certificate. Nothing in it is verified. */
export function certificateFromProto({ height, round, step, value, votes }: BftCertificate): Certificate {
  return {
    height: Number(height),
    round,
    step: step as number as Step,
    value: idOf(value),
    votes: votes.map((vote) => ({ voter: vote.voter, relies: vote.reliesOn - 1, signature: vote.signature })),
  };
}
