import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { GenService } from "@bufbuild/protobuf/codegenv2";
import type { StreamOpenSchema } from "#gen/foedus/common/v1/stream_pb.ts";

/**
 * RawMessage is a message whose protobuf bytes are already encoded; it is sent as it is.
 * The hot path encodes a segment once and hands the same buffer to every stream.
 */
export class RawMessage {
  readonly bytes: Buffer;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
}

/** Outbound is the sending half of a stream. */
export interface Outbound<T> {
  /** send queues a message. False when the stream is over; it never throws (S0-9). */
  send(message: T | RawMessage): boolean;
  /** bufferedBytes is what was handed to the transport and not yet written; for local streams what was not yet read. */
  readonly bufferedBytes: number;
  /** drained resolves when `bufferedBytes` fell below the transport's mark, or the stream is over. */
  drained(): Promise<void>;
  readonly closed: boolean;
}

/** In is the request of an RPC. */
export type In<M> = M extends { input: infer D extends DescMessage } ? MessageShape<D> : never;
/** Out is the response of an RPC. */
export type Out<M> = M extends { output: infer D extends DescMessage } ? MessageShape<D> : never;

/** StreamOpenInit numbers a stream; it goes into the first message. */
export type StreamOpenInit = MessageInitShape<typeof StreamOpenSchema>;

/** CallOptions of a client call. */
export interface CallOptions {
  /** Relative deadline in ms. Unary calls without one get the client's default. Streams have none unless given. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Extra metadata, e.g. `authorization`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Bidi streams only: responses come as RawMessage, not parsed, which is then the caller's duty. For hot paths only. */
  readonly rawResponses?: boolean;
}

/** ClientDuplex is the client's side of a bidi or client stream. */
export interface ClientDuplex<Req, Res> extends Outbound<Req> {
  readonly responses: AsyncIterable<Res>;
  /** opened resolves when the server's headers arrived, rejects with FoedusError if the call failed before. */
  readonly opened: Promise<void>;
  /** end half-closes. */
  end(): void;
  cancel(): void;
}

/** ClientOf a service: what `client.ts` (remote) and `runtime/rpc/client/local-client.ts` (same process) both give. Failures are FoedusError. */
export type ClientOf<S> =
  S extends GenService<infer M>
    ? {
        readonly [K in keyof M]: M[K]["methodKind"] extends "unary"
          ? (request: In<M[K]>, options?: CallOptions) => Promise<Out<M[K]>>
          : M[K]["methodKind"] extends "server_streaming"
            ? (request: In<M[K]>, options?: CallOptions) => AsyncIterable<Out<M[K]>>
            : (options?: CallOptions) => ClientDuplex<In<M[K]>, Out<M[K]>>;
      } & { close(): void }
    : never;
