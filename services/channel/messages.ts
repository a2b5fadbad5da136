import { type DescMessage, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { FoedusError, fail } from "#kernel/error.ts";
import { RawMessage } from "./call.ts";
import { checkDecoded } from "./decoded-size.ts";
import { noteSize } from "./message-size.ts";
import { carriesFrames, validateRequest } from "./validation.ts";

/** methodPath is the HTTP/2 path of an RPC: `/<package>.<Service>/<Method>`. */
export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** asBuffer views bytes as a Buffer without copying them. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/** encodeMessage gives the protobuf bytes of a message; those of a RawMessage as they are, uncopied. */
export function encodeMessage(schema: DescMessage, message: Message | RawMessage): Buffer {
  return message instanceof RawMessage ? message.bytes : asBuffer(toBinary(schema, message));
}

/** MalformedError says that bytes which arrived here are no message, and not that the other side failed for such a reason. */
export class MalformedError extends FoedusError {}

/**
 * Malformed stands for a request whose bytes are not a message of the expected type. The deserializer gives it instead of
 * throwing, because grpc-js would answer a throw with INTERNAL; the guard answers INVALID_ARGUMENT.
 */
export class Malformed {
  readonly error: FoedusError;
  constructor(error: FoedusError) {
    this.error = error;
  }
}

/** Decoder makes a message of its bytes, or answers undefined to leave it to the generated code. It throws for malformed bytes. */
export type Decoder = (bytes: Uint8Array) => Message | undefined;

const decoders = new WeakMap<DescMessage, Decoder>();

/**
 * useDecoder reads messages of one type by hand wherever they arrive, for hot frames whose service wants plain numbers and
 * views instead of bigints and objects. What it makes is handed on as it is; only that service looks inside.
 */
export function useDecoder(schema: DescMessage, decoder: Decoder): void {
  decoders.set(schema, decoder);
}

/**
 * decodeMessage parses protobuf bytes; INVALID_FIELD when they do not parse, LIMIT_EXCEEDED when that would take too much memory, which
 * is looked at unless they were `scanned`.
 */
export function decodeMessage(schema: DescMessage, bytes: Uint8Array, scanned = false): Message {
  try {
    if (!scanned) checkDecoded(schema, bytes);
    const message = decoders.get(schema)?.(bytes) ?? fromBinary(schema, bytes);
    noteSize(schema, message, bytes.length);
    return message;
  } catch (cause) {
    if (cause instanceof FoedusError) throw new MalformedError(cause.failure, { cause });
    throw new MalformedError({ reason: "INVALID_FIELD", message: `the bytes are not a valid ${schema.typeName}` }, { cause });
  }
}

/** decodeRequest is `decodeMessage` that returns Malformed instead of throwing. */
export function decodeRequest(schema: DescMessage, bytes: Uint8Array): Message | Malformed {
  try {
    return decodeMessage(schema, bytes);
  } catch (error) {
    return new Malformed(error as FoedusError);
  }
}

/**
 * Sealed is a message of a hot stream as it arrived. One read of a socket brings hundreds of them; each is decoded when its reader takes
 * it, and not before: a peer whose frames are held back (`frame-pace.ts`) has none of them decoded either.
 */
export class Sealed {
  readonly #schema: DescMessage;
  readonly #bytes: Uint8Array;

  constructor(schema: DescMessage, bytes: Uint8Array) {
    this.#schema = schema;
    this.#bytes = bytes;
  }

  open(): Message | Malformed {
    return decodeRequest(this.#schema, this.#bytes);
  }
}

/**
 * What the owner of a node says of it: a hub takes it in within bounds of its own, which are not those of a registration, and hands it on
 * as it is. Judged here, one node of one peer would make every listing that it is in unreadable.
 */
const HANDED_ON: ReadonlySet<string> = new Set(["foedus.common.v1.Node", "foedus.registry_sync.v1alpha1.State"]);

/**
 * decodeAnswer reads what another process answered, which is judged by the rules of the schema as a request is: a peer may answer
 * anything. Frames of sessions and ingest streams are judged where they are handled.
 */
export function decodeAnswer(method: DescMethod, bytes: Uint8Array): Message | Malformed {
  const message = decodeRequest(method.output, bytes);
  if (message instanceof Malformed || carriesFrames(method.output)) return message;
  const failure = validateRequest(method.output, message, HANDED_ON);
  if (failure === undefined) return message;
  return new Malformed(
    fail("INVALID_FIELD", `the answer of ${method.name} breaks its schema: ${failure.message}`, { field: failure.field ?? "" }),
  );
}

/** isRequestStream tells whether a caller sends many messages. */
export function isRequestStream(method: DescMethod): boolean {
  return method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
}

/** isResponseStream tells whether a server answers with many messages. */
export function isResponseStream(method: DescMethod): boolean {
  return method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming";
}
