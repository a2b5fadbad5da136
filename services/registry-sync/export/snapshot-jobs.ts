import type { OwnFeed } from "../feed/feed.ts";
import type { PeerSession } from "../peer-session.ts";
import type { FeedTable } from "../table/table.ts";
import type { World } from "../world.ts";
import { SnapshotJob } from "./snapshot.ts";

/** A snapshot that nobody takes any more is kept so long: a peer whose link broke comes back for it, and others need it too. */
const KEEP_MS = 60_000;

/** SnapshotJobs are the snapshots that go out, one for all peers that can take the same. */
export class SnapshotJobs {
  readonly #world: World;
  readonly #sessions: ReadonlyMap<number, PeerSession>;
  readonly #feedOf: (share: string) => OwnFeed | undefined;
  readonly #jobs = new Map<number, SnapshotJob>();
  /** next is the number of the next one: all that was sent until now is in it. */
  next = 1;

  constructor(world: World, sessions: ReadonlyMap<number, PeerSession>, feedOf: (share: string) => OwnFeed | undefined) {
    this.#world = world;
    this.#sessions = sessions;
    this.#feedOf = feedOf;
  }

  /** quiet: none is built or taken. */
  get quiet(): boolean {
    for (const job of this.#jobs.values()) if (job.idleSince === undefined || job.manifest === undefined) return false;
    return true;
  }

  get(id: number): SnapshotJob | undefined {
    return this.#jobs.get(id);
  }

  /**
   * usable is the newest one from which a feed can be followed, if it is not older than what whoever takes it was sent: nothing that
   * anybody has seen may step back, not even to what it was a second ago.
   */
  usable(feed: OwnFeed, leastSeq: number, leastJob: number): SnapshotJob | undefined {
    let newest: SnapshotJob | undefined;
    for (const job of this.#jobs.values()) if (job.id >= leastJob && job.position.seq >= leastSeq && this.#leadsTo(feed, job)) newest = job;
    return newest;
  }

  #leadsTo(feed: OwnFeed | undefined, { share, position }: SnapshotJob): boolean {
    return feed !== undefined && share === feed.share && position.epoch === feed.epoch && position.seq + 1 >= feed.ring.first;
  }

  /** build begins one. Nothing may be in the open segment. */
  build(feed: OwnFeed, table: FeedTable): SnapshotJob {
    const job = new SnapshotJob(this.#world, this.next++, feed, table);
    this.#jobs.set(job.id, job);
    return job;
  }

  /** drop gives one up. */
  drop(job: SnapshotJob): void {
    job.close();
    this.#jobs.delete(job.id);
  }

  /** of are those of a share. */
  of(share: string): SnapshotJob[] {
    return [...this.#jobs.values()].filter((job) => job.share === share);
  }

  /** settle frees those that nobody takes, newest last, unless they may be of use and are not longer than what is kept for those who are behind. */
  settle(): void {
    if (this.#jobs.size === 0) return;
    const used = new Set([...this.#sessions.values()].map(({ out }) => (out.state === "snapshot" ? out.job : 0)));
    const { now, o } = this.#world;
    let room = o.ringBytes;
    for (const job of [...this.#jobs.values()].reverse()) {
      job.idleSince = used.has(job.id) ? undefined : (job.idleSince ?? now.mono);
      if (job.idleSince === undefined) continue;
      const useful = now.mono - job.idleSince < KEEP_MS && this.#leadsTo(this.#feedOf(job.share), job);
      if (useful && job.bytes <= room) room -= job.bytes;
      else this.drop(job);
    }
  }

  /** deadline is when `settle` has something to free. */
  deadline(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { idleSince } of this.#jobs.values()) if (idleSince !== undefined) next = Math.min(next, idleSince + KEEP_MS);
    return next;
  }
}
