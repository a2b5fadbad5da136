import { LIMITS } from "#kernel/bounds/limits.ts";
import type { Crypto } from "#kernel/crypto.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { copyOf, inDomain } from "#kernel/wire/bytes.ts";
import { ProtoReader } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";

/** FEDERATION_ID_BYTES is the length of a federation's short id: the start of the digest of its founding statement. */
export const FEDERATION_ID_BYTES = 16;

/** BATCH_COMMANDS bounds the commands of one batch. */
export const BATCH_COMMANDS = 1_024;
/** BATCH_BYTES bounds all of them together: they fit into one frame with room to spare. */
export const BATCH_BYTES = 128 * 1024;
/** COMMAND_BYTES bounds one command. */
export const COMMAND_BYTES = 120 * 1024;

/** Bytes of a batch with all that goes around its commands. */
const ENCODED_BYTES = BATCH_BYTES + 8 * BATCH_COMMANDS + 256;

const SIGNATURE_BYTES = 64;

/**
 * AuthorBatch is what one hub wants decided in one go: commands with consecutive numbers, under one signature.
 *
 * A hub numbers its commands per session, from 1. A session begins with each start of the hub and is larger than those before it, so that
 * a number and a session name one command for ever, however often it is sent. It counts as long as the author is a member with the replica
 * that wrote it: what is left of a membership that ended means nothing in a later one, of which the numbers begin anew.
 */
export interface AuthorBatch {
  /** The federation, FEDERATION_ID_BYTES long: what was written for one means nothing in another. */
  readonly federation: Uint8Array;
  /** Hub id of the author. */
  readonly author: string;
  /** Of the author's replica, from 1. */
  readonly incarnation: number;
  readonly session: number;
  /** Number of the first command; the others follow. */
  readonly first: number;
  readonly commands: readonly Uint8Array[];
}

/** SignedBatch is a batch as it stands in the log. */
export interface SignedBatch {
  readonly batch: AuthorBatch;
  /** The bytes that are signed. */
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

/** writeBatch encodes and signs a batch with this hub's key; what it gives is the payload of a log entry. */
export function writeBatch(batch: AuthorBatch, crypto: Pick<Crypto, "sign">): Uint8Array {
  const writer = new ProtoWriter().bytes(1, batch.federation).text(2, batch.author).uint(3, batch.session).uint(4, batch.first);
  for (const command of batch.commands) writer.item(5, command);
  const body = writer.uint(6, batch.incarnation).finish();
  return new ProtoWriter()
    .bytes(1, body)
    .bytes(2, crypto.sign(signedBytes(body)))
    .finish();
}

/** readBatch reads the payload of a log entry; it throws a WireError or RangeError if that is none. The signature is not checked. */
export function readBatch(payload: Uint8Array): SignedBatch {
  const reader = new ProtoReader(payload);
  let body: Uint8Array = new Uint8Array();
  let signature: Uint8Array = new Uint8Array();
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) body = copyOf(reader.bytes(ENCODED_BYTES));
    else if (field === 2) signature = copyOf(reader.bytes(SIGNATURE_BYTES));
    else reader.unknown();
  if (signature.length !== SIGNATURE_BYTES) throw new RangeError(`a signature of ${signature.length} bytes`);
  return { batch: readBody(body), signed: signedBytes(body), signature };
}

function readBody(body: Uint8Array): AuthorBatch {
  const reader = new ProtoReader(body);
  const commands: Uint8Array[] = [];
  let federation: Uint8Array = new Uint8Array();
  let [author, session, first, incarnation, bytes] = ["", 0, 0, 0, 0];
  for (let field = reader.next(); field !== 0; field = reader.next())
    switch (field) {
      case 1:
        federation = copyOf(reader.bytes(FEDERATION_ID_BYTES));
        break;
      case 2:
        author = reader.text(LIMITS.idLength);
        break;
      case 3:
        session = reader.uint();
        break;
      case 4:
        first = reader.uint();
        break;
      case 5: {
        const command = reader.bytes(COMMAND_BYTES);
        bytes += command.length;
        commands.push(command);
        break;
      }
      case 6:
        incarnation = reader.uint();
        break;
      default:
        reader.unknown();
    }
  if (federation.length !== FEDERATION_ID_BYTES) throw new RangeError(`a federation id of ${federation.length} bytes`);
  if (!isHubId(author)) throw new RangeError("an author that is no hub id");
  if (session === 0 || first === 0 || incarnation === 0) throw new RangeError("replicas, sessions and commands are numbered from 1");
  if (commands.length === 0 || commands.length > BATCH_COMMANDS || bytes > BATCH_BYTES)
    throw new RangeError(`${commands.length} commands of ${bytes} bytes`);
  if (first + commands.length > Number.MAX_SAFE_INTEGER) throw new RangeError("numbers of commands above 2^53");
  return { federation, author, incarnation, session, first, commands };
}

function signedBytes(body: Uint8Array): Uint8Array {
  return inDomain("foedus.log-batch.v1", body);
}
