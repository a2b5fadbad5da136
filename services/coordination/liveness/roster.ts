import { isHubId } from "#kernel/hub-id.ts";
import { SUSPECTS_MAX, type Suspect } from "./frames.ts";
import type { Member } from "./messages.ts";
import { type LivenessConfig, MEMBERS_MAX } from "./settings.ts";
import { Watched } from "./watched.ts";

/** Intervals within which a member that is well has been heard. */
const FRESH = 2;

/** Roster is the members that a detector watches, by hub id and in order of ids: at most MEMBERS_MAX, this hub itself not among them. */
export class Roster {
  readonly #config: LivenessConfig;
  #members = new Map<string, Watched>();

  constructor(config: LivenessConfig) {
    this.#config = config;
  }

  /** set takes the members of the book and answers how many are too many. What is known of those that stay is kept. */
  set(members: readonly Member[], at: number): number {
    const wanted = new Map(members.filter(({ hub }) => isHubId(hub) && hub !== this.#config.hubId).map(({ hub, failed }) => [hub, failed]));
    const hubs = [...wanted.keys()].sort().slice(0, MEMBERS_MAX);
    const before = this.#members;
    this.#members = new Map(hubs.map((hub) => [hub, before.get(hub) ?? new Watched(hub, this.#config, at)]));
    for (const member of this.all()) member.setFailed(wanted.get(member.hub) === true, at);
    return wanted.size - hubs.length;
  }

  get(hub: string): Watched | undefined {
    return this.#members.get(hub);
  }

  has(hub: string): boolean {
    return this.#members.has(hub);
  }

  get size(): number {
    return this.#members.size;
  }

  all(): IterableIterator<Watched> {
    return this.#members.values();
  }

  /** others are those that are not known to have failed, but one. */
  others(member: Watched): Watched[] {
    return [...this.all()].filter((other) => other !== member && !other.failed);
  }

  /** freshOthers counts those of them that were heard within the last two intervals. */
  freshOthers(member: Watched, at: number): number {
    return this.others(member).filter((other) => other.met && at - other.heardAt <= FRESH * this.#config.intervalMs).length;
  }

  /** confirmations counts the others that suspect a member themselves, and are not doubted. */
  confirmations(member: Watched): number {
    const same = ({ hub, incarnation }: Suspect): boolean => hub === member.hub && incarnation >= member.incarnation;
    return this.others(member).filter((other) => other.phase === "alive" && other.suspects.some(same)).length;
  }

  /** suspects are what this hub tells `to` that it suspects. Whoever is suspected hears of it, however many there are. */
  suspects(to: string): Suspect[] {
    const doubted = [...this.all()].filter(({ phase }) => phase === "suspected" || phase === "accused");
    doubted.sort((a, b) => Number(b.hub === to) - Number(a.hub === to));
    return doubted.slice(0, SUSPECTS_MAX).map(({ hub, incarnation }) => ({ hub, incarnation }));
  }

  /** heard lists those that can take part in a decision as far as this hub can tell. */
  heard(): string[] {
    return [...this.all()]
      .filter(({ failed, met, phase }) => !failed && met && (phase === "alive" || phase === "probing"))
      .map(({ hub }) => hub);
  }
}
