import type { DescField } from "@bufbuild/protobuf";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import {
  BlockSchema,
  SegmentHeaderSchema,
  SnapshotManifestSchema,
  StateBlockSchema,
} from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { SessionFrameSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { Prng } from "#kernel/prng.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import { stateHashOf } from "../../services/registry-sync/export/snapshot.ts";
import { SEGMENT_DOMAIN, SNAPSHOT_DOMAIN } from "../../services/registry-sync/feed/segment.ts";
import { entriesOf } from "../../services/registry-sync/import/apply.ts";
import type { FeedPosition } from "../../services/registry-sync/messages.ts";
import { fastHash, simCrypto } from "../simulator/crypto.ts";
import { Bytes, Generator, type Inner } from "./raw-message.ts";

/** PEER is the hub whose rightly signed feed is hostile. */
export const PEER = "peer";
/** LAMP is the type of half of its nodes. */
export const LAMP = "lamp";
const REFS = 12;
const KEYS = 13;
const VALUES = [
  [],
  [Uint8Array.of()],
  [],
  [],
  [
    new TextEncoder().encode("on"),
    new TextEncoder().encode("Küche"),
    Uint8Array.of(0x4b, 0xfc),
    Uint8Array.of(),
    new Uint8Array(4_096).fill(97),
  ],
  [Uint8Array.of(), Uint8Array.of(0, 255), new Uint8Array(4_096)],
  [new TextEncoder().encode('{"a":1}'), new TextEncoder().encode("{nope"), Uint8Array.of(0xff), new TextEncoder().encode("null")],
] as const;

/** Positions and epochs at the ends of what may be: 0 says that nothing is held, and no store has as many as 2^40. */
const EDGES = [0n, 1n, 2n ** 40n - 2n, 2n ** 40n - 1n, 2n ** 40n, 2n ** 48n - 1n] as const;

const sha = (data: Uint8Array): Uint8Array => fastHash(data);
const typeOfKey = (kref: number): number => (kref % 6) + 1;

/** RegistryMessages writes what a hub may send on a registry session: a feed in its own right order, and with wild fields in it. */
export class RegistryMessages {
  readonly #generator: Generator;
  /** The signatures of the simulator: what is in a message counts here, and millions of them are signed. */
  readonly #crypto = simCrypto(PEER);
  readonly #wall: () => number;
  /** What the receiver holds, as it last said. */
  held: FeedPosition = { hubId: PEER, share: "full", epoch: 0, seq: 0, digest: new Uint8Array(0) };
  /** Parts of the snapshot that was announced last. */
  parts: Uint8Array[] = [];
  #fields = new Map<string, bigint | number | string | Uint8Array>();

  constructor(prng: Prng, wall: () => number) {
    this.#wall = wall;
    this.#generator = new Generator(prng, (field) => this.#hint(field), this.#inner());
  }

  /** frame writes a SessionRequest with a frame of that kind. */
  frame(kind: string): Uint8Array {
    const generator = this.#generator;
    generator.mood();
    const { held } = this;
    this.#fields = new Map<string, bigint | number | string | Uint8Array>([
      ["hub_id", PEER],
      ["share", held.share],
      ["epoch", BigInt(Math.max(1, held.epoch))],
      ["seq", BigInt(held.seq + (kind === "segment" ? 1 : 0))],
      ["digest", held.digest],
      ["beat", 0],
    ]);
    const frame = generator.message(SessionFrameSchema, 0, kind);
    const out = new Bytes();
    out.delimited(1, frame);
    return out.take();
  }

  #hint(field: DescField): bigint | number | string | Uint8Array | undefined {
    if (field.parent.typeName === "foedus.common.v1.Hlc") return field.name === "wall_ms" ? BigInt(this.#wall()) : 0;
    if (field.name === "key_serial") return 1;
    return this.#fields.get(field.name);
  }

  #inner(): Inner {
    const segments = "foedus.registry_sync.segment.v1";
    const frames = "foedus.registry_sync.v1alpha1";
    return new Map([
      [`${frames}.Segment.segment`, () => this.#segment()],
      [`${frames}.Snapshot.manifest`, () => this.#manifest()],
      [`${frames}.SnapshotPart`, () => this.#part()],
      [`${segments}.NodePut`, (generator: Generator) => nodePut(generator)],
      [`${segments}.KeyDef`, (generator: Generator) => keyDef(generator)],
      [`${segments}.StateBlock`, (generator: Generator) => stateBlock(generator)],
      [`${segments}.Presence`, (generator: Generator) => presence(generator)],
      [`${segments}.NodeDel`, (generator: Generator) => numberField(generator, BigInt(1 + generator.prng.below(REFS)))],
    ]);
  }

  #payload(most: number): { readonly bytes: Uint8Array; readonly entries: number } {
    const generator = this.#generator;
    const out = new Bytes();
    for (let i = generator.prng.below(most); i >= 0; i--)
      out.delimited(
        1,
        generator.message(
          BlockSchema,
          0,
          generator.pick([
            "node_put",
            "key_def",
            "state",
            "state",
            "state",
            "state",
            "state",
            "presence",
            generator.pick(["state", "node_del"]),
          ]),
        ),
      );
    const bytes = out.take();
    return { bytes, entries: (segmentCodec.decodePayload(bytes) ?? []).reduce((sum, block) => sum + entriesOf(block), 0) };
  }

  /** segment is the next one of the feed, signed whatever is in it: a peer may sign what it likes. */
  #segment(): Uint8Array {
    const { held } = this;
    const { bytes: payload, entries } = this.#payload(4);
    this.#fields.set("prev", held.digest.length === 32 ? held.digest : new Uint8Array(32));
    this.#fields.set("payload_digest", sha(payload));
    this.#fields.set("raw_len", payload.length);
    this.#fields.set("count", entries);
    this.#fields.set("codec", 1);
    const header = this.#generator.message(SegmentHeaderSchema);
    const out = new Bytes();
    out.delimited(1, header);
    out.delimited(2, this.#sign(SEGMENT_DOMAIN, header));
    out.delimited(3, payload);
    return out.take();
  }

  /** edge is now and then a position that nothing else may take for "none" or "the last": whatever it is, the rest of the manifest is right. */
  #edge(): bigint | undefined {
    const { prng } = this.#generator;
    return prng.chance(0.02) ? this.#generator.pick(EDGES) : undefined;
  }

  #manifest(): Uint8Array {
    const generator = this.#generator;
    const parts = Array.from({ length: generator.prng.chance(0.05) ? 0 : 1 + generator.prng.below(2) }, () => this.#snapshotPart());
    this.parts = parts;
    const infos = parts.map((part) => ({ sha256: sha(part), len: part.length, rawLen: part.length, codec: 1 }));
    const body = new Bytes();
    this.#fields.set("as_of_seq", this.#edge() ?? BigInt(this.held.seq + 1 + generator.prng.below(3)));
    this.#fields.set("head_digest", sha(parts[0] ?? new Uint8Array(0)));
    this.#fields.set("state_hash", stateHashOf({ hash: sha }, infos));
    this.#fields.set("nodes", REFS);
    this.#fields.set("epoch", this.#edge() ?? BigInt(Math.max(1, this.held.epoch) + (generator.prng.chance(0.2) ? 1 : 0)));
    // The parts are written by hand: a manifest whose parts are made up is refused before anything else is looked at.
    const desc = SnapshotManifestSchema;
    body.raw(generator.message({ ...desc, fields: desc.fields.filter(({ name }) => name !== "parts") } as typeof desc));
    for (const info of infos) {
      const part = new Bytes();
      part.delimited(1, info.sha256);
      part.tag(2, 0);
      part.varint(generator.odd() ? generator.number() : BigInt(info.len));
      part.tag(3, 0);
      part.varint(generator.odd() ? generator.number() : BigInt(info.rawLen));
      part.tag(4, 0);
      part.varint(generator.odd() ? 7n : 1n);
      body.delimited(7, part.take());
    }
    const bytes = body.take();
    const out = new Bytes();
    out.delimited(1, bytes);
    out.delimited(2, this.#sign(SNAPSHOT_DOMAIN, bytes));
    return out.take();
  }

  /** snapshotPart is a payload of the kinds that snapshots have. */
  #snapshotPart(): Uint8Array {
    const generator = this.#generator;
    const out = new Bytes();
    for (let kref = 0; kref < KEYS; kref++) out.delimited(1, field(2, keyDef(generator, kref)));
    for (let ref = 1; ref <= REFS; ref++) if (!generator.odd()) out.delimited(1, field(1, nodePut(generator, ref)));
    if (generator.prng.chance(0.5)) out.delimited(1, field(3, stateBlock(generator)));
    return out.take();
  }

  #part(): Uint8Array {
    const generator = this.#generator;
    const index = generator.prng.below(Math.max(1, this.parts.length));
    const out = new Bytes();
    out.tag(1, 0);
    out.varint(generator.odd() ? generator.number() : BigInt(index));
    out.delimited(2, this.parts[index] ?? new Uint8Array(0));
    return out.take();
  }

  #sign(domain: Uint8Array, body: Uint8Array): Uint8Array {
    const text = new Uint8Array(domain.length + body.length);
    text.set(domain);
    text.set(body, domain.length);
    return this.#crypto.sign(text);
  }
}

