import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type MigrationAsk,
  MigrationAskSchema,
  type MigrationConfirm,
  MigrationConfirmSchema,
  type MigrationFinished,
  MigrationFinishedSchema,
  type MigrationHave,
  MigrationHaveSchema,
  type MigrationManifest,
  MigrationManifestSchema,
  type MigrationMissing,
  MigrationMissingSchema,
  type MigrationParcel,
  MigrationParcelSchema,
} from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { frameProblem, type MigrationFrame } from "../migration/frames.ts";

/** MigrationProto is a frame of a migration as a session's `oneof` has it: the name of the field, and its message. */
export type MigrationProto =
  | { readonly case: "migrationManifest"; readonly value: MigrationManifest }
  | { readonly case: "migrationMissing"; readonly value: MigrationMissing }
  | { readonly case: "migrationParcel"; readonly value: MigrationParcel }
  | { readonly case: "migrationHave"; readonly value: MigrationHave }
  | { readonly case: "migrationAsk"; readonly value: MigrationAsk }
  | { readonly case: "migrationFinished"; readonly value: MigrationFinished }
  | { readonly case: "migrationConfirm"; readonly value: MigrationConfirm };

/** migrationToProto writes a frame. */
export function migrationToProto(frame: MigrationFrame): MigrationProto {
  const transfer = BigInt(frame.transfer);
  switch (frame.kind) {
    case "manifest": {
      const { bytes: manifest, signature, claim } = frame;
      const init: MessageInitShape<typeof MigrationManifestSchema> = { transfer, manifest, signature, claim };
      return { case: "migrationManifest", value: create(MigrationManifestSchema, init) };
    }
    case "missing": {
      const init = { transfer, round: BigInt(frame.round), numbers: [...frame.numbers] };
      return { case: "migrationMissing", value: create(MigrationMissingSchema, init) };
    }
    case "parcel": {
      const { enc, sealed } = frame;
      const init = { transfer, round: BigInt(frame.round), numbers: [...frame.numbers], enc, sealed };
      return { case: "migrationParcel", value: create(MigrationParcelSchema, init) };
    }
    case "have":
      return { case: "migrationHave", value: create(MigrationHaveSchema, { transfer, round: BigInt(frame.round) }) };
    case "ask":
      return { case: "migrationAsk", value: create(MigrationAskSchema, { transfer }) };
    case "finished":
      return { case: "migrationFinished", value: create(MigrationFinishedSchema, { transfer, fence: BigInt(frame.fence) }) };
    case "confirm":
      return { case: "migrationConfirm", value: create(MigrationConfirmSchema, { transfer, fence: BigInt(frame.fence) }) };
  }
}

/** migrationFromProto reads a frame that came: INVALID_FIELD with the field for one that is out of its bounds. Bytes are views of the message. */
export function migrationFromProto(proto: MigrationProto): MigrationFrame | Failure {
  const frame = plain(proto);
  return frameProblem(frame) ?? frame;
}

function plain(proto: MigrationProto): MigrationFrame {
  const transfer = Number(proto.value.transfer);
  switch (proto.case) {
    case "migrationManifest": {
      const { manifest: bytes, signature, claim } = proto.value;
      return { kind: "manifest", transfer, bytes, signature, claim };
    }
    case "migrationMissing":
      return { kind: "missing", transfer, round: Number(proto.value.round), numbers: proto.value.numbers };
    case "migrationParcel": {
      const { round, numbers, enc, sealed } = proto.value;
      return { kind: "parcel", transfer, round: Number(round), numbers, enc, sealed };
    }
    case "migrationHave":
      return { kind: "have", transfer, round: Number(proto.value.round) };
    case "migrationAsk":
      return { kind: "ask", transfer };
    case "migrationFinished":
      return { kind: "finished", transfer, fence: Number(proto.value.fence) };
    case "migrationConfirm":
      return { kind: "confirm", transfer, fence: Number(proto.value.fence) };
  }
}
