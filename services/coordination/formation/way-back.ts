import type { StoreOp } from "#kernel/core.ts";
import type { Crypto } from "#kernel/crypto.ts";
import type { Now } from "#kernel/instant.ts";
import { decode, encode, message, type Of, sameBytes, text, uint } from "#kernel/wire/shape.ts";
import type { StoredLog } from "../log/engine.ts";
import { type Candidate, LOG_MAX, SIGNED_FOUNDING } from "../members/messages.ts";
import { joinBytes } from "../members/statements.ts";
import type { Effect, FormationFrame } from "../messages.ts";
import { federationId } from "../state/federation-state.ts";
import { numberProblem } from "./numbers.ts";
import { type Begun, SPACE } from "./record.ts";

const KEY = "way-back";
const RECORD = message({
  /** Why the store is not to be trusted. */
  why: text(1, 512),
  /** Of the replica that is to take its place. */
  incarnation: uint(2, LOG_MAX, 2),
});
type Record = Of<typeof RECORD>;

/** A member is asked so long after another one, ms. */
const ASK_MS = 2_000;

/** WayBackGround is what the way back needs. */
export interface WayBackGround {
  readonly hubId: string;
  readonly crypto: Crypto;
  /** own is what this hub says of itself. */
  readonly own: (incarnation: number) => Candidate;
  /** draw gives a number, at least 1, that is likely to be another one each time. */
  readonly draw: () => number;
}

/** storedWayBack reads why this hub's replica is not to take part; undefined if it may. It throws what is wrong with what is there. */
export function storedWayBack(store: Pick<StoredLog, "get">): Record | undefined {
  const bytes = store.get(SPACE, KEY);
  if (bytes === undefined) return undefined;
  const decoded = decode(RECORD, bytes);
  if (!decoded.ok) throw new RangeError(`what was stored of this hub's way back into its federation is damaged: ${decoded.problem}`);
  return decoded.value;
}

/**
 * WayBack is how a hub becomes a working member again whose store fell back in time, or was found to be another one than that which ran last.
 *
 * WB1 the replica that is not trusted takes no part from the moment on at which that is known, also not after a restart: it gives no vote
 *    and acknowledges nothing.
 * WB2 the hub comes back with a number for its replica that no replica of it has had, by a word that its key has signed and a member brings
 *    into the log. It learns everything anew, and has a vote again when it has all. Where members may lie, it begins by the word of more voters
 *    than may: one that lies does not have it wait for ever with a number that nobody knows.
 * WB3 what the store has is kept until a member has given it its new number, so that a federation of which every store was restored can
 *    still be saved, by its operators' word.
 * WB4 who only says that it belongs to the federation gives no number while one is in contact that this hub knew as a founder or a voter.
 */
export class WayBack {
  readonly #ground: WayBackGround;
  readonly begun: Begun;
  readonly #federation: Uint8Array;
  /** Peers in contact that belong to the federation. */
  readonly #members = new Set<string>();
  #record: Record;
  #askAt = Number.NEGATIVE_INFINITY;
  #asked = "";
  #refusal = "";
  /** Voters that this hub knew, and those of them that say that it has been let in, with the number that it asks for. */
  readonly #known: ReadonlySet<string>;
  readonly #said = new Set<string>();

  constructor(ground: WayBackGround, begun: Begun, record: Record) {
    this.#ground = ground;
    this.begun = begun;
    this.#record = record;
    this.#federation = federationId(begun.founding, ground.crypto);
    const { founders } = begun.founding.founding;
    this.#known = new Set((begun.voters.length > 0 ? begun.voters : founders).map(({ hubId }) => hubId));
  }

  /** begin is the way back of a replica that is not to be trusted any more, for the reason given. */
  static begin(ground: WayBackGround, begun: Begun, why: string): WayBack {
    // The store does not know which numbers were used after it was copied.
    return new WayBack(ground, begun, { why: why.slice(0, 512), incarnation: begun.incarnation + ground.draw() });
  }

  get federationId(): string {
    return this.begun.founding.founding.federationId;
  }

