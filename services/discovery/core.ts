import type { BackoffConfig } from "#kernel/backoff.ts";
import type { Core } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Prng } from "#kernel/prng.ts";
import type { LinkState } from "#kernel/session/rules.ts";
import type {
  Address,
  Effect,
  HeldToken,
  Input,
  Introduction,
  Leaf,
  Note,
  PeerInfo,
  PeerRecord,
  PeerSpec,
  ReceivedToken,
  RecordCodec,
  RefusedLeaf,
  SessionNote,
} from "./messages.ts";
import { atPlaces, type MetRun } from "./peers/copies.ts";
import { type EvidenceConfig, levelName } from "./peers/evidence.ts";
import { linkState, pathTo } from "./peers/link.ts";
import {
  acceptEndpoints,
  addressesOf,
  decisionOf,
  evidenceOf,
  failureSeverity,
  goodOf,
  infoOf,
  isDialled,
  NEVER,
  newPeer,
  type Peer,
  type Pending,
  passOver,
  roundFailed,
  SOFTWARE_MAX,
  showAddress,
  thumbprintsOf,
} from "./peers/peer-table.ts";
import { Watchers } from "./shell/watchers.ts";

/** Space of the store that holds peer records by hub id, and that of the token keys by key id. */
export const PEER_SPACE = "peers";
export const KEY_SPACE = "token-keys";

/** CoreConfig shapes the core. Times are ms. */
export interface CoreConfig extends EvidenceConfig {
  readonly hubId: string;
  /** Version of the discovery package that we speak. */
  readonly packageName: string;
  readonly backoff: BackoffConfig;
  /** Services whose sessions with a peer of level LIMITED or more must stand, beside those that report by themselves. */
  readonly expects: readonly string[];
  /** A new leaf is offered to peers after this long, so that several leaves share one Hello. */
  readonly leafDelayMs: number;
  /** While a link is not operational although Hello was answered, Hello is said again this often: its endpoints may have changed. */
  readonly reintroduceMs: number;
  /** Wall ms before which a clock cannot be right. */
  readonly releasedAtWall: number;
  readonly clockRetryMs: number;
  /** Skew of a peer's clock from which on it is reported. */
  readonly skewWarnMs: number;
}

/** Longest life of a token that is believed: what a peer claims beyond is cut, so that a refresh is never forgotten. */
const TOKEN_LIFE_MAX_MS = 24 * 3_600_000;

/** Largest skew that is told apart: some three hundred years. */
const SKEW_SHOWN_MS = 1e13;

/** How long a service of this hub may be away (a restart, a reconnect) before its sessions count as lost. */
const SERVICE_GONE_MS = 5_000;

/** Least time between two Hellos that refused tokens cause. */
const TOKEN_TROUBLE_MS = 2_000;

/**
 * DiscoveryCore decides who the peers are, how far each is trusted, when to say Hello, and what this hub's services are told.
 *
 * D1 the peers are exactly those of the last `federation` input; what was learned of one survives a restart and a change of its entry.
 * D2 the level is decided from evidence alone and never above the ceiling; every change is an event with one sentence (S4-3).
 * D3 at most one Hello per peer is under way, none to a terminated one, none while the clock is not plausible; each peer has its
 *    own backoff and nothing waits for another peer (D-6).
 * D4 only a finished Hello resets the backoff (S0-7, B0-1); being heard from wakes one dial (D-18).
 * D5 tokens are refreshed at half life, but a peer whose tokens do not last, or that does not renew them, is asked no more often than
 *    the backoff allows; a refused refresh leads to a Hello, and the old tokens stay until they expire.
 * D6 a link changes its state only along `LEGAL` (S1-28).
 * D7 a watcher gets all views, then `synced`, then each change once; one that does not take its pushes costs a set of names.
 * D8 tokens issued before a termination or before a CA was withdrawn are void from then on (D-15).
 */
export class DiscoveryCore implements Core<Input, Effect> {
  readonly #config: CoreConfig;
  readonly #prng: Prng;
  readonly #codec: RecordCodec;
  readonly #peers = new Map<string, Peer>();
  readonly #stored = new Map<string, PeerRecord>();
  readonly #watchers = new Watchers();
  readonly #dirty = new Set<string>();
  /** Services of this hub that stopped watching, and when their sessions count as lost. */
  readonly #gone = new Map<string, number>();
  #attempt = 0;

  constructor(options: { readonly config: CoreConfig; readonly prng: Prng; readonly codec: RecordCodec }) {
    this.#config = options.config;
    this.#prng = options.prng;
    this.#codec = options.codec;
  }

  /** restore takes what an earlier run stored, before the first step. */
  restore(records: Iterable<readonly [string, PeerRecord]>): void {
    for (const [hubId, record] of records) this.#stored.set(hubId, record);
  }

  step(now: Now, input: Input, out: Effect[]): void {
    this.#take(now, input, out);
    this.#advance(now, out);
  }

