import type { Holding, Shared } from "#kernel/bounds/holdings.ts";
import type { RoomUse } from "#kernel/bounds/room.ts";
import type { Failure } from "#kernel/error.ts";
import type { CallerSide, Parts } from "./caller/caller.ts";
import { OUTCOME_NAMES } from "./messages.ts";
import type { OwnerSide } from "./owner/owner.ts";
import { RUN } from "./owner/run.ts";
import type { Directory } from "./route/route.ts";

/** How many entries of a kind are drawn one by one. */
const SHOWN = 16;

/** describeCore draws the state as stable text: for transcripts, `/statusz` and people. */
export function describeCore(
  parts: Parts,
  caller: CallerSide,
  owner: OwnerSide,
  directory: Directory,
  refusing: Failure | undefined,
): string {
  const lines = [`commands ${parts.hubId}${refusing === undefined ? "" : ` (store refuses: ${refusing.reason})`}`];
  lines.push(
    `journal position=${parts.journal.position} blobs=${parts.journal.blobs} owner-epoch=${owner.epoch} caller-epoch=${caller.epoch} keys=${parts.keys.size}`,
  );
  for (const peer of [...caller.peers.values()].sort((a, b) => (a.hubId < b.hubId ? -1 : 1))) {
    const state = peer.ready ? "ready" : peer.up ? "up" : "down";
    const raised = peer.epoch === caller.epoch ? "" : ` caller-epoch=${peer.epoch}`;
    const waiting = peer.queue.waiting === 0 ? "" : ` waiting=${peer.queue.waiting}`;
    lines.push(`to ${peer.hubId}: level=${peer.level} ${state} pending=${peer.pendingCount}${waiting}${raised}`);
    const named = [...peer.books.values()].flatMap((book) => [...book.pending.values()]);
    for (const p of named.slice(0, SHOWN))
      lines.push(
        `  ${p.epoch}/${p.seq} ${p.nodeId} ${p.capability}${p.answered ? ` answered ${OUTCOME_NAMES[p.result?.outcome ?? 0]}` : ""}`,
      );
  }
  for (const book of [...owner.books.callers.values()].sort((a, b) => (a.hubId < b.hubId ? -1 : 1))) {
    lines.push(`from ${book.hubId}: open=${book.open} kept=${book.kept}`);
    for (const epoch of book.epochs.values()) {
      lines.push(`  epoch ${epoch.epoch} floor=${epoch.floor}`);
      for (const run of [...epoch.runs.values()].slice(0, SHOWN)) lines.push(`    ${run.seq} ${stateOf(run)}`);
    }
  }
  for (const executor of owner.executors.all())
    lines.push(
      `executor ${executor.name}: nodes=${executor.nodes} running=${executor.running.size}/${executor.maxInFlight} waiting=${executor.lines.waiting}`,
    );
  lines.push(directory.describe());
  return lines.join("\n");
}

/** roomsOf is what callers use up. */
export function roomsOf({ settings, keys }: Parts, caller: CallerSide, owner: OwnerSide): RoomUse[] {
  const books = [...owner.books.callers.values()];
  const fullest = (values: readonly number[]): number => Math.max(0, ...values);
  return [
    ...keys.room.use(),
    ...caller.localRooms.use(),
    ...owner.executors.room.use(),
    ...owner.executors.offers.use(),
    {
      limit: "pending_per_peer",
      used: fullest([...caller.peers.values()].map((peer) => peer.pendingCount)),
      max: settings.pendingPerPeer,
    },
    { limit: "outcomes_per_caller", used: fullest(books.map((book) => book.kept)), max: settings.outcomesPerCaller },
    { limit: "outcome_bytes_per_caller", used: fullest(books.map((book) => book.keptBytes)), max: settings.outcomeBytesPerCaller },
  ];
}

/** holdingsOf is who holds how much of what callers and peers use up. */
export function holdingsOf({ keys }: Parts, caller: CallerSide, owner: OwnerSide): Shared[] {
  const local = caller.localRooms.shared();
  const books = [...owner.books.callers.values()];
  return [
    keys.room.shared(),
    local.callers,
    local.nodes,
    owner.executors.room.shared(),
    owner.executors.offers.shared(),
    { what: "pending_per_peer", holdings: pendingTo(caller) },
    { what: "commands of peers", holdings: books.map(({ hubId, open }) => ({ holder: hubId, count: open, bytes: 0 })) },
    {
      what: "outcomes_per_caller",
      holdings: books.map(({ hubId, kept, keptBytes }) => ({ holder: hubId, count: kept, bytes: keptBytes })),
    },
  ];
}

/** pendingTo is which caller has how many commands under way to which peer. */
function* pendingTo(caller: CallerSide): Generator<Holding> {
  for (const { hubId, rooms } of caller.peers.values())
    for (const holding of rooms.shared().callers.holdings) yield { ...holding, holder: `${holding.holder} to ${hubId}` };
}

function stateOf(run: {
  readonly state: number;
  readonly overdue: boolean;
  readonly result: { readonly outcome: number } | undefined;
}): string {
  if (run.state === RUN.DONE) return OUTCOME_NAMES[run.result?.outcome ?? 0] ?? "";
  return `${run.state === RUN.WAITING ? "waiting" : "running"}${run.overdue ? " overdue" : ""}`;
}
