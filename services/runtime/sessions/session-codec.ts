import { create, type DescMessage, type DescMethodBiDiStreaming, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { compileRules } from "#channel/field-rules.ts";
import { encodedSize, trackSize } from "#channel/message-size.ts";
import { asBuffer } from "#channel/messages.ts";
import { validateRequest } from "#channel/validation.ts";
import { type SessionControl, SessionControlSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { AssertionFailure } from "#kernel/assert.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { Failure } from "#kernel/error.ts";
import { type AccessRule, frameRule } from "../rpc/access.ts";

/** Frame is a service's `SessionFrame`: one `oneof frame`, with the common frames under `control`. */
export type Frame = Message & {
  readonly frame: { readonly case: string; readonly value: unknown } | { readonly case: undefined; readonly value?: undefined };
};

/** Envelope is a service's `SessionRequest` or `SessionResponse`: both have the frame as field 1, so their bytes are the same. */
export type Envelope<F extends Frame = Frame> = Message & { frame?: F | undefined };

/** FrameOf is the frame type of a service's envelope. */
export type FrameOf<M> = M extends { frame?: infer F | undefined } ? (F extends Frame ? F : never) : never;

/** Bytes that envelope, frame and small fields may add to a frame's payload. */
const ENVELOPE_BYTES = 1024;
/** Longest control frame: 64 feed heads and a token fit well. */
const CONTROL_MAX_BYTES = 64 * 1024;

/** SessionCodec knows the frames of one service, from its schema alone. */
export interface SessionCodec<F extends Frame> {
  /** control wraps a common frame. */
  control(init: MessageInitShape<typeof SessionControlSchema>): F;
  /** unwrap gives the common frame inside, or undefined for the service's own frames. */
  unwrap(frame: F): SessionControl | undefined;
  /** encode gives the bytes of the envelope, good for both directions. It throws for a message that does not fit its schema. */
  encode(frame: F): Buffer;
  /** open takes a received envelope apart; undefined for an empty one. */
  open(message: Envelope): { readonly frame: F; readonly bytes: number } | undefined;
  /** problem names the field of a received frame that breaks a rule of the schema. Frames that were read by hand were bounded there. */
  problem(frame: F): Failure | undefined;
  /** rule is the access rule of the frame's type; undefined for a type that this software does not know. */
  rule(frame: F): AccessRule | undefined;
  /** maxBytes bounds the envelope that carries this frame. */
  maxBytes(frame: F): number;
}

/** sessionCodec makes the codec of a service's Session RPC. It throws if the schema has not the common shape. */
export function sessionCodec<F extends Frame>(method: DescMethodBiDiStreaming): SessionCodec<F> {
  const { input, output } = method;
  const frameSchema = frameSchemaOf(input);
  if (frameSchemaOf(output) !== frameSchema)
    throw new AssertionFailure("a session's request and response carry different frames", { method: method.name });
  const types = new Map<string, DescMessage>();
  for (const field of frameSchema.fields) if (field.fieldKind === "message") types.set(field.localName, field.message);
  if (types.get("control")?.typeName !== SessionControlSchema.typeName)
    throw new AssertionFailure("a session frame has no control field", { frame: frameSchema.typeName });
  compileRules(frameSchema);
  trackSize(input);
  trackSize(output);
  const controls = new Map(
    SessionControlSchema.fields.flatMap((field) => (field.message === undefined ? [] : [[field.localName, field.message] as const])),
  );
  const typeOf = ({ frame }: F): DescMessage | undefined => {
    if (frame.case !== "control") return types.get(frame.case ?? "");
    return controls.get((frame.value as SessionControl).frame.case ?? "");
  };
  return {
    control: (init) => create(frameSchema, { frame: { case: "control", value: create(SessionControlSchema, init) } }) as unknown as F,
    unwrap: ({ frame }) => (frame.case === "control" ? (frame.value as SessionControl) : undefined),
    encode: (frame) => asBuffer(toBinary(input, create(input, { frame } as Record<string, unknown>))),
    open: (message) => {
      if (message.frame === undefined) return undefined;
      const schema = message.$typeName === input.typeName ? input : output;
      return { frame: message.frame as F, bytes: encodedSize(schema, message) };
    },
    problem: (frame) => (byHand(frame) ? undefined : validateRequest(frameSchema, frame)),
    rule: (frame) => {
      const type = typeOf(frame);
      return type === undefined ? undefined : frameRule(type);
    },
    maxBytes: ({ frame }) => {
      if (frame.case === "control") return CONTROL_MAX_BYTES;
      return (frame.case === "snapshotPart" ? LIMITS.snapshotPartBytes : LIMITS.frameBytes) + ENVELOPE_BYTES;
    },
  };
}

/** byHand tells frames that a service's own decoder made: they are no messages. */
function byHand({ frame }: Frame): boolean {
  return typeof frame.value === "object" && frame.value !== null && !("$typeName" in frame.value);
}

/** LONGEST_FRAME_BYTES bounds any envelope. */
export const LONGEST_FRAME_BYTES = LIMITS.snapshotPartBytes + ENVELOPE_BYTES;

function frameSchemaOf(envelope: DescMessage): DescMessage {
  const field = envelope.fields.find(({ number }) => number === 1);
  if (field?.fieldKind !== "message" || field.localName !== "frame")
    throw new AssertionFailure("a session message carries its frame as field 1", { message: envelope.typeName });
  return field.message;
}