  tick(now: Now, out: Effect[]): void {
    this.#advance(now, out);
  }

  deadline(): number | undefined {
    let least = Math.min(NEVER, ...this.#gone.values());
    for (const peer of this.#peers.values())
      least = Math.min(least, this.#helloDueAt(peer), this.#refreshDueAt(peer), peer.lapsesAt, peer.tokensEndAt);
    return least === NEVER ? undefined : least;
  }

  describe(): string {
    const lines = [`peers=${this.#peers.size} watchers=${this.#watchers.size}`];
    for (const peer of this.#sorted()) {
      const { record, decision } = peer;
      const sessions = [...peer.sessions.values()].map((s) => `${s.service}:${s.state}${s.synced ? "+synced" : ""}`).sort();
      lines.push(
        `${peer.hubId} ${peer.state} level=${levelName(decision.level)} attempts=${peer.backoff.failures} tokens=${peer.tokens.size} sessions=${sessions.join(",") || "-"}`,
        `  ${decision.sentence}${record.enabled ? "" : "; terminated by an operator"}${peer.failure === undefined ? "" : `; last failure ${peer.failure.reason}`}`,
      );
    }
    return lines.join("\n");
  }

  /** count tells how many peers are in a state. */
  count(state: LinkState): number {
    let n = 0;
    for (const peer of this.#peers.values()) if (peer.state === state) n++;
    return n;
  }

  /** gauges are numbers of one peer for metrics; undefined for an unknown one. */
  gauges(
    hubId: string,
    mono: number,
  ):
    | {
        readonly state: LinkState;
        readonly level: number;
        readonly skewMs: number;
        readonly tokenExpiresAtWall: number;
        readonly copies: number;
        readonly ownCopies: number;
      }
    | undefined {
    const peer = this.#peers.get(hubId);
    if (peer === undefined) return undefined;
    const expiries = [...peer.tokens.values()].map(({ expiresAtWall }) => expiresAtWall);
    return {
      state: peer.state,
      level: peer.decision.level,
      skewMs: peer.skewMs,
      tokenExpiresAtWall: expiries.length === 0 ? 0 : Math.min(...expiries),
      copies: peer.runs.copies(mono).length,
      ownCopies: peer.told.places(mono).length,
    };
  }

  #take(now: Now, input: Input, out: Effect[]): void {
    switch (input.kind) {
      case "federation":
        return this.#reconcile(now, input.peers, out);
      case "watch":
        this.#watchers.add(input.watch, input.services, input.leaf, this.#peers.keys());
        for (const service of input.services) this.#gone.delete(service);
        return this.#newLeaf(now, input.leaf);
      case "watch_ready":
        return this.#watchers.ready(input.watch);
      case "watch_end":
        for (const service of this.#watchers.remove(input.watch)) this.#gone.set(service, now.mono + SERVICE_GONE_MS);
        return;
      case "hello_answered":
        return this.#helloAnswered(now, input, out);
      case "hello_failed":
        return this.#helloFailed(now, input.peer, input.attempt, input.failure, out);
      case "refresh_answered":
        return this.#refreshAnswered(now, input, out);
      case "refresh_failed":
        return this.#refreshFailed(now, input.peer, input.attempt, input.failure, out);
      case "hello_received":
        return this.#helloReceived(now, input, out);
      case "refresh_received":
        return this.#refreshReceived(now, input, out);
      case "sessions":
        for (const { hubId, session } of input.reports) this.#sessionReported(now, hubId, session);
        return;
      case "announced": {
        const peer = this.#peers.get(input.peer);
        if (peer === undefined) return;
        if (peer.record.levelThere !== input.level) peer.record = { ...peer.record, levelThere: input.level };
        return this.#told(now, peer, input.copies ?? [], out);
      }
      case "met": {
        const peer = this.#peers.get(input.peer);
        if (peer !== undefined) this.#met(now, peer, input, out);
        return;
      }
      case "set_enabled":
        return this.#setEnabled(now, input.call, input.peer, input.enabled, out);
      case "list":
        return this.#list(now, input.call, input.peer, out);
      case "store_keys": {
        const put = input.put.map(({ kid, bytes }) => ({ op: "put", space: KEY_SPACE, key: kid, bytes }) as const);
        const remove = input.remove.map((kid) => ({ op: "delete", space: KEY_SPACE, key: kid }) as const);
        out.push({ kind: "persist", ops: [...put, ...remove] }, { kind: "keys_stored", call: input.call });
        return;
      }
    }
  }

  /** advance does what is due, draws the conclusions and tells the watchers. */
  #advance(now: Now, out: Effect[]): void {
    for (const [service, at] of this.#gone) if (now.mono >= at) this.#loseService(service);
    for (const peer of this.#peers.values()) {
      if (now.mono >= this.#helloDueAt(peer)) this.#sayHello(now, peer, out);
      if (now.mono >= this.#refreshDueAt(peer)) this.#sayRefresh(now, peer, out);
      if (now.mono >= peer.tokensEndAt) this.#tokensEnded(now, peer);
      this.#decide(now, peer, out);
      this.#move(now, peer, out);
    }
    for (const hubId of this.#dirty) this.#watchers.touch(hubId);
    this.#dirty.clear();
    this.#watchers.push((hubId) => this.#peers.get(hubId), now.wall, out);
  }

  // --- the wanted peers -------------------------------------------------------------------------------------------------------

  #reconcile(now: Now, specs: readonly PeerSpec[], out: Effect[]): void {
    const wanted = new Set(specs.map(({ hubId }) => hubId));
    for (const hubId of [...this.#peers.keys(), ...this.#stored.keys()]) if (!wanted.has(hubId)) this.#removePeer(hubId, out);
    for (const spec of specs) {
      const known = this.#peers.get(spec.hubId);
      if (known === undefined) this.#addPeer(now, spec, out);
      else this.#changePeer(now, known, spec, out);
    }
  }

  #addPeer(now: Now, spec: PeerSpec, out: Effect[]): void {
    const stored = this.#stored.get(spec.hubId);
    this.#stored.delete(spec.hubId);
    const peer = newPeer(now, spec, stored, this.#prng, this.#config.backoff);
    this.#peers.set(spec.hubId, peer);
    out.push({ kind: "observe", what: "peer_added", peer: spec.hubId });
    if (stored !== undefined) this.#adoptBundle(now, peer, out);
    else this.#persist(peer, out);
    this.#dirty.add(spec.hubId);
  }

  #changePeer(now: Now, peer: Peer, spec: PeerSpec, out: Effect[]): void {
    const before = peer.spec;
    peer.spec = spec;
    peer.pinnedAtWall = now.wall;
    peer.wrong.clear();
    this.#adoptBundle(now, peer, out);
    this.#adoptRevocations(now, peer, before, out);
    if (before.addresses.map(showAddress).join() !== spec.addresses.map(showAddress).join()) {
      peer.tried = 0;
      peer.backoff.wake(now.mono);
    }
    this.#dirty.add(peer.hubId);
  }

  /** adoptBundle compares the pinned CAs with those known before. A withdrawn CA voids what was proved and issued under it (D8). */
  #adoptBundle(now: Now, peer: Peer, out: Effect[]): void {
    const digests = peer.spec.cas.map(({ digest }) => digest);
    const before = peer.record.caDigests;
    if (digests.join() === before.join()) return;
    const withdrawn = before.some((digest) => !digests.includes(digest));
    peer.record = { ...peer.record, caDigests: digests, bundleSeq: peer.record.bundleSeq + 1 };
    if (withdrawn) {
      peer.record = { ...peer.record, certificateAtWall: 0, minTokenIssuedAtWall: now.wall };
      this.#forgetTokens(now, peer);
    }
    this.#persist(peer, out);
    this.#event(
      peer,
      out,
      "CREDENTIAL",
      "INFO",
      `the pinned CA certificates of ${peer.hubId} changed${withdrawn ? "; it must prove itself again" : ""}`,
    );
  }

  /**
   * adoptRevocations makes a revoked leaf worth nothing: what is being asked of it is not waited for, and the peer is greeted anew, so
   * that it is seen at once whether it has another one. Sessions and tokens of the leaf end where the view is acted on (D-15).
   */
  #adoptRevocations(now: Now, peer: Peer, before: PeerSpec, out: Effect[]): void {
    const known = new Set(before.revoked.map(({ digest }) => digest));
    const revoked = peer.spec.revoked.filter(({ digest }) => !known.has(digest));
    if (revoked.length === 0) return;
    peer.hello = peer.refresh = undefined;
    peer.helloAt = now.mono;
    peer.backoff.wake(now.mono);
    const what = revoked.length === 1 ? "a certificate" : `${revoked.length} certificates`;
    this.#event(peer, out, "CREDENTIAL", "WARNING", `${what} of ${peer.hubId} revoked by an operator`, {
      revoked: revoked.map(({ digest }) => digest).join(" "),
    });
  }

  #removePeer(hubId: string, out: Effect[]): void {
    this.#stored.delete(hubId);
    out.push({ kind: "persist", ops: [{ op: "delete", space: PEER_SPACE, key: hubId }] });
    if (!this.#peers.delete(hubId)) return;
    this.#dirty.add(hubId);
    out.push({ kind: "observe", what: "peer_removed", peer: hubId });
    out.push({
      kind: "observe",
      what: "event",
      peer: hubId,
      event: "LINK_STATE",
      severity: "INFO",
      text: `${hubId} was removed from the configuration`,
    });
  }

  #setEnabled(now: Now, call: number, hubId: string, enabled: boolean, out: Effect[]): void {
    const peer = this.#peers.get(hubId);
    if (peer === undefined) return void out.push({ kind: "refuse", call, failure: unknownPeer(hubId) });
    if (peer.record.enabled !== enabled) {
      peer.record = { ...peer.record, enabled, ...(enabled ? {} : { minTokenIssuedAtWall: now.wall }) };
      this.#forgetTokens(now, peer);
      peer.introduced = peer.wasUp = false;
      peer.sessions.clear();
      peer.failure = undefined;
      peer.tried = 0;
      peer.backoff.succeeded();
      this.#persist(peer, out);
      this.#dirty.add(hubId);
      this.#move(now, peer, out);
    }
    this.#list(now, call, hubId, out);
  }

  /** forgetTokens drops our tokens and what is under way; a new Hello is due. */
  #forgetTokens(now: Now, peer: Peer): void {
    peer.tokens = new Map();
    peer.offered = new Set();
    peer.tokensEndAt = NEVER;
    peer.hello = peer.refresh = undefined;
    peer.refreshAt = NEVER;
    peer.helloAt = now.mono;
  }

