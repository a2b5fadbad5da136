import { create } from "@bufbuild/protobuf";
import { failureFromProto, failureToProto } from "#channel/failure.ts";
import { type SessionFrame, SessionFrameSchema } from "#gen/foedus/coordination/v1alpha1/session_pb.ts";
import { decode, encode } from "#kernel/wire/shape.ts";
import { hubOf, replicaIdOf } from "../log/engine.ts";
import type { ReplicaFrame } from "../log/replica-messages.ts";
import { CANDIDATE, SIGNED_FOUNDING } from "../members/messages.ts";
import type { EngineFrame, FormationFrame, Frame, Greeting } from "../messages.ts";
import { engineBytes, readEngineFrame } from "./engines/engine-frames.ts";
import { lendingToProto, reportFromProto } from "./lending.ts";
import { livenessFromProto, livenessToProto } from "./liveness.ts";
import { migrationFromProto, migrationToProto } from "./migration.ts";
import { readShared, writeShared } from "./shared.ts";

type FrameInit = NonNullable<Parameters<typeof create<typeof SessionFrameSchema>>[1]>["frame"];

/** frameToProto writes a frame for a session. */
export function frameToProto(frame: Frame): SessionFrame {
  return create(SessionFrameSchema, { frame: initOf(frame) as NonNullable<FrameInit> });
}

function initOf(frame: Frame): FrameInit {
  switch (frame.kind) {
    case "greeting":
      return { case: "greeting", value: greetingInit(frame) };
    case "dismissed":
      return { case: "dismissed", value: { federation: frame.federation, incarnation: BigInt(frame.incarnation) } };
    case "liveness":
      return livenessToProto(frame.frame);
    case "lending":
      return lendingToProto(frame.frame);
    case "shared":
      return writeShared(frame.federation, frame.frame);
    case "migration":
      return migrationToProto(frame.frame);
    case "log":
      return logInit(frame.federation, frame.frame);
    default:
      return formationInit(frame);
  }
}

function greetingInit({ candidate, federation, incarnation, life, remembered, members }: Greeting) {
  return {
    ...(candidate === undefined ? {} : { candidate: encode(CANDIDATE, candidate) }),
    federation,
    incarnation: BigInt(incarnation),
    life: BigInt(life),
    rememberedLife: BigInt(remembered.life),
    rememberedIndex: BigInt(remembered.index),
    rememberedTerm: BigInt(remembered.term),
    rememberedIncarnation: BigInt(remembered.incarnation),
    members: [...members],
  };
}

function logInit(federation: Uint8Array, frame: ReplicaFrame<EngineFrame>): FrameInit {
  switch (frame.kind) {
    case "engine": {
      const [from, to] = [incarnationOf(frame.from), incarnationOf(frame.to)];
      return { case: "engine", value: { federation, from, to, ...engineBytes(frame.frame) } };
    }
    case "propose":
      return { case: "propose", value: { federation, payload: frame.payload } };
    case "declined": {
      const { session, first, leader, failure } = frame;
      return {
        case: "declined",
        value: { federation, session: BigInt(session), first: BigInt(first), leader, failure: failureToProto(failure) },
      };
    }
    case "read_ask":
      return { case: "readAsk", value: { federation, id: BigInt(frame.id) } };
    case "lead_ask":
      return { case: "leadAsk", value: { federation, id: BigInt(frame.id), toHubId: frame.to } };
    case "lead_answer": {
      const failure = frame.failure === undefined ? {} : { failure: failureToProto(frame.failure) };
      return { case: "leadAnswer", value: { federation, id: BigInt(frame.id), ...failure } };
    }
    case "read_answer": {
      const failure = frame.failure === undefined ? {} : { failure: failureToProto(frame.failure) };
      return { case: "readAnswer", value: { federation, id: BigInt(frame.id), index: BigInt(frame.index), ...failure } };
    }
  }
}

function formationInit(frame: FormationFrame): FrameInit {
  switch (frame.kind) {
    case "founding_offer": {
      const founding = frame.founding === undefined ? {} : { founding: encode(SIGNED_FOUNDING, frame.founding) };
      return { case: "foundingOffer", value: { federationId: frame.federationId, ...founding } };
    }
    case "founding_consent": {
      const signature = frame.signature === undefined ? {} : { signature: frame.signature };
      return { case: "foundingConsent", value: { federationId: frame.federationId, ...signature } };
    }
    case "founded":
      return {
        case: "founded",
        value: {
          founding: encode(SIGNED_FOUNDING, frame.founding),
          incarnation: BigInt(frame.incarnation),
          voters: frame.voters.map(({ incarnation, ...voter }) => ({ ...voter, incarnation: BigInt(incarnation) })),
        },
      };
    case "join_ask": {
      const { federationId, candidate, signature } = frame;
      return { case: "joinAsk", value: { federationId, candidate: encode(CANDIDATE, candidate), signature } };
    }
    case "join_answer": {
      const { federationId, incarnation } = frame;
      const failure = frame.failure === undefined ? {} : { failure: failureToProto(frame.failure) };
      return { case: "joinAnswer", value: { federationId, incarnation: BigInt(incarnation), ...failure } };
    }
  }
}

function incarnationOf(replica: string): bigint {
  return BigInt(replica.slice(hubOf(replica).length + 1));
}

/**
 * frameFromProto reads a frame that `peer` sent to `self`; undefined for one that is malformed inside or of a kind that this version does not
 * know. Bounds of the schema were checked by the session.
 */
