import { describe, expect, test } from "vitest";
import { coreOptionsOf, importsOf, registrySyncConfig, sharesOf } from "./config.ts";

const stars = (count: number) => Array.from({ length: count }, (_, i) => `m${i}-*`);
const parse = (input: unknown) => registrySyncConfig.parse(input);
const problem = (input: unknown): string => registrySyncConfig.safeParse(input).error?.message ?? "";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

describe("the configuration", () => {
  test("S0-3 the defaults are those that the documents ask for", () => {
    const config = parse({});
    expect(config.sync_interval_ms).toBe(30_000);
    expect(config.gateway_lease_ms).toBe(90_000);
    expect(sharesOf(config)).toEqual([{ name: "limited", rules: [] }]);
    expect(importsOf(config)).toBeUndefined();
    expect(coreOptionsOf(config, GIB)).toMatchObject({
      ackHoldMs: 20,
      leaseMs: 90_000,
      limits: { nodesPerPeer: 100_000, segmentUpdates: 4_000 },
    });
  });

  test("what one peer may share does not bound this hub's own nodes, unless it is more", () => {
    const own = (nodes: number): number[] => {
      const { limits } = coreOptionsOf(parse({ limits: { nodes_per_peer: nodes } }), GIB);
      return [limits.nodesPerPeer, limits.ownNodes];
    };
    expect([own(10), own(500_000)]).toEqual([
      [10, 100_000],
      [500_000, 500_000],
    ]);
    const { limits, listings, listingRecords } = coreOptionsOf(
      parse({ limits: { snapshot_bytes: 20_000_000, listings: 3, listing_records: 5_000 } }),
      GIB,
    );
    expect([limits.snapshotBytes, listings, listingRecords]).toEqual([20_000_000, 3, 5_000]);
    // The manifest of the longest snapshot must fit into a frame: 46 bytes for each part of at least 320 KiB.
    expect(problem({ limits: { snapshot_bytes: 2_000_000_000 } })).toContain("<=1073741824");
  });

  test("A2 all that may be held at the same time fits into the heap, however small or large, unless memory_bytes says otherwise", () => {
    const sum = ({ limits, ringBytes }: ReturnType<typeof coreOptionsOf>): number =>
      limits.ownBytes + limits.peersBytes + limits.incomingBytes + limits.listingBytes + limits.scanBytes + ringBytes;
    for (const heap of [128 * MIB, 256 * MIB, 512 * MIB, 2 * GIB, 8 * GIB]) {
      const options = coreOptionsOf(parse({}), heap);
      expect(sum(options)).toBeLessThanOrEqual(heap - 56 * MIB);
      expect(options.limits.ownBytes).toBeGreaterThanOrEqual(16 * MIB);
    }
    expect(sum(coreOptionsOf(parse({ limits: { memory_bytes: 32 * MIB } }), 8 * GIB))).toBeLessThanOrEqual(32 * MIB);
    expect(coreOptionsOf(parse({ limits: { memory_bytes: GIB } }), 128 * MIB).limits.ownBytes).toBe(256 * MIB);
  });

  test("a rule may be a pattern for the id; keys and invoke come from the share unless a rule says otherwise", () => {
    const config = parse({
      shares: { guests: { nodes: ["lamp-*", { types: ["lock"], invoke: ["lock"], allow: false }], keys: ["on"], invoke: [] } },
    });
    const none = { ids: [], types: [], kind: 0, labels: {} };
    expect(sharesOf(config)).toEqual([
      {
        name: "guests",
        rules: [
          { ...none, ids: ["lamp-*"], allow: true, capabilities: ["on"], invoke: [] },
          { ...none, types: ["lock"], allow: false, capabilities: ["on"], invoke: ["lock"] },
        ],
      },
    ]);
    expect(importsOf(parse({ imports: { nodes: [{ kind: "agent" }] } }))).toEqual([
      { ...none, kind: 2, allow: true, capabilities: ["*"], invoke: [] },
    ]);
  });

  test.each([
    [{ shares: { full: { nodes: [] } } }, "takes no rules"],
    [{ shares: { Big: {} } }, "a-z, 0-9"],
    [{ shares: Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`s${i}`, {}])) }, "at most 7 shares besides full"],
    [{ pace_ms: 3 }, "<=2"],
    [{ ack_hold_ms: 21 }, "<=20"],
    [{ unknown: 1 }, "unknown"],
    // It was taken, and had no effect.
    [{ shares: { limited: { nodes: [{ ids: stars(600) }, { types: stars(401) }] } } }, "at most 1000 ids and types with *"],
    [{ imports: { nodes: [{ ids: stars(999) }, ...stars(2)] } }, "at most 1000 ids and types with *"],
    [{ imports: { nodes: ["lamp-*"], keys: ["on"] } }, "keys: what is taken in is chosen by node"],
    [{ imports: { nodes: [{ ids: ["lamp-*"], keys: ["on"] }] } }, "keys"],
    [{ imports: { nodes: [], invoke: [] } }, "invoke: what is taken in is chosen by node"],
  ])("%j is refused", (input, words) => {
    expect(problem(input)).toContain(words);
  });

  test("every field says what it means", () => {
    for (const [name, field] of Object.entries(registrySyncConfig.unwrap().shape)) {
      if (name === "limits") continue;
      expect(field.meta()?.["description"], name).toMatch(/.{20}/);
    }
  });
});