  /** keeping is what makes a restart go on with it. */
  keeping(): StoreOp {
    return { op: "put", space: SPACE, key: KEY, bytes: encode(RECORD, this.#record) };
  }

  /** forgetting is what makes a restart trust the store again. */
  forgetting(): StoreOp {
    return { op: "delete", space: SPACE, key: KEY };
  }

  /** problem says how it stands, for people. */
  get problem(): string {
    const { why } = this.#record;
    const said = [...this.#said].sort().join(", ");
    const next =
      said !== ""
        ? `${said} ${this.#said.size === 1 ? "says" : "say"} that it has been let in, which counts when more of the voters do that it knew (${[...this.#known].sort().join(", ")}): see to the links to them. If they have gone, have it let in anew: foedus federation leave ${this.federationId} --force, then foedus federation join ${this.federationId} --via MEMBER`
        : this.#members.size === 0
          ? "no member is in contact that could let it in again; see to the links to them"
          : this.#refusal === ""
            ? `it asks ${[...this.#members].sort().join(", ")} to be let in again`
            : `${this.#asked} could not let it in again: ${this.#refusal}`;
    return `this hub takes no part, because its store is not the one that ran last: ${why}. It comes back with another replica, and learns everything anew: ${next}`;
  }

  /** met takes to which federation a peer says it belongs. */
  met(now: Now, peer: string, federation: Uint8Array, out: Effect[]): void {
    if (!sameBytes(federation, this.#federation)) return void this.#members.delete(peer);
    this.#members.add(peer);
    this.tick(now, out);
  }

  /** lost takes that a session is gone. */
  lost(peer: string): void {
    this.#members.delete(peer);
  }

  /** again asks at once. */
  again(now: Now, out: Effect[]): void {
    this.#askAt = Number.NEGATIVE_INFINITY;
    this.tick(now, out);
  }

  /** tick asks a member, each in its turn. */
  tick(now: Now, out: Effect[]): void {
    if (now.mono < this.#askAt || this.#members.size === 0) return;
    const members = [...this.#members].sort();
    const next = members.find((peer) => peer > this.#asked) ?? (members[0] as string);
    this.#askAt = now.mono + ASK_MS;
    this.#ask(next, out);
  }

  deadline(): number | undefined {
    return this.#members.size === 0 ? undefined : this.#askAt;
  }

  /** frame takes what a member says; it may give the replica its new number. */
  frame(peer: string, frame: FormationFrame, out: Effect[]): Begun | undefined {
    if (frame.kind === "founded") {
      const { founding, incarnation } = frame;
      if (!this.#mayGive(peer)) return undefined;
      const same = sameBytes(encode(SIGNED_FOUNDING, founding), encode(SIGNED_FOUNDING, this.begun.founding));
      if (!same || incarnation !== this.#record.incarnation) return undefined;
      this.#said.add(peer);
      // Whose word counts for the state is what this hub knew itself.
      return this.#isSaid ? { ...this.begun, incarnation } : undefined;
    }
    if (frame.kind !== "join_answer" || peer !== this.#asked || frame.federationId !== this.federationId) return undefined;
    const problem = numberProblem(peer, frame.incarnation, this.begun.incarnation);
    if (frame.incarnation > this.#record.incarnation && problem === undefined) {
      // Members know later replicas of this hub than the store does.
      this.#record = { ...this.#record, incarnation: frame.incarnation };
      this.#said.clear();
      out.push({ kind: "persist", ops: [this.keeping()] });
      this.#ask(peer, out);
    }
    this.#refusal = problem ?? frame.failure?.message ?? "";
    return undefined;
  }

  /** isSaid tells whether the word of those counts that say that it has been let in. */
  get #isSaid(): boolean {
    if (this.begun.founding.founding.engine === "raft") return this.#said.size > 0;
    const said = [...this.#said].filter((peer) => this.#known.has(peer)).length;
    return said > Math.floor((this.#known.size - 1) / 3);
  }

  /** mayGive: this hub's own store cannot say who is a member now (WB4). */
  #mayGive(peer: string): boolean {
    const { founding, voters } = this.begun;
    const known = new Set([...founding.founding.founders, ...voters].map(({ hubId }) => hubId));
    return this.#members.has(peer) && (known.has(peer) || ![...this.#members].some((member) => known.has(member)));
  }

  describe(): string {
    return `way-back=${this.federationId} incarnation=${this.#record.incarnation} members=${[...this.#members].sort().join(",")}`;
  }

  #ask(peer: string, out: Effect[]): void {
    this.#asked = peer;
    const candidate = this.#ground.own(this.#record.incarnation);
    const signature = this.#ground.crypto.sign(joinBytes(this.federationId, candidate));
    out.push({ kind: "send", peer, early: false, frame: { kind: "join_ask", federationId: this.federationId, candidate, signature } });
  }
}
