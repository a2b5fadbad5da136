import { AMOUNT_MAX, NOTHING } from "../../services/coordination/resources/amounts.ts";
import type { ResourceBook } from "../../services/coordination/resources/book.ts";
import type { BorrowerConfig } from "../../services/coordination/resources/borrower.ts";
import type { ResourceCommand } from "../../services/coordination/resources/commands.ts";
import type { ExecutorInput } from "../../services/coordination/resources/executor.ts";
import type { Rules } from "../../services/coordination/resources/rules.ts";
import type { Hub, World } from "./world.ts";

/** Mutant is what is broken on purpose. */
export interface Mutant {
  readonly rules?: Partial<Rules>;
  readonly borrower?: Partial<BorrowerConfig>;
  readonly book?: (book: ResourceBook) => ResourceBook;
  readonly executor?: (world: World, hub: Hub, input: ExecutorInput) => ExecutorInput;
  /** Executors never say that something has stopped. */
  readonly silent?: boolean;
}

/** rewriting has a book carry out other commands than it was given. */
function rewriting(change: (command: ResourceCommand, author: string, book: ResourceBook) => ResourceCommand): NonNullable<Mutant["book"]> {
  return (book) => {
    const { apply } = book;
    book.apply = (at, author, command) => apply.call(book, at, author, change(command, author, book));
    return book;
  };
}

/** MUTANTS are a federation for each of the twelve rules that breaks it. */
export const MUTANTS: Readonly<Record<number, { readonly what: string; readonly mutant: Mutant }>> = {
  1: {
    what: "a book that does not know the ceiling",
    mutant: {
      book: rewriting((command) =>
        command.kind === "policy" ? { ...command, policy: { ...command.policy, maxUtilization: 1_000 } } : command,
      ),
    },
  },
  2: {
    what: "a book that lends the same agents to all",
    mutant: {
      book: (book) => {
        const { lease, dump } = book;
        book.dump = () => {
          const data = dump.call(book);
          const named = (count: number): string[] => Array.from({ length: count }, (_, i) => `coder-${String(i).padStart(3, "0")}`);
          return {
            ...data,
            leases: data.leases.map((item) => ({ ...item, view: { ...item.view, agents: named(item.view.agents.length) } })),
          };
        };
        book.lease = (number) => lease.call(book, number);
        return book;
      },
    },
  },
  3: {
    what: "an executor that believes any fence",
    mutant: {
      executor: (_world, hub, input) => {
        if (input.kind !== "admit") return input;
        const known = hub.executor.report().find(({ lease }) => lease === input.lease);
        return known === undefined ? input : { ...input, fence: known.fence };
      },
    },
  },
  4: {
    what: "a borrower that believes its clock, and needs no news",
    mutant: { borrower: { marginMs: -40_000, graceMs: 3_600_000, driftPerMille: 0 } },
  },
  5: { what: "a book whose reservations do not expire", mutant: { rules: { reserveMs: 3_600_000 } } },
  6: {
    what: "a book without an eye on the time",
    mutant: {
      book: (book) => {
        book.expire = () => [];
        book.due = () => undefined;
        return book;
      },
    },
  },
  7: {
    what: "a book in which a withdrawal comes to nothing",
    mutant: {
      book: rewriting((command, author, book) =>
        command.kind === "withdraw" && book.offer(author, command.name) !== undefined ? { kind: "refence", name: command.name } : command,
      ),
    },
  },
  8: {
    what: "a book that does not know nominal quotas",
    mutant: {
      book: rewriting((command) =>
        command.kind === "quota" ? { ...command, nominal: NOTHING, limit: command.limit.map(() => AMOUNT_MAX) } : command,
      ),
    },
  },
  9: { what: "a book that gives no grace", mutant: { rules: { graceMs: 1_000 } } },
  10: {
    what: "a book in which money appears",
    mutant: {
      book: (book) => {
        const { dump } = book;
        book.dump = () => {
          const data = dump.call(book);
          return { ...data, balances: data.balances.map(({ hub, micro }) => ({ hub, micro: micro + 1 })) };
        };
        return book;
      },
    },
  },
  11: {
    what: "a book in which what has ended is free",
    mutant: {
      book: (book) => {
        const { expire, apply } = book;
        book.expire = (at) => {
          const news = [...expire.call(book, at)];
          for (const one of [...news])
            if (one.kind === "lease" && one.what === "ended") {
              const outcome = apply.call(book, at, one.lease.owner, { kind: "stopped", leases: [one.lease.lease] });
              if (outcome.ok) news.push(...outcome.news);
            }
          return news;
        };
        return book;
      },
    },
  },
  12: { what: "executors that never say that something has stopped", mutant: { silent: true } },
};
