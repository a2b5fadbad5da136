import { WireError } from "#kernel/wire/proto-reader.ts";

/** FRAME are the kinds of what stands in a row of the log. A number is never given another meaning. */
export const FRAME = { EVENT: 1, AUDIT: 2 } as const;

/** Frame is a part of a row: one event, or a batch of audit records, which are an event each. */
export interface Frame {
  readonly kind: number;
  /** Events in it. */
  readonly count: number;
  readonly payload: Uint8Array;
}

/** Bytes of kind, count and length. */
const HEAD_BYTES = 9;

/** packFrames writes frames one behind the other. */
export function packFrames(frames: readonly Frame[]): Uint8Array {
  const bytes = new Uint8Array(frames.reduce((sum, { payload }) => sum + HEAD_BYTES + payload.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { kind, count, payload } of frames) {
    view.setUint8(at, kind);
    view.setUint32(at + 1, count);
    view.setUint32(at + 5, payload.length);
    bytes.set(payload, at + HEAD_BYTES);
    at += HEAD_BYTES + payload.length;
  }
  return bytes;
}

/** framesIn reads them back. */
export function* framesIn(bytes: Uint8Array): Generator<Frame> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; ) {
    if (at + HEAD_BYTES > bytes.length) throw new WireError("a row of events is cut short");
    const length = view.getUint32(at + 5);
    const from = at + HEAD_BYTES;
    if (from + length > bytes.length) throw new WireError("a row of events is cut short");
    yield { kind: view.getUint8(at), count: view.getUint32(at + 1), payload: bytes.subarray(from, from + length) };
    at = from + length;
  }
}
