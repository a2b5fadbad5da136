import type { Clock } from "#channel/clock.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import type { Failure } from "#kernel/error.ts";
import { VALUE_TYPE, type ValueType } from "../../services/registry-sync/ports.ts";
import type { OnError, StreamIdentity } from "./kept-stream.ts";

/** SetValue is what can be written: BOOL boolean, DOUBLE number, SINT64 bigint (or a whole number, if the node says so), STRING and JSON string, BYTES bytes. */
export type SetValue = boolean | number | bigint | string | Uint8Array;

/** Refusal is an update, or a node, that the hub did not take, and why. It is not sent again. */
export interface Refusal {
  readonly nodeId: string;
  /** Empty for the node itself. */
  readonly key: string;
  readonly failure: Failure;
}

/** UpdaterOptions shape an updater. */
export interface UpdaterOptions {
  readonly clock?: Clock;
  /** Most updates in a batch. Default 2,000. */
  readonly batchUpdates?: number;
  /** Batches that may wait for their acknowledgement. Default 16. */
  readonly windowBatches?: number;
  /** Full batches that may wait to be sent; beyond them `set` throws OVERLOADED. Default 256. */
  readonly maxWaiting?: number;
  /** Seed of the jitter of reconnects. */
  readonly seed?: number;
  readonly backoff?: BackoffConfig;
  /**
   * Streams that replace one another at the hub. By default those of this updater: whatever the network still holds of its older streams
   * counts for nothing once a newer one is answered. A program that keeps its group, and raises the incarnation with each start, has
   * the same across its own restarts.
   */
  readonly identity?: StreamIdentity;
  /**
   * Done on every stream that is opened, before anything is sent on it: what the hub must know first. The first stream is then opened
   * at once. What it throws is told, and it is done again after a wait.
   */
  readonly prepare?: () => Promise<void>;
  /** Told each change, and each node, that the hub does not take. Without it an updater of a `Hub` tells each node or key once to `onError`. */
  readonly onRefused?: (refusal: Refusal) => void;
  /**
   * Told when the stream is up (undefined) or down, and why; `willRetry` false means that it will not come back by itself. Without it a `Hub`
   * that was connected lets Node print a warning, once for each reason until the stream works again.
   */
  readonly onLink?: (failure: Failure | undefined, willRetry: boolean) => void;
  /** Told what a callback threw. */
  readonly onError?: OnError;
}

/** typeOf is the type of a key whose first value this is. */
export function typeOf(value: SetValue): ValueType {
  switch (typeof value) {
    case "boolean":
      return VALUE_TYPE.BOOL;
    case "number":
      return VALUE_TYPE.DOUBLE;
    case "bigint":
      return VALUE_TYPE.SINT64;
    case "string":
      return VALUE_TYPE.STRING;
    default:
      return VALUE_TYPE.BYTES;
  }
}

/** BATCH_DATA is how many bytes of text a batch holds: with its columns it stays within one segment of the hub. */
export const BATCH_DATA = 128 * 1024;

/** UNSAID stands for the reason of a refusal that came without one. */
export const UNSAID: Failure = { reason: "INTERNAL", message: "the hub refused the update and did not say why" };
