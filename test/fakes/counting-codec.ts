import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import type { SegmentCodec } from "../../services/registry-sync/ports.ts";

/** countingCodec is the codec, which tells how many bytes of nodes were looked at. */
export function countingCodec(looked: (bytes: number) => void): SegmentCodec {
  return {
    ...segmentCodec,
    readNode: (node) => {
      looked(node.length);
      return segmentCodec.readNode(node);
    },
    hasCapability: (node, name) => {
      looked(node.length);
      return segmentCodec.hasCapability(node, name);
    },
  };
}