function field(number: number, bytes: Uint8Array): Uint8Array {
  const out = new Bytes();
  out.delimited(number, bytes);
  return out.take();
}

function numberField(generator: Generator, value: bigint): Uint8Array {
  const out = new Bytes();
  out.tag(1, 0);
  out.varint(generator.odd() ? generator.number() : value);
  return out.take();
}

function keyDef(generator: Generator, kref = generator.prng.below(KEYS)): Uint8Array {
  const out = new Bytes();
  out.raw(numberField(generator, BigInt(kref)));
  out.delimited(2, new TextEncoder().encode(generator.odd() ? "x".repeat(200) : `k${kref}`));
  out.tag(3, 0);
  out.varint(generator.odd() ? generator.pick([0n, 7n, 8n, 1n << 31n, (1n << 64n) - 1n]) : BigInt(typeOfKey(kref)));
  return out.take();
}

/** nodePut has capabilities that fit the keys, so that state about them is taken. */
function nodePut(generator: Generator, ref = 1 + generator.prng.below(REFS)): Uint8Array {
  const capabilities = new Bytes();
  for (let kref = 0; kref < KEYS; kref++) {
    if (generator.odd()) continue;
    const capability = new Bytes();
    capability.delimited(1, new TextEncoder().encode(`k${kref}`));
    capability.tag(2, 0);
    capability.varint(generator.odd() ? 9n : BigInt(typeOfKey(kref)));
    capability.tag(4, 0);
    capability.varint(1n);
    capabilities.delimited(7, capability.take());
  }
  const node = new Bytes();
  node.delimited(1, new TextEncoder().encode(generator.odd() ? generator.pick(["", "a/b", "n1", "x".repeat(64)]) : `n${ref}`));
  node.delimited(3, new TextEncoder().encode(generator.prng.chance(0.5) ? LAMP : "camera"));
  node.raw(capabilities.take());
  if (generator.odd()) node.raw(generator.message(NodeSchema));
  const out = new Bytes();
  out.raw(numberField(generator, BigInt(ref)));
  out.delimited(2, node.take());
  out.tag(3, 0);
  out.varint(BigInt(generator.prng.below(2)));
  return out.take();
}

