import { TokenBucket } from "#kernel/bounds/token-bucket.ts";
import type { Core, Observe } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";

/** DoorConfig bounds one invite. Times are ms. */
export interface DoorConfig {
  /** Life of the invite. */
  readonly lifeMs: number;
  /** Wrong proofs that it survives, less one: the last of them closes it. */
  readonly attempts: number;
  /** Exchanges that may be open at once, and how long one lives. */
  readonly exchanges: number;
  readonly exchangeMs: number;
  /** Exchanges that an address may begin at once, and a second; and so many addresses may begin their first. */
  readonly burst: number;
  readonly perSecond: number;
}

/** DOOR are the bounds that ship: 300 s and three attempts; an exchange is two calls of a program, so seconds are plenty. */
export const DOOR: DoorConfig = { lifeMs: 300_000, attempts: 3, exchanges: 8, exchangeMs: 15_000, burst: 8, perSecond: 1 };

/** End is why a door is closed. */
export type End = "used" | "expired" | "attempts" | "withdrawn" | "not_admitted";

/** Input of the core. `call` is the shell's number of the RPC, `caller` the certificate that it came with, `address` where it came from. */
export type Input =
  | { readonly kind: "begin"; readonly call: number; readonly caller: string; readonly address: string; readonly invited: boolean }
  | { readonly kind: "introduce"; readonly call: number; readonly caller: string; readonly exchange: number }
  /** Answers `judge`. */
  | { readonly kind: "judged"; readonly call: number; readonly proven: boolean }
  /** Answers `admit`; a failure is told to the guest and ends the invite. */
  | { readonly kind: "admitted"; readonly call: number; readonly failure?: Failure }
  | { readonly kind: "withdraw" };

/** Output of the core. */
export type Output =
  | { readonly kind: "begun"; readonly call: number; readonly exchange: number }
  /** Check the proof, now: only then may it be looked at. */
  | { readonly kind: "judge"; readonly call: number; readonly exchange: number }
  /** The proof is right: make the guest a peer. At most once. */
  | { readonly kind: "admit"; readonly call: number; readonly exchange: number }
  | { readonly kind: "welcome"; readonly call: number }
  | { readonly kind: "refuse"; readonly call: number; readonly failure: Failure }
  /** The exchange's key is to be forgotten. */
  | { readonly kind: "forget"; readonly exchange: number }
  | { readonly kind: "closed"; readonly why: End };

/** Note is something that the host's operator should hear of. */
export interface Note extends Observe {
  readonly what: "wrong_proof" | "uninvited";
  readonly attemptsLeft: number;
}

/** Effect of the core. */
export type Effect = Output | Note;

interface Exchange {
  readonly caller: string;
  readonly endsAt: number;
}

/**
 * DoorCore decides what happens at the door while one invite is open.
 *
 * IN1 a proof is judged only while the invite is open and alive, and at most `attempts` proofs are judged wrong, however many
 *    exchanges are open.
 * IN2 an exchange is judged at most once, for the certificate that began it, and within its time.
 * IN3 at most one guest is admitted, and nobody after the end; while one is being admitted no other proof is judged.
 * IN4 whoever does not have the invite takes nothing from those who do: neither attempts, nor exchanges, nor rate.
 * IN5 everything held is bounded, and after the end nothing is held.
 * IN6 nobody keeps the door busy by waiting: when all exchanges are taken, a new one ends the oldest. A guest needs its own for two calls
 *    in a row.
 * IN7 nobody uses up the rate of others: each address has its own, and the first exchange of an address takes from a rate that those who
 *    have begun already do not touch.
 */
export class DoorCore implements Core<Input, Effect> {
  readonly #config: DoorConfig;
  readonly #endsAt: number;
  readonly #exchanges = new Map<number, Exchange>();
  #lastExchange = 0;
  #wrong = 0;
  #judging: { readonly call: number; readonly exchange: number } | undefined;
  #admitting: number | undefined;
  #end: End | undefined;
  /** Rate at which addresses come that have not begun before, and that of each which has, oldest first. */
  readonly #newcomers: TokenBucket;
  readonly #addresses = new Map<string, TokenBucket>();

  constructor(config: DoorConfig, now: Now) {
    this.#config = config;
    this.#endsAt = now.mono + config.lifeMs;
    this.#newcomers = new TokenBucket(config, now.mono);
  }

  step(now: Now, input: Input, out: Effect[]): void {
    this.tick(now, out);
    switch (input.kind) {
      case "begin":
        return this.#begin(now, input, out);
      case "introduce":
        return this.#introduce(input, out);
      case "judged":
        return this.#judged(input.call, input.proven, out);
      case "admitted":
        return this.#admitted(input.call, input.failure, out);
      case "withdraw":
        return this.#close("withdrawn", out);
    }
  }

