import type { Now } from "#kernel/instant.ts";
import type { Effect, Introduction } from "../messages.ts";
import { atPlaces, type MetRun } from "./copies.ts";
import { acceptEndpoints, type Peer, SOFTWARE_MAX } from "./peer.ts";
import type { PeerTable } from "./peer-table.ts";
import { report } from "./report-event.ts";

/** Largest skew that is told apart: some three hundred years. */
const SKEW_SHOWN_MS = 1e13;

/** servicesOf are the services of which a hub speaks a version. One that is missing came with a later release than its own. */
function servicesOf(packages: readonly string[]): ReadonlySet<string> {
  const named = packages.map((name) => /^foedus\.([a-z0-9_]{1,63})\../.exec(name)?.[1]);
  return new Set(named.filter((service) => service !== undefined).map((service) => service.replaceAll("_", "-")));
}

/** Introductions notes what peers say of themselves and how they are met, in Hellos of either side and on sessions. */
export class Introductions {
  readonly #table: PeerTable;

  constructor(table: PeerTable) {
    this.#table = table;
  }

  /** introduce notes a finished handshake: who it is, where it is, and that its certificate was proved. */
  introduce(now: Now, peer: Peer, from: Introduction, address: string | undefined, out: Effect[]): void {
    this.met(now, peer, { run: from.run ?? "", incarnation: from.incarnation, address }, out);
    peer.introduced = true;
    peer.services = servicesOf(from.packages);
    peer.failure = undefined;
    const endpoints = acceptEndpoints(peer.hubId, from.endpoints);
    if (endpoints.length < from.endpoints.length)
      report(
        out,
        peer.hubId,
        "ACCESS_REFUSED",
        "WARNING",
        `${from.endpoints.length - endpoints.length} endpoints that ${peer.hubId} advertised were ignored: they are not its own or not an address`,
      );
    peer.record = { ...peer.record, endpoints, software: from.software.slice(0, SOFTWARE_MAX) };
    this.proved(now, peer, out);
    this.#table.touch(peer.hubId);
  }

  /** met notes a process of the peer, by which a second copy of its hub is found. */
  met(now: Now, peer: Peer, run: MetRun, out: Effect[]): void {
    if (peer.runs.met(now.mono, run)) this.#copiesFound(peer, peer.hubId, peer.runs.copies(now.mono), out);
    if (peer.runs.tellAgain(now.mono)) out.push({ kind: "observe", what: "copies", peer: peer.hubId });
  }

  /** told notes what the peer says of copies of this hub. */
  told(now: Now, peer: Peer, places: readonly string[], out: Effect[]): void {
    if (peer.told.told(now.mono, places)) this.#copiesFound(peer, this.#table.config.hubId, peer.told.places(now.mono), out);
  }

  /** copiesFound says that a hub runs twice: one that this hub met, or this hub itself, as the peer says. */
  #copiesFound(peer: Peer, hubId: string, places: readonly string[], out: Effect[]): void {
    const by = hubId === peer.hubId ? "" : `${peer.hubId} says: `;
    const text = `${by}two copies of hub ${hubId} run: ${atPlaces(places)}; stop one, or give it a hub id and certificates of its own`;
    report(out, peer.hubId, "SESSION", "ERROR", text, { hub: hubId, copies: places.join(", ") });
  }

  /** proved notes that the peer has shown its certificate just now. */
  proved(now: Now, peer: Peer, out: Effect[]): void {
    peer.record = { ...peer.record, certificateAtWall: now.wall };
    this.#table.persist(peer, out);
  }

  /** heard: the peer lives. One dial is due at once, here and in the other services, if the link is not up (DI4, D-18). */
  heard(now: Now, peer: Peer): void {
    if (peer.state !== "OPERATIONAL") this.wake(now, peer);
  }

  /** wake makes one dial due at once, here and in the other services. */
  wake(now: Now, peer: Peer): void {
    peer.backoff.wake(now.mono);
    peer.wake++;
    this.#table.touch(peer.hubId);
  }

  /** noteSkew notes how far the clock of the peer, as it said, is off ours at that time. It is reported when it becomes too far. */
  noteSkew(peer: Peer, saidWallMs: number, ourWallMs: number, out: Effect[]): void {
    const { skewWarnMs } = this.#table.config;
    // A field that was left out is no reading.
    if (saidWallMs === 0) return;
    // Any number may have been said; what is shown must fit everywhere.
    const skewMs = Math.max(-SKEW_SHOWN_MS, Math.min(SKEW_SHOWN_MS, saidWallMs - ourWallMs));
    if (Math.abs(skewMs) > skewWarnMs && Math.abs(peer.skewMs) <= skewWarnMs)
      report(out, peer.hubId, "CLOCK", "WARNING", `the clock of ${peer.hubId} is ${Math.round(skewMs)} ms off ours`, {
        skew_ms: String(Math.round(skewMs)),
      });
    peer.skewMs = Math.round(skewMs);
  }
}
