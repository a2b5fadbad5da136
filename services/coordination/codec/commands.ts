import { ProtoReader } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { decode, encode, type Shape } from "#kernel/wire/shape.ts";
import { BALLOT_COMMAND } from "../ballots/messages.ts";
import { COMMAND_BYTES } from "../log/batch.ts";
import { MEMBER_COMMAND } from "../members/messages.ts";
import { MIGRATION_COMMAND } from "../migration/shapes.ts";
import type { CommandCodec, LogCommand } from "../state/commands.ts";
import { VALUE_COMMAND } from "../values/messages.ts";
import { decodeResourceCommand, encodeResourceCommand } from "./resources.ts";

/** Numbers of the fields of a LogCommand, by the book. */
const FIELDS = { values: 1, clock: 2, members: 3, ballots: 4, resources: 5, migration: 6 } as const;

/**
 * commandCodec writes commands as the schema has them (LogCommand). Reading is strict, since every hub must come to the same: a command has
 * one encoding, and what is out of bounds or not known is refused.
 */
export const commandCodec: CommandCodec = {
  write: (command) => new ProtoWriter().item(FIELDS[command.book], writeInner(command)).finish(),
  read: (bytes) => {
    const reader = new ProtoReader(bytes);
    const field = reader.next();
    const command = readInner(field, field === 0 ? new Uint8Array() : reader.bytes(COMMAND_BYTES));
    if (reader.next() !== 0) throw new RangeError("a command of two books");
    return command;
  },
};

function writeInner(command: LogCommand): Uint8Array {
  switch (command.book) {
    case "values":
      return encode(VALUE_COMMAND, command.command);
    case "members":
      return encode(MEMBER_COMMAND, command.command);
    case "ballots":
      return encode(BALLOT_COMMAND, command.command);
    case "resources":
      return encodeResourceCommand(command.command);
    case "migration":
      return encode(MIGRATION_COMMAND, command.command);
    case "clock":
      return new Uint8Array();
  }
}

function readInner(field: number, bytes: Uint8Array): LogCommand {
  switch (field) {
    case FIELDS.values:
      return { book: "values", command: strictly(VALUE_COMMAND, bytes) };
    case FIELDS.members:
      return { book: "members", command: strictly(MEMBER_COMMAND, bytes) };
    case FIELDS.ballots:
      return { book: "ballots", command: strictly(BALLOT_COMMAND, bytes) };
    case FIELDS.resources:
      return { book: "resources", command: decodeResourceCommand(bytes) };
    case FIELDS.migration:
      return { book: "migration", command: strictly(MIGRATION_COMMAND, bytes) };
    case FIELDS.clock:
      if (bytes.length > 0) throw new RangeError("a clock command has nothing in it");
      return { book: "clock" };
    default:
      throw new RangeError("a command of a kind that this version does not know");
  }
}

/** strictly decodes a value of a shape, or throws what is wrong with the bytes. */
export function strictly<T>(shape: Shape<T>, bytes: Uint8Array): T {
  const decoded = decode(shape, bytes);
  if (!decoded.ok) throw new RangeError(decoded.problem);
  return decoded.value;
}