  tick(now: Now, out: Effect[]): void {
    for (const [id, { endsAt }] of this.#exchanges)
      if (now.mono >= endsAt) {
        this.#exchanges.delete(id);
        out.push({ kind: "forget", exchange: id });
      }
    // A guest that was proven in time is not sent away because writing its name takes long.
    if (now.mono >= this.#endsAt && this.#admitting === undefined) this.#close("expired", out);
  }

  deadline(): number | undefined {
    if (this.#end !== undefined) return undefined;
    const ends = [...this.#exchanges.values()].map(({ endsAt }) => endsAt);
    if (this.#admitting === undefined) ends.push(this.#endsAt);
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  describe(): string {
    const state = this.#end ?? (this.#admitting === undefined ? "open" : "admitting");
    return `${state} wrong=${this.#wrong}/${this.#config.attempts} exchanges=${[...this.#exchanges.keys()].join(",") || "-"}`;
  }

  #begin(now: Now, { call, caller, address, invited }: Extract<Input, { kind: "begin" }>, out: Effect[]): void {
    if (!invited) {
      out.push(this.#note("uninvited"), refuse(call, CLOSED));
      return;
    }
    if (this.#end !== undefined) return void out.push(refuse(call, CLOSED));
    const waitMs = this.#wait(now, placeOf(address));
    if (waitMs > 0) {
      const message = `too many introductions begin at this door; wait ${Math.max(waitMs, 1_000)} ms`;
      return void out.push(refuse(call, { reason: "RATE_LIMITED", message, facts: { retry_after_ms: String(Math.max(waitMs, 1_000)) } }));
    }
    this.#makeRoom(caller, out);
    const exchange = ++this.#lastExchange;
    this.#exchanges.set(exchange, { caller, endsAt: now.mono + this.#config.exchangeMs });
    out.push({ kind: "begun", call, exchange });
  }

  /** wait is how long an address has to wait before it may begin; 0 counts as a beginning (IN7). */
  #wait(now: Now, place: string): number {
    const known = this.#addresses.get(place);
    if (known !== undefined) return known.take(this.#config, now.mono);
    const waitMs = this.#newcomers.take(this.#config, now.mono);
    if (waitMs > 0) return waitMs;
    const [oldest] = this.#addresses.keys();
    if (this.#addresses.size >= ADDRESSES_MAX && oldest !== undefined) this.#addresses.delete(oldest);
    const bucket = new TokenBucket(this.#config, now.mono);
    bucket.take(this.#config, now.mono);
    this.#addresses.set(place, bucket);
    return 0;
  }

  /** makeRoom ends the oldest exchange for a new one when all are taken: of the same caller, if it has any (IN6). */
  #makeRoom(caller: string, out: Effect[]): void {
    if (this.#exchanges.size < this.#config.exchanges) return;
    const open = [...this.#exchanges];
    const oldest = (open.find(([, exchange]) => exchange.caller === caller) ?? open[0])?.[0];
    if (oldest === undefined) return;
    this.#exchanges.delete(oldest);
    out.push({ kind: "forget", exchange: oldest });
  }

  #introduce({ call, caller, exchange }: Extract<Input, { kind: "introduce" }>, out: Effect[]): void {
    if (this.#end !== undefined) return void out.push(refuse(call, CLOSED));
    if (this.#exchanges.get(exchange)?.caller !== caller) return void out.push(refuse(call, NO_EXCHANGE));
    if (this.#admitting !== undefined || this.#judging !== undefined) return void out.push(refuse(call, BUSY));
    this.#exchanges.delete(exchange);
    this.#judging = { call, exchange };
    out.push({ kind: "judge", call, exchange });
  }

  #judged(call: number, proven: boolean, out: Effect[]): void {
    const judging = this.#judging;
    if (judging?.call !== call) return;
    const { exchange } = judging;
    this.#judging = undefined;
    if (this.#end !== undefined) {
      out.push(refuse(call, CLOSED), { kind: "forget", exchange });
      return;
    }
    if (proven) {
      this.#admitting = call;
      return void out.push({ kind: "admit", call, exchange });
    }
    this.#wrong++;
    const left = this.#config.attempts - this.#wrong;
    const rest = left > 0 ? `${left} more ${left === 1 ? "attempt" : "attempts"}` : "the invite is closed now; ask for a new one";
    const message = `the PIN is not right for this invite, or somebody is between the two hubs; ${rest}`;
    const facts = { attempts_left: String(left) };
    out.push(this.#note("wrong_proof"), refuse(call, { reason: "PIN_MISMATCH", message, facts }), { kind: "forget", exchange });
    if (left <= 0) this.#close("attempts", out);
  }

  #admitted(call: number, failure: Failure | undefined, out: Effect[]): void {
    if (this.#admitting !== call) return;
    this.#admitting = undefined;
    out.push(failure === undefined ? { kind: "welcome", call } : refuse(call, failure));
    this.#close(failure === undefined ? "used" : "not_admitted", out);
  }

  #close(why: End, out: Effect[]): void {
    // What is being admitted is admitted or not by its answer; nobody else comes in meanwhile.
    if (this.#end !== undefined || this.#admitting !== undefined) return;
    this.#end = why;
    for (const exchange of this.#exchanges.keys()) out.push({ kind: "forget", exchange });
    this.#exchanges.clear();
    out.push({ kind: "closed", why });
  }

  #note(what: Note["what"]): Note {
    return { kind: "observe", what, attemptsLeft: this.#config.attempts - this.#wrong };
  }
}

/** Addresses whose rate is remembered. */
const ADDRESSES_MAX = 64;

/** placeOf is what counts as one address: of IPv6 the first half, as whoever has one address there has all of its network. */
function placeOf(address: string): string {
  const groups = address.startsWith("::ffff:") ? [address] : address.split(":");
  if (groups.length < 3) return address;
  const gap = groups.indexOf("");
  const whole =
    gap < 0 ? groups : [...groups.slice(0, gap), ...Array<string>(Math.max(0, 9 - groups.length)).fill("0"), ...groups.slice(gap + 1)];
  return whole.slice(0, 4).join(":");
}

const CLOSED: Failure = {
  reason: "INVITE_CLOSED",
  message: "this invite is not open here: it was used, has expired or was withdrawn; ask for a new one",
};
const NO_EXCHANGE: Failure = { reason: "INVITE_CLOSED", message: "there is no such exchange: it took too long, or was used; begin again" };
const BUSY: Failure = { reason: "OVERLOADED", message: "another guest is at the door; try again in a moment" };

function refuse(call: number, failure: Failure): Output {
  return { kind: "refuse", call, failure };
}