export function frameFromProto({ frame }: SessionFrame, peer: string, self: string): Frame | undefined {
  switch (frame.case) {
    case "greeting":
      return greetingOf(frame.value);
    case "dismissed":
      return { kind: "dismissed", federation: frame.value.federation, incarnation: Number(frame.value.incarnation) };
    case "engine":
    case "propose":
    case "declined":
    case "readAsk":
    case "readAnswer":
    case "leadAsk":
    case "leadAnswer": {
      const inner = replicaFrameOf(frame, peer, self);
      return inner === undefined ? undefined : { kind: "log", federation: frame.value.federation, frame: inner };
    }
    case "livenessPing":
    case "livenessAck":
    case "livenessPingRequest":
    case "livenessNack":
      return { kind: "liveness", frame: livenessFromProto(frame) };
    case "lendingReportAsk":
      return { kind: "lending", frame: { kind: "report_ask", id: Number(frame.value.id) } };
    case "lendingReport":
      return { kind: "lending", frame: reportFromProto(frame.value) };
    case "sharedHeads":
    case "sharedPart":
    case "sharedWant": {
      const shared = readShared(frame);
      return shared === undefined ? undefined : { kind: "shared", federation: frame.value.federation, frame: shared };
    }
    case "migrationManifest":
    case "migrationMissing":
    case "migrationParcel":
    case "migrationHave":
    case "migrationAsk":
    case "migrationFinished":
    case "migrationConfirm": {
      const inner = migrationFromProto(frame);
      return "reason" in inner ? undefined : { kind: "migration", frame: inner };
    }
    default:
      return formationFrameOf(frame);
  }
}

type Case<C extends SessionFrame["frame"]["case"]> = Extract<SessionFrame["frame"], { case: C }>;

function greetingOf(value: Case<"greeting">["value"]): Greeting | undefined {
  const candidate = value.candidate.length === 0 ? undefined : decode(CANDIDATE, value.candidate);
  if (candidate?.ok === false) return undefined;
  const { federation, incarnation, life } = value;
  return {
    kind: "greeting",
    candidate: candidate?.value,
    federation,
    incarnation: Number(incarnation),
    life: Number(life),
    remembered: {
      incarnation: Number(value.rememberedIncarnation),
      life: Number(value.rememberedLife),
      term: Number(value.rememberedTerm),
      index: Number(value.rememberedIndex),
    },
    members: value.members,
  };
}

function replicaFrameOf(
  frame: Case<"engine" | "propose" | "declined" | "readAsk" | "readAnswer" | "leadAsk" | "leadAnswer">,
  peer: string,
  self: string,
): ReplicaFrame<EngineFrame> | undefined {
  switch (frame.case) {
    case "engine": {
      const inner = readEngineFrame(frame.value.raft, frame.value.bft);
      if (inner === undefined) return undefined;
      const [from, to] = [replicaIdOf(peer, Number(frame.value.from)), replicaIdOf(self, Number(frame.value.to))];
      return { kind: "engine", from, to, frame: inner };
    }
    case "propose":
      return { kind: "propose", payload: frame.value.payload };
    case "declined": {
      const { session, first, leader, failure } = frame.value;
      if (failure === undefined) return undefined;
      return { kind: "declined", session: Number(session), first: Number(first), leader, failure: failureFromProto(failure) };
    }
    case "readAsk":
      return { kind: "read_ask", id: Number(frame.value.id) };
    case "leadAsk":
      return { kind: "lead_ask", id: Number(frame.value.id), to: frame.value.toHubId };
    case "leadAnswer": {
      const { id, failure } = frame.value;
      return { kind: "lead_answer", id: Number(id), failure: failure === undefined ? undefined : failureFromProto(failure) };
    }
    case "readAnswer": {
      const { id, index, failure } = frame.value;
      return {
        kind: "read_answer",
        id: Number(id),
        index: Number(index),
        failure: failure === undefined ? undefined : failureFromProto(failure),
      };
    }
  }
}

function formationFrameOf(frame: SessionFrame["frame"]): FormationFrame | undefined {
  switch (frame.case) {
    case "foundingOffer": {
      const founding = frame.value.founding.length === 0 ? undefined : decode(SIGNED_FOUNDING, frame.value.founding);
      if (founding?.ok === false) return undefined;
      return { kind: "founding_offer", federationId: frame.value.federationId, founding: founding?.value };
    }
    case "foundingConsent": {
      const { federationId, signature } = frame.value;
      return { kind: "founding_consent", federationId, signature: signature.length === 0 ? undefined : signature };
    }
    case "founded": {
      const founding = decode(SIGNED_FOUNDING, frame.value.founding);
      if (!founding.ok) return undefined;
      const voters = frame.value.voters.map(({ hubId, incarnation, publicKey }) => ({
        hubId,
        incarnation: Number(incarnation),
        publicKey,
      }));
      return { kind: "founded", founding: founding.value, incarnation: Number(frame.value.incarnation), voters };
    }
    case "joinAsk": {
      const candidate = decode(CANDIDATE, frame.value.candidate);
      const { federationId, signature } = frame.value;
      return candidate.ok ? { kind: "join_ask", federationId, candidate: candidate.value, signature } : undefined;
    }
    case "joinAnswer": {
      const { federationId, failure, incarnation } = frame.value;
      return {
        kind: "join_answer",
        federationId,
        failure: failure === undefined ? undefined : failureFromProto(failure),
        incarnation: Number(incarnation),
      };
    }
    default:
      return undefined;
  }
}
