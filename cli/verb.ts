import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { ErrorReasonSchema, type Failure } from "#gen/foedus/common/v1/error_pb.ts";
import { Freshness, FreshnessSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { FoedusError, REASONS } from "#kernel/error.ts";
import { printableJson } from "#kernel/printable.ts";
import type { ExitCode } from "./exit.ts";
import type { Io } from "./io.ts";
import { label } from "./print/format.ts";
import type { Cell } from "./print/table.ts";

/** OutputFlags are the options that every verb has. */
export interface OutputFlags {
  /** Machine output: one JSON document, or one per line for streams. */
  readonly json?: boolean;
  /** Names or values only, and no notes. */
  readonly quiet?: boolean;
}

/** ConnectionFlags are the options that every operator's verb has. */
export interface ConnectionFlags {
  readonly hub?: string;
  /** `host:port`, or `service=host:port` for each service in split mode. */
  readonly address?: readonly string[];
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly contexts?: string;
  readonly timeout?: string;
}

/** OperatorFlags are the options of verbs that talk to a hub. */
export type OperatorFlags = ConnectionFlags & OutputFlags;

/** Verb is what a verb's file exports as `run`. Nothing returned means EXIT.ok. */
export type Verb<Options> = (io: Io, args: readonly string[], options: Options) => Promise<ExitCode | undefined>;

/** messageJson gives a message as JSON (ProtoJSON) with the field names of the schema, fields with default values included. */
export function messageJson<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): object {
  return toJson(schema, message, { useProtoFieldName: true, alwaysEmitImplicit: true }) as object;
}

/** printJson writes one document: indented for lists and details, on one line for streams. */
export function printJson(io: Io, value: object, shape: "document" | "line" = "document"): Promise<void> {
  return io.out(`${printableJson(JSON.stringify(value, undefined, shape === "line" ? undefined : 2))}\n`);
}

/** failureError turns a Failure inside an answer into what an RPC would have thrown. */
export function failureError(failure: Failure): FoedusError {
  const name = ErrorReasonSchema.value[failure.reason]?.name.slice("ERROR_REASON_".length) ?? "";
  const reason = REASONS.find((known) => known === name) ?? "INTERNAL";
  return new FoedusError({ reason, message: failure.message, ...(failure.field === "" ? {} : { field: failure.field }) });
}

/** freshnessCell shows how far an answer may be trusted: what is not fresh stands out. */
export function freshnessCell(freshness: Freshness): Cell {
  const style = freshness === Freshness.FRESH ? "green" : freshness === Freshness.STALE ? "yellow" : "red";
  return { text: label(FreshnessSchema, freshness), style };
}
