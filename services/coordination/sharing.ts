import type { Now } from "#kernel/instant.ts";
import { ProtoReader, WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import { writeAmounts } from "./codec/resources.ts";
import type { Effect, Frame, Request } from "./messages.ts";
import type { Part as MemberPart, PartGround } from "./part.ts";
import { minus } from "./resources/amounts.ts";
import type { ResourceBook } from "./resources/book.ts";
import { SharedState } from "./shared/core.ts";
import {
  KINDS,
  SHARED_LIMITS,
  SHARED_SPACE,
  type SharedChange,
  type SharedEffect,
  type SharedInput,
  type SharedKind,
} from "./shared/messages.ts";
import { Part } from "./shared/part.ts";
import { readStored } from "./shared/part-bytes.ts";
import type { News } from "./state/commands.ts";

/** Times of shared state: how far ahead a reading may be (D-9), and how changes are gathered, relayed and compared, ms. */
const TIMES = { maxSkewMs: 1_000, lingerMs: 200, relayMs: 1_000, syncMs: 10_000 };

/** Field `agents_max` of a SwarmSummary, and its greatest value. */
const AGENTS_MAX_FIELD = 6;
const AGENTS_MAX = 1_000;

/** How often this hub looks whether what it says of itself is still so, ms. */
const LOOK_MS = 1_000;

/** When it looks again after something did not fit, ms. */
const LATER_MS = 10_000;

/** News after which the members are others. */
const CHANGES: ReadonlySet<string> = new Set(["founded", "admitted", "gone", "replaced"]);

/**
 * Sharing is a member's part in shared state (S1-7): it tells the others what it has to lend and how loaded it is, carries what all say, and
 * drops what a hub said when that is no member any more.
 *
 * SP1 what this hub says of itself is what its book has, no more than a look (a second) ago; it says nothing where nothing has changed.
 * SP2 frames of another federation, and of hubs that are no members, have no effect.
 */
export class Sharing implements MemberPart {
  readonly frames = ["shared"] as const;
  readonly requests = ["shared", "share"] as const;
  readonly #ground: PartGround;
  readonly #hubId: string;
  readonly #book: ResourceBook;
  readonly #core: SharedState;
  #lookAt = Number.NEGATIVE_INFINITY;
  #begun = false;
  /** Places of which this hub has said, or wants to say, what it has there. */
  readonly #said = new Set<string>();

  constructor(ground: PartGround) {
    const { hubId, crypto, stored } = ground.ground;
    this.#ground = ground;
    this.#hubId = hubId;
    this.#book = ground.state.books.resources;
    const parts = [...stored.space(SHARED_SPACE)].map(({ bytes }) => Part.load(readStored(bytes)));
    this.#core = new SharedState({ hub: hubId, crypto, federation: ground.state.federation, ...TIMES }, parts);
    for (const [slot, { kind, value }] of this.#core.own() ?? []) if (KINDS[kind].owned && value !== undefined) this.#said.add(slot);
  }

  call(now: Now, call: number, request: Request, out: Effect[]): void {
    if (request.kind === "shared") {
      const kinds = request.of === undefined ? (Object.keys(KINDS) as SharedKind[]) : [request.of];
      const facts = kinds.flatMap((kind) => this.#core.list(kind));
      const heads = [...this.#core.parts()].map(({ head }) => head).sort((a, b) => (a.hub < b.hub ? -1 : 1));
      return void out.push({ kind: "shared", call, facts, heads, root: this.#core.root() });
    }
    if (request.kind === "share") this.#step(now, { kind: "change", call, changes: request.changes }, out);
  }

  frame(now: Now, from: string, frame: Frame, out: Effect[]): void {
    if (frame.kind !== "shared" || !sameBytes(frame.federation, this.#ground.state.federation)) return;
    if (this.#ground.state.books.members.member(from) === undefined) return;
    this.#step(now, { kind: "frame", from, frame: frame.frame }, out);
  }

  contact(now: Now, hub: string, up: boolean, out: Effect[]): void {
    this.#step(now, { kind: "peer", hub, up }, out);
  }

  onNews(now: Now, { book, news }: News, out: Effect[]): void {
    if (book === "members" && CHANGES.has(news.kind)) this.#members(now, out);
  }

  onReplaced(now: Now, out: Effect[]): void {
    this.#members(now, out);
  }

  tick(now: Now, out: Effect[]): void {
    if (!this.#begun) this.#members(now, out);
    if ((this.#core.deadline() ?? Number.POSITIVE_INFINITY) <= now.mono) {
      const effects: SharedEffect[] = [];
      this.#core.tick(now, effects);
      this.#route(effects, out);
    }
    if (now.mono < this.#lookAt) return;
    this.#lookAt = now.mono + LOOK_MS;
    this.#look(now, out);
  }

  deadline(): number | undefined {
    return Math.min(this.#lookAt, this.#core.deadline() ?? Number.POSITIVE_INFINITY);
  }

  describe(): string {
    return `shared\n${this.#core.describe()}`;
  }

  /** rooms says for how many agents each hub has room that has some, by its own word. */
  rooms(): Map<string, number> {
    const rooms = new Map<string, number>();
    for (const { head, entries } of this.#core.parts()) {
      // Of its own summary a hub is the only writer.
      const summary = entries.get(`swarms ${head.hub}`)?.value;
      const room = summary === undefined ? 0 : agentsMaxIn(summary);
      if (room > 0) rooms.set(head.hub, room);
    }
    return rooms;
  }

  #members(now: Now, out: Effect[]): void {
    this.#begun = true;
    const { members: book } = this.#ground.state.books;
    const members = book
      .members()
      .slice(0, SHARED_LIMITS.hubs)
      .flatMap(({ hubId, incarnation }) => {
        const key = book.key(hubId);
        return key === undefined ? [] : [{ hub: hubId, incarnation, publicKey: key.publicKey }];
      });
    this.#step(now, { kind: "members", members }, out);
  }

  /** look says what has changed since the last look (SP1). What does not fit is left out: offers first come first. */
  #look(now: Now, out: Effect[]): void {
    if (this.#ground.state.books.members.member(this.#hubId) === undefined) return;
    const wanted = new Map([...this.#summary(), ...this.#free()]);
    const mine = this.#core.own();
    const changes: SharedChange[] = [];
    for (const [slot, value] of wanted) {
      const before = mine?.get(slot)?.value;
      if (before !== undefined && sameBytes(before, value)) continue;
      this.#said.add(slot);
      changes.push({ ...placeOf(slot), value });
    }
    for (const slot of this.#said) {
      if (wanted.has(slot)) continue;
      if (mine?.has(slot) === true) changes.push({ ...placeOf(slot), value: undefined });
      else this.#said.delete(slot);
    }
    const some = changes.slice(0, SHARED_LIMITS.changes);
    if (some.length === 0 || this.#say(now, some, out)) return;
    // Not all of it fits beside what programs of this hub say: each that does is said, and the rest later.
    this.#lookAt = now.mono + LATER_MS;
    for (const one of some) this.#say(now, [one], out);
  }

  /** #say tells whether something was said. */
  #say(now: Now, changes: readonly SharedChange[], out: Effect[]): boolean {
    const effects: SharedEffect[] = [];
    // Its own changes are answered to nobody: calls are above 0.
    this.#core.step(now, { kind: "change", call: 0, changes }, effects);
    this.#route(effects, out);
    return !effects.some((effect) => effect.kind === "refused");
  }

  #summary(): [string, Uint8Array][] {
    const offers = this.#book.offers().filter(({ owner, withdrawn }) => owner === this.#hubId && !withdrawn);
    const lent = this.#book.leases({ owner: this.#hubId }).length;
    const borrowed = this.#book.leases({ borrower: this.#hubId }).length;
    const load = Math.max(0, ...offers.map((offer) => offer.load));
    const inContact = this.#ground.state.books.members.members().filter(({ hubId }) => this.#ground.inContact(hubId)).length;
    const { agentsMax } = this.#ground.ground.tuning;
    const writer = new ProtoWriter().uint(1, offers.length).uint(2, lent).uint(3, borrowed).uint(4, load).uint(5, inContact);
    return [[`swarms ${this.#hubId}`, writer.uint(AGENTS_MAX_FIELD, agentsMax).finish()]];
  }

  #free(): [string, Uint8Array][] {
    return this.#book
      .offers()
      .filter(({ owner, withdrawn }) => owner === this.#hubId && !withdrawn)
      .map(({ offer, ceiling, used, load }) => {
        const free = minus(ceiling, used).map((amount) => Math.max(0, amount));
        return [`resources ${this.#hubId}/${offer.name}`, new ProtoWriter().message(1, writeAmounts(free)).uint(2, load).finish()];
      });
  }

  #step(now: Now, input: SharedInput, out: Effect[]): void {
    const effects: SharedEffect[] = [];
    this.#core.step(now, input, effects);
    this.#route(effects, out);
  }

  #route(effects: readonly SharedEffect[], out: Effect[]): void {
    for (const effect of effects)
      switch (effect.kind) {
        case "persist":
          out.push(effect);
          break;
        case "send":
          out.push({
            kind: "send",
            peer: effect.to,
            early: false,
            frame: { kind: "shared", federation: this.#ground.state.federation, frame: effect.frame },
          });
          break;
        case "changed":
          if (effect.call !== 0) out.push({ kind: "said", call: effect.call, version: effect.version });
          break;
        case "refused":
          if (effect.call !== 0) out.push({ kind: "refused", call: effect.call, failure: effect.failure });
          break;
        case "observe":
          out.push({ kind: "observe", what: `shared_${effect.what}` });
          break;
        case "news":
          break;
      }
  }
}

/** agentsMaxIn reads one field of a SwarmSummary, before which there are only numbers; 0 of what is no such message. */
function agentsMaxIn(summary: Uint8Array): number {
  const reader = new ProtoReader(summary);
  let room = 0;
  try {
    // What comes behind it is of a later version.
    for (let field = reader.next(); field !== 0 && field <= AGENTS_MAX_FIELD; field = reader.next())
      if (field === AGENTS_MAX_FIELD) room = reader.uint(AGENTS_MAX);
      else reader.uint();
  } catch (error) {
    // What another hub says of itself may be anything.
    if (error instanceof WireError) return 0;
    throw error;
  }
  return room;
}

function placeOf(slot: string): { readonly kind: SharedKind; readonly key: string } {
  const at = slot.indexOf(" ");
  return { kind: slot.slice(0, at) as SharedKind, key: slot.slice(at + 1) };
}
