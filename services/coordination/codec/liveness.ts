import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type LivenessAck,
  LivenessAckSchema,
  type LivenessHead,
  type LivenessHeadSchema,
  type LivenessNack,
  LivenessNackSchema,
  type LivenessPing,
  type LivenessPingRequest,
  LivenessPingRequestSchema,
  LivenessPingSchema,
  type LivenessSuspect,
  type LivenessSuspectSchema,
} from "#gen/foedus/coordination/v1alpha1/liveness_pb.ts";
import { type Head, type LivenessFrame, PAUSE_MAX, type Suspect } from "../liveness/frames.ts";

/** LivenessBody is a frame as it stands in the `oneof` of a session, whose fields have the names of the cases. */
export type LivenessBody =
  | { readonly case: "livenessPing"; readonly value: LivenessPing }
  | { readonly case: "livenessAck"; readonly value: LivenessAck }
  | { readonly case: "livenessPingRequest"; readonly value: LivenessPingRequest }
  | { readonly case: "livenessNack"; readonly value: LivenessNack };

/** livenessToProto writes a frame. Its numbers are whole and within the bounds of the schema: a detector makes no others. */
export function livenessToProto(frame: LivenessFrame): LivenessBody {
  const head = headToProto(frame);
  const nonce = BigInt(frame.nonce);
  switch (frame.kind) {
    case "ping":
      return { case: "livenessPing", value: create(LivenessPingSchema, { head, nonce, suspects: suspectsToProto(frame.suspects) }) };
    case "ack": {
      const suspects = suspectsToProto(frame.suspects);
      return { case: "livenessAck", value: create(LivenessAckSchema, { head, nonce, subject: frame.subject, suspects }) };
    }
    case "ping_req":
      return { case: "livenessPingRequest", value: create(LivenessPingRequestSchema, { head, nonce, subject: frame.subject }) };
    case "nack":
      return { case: "livenessNack", value: create(LivenessNackSchema, { head, nonce, subject: frame.subject }) };
  }
}

/** livenessFromProto reads a frame; nothing in it has been checked but that its numbers are numbers. */
export function livenessFromProto(body: LivenessBody): LivenessFrame {
  const head = headFromProto(body.value.head);
  const nonce = Number(body.value.nonce);
  switch (body.case) {
    case "livenessPing":
      return { kind: "ping", ...head, nonce, suspects: suspectsFromProto(body.value.suspects) };
    case "livenessAck":
      return { kind: "ack", ...head, nonce, subject: body.value.subject, suspects: suspectsFromProto(body.value.suspects) };
    case "livenessPingRequest":
      return { kind: "ping_req", ...head, nonce, subject: body.value.subject };
    case "livenessNack":
      return { kind: "nack", ...head, nonce, subject: body.value.subject };
  }
}

const SCHEMAS = {
  livenessPing: LivenessPingSchema,
  livenessAck: LivenessAckSchema,
  livenessPingRequest: LivenessPingRequestSchema,
  livenessNack: LivenessNackSchema,
};

/** livenessToBytes writes the message of a frame, without the envelope that says which one it is. */
export function livenessToBytes(body: LivenessBody): Uint8Array {
  return toBinary<(typeof SCHEMAS)[typeof body.case]>(SCHEMAS[body.case], body.value);
}

/** livenessFromBytes reads the message of one kind; it throws if the bytes are none. */
export function livenessFromBytes(kind: LivenessBody["case"], bytes: Uint8Array): LivenessBody {
  return { case: kind, value: fromBinary<(typeof SCHEMAS)[typeof kind]>(SCHEMAS[kind], bytes) } as LivenessBody;
}

function headToProto({ incarnation, seq, pauseMs }: Head): MessageInitShape<typeof LivenessHeadSchema> {
  return { incarnation: BigInt(incarnation), seq: BigInt(seq), pauseMs: Math.min(PAUSE_MAX, pauseMs) };
}

/** A head that is missing reads as one that is refused. */
function headFromProto(head: LivenessHead | undefined): Head {
  return { incarnation: Number(head?.incarnation ?? 0n), seq: Number(head?.seq ?? 0n), pauseMs: head?.pauseMs ?? 0 };
}

function suspectsToProto(suspects: readonly Suspect[]): MessageInitShape<typeof LivenessSuspectSchema>[] {
  return suspects.map(({ hub, incarnation }) => ({ hubId: hub, incarnation: BigInt(incarnation) }));
}

function suspectsFromProto(suspects: readonly LivenessSuspect[]): Suspect[] {
  return suspects.map(({ hubId, incarnation }) => ({ hub: hubId, incarnation: Number(incarnation) }));
}
