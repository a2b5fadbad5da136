import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { failureFromProto, failureToProto } from "#channel/failure.ts";
import { type FeedOpen, type SessionFrame, SessionFrameSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { FeedPosition, PeerFrame } from "../messages.ts";
import { positionFromProto, positionToProto } from "./position.ts";
import { EMPTY, fieldLength, putField, putTag } from "./wire.ts";

const NOTHING: FeedPosition = { hubId: "", share: "", epoch: 0, seq: 0, digest: EMPTY };

/** Field numbers of SessionRequest.frame (and SessionResponse.frame), SessionFrame.segment and Segment.segment. */
const FRAME_FIELD = 1;
const SEGMENT_FIELD = 4;
const BYTES_FIELD = 1;

/**
 * segmentMessage encodes the whole message that carries a segment: the same bytes from the dialer (SessionRequest) and from
 * the acceptor (SessionResponse), so that one buffer serves every peer.
 */
export function segmentMessage(segment: Uint8Array): Buffer {
  const inner = fieldLength(segment.length);
  const frame = fieldLength(inner);
  const bytes = Buffer.allocUnsafeSlow(fieldLength(frame));
  putField(bytes, putTag(bytes, putTag(bytes, 0, FRAME_FIELD, frame), SEGMENT_FIELD, inner), BYTES_FIELD, segment);
  return bytes;
}

/** frameToProto writes a frame; `keyStatement` is ours, for offers. */
export function frameToProto(frame: PeerFrame, keyStatement: Uint8Array): SessionFrame {
  return create(SessionFrameSchema, { frame: kindOf(frame, keyStatement) });
}

type Kind = NonNullable<MessageInitShape<typeof SessionFrameSchema>["frame"]>;

function kindOf(frame: PeerFrame, keyStatement: Uint8Array): Kind {
  switch (frame.type) {
    case "feed_offer":
      return { case: "feedOffer", value: { ...(frame.head === undefined ? {} : { head: positionToProto(frame.head) }), keyStatement } };
    case "feed_open":
      return {
        case: "feedOpen",
        value: {
          from: positionToProto(frame.from),
          heldParts: [...frame.heldParts],
          signedHeader: frame.proof?.segment ?? EMPTY,
          signedManifest: frame.proof?.manifest ?? EMPTY,
        },
      };
    case "segment":
      return { case: "segment", value: { segment: frame.segment } };
    case "ack":
      return { case: "ack", value: { position: positionToProto(frame.position) } };
    case "nack":
      return {
        case: "nack",
        value: { held: positionToProto(frame.held), failure: failureToProto(frame.failure), wantSnapshot: frame.wantSnapshot },
      };
    case "snapshot":
      return { case: "snapshot", value: { manifest: frame.manifest } };
    case "snapshot_part":
      return { case: "snapshotPart", value: { index: frame.index, data: frame.data } };
    case "forget":
      return { case: "forget", value: { share: frame.share } };
    case "forget_done":
      return { case: "forgetDone", value: { share: frame.share } };
  }
}

/** frameFromProto reads a frame of this service; undefined for control frames and kinds that this version does not know. Bytes are views. */
export function frameFromProto({ frame }: SessionFrame): PeerFrame | undefined {
  switch (frame.case) {
    case "feedOffer":
      return {
        type: "feed_offer",
        head: frame.value.head === undefined ? undefined : positionFromProto(frame.value.head),
        keyStatement: frame.value.keyStatement,
      };
    case "feedOpen":
      return openFromProto(frame.value);
    case "segment":
      return { type: "segment", segment: frame.value.segment };
    case "ack":
      return frame.value.position === undefined ? undefined : { type: "ack", position: positionFromProto(frame.value.position) };
    case "nack":
      return {
        type: "nack",
        held: frame.value.held === undefined ? NOTHING : positionFromProto(frame.value.held),
        failure:
          frame.value.failure === undefined
            ? { reason: "INTERNAL", message: "the peer gave no reason" }
            : failureFromProto(frame.value.failure),
        wantSnapshot: frame.value.wantSnapshot,
      };
    case "snapshot":
      return { type: "snapshot", manifest: frame.value.manifest };
    case "snapshotPart":
      return { type: "snapshot_part", index: frame.value.index, data: frame.value.data };
    case "forget":
      return { type: "forget", share: frame.value.share };
    case "forgetDone":
      return { type: "forget_done", share: frame.value.share };
    default:
      return undefined;
  }
}

function openFromProto({ from, heldParts, signedHeader, signedManifest }: FeedOpen): PeerFrame {
  const proof = signedHeader.length + signedManifest.length > 0 ? { proof: { segment: signedHeader, manifest: signedManifest } } : {};
  return { type: "feed_open", from: from === undefined ? NOTHING : positionFromProto(from), heldParts, ...proof };
}
