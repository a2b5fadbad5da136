import { LIMITS } from "../../services/kernel/limits.ts";
import { read } from "./files.ts";

/**
 * What bounds a map. `schema`: its keys are in the code. `configuration`: whoever runs this hub chooses them (its files, services and
 * shares). `peers`: one per configured peer. `own nodes` and `nodes of peers`: as many as those limits allow. Else the name of a limit, or
 * of a constant in the same file.
 */
export type Bound = "schema" | "configuration" | "peers" | "own nodes" | "nodes of peers" | keyof typeof LIMITS | `const ${string}`;

/** BOUNDS says for each map that is kept and keyed by text how many keys it can have, and who decides. A test wants an entry for each. */
export const BOUNDS: Readonly<Record<string, readonly [Bound, string]>> = {
  "services/command-forwarding/claims.ts #pauses": ["peers", "a pause per peer that made a claim"],
  "services/command-forwarding/route.ts #hubs": ["peers", "nodes per hub"],
  "services/command-forwarding/route.ts #hubsOfId": ["nodes of peers", "hubs per node id"],
  "services/command-forwarding/route.ts #freshness": ["peers", "one per hub"],
  "services/command-forwarding/links.ts #peers": ["peers", "what waits to be sent"],
  "services/command-forwarding/restore.ts #pending": ["configuration", "commands that are restored at the start, as many as were pending"],
  "services/command-forwarding/restore.ts #keyed": [
    "configuration",
    "idempotency keys that are restored at the start, as many as were kept",
  ],
  "services/command-forwarding/idempotency.ts #byId": ["configuration", "`idempotency_keys_max`, of which each caller has a part"],
  "services/command-forwarding/idempotency.ts #settled": ["configuration", "callers with keys in `#byId`"],
  "services/command-forwarding/restore.ts #keyedByName": ["configuration", "the same keys as in `#keyed`"],
  "services/command-forwarding/lines.ts #byPrincipal": ["configuration", "callers with a command at an executor, and 16 others"],
  "services/command-forwarding/executor.ts nodes": ["own nodes", "nodes that an executor offers"],
  "services/command-forwarding/executor.ts #byNode": ["own nodes", "executors per node"],
  "services/command-forwarding/caller.ts peers": ["peers", "commands under way"],
  "services/command-forwarding/caller.ts raised": ["peers", "epochs that were raised"],
  "services/command-forwarding/owner.ts callers": ["peers", "commands that it runs for others"],
  "services/runtime/log/limited.ts #entries": ["const KEYS_MAX", "kinds of lines that are told apart; the others share one"],
  "services/runtime/config/load.ts #sources": ["configuration", "fields of the configuration"],
  "services/runtime/config/follow.ts #stamps": ["configuration", "files that are followed"],
  "services/runtime/driver.ts #told": ["schema", "news that replace older ones: one per kind, per watch or per peer"],
  "services/runtime/rpc/accounts.ts #byKey": ["const Accounts", "callers that hold a connection or a call; connections bound them"],
  "services/runtime/rpc/connections.ts #perIp": ["const maxConnections", "addresses with a connection"],
  "services/runtime/rpc/reflection.ts #files": ["schema", "files of the schema"],
  "services/runtime/rpc/peer-links.ts #known": ["peers", "one per peer"],
  "services/runtime/rpc/rpc-metrics.ts handled": ["schema", "codes of a method"],
  "services/runtime/rpc/server.ts #entries": ["schema", "methods"],
  "services/runtime/rpc/interceptors/rate.ts #buckets": ["const BUCKETS_MAX", "callers; the one that was quiet longest goes"],
  "services/runtime/rpc/identities.ts #admitted": ["const CACHE_MAX", "certificates; the oldest goes"],
  "services/runtime/rpc/token-verifier.ts #known": ["const CACHE_MAX", "tokens; the oldest goes"],
  "services/runtime/rpc/frame-pace.ts #buckets": ["schema", "types of frames, per peer"],
  "services/runtime/store/sqlite.ts #logs": ["schema", "logs of a store"],
  "services/runtime/tokens/verify.ts #known": ["const cacheMax", "tokens; the oldest goes"],
  "services/runtime/supervisor.ts #states": ["schema", "modules"],
  "services/runtime/supervisor.ts #reasons": ["schema", "modules"],
  "services/runtime/supervisor.ts #errors": ["schema", "modules"],
  "services/telemetry/core.ts #links": ["configuration", "services of this hub"],
  "services/discovery/module.ts #views": ["peers", "one per peer"],
  "services/discovery/core.ts #peers": ["peers", "one per peer"],
  "services/introduction/core.ts #addresses": ["const ADDRESSES_MAX", "addresses that have begun; the oldest goes"],
  "services/discovery/copies.ts #runs": ["const RUNS_MAX", "processes of one hub that were met; the one that was met last goes"],
  "services/discovery/core.ts #stored": ["peers", "read at the start; those that are no longer configured go with the first configuration"],
  "services/discovery/core.ts #gone": ["configuration", "services of this hub"],
  "services/discovery/watchers.ts #leaves": ["configuration", "certificates of this hub's services"],
  "services/discovery/metrics.ts #peers": ["peers", "series per peer"],
  "services/discovery/leaves.ts #bundles": ["peers", "CAs per hub"],
  "services/introduction/door.ts #named": ["const DoorCore", "exchanges; the core bounds them"],
  "services/hub/peers.ts #views": ["peers", "one per peer"],
  "services/hub/events.ts #queues": ["configuration", "services of this hub"],
  "services/hub/events.ts #told": ["configuration", "services of this hub"],
  "services/kernel/session.ts #peers": ["peers", "one per peer"],
  "services/kernel/room.ts #held": ["const max", "holders, at most as many as there is room for things"],
  "services/kernel/stream-fences.ts #callers": ["const limits", "callers with streams; idle ones go"],
  "services/kernel/stream-fences.ts #waiting": ["const limits", "those of them with groups without an open stream"],
  "services/kernel/parts.ts #held": ["streamsPerCaller", "callers of open streams"],
  "services/registry-sync/node-codec.ts #shared": ["const SHARED_MAX", "descriptions of capabilities; emptied when full"],
  "services/registry-sync/links.ts #byPeer": ["peers", "one per peer"],
  "services/registry-sync/links.ts #peers": ["peers", "one per peer"],
  "services/registry-sync/links.ts #troubles": ["peers", "why a peer's feeds are not taken"],
  "services/registry-sync/links.ts #refusals": ["peers", "the offer of a peer that cannot be taken"],
  "services/registry-sync/table.ts #byId": ["nodes of peers", "nodes of a feed; of this hub's own feed `ownNodes`"],
  "services/registry-sync/table.ts #krefs": ["keysPerFeed", "names of keys per type"],
  "services/registry-sync/peer-keys.ts #keys": ["peers", "keys with which a peer signs"],
  "services/registry-sync/probes.ts #asked": ["peers", "one per peer that is asked whether something is missing"],
  "services/registry-sync/listing.ts #images": ["listingBytes", "nodes as they were when a listing began"],
  "services/registry-sync/listing.ts #open": ["configuration", "`listings`; the oldest goes"],
  "services/registry-sync/fields.ts #byNode": ["own nodes", "fields that a stream declared"],
  "services/registry-sync/receives.ts #receivers": ["peers", "snapshots that come in"],
  "services/registry-sync/receives.ts #staged": ["peers", "snapshots that a restart interrupted"],
  "services/registry-sync/receives.ts #behind": ["peers", "segments that came behind a snapshot, until they are applied"],
  "services/registry-sync/exporter.ts derived": ["shares", "feeds of shares"],
  "services/registry-sync/unstored.ts #heads": ["shares", "own feeds while the store refuses"],
  "services/registry-sync/exporter.ts #rules": ["shares", "rules of shares"],
  "services/registry-sync/exporter.ts #peers": ["peers", "one per peer"],
  "services/registry-sync/holds.ts #holds": ["peers", "shares that a peer holds"],
  "services/registry-sync/exporter.ts #tooLongUntil": ["shares", "one per share"],
  "services/registry-sync/exporter.ts #dropped": ["shares", "one per share that was ever configured since the start"],
  "services/registry-sync/metrics.ts #perPeer": ["peers", "series per peer"],
  "services/registry-sync/mirror.ts #feeds": ["peers", "feeds in the mirror of an SDK"],
  "services/registry-sync/mirror.ts #staged": ["peers", "feeds in the mirror of an SDK"],
  "services/registry-sync/presence.ts #byName": ["configuration", "callers of this hub, which its CA names"],
  "services/registry-sync/importer.ts feeds": ["peers", "the feed that comes in, one per peer"],
};

