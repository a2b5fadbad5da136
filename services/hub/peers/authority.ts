import type { X509Certificate } from "node:crypto";
import { parseCertificates } from "#channel/tls/material.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { PeerView } from "#runtime/peers.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";

/** ViewAuthority answers who is who from the last views and this hub's own CA set. */
export class ViewAuthority implements PeerAuthority {
  readonly hubId: string;
  readonly #own: () => readonly X509Certificate[];
  #views = new Map<string, { readonly view: PeerView; readonly bundle: readonly X509Certificate[] }>();
  #revoked: ReadonlySet<string> = new Set();
  #version = 1;
  #rests = "";

  constructor(hubId: string, own: () => readonly X509Certificate[]) {
    this.hubId = hubId;
    this.#own = own;
  }

  /** update takes the views; a bundle that cannot be read counts as unknown, so that it can admit nobody. */
  update(views: readonly PeerView[], log: Logger): void {
    const next = new Map<string, { readonly view: PeerView; readonly bundle: readonly X509Certificate[] }>();
    for (const view of views) {
      const before = this.#views.get(view.hubId);
      if (before !== undefined && before.view.caPems.join() === view.caPems.join()) {
        next.set(view.hubId, { view, bundle: before.bundle });
        continue;
      }
      try {
        next.set(view.hubId, { view, bundle: parseCertificates(view.caPems) });
      } catch (error) {
        log.error({ peer: view.hubId, error }, "peer bundle cannot be read");
      }
    }
    this.#views = next;
    // Views come with each new token, too: what was decided about callers stays, unless what it rests on changed.
    const rests = JSON.stringify(
      views.map((view) => [view.hubId, view.level, view.caPems, view.revoked, view.terminated, view.minTokenIssuedAtWall]),
    );
    if (rests !== this.#rests) this.#version++;
    this.#rests = rests;
  }

  /** bump drops caches after the own CA set changed. */
  bump(): void {
    this.#version++;
  }

  /** revokeOwn replaces the thumbprints of this hub's own certificates that are refused. */
  revokeOwn(thumbprints: ReadonlySet<string>): void {
    this.#revoked = thumbprints;
    this.#version++;
  }

  /** ownRevoked are those thumbprints. */
  get ownRevoked(): readonly string[] {
    return [...this.#revoked];
  }

  /** pems are the CA certificates of all known peers, for the TLS layer: who a caller is, is decided per bundle. */
  pems(): string[] {
    return [...this.#views.values()].flatMap(({ view }) => (view.terminated ? [] : view.caPems));
  }

  bundle(hubId: string): readonly X509Certificate[] | undefined {
    return hubId === this.hubId ? this.#own() : this.#views.get(hubId)?.bundle;
  }

  level(hubId: string): number {
    return this.#views.get(hubId)?.view.level ?? 0;
  }

  revoked(thumbprint: string): boolean {
    if (this.#revoked.has(thumbprint)) return true;
    for (const { view } of this.#views.values()) if (view.revoked.includes(thumbprint)) return true;
    return false;
  }

  minTokenIssuedAt(hubId: string): number {
    return this.#views.get(hubId)?.view.minTokenIssuedAtWall ?? 0;
  }

  version(): number {
    return this.#version;
  }
}
