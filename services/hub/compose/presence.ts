import { create } from "@bufbuild/protobuf";
import type { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import { type RegistrySyncService, ReportPresenceRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { Logger } from "#runtime/log/log.ts";
import { counter } from "#runtime/metrics/declare.ts";
import type { PresenceSink } from "../../command-forwarding/index.ts";
import { ownRetry } from "../own-retry.ts";

/** registry-sync counts all attachments as gone that were not repeated for three times as long. */
const REPEAT_MS = 20_000;
/** Nodes in one report: a step of some milliseconds for registry-sync, and a message far below what one may have. */
const PART_NODES = 2_000;

/** What says that registry-sync is away, busy or stopping, which ends by itself; all else is a refusal. */
const PASSING = new Set<Failure["reason"]>([
  "PEER_UNREACHABLE",
  "SHUTTING_DOWN",
  "STORE_UNAVAILABLE",
  "OVERLOADED",
  "DEADLINE_EXPIRED",
  "RATE_LIMITED",
  "CANCELLED",
]);

type Report = { attached?: string[]; detached?: string[]; replace?: boolean; round?: bigint };

/**
 * createPresence tells registry-sync which nodes have an executor. It tells the whole list first, after every failure and every 20 s,
 * whatever changes in between, else what changed; so it is right again whichever of the two services was restarted. What is long goes in
 * parts. A part that is refused is told to whoever runs the hub, and the others go on: its nodes are not what theirs depend on.
 */
export function createPresence(
  client: () => ClientOf<typeof RegistrySyncService>,
  clock: Clock,
  log: Logger,
  metrics: Registry,
): PresenceSink & { stop(): void } {
  const attached = new Set<string>();
  let changed = new Map<string, boolean>();
  /** Numbers of rounds are not used again, also when this process is started anew. */
  let round = Math.floor(clock.wall());
  let whole = true;
  let busy = false;
  let wholeAt = Number.NEGATIVE_INFINITY;
  let timer: Timer | undefined;
  let stopped = false;
  const retry = ownRetry();
  const tell = teller(client, log, metrics);

  const arm = (delayMs: number): void => {
    timer?.cancel();
    if (!stopped) timer = clock.setTimer(Math.max(delayMs, retry.dueAt - clock.mono()), () => void send());
  };
  const send = async (): Promise<void> => {
    if (busy || stopped) return;
    busy = true;
    whole ||= clock.mono() - wholeAt >= REPEAT_MS;
    if (whole) wholeAt = clock.mono();
    const reports = whole ? wholeReports([...attached], ++round) : changeReports(changed);
    changed = new Map();
    whole = false;
    for (const report of reports) {
      if (stopped) return;
      if (await tell(report)) continue;
      retry.failed(clock.mono());
      whole = true;
      break;
    }
    if (!whole) retry.reset();
    busy = false;
    arm(retry.failures > 0 || changed.size > 0 ? 0 : Math.max(0, wholeAt + REPEAT_MS - clock.mono()));
  };

  return {
    report: (nodeIds, online) => {
      for (const id of nodeIds) {
        if (online) attached.add(id);
        else attached.delete(id);
        changed.set(id, online);
      }
      if (!busy) arm(0);
    },
    stop: () => {
      stopped = true;
      timer?.cancel();
    },
  };
}

/** teller sends one report at a time; it answers false if registry-sync does not take any now. */
function teller(client: () => ClientOf<typeof RegistrySyncService>, log: Logger, metrics: Registry): (report: Report) => Promise<boolean> {
  const refused = counter(metrics, {
    name: "foedus_command_forwarding_presence_refused_total",
    help: "Reports of which nodes have an executor that registry-sync refused: those nodes may be shown offline.",
  });
  return async (report) => {
    try {
      await client().reportPresence(create(ReportPresenceRequestSchema, report), { timeoutMs: 5_000 });
      return true;
    } catch (error) {
      if (!(error instanceof FoedusError) || PASSING.has(error.failure.reason)) {
        log.debug({ error }, "presence was not taken");
        return false;
      }
      refused.inc();
      log.error({ err: error, nodes: (report.attached?.length ?? 0) + (report.detached?.length ?? 0) }, "presence of nodes was refused");
      return true;
    }
  };
}

/** wholeReports are the whole list: one report, or a round of several under a number that was not used before. */
function* wholeReports(all: string[], round: number): Generator<Report> {
  if (all.length <= PART_NODES) return yield { attached: all, replace: true };
  for (let from = 0; from < all.length; from += PART_NODES)
    yield { attached: all.slice(from, from + PART_NODES), round: BigInt(round), replace: from + PART_NODES >= all.length };
}

function* changeReports(changed: ReadonlyMap<string, boolean>): Generator<Report> {
  const all = [...changed];
  for (let from = 0; from === 0 || from < all.length; from += PART_NODES) {
    const part = all.slice(from, from + PART_NODES);
    yield { attached: part.flatMap(([id, on]) => (on ? [id] : [])), detached: part.flatMap(([id, on]) => (on ? [] : [id])) };
  }
}
