import type { Now } from "#kernel/instant.ts";
import { endpointOf } from "../members/failures.ts";
import type { Members } from "../members/members.ts";
import type { Member, MemberNews } from "../members/messages.ts";
import type { DialledMember, Effect } from "../messages.ts";
import type { Part, PartGround } from "../part.ts";
import type { News } from "../state/commands.ts";

/** How often what was told is confirmed, ms: who asks who acts for a hub hears nothing that is much older. */
const CONFIRM_MS = 2_000;

/** CHANGES are news after which a member may be dialled elsewhere, or by others. */
const CHANGES: ReadonlySet<MemberNews["kind"]> = new Set(["founded", "admitted", "gone", "replaced", "endpoint_moved", "seats_changed"]);

/**
 * Directions tells discovery where members with standbys are dialled, and with which fence.
 *
 * TD1 what is told was decided; it is told when it is decided, and again when whoever leads has confirmed that nothing newer is.
 * TD2 a federation of which no member has standbys costs nothing: nobody is asked, and discovery hears of it once.
 */
export class Directions implements Part {
  readonly frames = [] as const;
  readonly requests = [] as const;
  readonly #members: Members;
  readonly #read: PartGround["read"];
  #confirmAt = Number.NEGATIVE_INFINITY;
  /** What is told are members; before anything was told, it is not known whether discovery remembers some. */
  #told: "unknown" | "none" | "some" = "unknown";

  constructor({ state, read }: PartGround) {
    this.#members = state.books.members;
    this.#read = read;
  }

  onNews(_now: Now, { book, news }: News, out: Effect[]): void {
    if (book === "members" && CHANGES.has(news.kind)) this.#changed(out);
  }

  onReplaced(_now: Now, out: Effect[]): void {
    this.#changed(out);
  }

  tick(now: Now, _out: Effect[]): void {
    if (!this.#concerns || now.mono < this.#confirmAt) return;
    this.#confirmAt = now.mono + CONFIRM_MS;
    this.#read((failure, _at, out) => {
      if (failure === undefined) this.#tell(true, out);
    });
  }

  deadline(): number | undefined {
    return this.#concerns ? this.#confirmAt : undefined;
  }

  /** concerns tells whether discovery has to hear of anything. */
  get #concerns(): boolean {
    return this.#told !== "none" || this.#withStandbys().length > 0;
  }

  #withStandbys(): Member[] {
    return this.#members.members().filter(({ standbys }) => standbys.length > 0);
  }

  #changed(out: Effect[]): void {
    if (this.#withStandbys().length > 0) this.#tell(false, out);
  }

  #tell(confirmed: boolean, out: Effect[]): void {
    const members = this.#withStandbys().map(dialledMember);
    // That there are none is believed only when it is confirmed: what was read so far may be older than what was told before.
    if (members.length > 0) this.#told = "some";
    else if (confirmed) this.#told = "none";
    const voters = this.#members.members().flatMap(({ hubId, voter }) => (voter ? [hubId] : []));
    out.push({ kind: "dialled", members, voters, confirmed });
  }

  describe(): string {
    return `directions=${this.#withStandbys()
      .map(({ hubId, dialled, fence }) => `${hubId}:${dialled}@${fence}`)
      .join(",")}`;
  }

  frame(): void {
    // It takes none.
  }

  call(): void {
    // Nobody asks it anything.
  }

  contact(): void {
    // Sessions do not matter to it.
  }
}

function dialledMember(member: Member): DialledMember {
  const { hubId, dialled, fence, incarnation } = member;
  return { hubId, endpoint: endpointOf(member), standby: dialled > 0, fence, incarnation };
}
