/**
 * How long the book of lending takes to decide, with 100 hubs and 1,000 allocations, in microseconds: `node test/lending/decisions.ts`.
 * Nothing is promised by it: the decision of a federation is this and a commit of its log.
 */
import { amountsOf } from "../../services/coordination/resources/amounts.ts";
import { ResourceBook } from "../../services/coordination/resources/book.ts";
import { DEFAULT_POLICY, type LeaseView, type ResourceCommand } from "../../services/coordination/resources/commands.ts";
import { coders, INFERENCE, offer, want } from "./parts.ts";

const HUBS = 100;
const HOUR = 3_600_000;
const book = new ResourceBook();
let [time, index] = [1_000_000, 0];

/** measured applies a command and notes how long that took. */
function measured(times: number[], author: string, command: ResourceCommand): LeaseView | undefined {
  const at = { index: ++index, term: 1, time };
  const from = performance.now();
  book.expire(at);
  const outcome = book.apply(at, author, command);
  times.push(1_000 * (performance.now() - from));
  if (!outcome.ok) return undefined;
  const { value } = outcome;
  return value.kind === "lease" ? value.lease : value.kind === "answer" ? value.answer.lease : undefined;
}

function report(name: string, times: number[]): void {
  times.sort((a, b) => a - b);
  const part = (p: number): string => (times[Math.floor(p * (times.length - 1))] ?? 0).toFixed(1).padStart(8);
  console.log(`${name.padEnd(44)} n=${times.length} p50${part(0.5)} p90${part(0.9)} p99${part(0.99)} µs`);
}

const hub = (i: number): string => `hub-${i % HUBS}`;
for (let i = 0; i < HUBS; i++) {
  measured([], hub(i), { kind: "policy", policy: { ...DEFAULT_POLICY, maxAgents: 256, maxUtilization: 1_000 } });
  measured([], hub(i), coders(12));
  measured([], hub(i), offer("gpus", INFERENCE, { gpuMilli: 8_000, memoryMb: 64_000 }, { prices: amountsOf({ gpuMilli: 1 }) }));
}
for (let i = 0; i < 1_000; i++) {
  measured([], hub(i), want(`a${i}`, 1, { durationMs: HOUR }));
  measured([], hub(i), { kind: "confirm", id: `a${i}` });
}
console.log(`${HUBS} hubs, ${book.leases().length} allocations`);

const [request, confirm, release, stopped, refused, waits, next]: number[][] = Array.from({ length: 7 }, () => []);
for (let i = 0; i < 10_000; i++) {
  time += 1;
  measured(request!, hub(7 * i), want(`p${i}`, 1));
  const lease = measured(confirm!, hub(7 * i), { kind: "confirm", id: `p${i}` });
  if (lease === undefined) continue;
  measured(release!, hub(7 * i), { kind: "release", lease: lease.lease, fence: lease.fence });
  measured(stopped!, lease.owner, { kind: "stopped", leases: [lease.lease] });
}
for (let i = 0; i < 300; i++)
  if (measured([], hub(i), want(`f${i}`, 1, { durationMs: HOUR }))) measured([], hub(i), { kind: "confirm", id: `f${i}` });
for (let i = 0; i < 3_000; i++) measured(refused!, hub(i), want(`x${i}`, 1));
for (let i = 0; i < 2_000; i++) measured(waits!, hub(i), want(`w${i}`, 1, { waitMs: HOUR }));
for (const lease of book.leases().filter(({ state }) => state === "live")) {
  measured([], lease.borrower, { kind: "release", lease: lease.lease, fence: lease.fence });
  measured(next!, lease.owner, { kind: "stopped", leases: [lease.lease] });
}
report("request, accepted", request!);
report("confirm", confirm!);
report("release", release!);
report("stopped, nobody waits", stopped!);
report("request, refused: all is lent", refused!);
report("request, waits with up to 2,000 others", waits!);
report("stopped, and the next of 2,000 is served", next!);
