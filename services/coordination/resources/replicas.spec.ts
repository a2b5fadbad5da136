import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { agentsOf, coders, INFERENCE, offer, quota, want } from "../../../test/lending/parts.ts";
import { decodeResourceDump, encodeResourceDump } from "../codec/resource-dump.ts";
import type { LogInstant } from "../log/book.ts";
import { amountsOf } from "./amounts.ts";
import { ResourceBook } from "./book.ts";
import { DEFAULT_POLICY, PRIORITIES, type ResourceCommand } from "./commands.ts";

const HUBS = ["a", "b", "c", "d"];
const hub = fc.constantFrom(...HUBS);
const small = fc.nat(6);

/** Act is one thing that an entry of the log may do to the book. */
type Act = (book: ResourceBook, at: LogInstant) => unknown;

const says =
  (author: string, command: (book: ResourceBook) => ResourceCommand): Act =>
  (book, at) =>
    book.apply(at, author, command(book));

/** leaseOf is one of the leases there are, or one that never was. */
const leaseOf = (book: ResourceBook, n: number) => {
  const leases = book.leases();
  return leases[n % Math.max(1, leases.length)] ?? { lease: 999, fence: 1, borrower: "a", owner: "b", id: "none" };
};
const requestOf = (book: ResourceBook, n: number) => {
  const requests = book.requests();
  return requests[n % Math.max(1, requests.length)] ?? { borrower: "a", id: "none", round: 1, owner: "b", terms: undefined };
};

const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(hub, fc.nat(30), small, fc.constantFrom(...PRIORITIES), fc.boolean(), hub, fc.constantFrom(0, 5_000, 100_000))
      .map(([by, id, agents, priority, named, owner, waitMs]) =>
        says(by, () => want(`r${id}`, agents, { priority, waitMs, ...(named ? { owner, name: "coders" } : {}) })),
      ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(small, fc.constantFrom("confirm", "accept", "counter", "decline"), fc.boolean()).map(([n, kind, own]): Act => {
      return (book, at) => {
        const { borrower, id, round, owner, terms } = requestOf(book, n);
        const author = own ? borrower : owner || "b";
        const said = { borrower, id, round: Math.max(1, round) };
        if (kind === "confirm") return book.apply(at, author, { kind, id });
        if (kind === "counter")
          return book.apply(at, author, {
            kind,
            ...said,
            terms: terms ?? { amounts: amountsOf({ agents: 1 }), durationMs: 1_000, costMicro: 0 },
          });
        return book.apply(at, author, kind === "accept" ? { kind, ...said } : { kind: "decline", borrower, id });
      };
    }),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(small, fc.constantFrom("renew", "release", "reclaim", "stopped", "refence")).map(([n, kind]): Act => {
      return (book, at) => {
        const { lease, fence, borrower, owner } = leaseOf(book, n);
        if (kind === "renew") return book.apply(at, borrower, { kind, lease, fence: Math.max(1, fence), durationMs: 90_000 });
        if (kind === "release") return book.apply(at, borrower, { kind, lease, fence: Math.max(1, fence) });
        if (kind === "reclaim") return book.apply(at, owner, { kind, lease, graceMs: 0 });
        return book.apply(at, owner, kind === "stopped" ? { kind, leases: [lease] } : { kind: "refence", name: "coders" });
      };
    }),
  },
  fc
    .tuple(hub, fc.integer({ min: 1, max: 7 }), fc.boolean())
    .map(([by, agents, automatic]) => says(by, () => coders(agents, { automatic }))),
  hub.map((by) => says(by, () => offer("gpus", INFERENCE, { gpuMilli: 4_000 }))),
  hub.map((by) => says(by, () => offer("testers", agentsOf("tester", 3), { agents: 3 }, { prices: amountsOf({ agents: 3_600_000 }) }))),
  hub.map((by) => says(by, () => ({ kind: "withdraw", name: "coders" }))),
  fc.tuple(hub, hub, small, small).map(([by, to, nominal, more]) => says(by, () => quota(to, nominal, nominal + more))),
  fc
    .tuple(hub, fc.constantFrom(0, 500, 800, 1_000), fc.boolean())
    .map(([by, maxUtilization, preemption]) =>
      says(by, () => ({ kind: "policy", policy: { ...DEFAULT_POLICY, maxUtilization, preemption } })),
    ),
  {
    weight: 2,
    arbitrary: fc.tuple(hub, fc.boolean()).map(
      ([who, absent]): Act =>
        (book, at) =>
          book.setAbsent(at, who, absent),
    ),
  },
  hub.map(
    (who): Act =>
      (book, at) =>
        book.remove(at, who),
  ),
  fc.tuple(small, fc.constantFrom(...PRIORITIES)).map(
    ([n, priority]): Act =>
      (book, at) =>
        book.reprioritize(at, leaseOf(book, n).lease, priority),
  ),
);

describe("copies of the book of lending", () => {
  test("BK1 BK3 a copy that begins with a snapshot goes on like the others: what it answers, what becomes known, and every byte", () => {
    const script = fc.array(fc.tuple(act, fc.constantFrom(0, 0, 1_000, 12_000, 70_000), fc.nat(4)), {
      minLength: 1,
      maxLength: 80,
      size: "max",
    });
    fc.assert(
      fc.property(script, (acts) => {
        const one = new ResourceBook();
        let other = new ResourceBook();
        let time = 1_000_000;
        for (const [i, [does, later, snapshot]] of acts.entries()) {
          time += later;
          const at = { index: i + 1, term: 1, time };
          if (snapshot === 0) {
            const young = new ResourceBook();
            young.load(decodeResourceDump(encodeResourceDump(other.dump())));
            other = young;
          }
          expect(other.due()).toBe(one.due());
          const [a, b] = [one, other].map((book) => JSON.stringify([book.expire(at), does(book, at)]));
          expect(b).toBe(a);
          expect(Buffer.from(encodeResourceDump(other.dump())).toString("hex")).toBe(
            Buffer.from(encodeResourceDump(one.dump())).toString("hex"),
          );
        }
      }),
      { numRuns: 80 },
    );
  });
});
