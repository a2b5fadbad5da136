import { ProtoReader, WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { type Amounts, DIMENSIONS } from "../resources/amounts.ts";
import { type Offer, ON_DISCONNECT, type Policy, PRIORITIES, type ResourceCommand, type Terms } from "../resources/commands.ts";
import { HOLDS, type Kind, NETWORKS, type Want, WORKS } from "../resources/kinds.ts";
import { AGENTS_MAX, CONTEXT_LENGTH, LEASES_MAX, MODELS_MAX, TYPES_MAX } from "../resources/rules.ts";

/** Bytes of a name, of a message within a command, and of a command. */
const NAME_BYTES = 63;
const PART_BYTES = 64 * 1024;

/** RESOURCE_COMMAND_BYTES bounds a command. */
export const RESOURCE_COMMAND_BYTES = 128 * 1024;

type Command<K extends ResourceCommand["kind"]> = Extract<ResourceCommand, { kind: K }>;
type Write = (writer: ProtoWriter) => void;

/** Fields of the oneof of ResourceCommand, in the order of the schema. */
const KINDS = [
  ...(["policy", "offer", "withdraw", "quota", "request", "counter", "accept", "decline", "confirm"] as const),
  ...(["renew", "release", "reclaim", "stopped", "refence"] as const),
];

/** Reading is values of fields by number, as they are read. */
export type Reading = ReadonlyMap<number, unknown>;

/** fieldsOf reads a message: `read` tells how each field is read, and a field that is not repeated is there once. */
export function fieldsOf(
  reader: ProtoReader,
  read: Readonly<Record<number, (reader: ProtoReader) => unknown>>,
  lists: readonly number[] = [],
): Reading {
  const values = new Map<number, unknown>();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    const one = read[field];
    if (one === undefined) return reader.unknown();
    const value = one(reader);
    if (lists.includes(field)) values.set(field, [...((values.get(field) as unknown[] | undefined) ?? []), value]);
    else if (values.has(field)) throw new WireError(`field ${field} is there twice`);
    else values.set(field, value);
  }
  return values;
}

/** uintIn, textIn and so on are how a field is read, and what it is when it is not there. */
export const uintIn = (reader: ProtoReader): number => reader.uint();
export const boolIn = (reader: ProtoReader): boolean => reader.bool();
export const textIn = (reader: ProtoReader): string => reader.text(NAME_BYTES);
export const contextIn = (reader: ProtoReader): string => reader.text(4 * CONTEXT_LENGTH);

/** messageIn reads a message in a field. */
export function messageIn<T>(read: (reader: ProtoReader) => T, most = PART_BYTES): (reader: ProtoReader) => T {
  return (reader) => reader.message(most, read);
}

/** uintOf, boolOf, textOf and listOf give a field of a message; its default where it is left out. */
export const uintOf = (values: Reading, field: number): number => (values.get(field) as number | undefined) ?? 0;
export const boolOf = (values: Reading, field: number): boolean => values.get(field) === true;
export const textOf = (values: Reading, field: number): string => (values.get(field) as string | undefined) ?? "";
export const listOf = <T>(values: Reading, field: number): T[] => (values.get(field) as T[] | undefined) ?? [];

/** partOf is a message in a field, which must be there. */
export function partOf<T>(values: Reading, field: number): T {
  if (!values.has(field)) throw new WireError(`field ${field} is missing`);
  return values.get(field) as T;
}

/** wordOf is a word that is written as a number, from 1 on. */
export function wordOf<W extends string>(values: Reading, field: number, words: readonly W[]): W {
  const word = words[uintOf(values, field) - 1];
  if (word === undefined) throw new WireError(`field ${field} is none of ${words.join(", ")}`);
  return word;
}

/** wordNumber writes a word. */
export function wordNumber<W extends string>(words: readonly W[], word: W | undefined): number {
  return word === undefined ? 0 : words.indexOf(word) + 1;
}

/** writeAmounts and readAmounts write and read a vector (ResourceAmounts). */
export const writeAmounts =
  (amounts: Amounts): Write =>
  (writer) => {
    for (const [i, amount] of amounts.entries()) writer.uint(i + 1, amount);
  };

const DIMENSION_FIELDS = Object.fromEntries(DIMENSIONS.map((_, i) => [i + 1, uintIn]));

export function readAmounts(reader: ProtoReader): Amounts {
  const values = fieldsOf(reader, DIMENSION_FIELDS);
  return DIMENSIONS.map((_, i) => uintOf(values, i + 1));
}

function texts(writer: ProtoWriter, field: number, values: readonly string[]): void {
  for (const value of values) writer.textItem(field, value);
}

