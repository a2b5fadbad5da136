import { describe, expect, test } from "vitest";
import type { Effect } from "../../messages.ts";
import { ResourceBook } from "../book.ts";
import { Auditor } from "./auditor.ts";

const at = (mono: number) => ({ mono, wall: 1_800_000_000_000 + mono });
const NOTHING = { runs: [], uses: [] } as const;

function auditorOf(made: { count: number } = { count: 0 }): Auditor {
  return new Auditor({
    hubId: "a",
    book: new ResourceBook(),
    own: () => {
      made.count++;
      return NOTHING;
    },
    peers: () => ["a", "b", "c"],
    inContact: () => true,
  });
}

const asks = (out: readonly Effect[]) => out.filter(({ kind }) => kind === "send").length;
const answered = (out: readonly Effect[]) => out.flatMap((effect) => (effect.kind === "lent" ? [effect.call] : []));

describe("AU1 callers who have audits made on and on", () => {
  test("have one made at a time, once in a second, whose answer is all of theirs", () => {
    const auditor = auditorOf();
    const out: Effect[] = [];
    for (let call = 1; call <= 100; call++) auditor.begin(at(0), call, out);
    expect(asks(out)).toBe(2);
    for (const peer of ["b", "c"]) auditor.frame(at(5), peer, { kind: "report", id: 1, ...NOTHING }, out);
    // Those that came behind its beginning.
    expect(answered(out)).toEqual([1]);
    out.length = 0;
    auditor.tick(at(500), out);
    expect(out).toEqual([]);
    expect(auditor.deadline()).toBe(1_000);
    auditor.tick(at(1_000), out);
    expect(asks(out)).toBe(2);
    for (const peer of ["b", "c"]) auditor.frame(at(1_005), peer, { kind: "report", id: 2, ...NOTHING }, out);
    expect(answered(out)).toEqual(Array.from({ length: 99 }, (_, i) => i + 2));
    expect(auditor.deadline()).toBeUndefined();
  });

  test("an answer that comes late, or twice, or of who was not asked, is nothing", () => {
    const auditor = auditorOf();
    const out: Effect[] = [];
    auditor.begin(at(0), 1, out);
    for (const peer of ["b", "b", "z"]) auditor.frame(at(5), peer, { kind: "report", id: 1, ...NOTHING }, out);
    expect(answered(out)).toEqual([]);
    auditor.tick(at(2_000), out);
    expect(answered(out)).toEqual([1]);
    expect(out.at(-1)).toMatchObject({ answer: { asked: ["a", "b"], silent: ["c"] } });
    auditor.frame(at(2_001), "c", { kind: "report", id: 1, ...NOTHING }, out);
    expect(answered(out)).toEqual([1]);
  });
});

test("F-6 a member that asks for reports on and on gets some", () => {
  const made = { count: 0 };
  const auditor = auditorOf(made);
  const out: Effect[] = [];
  for (let id = 1; id <= 1_000; id++) auditor.frame(at(id), "b", { kind: "report_ask", id }, out);
  expect(made.count).toBeLessThan(12);
  auditor.frame(at(1_000), "c", { kind: "report_ask", id: 1 }, out);
  expect(out.at(-1)).toMatchObject({ kind: "send", peer: "c" });
});
