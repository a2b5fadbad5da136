import { Registry } from "prom-client";
import { expect, test } from "vitest";
import type { EventReport } from "#runtime/events.ts";
import type { FeedStatus } from "./messages.ts";
import { RegistryMetrics } from "./metrics.ts";

const EMPTY = { share: "full", epoch: 1, seq: 0, digest: new Uint8Array(32) };

function feed(hubId: string, more: Partial<FeedStatus>): FeedStatus {
  const head = { ...EMPTY, hubId } as FeedStatus["head"];
  return {
    head,
    own: false,
    freshness: "UNKNOWN",
    ageMs: 0,
    nodes: 3,
    entries: 3,
    dropped: 0,
    frozen: false,
    bytes: 0,
    incoming: 0,
    cursors: [],
    ...more,
  };
}

const NUMBERS = { refs: { used: 3, held: 1, max: 4 }, keys: { used: 1, held: 1, max: 2 }, renumberings: 5 };

test("D-1 freshness per peer: its age, -1 for data that was never proven, NaN where there is no data", async () => {
  const registry = new Registry();
  const feeds = [
    feed("factory", { ageMs: 1_500, dropped: 7 }),
    feed("lab", { ageMs: Number.POSITIVE_INFINITY, frozen: true }),
    feed("home", {
      own: true,
      cursors: [{ hubId: "shy", acked: { ...EMPTY, hubId: "home" } as FeedStatus["head"], lag: 12, snapshot: false }],
    }),
  ];
  const metrics = new RegistryMetrics(
    "home",
    registry,
    { report: () => undefined },
    { feeds: () => feeds, watchers: () => 0, streams: () => 0, callers: () => [], numbers: () => NUMBERS },
  );
  metrics.follow(["factory", "lab", "shy"]);
  const page = await registry.metrics();
  const value = (name: string, peer: string): number =>
    Number(new RegExp(`^foedus_registry_sync_${name}\\{peer="${peer}"\\} (\\S+)$`, "m").exec(page)?.[1]?.replace("Nan", "NaN"));
  expect(["factory", "lab", "shy"].map((peer) => value("freshness_age_seconds", peer))).toEqual([1.5, -1, Number.NaN]);
  expect(page).toContain('foedus_registry_sync_freshness_age_seconds{peer="shy"} Nan');
  expect(["factory", "lab", "shy"].map((peer) => value("feed_frozen", peer))).toEqual([0, 1, 0]);
  expect(value("dropped_entries", "factory")).toBe(7);
  expect(value("peer_lag_segments", "shy")).toBe(12);
  // Counters that alerts ask for begin at 0, so that their first event is seen.
  expect(value("refused_total", "shy")).toBe(0);
  expect(page).toContain('foedus_registry_sync_numbers_used_ratio{of="nodes"} 0.75');
  expect(page).toContain('foedus_registry_sync_numbers_held_ratio{of="keys"} 0.5');
  expect(page).toContain("foedus_registry_sync_renumberings_total 5");
  metrics.follow(["lab"]);
  expect(await registry.metrics()).not.toContain('age_seconds{peer="factory"}');
  metrics.stop();
});

test("events about own nodes name the node", () => {
  const events: EventReport[] = [];
  const metrics = new RegistryMetrics(
    "home",
    new Registry(),
    { report: (event) => events.push(event) },
    { feeds: () => [], watchers: () => 0, streams: () => 0, callers: () => [], numbers: () => NUMBERS },
  );
  const event = {
    kind: "observe",
    event: "node",
    severity: "INFO",
    text: "node registered",
    hub: "",
    share: "",
    count: 0,
    bytes: 0,
  } as const;
  metrics.observe({ ...event, fields: { node: "lamp", by: "zigbee" } });
  expect(events).toMatchObject([{ kind: "NODE", text: "node registered", node: "home/lamp" }]);
});
