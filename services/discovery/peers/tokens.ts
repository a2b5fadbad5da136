import type { Now } from "#kernel/instant.ts";
import type { Effect, HeldToken, ReceivedToken } from "../messages.ts";
import type { Watchers } from "../watchers.ts";
import { NEVER, type Peer, type Pending } from "./peer.ts";
import type { PeerTable } from "./peer-table.ts";
import { report } from "./report-event.ts";

/** Longest life of a token that is believed: what a peer claims beyond is cut, so that a refresh is never forgotten. */
const TOKEN_LIFE_MAX_MS = 24 * 3_600_000;

/** Tokens keeps those that peers gave to this hub's services, and says when they are renewed (DI5). */
export class Tokens {
  readonly #table: PeerTable;
  readonly #watchers: Watchers;

  constructor(table: PeerTable, watchers: Watchers) {
    this.#table = table;
    this.#watchers = watchers;
  }

  /** take replaces the tokens for the leaves of a call by those that it was answered with. */
  take(now: Now, peer: Peer, pending: Pending, tokens: readonly ReceivedToken[], out: Effect[]): void {
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
      report(out, peer.hubId, "CREDENTIAL", "WARNING", `${peer.hubId} gave no token for ${refused.length} of our certificates`, {
        leaves: refused.join(" "),
      });
    peer.tokens = held;
    peer.refreshAt = least === NEVER ? NEVER : pending.sentAt + this.#renewalWait(now, peer, least / 2);
    peer.tokensEndAt = least === NEVER ? NEVER : pending.sentAt + least;
    this.#table.touch(peer.hubId);
  }

  /** renewalWait is half the life of a token; where that is shorter than the first wait of the backoff, the backoff decides (DI5). */
  #renewalWait(now: Now, peer: Peer, halfLifeMs: number): number {
    if (halfLifeMs < this.#table.config.backoff.baseMs) return Math.max(halfLifeMs, peer.renewal.failed(now.mono));
    peer.renewal.succeeded();
    return halfLifeMs;
  }

  /** ended: a token expired without being renewed. The services are told that they have it no more. */
  ended(now: Now, peer: Peer): void {
    const left = [...peer.tokens.values()].map(({ expiresAtWall }) => expiresAtWall - now.wall).filter((ms) => ms > 0);
    peer.tokensEndAt = left.length === 0 ? NEVER : now.mono + Math.min(...left);
    this.#table.touch(peer.hubId);
  }
}

/** forgetTokens drops our tokens and what is under way; a new Hello is due. */
export function forgetTokens(now: Now, peer: Peer): void {
  peer.tokens = new Map();
  peer.offered = new Set();
  peer.tokensEndAt = NEVER;
  peer.hello = peer.refresh = undefined;
  peer.refreshAt = NEVER;
  peer.helloAt = now.mono;
}