  // --- dialling ---------------------------------------------------------------------------------------------------------------

  #helloDueAt(peer: Peer): number {
    if (!peer.record.enabled || peer.hello !== undefined || this.#watchers.leaves.size === 0 || !isDialled(peer)) return NEVER;
    const idle = peer.helloDoneAt + (peer.state === "OPERATIONAL" ? this.#config.verificationPeriodMs * 0.9 : this.#config.reintroduceMs);
    return Math.max(Math.min(peer.helloAt, idle), peer.backoff.dueAt);
  }

  #refreshDueAt(peer: Peer): number {
    return peer.record.enabled && peer.refresh === undefined && peer.hello === undefined ? peer.refreshAt : NEVER;
  }

  #newLeaf(now: Now, leaf: Leaf | undefined): void {
    if (leaf === undefined) return;
    for (const peer of this.#peers.values())
      if (!peer.offered.has(leaf.thumbprint) && peer.helloAt === NEVER) peer.helloAt = now.mono + this.#config.leafDelayMs;
  }

  #sayHello(now: Now, peer: Peer, out: Effect[]): void {
    if (now.wall < this.#config.releasedAtWall) return this.#waitForClock(now, peer, out);
    peer.clockTold = false;
    const addresses = addressesOf(peer, now.mono);
    const address = addresses[peer.tried % addresses.length]!;
    peer.hello = this.#pending(now, address);
    peer.refresh = undefined;
    peer.helloAt = now.mono;
    out.push({
      kind: "hello",
      peer: peer.hubId,
      attempt: this.#attempt,
      address,
      caPems: peer.spec.cas.map(({ pem }) => pem),
      revoked: thumbprintsOf(peer.spec),
      leaves: [...this.#watchers.leaves.values()],
    });
  }

  #sayRefresh(now: Now, peer: Peer, out: Effect[]): void {
    peer.refreshAt = NEVER;
    const own = this.#watchers.leafOf("discovery");
    const token = own === undefined ? undefined : peer.tokens.get(own.thumbprint);
    const good = goodOf(peer);
    if (token === undefined || token.expiresAtWall <= now.wall || good === undefined) {
      peer.helloAt = now.mono;
      return;
    }
    peer.refresh = this.#pending(now, good);
    const leaves = [...this.#watchers.leaves.values()];
    out.push({
      kind: "refresh",
      peer: peer.hubId,
      attempt: this.#attempt,
      address: good,
      caPems: peer.spec.cas.map(({ pem }) => pem),
      revoked: thumbprintsOf(peer.spec),
      leaves,
      jwt: token.jwt,
    });
  }

  #pending(now: Now, address: Address): Pending {
    return { attempt: ++this.#attempt, address, sentAt: now.mono, sentAtWall: now.wall, leaves: new Set(this.#watchers.leaves.keys()) };
  }

  #waitForClock(now: Now, peer: Peer, out: Effect[]): void {
    peer.helloAt = now.mono + this.#config.clockRetryMs;
    peer.helloDoneAt = now.mono;
    peer.failure = { reason: "CLOCK_NOT_SET", message: "the clock of this hub is not set; set it, the hub retries by itself" };
    if (!peer.clockTold) this.#event(peer, out, "CLOCK", "WARNING", `no Hello to ${peer.hubId}: the clock of this hub is not set`);
    peer.clockTold = true;
  }