const writeKind =
  (what: Kind): Write =>
  (writer) => {
    switch (what.kind) {
      case "agent":
        return void writer.message(1, (inner) => texts(inner.text(1, what.type), 2, what.agents));
      case "compute":
        return void writer.message(2, (inner) => {
          texts(inner.uint(1, wordNumber(WORKS, what.work)), 2, what.models);
          inner.uint(3, what.maxBatch).uint(4, what.horizonMs);
        });
      case "storage":
        return void writer.message(3, (inner) =>
          inner.uint(1, wordNumber(HOLDS, what.holds)).uint(2, what.retentionMs).uint(3, what.replication),
        );
      case "network":
        return void writer.message(4, (inner) => inner.uint(1, wordNumber(NETWORKS, what.mode)));
    }
  };

function limited<T>(values: T[], most: number): T[] {
  if (values.length > most) throw new WireError(`a list has more than ${most} items`);
  return values;
}

/** oneOf is the only field of a message. */
function oneOf<T>(values: Reading): T {
  if (values.size !== 1) throw new WireError("a message is of one kind");
  return values.values().next().value as T;
}

function readKind(reader: ProtoReader): Kind {
  const agent = messageIn((inner): Kind => {
    const values = fieldsOf(inner, { 1: textIn, 2: textIn }, [2]);
    return { kind: "agent", type: textOf(values, 1), agents: limited(listOf<string>(values, 2), AGENTS_MAX) };
  });
  const compute = messageIn((inner): Kind => {
    const values = fieldsOf(inner, { 1: uintIn, 2: textIn, 3: uintIn, 4: uintIn }, [2]);
    const models = limited(listOf<string>(values, 2), MODELS_MAX);
    return { kind: "compute", work: wordOf(values, 1, WORKS), models, maxBatch: uintOf(values, 3), horizonMs: uintOf(values, 4) };
  });
  const storage = messageIn((inner): Kind => {
    const values = fieldsOf(inner, { 1: uintIn, 2: uintIn, 3: uintIn });
    return { kind: "storage", holds: wordOf(values, 1, HOLDS), retentionMs: uintOf(values, 2), replication: uintOf(values, 3) };
  });
  const network = messageIn((inner): Kind => ({ kind: "network", mode: wordOf(fieldsOf(inner, { 1: uintIn }), 1, NETWORKS) }));
  return oneOf<Kind>(fieldsOf(reader, { 1: agent, 2: compute, 3: storage, 4: network }));
}

const writeWant =
  (want: Want): Write =>
  (writer) => {
    switch (want.kind) {
      case "agent":
        return void writer.message(1, (inner) => inner.text(1, want.type));
      case "compute":
        return void writer.message(2, (inner) =>
          inner.uint(1, wordNumber(WORKS, want.work)).text(2, want.model).uint(3, want.batch).uint(4, want.horizonMs),
        );
      case "storage":
        return void writer.message(3, (inner) => inner.uint(1, wordNumber(HOLDS, want.holds)).uint(2, want.replication));
      case "network":
        return void writer.message(4, (inner) => inner.uint(1, wordNumber(NETWORKS, want.mode)));
    }
  };

function readWant(reader: ProtoReader): Want {
  const agent = messageIn((inner): Want => ({ kind: "agent", type: textOf(fieldsOf(inner, { 1: textIn }), 1) }));
  const compute = messageIn((inner): Want => {
    const values = fieldsOf(inner, { 1: uintIn, 2: textIn, 3: uintIn, 4: uintIn });
    const [model, batch, horizonMs] = [textOf(values, 2), uintOf(values, 3), uintOf(values, 4)];
    return { kind: "compute", work: wordOf(values, 1, WORKS), model, batch, horizonMs };
  });
  const storage = messageIn((inner): Want => {
    const values = fieldsOf(inner, { 1: uintIn, 2: uintIn });
    return { kind: "storage", holds: wordOf(values, 1, HOLDS), replication: uintOf(values, 2) };
  });
  const network = messageIn((inner): Want => ({ kind: "network", mode: wordOf(fieldsOf(inner, { 1: uintIn }), 1, NETWORKS) }));
  return oneOf<Want>(fieldsOf(reader, { 1: agent, 2: compute, 3: storage, 4: network }));
}

/** writePolicy and readPolicy write and read a policy (ResourcePolicy). */
export const writePolicy =
  (policy: Policy): Write =>
  (writer) => {
    const { storage } = policy;
    texts(writer.uint(1, policy.maxAgents).uint(2, policy.maxDurationMs), 3, policy.allowedTypes);
    writer.uint(4, policy.maxUtilization).uint(5, wordNumber(PRIORITIES, policy.priority)).bool(6, policy.preemption);
    writer.uint(7, storage.maxMb).uint(8, storage.retentionMs).uint(9, storage.replication);
    writer.uint(10, wordNumber(ON_DISCONNECT, policy.onDisconnect));
  };