function presence(generator: Generator): Uint8Array {
  const out = new Bytes();
  const refs = Uint32Array.from({ length: generator.prng.below(4) }, () =>
    generator.odd() ? 0xffff_ffff : 1 + generator.prng.below(REFS),
  );
  out.delimited(generator.pick([1, 2]), new Uint8Array(refs.buffer));
  return out.take();
}

/** stateBlock has columns that fit together, about nodes and keys that may be there. */
function stateBlock(generator: Generator): Uint8Array {
  const { prng } = generator;
  const rows = Array.from({ length: 1 + prng.below(6) }, () => ({ ref: 1 + prng.below(REFS), kref: prng.below(KEYS) }));
  const of = (...types: number[]) => rows.filter(({ kref }) => types.includes(typeOfKey(kref)));
  const [nums, ints, texts] = [of(1, 3), of(2), of(4, 5, 6)];
  const all = [...nums, ...ints, ...texts];
  const values = texts.map(({ kref }) => generator.pick(VALUES[typeOfKey(kref)] as readonly Uint8Array[]));
  const num = nums.map(({ kref }) =>
    typeOfKey(kref) === 1 ? prng.below(2) : generator.pick([0, -0, 21.5, 1e300, Number.POSITIVE_INFINITY]),
  );
  if (generator.odd() && num.length > 0) num[0] = Number.NaN;
  const int = ints.map(() => BigInt.asIntN(64, generator.number()));
  const len = values.map(({ length }) => length);
  if (generator.odd() && len.length > 0) len[0] = generator.pick([0, 5_000, 0xffff_ffff]);
  const columns = [
    Uint32Array.from(all, ({ ref }) => ref),
    Uint32Array.from(all, ({ kref }) => kref),
    Float64Array.from(num),
    BigInt64Array.from(int),
    Uint32Array.from(len),
  ];
  const out = new Bytes();
  columns.forEach((column, i) => {
    const bytes = new Uint8Array(column.buffer, column.byteOffset, column.byteLength);
    const width = column.BYTES_PER_ELEMENT;
    const cut = generator.odd() ? width * prng.below(column.length + 1) : bytes.length;
    if (bytes.length > 0) out.delimited(i + 1, bytes.subarray(0, cut));
    if (cut < bytes.length) out.delimited(i + 1, bytes.subarray(cut));
  });
  for (const value of values.length > 0 ? [Buffer.concat(values)] : []) out.delimited(6, value);
  if (generator.odd()) out.raw(generator.message(StateBlockSchema));
  return out.take();
}
