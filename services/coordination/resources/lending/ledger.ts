import { assert } from "#kernel/assert.ts";

/** MICRO_MAX bounds a cost and a balance, in millionths of a cost unit. */
export const MICRO_MAX = 1_000_000_000_000_000;

/** HOUR_MS is the time that prices are for. */
const HOUR_MS = 3_600_000n;

/** costOf is what amounts cost for a time, by prices per unit and hour, rounded up; MICRO_MAX + 1 if it is more than that. */
export function costOf(prices: readonly number[], amounts: readonly number[], durationMs: number): number {
  let perHour = 0n;
  for (let i = 0; i < amounts.length; i++)
    if (amounts[i] !== 0 && prices[i] !== 0) perHour += BigInt(prices[i] as number) * BigInt(amounts[i] as number);
  if (perHour === 0n) return 0;
  const cost = (perHour * BigInt(durationMs) + HOUR_MS - 1n) / HOUR_MS;
  return cost > BigInt(MICRO_MAX) ? MICRO_MAX + 1 : Number(cost);
}

/** partOf is `whole * part / of`, rounded down or, if asked for, up. */
export function partOf(whole: number, part: number, of: number, up = false): number {
  if (of === 0 || whole === 0) return 0;
  return Number((BigInt(whole) * BigInt(part) + (up ? BigInt(of) - 1n : 0n)) / BigInt(of));
}

/**
 * Ledger keeps what hubs owe each other, in whole millionths of a unit: every movement is taken from one account and put into another, so
 * that all accounts together are zero for ever (RB10). What an allocation may cost lies in escrow until it has ended.
 */
export class Ledger {
  readonly #balances = new Map<string, number>();
  /** In escrow, for all allocations. */
  escrow = 0;
  /** Balances of hubs that were removed. */
  writtenOff = 0;

  /** balance of a hub: below zero if it owes. */
  balance(hub: string): number {
    return this.#balances.get(hub) ?? 0;
  }

  /** hold puts what something may cost into escrow. */
  hold(hub: string, micro: number): void {
    this.#move(hub, -micro);
    this.escrow += micro;
  }

  /** settle pays a part of what was held for a borrower to the owner, and gives the rest back. */
  settle(borrower: string, owner: string, held: number, paid: number): void {
    assert(paid >= 0 && paid <= held, "no more is paid than was held", { held, paid });
    this.escrow -= held;
    this.#move(owner, paid);
    this.#move(borrower, held - paid);
  }

  /** writeOff closes the account of a hub. */
  writeOff(hub: string): void {
    this.writtenOff += this.balance(hub);
    this.#balances.delete(hub);
  }

  /** entries are all balances that are not zero, by hub. */
  entries(): [string, number][] {
    return [...this.#balances].filter(([, micro]) => micro !== 0).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  load(balances: readonly (readonly [string, number])[], escrow: number, writtenOff: number): void {
    this.#balances.clear();
    for (const [hub, micro] of balances) this.#balances.set(hub, micro);
    this.escrow = escrow;
    this.writtenOff = writtenOff;
  }

  /** sum of all accounts: zero. */
  sum(): number {
    return this.entries().reduce((sum, [, micro]) => sum + micro, this.escrow + this.writtenOff);
  }

  #move(hub: string, micro: number): void {
    if (micro === 0) return;
    const balance = this.balance(hub) + micro;
    assert(Number.isSafeInteger(balance), "a balance is a safe integer", { hub });
    this.#balances.set(hub, balance);
  }
}