  #helloAnswered(now: Now, input: Extract<Input, { kind: "hello_answered" }>, out: Effect[]): void {
    const peer = this.#peers.get(input.peer);
    const pending = peer?.hello;
    if (peer === undefined || pending === undefined || pending.attempt !== input.attempt) return;
    const wrong = this.#introductionFailure(peer.hubId, input.from);
    if (wrong !== undefined) return this.#helloFailed(now, input.peer, input.attempt, wrong, out);
    peer.hello = undefined;
    peer.helloAt = [...this.#watchers.leaves.keys()].every((leaf) => pending.leaves.has(leaf))
      ? NEVER
      : now.mono + this.#config.leafDelayMs;
    peer.helloDoneAt = now.mono;
    peer.tried = 0;
    peer.wrong.delete(showAddress(pending.address));
    peer.backoff.succeeded();
    const rttMs = now.mono - pending.sentAt;
    this.#noteSkew(peer, input.from.wallMs - (pending.sentAtWall + rttMs / 2), out);
    peer.record = { ...peer.record, lastGood: pending.address, levelThere: input.level };
    this.#introduce(now, peer, input.from, pending.address.host, out);
    this.#told(now, peer, input.copies ?? [], out);
    this.#takeTokens(now, peer, pending, input.tokens, out);
    peer.offered = pending.leaves;
    this.#count(peer, out, "out", "ok");
  }

