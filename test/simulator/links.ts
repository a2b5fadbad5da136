import type { Failure } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { PeerSessions } from "#kernel/session.ts";
import {
  type ControlFrame,
  DEFAULT_SESSION_TIMES,
  type PeerSession,
  type SessionEffect,
  type SessionInput,
} from "#kernel/session-rules.ts";
import type { Clock, Timer } from "#runtime/clock.ts";
import type { Network, Socket } from "./network.ts";

/** Message is what travels on a session's stream. Frames are handed over as they are: their bytes are the codecs' business. */
export type Message =
  | {
      readonly m: "control";
      readonly frame: ControlFrame;
      readonly heads: readonly unknown[];
      readonly hubId: string;
      readonly windowBytes: number;
    }
  | { readonly m: "credit"; readonly bytes: number }
  | { readonly m: "data"; readonly frame: unknown; readonly bytes: number }
  | { readonly m: "terminated"; readonly failure: Failure; readonly reconnect: boolean }
  | { readonly m: "fin" };

/** Trust is how a hub sees one peer at the moment. */
export interface Trust {
  readonly level: number;
  readonly share: string;
  readonly terminated: boolean;
}

/** LinksOptions join the sessions of one service to the simulated world. */
export interface LinksOptions {
  readonly service: string;
  readonly hub: number;
  readonly hubIds: readonly string[];
  readonly incarnation: number;
  readonly seed: number;
  readonly clock: Clock;
  readonly network: Network<Message>;
  readonly windowBytes: number;
  readonly synchronises: boolean;
  /** dialable: whether this hub has an address of that peer. */
  readonly dialable: (peer: number) => boolean;
  readonly heads: (peer: string) => readonly unknown[];
  readonly onUp: (peer: string, session: PeerSession, replaced: PeerSession | undefined) => void;
  readonly onDown: (peer: string, session: PeerSession) => void;
  readonly onFrame: (peer: string, session: PeerSession, frame: unknown, bytes: number) => void;
  readonly onHeads: (peer: string, heads: readonly unknown[], rttMs: number) => void;
  /** The other side gave credit on a session. */
  readonly onCredit: (peer: string, streamId: number, bytes: number) => void;
  /** note puts into the trace what happened on the link with a peer. */
  readonly note: (what: string, peer: string) => void;
  /** slowMs: how long this process takes to consume a frame now; 0 unless it is a slow reader. */
  readonly slowMs: () => number;
}

interface Link {
  readonly streamId: number;
  readonly peer: string;
  readonly inbound: boolean;
  socket: Socket<Message> | undefined;
  opened: boolean;
  closing: boolean;
  /** The other side said that it sends no more. */
  finReceived: boolean;
  over: boolean;
  credit: number;
  readonly outbox: { readonly frame: unknown; readonly bytes: number }[];
  outboxBytes: number;
  readonly inbox: { readonly frame: unknown; readonly bytes: number }[];
  consuming: boolean;
  consumed: number;
  timer: Timer | undefined;
}

const CLOSE_TIMEOUT_MS = 5_000;
const LEVEL_LIMITED = 2;

/**
 * Links runs the shipping session rules (PeerSessions) of one service of one hub over simulated streams, with byte credit as
 * the shipping streams have it. It does what `runtime/rpc/peer-links.ts` does, without sockets, protobuf and promises.
 */
export class Links {
  readonly #o: LinksOptions;
  readonly #fsm: PeerSessions;
  readonly #links = new Map<number, Link>();
  readonly #inputs: SessionInput[] = [];
  readonly #trust = new Map<string, Trust>();
  #busy = false;
  #timer: Timer | undefined;
  #armedFor = Number.POSITIVE_INFINITY;

  constructor(options: LinksOptions) {
    this.#o = options;
    const { hub, hubIds, incarnation, synchronises } = options;
    const config = {
      ...DEFAULT_SESSION_TIMES,
      hubId: hubIds[hub] as string,
      incarnation,
      packages: ["v1"],
      minLevel: LEVEL_LIMITED,
      needsToken: false,
      synchronises,
    };
    this.#fsm = new PeerSessions(config, new Prng(options.seed));
    options.network.listen(hub, options.service, (from, socket) => this.#accept(from, socket));
  }

  get size(): number {
    return this.#links.size;
  }

  /** Bytes that wait for credit now, on all streams. */
  get waitingBytes(): number {
    return [...this.#links.values()].reduce((sum, { outboxBytes }) => sum + outboxBytes, 0);
  }

  setTrust(peer: string, trust: Trust): void {
    this.#trust.set(peer, trust);
    if (trust.terminated) return this.#step({ kind: "peer_terminated", peer });
    this.#step({
      kind: "peer_wanted",
      peer,
      dialable: this.#o.dialable(this.#o.hubIds.indexOf(peer)),
      level: trust.level,
      expiresAtWall: 0,
    });
  }

