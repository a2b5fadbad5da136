import { type DescMessage, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { decodeAnswer, decodeRequest, Malformed } from "#channel/messages.ts";
import { validateRequest } from "#channel/validation.ts";
import { ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { FeedKeyStatementSchema, SignedKeyStatementSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";
import { unknownField } from "#runtime/rpc/interceptors/validation.ts";
import { isWireError } from "../../services/command-forwarding/codec/codec.ts";
import { decodeReports, decodeTaskFrame } from "../../services/command-forwarding/codec/executor-codec.ts";
import { decodeStreamRequest, decodeStreamResponse } from "../../services/command-forwarding/codec/stream-codec.ts";
import { parseValue } from "../../services/command-forwarding/codec/value.ts";
import { decodeUpdateFrame } from "../../services/registry-sync/codec/codec.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import { verifyKeyStatement } from "../../services/registry-sync/shell/key.ts";
import { SERVICES } from "../tidy/schema.ts";
import { Generator, type Inner } from "./raw-message.ts";
import { must, Tally, type Target } from "./target.ts";

const METHODS: readonly DescMethod[] = SERVICES.flatMap(({ methods }) => methods);
/** Statements stand in bytes fields. */
const INNER: Inner = new Map([
  ["foedus.registry_sync.segment.v1.SignedKeyStatement.statement", (generator, depth) => generator.message(FeedKeyStatementSchema, depth)],
]);

/** Readers that are written by hand, by the message that they read. Each answers, or throws what its caller answers with a reason. */
const BY_HAND: ReadonlyMap<string, (bytes: Uint8Array) => unknown> = new Map<string, (bytes: Uint8Array) => unknown>([
  ["foedus.command_forwarding.v1alpha1.ExecuteStreamRequest", decodeStreamRequest],
  ["foedus.command_forwarding.v1alpha1.ExecuteStreamResponse", decodeStreamResponse],
  ["foedus.command_forwarding.v1alpha1.AttachExecutorRequest", decodeReports],
  ["foedus.command_forwarding.v1alpha1.AttachExecutorResponse", decodeTaskFrame],
  ["foedus.registry_sync.v1alpha1.UpdateStateRequest", readUpdate],
]);

function readUpdate(bytes: Uint8Array): unknown {
  const frame = decodeUpdateFrame(bytes);
  return frame.kind === "batch" ? segmentCodec.decodeState(frame.state) : frame;
}

/** SchemaTarget is the door of every RPC: bytes to message, the rules of the schema, and what is read by hand against what is generated. */
export class SchemaTarget extends Tally implements Target {
  readonly name = "schema: requests and answers of every RPC";
  readonly weight = 8;

  renew(): void {}

  take(prng: Prng): void {
    const generator = new Generator(prng, undefined, INNER);
    generator.mood();
    const method = generator.pick(METHODS);
    const answer = prng.chance(0.4);
    const desc = answer ? method.output : method.input;
    const bytes = generator.message(desc);
    this.#byHand(desc, bytes);
    this.#value(generator);
    if (prng.chance(0.02)) this.#statement(generator);
    const message = answer ? decodeAnswer(method, bytes) : decodeRequest(desc, bytes);
    if (message instanceof Malformed) return this.refuse(message.error.failure.reason);
    unknownField(desc, message);
    const failure = validateRequest(desc, message);
    if (failure !== undefined) return this.refuse(failure.reason);
    this.#encodes(desc, message);
    this.applied++;
  }

  /** What was taken in can be written again, and is then the same. */
  #encodes(desc: DescMessage, message: Message): void {
    // Frames of commands are no messages once they are read: the target of commands looks at them.
    if (desc.file.name === "foedus/command_forwarding/v1alpha1/session") return;
    const once = toBinary(desc, message);
    must(Buffer.compare(once, toBinary(desc, fromBinary(desc, once))) === 0, `${desc.typeName} is another message when it is read again`);
  }

  #byHand(desc: DescMessage, bytes: Uint8Array): void {
    try {
      BY_HAND.get(desc.typeName)?.(bytes);
    } catch (error) {
      // What the generated code throws for bytes that are no message of that type is an Error of no class of its own.
      if (!isWireError(error) && !(error instanceof FoedusError) && parses(desc, bytes)) throw error;
    }
  }

  /** A value that the door lets pass is one that every reader of it can read. */
  #value(generator: Generator): void {
    const bytes = generator.message(ValueSchema);
    must(
      parseValue(bytes) === undefined || parses(ValueSchema, bytes),
      `a value is taken that others cannot read: ${Buffer.from(bytes).toString("hex")}`,
    );
  }

  #statement(generator: Generator): void {
    const bytes = generator.message(SignedKeyStatementSchema);
    const key = verifyKeyStatement(bytes, { hubId: "peer", bundle: [], revoked: [], nowWall: 1_700_000_000_000 });
    must("reason" in key, "a statement that nobody signed is taken");
  }
}

function parses(desc: DescMessage, bytes: Uint8Array): boolean {
  try {
    fromBinary(desc, bytes);
    return true;
  } catch {
    return false;
  }
}
