import { create } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import { ErrorReason } from "#gen/foedus/common/v1/error_pb.ts";
import { type DiscoveryService, ReportSessionsRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import type { Reason } from "#kernel/error.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { SessionReport, SessionReporter } from "#runtime/peers.ts";
import { ownRetry } from "../own-retry.ts";

/** Two reports of sessions are this far apart if the second one came during the first. */
const PACE_MS = 500;

/**
 * createSessionReporter tells discovery how sessions stand: at once when something changes, in one call per turn. `again` repeats the last
 * report, for a discovery that may have forgotten it.
 */
export function createSessionReporter(
  service: string,
  client: () => ClientOf<typeof DiscoveryService> | undefined,
  clock: Clock,
  log: Logger,
): SessionReporter & { again(): void; stop(): void } {
  let pending: readonly SessionReport[] | undefined;
  let last: readonly SessionReport[] | undefined;
  let busy = false;
  let timer: Timer | undefined;
  let stopped = false;
  const retry = ownRetry();
  const send = async (): Promise<void> => {
    const to = client();
    // A report that comes while discovery is away waits for the next try, with those before it.
    if (busy || !retry.due(clock.mono()) || stopped || pending === undefined) return;
    busy = true;
    const reports = pending;
    pending = undefined;
    try {
      if (to === undefined) throw new Error("discovery is not connected");
      await to.reportSessions(create(ReportSessionsRequestSchema, { service, reports: reports.map(reportToProto) }), { timeoutMs: 2_000 });
      retry.reset();
    } catch (error) {
      retry.failed(clock.mono());
      pending ??= reports;
      log.debug({ service, error }, "session report was not taken");
    }
    busy = false;
    timer?.cancel();
    if (pending !== undefined && !stopped) timer = clock.setTimer(Math.max(PACE_MS, retry.dueAt - clock.mono()), () => void send());
  };
  return {
    report: (reports) => {
      pending = last = reports;
      void send();
    },
    again: () => {
      pending ??= last;
      void send();
    },
    stop: () => {
      stopped = true;
      timer?.cancel();
    },
  };
}

function reportToProto(report: SessionReport) {
  return {
    hubId: report.hubId,
    session: {
      service: report.service,
      state: LinkState[report.state],
      dialer: report.dialer,
      rttMs: report.rttMs,
      synced: report.synced,
      heard: BigInt(report.heard),
      ...(report.failure === undefined
        ? {}
        : {
            failure: { reason: ErrorReason[report.failure.reason as Reason] ?? ErrorReason.UNSPECIFIED, message: report.failure.message },
          }),
    },
  };
}
