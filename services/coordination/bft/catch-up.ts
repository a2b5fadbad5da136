import { copyOf } from "#kernel/wire/bytes.ts";
import type { ReplicaId } from "../log/engine.ts";
import type { Decisions, Head, HeldSnapshot } from "./decisions.ts";
import type { Fellows } from "./fellows.ts";
import { type Attestation, BFT_BOUNDS, type BftFrame, type Manifest } from "./frames.ts";
import { hexOf, sameBytes } from "./hex.ts";
import { Members } from "./members.ts";
import type { Settings } from "./options.ts";
import { joined, partsOf } from "./parts.ts";
import { isIndex, isManifestFormed, judgeManifest } from "./proof/certificate.ts";
import { isSigned, manifestBytes } from "./proof/signed.ts";
import { observe, send, type Turn } from "./turn.ts";

/** Attestations of a replica for heights that this one has not reached are kept for so many heights. */
const ATTESTED_HEIGHTS = 4;

/** Times of `resendMs` without a chunk after which a snapshot is not waited for any more. */
const PATIENCE = 3;
/** The pause of a replica whose snapshots come to nothing doubles so often at the most. */
const DOUBLINGS = 10;

/** The snapshot that is on its way here. */
interface Coming {
  readonly from: ReplicaId;
  readonly manifest: Manifest;
  readonly attestations: readonly Attestation[];
  readonly chunks: Uint8Array[];
  at: number;
}

/**
 * CatchUp brings replicas that are behind up to date: decided heights with their certificates, of which the receiver verifies each; or, where
 * those are not kept any more, a snapshot that more than two thirds of its voters signed.
 *
 * A replica trusts a snapshot by the voters that it knows from its own log, the founders at first; and, until that log has it as a member, by
 * those of whom it was told when it was let in (`introduced` of its options): f + 1 of those must be among the signers (BC4), so that an honest
 * one is. If they have all been replaced meanwhile, it has to be let in anew.
 */
export class CatchUp {
  readonly #settings: Settings;
  readonly #decisions: Decisions;
  readonly #fellows: Fellows;
  /** What was sent to a replica, up to which height, when. */
  readonly #sent = new Map<ReplicaId, { upTo: number; at: number }>();
  /** The chunk of a snapshot that a replica got last, and when. */
  readonly #fetched = new Map<ReplicaId, { readonly index: number; readonly chunk: number; readonly at: number }>();
  /** The decision for whose state the application was asked. */
  #asked: Head | undefined;
  /** State of this replica at a height, while voters sign it. */
  #own: { readonly manifest: Manifest; readonly state: Uint8Array } | undefined;
  /** Signatures by height, of each replica the first. */
  readonly #attested = new Map<number, Map<ReplicaId, { readonly digest: string; readonly signature: Uint8Array }>>();
  #coming: Coming | undefined;
  /** Replicas whose snapshots came to nothing, how often, and until when others go first: one that lies does not keep this one behind. */
  readonly #failed = new Map<ReplicaId, { readonly times: number; readonly until: number }>();

  constructor(settings: Settings, decisions: Decisions, fellows: Fellows) {
    this.#settings = settings;
    this.#decisions = decisions;
    this.#fellows = fellows;
  }

  /** serve sends a replica at `height` what was decided from there on, a window at a time; nothing twice within `resendMs`. */
  serve(turn: Turn, to: ReplicaId, height: number): void {
    const { head, floor, snapshot } = this.#decisions;
    if (height > head.index) return;
    const now = turn.now.mono;
    const { resendMs, catchUp } = this.#settings.limits;
    let sent = this.#sent.get(to);
    if (sent === undefined || now - sent.at >= resendMs || sent.upTo < height - 1) sent = { upTo: height - 1, at: now };
    this.#sent.set(to, sent);
    if (height < floor) {
      if (snapshot === undefined || sent.upTo >= height) return;
      sent.upTo = height;
      send(turn, to, { kind: "snapshot", manifest: snapshot.manifest, attestations: snapshot.attestations });
      return;
    }
    let bytes = 0;
    for (let next = sent.upTo + 1; next <= Math.min(head.index, height + catchUp - 1) && bytes < this.#settings.limits.nextBytes; next++) {
      const decision = this.#decisions.at(next);
      if (decision === undefined) return;
      send(turn, to, { kind: "certificate", certificate: decision.certificate });
      for (const part of partsOf(next, decision.certificate.value, decision.bytes)) send(turn, to, part);
      bytes += decision.bytes.length;
      sent.upTo = next;
    }
  }

