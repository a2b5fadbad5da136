import { create } from "@bufbuild/protobuf";
import { type RegistrySyncService, ReportPresenceRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { Clock, Timer } from "#runtime/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import type { PresenceSink } from "../command-forwarding/index.ts";
import { ownRetry } from "./own-retry.ts";

/** registry-sync counts all attachments as gone that were not repeated for three times as long. */
const REPEAT_MS = 20_000;

/**
 * createPresence tells registry-sync which nodes have an executor. It tells the whole list first, after every failure and every 20 s,
 * whatever changes in between, else what changed; so it is right again whichever of the two services was restarted.
 */
export function createPresence(
  client: () => ClientOf<typeof RegistrySyncService>,
  clock: Clock,
  log: Logger,
): PresenceSink & { stop(): void } {
  const attached = new Set<string>();
  let changed = new Map<string, boolean>();
  let whole = true;
  let busy = false;
  let wholeAt = Number.NEGATIVE_INFINITY;
  let timer: Timer | undefined;
  let stopped = false;
  const retry = ownRetry();

  const arm = (delayMs: number): void => {
    timer?.cancel();
    if (!stopped) timer = clock.setTimer(Math.max(delayMs, retry.dueAt - clock.mono()), () => void send());
  };
  const request = (told: ReadonlyMap<string, boolean>) =>
    whole
      ? { attached: [...attached], replace: true }
      : { attached: [...told].flatMap(([id, on]) => (on ? [id] : [])), detached: [...told].flatMap(([id, on]) => (on ? [] : [id])) };
  const send = async (): Promise<void> => {
    if (busy || stopped) return;
    busy = true;
    whole ||= clock.mono() - wholeAt >= REPEAT_MS;
    const message = create(ReportPresenceRequestSchema, request(changed));
    if (whole) wholeAt = clock.mono();
    changed = new Map();
    whole = false;
    try {
      await client().reportPresence(message, { timeoutMs: 5_000 });
      retry.reset();
    } catch (error) {
      retry.failed(clock.mono());
      whole = true;
      log.debug({ error }, "presence was not taken");
    }
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
