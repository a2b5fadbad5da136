import { createHash } from "node:crypto";
import { create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ListAgentsResponseSchema, ListMigrationsResponseSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import {
  ListAllocationsResponseSchema,
  ListOffersResponseSchema,
  ListRequestsResponseSchema,
} from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import { ListSharedResponseSchema } from "#gen/foedus/coordination/v1alpha1/sharing_pb.ts";
import { coders } from "../../../test/lending/parts.ts";
import { type AgentRecord, BOUNDS, type Migration } from "../migration/messages.ts";
import { DIMENSIONS } from "../resources/amounts.ts";
import type { OfferView } from "../resources/book.ts";
import type { RequestView } from "../resources/commands.ts";
import type { Allocation } from "../resources/desk/asks.ts";
import { SHARED_LIMITS } from "../shared/messages.ts";
import { agentPage, migrationPage } from "./agent-pages.ts";
import { allocationPage, offerPage, requestPage } from "./lending.ts";
import { pageOf } from "./pages.ts";
import { factPage } from "./shared.ts";

/** A message that a hub sends has at most so many bytes. */
const MESSAGE_BYTES = 1024 * 1024;

/** read reads page after page; each fits into a message, with the place of the next one into its field. */
function read<D extends DescMessage>(
  schema: D,
  placeBytes: number,
  page: (after: string) => { readonly next: string; readonly message: MessageShape<D> },
): MessageShape<D>[] {
  const pages: MessageShape<D>[] = [];
  for (let after = ""; ; ) {
    const { next, message } = page(after);
    expect(toBinary(schema, message).length).toBeLessThan(MESSAGE_BYTES);
    expect(Buffer.byteLength(next)).toBeLessThanOrEqual(placeBytes);
    pages.push(message);
    if (next === "") return pages;
    expect(next > after).toBe(true);
    after = next;
  }
}

const long = (what: string, i: number): string => `${what}${String(i).padStart(62, "0")}`;

test("as many agents, and old names, as there can be are seen once each, in pages that fit into messages", () => {
  const record = (i: number): AgentRecord => ({
    agent: long("a", i),
    owner: long("h", i % 256),
    fence: 2 ** 47,
    nodeKey: new Uint8Array(32).fill(255),
    since: 2 ** 42,
    lost: true,
  });
  const agents = Array.from({ length: BOUNDS.agents }, (_, i) => ({ agent: record(i), connected: true, runs: true }));
  const formerly = Array.from({ length: BOUNDS.redirects }, (_, i) => ({ hub: long("h", i % 256), agent: long("a", i) }));
  const pages = read(ListAgentsResponseSchema, 160, (after) => {
    const page = agentPage({ agents, formerly }, after);
    return { next: page.next, message: create(ListAgentsResponseSchema, page) };
  });
  expect(pages.flatMap((page) => page.agents.map(({ agent }) => agent?.agent))).toEqual(agents.map(({ agent }) => agent.agent));
  expect(pages.flatMap((page) => page.formerly.map(({ agent }) => agent))).toEqual(formerly.map(({ agent }) => agent));
  // A few are one page.
  expect(agentPage({ agents: agents.slice(0, 3), formerly: formerly.slice(0, 2) }, "")).toMatchObject({ next: "" });
});

test("migrations that are not over stand first, by number, then the newest first, and all are seen once", () => {
  const open = 2_000;
  const all = Array.from({ length: open + BOUNDS.history }, (_, i): Migration => {
    const ended = i >= open;
    return {
      transfer: ended ? 10 * (open + BOUNDS.history - i) : 2 ** 40 + i,
      agent: long("a", i),
      fence: 1,
      from: long("h", 1),
      to: long("h", 2),
      by: long("h", 3),
      why: "w".repeat(400),
      step: "REQUEST",
      status: ended ? "aborted" : "open",
      stepMs: 1,
      deadline: 2 ** 42,
      times: [{ at: 1 }],
      bytes: 2 ** 40,
      sealingKey: new Uint8Array(32),
      until: 2 ** 42,
      digest: new Uint8Array(32),
      claim: new Uint8Array(400),
      // Several end with one entry.
      index: ended ? 5 * Math.floor((open + BOUNDS.history - i) / 3) : i,
      cause: ended ? "DEADLINE" : undefined,
      message: "m".repeat(400),
    };
  });
  const pages = read(ListMigrationsResponseSchema, 80, (after) => {
    const { items, next } = migrationPage(all, open, after);
    return { next, message: create(ListMigrationsResponseSchema, { migrations: items, next }) };
  });
  expect(pages.length).toBeGreaterThan(2);
  expect(pages.flatMap(({ migrations }) => migrations.map(({ transfer }) => Number(transfer)))).toEqual(
    all.map(({ transfer }) => transfer),
  );
});

test("as much shared state as hubs can say is seen once, by kind and key", () => {
  const kinds = ["swarms", "resources", "allocations", "policies", "facts"] as const;
  const facts = kinds.flatMap((kind) =>
    Array.from({ length: 300 }, (_, i) => ({
      hub: long("h", i),
      others: [],
      entry: {
        kind,
        key: `k${String(i).padStart(SHARED_LIMITS.keyBytes - 1, "0")}`,
        version: 1,
        at: { wallMs: 1, logical: 0 },
        priority: 0,
        value: new Uint8Array(SHARED_LIMITS.valueBytes).fill(255),
      },
    })),
  );
  const pages = read(ListSharedResponseSchema, 200, (after) => {
    const { items, next } = factPage(facts, after);
    return { next, message: create(ListSharedResponseSchema, { facts: items, next }) };
  });
  expect(pages.flatMap((page) => page.facts.map(({ kind, key }) => `${kind} ${key}`))).toEqual(
    facts.map(({ entry }) => `${kinds.indexOf(entry.kind) + 1} ${entry.key}`),
  );
});

test("as much as hubs may lend and ask for is seen once: offers by name, requests as they came, allocations by number", () => {
  const noise = (i: number): string => createHash("sha256").update(String(i)).digest("hex").slice(0, 60);
  const terms = { amounts: DIMENSIONS.map((_, i) => 2 ** 40 + i), durationMs: 2 ** 34, costMicro: 2 ** 49 };
  const offers = Array.from({ length: 4_000 }, (_, i): OfferView => {
    const { offer } = coders(20);
    const named = { ...offer, name: noise(i) };
    const { amounts } = terms;
    return { owner: noise(i % 64), offer: named, revision: 1, withdrawn: false, absent: false, ceiling: amounts, used: amounts, load: 800 };
  });
  const requests = Array.from({ length: 9_000 }, (_, i): RequestView => {
    const names = { borrower: noise(i % 64), id: noise(i), owner: noise(i % 7), name: noise(i % 11), why: "w".repeat(60) };
    // As they came, and numbers of any length.
    return { ...names, seq: 3 * i + 7, state: "waiting", terms, round: 1, turn: "owner", lease: 0, until: 2 ** 42 };
  });
  const allocations = Array.from({ length: 9_000 }, (_, i): Allocation => {
    const names = { owner: noise(i % 64), name: noise(i % 11), borrower: noise(i % 7), id: noise(i), agents: [noise(i + 1)] };
    const times = { startedAt: 2 ** 41, endsAt: 2 ** 42, costMicro: 2 ** 49, onDisconnect: "keep" } as const;
    const lease = { ...names, ...times, lease: i + 1, amounts: terms.amounts, priority: "high", state: "live", fence: 2 ** 47 } as const;
    return { lease, remainingMs: 1, usableMs: 1 };
  });
  const someOffers = read(ListOffersResponseSchema, 130, (after) => {
    const { items, next } = offerPage(offers, after);
    return { next, message: create(ListOffersResponseSchema, { offers: items, next }) };
  }).flatMap((page) => page.offers.map(({ owner, offer }) => `${owner}/${offer?.name}`));
  expect(someOffers).toEqual(offers.map(({ owner, offer }) => `${owner}/${offer.name}`).sort());
  const someRequests = read(ListRequestsResponseSchema, 130, (after) => {
    const { items, next } = requestPage(requests, after);
    return { next, message: create(ListRequestsResponseSchema, { requests: items, next }) };
  }).flatMap((page) => page.requests.map(({ id }) => id));
  expect(someRequests).toEqual(requests.map(({ id }) => id));
  const someAllocations = read(ListAllocationsResponseSchema, 130, (after) => {
    const { items, next } = allocationPage(allocations, after);
    return { next, message: create(ListAllocationsResponseSchema, { allocations: items, next }) };
  }).flatMap((page) => page.allocations.map(({ lease }) => Number(lease?.lease)));
  expect(someAllocations).toEqual(allocations.map(({ lease }) => lease.lease));
});

test("what is put in or goes between two pages hides nothing that stays", () => {
  const bytes = (): fc.Arbitrary<number> => fc.integer({ min: 1, max: 400 * 1024 });
  const item = fc.record({ place: fc.string({ minLength: 1, maxLength: 4 }), bytes: bytes() });
  const list = fc.uniqueArray(item, { selector: ({ place }) => place, maxLength: 12 });
  const listed = {
    placeOf: ({ place }: { place: string }) => place,
    write: (one: { place: string; bytes: number }) => one,
    sizeOf: (one: { bytes: number }) => one.bytes,
  };
  fc.assert(
    fc.property(list, list, (stays, others) => {
      const names = new Set(stays.map(({ place }) => place));
      const guests = others.filter(({ place }) => !names.has(place));
      const seen: string[] = [];
      for (let after = "", turn = 0; ; turn++) {
        const { items, next } = pageOf(turn % 2 === 0 ? stays : [...stays, ...guests], after, listed);
        seen.push(...items.map(({ place }) => place).filter((place) => names.has(place)));
        if (next === "") break;
        after = next;
      }
      expect(seen).toEqual([...names].sort((a, b) => (a < b ? -1 : 1)));
    }),
  );
});
