import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ListBallotsResponseSchema } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { FederationBooks } from "../../../test/fakes/federation-books.ts";
import { ballotPage } from "./ballot-views.ts";

test("BA9 whatever ballots members have opened, all are seen: in pages that fit into messages, open ones first, then the newest", () => {
  const hubs = Array.from({ length: 30 }, (_, i) => `hub-${String(i).padStart(2, "0")}`);
  const books = new FederationBooks(hubs, { engine: "bft" });
  const action = { kind: "remove", hubId: "hub-29" } as const;
  const proposal = { kind: "propose", ballotId: "b", subject: "MEMBERSHIP", action, reasoning: "x".repeat(512), durationMs: 0 } as const;
  expect(books.ballot("hub-00", proposal).ok).toBe(true);
  const [one] = books.ballots.ballots();
  const all = Array.from({ length: 600 }, (_, i) => {
    const ballotId = `ballot-${String((i * 7) % 600).padStart(60 - 7, "0")}`;
    // Several of one entry of the log.
    const opening = { ...one!.opening, index: 10 + Math.floor(i / 5), proposal: { ...one!.opening.proposal, ballotId } };
    return i % 3 === 0 ? { ...one!, opening } : { ...one!, opening, result: "EXPIRED" as const };
  });
  const read: { readonly id: string; readonly index: number; readonly open: boolean }[] = [];
  let pages = 0;
  for (let after = "", first = true; first || after !== ""; first = false) {
    const { items: ballots, next } = ballotPage(all, after);
    expect(toBinary(ListBallotsResponseSchema, create(ListBallotsResponseSchema, { ballots: [...ballots], next })).length).toBeLessThan(
      1024 * 1024,
    );
    expect(next.length).toBeLessThanOrEqual(80);
    for (const { opening, result } of ballots)
      read.push({ id: opening!.proposal!.ballotId, index: Number(opening!.index), open: result === 0 });
    after = next;
    pages++;
  }
  expect(pages).toBeGreaterThan(1);
  expect(new Set(read.map(({ id }) => id)).size).toBe(600);
  expect(read).toHaveLength(600);
  for (const [i, item] of read.entries()) {
    const before = read[i - 1];
    if (before === undefined) continue;
    expect(before.open || !item.open).toBe(true);
    if (before.open === item.open) expect(before.index).toBeGreaterThanOrEqual(item.index);
  }
});
