import type { MessageInitShape } from "@bufbuild/protobuf";
import type { FeedPositionSchema, FeedPosition as ProtoPosition } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { FeedPosition } from "../messages.ts";

/** positionToProto writes a position. */
export function positionToProto(position: FeedPosition): MessageInitShape<typeof FeedPositionSchema> {
  return {
    hubId: position.hubId,
    share: position.share,
    epoch: BigInt(position.epoch),
    seq: BigInt(position.seq),
    digest: position.digest,
  };
}

/** positionFromProto reads a position. */
export function positionFromProto(position: ProtoPosition): FeedPosition {
  return {
    hubId: position.hubId,
    share: position.share,
    epoch: Number(position.epoch),
    seq: Number(position.seq),
    digest: position.digest,
  };
}