  current(peer: string): PeerSession | undefined {
    return this.#fsm.current(peer);
  }

  synced(peer: string): void {
    this.#step({ kind: "synced", peer });
  }

  /** send sends a frame of the service on the current session; false when there is none or it is full. */
  send(peer: string, frame: unknown, bytes: number): boolean {
    const session = this.#fsm.current(peer);
    return session !== undefined && this.sendOn(session.streamId, frame, bytes);
  }

  /** sendOn sends on one session. */
  sendOn(streamId: number, frame: unknown, bytes: number): boolean {
    const link = this.#links.get(streamId);
    if (link === undefined || link.closing || link.over) return false;
    if (link.credit > 0 && link.outbox.length === 0) {
      link.credit -= bytes;
      link.socket?.send({ m: "data", frame, bytes });
      return true;
    }
    if (link.outboxBytes + bytes > this.#o.windowBytes) return false;
    link.outbox.push({ frame, bytes });
    link.outboxBytes += bytes;
    this.#o.note("wait for credit", link.peer);
    return true;
  }

  /** writable: the next frame would leave at once. */
  writable(peer: string): boolean {
    const session = this.#fsm.current(peer);
    const link = session === undefined ? undefined : this.#links.get(session.streamId);
    return link !== undefined && !link.closing && link.credit > 0 && link.outbox.length === 0;
  }

  /** disconnect ends the current session as a broken rule does. */
  disconnect(peer: string, failure: Failure): void {
    const session = this.#fsm.current(peer);
    if (session !== undefined) this.#step({ kind: "violated", streamId: session.streamId, failure, reconnect: true });
  }

  /** violate ends a session whose other side broke the rules. */
  violate(streamId: number, failure: Failure): void {
    this.#step({ kind: "violated", streamId, failure, reconnect: false });
  }

  stop(): void {
    this.#step({ kind: "stop" });
  }

  describe(): string {
    return this.#fsm.describe();
  }

  /** step gives the state machine an input; what that causes waits its turn (D1). */
  #step(input: SessionInput): void {
    this.#inputs.push(input);
    if (!this.#busy) this.#pump(false);
  }

  #pump(tick: boolean): void {
    this.#busy = true;
    const out: SessionEffect[] = [];
    if (tick) this.#fsm.tick(this.#o.clock.now(), out);
    for (const effect of out.splice(0)) this.#execute(effect);
    for (let input = this.#inputs.shift(); input !== undefined; input = this.#inputs.shift()) {
      this.#fsm.step(this.#o.clock.now(), input, out);
      for (const effect of out.splice(0)) this.#execute(effect);
    }
    this.#busy = false;
    this.#arm();
  }

