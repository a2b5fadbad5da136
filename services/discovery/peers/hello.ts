import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Address, Effect, Input, Leaf } from "../messages.ts";
import type { Watchers } from "../watchers.ts";
import { fenceFailure } from "./dialled.ts";
import type { Introductions } from "./introductions.ts";
import {
  addressesOf,
  failureSeverity,
  goodOf,
  isDialled,
  NEVER,
  type Peer,
  type Pending,
  passOver,
  roundFailed,
  showAddress,
  thumbprintsOf,
} from "./peer.ts";
import type { PeerTable } from "./peer-table.ts";
import { introductionFailure } from "./refusals.ts";
import { report } from "./report-event.ts";
import { anyUp } from "./sessions.ts";
import type { Tokens } from "./tokens.ts";

type Answered<Kind extends Input["kind"]> = Extract<Input, { readonly kind: Kind }>;

/** GreeterOptions are what a greeter works with. */
export interface GreeterOptions {
  readonly table: PeerTable;
  readonly watchers: Watchers;
  readonly introductions: Introductions;
  readonly tokens: Tokens;
}

/** Greeter says Hello and Refresh to peers when it is time, and takes the answers (DI3, DI4, DI5). */
export class Greeter {
  readonly #table: PeerTable;
  readonly #watchers: Watchers;
  readonly #introductions: Introductions;
  readonly #tokens: Tokens;
  #attempt = 0;

  constructor({ table, watchers, introductions, tokens }: GreeterOptions) {
    this.#table = table;
    this.#watchers = watchers;
    this.#introductions = introductions;
    this.#tokens = tokens;
  }

