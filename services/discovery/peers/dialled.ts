import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { DialledMember, DialledPlace, Effect, Input } from "../messages.ts";
import { type Peer, showAddress } from "./peer.ts";
import type { PeerTable } from "./peer-table.ts";
import { report } from "./report-event.ts";
import { forgetTokens } from "./tokens.ts";

type Told = Extract<Input, { readonly kind: "dialled" }>;

/** So long what was confirmed is told to those who ask, ms. */
const FRESH_MS = 6_000;

/**
 * DialledMembers is where the federation has its members with standbys dialled. Who an installation is, its certificate proves, under the
 * CA that the operator here pinned to its hub; whether it acts for that hub, its fence.
 *
 * DM1 a fence that was told never falls: what is older, and came late, has no effect.
 * DM2 when another installation of a peer is dialled, whatever rests on the one before is void: its tokens here and ours there, its sessions,
 *    where its services were.
 * DM3 an installation with a lower fence than the one that is dialled is refused, whoever dials.
 * DM4 whoever asks which installation of its hub is dialled hears what was confirmed a moment ago; while there is no contact with whoever
 *    leads, what was told last, also before a restart.
 */
export class DialledMembers {
  readonly #table: PeerTable;
  #members: readonly DialledMember[] = [];
  #confirmedAt = Number.NEGATIVE_INFINITY;
  /** What was told of this hub last. */
  #own = "";

  constructor(table: PeerTable) {
    this.#table = table;
  }

  /** told takes what the federation decided. */
  told(now: Now, { members, voters, confirmed }: Told, out: Effect[]): void {
    this.#members = members;
    if (confirmed) this.#confirmedAt = now.mono;
    for (const peer of this.#table.peers()) {
      const member = members.find(({ hubId }) => hubId === peer.hubId);
      if (member !== undefined) this.#follow(now, peer, member, out);
      else if (confirmed && peer.record.dialled !== undefined) this.#release(now, peer, out);
    }
    const { hubId } = this.#table.config;
    const own = members.find((member) => member.hubId === hubId);
    if (own === undefined && !confirmed) return;
    const hubs = voters.filter((voter) => voter !== hubId);
    const text = JSON.stringify([own, hubs, members]);
    if (text !== this.#own) out.push({ kind: "own_dialled", member: own, hubs, members });
    this.#own = text;
  }

  /** asked answers where a hub is dialled, for an installation of it. */
  asked(now: Now, call: number, hubId: string, out: Effect[]): void {
    const isFresh = now.mono - this.#confirmedAt <= FRESH_MS;
    const member = isFresh ? this.#members.find((one) => one.hubId === hubId) : this.#toldOf(hubId);
    // That a hub has no standbys was told too, if it was ever confirmed since the start.
    const isTold = member !== undefined || this.#confirmedAt > Number.NEGATIVE_INFINITY;
    if (isFresh || isTold) return void out.push({ kind: "dialled_at", call, member });
    const message = `${this.#table.config.hubId} cannot tell now which installation of ${hubId} acts: it has no contact with whoever leads the federation, or belongs to none; ask again`;
    out.push({ kind: "refuse", call, failure: { reason: "TOO_STALE", message } });
  }

  #toldOf(hubId: string): DialledMember | undefined {
    const told = this.#table.get(hubId)?.record.dialled;
    if (told === undefined) return undefined;
    const { host, port, ...rest } = told;
    return { hubId, endpoint: { host, port }, ...rest };
  }

  #follow(now: Now, peer: Peer, { endpoint, standby, fence, incarnation }: DialledMember, out: Effect[]): void {
    const before = peer.record.dialled;
    const isNews = before === undefined || fence > before.fence || (fence === before.fence && incarnation > before.incarnation);
    if (!isNews) return;
    const dialled: DialledPlace = { ...endpoint, standby, fence, incarnation };
    const moved = before === undefined ? standby : showAddress(before) !== showAddress(endpoint);
    peer.record = { ...peer.record, dialled };
    if (moved) this.#move(now, peer, dialled, out);
    this.#table.persist(peer, out);
  }

  #move(now: Now, peer: Peer, place: DialledPlace, out: Effect[]): void {
    peer.record = { ...peer.record, endpoints: [], lastGood: undefined, minTokenIssuedAtWall: now.wall };
    forgetTokens(now, peer);
    peer.introduced = false;
    peer.wrong.clear();
    peer.tried = 0;
    peer.backoff.wake(now.mono);
    this.#table.touch(peer.hubId);
    const where = place.standby ? "its standby" : "its primary";
    const text = `${peer.hubId} is dialled at ${where} ${showAddress(place)} from now on, by a decision of the federation; what another installation of it does is void`;
    report(out, peer.hubId, "LINK_STATE", "WARNING", text, { address: showAddress(place), fence: String(place.fence) });
  }

  /** release: it has no standbys any more, or is no member; its operator here says where it is dialled. */
  #release(now: Now, peer: Peer, out: Effect[]): void {
    const { dialled: _, ...record } = peer.record;
    peer.record = record;
    peer.helloAt = now.mono;
    this.#table.persist(peer, out);
  }
}

/** fenceFailure is why an installation of a peer is refused: another one acts for its hub (DM3). */
export function fenceFailure({ hubId, record }: Peer, fence: number): Failure | undefined {
  const { dialled } = record;
  if (dialled === undefined || fence >= dialled.fence) return undefined;
  const address = showAddress(dialled);
  return {
    reason: "FENCE_STALE",
    message: `the installation of ${hubId} at ${address} acts for it with fence ${dialled.fence}, and this one has ${fence === 0 ? "none" : fence}; it stands by until the federation has it dialled again`,
    facts: { address, fence: String(dialled.fence) },
  };
}
