import { fromBinary } from "@bufbuild/protobuf";
import { SessionRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { frameFromProto } from "../../services/registry-sync/codec/frame-codec.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import type { FeedStatus } from "../../services/registry-sync/messages.ts";
import type { Oracle } from "./oracle.ts";

/** Place is a position in a feed. */
interface Place {
  readonly epoch: number;
  readonly seq: number;
}

/** What a hub has told an owner that it holds of its feed, durably; a share that it has told to have forgotten. */
interface Told extends Place {
  readonly share: string;
  readonly forgotten: string;
  /** The first snapshot of the forgotten share that its owner sent after that: the hub may hold it before it has said so. */
  again: Place | undefined;
  /** The first snapshot of each other share that its owner sent since: the hub may hold it before it has said so. */
  readonly given: Map<string, Place>;
}

/** Tags of SessionFrame.ack, .snapshot, .forget and .forget_done; that of the envelope and a length are before it. */
const TOLD_TAGS: ReadonlySet<number> = new Set([0x2a, 0x3a, 0x4a, 0x52]);

function before(one: Place, other: Place): boolean {
  return one.epoch < other.epoch || (one.epoch === other.epoch && one.seq < other.seq);
}

/**
 * Restarts remembers what each hub told the others that it holds, and looks after a restart whether that is so (F-14, F-15): what was
 * acknowledged is there, and a share that was replaced or forgotten is not.
 */
export class Restarts {
  readonly #oracle: Oracle;
  readonly #hubIds: readonly string[];
  readonly #told = new Map<string, Told>();
  /** Share that a hub was told to forget, by hub and owner, until its owner sends it anew. */
  readonly #toForget = new Map<string, string>();

  constructor(oracle: Oracle, hubIds: readonly string[]) {
    this.#oracle = oracle;
    this.#hubIds = hubIds;
  }

  /** sent takes a frame that a hub's registry sent, as it meant it. */
  sent(from: number, to: number, bytes: Uint8Array): void {
    let last = 1;
    while ((bytes[last] ?? 0) >= 0x80) last++;
    if (!TOLD_TAGS.has(bytes[last + 1] ?? 0)) return;
    const { frame } = fromBinary(SessionRequestSchema, bytes);
    const told = frame === undefined ? undefined : frameFromProto(frame);
    if (told?.type === "ack") {
      // It may have left before the owner's word to forget was heard, which counts then.
      const pair = `${from}/${to}`;
      const before = this.#told.get(pair);
      // It may also have left before a snapshot of another share was there.
      const given = before?.share === told.position.share ? before.given : new Map<string, Place>();
      if (this.#toForget.get(pair) !== told.position.share)
        this.#told.set(pair, { ...told.position, forgotten: "", again: undefined, given });
    } else if (told?.type === "snapshot") this.#offered(`${to}/${from}`, told.manifest);
    // Who was told to forget need not have it any more, whether that was answered or not.
    else if (told?.type === "forget") {
      this.#toForget.set(`${to}/${from}`, told.share);
      if (this.#told.get(`${to}/${from}`)?.forgotten === "") this.#told.delete(`${to}/${from}`);
    } else if (told?.type === "forget_done") {
      const before = this.#told.get(`${from}/${to}`);
      // Each word to forget is answered, also one that is heard twice: what its owner gave anew meanwhile counts on.
      const again = before?.forgotten === told.share ? before.again : undefined;
      if (before === undefined || before.share === "" || before.share === told.share)
        this.#told.set(`${from}/${to}`, { share: "", epoch: 0, seq: 0, forgotten: told.share, again, given: new Map() });
    }
  }

  /** offered notes that an owner gives a share that was forgotten anew. */
  #offered(pair: string, signed: Uint8Array): void {
    const told = this.#told.get(pair);
    const parts = segmentCodec.decodeSigned(signed);
    const manifest = parts === undefined ? undefined : segmentCodec.decodeManifest(parts.body);
    if (manifest === undefined) return;
    if (this.#toForget.get(pair) === manifest.share) this.#toForget.delete(pair);
    if (told === undefined) return;
    const { share, epoch, asOfSeq: seq } = manifest;
    if (told.forgotten === share) told.again ??= { epoch, seq };
    if (told.share !== share && !told.given.has(share)) told.given.set(share, { epoch, seq });
  }

  /** restarted compares with what a new process of the hub found in its store. */
  restarted(hub: number, feeds: readonly FeedStatus[]): void {
    if (this.#oracle.rewound[hub]) return;
    for (const [owner, hubId] of this.#hubIds.entries()) {
      const told = this.#told.get(`${hub}/${owner}`);
      if (told === undefined || owner === hub) continue;
      const held = feeds.find(({ head, own }) => !own && head.hubId === hubId)?.head;
      const what = held === undefined ? "nothing" : `${held.share} ${held.epoch}/${held.seq}`;
      const where = `hub-${hub} came back with ${what} of ${hubId}`;
      if (told.forgotten !== "") {
        const anew = held !== undefined && told.again !== undefined && !before(held, told.again);
        if (held?.share === told.forgotten && held.epoch > 0 && !anew) this.#violate(`${where}, which it had told to be forgotten`);
        continue;
      }
      // Positions of one share say nothing of those of another, which takes the place of the first as soon as it is there.
      const since = held === undefined || held.share === told.share ? told : told.given.get(held.share);
      if (held === undefined || since === undefined || before(held, since))
        this.#violate(`${where} after it had acknowledged ${told.share} ${told.epoch}/${told.seq}`);
    }
  }

  #violate(text: string): void {
    this.#oracle.violate("restart", "correctness", text);
  }
}