export function readPolicy(reader: ProtoReader): Policy {
  const numbers = { 1: uintIn, 2: uintIn, 4: uintIn, 5: uintIn, 7: uintIn, 8: uintIn, 9: uintIn, 10: uintIn };
  const values = fieldsOf(reader, { ...numbers, 3: textIn, 6: boolIn }, [3]);
  return {
    maxAgents: uintOf(values, 1),
    maxDurationMs: uintOf(values, 2),
    allowedTypes: limited(listOf<string>(values, 3), TYPES_MAX),
    maxUtilization: uintOf(values, 4),
    priority: wordOf(values, 5, PRIORITIES),
    preemption: boolOf(values, 6),
    storage: { maxMb: uintOf(values, 7), retentionMs: uintOf(values, 8), replication: uintOf(values, 9) },
    onDisconnect: wordOf(values, 10, ON_DISCONNECT),
  };
}

/** writeOffer and readOffer write and read an offer (ResourceOffer). */
export const writeOffer =
  (offer: Offer): Write =>
  (writer) => {
    writer.text(1, offer.name).message(2, writeKind(offer.what)).message(3, writeAmounts(offer.capacity));
    writer.bool(4, offer.shared).message(5, writeAmounts(offer.prices)).bool(6, offer.automatic);
  };

export function readOffer(reader: ProtoReader): Offer {
  const amounts = messageIn(readAmounts);
  const values = fieldsOf(reader, { 1: textIn, 2: messageIn(readKind), 3: amounts, 4: boolIn, 5: amounts, 6: boolIn });
  return {
    name: textOf(values, 1),
    what: partOf<Kind>(values, 2),
    capacity: partOf<Amounts>(values, 3),
    shared: boolOf(values, 4),
    prices: partOf<Amounts>(values, 5),
    automatic: boolOf(values, 6),
  };
}

/** writeTerms and readTerms write and read terms (LeaseTerms). */
export const writeTerms =
  (terms: Terms): Write =>
  (writer) => {
    writer.message(1, writeAmounts(terms.amounts)).uint(2, terms.durationMs).uint(3, terms.costMicro);
  };

export function readTerms(reader: ProtoReader): Terms {
  const values = fieldsOf(reader, { 1: messageIn(readAmounts), 2: uintIn, 3: uintIn });
  return { amounts: partOf<Amounts>(values, 1), durationMs: uintOf(values, 2), costMicro: uintOf(values, 3) };
}

/** writeRequest and readRequest write and read a request (RequestResource). */
export const writeRequest =
  (command: Command<"request">): Write =>
  (writer) => {
    writer.text(1, command.id).text(2, command.owner).text(3, command.name).message(4, writeWant(command.want));
    writer.message(5, writeAmounts(command.amounts)).uint(6, command.durationMs).uint(7, wordNumber(PRIORITIES, command.priority));
    writer.text(8, command.context).uint(9, command.maxCostMicro).uint(10, command.waitMs);
  };

export function readRequest(reader: ProtoReader): Command<"request"> {
  const texts = { 1: textIn, 2: textIn, 3: textIn, 8: contextIn };
  const numbers = { 6: uintIn, 7: uintIn, 9: uintIn, 10: uintIn };
  const values = fieldsOf(reader, { ...texts, ...numbers, 4: messageIn(readWant), 5: messageIn(readAmounts) });
  return {
    ...{ kind: "request", id: textOf(values, 1), owner: textOf(values, 2), name: textOf(values, 3), want: partOf<Want>(values, 4) },
    ...{ amounts: partOf<Amounts>(values, 5), durationMs: uintOf(values, 6), priority: wordOf(values, 7, PRIORITIES) },
    ...{ context: textOf(values, 8), maxCostMicro: uintOf(values, 9), waitMs: uintOf(values, 10) },
  };
}

function writeCommand(command: ResourceCommand, writer: ProtoWriter): unknown {
  switch (command.kind) {
    case "policy":
      return writer.message(1, writePolicy(command.policy));
    case "offer":
      return writer.message(1, writeOffer(command.offer));
    case "withdraw":
    case "refence":
      return writer.text(1, command.name);
    case "quota":
      writer.text(1, command.name).text(2, command.borrower);
      return writer.message(3, writeAmounts(command.nominal)).message(4, writeAmounts(command.limit));
    case "request":
      return writeRequest(command)(writer);
    case "counter":
      return writer.text(1, command.borrower).text(2, command.id).uint(3, command.round).message(4, writeTerms(command.terms));
    case "accept":
      return writer.text(1, command.borrower).text(2, command.id).uint(3, command.round);
    case "decline":
      return writer.text(1, command.borrower).text(2, command.id);
    case "confirm":
      return writer.text(1, command.id);
    case "renew":
      return writer.uint(1, command.lease).uint(2, command.fence).uint(3, command.durationMs);
    case "release":
      return writer.uint(1, command.lease).uint(2, command.fence);
    case "reclaim":
      return writer.uint(1, command.lease).uint(2, command.graceMs);
    case "stopped":
      return writer.uints(1, command.leases);
  }
}

