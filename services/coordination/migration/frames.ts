import type { Failure } from "#kernel/error.ts";
import { isCount } from "./book-check.ts";
import { BOUNDS } from "./messages.ts";

/** PARCEL_BYTES is how many bytes of chunks a parcel has at most, unless one chunk has more; a frame between hubs holds it. */
export const PARCEL_BYTES = 176 * 1024;
/** PARCEL_CHUNKS is how many chunks are in a parcel at most. */
export const PARCEL_CHUNKS = 64;
/** SEALED_MORE is how many bytes a sealed parcel may have beyond those of its chunks: a codec, and the tag of the cipher. */
export const SEALED_MORE = 64;
/** ENC_BYTES are the bytes of an encapsulated X25519 key. */
export const ENC_BYTES = 32;

/** MigrationFrame is what source and destination of a migration tell each other. All of it may come late, twice, or not at all. */
export type MigrationFrame =
  /** Source: what the checkpoint of a round consists of. `claim` is there with the final one. */
  | {
      readonly kind: "manifest";
      readonly transfer: number;
      readonly bytes: Uint8Array;
      readonly signature: Uint8Array;
      readonly claim: Uint8Array;
    }
  /** Destination: the numbers of the chunks of that round that it does not hold durably; as many as are answered at once (`windowOf`). */
  | { readonly kind: "missing"; readonly transfer: number; readonly round: number; readonly numbers: readonly number[] }
  /** Source: some chunks, compressed and sealed together. */
  | {
      readonly kind: "parcel";
      readonly transfer: number;
      readonly round: number;
      readonly numbers: readonly number[];
      readonly enc: Uint8Array;
      readonly sealed: Uint8Array;
    }
  /** Destination: it holds all of that round durably. */
  | { readonly kind: "have"; readonly transfer: number; readonly round: number }
  /** Source, after the commit: does the agent run there? */
  | { readonly kind: "ask"; readonly transfer: number }
  /** Destination: it does, with this fence. */
  | { readonly kind: "finished"; readonly transfer: number; readonly fence: number }
  /** Source: its copy is deleted; the destination need not keep the checkpoint either. */
  | { readonly kind: "confirm"; readonly transfer: number; readonly fence: number };

const invalid = (field: string): Failure => ({
  reason: "INVALID_FIELD",
  message: `${field} of the frame is out of bounds`,
  field,
});

/** frameProblem says which field of a frame is out of its bounds; undefined if none is. Sagas rely on it: what comes from the network passes it. */
export function frameProblem(frame: MigrationFrame): Failure | undefined {
  if (!isCount(frame.transfer, 1)) return invalid("transfer");
  switch (frame.kind) {
    case "manifest":
      if (frame.bytes.length === 0 || frame.bytes.length > BOUNDS.manifestBytes) return invalid("manifest");
      if (frame.signature.length !== 64) return invalid("signature");
      return frame.claim.length === 0 || frame.claim.length === 64 ? undefined : invalid("claim");
    case "missing":
      return roundProblem(frame.round) ?? numbersProblem(frame.numbers, BOUNDS.chunks);
    case "parcel":
      if (frame.enc.length !== ENC_BYTES) return invalid("enc");
      if (frame.sealed.length === 0 || frame.sealed.length > PARCEL_BYTES + SEALED_MORE) return invalid("sealed");
      return roundProblem(frame.round) ?? numbersProblem(frame.numbers, PARCEL_CHUNKS);
    case "have":
      return roundProblem(frame.round);
    case "finished":
    case "confirm":
      return isCount(frame.fence, 1) ? undefined : invalid("fence");
    case "ask":
      return undefined;
    default:
      return invalid("kind");
  }
}

const roundProblem = (round: number): Failure | undefined => (isCount(round, 1) ? undefined : invalid("round"));

/** numbersProblem wants at least one number, each larger than the one before it. */
function numbersProblem(numbers: readonly number[], most: number): Failure | undefined {
  const fits =
    numbers.length > 0 &&
    numbers.length <= most &&
    numbers.every((number, at) => isCount(number, 0, BOUNDS.chunks - 1) && number > (numbers[at - 1] ?? -1));
  return fits ? undefined : invalid("numbers");
}
