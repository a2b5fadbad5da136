import type { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { RawMessage } from "#channel/call.ts";
import type { Timer } from "#channel/clock.ts";
import { parseCertificates } from "#channel/tls/material.ts";
import { type FeedHead, FeedHeadSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { SessionFrame } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { Retry } from "#kernel/backoff.ts";
import type { Failure } from "#kernel/error.ts";
import type { PeerSession } from "#kernel/session/rules.ts";
import type { LinkCounters } from "#runtime/events.ts";
import type { PeerSource, PeerView, SessionReport, SessionReporter } from "#runtime/peers.ts";
import type { TokenVerifier } from "#runtime/rpc/server/token-verifier.ts";
import type { Platform } from "#runtime/service/module.ts";
import { sessionGround } from "#runtime/service/session-ground.ts";
import { createPeerLinks, type PeerLinks, type PeerLinksOptions } from "#runtime/sessions/peer-links.ts";
import { DEFAULT_WINDOW_BYTES } from "#runtime/sessions/session-stream.ts";
import { frameFromProto, frameToProto, segmentMessage } from "../codec/frame-codec.ts";
import type { FeedPosition, Input, Output, PeerFrame } from "../messages.ts";
import { FRAME_OVERHEAD } from "../peer-session.ts";
import type { verifyKeyStatement } from "./key.ts";
import { Probes } from "./probes.ts";
import type { Shell } from "./shell.ts";

/** Part of a session's window that the core may have sent ahead of the transport: also the most of a snapshot that is under way. */
const CREDIT_PART = 4;
/** Credit is given back in pieces of at least this part of it. */
const CREDIT_STEPS = 4;
/** The core is ahead of the transport by so many times what may be under way. What waits there is sent before anything that is newer. */
const CREDIT_AHEAD = 2;

/** LinkPorts are what the sessions with peers need of the composition. */
export interface LinkPorts {
  readonly peers: PeerSource;
  readonly sessions: SessionReporter;
  /** connect makes a client of the peer's registry for one session. */
  readonly connect: PeerLinksOptions<SessionFrame>["connect"];
  /** Checks tokens that peers renew on a session. */
  readonly tokens?: TokenVerifier;
  /** Other times than the usual of sessions and backoff, for tests. */
  readonly tuning?: Pick<PeerLinksOptions<SessionFrame>, "times" | "backoff" | "windowBytes" | "closeTimeoutMs">;
}

/** LinksOptions join the sessions to the core. */
export interface LinksOptions {
  readonly platform: Platform;
  readonly ports: LinkPorts;
  readonly shell: Shell;
  /** Our SignedKeyStatement, as it is now. */
  readonly statement: () => Uint8Array;
  /** renewed is true, once, after the statement changed because the certificate was renewed. */
  readonly renewed: () => boolean;
  readonly verifyKeyStatement: typeof verifyKeyStatement;
  /** Heads of the feeds that a peer is offered. */
  readonly heads: (peer: string) => readonly FeedPosition[];
  /** Told of the peers that are known. */
  readonly onPeers: (hubIds: readonly string[]) => void;
  /** Serial of our feed key. */
  readonly serial: number;
  readonly heartbeatMs: number;
}

/** Session is what the core knows as one: it lasts while streams replace each other, but then starts anew. */
interface Session {
  readonly id: number;
  readonly peer: string;
  /** The newest offer of the peer. */
  offer: PeerFrame | undefined;
  /** Bytes that the transport took and for which the core has no credit back yet. */
  owed: number;
  /** Credit that the core has altogether, used or not. */
  credit: number;
}

/** Pause before an offer that cannot be taken is answered again. */
const ANSWER = { baseMs: 1_000, maxMs: 60_000, factor: 2 };

/** Refusal is an offer that cannot be taken, and why. */
interface Refusal {
  failure: Failure;
  offer: SessionFrame;
  readonly retry: Retry;
  timer: Timer | undefined;
}

interface Peer {
  readonly view: PeerView;
  readonly bundle: readonly X509Certificate[];
}

/** frameCost is what a frame costs of the core's credit; the same sum as in `session.ts`. */
function frameCost(frame: PeerFrame): number {
  if (frame.type === "segment") return frame.segment.length + FRAME_OVERHEAD;
  if (frame.type === "snapshot") return frame.manifest.length + FRAME_OVERHEAD;
  return (frame.type === "snapshot_part" ? frame.data.length : 0) + FRAME_OVERHEAD;
}

/**
 * Links are the sessions of this registry with those of its peers: frames in and out, heads, and who the peers are.
 *
 * LK1 while two streams to a peer live side by side, frames of both count, of the older one until the first on the newer: what comes
 *    on it later is late (SM10). Frames go out on the current one.
 * LK2 when the current stream changes, frames may be lost in both directions. The core then gets a fresh session: it offers its feed
 *    anew, and the peer's last offer is shown to it again, so that both resume from what they hold, whether the peer changed too or not.
 * LK3 a link counts as operational only while feeds are taken over it, both ways; else its report says why not.
 * LK4 an offer that cannot be taken is told of once, answered after a pause that grows up to a minute, and looked at again at once when
 *    what is known of the peer changes.
 */
export class Links {
  readonly #o: LinksOptions;
  readonly #links: PeerLinks<SessionFrame>;
  readonly #sessions = new Map<number, Session>();
  readonly #byPeer = new Map<string, Session>();
  readonly #peers = new Map<string, Peer>();
  readonly #probes: Probes;
  /** Bytes that the core may have sent ahead of the transport. */
  readonly #creditBytes: number;
  #unsubscribe: (() => void) | undefined;
  #known = false;
  /** Why feeds are not taken, by peer: as the core says, and for want of a good key. */
  readonly #troubles = new Map<string, Failure>();
  readonly #refusals = new Map<string, Refusal>();
  #reports: readonly SessionReport[] = [];

  constructor(options: LinksOptions) {
    this.#o = options;
    const { platform, ports } = options;
    this.#creditBytes = (ports.tuning?.windowBytes ?? DEFAULT_WINDOW_BYTES) / CREDIT_PART;
    this.#probes = new Probes(platform.clock, (peer) => this.#links.probe(peer));
    this.#links = createPeerLinks<SessionFrame>({
      ...sessionGround(platform, RegistrySyncService.method.session),
      service: "registry-sync",
      connect: ports.connect,
      ...(ports.tokens === undefined ? {} : { tokens: ports.tokens }),
      heads: (peer) => this.#heads(peer),
      onUp: (peer, session, replaced) => this.#onUp(peer, session, replaced),
      onDown: (peer) => this.#onDown(peer),
      onFrame: (peer, _session, frame, bytes) => this.#onFrame(peer, frame, bytes),
      onHeads: (peer, heads, rttMs) => this.#onHeads(peer, heads, rttMs),
      onCredit: (peer) => this.#onCredit(peer),
      synchronises: true,
      reporter: { report: (reports) => this.#report(reports) },
      ...ports.tuning,
      times: { pingIntervalMs: Math.min(15_000, options.heartbeatMs), ...ports.tuning?.times },
    });
  }

  /** accept is the handler of Session. */
  get accept(): PeerLinks<SessionFrame>["accept"] {
    return (requests, out, context) => this.#links.accept(requests, out, context);
  }

  /** start follows the peers that discovery knows. */
  start(): void {
    this.#unsubscribe = this.#o.ports.peers.subscribe("registry-sync", (views) => this.#onViews(views));
  }

  async stop(graceMs: number): Promise<void> {
    this.#unsubscribe?.();
    this.#probes.stop();
    for (const { timer } of this.#refusals.values()) timer?.cancel();
    await this.#links.stop(graceMs);
  }

  counters(): readonly LinkCounters[] {
    return this.#links.counters("mirror");
  }

  describe(): string {
    return this.#links.describe();
  }

  /** send does what the core asks; a frame for a session that is over is dropped, the next one resumes. */
  send({ session: id, frame }: Extract<Output, { kind: "send" }>): void {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    const { peer } = session;
    const message =
      frame.type === "segment"
        ? new RawMessage(bufferOf(frame.message ?? segmentMessage(frame.segment)))
        : frameToProto(frame, this.#o.statement());
    if (!this.#links.send(peer, message)) {
      // The core never sends more than its credit, so this is a stream that is full of something else: start again from the resume vector.
      this.#links.disconnect(peer, { reason: "OVERLOADED", message: "the session cannot take more; connect again to resume" });
      return;
    }
    session.owed += frameCost(frame);
    if (session.owed >= session.credit / CREDIT_STEPS && this.#links.writable(peer)) this.#repay(session);
  }

  synced(id: number): void {
    const session = this.#sessions.get(id);
    if (session !== undefined) this.#links.synced(session.peer);
  }

  /** trouble notes why the feeds of a session are not taken, or that they are again. */
  trouble({ session: id, failure }: Extract<Output, { kind: "trouble" }>): void {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    if (failure === undefined) this.#troubles.delete(session.peer);
    else this.#troubles.set(session.peer, failure);
    this.#report(this.#reports);
  }

  /** report tells discovery of the sessions. One over which nothing is taken is not operational, however well it stands, and says why (LK3). */
  #report(reports: readonly SessionReport[]): void {
    this.#reports = reports;
    this.#o.ports.sessions.report(
      reports.map((report) => {
        const failure = this.#refusals.get(report.hubId)?.failure ?? this.#troubles.get(report.hubId);
        const stands = report.state === "OPERATIONAL" || report.state === "SYNCING";
        return failure === undefined || !stands ? report : { ...report, state: "SYNCING", synced: false, failure };
      }),
    );
  }

  /** probe asks a hub for a sign of life and resolves when its heads came, or after a second. Whoever asks at the same time shares it. */
  async probe(hubId: string): Promise<void> {
    if (this.#links.current(hubId) !== undefined) await this.#probes.ask(hubId);
  }

  /** renew offers our feed anew, with the statement that the renewed certificate signed, and replaces the sessions that rest on the old one. */
  #renew(): void {
    for (const session of this.#byPeer.values()) this.#o.platform.log.info({ peer: session.peer }, "feed key statement renewed");
    this.#o.shell.tell({ kind: "own_key", serial: this.#o.serial, revoked: false }, "own_key");
    this.#links.redial();
  }

  /** creditFor is how much credit the core should have on the session with a peer: much on a fast link, little on a slow one. */
  #creditFor(peer: string): number {
    return Math.min(this.#creditBytes, CREDIT_AHEAD * this.#links.aheadBytes(peer));
  }

  #repay(session: Session): void {
    const credit = this.#creditFor(session.peer);
    const bytes = session.owed + credit - session.credit;
    if (bytes <= 0) return;
    session.owed = 0;
    session.credit = credit;
    this.#o.shell.tell({ kind: "credit", session: session.id, bytes }, `credit ${session.id}`, bothCredits);
  }

  #onCredit(peer: string): void {
    const session = this.#byPeer.get(peer);
    if (session !== undefined && session.owed > 0) this.#repay(session);
  }

  #onViews(views: readonly PeerView[]): void {
    // Before discovery has told all it knows, what is missing says nothing: empty is not unknown (D-7).
    this.#known = this.#o.ports.peers.synced ?? (this.#known || views.length > 0);
    const before = new Map(this.#peers);
    this.#peers.clear();
    for (const view of views) {
      const old = before.get(view.hubId);
      const same = old !== undefined && old.view.caPems.join() === view.caPems.join();
      this.#peers.set(view.hubId, { view, bundle: same ? old.bundle : parseCertificates(view.caPems) });
      if (!same || old.view.revoked.join() !== view.revoked.join()) this.#lookAgain(view.hubId);
    }
    for (const peer of this.#refusals.keys()) if (!this.#peers.has(peer)) this.#accepted(peer);
    const peers = views.map(({ hubId, share, level }) => ({ hubId, share, level }));
    this.#o.shell.tell({ kind: "peers", peers, complete: this.#known }, "peers");
    this.#links.setPeers(views);
    this.#o.onPeers(views.map(({ hubId }) => hubId));
    // The new token and the new certificate belong together, so this is the moment.
    if (this.#o.renewed()) this.#renew();
  }

  #onUp(peer: string, _session: PeerSession, replaced: PeerSession | undefined): void {
    const offer = replaced === undefined ? undefined : this.#byPeer.get(peer)?.offer;
    this.#onDown(peer);
    const session: Session = { id: this.#o.shell.id(), peer, offer, owed: 0, credit: this.#creditFor(peer) };
    this.#sessions.set(session.id, session);
    this.#byPeer.set(peer, session);
    this.#o.shell.tell({ kind: "session_up", session: session.id, peer, creditBytes: session.credit });
    if (offer !== undefined) this.#o.shell.tell({ kind: "frame", session: session.id, frame: offer });
  }

  #onDown(peer: string): void {
    const session = this.#byPeer.get(peer);
    if (session === undefined) return;
    this.#sessions.delete(session.id);
    this.#byPeer.delete(peer);
    this.#probes.forget(peer);
    this.#troubles.delete(peer);
    this.#o.shell.tell({ kind: "session_down", session: session.id });
  }

  #onFrame(peer: string, proto: SessionFrame, bytes = 0): void | Promise<void> {
    const frame = frameFromProto(proto);
    const session = this.#byPeer.get(peer);
    if (frame === undefined || session === undefined) return;
    if (frame.type === "feed_offer") {
      const problem = frame.keyStatement.length > 0 ? this.#takeKey(peer, frame.keyStatement) : undefined;
      if (problem !== undefined) return this.#refuseOffer(peer, problem, proto);
      this.#accepted(peer);
      session.offer = frame;
    }
    // What the peer withdrew is not shown again to a session that takes the place of this one.
    if (frame.type === "forget" && session.offer?.type === "feed_offer" && session.offer.head?.share === frame.share)
      session.offer = undefined;
    return this.#o.shell.offer({ kind: "frame", session: session.id, frame }, bytes);
  }

  #takeKey(peer: string, statement: Uint8Array): Failure | undefined {
    const known = this.#peers.get(peer);
    const { clock } = this.#o.platform;
    const key = this.#o.verifyKeyStatement(statement, {
      hubId: peer,
      bundle: known?.bundle ?? [],
      revoked: known?.view.revoked ?? [],
      nowWall: clock.wall(),
    });
    if ("reason" in key) return key;
    const { publicKey, serial, notAfterWall, revokesUpTo } = key;
    this.#o.shell.tell({ kind: "feed_key", peer, key: publicKey, serial, notAfterWall, revokesUpTo }, `feed_key ${peer} ${serial}`);
    return undefined;
  }

  #refuseOffer(peer: string, failure: Failure, offer: SessionFrame): void {
    const known = this.#refusals.get(peer);
    const refusal: Refusal = known ?? { failure, offer, retry: new Retry(ANSWER), timer: undefined };
    const said = known?.failure.message === failure.message;
    refusal.failure = failure;
    refusal.offer = offer;
    this.#refusals.set(peer, refusal);
    if (!said) {
      this.#o.platform.log.warn({ peer, failure }, "feed offer refused");
      this.#o.platform.events.report({
        kind: "FEED",
        severity: "ERROR",
        peer,
        text: "the peer's feed key is not valid; nothing is taken from it",
        fields: { reason: failure.reason, message: failure.message },
      });
      this.#report(this.#reports);
    }
    this.#answer(peer, refusal);
  }

  /** answer says no. A peer of an older version offers again as soon as it hears that, so the answer is what has to wait. */
  #answer(peer: string, refusal: Refusal): void {
    const { clock } = this.#o.platform;
    if (refusal.timer !== undefined) return;
    const wait = refusal.retry.dueAt - clock.mono();
    if (wait > 0) {
      refusal.timer = clock.setTimer(wait, () => {
        refusal.timer = undefined;
        if (this.#refusals.get(peer) === refusal) this.#answer(peer, refusal);
      });
      return;
    }
    refusal.retry.failed(clock.mono());
    const held: FeedPosition = { hubId: peer, share: "", epoch: 0, seq: 0, digest: new Uint8Array(0) };
    this.#links.send(peer, frameToProto({ type: "nack", held, failure: refusal.failure, wantSnapshot: false }, this.#o.statement()));
  }

  /** accepted: the peer's key is good now. */
  #accepted(peer: string): void {
    const refusal = this.#refusals.get(peer);
    if (refusal === undefined) return;
    refusal.timer?.cancel();
    this.#refusals.delete(peer);
    this.#report(this.#reports);
  }

  /** lookAgain takes an offer that was refused as if it came now: what is known of the peer has changed. */
  #lookAgain(peer: string): void {
    const offer = this.#refusals.get(peer)?.offer;
    if (offer !== undefined && this.#byPeer.has(peer)) void this.#onFrame(peer, offer);
  }

  #heads(peer: string): FeedHead[] {
    return this.#o
      .heads(peer)
      .map(({ hubId, share, epoch, seq, digest }) =>
        create(FeedHeadSchema, { hubId, share, epoch: BigInt(epoch), seq: BigInt(seq), digest }),
      );
  }

  #onHeads(peer: string, heads: readonly FeedHead[], rttMs: number): void {
    const session = this.#byPeer.get(peer);
    if (session === undefined) return;
    const positions = heads.map(({ hubId, share, epoch, seq, digest }) => ({
      hubId,
      share,
      epoch: Number(epoch),
      seq: Number(seq),
      digest,
    }));
    const heard: Input = { kind: "heads", session: session.id, heads: positions, rttMs: rttMs < 0 ? undefined : rttMs };
    this.#o.shell.tell(heard, `heads ${session.id}`);
    this.#probes.answered(peer);
  }
}

function bothCredits(older: Input, newer: Input): Input {
  return older.kind === "credit" && newer.kind === "credit" ? { ...newer, bytes: older.bytes + newer.bytes } : newer;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}
