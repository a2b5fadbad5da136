import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Effect, Input, RefusedLeaf } from "../messages.ts";
import { fenceFailure } from "./dialled.ts";
import type { Introductions } from "./introductions.ts";
import { evidenceOf, type Peer } from "./peer.ts";
import type { PeerTable } from "./peer-table.ts";
import { callerFailure, introductionFailure, unknownPeer } from "./refusals.ts";
import { report } from "./report-event.ts";
import { decideTrust } from "./trust.ts";

type Received<Kind extends Input["kind"]> = Extract<Input, { readonly kind: Kind }>;

/** Callers answers the Hellos and Refreshes of peers. */
export class Callers {
  readonly #table: PeerTable;
  readonly #introductions: Introductions;

  constructor(table: PeerTable, introductions: Introductions) {
    this.#table = table;
    this.#introductions = introductions;
  }

  /** helloReceived takes what a hub says of itself and grants its services tokens, or refuses it. */
  helloReceived(now: Now, input: Received<"hello_received">, out: Effect[]): void {
    const { caller, from } = input;
    const peer = this.#table.get(caller);
    const failure =
      callerFailure(this.#table.config, peer, caller) ??
      introductionFailure(this.#table.config, caller, from) ??
      (peer === undefined ? undefined : fenceFailure(peer, from.fence ?? 0));
    if (peer === undefined || failure !== undefined) return this.#refuse(caller, input.call, failure ?? unknownPeer(caller), out);
    const rttMs = Math.max(0, peer.sessions.get("discovery")?.rttMs ?? 0);
    this.#introductions.noteSkew(peer, from.wallMs, now.wall - rttMs / 2, out);
    this.#introductions.introduce(now, peer, from, input.address, out);
    this.#introductions.heard(now, peer);
    decideTrust(this.#table, now, peer, out);
    out.push({ kind: "observe", what: "hello", peer: caller, direction: "in", result: "ok" });
    this.#grant(now, input.call, peer, input.leaves, input.refused, out);
  }

  /** refreshReceived grants new tokens to the services of a hub, or refuses it. */
  refreshReceived(now: Now, input: Received<"refresh_received">, out: Effect[]): void {
    const peer = this.#table.get(input.caller);
    const failure = callerFailure(this.#table.config, peer, input.caller);
    if (peer === undefined || failure !== undefined)
      return this.#refuse(input.caller, input.call, failure ?? unknownPeer(input.caller), out);
    this.#introductions.proved(now, peer, out);
    decideTrust(this.#table, now, peer, out);
    this.#grant(now, input.call, peer, input.leaves, input.refused, out);
  }

  #grant(now: Now, call: number, peer: Peer, leaves: readonly string[], refused: readonly RefusedLeaf[], out: Effect[]): void {
    for (const { thumbprint, why } of refused)
      report(out, peer.hubId, "ACCESS_REFUSED", "WARNING", `no token for a certificate that ${peer.hubId} offered: ${why}`, {
        leaf: thumbprint,
      });
    // Set while the clock was ahead, it would void every token until that time has come; those of then are refused as issued in the future.
    if (peer.record.minTokenIssuedAtWall > now.wall) {
      peer.record = { ...peer.record, minTokenIssuedAtWall: now.wall };
      this.#table.persist(peer, out);
      this.#table.touch(peer.hubId);
    }
    const evidence = evidenceOf(peer, now.wall, this.#table.config);
    const copies = peer.runs.copies(now.mono);
    out.push({ kind: "grant", call, peer: peer.hubId, level: peer.decision.level, evidence, leaves, copies });
  }

  #refuse(caller: string, call: number, failure: Failure, out: Effect[]): void {
    const known = this.#table.get(caller) !== undefined;
    out.push({ kind: "observe", what: "hello", peer: known ? caller : "other", direction: "in", result: failure.reason });
    report(out, caller, "ACCESS_REFUSED", "WARNING", `Hello of ${caller} refused: ${failure.message}`, { reason: failure.reason });
    out.push({ kind: "refuse", call, failure });
  }
}
