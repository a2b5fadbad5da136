import { RawMessage } from "#channel/call.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import type { Invocations, Results, SessionFrame } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import type { PeerLinks } from "#runtime/sessions/peer-links.ts";
import { encodeInvocations, encodeResults } from "../codec/codec.ts";
import { VALUE_MAX_BYTES } from "../codec/value.ts";
import type { Invoke, Respond } from "../messages.ts";

/** CommandFrame is a frame of this service, not of the session itself. */
export type CommandFrame = SessionFrame & {
  readonly frame: { readonly case: "invocations"; readonly value: Invocations } | { readonly case: "results"; readonly value: Results };
};

interface Outgoing {
  readonly invokes: Invoke[];
  readonly responds: Respond[];
  /** Encoded frames that the session did not take yet. */
  waiting: Buffer[];
  /** Bytes of those, and about as many as the outcomes that this turn gathered will have. */
  waitingBytes: number;
  gatheredBytes: number;
  /** The core wants to hear when all of it is taken. */
  asked: boolean;
  /** Acknowledgements that wait for a frame to ride on. */
  riders: Timer | undefined;
}

/** What may wait for a peer at least. */
const WAITING_BYTES = 16 * 1024 * 1024;

/**
 * waitingBytes is what may wait for a peer to which so many commands may be pending, and from which as many: their outcomes and values come
 * to that at most. One that asks again and again for what it does not read loses its session.
 */
export function waitingBytes(pendingPerPeer: number): number {
  return Math.max(WAITING_BYTES, 2 * pendingPerPeer * VALUE_MAX_BYTES);
}

/** About what an outcome takes beside its value and its message. */
const OUTCOME_BYTES = 64;

/** How long acknowledgements wait for a frame to ride on, ms: the owner only wants them before its memory fills. */
const RIDE_MS = 20;

/**
 * PeerOutbox gathers what goes to peers during a turn and hands it to their sessions, in order. What a session has no room for
 * waits here, up to a bound beyond which the session ends. When a session ends, what waited is dropped: commands are asked again on the
 * next one, and so are their outcomes.
 */
export class PeerOutbox {
  readonly #clock: Clock;
  readonly #links: () => PeerLinks<SessionFrame>;
  readonly #maxBytes: number;
  readonly #onRoom: (peer: string) => void;
  readonly #peers = new Map<string, Outgoing>();
  readonly #touched = new Set<string>();

  /** `onRoom` is called, once for each `tellRoom`, when a session has taken everything and would take more. */
  constructor(clock: Clock, links: () => PeerLinks<SessionFrame>, maxBytes: number, onRoom: (peer: string) => void) {
    this.#clock = clock;
    this.#maxBytes = maxBytes;
    this.#links = links;
    this.#onRoom = onRoom;
  }

  tellRoom(peer: string): void {
    this.#of(peer).asked = true;
    this.#touched.add(peer);
  }

  invoke(effect: Invoke): void {
    const outgoing = this.#of(effect.peer);
    outgoing.invokes.push(effect);
    if (effect.items.length + effect.cancels.length > 0) this.#touched.add(effect.peer);
    else outgoing.riders ??= this.#clock.setTimer(RIDE_MS, () => this.#ride(effect.peer));
  }

