import { copyOf } from "#kernel/wire/bytes.ts";
import type { ReplicaId } from "../log/engine.ts";
import type { CatchUp } from "./catch-up.ts";
import type { Decisions, HeldSnapshot } from "./decisions.ts";
import type { Fellows } from "./fellows.ts";
import { BFT_BOUNDS, type BftFrame, NO_ROUND, STEP, type ValueId, type Vote } from "./frames.ts";
import type { Consensus } from "./height/consensus.ts";
import type { Height } from "./height/height.ts";
import type { Conflict } from "./height/vote-keeper.ts";
import type { Settings } from "./options.ts";
import { Parts, partsOf, valueBytesMax } from "./parts.ts";
import type { Peers } from "./peers.ts";
import { isCertificate, isCertificateFormed, isIndex, isValueId, isVoteSigned, isWellFormed, votesOf } from "./proof/certificate.ts";
import type { EvidenceBook } from "./proof/evidence-book.ts";
import { observe, send, type Turn } from "./turn.ts";

/** InboxParts are the parts of an engine that frames go to. */
export interface InboxParts {
  readonly consensus: Consensus;
  readonly decisions: Decisions;
  readonly fellows: Fellows;
  readonly catchUp: CatchUp;
  readonly evidence: EvidenceBook;
  readonly peers: Peers;
  past(): readonly Height[];
  conflict(turn: Turn, height: Height, conflict: Conflict): void;
  payload(turn: Turn, from: ReplicaId, frame: Extract<BftFrame, { kind: "payload" }>): "bad" | undefined;
  install(turn: Turn, snapshot: HeldSnapshot): void;
  tell(turn: Turn, proof: Uint8Array): "bad" | undefined;
}

type Of<K extends BftFrame["kind"]> = Extract<BftFrame, { kind: K }>;

/** Values of so many heights that a replica may ask for in a while: it needs that of one, and of others that it decided meanwhile. */
const VALUES_AT_ONCE = 4;

interface Next {
  readonly frames: BftFrame[];
  bytes: number;
}

/**
 * Inbox takes frames of other replicas: nothing in them is believed before it is checked, and nothing of them is kept without a bound. Who is no
 * member gets no answer: what was decided is for members, and numbers for replicas cost nothing.
 */
export class Inbox {
  readonly #settings: Settings;
  readonly #parts: InboxParts;
  readonly #incoming: Parts;
  /** Frames of the height after the one in progress, by sender. */
  readonly #next = new Map<ReplicaId, Next>();

  constructor(settings: Settings, parts: InboxParts) {
    this.#settings = settings;
    this.#parts = parts;
    this.#incoming = new Parts(valueBytesMax(settings.limits.batchBytes));
  }

