import { describe, expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { FederationBooks } from "../../test/fakes/federation-books.ts";
import type { PartGround, Settled } from "./part.ts";
import { Sentry } from "./sentry.ts";
import type { LogCommand } from "./state/commands.ts";

const NOW = { mono: 1_000, wall: 1_800_000_000_000 };

describe("a hub that is accused", () => {
  test("SE2 says that it lives until that is decided, and once at a time", () => {
    const books = new FederationBooks(["a", "b", "c"]);
    const wanted: { readonly command: LogCommand; readonly settle: ((outcome: Settled) => void) | undefined }[] = [];
    const ground = {
      ground: { hubId: "c", life: 1, prng: new Prng(1), tuning: { livenessMs: 1_000 } },
      state: { books: { members: books.members } },
      submit: (command: LogCommand, settled?: (outcome: Settled, now: typeof NOW, out: []) => void) =>
        void wanted.push({ command, settle: settled && ((outcome) => settled(outcome, NOW, [])) }),
    } as unknown as PartGround;
    const sentry = new Sentry(ground);
    books.member("a", { kind: "accuse", hubId: "c", life: 0 });
    for (let i = 0; i < 3; i++) sentry.refute();
    expect(wanted.map(({ command }) => command)).toEqual([{ book: "members", command: { kind: "refute", life: 1 } }]);
    wanted[0]?.settle?.({ kind: "refused", failure: { reason: "OVERLOADED", message: "too many commands of this hub wait" } });
    sentry.refute();
    expect(wanted).toHaveLength(2);
    books.member("c", { kind: "refute", life: 1 });
    sentry.refute();
    expect(wanted).toHaveLength(2);
  });
});
