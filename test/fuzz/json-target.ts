import { type DescMessage, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { decodeRequest, isRequestStream, Malformed } from "#channel/messages.ts";
import { FoedusError } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";
import { toJsonBytes, toProtobuf } from "#runtime/connect/protocol.ts";
import { SERVICES } from "../tidy/schema.ts";
import { Generator } from "./raw-message.ts";
import { must, Tally, type Target } from "./target.ts";

/** RPCs that are called over HTTP. */
const METHODS: readonly DescMethod[] = SERVICES.flatMap(({ methods }) => methods).filter((method) => !isRequestStream(method));

/** Pieces that are put into JSON at random: what parsers and mappers get wrong. */
const PIECES = [
  ...["{", "}", "[", "]", ",", ":", '"', "\\", "null", "true", "NaN", "-0", "1e999", "18446744073709551616", '"18446744073709551615"'],
  ...['"__proto__":{},', '"constructor":1,', "\u0000", "\u2028", "\ud800", "[".repeat(40), '{"a":'.repeat(40)],
];

/** JsonTarget is the way over HTTP: a message that one of our answers may be is the same when it is sent back, and any other text is refused. */
export class JsonTarget extends Tally implements Target {
  readonly name = "json: requests and answers over HTTP";
  readonly weight = 4;

  renew(): void {}

  take(prng: Prng): void {
    const generator = new Generator(prng);
    generator.mood();
    const method = generator.pick(METHODS);
    const desc = prng.chance(0.4) ? method.output : method.input;
    const message = decodeRequest(desc, generator.message(desc));
    if (message instanceof Malformed) return this.refuse(message.error.failure.reason);
    const bytes = toBinary(desc, message, { writeUnknownFields: false });
    // An answer that has no JSON would be a bug.
    const json = toJsonBytes(desc, bytes);
    this.#readBack(desc, json, bytes);
    this.#broken(desc, json, prng);
  }

  #readBack(desc: DescMessage, json: Buffer, bytes: Uint8Array): void {
    try {
      const again = toProtobuf(desc, json, true);
      must(same(desc, again, bytes), `${desc.typeName} is another message after its way as JSON: ${json.toString().slice(0, 500)}`);
      this.applied++;
    } catch (error) {
      // An enum value of a later version is a number in JSON, and read as one; only bounds of JSON may refuse what we wrote.
      if (!(error instanceof FoedusError) || error.reason !== "LIMIT_EXCEEDED") throw error;
      this.refuse(error.reason);
    }
  }

  /** What somebody else made of a text is refused with a reason, or is a message. */
  #broken(desc: DescMessage, json: Buffer, prng: Prng): void {
    const text = json.toString();
    const at = prng.below(text.length + 1);
    const piece = PIECES[prng.below(PIECES.length)] as string;
    const changed = text.slice(0, at) + piece + text.slice(at + prng.below(3));
    try {
      fromBinary(desc, toProtobuf(desc, Buffer.from(changed), prng.chance(0.5)));
      this.applied++;
    } catch (error) {
      if (!(error instanceof FoedusError)) throw error;
      must(error.message.length < 600 && !/\p{Cc}/u.test(error.message), "a refusal is no sentence for people");
      this.refuse(error.reason);
    }
  }
}

/** same tells whether bytes are the same message: maps have no order, and -0 is written as 0. */
function same(desc: DescMessage, a: Uint8Array, b: Uint8Array): boolean {
  const plain = (bytes: Uint8Array): unknown => sorted(fromBinary(desc, bytes) as Message & Readonly<Record<string, unknown>>);
  return JSON.stringify(plain(a)) === JSON.stringify(plain(b));
}

function sorted(value: unknown): unknown {
  if (typeof value === "bigint" || typeof value === "number") return String(value);
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(sorted);
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, sorted(item)]),
  );
}