function readQuota(reader: ProtoReader): ResourceCommand {
  const values = fieldsOf(reader, { 1: textIn, 2: textIn, 3: messageIn(readAmounts), 4: messageIn(readAmounts) });
  const [nominal, limit] = [partOf<Amounts>(values, 3), partOf<Amounts>(values, 4)];
  return { kind: "quota", name: textOf(values, 1), borrower: textOf(values, 2), nominal, limit };
}

function readTalk(kind: "counter" | "accept" | "decline", reader: ProtoReader): ResourceCommand {
  const more = kind === "decline" ? {} : kind === "accept" ? { 3: uintIn } : { 3: uintIn, 4: messageIn(readTerms) };
  const values = fieldsOf(reader, { 1: textIn, 2: textIn, ...more });
  const [borrower, id, round] = [textOf(values, 1), textOf(values, 2), uintOf(values, 3)];
  if (kind === "decline") return { kind, borrower, id };
  return kind === "accept" ? { kind, borrower, id, round } : { kind, borrower, id, round, terms: partOf<Terms>(values, 4) };
}

function readLease(kind: "renew" | "release" | "reclaim", reader: ProtoReader): ResourceCommand {
  const values = fieldsOf(reader, kind === "renew" ? { 1: uintIn, 2: uintIn, 3: uintIn } : { 1: uintIn, 2: uintIn });
  const [lease, second] = [uintOf(values, 1), uintOf(values, 2)];
  if (kind === "reclaim") return { kind, lease, graceMs: second };
  return kind === "release" ? { kind, lease, fence: second } : { kind, lease, fence: second, durationMs: uintOf(values, 3) };
}

/** A number that is out of its bounds is found by the book, which says what is wrong with it. */
function readCommand(kind: ResourceCommand["kind"], reader: ProtoReader): ResourceCommand {
  const one = <T>(read: (inner: ProtoReader) => T): T => partOf<T>(fieldsOf(reader, { 1: messageIn(read) }), 1);
  switch (kind) {
    case "policy":
      return { kind, policy: one(readPolicy) };
    case "offer":
      return { kind, offer: one(readOffer) };
    case "withdraw":
    case "refence":
      return { kind, name: textOf(fieldsOf(reader, { 1: textIn }), 1) };
    case "quota":
      return readQuota(reader);
    case "request":
      return readRequest(reader);
    case "counter":
    case "accept":
    case "decline":
      return readTalk(kind, reader);
    case "confirm":
      return { kind, id: textOf(fieldsOf(reader, { 1: textIn }), 1) };
    case "renew":
    case "release":
    case "reclaim":
      return readLease(kind, reader);
    case "stopped":
      return { kind, leases: partOf<number[]>(fieldsOf(reader, { 1: (inner) => inner.uints(LEASES_MAX) }), 1) };
  }
}

/** encodeResourceCommand writes a command (ResourceCommand of resources.proto) in the one way in which it is written. */
export function encodeResourceCommand(command: ResourceCommand): Uint8Array {
  return new ProtoWriter().message(KINDS.indexOf(command.kind) + 1, (inner) => writeCommand(command, inner)).finish();
}

/** decodeResourceCommand reads a command; WireError if the bytes are not what encodeResourceCommand writes of one. */
export function decodeResourceCommand(bytes: Uint8Array): ResourceCommand {
  if (bytes.length > RESOURCE_COMMAND_BYTES) throw new WireError(`a command has at most ${RESOURCE_COMMAND_BYTES} bytes`);
  const reader = new ProtoReader(bytes);
  const kind = KINDS[reader.next() - 1];
  if (kind === undefined) throw new WireError("the command is not known; upgrade this hub");
  const command = reader.message(RESOURCE_COMMAND_BYTES, (inner) => readCommand(kind, inner));
  if (reader.next() !== 0) throw new WireError("there is something after the command");
  const again = encodeResourceCommand(command);
  if (again.length !== bytes.length || again.some((byte, at) => byte !== bytes[at]))
    throw new WireError("the command is written in another way than the one in which it is; write no defaults");
  return command;
}
