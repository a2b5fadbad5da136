import { expect, test } from "vitest";
import { CoordinationHubs } from "../../test/support/coordination-hubs.ts";
import type { QueryAnswer, Request } from "./messages.ts";
import { RAFT_TUNING } from "./raft/config.ts";
import type { LogCommand } from "./state/commands.ts";

const HUBS = ["a", "b", "c"];
type Of = Extract<QueryAnswer, { kind: "ballot" }>;
const putOf = (key: string): LogCommand => ({
  book: "values",
  command: { kind: "put", key, value: new Uint8Array(), conditional: false, expect: 0 },
});
const read: Request = { kind: "query", query: { kind: "value", key: "k" }, local: false };

/** Three hubs whose leader answers reads from its lease, and that leader. */
function leasing(): { readonly hubs: CoordinationHubs; readonly leader: string; readonly takes: () => number } {
  const hubs = new CoordinationHubs(...HUBS).found(HUBS);
  hubs.tune({ leaseReads: true });
  for (const id of HUBS) hubs.restart(id);
  const leaderOf = (): string => hubs.status("a").leader;
  hubs.until(() => leaderOf() !== "" && HUBS.every((id) => hubs.status(id).canDecide));
  hubs.advance(2_000);
  const leader = leaderOf();
  const takes = (): number => {
    const before = hubs.now.mono;
    hubs.ask(leader, "queried", read);
    return hubs.now.mono - before;
  };
  return { hubs, leader, takes };
}

test("CT1 CT2 zoo 9 a leader whose wall clock stepped asks the others before it answers a read, until they have been heard", () => {
  const { hubs, leader, takes } = leasing();
  expect(takes()).toBe(0);
  hubs.step(leader, 3_600_000);
  expect(takes()).toBeGreaterThan(0);
  hubs.advance(1_500);
  expect(takes()).toBe(0);
  // Sleeps that are short, but longer than what a lease ends early by.
  hubs.step(leader, RAFT_TUNING.electionMs * RAFT_TUNING.leaseDrift);
  expect(takes()).toBeGreaterThan(0);
});

test("CT3 RO7 a hub that slept says how old its state really is, until it has heard the others again", () => {
  const { hubs, leader } = leasing();
  const sleeper = HUBS.find((id) => id !== leader) ?? "";
  const age = (): number => hubs.ask(sleeper, "queried", { ...read, local: true }).ageMs;
  expect(age()).toBeLessThan(1_000);
  for (const id of HUBS) if (id !== sleeper) hubs.cut(sleeper, id);
  hubs.step(sleeper, 3_600_000);
  hubs.step(sleeper, 60_000);
  expect(age()).toBeGreaterThanOrEqual(3_660_000);
  hubs.heal();
  hubs.until(() => age() < 1_000);
});

test("RX5 a leader whose clock is years ahead takes nothing from the others when it is gone: they decide, and what has an end ends", () => {
  const { hubs, leader } = leasing();
  hubs.step(leader, 10 * 365 * 86_400_000);
  hubs.ask(leader, "changed", { kind: "change", command: putOf("before") });
  hubs.advance(500);
  hubs.stop(leader);
  const left = HUBS.filter((id) => id !== leader);
  const [one] = left as [string];
  hubs.until(() => left.every((id) => hubs.status(id).canDecide));
  hubs.ask(one, "changed", { kind: "change", command: putOf("after") });
  const action = { kind: "remove", hubId: leader } as const;
  const { value } = hubs.ask(one, "changed", { kind: "propose", action, reasoning: "", durationMs: 5_000 });
  const { ballotId } = value as { ballotId: string };
  const result = () =>
    (hubs.ask(one, "queried", { kind: "query", query: { kind: "ballot", ballotId }, local: true }).answer as Of).ballot?.result;
  hubs.advance(4_000);
  expect(result()).toBeUndefined();
  hubs.until(() => result() === "EXPIRED", 3_000);
});