  #helloFailed(now: Now, hubId: string, attempt: number, failure: Failure, out: Effect[]): void {
    const peer = this.#peers.get(hubId);
    const pending = peer?.hello;
    if (peer === undefined || pending === undefined || pending.attempt !== attempt) return;
    const before = peer.failure;
    peer.hello = undefined;
    peer.failure = failure;
    peer.helloAt = now.mono;
    if (!this.#anyUp(peer)) peer.introduced = false;
    this.#count(peer, out, "out", failure.reason);
    // What is passed over is not in the list any more, so the next one has its place there.
    if (!this.#passOverForeign(now, peer, pending.address, failure)) peer.tried++;
    if (peer.tried >= addressesOf(peer, now.mono).length) roundFailed(peer, now.mono);
    const fields = { reason: failure.reason, address: showAddress(pending.address) };
    const where = failure.message.includes(fields.address) ? "" : ` at ${fields.address}`;
    const severity = failureSeverity(now, peer, before);
    this.#event(peer, out, "CREDENTIAL", severity, `Hello to ${hubId}${where} failed: ${failure.message}`, fields);
  }

  /** passOverForeign passes over an address at which another hub answered, and tells whether it did. */
  #passOverForeign(now: Now, peer: Peer, address: Address, failure: Failure): boolean {
    const presented = failure.facts?.["presented"];
    if (presented === undefined || presented.startsWith(`spiffe://${peer.hubId}/`)) return false;
    const { reintroduceMs, verificationPeriodMs } = this.#config;
    return passOver(peer, now.mono, address, reintroduceMs, verificationPeriodMs);
  }