  respond(effect: Respond): void {
    const outgoing = this.#of(effect.peer);
    outgoing.responds.push(effect);
    for (const { result } of effect.items)
      outgoing.gatheredBytes += OUTCOME_BYTES + result.value.length + (result.failure?.message.length ?? 0);
    this.#touched.add(effect.peer);
    // Now and not when they are written: one frame can ask ten thousand times for the same outcome of 16 KiB.
    if (outgoing.waitingBytes + outgoing.gatheredBytes > this.#maxBytes) this.#overflow(effect.peer);
  }

  /** flush encodes and sends what this turn gathered. */
  flush(): void {
    const mono = this.#clock.mono();
    for (const peer of this.#touched) {
      const outgoing = this.#peers.get(peer);
      if (outgoing === undefined) continue;
      for (const frame of encodeResponds(outgoing.responds)) enqueue(outgoing, frame);
      for (const frame of encodeInvokes(outgoing.invokes, mono)) enqueue(outgoing, frame);
      outgoing.gatheredBytes = 0;
      outgoing.responds.length = 0;
      outgoing.invokes.length = 0;
      outgoing.riders?.cancel();
      outgoing.riders = undefined;
      this.pump(peer);
    }
    this.#touched.clear();
  }

  /** pump sends what waits for a peer, as far as its session takes it. */
  pump(peer: string): void {
    const outgoing = this.#peers.get(peer);
    if (outgoing === undefined || (outgoing.waiting.length === 0 && !outgoing.asked)) return;
    const links = this.#links();
    if (links.current(peer) === undefined) {
      outgoing.waiting = [];
      outgoing.waitingBytes = 0;
      return;
    }
    let sent = 0;
    for (; sent < outgoing.waiting.length; sent++) {
      const frame = outgoing.waiting[sent] as Buffer;
      if (!links.send(peer, new RawMessage(frame))) break;
      outgoing.waitingBytes -= frame.length;
    }
    outgoing.waiting.splice(0, sent);
    if (!outgoing.asked || outgoing.waiting.length > 0 || !links.writable(peer)) return;
    outgoing.asked = false;
    this.#onRoom(peer);
  }

  /** drop forgets what waits for a peer whose session is over. */
  drop(peer: string): void {
    this.#peers.get(peer)?.riders?.cancel();
    this.#peers.delete(peer);
    this.#touched.delete(peer);
  }

  #of(peer: string): Outgoing {
    let outgoing = this.#peers.get(peer);
    if (outgoing === undefined) {
      outgoing = { invokes: [], responds: [], waiting: [], waitingBytes: 0, gatheredBytes: 0, asked: false, riders: undefined };
      this.#peers.set(peer, outgoing);
    }
    return outgoing;
  }

  #overflow(peer: string): void {
    this.drop(peer);
    this.#links().disconnect(peer, { reason: "OVERLOADED", message: "too much waits to be read; connect again to resume" });
  }

  #ride(peer: string): void {
    this.#touched.add(peer);
    this.flush();
  }
}

function enqueue(outgoing: Outgoing, frame: Buffer): void {
  outgoing.waiting.push(frame);
  outgoing.waitingBytes += frame.length;
}

/** Effects of one turn share a frame when they agree about the epochs; the newest acknowledgement counts. */
function encodeInvokes(invokes: readonly Invoke[], mono: number): Buffer[] {
  const frames: Buffer[] = [];
  for (let i = 0; i < invokes.length; ) {
    const head = invokes[i] as Invoke;
    let { acks, items, cancels, ackedBelow, ownerPosition } = head;
    for (i++; i < invokes.length; i++) {
      const next = invokes[i] as Invoke;
      // A cancel must not overtake an item of a later frame, nor an item the cancel of its own seq: one frame has items first.
      if (next.epoch !== head.epoch || next.ownerEpoch !== head.ownerEpoch) break;
      acks = acks.concat(next.acks);
      items = items.concat(next.items);
      cancels = cancels.concat(next.cancels);
      ackedBelow = Math.max(ackedBelow, next.ackedBelow);
      ownerPosition = Math.max(ownerPosition, next.ownerPosition);
    }
    const common = { epoch: head.epoch, ownerEpoch: head.ownerEpoch, ackedBelow, ownerPosition };
    for (const frame of encodeInvocations(common, acks, items, cancels, mono)) frames.push(frame);
  }
  return frames;
}

function encodeResponds(responds: readonly Respond[]): Buffer[] {
  const frames: Buffer[] = [];
  for (let i = 0; i < responds.length; ) {
    const head = responds[i] as Respond;
    let { items, ownerPosition } = head;
    for (i++; i < responds.length; i++) {
      const next = responds[i] as Respond;
      if (next.epoch !== head.epoch || next.ownerEpoch !== head.ownerEpoch) break;
      items = items.concat(next.items);
      ownerPosition = Math.max(ownerPosition, next.ownerPosition);
    }
    const { epoch, ownerEpoch } = head;
    for (const frame of encodeResults({ epoch, ownerEpoch, ownerPosition }, items)) frames.push(frame);
  }
  return frames;
}
