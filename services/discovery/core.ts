import type { Core } from "#kernel/core.ts";
import type { Now } from "#kernel/instant.ts";
import type { LinkState } from "#kernel/session/rules.ts";
import type { Effect, Input, PeerInfo, PeerRecord } from "./messages.ts";
import { Callers } from "./peers/callers.ts";
import { DialledMembers } from "./peers/dialled.ts";
import { levelName } from "./peers/evidence.ts";
import { Greeter } from "./peers/hello.ts";
import { Introductions } from "./peers/introductions.ts";
import { infoOf, NEVER } from "./peers/peer.ts";
import { PeerTable, type TableOptions } from "./peers/peer-table.ts";
import { Reconciler } from "./peers/reconcile.ts";
import { unknownPeer } from "./peers/refusals.ts";
import { Sessions } from "./peers/sessions.ts";
import { Tokens } from "./peers/tokens.ts";
import { decideTrust } from "./peers/trust.ts";
import { Watchers } from "./watchers.ts";

/** KEY_SPACE is the space of the store that holds token keys by key id. */
export const KEY_SPACE = "token-keys";

/** Gauges are the numbers of one peer for metrics. */
export interface Gauges {
  readonly state: LinkState;
  readonly level: number;
  readonly skewMs: number;
  readonly tokenExpiresAtWall: number;
  readonly copies: number;
  readonly ownCopies: number;
}

/**
 * DiscoveryCore decides who the peers are, how far each is trusted, when to say Hello, and what this hub's services are told.
 *
 * DI1 the peers are exactly those of the last `federation` input; what was learned of one survives a restart and a change of its entry.
 * DI2 the level is decided from evidence alone and never above the ceiling, also against a peer: a proof that it broke a protocol leaves it
 *    MINIMAL until an operator enables it again (S1-33). Every change is an event with one sentence (S4-3).
 * DI3 at most one Hello per peer is under way, none to a terminated one, none while the clock is not plausible; each peer has its
 *    own backoff and nothing waits for another peer (D-6).
 * DI4 only a finished Hello resets the backoff (S0-7, B0-1); being heard from wakes one dial (D-18).
 * DI5 tokens are refreshed at half life, but a peer whose tokens do not last, or that does not renew them, is asked no more often than
 *    the backoff allows; a refused refresh leads to a Hello, and the old tokens stay until they expire.
 * DI6 a link changes its state only along `LEGAL` (S1-28).
 * DI7 a watcher gets all views, then `synced`, then each change once; one that does not take its pushes costs a set of names.
 * DI8 tokens issued before a termination or before a CA was withdrawn are void from then on (D-15).
 */
export class DiscoveryCore implements Core<Input, Effect> {
  readonly #table: PeerTable;
  readonly #watchers = new Watchers();
  readonly #introductions: Introductions;
  readonly #tokens: Tokens;
  readonly #reconciler: Reconciler;
  readonly #greeter: Greeter;
  readonly #callers: Callers;
  readonly #sessions: Sessions;
  readonly #dialled: DialledMembers;

  constructor(options: TableOptions) {
    const table = new PeerTable(options);
    const watchers = this.#watchers;
    const introductions = new Introductions(table);
    const tokens = new Tokens(table, watchers);
    this.#table = table;
    this.#introductions = introductions;
    this.#tokens = tokens;
    this.#reconciler = new Reconciler(table);
    this.#greeter = new Greeter({ table, watchers, introductions, tokens });
    this.#callers = new Callers(table, introductions);
    this.#sessions = new Sessions(table, watchers, introductions);
    this.#dialled = new DialledMembers(table);
  }

  /** restore takes what an earlier run stored, before the first step. */
  restore(records: Iterable<readonly [string, PeerRecord]>): void {
    this.#table.restore(records);
  }

  step(now: Now, input: Input, out: Effect[]): void {
    this.#take(now, input, out);
    this.#advance(now, out);
  }

  tick(now: Now, out: Effect[]): void {
    this.#advance(now, out);
  }