  /** helloDueAt is when a peer is to be told Hello; NEVER while one is under way or nothing can be dialled. */
  helloDueAt(peer: Peer): number {
    if (!peer.record.enabled || peer.hello !== undefined || this.#watchers.leaves.size === 0 || !isDialled(peer)) return NEVER;
    const idle =
      peer.helloDoneAt + (peer.state === "OPERATIONAL" ? this.#table.config.verificationPeriodMs * 0.9 : this.#table.config.reintroduceMs);
    return Math.max(Math.min(peer.helloAt, idle), peer.backoff.dueAt);
  }

  /** refreshDueAt is when a peer is to be asked for new tokens. */
  refreshDueAt(peer: Peer): number {
    return peer.record.enabled && peer.refresh === undefined && peer.hello === undefined ? peer.refreshAt : NEVER;
  }

  /** newLeaf plans a Hello to all peers that were not offered a certificate of this hub yet. */
  newLeaf(now: Now, leaf: Leaf | undefined): void {
    if (leaf === undefined) return;
    for (const peer of this.#table.peers())
      if (!peer.offered.has(leaf.thumbprint) && peer.helloAt === NEVER) peer.helloAt = now.mono + this.#table.config.leafDelayMs;
  }

  /** sayHello says Hello at the next address of a peer, unless this hub's clock cannot be right. */
  sayHello(now: Now, peer: Peer, out: Effect[]): void {
    if (now.wall < this.#table.config.releasedAtWall) return this.#waitForClock(now, peer, out);
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

  /** sayRefresh asks a peer for new tokens, or plans a Hello if there is nothing to ask with. */
  sayRefresh(now: Now, peer: Peer, out: Effect[]): void {
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
    peer.helloAt = now.mono + this.#table.config.clockRetryMs;
    peer.helloDoneAt = now.mono;
    peer.failure = { reason: "CLOCK_NOT_SET", message: "the clock of this hub is not set; set it; the hub retries automatically" };
    if (!peer.clockTold) report(out, peer.hubId, "CLOCK", "WARNING", `no Hello to ${peer.hubId}: the clock of this hub is not set`);
    peer.clockTold = true;
  }

  /** helloAnswered takes what a peer answered to the Hello that is under way. */
  helloAnswered(now: Now, input: Answered<"hello_answered">, out: Effect[]): void {
    const peer = this.#table.get(input.peer);
    const pending = peer?.hello;
    if (peer === undefined || pending === undefined || pending.attempt !== input.attempt) return;
    const wrong = introductionFailure(this.#table.config, peer.hubId, input.from) ?? fenceFailure(peer, input.from.fence ?? 0);
    if (wrong !== undefined) return this.#failed(now, peer, pending, wrong, out);
    peer.hello = undefined;
    peer.helloAt = [...this.#watchers.leaves.keys()].every((leaf) => pending.leaves.has(leaf))
      ? NEVER
      : now.mono + this.#table.config.leafDelayMs;
    peer.helloDoneAt = now.mono;
    peer.tried = 0;
    peer.wrong.delete(showAddress(pending.address));
    peer.backoff.succeeded();
    const rttMs = now.mono - pending.sentAt;
    this.#introductions.noteSkew(peer, input.from.wallMs, pending.sentAtWall + rttMs / 2, out);
    peer.record = { ...peer.record, lastGood: pending.address, levelThere: input.level };
    this.#introductions.introduce(now, peer, input.from, pending.address.host, out);
    this.#introductions.told(now, peer, input.copies ?? [], out);
    this.#tokens.take(now, peer, pending, input.tokens, out);
    peer.offered = pending.leaves;
    this.#count(peer, "ok", out);
  }

  /** helloFailed takes that the Hello that is under way was not answered, or refused. */
  helloFailed(now: Now, { peer: hubId, attempt, failure }: Answered<"hello_failed">, out: Effect[]): void {
    const peer = this.#table.get(hubId);
    const pending = peer?.hello;
    if (peer === undefined || pending === undefined || pending.attempt !== attempt) return;
    this.#failed(now, peer, pending, failure, out);
  }

  #failed(now: Now, peer: Peer, pending: Pending, failure: Failure, out: Effect[]): void {
    const before = peer.failure;
    peer.hello = undefined;
    peer.failure = failure;
    peer.helloAt = now.mono;
    if (!anyUp(peer)) peer.introduced = false;
    this.#count(peer, failure.reason, out);
    // What is passed over is not in the list any more, so the next one has its place there.
    if (!this.#passOverForeign(now, peer, pending.address, failure)) peer.tried++;
    if (peer.tried >= addressesOf(peer, now.mono).length) roundFailed(peer, now.mono);
    const fields = { reason: failure.reason, address: showAddress(pending.address) };
    const where = failure.message.includes(fields.address) ? "" : ` at ${fields.address}`;
    const severity = failureSeverity(now, peer, before);
    report(out, peer.hubId, "CREDENTIAL", severity, `Hello to ${peer.hubId}${where} failed: ${failure.message}`, fields);
  }

  /** passOverForeign passes over an address at which another hub answered, and tells whether it did. */
  #passOverForeign(now: Now, peer: Peer, address: Address, failure: Failure): boolean {
    const presented = failure.facts?.["presented"];
    if (presented === undefined || presented.startsWith(`spiffe://${peer.hubId}/`)) return false;
    const { reintroduceMs, verificationPeriodMs } = this.#table.config;
    return passOver(peer, now.mono, address, reintroduceMs, verificationPeriodMs);
  }

  /** refreshAnswered takes the tokens that a peer answered with. */
  refreshAnswered(now: Now, input: Answered<"refresh_answered">, out: Effect[]): void {
    const peer = this.#table.get(input.peer);
    const pending = peer?.refresh;
    if (peer === undefined || pending === undefined || pending.attempt !== input.attempt) return;
    peer.refresh = undefined;
    peer.record = { ...peer.record, levelThere: input.level };
    this.#tokens.take(now, peer, pending, input.tokens, out);
  }

  /** refreshFailed plans a Hello, as the peer did not renew our tokens. */
  refreshFailed(now: Now, { peer: hubId, attempt, failure }: Answered<"refresh_failed">, out: Effect[]): void {
    const peer = this.#table.get(hubId);
    if (peer?.refresh?.attempt !== attempt) return;
    peer.refresh = undefined;
    peer.failure = failure;
    // At once the first time, as the peer may only have lost its keys.
    peer.helloAt = Math.max(now.mono, peer.renewal.dueAt);
    peer.renewal.failed(now.mono);
    report(out, peer.hubId, "CREDENTIAL", "WARNING", `${hubId} did not renew our tokens: ${failure.message}; saying Hello again`, {
      reason: failure.reason,
    });
  }

  #count(peer: Peer, result: string, out: Effect[]): void {
    out.push({ kind: "observe", what: "hello", peer: peer.hubId, direction: "out", result });
  }
}
