import type { Now } from "#kernel/instant.ts";
import type { Effect, PeerSpec } from "../messages.ts";
import { type Peer, showAddress } from "./peer.ts";
import type { PeerTable } from "./peer-table.ts";
import { report } from "./report-event.ts";
import { forgetTokens } from "./tokens.ts";

/** Reconciler makes the peers those that operators want (DI1), and voids what was granted to those that they want no more (DI8). */
export class Reconciler {
  readonly #table: PeerTable;

  constructor(table: PeerTable) {
    this.#table = table;
  }

  /** reconcile makes the peers those of a configuration. */
  reconcile(now: Now, specs: readonly PeerSpec[], out: Effect[]): void {
    const wanted = new Set(specs.map(({ hubId }) => hubId));
    for (const hubId of this.#table.known()) if (!wanted.has(hubId)) this.#removePeer(hubId, out);
    for (const spec of specs) {
      const known = this.#table.get(spec.hubId);
      if (known === undefined) this.#addPeer(now, spec, out);
      else this.#changePeer(now, known, spec, out);
    }
  }

  #addPeer(now: Now, spec: PeerSpec, out: Effect[]): void {
    const { peer, restored } = this.#table.add(now, spec);
    out.push({ kind: "observe", what: "peer_added", peer: spec.hubId });
    if (restored) this.#adoptBundle(now, peer, out);
    else this.#table.persist(peer, out);
    this.#table.touch(spec.hubId);
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
    this.#table.touch(peer.hubId);
  }

  /** adoptBundle compares the pinned CAs with those known before. A withdrawn CA voids what was proved and issued under it (DI8). */
  #adoptBundle(now: Now, peer: Peer, out: Effect[]): void {
    const digests = peer.spec.cas.map(({ digest }) => digest);
    const before = peer.record.caDigests;
    if (digests.join() === before.join()) return;
    const withdrawn = before.some((digest) => !digests.includes(digest));
    peer.record = { ...peer.record, caDigests: digests, bundleSeq: peer.record.bundleSeq + 1 };
    if (withdrawn) {
      peer.record = { ...peer.record, certificateAtWall: 0, minTokenIssuedAtWall: now.wall };
      forgetTokens(now, peer);
    }
    this.#table.persist(peer, out);
    report(
      out,
      peer.hubId,
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
    report(out, peer.hubId, "CREDENTIAL", "WARNING", `${what} of ${peer.hubId} revoked by an operator`, {
      revoked: revoked.map(({ digest }) => digest).join(" "),
    });
  }

  #removePeer(hubId: string, out: Effect[]): void {
    if (!this.#table.remove(hubId, out)) return;
    this.#table.touch(hubId);
    out.push({ kind: "observe", what: "peer_removed", peer: hubId });
    report(out, hubId, "LINK_STATE", "INFO", `${hubId} was removed from the configuration`);
  }

  /** enable ends the link to a peer or begins it anew, as an operator says. True if that is a change. */
  enable(now: Now, peer: Peer, enabled: boolean, out: Effect[]): boolean {
    const { misconduct, ...record } = peer.record;
    // Who enables a link trusts the peer, whatever it did before.
    if (record.enabled === enabled && !(enabled && misconduct !== undefined)) return false;
    peer.record = { ...(enabled ? record : peer.record), enabled, ...(enabled ? {} : { minTokenIssuedAtWall: now.wall }) };
    forgetTokens(now, peer);
    peer.introduced = peer.wasUp = false;
    peer.sessions.clear();
    peer.failure = undefined;
    peer.tried = 0;
    peer.backoff.succeeded();
    this.#table.persist(peer, out);
    this.#table.touch(peer.hubId);
    return true;
  }
}
