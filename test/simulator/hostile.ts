import { create, type DescMethod, toBinary } from "@bufbuild/protobuf";
import { decodeMessage } from "#channel/messages.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type SessionRequest, SessionRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { Prng } from "#kernel/prng.ts";
import { decodeInvocations, decodeResults, encodeInvocations, encodeResults } from "../../services/command-forwarding/codec/codec.ts";
import { Reader } from "../../services/command-forwarding/codec/wire.ts";
import { type InvocationsFrame, NUMBER_END, type ResultsFrame, TIMEOUT_END } from "../../services/command-forwarding/messages.ts";
import { frameFromProto, frameToProto } from "../../services/registry-sync/codec/frame-codec.ts";
import type { PeerFrame } from "../../services/registry-sync/messages.ts";

/** flip changes one byte of a copy. */
function flip(prng: Prng, bytes: Uint8Array): Uint8Array {
  // Not `slice`: that of a Buffer is a view.
  const copy = Uint8Array.from(bytes);
  const at = prng.below(copy.length);
  copy[at] = (copy[at] as number) ^ (1 + prng.below(255));
  return copy;
}

/** replace changes a text inside encoded bytes by another one of the same length. */
function replace(bytes: Uint8Array, from: string, to: string): Uint8Array {
  const text = Buffer.from(bytes).toString("latin1");
  return Uint8Array.from(Buffer.from(text.replaceAll(from, to), "latin1"));
}

/** Lie is what goes out in the place of a frame, and its name in the trace. */
export interface Lie {
  readonly what: string;
  readonly frames: readonly Buffer[];
}

/**
 * tamper is what a hostile hub does to the frames that it sends: now and then it forges, repeats, drops or invents something; undefined for
 * nothing.
 */
export function tamper(prng: Prng, peer: string, method: DescMethod, bytes: Buffer): Lie | undefined {
  if (method.parent === DiscoveryService) return undefined;
  return method === RegistrySyncService.method.session ? tamperRegistry(prng, peer, bytes) : tamperCommands(prng, bytes);
}

function tamperRegistry(prng: Prng, peer: string, bytes: Buffer): Lie | undefined {
  if (!prng.chance(0.2)) return undefined;
  const message = decodeMessage(SessionRequestSchema, bytes) as SessionRequest;
  const frame = message.frame === undefined ? undefined : frameFromProto(message.frame);
  if (frame === undefined) return undefined;
  const frames = bend(prng, peer, frame);
  if (frames.length === 1 && frames[0] === frame) return undefined;
  const statement = frame.type === "feed_offer" ? frame.keyStatement : new Uint8Array(0);
  const encoded = frames.map((each) =>
    Buffer.from(toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame: frameToProto(each, statement) }))),
  );
  return { what: frame.type, frames: encoded };
}

function bend(prng: Prng, peer: string, frame: PeerFrame): readonly PeerFrame[] {
  const kind = prng.below(4);
  switch (frame.type) {
    case "segment": {
      if (kind === 0) return [{ type: "segment", segment: flip(prng, frame.segment) }];
      if (kind === 1) return [frame, frame];
      if (kind === 2) return [];
      return [{ type: "segment", segment: replace(frame.segment, "hub-", "hub+") }, frame];
    }
    case "snapshot":
      return kind === 0 ? [{ type: "snapshot", manifest: flip(prng, frame.manifest) }] : [frame, frame];
    case "snapshot_part":
      return kind === 0
        ? [{ ...frame, data: flip(prng, frame.data) }]
        : kind === 1
          ? [{ ...frame, index: frame.index + 7 }, frame]
          : [frame];
    case "feed_offer":
      if (frame.head === undefined) return [frame];
      if (kind === 0) return [{ ...frame, head: { ...frame.head, hubId: peer } }, frame];
      if (kind === 1) return [{ ...frame, head: { ...frame.head, seq: frame.head.seq + 5 } }];
      return [frame];
    case "feed_open":
      if (kind === 0) return [{ ...frame, from: { ...frame.from, epoch: frame.from.epoch + 3, seq: 9 } }];
      if (kind === 1) return [{ ...frame, from: { ...frame.from, hubId: "hub-9" } }, frame];
      return [frame];
    case "ack":
      return [{ type: "ack", position: { ...frame.position, seq: frame.position.seq + 100 } }, frame];
    default:
      return [frame];
  }
}

/** Numbers that no frame may have. */
const IMPOSSIBLE = [NUMBER_END, Number.MAX_SAFE_INTEGER];

/** Tags of SessionFrame.invocations and .results; 1 is for common frames. */
const INVOCATIONS_TAG = 0x12;
const RESULTS_TAG = 0x1a;

/**
 * tamperCommands does the same to the frames of commands. A hostile hub lies about what it knows of others: what it makes of its own
 * commands and its own journal is its own loss.
 */
function tamperCommands(prng: Prng, bytes: Buffer): Lie | undefined {
  const envelope = new Reader(bytes);
  envelope.tag();
  const frame = envelope.sub();
  const tag = frame.tag();
  if (tag === RESULTS_TAG) return prng.chance(0.2) ? lieInResults(prng, decodeResults(frame.sub()), bytes) : undefined;
  if (tag !== INVOCATIONS_TAG) return undefined;
  const invocations = decodeInvocations(frame.sub());
  // Few of its frames have commands: who lies about feeds is told to forget them, and knows of few nodes.
  return prng.chance(invocations.items.length > 0 ? 0.6 : 0.2) ? lieInInvocations(prng, invocations) : undefined;
}

function lieInResults(prng: Prng, frame: ResultsFrame, bytes: Buffer): Lie {
  const impossible = IMPOSSIBLE[prng.below(2)] as number;
  switch (prng.below(3)) {
    case 0:
      return { what: "epoch that cannot be", frames: encodeResults({ ...frame, epoch: impossible }, frame.items) };
    case 1:
      return { what: "owner position that cannot be", frames: encodeResults({ ...frame, ownerPosition: impossible }, frame.items) };
    default: {
      // It says what it never heard: that the other hub was further than it is, by a little or by all there is.
      const epoch = prng.chance(0.7) ? frame.epoch + 1 + prng.below(5_000) : NUMBER_END - 1;
      return { what: "epoch that never was", frames: [...encodeResults({ ...frame, epoch }, []), bytes] };
    }
  }
}

function lieInInvocations(prng: Prng, frame: InvocationsFrame): Lie | undefined {
  const kind = prng.below(3);
  const items = frame.items.map(({ timeoutMs, ...item }) => ({ ...item, deadline: kind === 0 ? TIMEOUT_END : timeoutMs }));
  if (kind === 0 && items.length === 0) return undefined;
  const position = kind === 1 ? (IMPOSSIBLE[prng.below(2)] as number) : frame.ownerPosition + 1 + prng.below(1_000);
  const head = kind === 0 ? frame : { ...frame, ownerPosition: position };
  const what = (["timeout that cannot be", "position that cannot be", "position that never was"] as const)[kind] as string;
  return { what, frames: encodeInvocations(head, frame.acks, items, frame.cancels, 0) };
}
