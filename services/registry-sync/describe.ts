import type { Shared } from "#kernel/bounds/holdings.ts";
import { hex } from "./codec/wire.ts";
import type { Exporter } from "./export/exporter.ts";
import type { Importer } from "./import/importer.ts";
import type { LocalRegistry } from "./local/local.ts";
import type { FeedPosition, FeedStatus } from "./messages.ts";
import type { PeerSession } from "./peer-session.ts";
import type { Watches } from "./read/watch.ts";
import type { FeedTable } from "./table/table.ts";
import type { World } from "./world.ts";

function short(digest: Uint8Array): string {
  return hex(digest.subarray(0, 4));
}

/** describeRegistry draws the state as stable text: own feeds, imported feeds, sessions, then the rest. */
export function describeRegistry(
  world: World,
  exporter: Exporter,
  importer: Importer,
  sessions: ReadonlyMap<number, PeerSession>,
  local: LocalRegistry,
  watches: Watches,
): string {
  const lines: string[] = [];
  const { table, open } = local;
  let online = 0;
  for (const entry of table.entries()) if (entry.online) online++;
  lines.push(
    `hub ${world.o.hubId} nodes=${table.size} online=${online} keys=${table.nextKref} slots=${table.slots.live} streams=${local.streams} watches=${watches.size} open=${open.payload.count}`,
  );
  for (const feed of exporter.own.feeds()) {
    const nodes = feed.share === "full" ? table.size : feed.view.nodes;
    lines.push(
      `own ${feed.share} at=${feed.epoch}/${feed.seq} digest=${short(feed.digest)} nodes=${nodes} ring=${feed.ring.first}..${feed.ring.next - 1}`,
    );
  }
  for (const feed of [...importer.feeds.values()].sort((a, b) => (a.hubId < b.hubId ? -1 : 1))) {
    const frozen = feed.frozen ? " FROZEN" : "";
    lines.push(
      `import ${feed.hubId}/${feed.share} at=${feed.epoch}/${feed.seq} digest=${short(feed.digest)} nodes=${feed.table.size} ${feed.freshness()} dropped=${feed.dropped}${frozen}`,
    );
  }
  for (const session of [...sessions.values()].sort((a, b) => a.id - b.id)) {
    const { out, acked } = session;
    const where =
      out.state === "tail" ? `tail next=${out.next}` : out.state === "forgetting" ? `forgetting ${[...out.shares].join(",")}` : out.state;
    const share = "share" in out ? ` ${out.share}` : "";
    lines.push(
      `session ${session.id} ${session.peer}${share} ${where} acked=${acked === undefined ? "-" : `${acked.epoch}/${acked.seq}`} synced=${session.synced}`,
    );
  }
  return lines.join("\n");
}

/** holdingsOf is who holds how much of this hub's memory: callers by the nodes for which they speak, peers by what they share. */
export function holdingsOf(callers: ReturnType<LocalRegistry["presence"]["callers"]>, feeds: readonly FeedStatus[]): Shared[] {
  const speaking = callers.filter(({ nodes }) => nodes > 0);
  const peers = feeds.filter(({ own }) => !own);
  return [
    { what: "bytes_per_caller", holdings: speaking.map(({ name, nodes, bytes }) => ({ holder: name, count: nodes, bytes })) },
    {
      what: "bytes_per_peer",
      holdings: peers.map(({ head, nodes, bytes, incoming }) => ({ holder: head.hubId, count: nodes, bytes: bytes + incoming })),
    },
  ];
}

/** feedStatuses say how all feeds that are held stand, own ones first. `table` is that of this hub. */
export function feedStatuses(
  exporter: Exporter,
  importer: Importer,
  sessions: ReadonlyMap<number, PeerSession>,
  table: FeedTable,
): FeedStatus[] {
  const cursors = [...sessions.values()].filter((session) => session.acked !== undefined);
  const own = exporter.own.feeds().map((feed): FeedStatus => {
    const mine = cursors.filter(({ out }) => out.state !== "idle" && out.state !== "forgetting" && out.share === feed.share);
    const lag = (acked: FeedPosition): number => (acked.epoch === feed.epoch ? feed.seq - acked.seq : feed.seq);
    return {
      head: feed.head,
      own: true,
      freshness: "FRESH",
      ageMs: 0,
      nodes: feed.share === "full" ? table.size : feed.view.nodes,
      entries: feed.entries,
      dropped: 0,
      frozen: false,
      bytes: feed.share === "full" ? table.bytes : 0,
      incoming: 0,
      cursors: mine.map(({ peer, acked, out }) => ({
        hubId: peer,
        acked: acked as FeedPosition,
        lag: lag(acked as FeedPosition),
        snapshot: out.state === "snapshot",
      })),
    };
  });
  const imported = [...importer.feeds.values()].sort((a, b) => (a.hubId < b.hubId ? -1 : 1));
  return [
    ...own,
    ...imported.map((feed): FeedStatus => {
      const { head, entries, dropped, frozen, table: held } = feed;
      return {
        head,
        own: false,
        freshness: feed.freshness(),
        ageMs: feed.ageMs(),
        nodes: held.size,
        entries,
        dropped,
        frozen,
        bytes: held.bytes,
        incoming: importer.receives.bytesOf(feed.hubId),
        cursors: [],
      };
    }),
  ];
}