  #refreshAnswered(now: Now, input: Extract<Input, { kind: "refresh_answered" }>, out: Effect[]): void {
    const peer = this.#peers.get(input.peer);
    const pending = peer?.refresh;
    if (peer === undefined || pending === undefined || pending.attempt !== input.attempt) return;
    peer.refresh = undefined;
    peer.record = { ...peer.record, levelThere: input.level };
    this.#takeTokens(now, peer, pending, input.tokens, out);
  }

  #refreshFailed(now: Now, hubId: string, attempt: number, failure: Failure, out: Effect[]): void {
    const peer = this.#peers.get(hubId);
    if (peer?.refresh?.attempt !== attempt) return;
    peer.refresh = undefined;
    peer.failure = failure;
    // At once the first time, as the peer may only have lost its keys.
    peer.helloAt = Math.max(now.mono, peer.renewal.dueAt);
    peer.renewal.failed(now.mono);
    this.#event(peer, out, "CREDENTIAL", "WARNING", `${hubId} did not renew our tokens: ${failure.message}; saying Hello again`, {
      reason: failure.reason,
    });
  }

  #takeTokens(now: Now, peer: Peer, pending: Pending, tokens: readonly ReceivedToken[], out: Effect[]): void {
    const held = new Map<string, HeldToken>();
    let least = NEVER;
    for (const { thumbprint, jwt, expiresInMs } of tokens) {
      if (!pending.leaves.has(thumbprint) || jwt === "" || !(expiresInMs > 0)) continue;
      const life = Math.min(expiresInMs, TOKEN_LIFE_MAX_MS);
      least = Math.min(least, life);
      held.set(thumbprint, { jwt, issuedAtWall: pending.sentAtWall, expiresAtWall: pending.sentAtWall + life });
    }
    // A leaf that joined since this call began keeps what it has.
    for (const [thumbprint, token] of peer.tokens)
      if (!pending.leaves.has(thumbprint) && this.#watchers.leaves.has(thumbprint)) held.set(thumbprint, token);
    const refused = [...pending.leaves].filter((thumbprint) => !held.has(thumbprint));
    if (refused.length > 0)
      this.#event(peer, out, "CREDENTIAL", "WARNING", `${peer.hubId} gave no token for ${refused.length} of our certificates`, {
        leaves: refused.join(" "),
      });
    peer.tokens = held;
    peer.refreshAt = least === NEVER ? NEVER : pending.sentAt + this.#renewalWait(now, peer, least / 2);
    peer.tokensEndAt = least === NEVER ? NEVER : pending.sentAt + least;
    this.#dirty.add(peer.hubId);
  }

  /** renewalWait is half the life of a token; where that is shorter than the first wait of the backoff, the backoff decides (D5). */
  #renewalWait(now: Now, peer: Peer, halfLifeMs: number): number {
    if (halfLifeMs < this.#config.backoff.baseMs) return Math.max(halfLifeMs, peer.renewal.failed(now.mono));
    peer.renewal.succeeded();
    return halfLifeMs;
  }

  /** tokensEnded: a token expired without being renewed. The services are told that they have it no more. */
  #tokensEnded(now: Now, peer: Peer): void {
    const left = [...peer.tokens.values()].map(({ expiresAtWall }) => expiresAtWall - now.wall).filter((ms) => ms > 0);
    peer.tokensEndAt = left.length === 0 ? NEVER : now.mono + Math.min(...left);
    this.#dirty.add(peer.hubId);
  }

  // --- being called -----------------------------------------------------------------------------------------------------------

  #helloReceived(now: Now, input: Extract<Input, { kind: "hello_received" }>, out: Effect[]): void {
    const { caller, from } = input;
    const peer = this.#peers.get(caller);
    const failure = this.#callerFailure(peer, caller) ?? this.#introductionFailure(caller, from);
    if (peer === undefined || failure !== undefined) return this.#refuse(caller, input.call, failure ?? unknownPeer(caller), out);
    const rttMs = Math.max(0, peer.sessions.get("discovery")?.rttMs ?? 0);
    this.#noteSkew(peer, from.wallMs + rttMs / 2 - now.wall, out);
    this.#introduce(now, peer, from, input.address, out);
    this.#heard(now, peer);
    this.#decide(now, peer, out);
    this.#count(peer, out, "in", "ok");
    this.#grant(now, input.call, peer, input.leaves, input.refused, out);
  }

  #refreshReceived(now: Now, input: Extract<Input, { kind: "refresh_received" }>, out: Effect[]): void {
    const peer = this.#peers.get(input.caller);
    const failure = this.#callerFailure(peer, input.caller);
    if (peer === undefined || failure !== undefined)
      return this.#refuse(input.caller, input.call, failure ?? unknownPeer(input.caller), out);
    this.#proved(now, peer, out);
    this.#decide(now, peer, out);
    this.#grant(now, input.call, peer, input.leaves, input.refused, out);
  }

  #grant(now: Now, call: number, peer: Peer, leaves: readonly string[], refused: readonly RefusedLeaf[], out: Effect[]): void {
    for (const { thumbprint, why } of refused)
      this.#event(peer, out, "ACCESS_REFUSED", "WARNING", `no token for a certificate that ${peer.hubId} offered: ${why}`, {
        leaf: thumbprint,
      });
    // Set while the clock was ahead, it would void every token until that time has come; those of then are refused as issued in the future.
    if (peer.record.minTokenIssuedAtWall > now.wall) {
      peer.record = { ...peer.record, minTokenIssuedAtWall: now.wall };
      this.#persist(peer, out);
      this.#dirty.add(peer.hubId);
    }
    const evidence = evidenceOf(peer, now.wall, this.#config);
    const copies = peer.runs.copies(now.mono);
    out.push({ kind: "grant", call, peer: peer.hubId, level: peer.decision.level, evidence, leaves, copies });
  }

  #refuse(caller: string, call: number, failure: Failure, out: Effect[]): void {
    const known = this.#peers.has(caller);
    out.push({ kind: "observe", what: "hello", peer: known ? caller : "other", direction: "in", result: failure.reason });
    const fields = { reason: failure.reason };
    out.push({
      kind: "observe",
      what: "event",
      peer: caller,
      event: "ACCESS_REFUSED",
      severity: "WARNING",
      text: `Hello of ${caller} refused: ${failure.message}`,
      fields,
    });
    out.push({ kind: "refuse", call, failure });
  }

  #callerFailure(peer: Peer | undefined, caller: string): Failure | undefined {
    if (peer === undefined) return unknownPeer(caller);
    if (peer.record.enabled) return undefined;
    return { reason: "TERMINATED", message: `the operator of ${this.#config.hubId} ended the link; ask for it to be enabled again` };
  }

  #introductionFailure(hubId: string, from: Introduction): Failure | undefined {
    if (from.hubId !== hubId)
      return {
        reason: "IDENTITY_MISMATCH",
        message: `the certificate proves ${hubId} and not the hub_id in the message`,
        field: "hub_id",
        facts: { certificate: hubId },
      };
    if (!from.packages.includes(this.#config.packageName))
      return {
        reason: "UPGRADE_NEEDED",
        message: `no common version; ${this.#config.hubId} speaks ${this.#config.packageName}`,
        field: "packages",
      };
    return undefined;
  }

  /** introduce notes a finished handshake: who it is, where it is, and that its certificate was proved. */
  #introduce(now: Now, peer: Peer, from: Introduction, address: string | undefined, out: Effect[]): void {
    this.#met(now, peer, { run: from.run ?? "", incarnation: from.incarnation, address }, out);
    peer.introduced = true;
    peer.failure = undefined;
    const endpoints = acceptEndpoints(peer.hubId, from.endpoints);
    if (endpoints.length < from.endpoints.length)
      this.#event(
        peer,
        out,
        "ACCESS_REFUSED",
        "WARNING",
        `${from.endpoints.length - endpoints.length} endpoints that ${peer.hubId} advertised were ignored: they are not its own or not an address`,
      );
    peer.record = { ...peer.record, endpoints, software: from.software.slice(0, SOFTWARE_MAX) };
    this.#proved(now, peer, out);
    this.#dirty.add(peer.hubId);
  }

  #met(now: Now, peer: Peer, run: MetRun, out: Effect[]): void {
    if (peer.runs.met(now.mono, run)) this.#copiesFound(peer, peer.hubId, peer.runs.copies(now.mono), out);
    if (peer.runs.tellAgain(now.mono)) out.push({ kind: "observe", what: "copies", peer: peer.hubId });
  }

  #told(now: Now, peer: Peer, places: readonly string[], out: Effect[]): void {
    if (peer.told.told(now.mono, places)) this.#copiesFound(peer, this.#config.hubId, peer.told.places(now.mono), out);
  }

  /** copies is where processes of a peer's hub run, if there are several. */
  copies(hubId: string, mono: number): readonly string[] {
    return this.#peers.get(hubId)?.runs.copies(mono) ?? [];
  }

  /** copiesFound says that a hub runs twice: one that this hub met, or this hub itself, as the peer says. */
  #copiesFound(peer: Peer, hubId: string, places: readonly string[], out: Effect[]): void {
    const by = hubId === peer.hubId ? "" : `${peer.hubId} says: `;
    const text = `${by}two copies of hub ${hubId} run: ${atPlaces(places)}; stop one, or give it a hub id and certificates of its own`;
    this.#event(peer, out, "SESSION", "ERROR", text, { hub: hubId, copies: places.join(", ") });
  }

  #proved(now: Now, peer: Peer, out: Effect[]): void {
    peer.record = { ...peer.record, certificateAtWall: now.wall };
    this.#persist(peer, out);
  }

  /** heard: the peer lives. One dial is due at once, here and in the other services, if the link is not up (D4, D-18). */
  #heard(now: Now, peer: Peer): void {
    if (peer.state === "OPERATIONAL") return;
    peer.backoff.wake(now.mono);
    peer.wake++;
    this.#dirty.add(peer.hubId);
  }

  #noteSkew(peer: Peer, measuredMs: number, out: Effect[]): void {
    const { skewWarnMs } = this.#config;
    // Any number may have been said; what is shown must fit everywhere.
    const skewMs = Math.max(-SKEW_SHOWN_MS, Math.min(SKEW_SHOWN_MS, measuredMs));
    if (Math.abs(skewMs) > skewWarnMs && Math.abs(peer.skewMs) <= skewWarnMs)
      this.#event(peer, out, "CLOCK", "WARNING", `the clock of ${peer.hubId} is ${Math.round(skewMs)} ms off ours`, {
        skew_ms: String(Math.round(skewMs)),
      });
    peer.skewMs = Math.round(skewMs);
  }

  // --- sessions and state -----------------------------------------------------------------------------------------------------

  #sessionReported(now: Now, hubId: string, session: SessionNote): void {
    const peer = this.#peers.get(hubId);
    if (peer === undefined || !peer.record.enabled) return;
    const before = peer.sessions.get(session.service);
    peer.sessions.set(session.service, session);
    if (session.state === "OPERATIONAL" || session.state === "SYNCING") peer.introduced = true;
    if (session.heard > (before?.heard ?? 0)) this.#heard(now, peer);
    const reason = session.failure?.reason;
    const refused = reason === "TOKEN_INVALID" || reason === "TOKEN_EXPIRED";
    const fresh = before?.failure?.message !== session.failure?.message || before?.state !== session.state;
    if (refused && fresh && session.state !== "OPERATIONAL" && peer.helloAt === NEVER)
      peer.helloAt = Math.max(now.mono, peer.helloDoneAt + TOKEN_TROUBLE_MS);
  }

  /** loseService: a service of this hub is gone, and its sessions with it; what it last reported is not true any more. */
  #loseService(service: string): void {
    this.#gone.delete(service);
    for (const { sessions } of this.#peers.values()) {
      const session = sessions.get(service);
      if (session !== undefined) sessions.set(service, { ...session, state: "RECOVERING", synced: false });
    }
  }

  #anyUp(peer: Peer): boolean {
    for (const { state } of peer.sessions.values()) if (state === "OPERATIONAL" || state === "SYNCING") return true;
    return false;
  }

  /** isUp: discovery's session stands and, above MINIMAL, those of the other services, synchronised. */
  #isUp(peer: Peer): boolean {
    if (peer.sessions.get("discovery")?.state !== "OPERATIONAL") return false;
    if (peer.decision.level < 1) return false;
    // Sessions beyond discovery's need both sides' trust; where one grants less there are none to wait for.
    if (Math.min(peer.decision.level, peer.record.levelThere || peer.decision.level) < 2) return true;
    for (const service of this.#config.expects) if (!peer.sessions.has(service)) return false;
    for (const { state, synced } of peer.sessions.values()) if (state !== "OPERATIONAL" || !synced) return false;
    return true;
  }

  #move(now: Now, peer: Peer, out: Effect[]): void {
    const up = peer.record.enabled && this.#isUp(peer);
    const dialable = this.#watchers.leaves.size > 0 && isDialled(peer);
    const facts = {
      enabled: peer.record.enabled,
      dialable,
      helloing: peer.hello !== undefined,
      introduced: peer.introduced,
      up,
      wasUp: peer.wasUp,
    };
    const goal = linkState(facts);
    if (goal === peer.state) return;
    const path = pathTo(peer.state, goal);
    for (const [i, state] of path.entries()) {
      const from = peer.state;
      peer.state = state;
      const severity =
        i < path.length - 1 || state === "CONNECTING" || state === "DISCOVERING" ? "DEBUG" : state === "RECOVERING" ? "WARNING" : "INFO";
      const fields = { from, to: state, ...(peer.failure === undefined ? {} : { reason: peer.failure.reason }) };
      this.#event(peer, out, "LINK_STATE", severity, `link to ${peer.hubId}: ${from} → ${state}`, fields);
    }
    peer.since = now.mono;
    if (up) peer.wasUp = true;
    // A lost link asks for fresh facts: the peer may be somewhere else now.
    if (goal === "RECOVERING" && peer.helloAt === NEVER) peer.helloAt = now.mono;
  }

  #decide(now: Now, peer: Peer, out: Effect[]): void {
    const next = decisionOf(peer, now.wall, this.#config);
    const before = peer.decision;
    peer.decision = next;
    peer.lapsesAt = this.#lapsesAt(now, peer);
    if (next.level === before.level) return;
    this.#dirty.add(peer.hubId);
    const severity = next.level < before.level ? "WARNING" : "INFO";
    const fields = { from: levelName(before.level), to: levelName(next.level) };
    this.#event(peer, out, "TRUST_DECIDED", severity, `trust in ${peer.hubId} is ${next.sentence}`, fields);
  }

  /** lapsesAt is when the handshake stops counting as evidence. */
  #lapsesAt(now: Now, peer: Peer): number {
    const at = peer.record.certificateAtWall + this.#config.verificationPeriodMs;
    return peer.record.certificateAtWall === 0 || at <= now.wall ? NEVER : now.mono + (at - now.wall);
  }

  // --- answers and notes ------------------------------------------------------------------------------------------------------

  #list(now: Now, call: number, hubId: string | undefined, out: Effect[]): void {
    const found = hubId === undefined ? this.#sorted() : [this.#peers.get(hubId)].filter((peer) => peer !== undefined);
    if (hubId !== undefined && found.length === 0) return void out.push({ kind: "refuse", call, failure: unknownPeer(hubId) });
    const peers: PeerInfo[] = found.map((peer) => infoOf(peer, now, this.#helloDueAt(peer), this.#config));
    out.push({ kind: "peers", call, peers });
  }

  #sorted(): Peer[] {
    return [...this.#peers.values()].sort((a, b) => (a.hubId < b.hubId ? -1 : 1));
  }

  #persist(peer: Peer, out: Effect[]): void {
    out.push({ kind: "persist", ops: [{ op: "put", space: PEER_SPACE, key: peer.hubId, bytes: this.#codec.encode(peer.record) }] });
  }

  #count(peer: Peer, out: Effect[], direction: "in" | "out", result: string): void {
    out.push({ kind: "observe", what: "hello", peer: peer.hubId, direction, result });
  }

  #event(
    peer: Peer,
    out: Effect[],
    event: NonNullable<Note["event"]>,
    severity: NonNullable<Note["severity"]>,
    text: string,
    fields: Readonly<Record<string, string>> = {},
  ): void {
    out.push({ kind: "observe", what: "event", peer: peer.hubId, event, severity, text, fields });
  }
}

function unknownPeer(hubId: string): Failure {
  return {
    reason: "PEER_NOT_FOUND",
    message: `${hubId} is not configured here; add it to the federation configuration`,
    facts: { hub_id: hubId },
  };
}
