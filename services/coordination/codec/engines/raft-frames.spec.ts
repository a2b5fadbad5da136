import { fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { RaftFrameSchema } from "#gen/foedus/coordination/v1alpha1/raft_pb.ts";
import { frame } from "../../../../test/support/raft-arbitrary.ts";
import { raftFrameFromProto, raftFrameToProto } from "./raft-frames.ts";

test("a frame of a replica is the same after it was written and read", () => {
  fc.assert(
    fc.property(frame, (sent) => {
      const bytes = toBinary(RaftFrameSchema, raftFrameToProto(sent));
      expect(raftFrameFromProto(fromBinary(RaftFrameSchema, bytes))).toEqual(sent);
    }),
    { numRuns: 500 },
  );
});

test("a frame of a kind that is not known is none", () => {
  // Field 15, length-delimited, empty.
  expect(raftFrameFromProto(fromBinary(RaftFrameSchema, Uint8Array.of(0x7a, 0)))).toBeUndefined();
});
