import type { Now } from "#kernel/instant.ts";
import type { Effect, SessionNote } from "../messages.ts";
import type { Watchers } from "../watchers.ts";
import type { Introductions } from "./introductions.ts";
import { linkState, pathTo } from "./link.ts";
import { concernsLink, hasService, isDialled, NEVER, type Peer, stands } from "./peer.ts";
import type { PeerTable } from "./peer-table.ts";
import { report } from "./report-event.ts";

/** How long a service of this hub may be away (a restart, a reconnect) before its sessions count as lost. */
const SERVICE_GONE_MS = 5_000;

/** Least time between two Hellos that refused tokens cause. */
const TOKEN_TROUBLE_MS = 2_000;

/** anyUp tells whether a session with a peer stands. */
export function anyUp(peer: Peer): boolean {
  for (const session of peer.sessions.values()) if (stands(session)) return true;
  return false;
}

/** Sessions keeps what this hub's services report of theirs, and derives the states of the links from it (DI6). */
export class Sessions {
  readonly #table: PeerTable;
  readonly #watchers: Watchers;
  readonly #introductions: Introductions;
  /** Services of this hub that stopped watching, and when their sessions count as lost. */
  readonly #gone = new Map<string, number>();

  constructor(table: PeerTable, watchers: Watchers, introductions: Introductions) {
    this.#table = table;
    this.#watchers = watchers;
    this.#introductions = introductions;
  }

  /** deadline is when the next service that stopped watching counts as lost; Infinity if there is none. */
  deadline(): number {
    return Math.min(NEVER, ...this.#gone.values());
  }

  /** back notes that a service watches again. */
  back(service: string): void {
    this.#gone.delete(service);
  }

  /** left notes that a service stopped watching. */
  left(now: Now, service: string): void {
    this.#gone.set(service, now.mono + SERVICE_GONE_MS);
  }

  /** expire takes the sessions of services that were away too long for lost. */
  expire(now: Now): void {
    for (const [service, at] of this.#gone) if (now.mono >= at) this.#loseService(service);
  }

  /** reported takes over how a session stands. */
  reported(now: Now, hubId: string, session: SessionNote): void {
    const peer = this.#table.get(hubId);
    if (peer === undefined || !peer.record.enabled) return;
    const before = peer.sessions.get(session.service);
    peer.sessions.set(session.service, session);
    if (stands(session)) peer.introduced = true;
    if (session.heard > (before?.heard ?? 0)) this.#introductions.heard(now, peer);
    const reason = session.failure?.reason;
    const refused = reason === "TOKEN_INVALID" || reason === "TOKEN_EXPIRED";
    const fresh = before?.failure?.message !== session.failure?.message || before?.state !== session.state;
    if (refused && fresh && session.state !== "OPERATIONAL" && peer.helloAt === NEVER)
      peer.helloAt = Math.max(now.mono, peer.helloDoneAt + TOKEN_TROUBLE_MS);
  }

  /** loseService: a service of this hub is gone, and its sessions with it; what it last reported is not true any more. */
  #loseService(service: string): void {
    this.#gone.delete(service);
    for (const { sessions } of this.#table.peers()) {
      const session = sessions.get(service);
      if (session !== undefined) sessions.set(service, { ...session, state: "RECOVERING", synced: false });
    }
  }

  /** isUp: discovery's session stands and, above MINIMAL, those of the other services that the peer has, synchronised. */
  #isUp(peer: Peer): boolean {
    if (peer.sessions.get("discovery")?.state !== "OPERATIONAL") return false;
    if (peer.decision.level < 1) return false;
    // Sessions beyond discovery's need both sides' trust; where one grants less there are none to wait for.
    if (Math.min(peer.decision.level, peer.record.levelThere || peer.decision.level) < 2) return true;
    for (const service of this.#table.config.expects) if (hasService(peer, service) && !peer.sessions.has(service)) return false;
    for (const session of peer.sessions.values())
      if (concernsLink(peer, session) && (session.state !== "OPERATIONAL" || !session.synced)) return false;
    return true;
  }

  /** move takes the link to a peer through the states that lead to the one that the facts ask for. */
  move(now: Now, peer: Peer, out: Effect[]): void {
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
      report(out, peer.hubId, "LINK_STATE", severity, `link to ${peer.hubId}: ${from} → ${state}`, fields);
    }
    peer.since = now.mono;
    if (up) peer.wasUp = true;
    // A lost link asks for fresh facts: the peer may be somewhere else now.
    if (goal === "RECOVERING" && peer.helloAt === NEVER) peer.helloAt = now.mono;
  }
}
