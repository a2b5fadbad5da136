import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { RaftFrameSchema } from "#gen/foedus/coordination/v1alpha1/raft_pb.ts";
import type { EngineFrame } from "../../messages.ts";
import { bftFrameBytes, readBftFrame } from "./bft-frames.ts";
import { raftFrameFromProto, raftFrameToProto } from "./raft-frames.ts";

/** EngineBytes are the bytes of a frame, under the name of its engine. */
export type EngineBytes = { readonly raft: Uint8Array } | { readonly bft: Uint8Array };

/** engineBytes writes a frame of an engine. */
export function engineBytes(frame: EngineFrame): EngineBytes {
  return "type" in frame ? { raft: toBinary(RaftFrameSchema, raftFrameToProto(frame)) } : { bft: bftFrameBytes(frame) };
}

/** readEngineFrame reads one; undefined for bytes that are none. What it reads has the form of a frame; the engine checks its numbers. */
export function readEngineFrame(raft: Uint8Array, bft: Uint8Array): EngineFrame | undefined {
  try {
    return raft.length > 0 ? raftFrameFromProto(fromBinary(RaftFrameSchema, raft)) : readBftFrame(bft);
  } catch {
    return undefined;
  }
}