/** limitRows reads each limit with the sentence that stands above it. */
function limitRows(): string[] {
  const text = read("services/kernel/limits.ts");
  const rows: string[] = [];
  let said = "";
  for (const line of text.slice(text.indexOf("export const LIMITS"), text.indexOf("} as const")).split("\n")) {
    said = /^ {2}\/\*\* (.*) \*\/$/.exec(line)?.[1] ?? said;
    const name = /^ {2}(\w+): /.exec(line)?.[1];
    if (name !== undefined) rows.push(`| \`${name}\` | ${LIMITS[name as keyof typeof LIMITS].toLocaleString("en-US")} | ${said} |`);
  }
  return rows;
}

/** boundsPage is docs/BOUNDS.md. */
export function boundsPage(): string {
  const rows = Object.entries(BOUNDS).map(
    ([where, [bound, what]]) => `| \`${where}\` | ${bound.replace(/^const (\w+)$/, "`$1`")} | ${what} |`,
  );
  return [
    "# Bounds",
    "",
    "Generated from `services/kernel/limits.ts` and `test/tidy/kept-maps.ts` by `make generate`; a test fails when this page lies.",
    "",
    "Whatever others decide the number of has a bound, so that a peer, a node or a mistake never takes more than its part.",
    "",
    "| limit | value | what it bounds |",
    "|---|---|---|",
    ...limitRows(),
    "",
    "## What is kept by name",
    "",
    "A row for each map that lives as long as its owner and is keyed by text. Bounds: a limit of the table above or a constant of the file;",
    "`schema`, `configuration` and `peers` are chosen by the code or by whoever runs this hub.",
    "",
    "| where | bound | what it holds |",
    "|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}