  deadline(): number | undefined {
    let least = this.#sessions.deadline();
    for (const peer of this.#table.peers())
      least = Math.min(least, this.#greeter.helloDueAt(peer), this.#greeter.refreshDueAt(peer), peer.lapsesAt, peer.tokensEndAt);
    return least === NEVER ? undefined : least;
  }

  describe(): string {
    const lines = [`peers=${this.#table.size} watchers=${this.#watchers.size}`];
    for (const peer of this.#table.sorted()) {
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
    for (const peer of this.#table.peers()) if (peer.state === state) n++;
    return n;
  }

  /** gauges are numbers of one peer for metrics; undefined for an unknown one. */
  gauges(hubId: string, mono: number): Gauges | undefined {
    const peer = this.#table.get(hubId);
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

  /** copies is where processes of a peer's hub run, if there are several. */
  copies(hubId: string, mono: number): readonly string[] {
    return this.#table.get(hubId)?.runs.copies(mono) ?? [];
  }

  #take(now: Now, input: Input, out: Effect[]): void {
    switch (input.kind) {
      case "federation":
        return this.#reconciler.reconcile(now, input.peers, out);
      case "watch":
        this.#watchers.add(input.watch, input.services, input.leaf, this.#table.hubIds());
        for (const service of input.services) this.#sessions.back(service);
        return this.#greeter.newLeaf(now, input.leaf);
      case "watch_ready":
        return this.#watchers.ready(input.watch);
      case "watch_end":
        for (const service of this.#watchers.remove(input.watch)) this.#sessions.left(now, service);
        return;
      case "hello_answered":
        return this.#greeter.helloAnswered(now, input, out);
      case "hello_failed":
        return this.#greeter.helloFailed(now, input, out);
      case "refresh_answered":
        return this.#greeter.refreshAnswered(now, input, out);
      case "refresh_failed":
        return this.#greeter.refreshFailed(now, input, out);
      case "hello_received":
        return this.#callers.helloReceived(now, input, out);
      case "refresh_received":
        return this.#callers.refreshReceived(now, input, out);
      case "sessions":
        for (const { hubId, session } of input.reports) this.#sessions.reported(now, hubId, session);
        return;
      case "announced":
        return this.#announced(now, input, out);
      case "met": {
        const peer = this.#table.get(input.peer);
        if (peer !== undefined) this.#introductions.met(now, peer, input, out);
        return;
      }
      case "misconduct":
        return this.#misconduct(now, input.peer, `${input.service} has a proof: ${input.sentence}`, out);
      case "dialled":
        return this.#dialled.told(now, input, out);
      case "ask_dialled":
        return this.#dialled.asked(now, input.call, input.caller, out);
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

  #announced(now: Now, { peer: hubId, level, copies }: Extract<Input, { readonly kind: "announced" }>, out: Effect[]): void {
    const peer = this.#table.get(hubId);
    if (peer === undefined) return;
    // What the other services were refused at the lower level is open now, and they wait long after such a refusal.
    if (level > (peer.record.levelThere ?? 0)) this.#introductions.wake(now, peer);
    if (peer.record.levelThere !== level) peer.record = { ...peer.record, levelThere: level };
    this.#introductions.told(now, peer, copies ?? [], out);
  }

  /** advance does what is due, draws the conclusions and tells the watchers. */
  #advance(now: Now, out: Effect[]): void {
    this.#sessions.expire(now);
    for (const peer of this.#table.peers()) {
      if (now.mono >= this.#greeter.helloDueAt(peer)) this.#greeter.sayHello(now, peer, out);
      if (now.mono >= this.#greeter.refreshDueAt(peer)) this.#greeter.sayRefresh(now, peer, out);
      if (now.mono >= peer.tokensEndAt) this.#tokens.ended(now, peer);
      decideTrust(this.#table, now, peer, out);
      this.#sessions.move(now, peer, out);
    }
    this.#table.takeTouched((hubId) => this.#watchers.touch(hubId));
    this.#watchers.push((hubId) => this.#table.get(hubId), now.wall, out);
  }

  /** #misconduct keeps the first thing that a peer was proved to have done, until an operator takes it away. Tokens for more are void (DI8). */
  #misconduct(now: Now, hubId: string, sentence: string, out: Effect[]): void {
    const peer = this.#table.get(hubId);
    if (peer === undefined || peer.record.misconduct !== undefined) return;
    peer.record = { ...peer.record, misconduct: sentence.slice(0, 1_024), minTokenIssuedAtWall: now.wall };
    this.#table.persist(peer, out);
  }

  #setEnabled(now: Now, call: number, hubId: string, enabled: boolean, out: Effect[]): void {
    const peer = this.#table.get(hubId);
    if (peer === undefined) return void out.push({ kind: "refuse", call, failure: unknownPeer(hubId) });
    if (this.#reconciler.enable(now, peer, enabled, out)) this.#sessions.move(now, peer, out);
    this.#list(now, call, hubId, out);
  }

  #list(now: Now, call: number, hubId: string | undefined, out: Effect[]): void {
    const found = hubId === undefined ? this.#table.sorted() : [this.#table.get(hubId)].filter((peer) => peer !== undefined);
    if (hubId !== undefined && found.length === 0) return void out.push({ kind: "refuse", call, failure: unknownPeer(hubId) });
    const peers: PeerInfo[] = found.map((peer) => infoOf(peer, now, this.#greeter.helloDueAt(peer), this.#table.config));
    out.push({ kind: "peers", call, peers });
  }
}