  #arm(): void {
    const due = this.#fsm.deadline();
    if (due === undefined || due >= this.#armedFor) return;
    this.#timer?.cancel();
    this.#armedFor = due;
    this.#timer = this.#o.clock.setTimer(Math.max(0, due - this.#o.clock.mono()), () => {
      this.#armedFor = Number.POSITIVE_INFINITY;
      this.#pump(true);
    });
  }

  #execute(effect: SessionEffect): void {
    switch (effect.kind) {
      case "dial":
        return this.#dial(effect.peer, effect.streamId);
      case "send_control":
        return this.#control(effect.streamId, effect.frame);
      case "close":
        return this.#close(effect.streamId, effect.failure, effect.reconnect);
      case "up":
        return this.#o.onUp(effect.peer, effect.session, effect.replaced);
      case "down":
        return this.#o.onDown(effect.peer, effect.session);
      case "state":
      case "answered":
        return;
    }
  }

  #newLink(streamId: number, peer: string, inbound: boolean): Link {
    const link: Link = {
      streamId,
      peer,
      inbound,
      socket: undefined,
      opened: inbound,
      closing: false,
      finReceived: false,
      over: false,
      credit: 0,
      outbox: [],
      outboxBytes: 0,
      inbox: [],
      consuming: false,
      consumed: 0,
      timer: undefined,
    };
    this.#links.set(streamId, link);
    return link;
  }

  #end(link: Link) {
    return { receive: (message: Message) => this.#receive(link, message), ended: (failure: Failure) => this.#ended(link, failure) };
  }

  #dial(peer: string, streamId: number): void {
    const link = this.#newLink(streamId, peer, false);
    const to = this.#o.hubIds.indexOf(peer);
    link.socket = this.#o.network.dial(this.#o.hub, to, this.#o.service, this.#end(link), () => {
      link.opened = true;
      this.#step({ kind: "dial_opened", streamId });
    });
  }

  #accept(from: number, socket: Socket<Message>) {
    const peer = this.#o.hubIds[from] as string;
    const link = this.#newLink(this.#fsm.allocate(), peer, true);
    link.socket = socket;
    this.#step({ kind: "inbound_opened", streamId: link.streamId, peer, expiresAtWall: 0 });
    return this.#end(link);
  }

  #control(streamId: number, frame: ControlFrame): void {
    const link = this.#links.get(streamId);
    if (link === undefined || link.closing || link.over) return;
    const heads = frame.case === "ping" || frame.case === "pong" ? this.#o.heads(link.peer) : [];
    link.socket?.send({ m: "control", frame, heads, hubId: this.#o.hubIds[this.#o.hub] as string, windowBytes: this.#o.windowBytes });
  }

  #close(streamId: number, failure: Failure, reconnect: boolean): void {
    const link = this.#links.get(streamId);
    if (link === undefined || link.closing || link.over) return;
    if (!link.inbound && !link.opened) return this.#abort(link, failure);
    link.closing = true;
    link.outbox.length = 0;
    link.outboxBytes = 0;
    link.socket?.send({ m: "terminated", failure, reconnect });
    link.socket?.send({ m: "fin" });
    if (link.finReceived) return this.#abort(link, failure);
    link.timer = this.#o.clock.setTimer(CLOSE_TIMEOUT_MS, () => this.#abort(link, failure));
  }

  /** abort comes after all that was sent: the connection delivers in order. */
  #abort(link: Link, failure: Failure): void {
    if (link.over) return;
    link.socket?.abort(failure);
    this.#ended(link, failure);
  }

  #ended(link: Link, failure: Failure): void {
    if (link.over) return;
    link.over = true;
    link.timer?.cancel();
    link.inbox.length = 0;
    this.#links.delete(link.streamId);
    this.#step({ kind: "stream_ended", streamId: link.streamId, failure });
  }

  #receive(link: Link, message: Message): void {
    if (link.over) return;
    const { streamId } = link;
    switch (message.m) {
      case "control":
        return this.#receiveControl(link, message);
      case "credit":
        return this.#addCredit(link, message.bytes);
      case "terminated":
        return this.#step({ kind: "terminated_received", streamId, failure: message.failure, reconnect: message.reconnect });
      case "fin":
        link.finReceived = true;
        if (link.closing) this.#abort(link, { reason: "PEER_UNREACHABLE", message: "both sides are done" });
        return;
      case "data":
        if ((this.#trust.get(link.peer)?.level ?? 0) < LEVEL_LIMITED)
          return this.#step({
            kind: "violated",
            streamId,
            failure: { reason: "TRUST_TOO_LOW", message: "frame is not allowed" },
            reconnect: false,
          });
        if (this.#fsm.heard(streamId, this.#o.clock.mono())) this.#step({ kind: "frame_received", streamId });
        link.inbox.push(message);
        return this.#consume(link);
    }
  }

  #receiveControl(link: Link, message: Extract<Message, { m: "control" }>): void {
    const { streamId, peer } = link;
    const { frame } = message;
    if (frame.case === "open") {
      link.credit = message.windowBytes;
      const { incarnation, n } = frame.id;
      this.#step({ kind: "open_received", streamId, hubId: message.hubId, incarnation, n, packages: ["v1"] });
    } else if (frame.case === "ping") this.#step({ kind: "ping_received", streamId, n: frame.n });
    else if (frame.case === "pong") this.#step({ kind: "pong_received", streamId, n: frame.n });
    if (frame.case === "ping" || frame.case === "pong") this.#o.onHeads(peer, message.heads, this.#fsm.status(peer)?.rttMs ?? -1);
  }

  #addCredit(link: Link, bytes: number): void {
    link.credit += bytes;
    while (link.credit > 0 && !link.closing) {
      const next = link.outbox.shift();
      if (next === undefined) break;
      link.outboxBytes -= next.bytes;
      link.credit -= next.bytes;
      link.socket?.send({ m: "data", frame: next.frame, bytes: next.bytes });
    }
    this.#o.onCredit(link.peer, link.streamId, bytes);
  }

  /** consume hands frames on, at once or at the pace of a slow reader, and gives credit back for what was consumed. */
  #consume(link: Link): void {
    if (link.consuming) return;
    for (;;) {
      const next = link.inbox[0];
      if (next === undefined || link.over) return;
      const slowMs = this.#o.slowMs();
      if (slowMs > 0) {
        link.consuming = true;
        this.#o.clock.setTimer(slowMs, () => {
          link.consuming = false;
          this.#consumeOne(link);
          this.#consume(link);
        });
        return;
      }
      this.#consumeOne(link);
    }
  }

  #consumeOne(link: Link): void {
    const next = link.inbox.shift();
    if (next === undefined || link.over) return;
    const session = this.#fsm.frameOn(link.streamId);
    if (session !== undefined && this.#trust.has(link.peer)) this.#o.onFrame(link.peer, session, next.frame, next.bytes);
    link.consumed += next.bytes;
    if (link.consumed < this.#o.windowBytes / 4 || link.closing || link.over) return;
    link.socket?.send({ m: "credit", bytes: link.consumed });
    link.consumed = 0;
  }
}
