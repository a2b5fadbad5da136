import type { Exporter } from "./exporter.ts";
import type { Importer } from "./importer.ts";
import type { LocalRegistry } from "./local.ts";
import type { PeerSession } from "./session.ts";
import type { Watches } from "./watch.ts";
import { hex } from "./wire.ts";
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
  for (const feed of exporter.feeds()) {
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