  /** forget drops what was noted of replicas that are no members any more. */
  forget(isMember: (replica: ReplicaId) => boolean): void {
    for (const map of [this.#sent, this.#fetched, this.#failed])
      for (const replica of map.keys()) if (!isMember(replica)) map.delete(replica);
  }

  /** ask notes that the application is asked for its state at the newest decision. */
  ask(): void {
    this.#asked = this.#decisions.head;
  }

  /** captured takes the own state at the decision for which it was asked, signs it and tells the others. */
  captured(turn: Turn, index: number, state: Uint8Array, broadcast: (frame: BftFrame) => void): void {
    const asked = this.#asked;
    if (asked?.index !== index || state.length > BFT_BOUNDS.stateBytes) return observe(turn, "snapshot_missed");
    this.#asked = undefined;
    const { crypto, federation, self } = this.#settings;
    const { term, time, previous, membership } = asked;
    const manifest: Manifest = { index, term, time, previous, membership, digest: crypto.hash(state), size: state.length };
    this.#own = { manifest, state };
    if (new Members(manifest.membership).indexOf(self) >= 0) {
      const signature = crypto.sign(manifestBytes(federation, manifest));
      this.#attest(index, self, manifest.digest, signature);
      broadcast({ kind: "attest", index, digest: manifest.digest, signature });
    }
    this.#certify(turn);
  }

  /** attested takes the signature of another voter. What was signed is seen when this replica has the same state. */
  attested(turn: Turn, from: ReplicaId, { index, digest, signature }: Extract<BftFrame, { kind: "attest" }>): void {
    const { index: head } = this.#decisions.head;
    const every = this.#settings.limits.snapshotEvery;
    if (!isIndex(index, BFT_BOUNDS.heights) || every === 0 || index % every !== 0 || digest.length !== 32) return;
    if (index < head - every || index > head + every || index <= (this.#decisions.snapshot?.manifest.index ?? 0)) return;
    if (signature.length !== 64) return;
    this.#attest(index, from, digest, signature);
    this.#certify(turn);
  }

  /** offered looks at a snapshot that a replica offers, and begins to fetch it. "bad" for one that is not signed as it must be. */
  offered(turn: Turn, from: ReplicaId, { manifest, attestations }: Extract<BftFrame, { kind: "snapshot" }>): "bad" | undefined {
    const { head } = this.#decisions;
    if (!isManifestFormed(manifest)) return "bad";
    if (manifest.index <= head.index) return undefined;
    const coming = this.#coming;
    if (coming?.from === from && coming.manifest.index === manifest.index && sameBytes(coming.manifest.digest, manifest.digest)) {
      send(turn, from, { kind: "fetch", index: manifest.index, chunk: coming.chunks.length });
      return undefined;
    }
    if (coming !== undefined && turn.now.mono - coming.at < PATIENCE * this.#settings.limits.resendMs) return undefined;
    if (coming !== undefined) this.#fails(turn, coming.from);
    if (turn.now.mono < (this.#failed.get(from)?.until ?? Number.NEGATIVE_INFINITY)) return undefined;
    const worth = this.#judge(manifest, attestations);
    if (worth === "bad") return "bad";
    if (worth === "unproven") return void observe(turn, "snapshot_unproven", from, manifest.index);
    this.#coming = { from, manifest, attestations, chunks: [], at: turn.now.mono };
    send(turn, from, { kind: "fetch", index: manifest.index, chunk: 0 });
    return undefined;
  }

  /** Until the log of this replica has it as a member, those voters count too of whom it was told: they are newer than what it knows. */
  #judge(manifest: Manifest, attestations: readonly Attestation[]): ReturnType<typeof judgeManifest> {
    const { verifier, keysOf } = this.#settings;
    const { told: voters } = this.#fellows;
    const own = new Members(this.#decisions.head.membership);
    const told = voters.length > 0 ? [new Members({ voters, outgoing: [], learners: [] })] : [];
    return judgeManifest(verifier, keysOf, [own, ...told], manifest, attestations);
  }

  /** fetched answers a request for a chunk of the snapshot that is kept: for the next one at once, for any other one after a while. */
  fetched(turn: Turn, to: ReplicaId, { index, chunk }: Extract<BftFrame, { kind: "fetch" }>): void {
    const { snapshot } = this.#decisions;
    if (snapshot?.manifest.index !== index || !isIndex(chunk, chunksOf(snapshot.manifest.size))) return;
    const last = this.#fetched.get(to);
    const isNext = last === undefined || (last.index === index && last.chunk + 1 === chunk);
    if (!isNext && turn.now.mono - last.at < this.#settings.limits.resendMs / 2) return;
    this.#fetched.set(to, { index, chunk, at: turn.now.mono });
    const bytes = snapshot.state.subarray(chunk * BFT_BOUNDS.partBytes, (chunk + 1) * BFT_BOUNDS.partBytes);
    send(turn, to, { kind: "chunk", index, chunk, bytes });
  }

  /** chunk takes a chunk, and answers the snapshot once it is whole and what its manifest says. */
  chunk(turn: Turn, from: ReplicaId, { index, chunk, bytes }: Extract<BftFrame, { kind: "chunk" }>): HeldSnapshot | "bad" | undefined {
    const coming = this.#coming;
    if (coming === undefined || coming.from !== from || coming.manifest.index !== index || chunk !== coming.chunks.length) return undefined;
    const { manifest, attestations, chunks } = coming;
    const last = chunksOf(manifest.size) - 1;
    if (bytes.length !== (chunk < last ? BFT_BOUNDS.partBytes : manifest.size - last * BFT_BOUNDS.partBytes)) return "bad";
    chunks.push(copyOf(bytes));
    coming.at = turn.now.mono;
    if (chunk < last) {
      send(turn, from, { kind: "fetch", index, chunk: chunk + 1 });
      return undefined;
    }
    this.#coming = undefined;
    const state = joined(chunks);
    if (!sameBytes(this.#settings.crypto.hash(state), manifest.digest)) {
      this.#fails(turn, from);
      return "bad";
    }
    this.#failed.clear();
    return manifest.index > this.#decisions.head.index ? { manifest, attestations, state } : undefined;
  }

  #fails({ now }: Turn, replica: ReplicaId): void {
    this.#coming = undefined;
    const times = (this.#failed.get(replica)?.times ?? 0) + 1;
    const pause = PATIENCE * this.#settings.limits.resendMs * 2 ** Math.min(times, DOUBLINGS);
    this.#failed.set(replica, { times, until: now.mono + pause });
  }

  #attest(index: number, from: ReplicaId, digest: Uint8Array, signature: Uint8Array): void {
    let attested = this.#attested.get(index);
    if (attested === undefined) {
      this.#attested.set(index, (attested = new Map()));
      for (const old of [...this.#attested.keys()].sort((a, b) => a - b).slice(0, -ATTESTED_HEIGHTS)) this.#attested.delete(old);
    }
    if (!attested.has(from)) attested.set(from, { digest: hexOf(digest), signature: copyOf(signature) });
  }

  /** A snapshot counts when more than two thirds signed what this replica has itself. */
  #certify(turn: Turn): void {
    if (this.#own === undefined) return;
    const { manifest, state } = this.#own;
    const members = new Members(manifest.membership);
    const digest = hexOf(manifest.digest);
    const attestations: Attestation[] = [];
    for (const [replica, attested] of this.#attested.get(manifest.index) ?? []) {
      const voter = members.indexOf(replica);
      if (voter >= 0 && attested.digest === digest) attestations.push({ voter, signature: attested.signature });
    }
    if (!members.isQuorum(attestations.length)) return;
    const data = manifestBytes(this.#settings.federation, manifest);
    const good = attestations.filter(({ voter, signature }) => isSigned(this.#settings.verifier, members.replicas[voter], data, signature));
    if (!members.isQuorum(good.length)) return;
    this.#own = undefined;
    this.#attested.delete(manifest.index);
    const snapshot = { manifest, attestations: good.sort((a, b) => a.voter - b.voter), state };
    this.#decisions.keep(turn, snapshot, this.#settings.limits.keepHeights);
    observe(turn, "snapshot", undefined, manifest.index);
  }
}

function chunksOf(size: number): number {
  return Math.max(1, Math.ceil(size / BFT_BOUNDS.partBytes));
}