  /** take takes a frame of a replica. */
  take(turn: Turn, from: ReplicaId, frame: BftFrame): void {
    if (from === this.#settings.self) return;
    const verdict = this.#parts.fellows.has(from) ? this.#take(turn, from, frame) : "stranger";
    if (verdict !== undefined) observe(turn, verdict === "bad" ? `bad_${frame.kind}` : "stranger", from);
  }

  /** next takes the frames that waited for the height in progress, and answers whether there were any. */
  next(turn: Turn): boolean {
    const { height } = this.#parts.consensus.height;
    let any = false;
    for (const [from, { frames }] of [...this.#next]) {
      if (frames.length === 0 || heightOf(frames[0] as BftFrame) !== height) continue;
      this.#next.delete(from);
      any = true;
      for (const frame of frames) this.take(turn, from, frame);
    }
    return any;
  }

  /** decided forgets what is of no use at the next height. */
  decided(): void {
    this.#incoming.clear();
  }

  /** forget drops frames that wait of replicas that are no members any more. */
  forget(isMember: (replica: ReplicaId) => boolean): void {
    for (const replica of this.#next.keys()) if (!isMember(replica)) this.#next.delete(replica);
  }

  /** want asks for a value that is missing: of those who must have it, one after the other. */
  want(turn: Turn): void {
    const { height } = this.#parts.consensus;
    const value = height.missing();
    if (value === undefined) return;
    const others = height.members.replicas.filter((replica) => replica !== this.#settings.self);
    // A proposal whose parts are on their way is not asked for at once.
    const isProposal = height.proposals.get(height.machine.round)?.value === value && height.machine.step === "propose";
    if (isProposal || others.length === 0 || !this.#parts.peers.mayAnswer(turn, this.#settings.self, `want ${value}`)) return;
    const at = Math.floor(turn.now.mono / Math.max(1, this.#settings.limits.resendMs / 2)) % others.length;
    for (const i of [at, (at + 1) % others.length]) send(turn, others[i] as ReplicaId, { kind: "want", height: height.height, value });
  }

  #take(turn: Turn, from: ReplicaId, frame: BftFrame): "bad" | undefined {
    switch (frame.kind) {
      case "proposal":
        return this.#proposal(turn, from, frame);
      case "part":
        return this.#part(turn, from, frame);
      case "votes":
        return this.#votes(turn, from, frame);
      case "certificate":
        return this.#certificate(turn, from, frame);
      case "payload":
        return this.#parts.payload(turn, from, frame);
      case "status":
        return this.#status(turn, from, frame);
      case "want":
        return this.#wanted(turn, from, frame);
      case "evidence":
        return this.#parts.tell(turn, frame.proof);
      case "attest":
        return void this.#parts.catchUp.attested(turn, from, frame);
      case "snapshot":
        return this.#parts.catchUp.offered(turn, from, frame);
      case "fetch":
        return void this.#parts.catchUp.fetched(turn, from, frame);
      case "chunk": {
        const snapshot = this.#parts.catchUp.chunk(turn, from, frame);
        if (snapshot === "bad" || snapshot === undefined) return snapshot;
        return void this.#parts.install(turn, snapshot);
      }
    }
  }

  /** Tells whether a frame is of the height in progress. One of the next waits; a later one tells that this replica is behind. */
  #isNow(turn: Turn, from: ReplicaId, height: number, frame: BftFrame): boolean {
    const now = this.#parts.consensus.height.height;
    if (height === now) return true;
    if (height === now + 1) this.#keep(from, frame);
    else if (height > now) this.#behind(turn, from);
    return false;
  }

  #behind(turn: Turn, from: ReplicaId): void {
    const { height, machine, before } = this.#parts.consensus.height;
    if (this.#parts.peers.mayAnswer(turn, from, `behind ${height}`))
      send(turn, from, { kind: "status", height, round: machine.round, previous: before.previous });
  }

  #keep(from: ReplicaId, frame: BftFrame): void {
    const { nextFrames, nextBytes } = this.#settings.limits;
    const height = heightOf(frame);
    let next = this.#next.get(from);
    if (next === undefined || heightOf(next.frames[0] as BftFrame) !== height) this.#next.set(from, (next = { frames: [], bytes: 0 }));
    const bytes = bytesOf(frame);
    if (next.frames.length >= nextFrames || next.bytes + bytes > nextBytes) return;
    next.frames.push(frame);
    next.bytes += bytes;
  }

  #proposal(turn: Turn, from: ReplicaId, frame: Of<"proposal">): "bad" | undefined {
    const { proposal, bytes } = frame;
    const { height, round, value, size, validRound } = proposal;
    if (!isIndex(height, BFT_BOUNDS.heights) || !isIndex(round, BFT_BOUNDS.rounds) || !isValueId(value)) return "bad";
    if (validRound !== NO_ROUND && !isIndex(validRound, round)) return "bad";
    if (!isIndex(size, valueBytesMax(this.#settings.limits.batchBytes) + 1) || bytes.length > BFT_BOUNDS.partBytes) return "bad";
    if (!this.#isNow(turn, from, height, frame)) return undefined;
    const { consensus } = this.#parts;
    const { machine } = consensus.height;
    // Older rounds, and those that are far away, need no proposal: what is decided there comes with its certificate.
    if (round < machine.round || round > machine.round + 1) return undefined;
    if (consensus.proposed(turn, proposal) === "bad") return "bad";
    return bytes.length === 0 ? undefined : consensus.value(turn, value, bytes);
  }

  #part(turn: Turn, from: ReplicaId, frame: Of<"part">): "bad" | undefined {
    const { height, value } = frame;
    if (!isIndex(height, BFT_BOUNDS.heights) || !isValueId(value)) return "bad";
    if (!this.#isNow(turn, from, height, frame) || !this.#parts.consensus.height.expects(value)) return undefined;
    const whole = this.#incoming.add(from, frame);
    return whole === undefined || whole === "bad" ? whole : this.#parts.consensus.value(turn, value, whole);
  }

  #votes(turn: Turn, from: ReplicaId, frame: Of<"votes">): "bad" | undefined {
    const { height, votes } = frame;
    if (votes.length === 0 || votes.length > BFT_BOUNDS.votes || !isIndex(height, BFT_BOUNDS.heights)) return "bad";
    if (votes.some((vote) => vote.height !== height || !isWellFormed(vote, BFT_BOUNDS.votersMax))) return "bad";
    const past = this.#parts.past().find((one) => one.height === height);
    if (past !== undefined) return this.#late(turn, past, votes, false);
    if (!this.#isNow(turn, from, height, frame)) return undefined;
    const { members } = this.#parts.consensus.height;
    return votes.every(({ voter }) => voter < members.size) ? this.#parts.consensus.votes(turn, votes, false) : "bad";
  }

  #certificate(turn: Turn, from: ReplicaId, frame: Of<"certificate">): "bad" | undefined {
    const { certificate } = frame;
    if (!isIndex(certificate.height, BFT_BOUNDS.heights) || certificate.votes.length > BFT_BOUNDS.votersMax) return "bad";
    const past = this.#parts.past().find(({ height }) => height === certificate.height);
    if (past !== undefined) {
      if (!isCertificate(this.#settings.verifier, past.members, certificate)) return "bad";
      this.#late(turn, past, votesOf(certificate), true);
      if (certificate.step === STEP.PRECOMMIT && certificate.value !== this.#parts.decisions.valueAt(certificate.height))
        this.#fork(turn, from, past);
      return undefined;
    }
    if (!this.#isNow(turn, from, certificate.height, frame)) return undefined;
    const { consensus } = this.#parts;
    if (!isCertificateFormed(consensus.height.members, certificate)) return "bad";
    return consensus.certificate(turn, certificate);
  }

  /** Votes of a height that is decided: they may be evidence. */
  #late(turn: Turn, past: Height, votes: readonly Vote[], certified: boolean): "bad" | undefined {
    const { keeper, machine, members } = past;
    for (const vote of votes) {
      if (!keeper.takes(vote, machine.round, certified)) continue;
      if (vote.voter >= members.size || (!certified && !isVoteSigned(this.#settings.verifier, members.replicas, vote))) return "bad";
      for (const conflict of keeper.add({ ...vote, signature: copyOf(vote.signature) }, machine.round))
        this.#parts.conflict(turn, past, conflict);
    }
    return undefined;
  }

  #status(turn: Turn, from: ReplicaId, { height, round, previous }: Of<"status">): "bad" | undefined {
    if (!isIndex(height, BFT_BOUNDS.heights) || height === 0 || !isIndex(round, BFT_BOUNDS.rounds) || !isValueId(previous)) return "bad";
    const { peers, decisions, catchUp, consensus } = this.#parts;
    const now = consensus.height;
    peers.status(turn, from, height, now.height);
    const mine = decisions.valueAt(height - 1);
    if (mine !== undefined && mine !== previous && height > 1) {
      const past = this.#parts.past().find((one) => one.height === height - 1);
      if (past !== undefined) this.#fork(turn, from, past);
    }
    if (height < now.height) catchUp.serve(turn, from, height);
    else if (height === now.height && peers.mayAnswer(turn, from, "round")) this.#help(turn, from, round);
    return undefined;
  }

  /** Two decisions of one height: more than f lie. Whoever has the votes of both finds who. */
  #fork(turn: Turn, to: ReplicaId, past: Height): void {
    if (!this.#parts.peers.mayAnswer(turn, to, `fork ${past.height}`)) return;
    observe(turn, "fork", to, past.height);
    const { height, keeper } = past;
    const commit = this.#parts.decisions.at(height)?.certificate;
    if (commit !== undefined) send(turn, to, { kind: "certificate", certificate: commit });
    for (const round of keeper.polkas()) {
      const certificate = keeper.certificate(height, round, STEP.PREVOTE, keeper.polka(round) as ValueId);
      if (certificate !== undefined) send(turn, to, { kind: "certificate", certificate });
    }
  }

  /**
   * Sends a replica in an earlier round, or in this one, what it may lack: why the round was left, the polka that counts, votes. Those of its own
   * round too: where f hubs are silent, it needs the vote of each other one to leave it, and who has left it says only what it votes now.
   */
  #help(turn: Turn, to: ReplicaId, round: number): void {
    const { height, keeper, machine, proposals } = this.#parts.consensus.height;
    if (machine.valid.round !== NO_ROUND) {
      const certificate = keeper.certificate(height, machine.valid.round, STEP.PREVOTE, machine.valid.value);
      if (certificate !== undefined) send(turn, to, { kind: "certificate", certificate });
    }
    if (round > machine.round) return;
    const later = round < machine.round ? keeper.later(machine.round) : [];
    const votes = [...later, ...keeper.votesIn(round)];
    for (let i = 0; i < votes.length; i += BFT_BOUNDS.votes)
      send(turn, to, { kind: "votes", height, votes: votes.slice(i, i + BFT_BOUNDS.votes) });
    const proposal = proposals.get(machine.round);
    if (proposal !== undefined) send(turn, to, { kind: "proposal", proposal, bytes: new Uint8Array(0) });
  }

  #wanted(turn: Turn, to: ReplicaId, { height, value }: Of<"want">): "bad" | undefined {
    if (!isIndex(height, BFT_BOUNDS.heights) || !isValueId(value)) return "bad";
    const { consensus, decisions, peers } = this.#parts;
    const decision = decisions.at(height);
    const bytes =
      height === consensus.height.height
        ? consensus.height.values.get(value)?.bytes
        : decision?.certificate.value === value
          ? decision.bytes
          : undefined;
    if (bytes === undefined || bytes.length === 0 || !peers.mayAnswer(turn, to, `value ${height % VALUES_AT_ONCE}`)) return undefined;
    for (const part of partsOf(height, value, bytes)) send(turn, to, part);
    return undefined;
  }
}

function heightOf(frame: BftFrame): number {
  if (frame.kind === "proposal") return frame.proposal.height;
  if (frame.kind === "certificate") return frame.certificate.height;
  return frame.kind === "part" || frame.kind === "votes" ? frame.height : -1;
}

function bytesOf(frame: BftFrame): number {
  if (frame.kind === "proposal" || frame.kind === "part") return 256 + frame.bytes.length;
  return frame.kind === "votes" ? 256 * frame.votes.length : 8 * 1024;
}
