import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { coders, offer, want } from "../../../test/lending/parts.ts";
import { AMOUNT_MAX, amountsOf } from "./amounts.ts";
import { ResourceBook } from "./book.ts";
import { DEFAULT_POLICY, type ResourceCommand } from "./commands.ts";
import type { Ratio } from "./fair.ts";
import type { Kind } from "./kinds.ts";

const BATCH: Kind = { kind: "compute", work: "batch", models: [], maxBatch: 1, horizonMs: 0 };
const WANT = { kind: "compute", work: "batch", model: "", batch: 0, horizonMs: 0 } as const;

/** lent is a book in which the hub `factory` lends cpu, gpu and one agent, of which `home` has much cpu, `lab` a little gpu, and `else` the agent. */
function lent(): { readonly book: ResourceBook; readonly does: (author: string, command: ResourceCommand) => void } {
  const book = new ResourceBook();
  let index = 0;
  const does = (author: string, command: ResourceCommand): void => {
    const outcome = book.apply({ index: ++index, term: 1, time: 1_000_000 }, author, command);
    if (!outcome.ok) throw new Error(`${outcome.failure.reason}: ${outcome.failure.message}`);
  };
  const takes = (author: string, id: string, more: Parameters<typeof want>[2]): void => {
    does(author, want(id, 1, more));
    does(author, { kind: "confirm", id });
  };
  does("factory", { kind: "policy", policy: { ...DEFAULT_POLICY, maxUtilization: 1_000, preemption: false } });
  does("factory", offer("machines", BATCH, { cpuMilli: 10_000, gpuMilli: 10_000 }));
  does("factory", coders(1));
  takes("home", "cpu", { want: WANT, amounts: amountsOf({ cpuMilli: 6_000 }) });
  takes("lab", "gpu", { want: WANT, amounts: amountsOf({ gpuMilli: 1_000 }) });
  takes("else", "agent", {});
  return { book, does };
}

/** A lie is an offer that its owner has no need to keep: it answers each request itself. */
const lie = (name: string, amounts: Parameters<typeof amountsOf>[0]) => offer(name, BATCH, amounts, { automatic: false });
const over = ({ num, den }: Ratio): number => num / den;

test("RB13 S4-21 an owner that never says what has stopped does not keep a borrower behind all others", () => {
  const { book, does } = lent();
  const [lease] = book.leases({ borrower: "home" });
  does("home", { kind: "release", lease: lease?.lease ?? 0, fence: lease?.fence ?? 0 });
  expect(book.leases({ borrower: "home" }).map(({ state }) => state)).toEqual(["ended"]);
  expect(over(book.share("home"))).toBe(0);
  const copy = new ResourceBook();
  copy.load(book.dump());
  expect(over(copy.share("home"))).toBe(0);
  does("factory", { kind: "stopped", leases: [lease?.lease ?? 0] });
  expect(over(book.share("home"))).toBe(0);
  does("home", want("more", 1, { want: WANT, amounts: amountsOf({ cpuMilli: 1_000 }) }));
  expect(over(book.share("home"))).toBe(0.1);
});

describe("RB13 what a hub says that it offers", () => {
  test("S4-21 does not bring it before others in the line", () => {
    const { book, does } = lent();
    does("home", lie("mountains", { cpuMilli: AMOUNT_MAX }));
    for (const hub of ["home", "lab"]) does(hub, want("more", 1, { waitMs: 60_000 }));
    const [lease] = book.leases({ borrower: "else" });
    does("factory", { kind: "stopped", leases: [lease?.lease ?? 0] });
    expect(["home", "lab"].map((hub) => book.request(hub, "more")?.state)).toEqual(["waiting", "reserved"]);
  });

  test("halves its share at the most, whatever it says", () => {
    const amount = fc.oneof(fc.nat(20_000), fc.constantFrom(1, 10_000, AMOUNT_MAX / 4));
    const amounts = fc
      .record({ cpuMilli: amount, gpuMilli: amount, memoryMb: amount })
      .filter((some) => some.cpuMilli + some.gpuMilli + some.memoryMb > 0);
    fc.assert(
      fc.property(fc.array(amounts, { maxLength: 3 }), (lies) => {
        const { book, does } = lent();
        const before = over(book.share("home"));
        for (const [i, one] of lies.entries()) does("home", lie(`lie-${i}`, one));
        expect(over(book.share("home"))).toBeGreaterThanOrEqual(before / 2);
        // Everybody else's word counts.
        expect(book.totals()[1]).toBe(10_000 + lies.reduce((sum, { cpuMilli }) => sum + Math.floor(cpuMilli * 0.8), 0));
      }),
    );
  });
});
