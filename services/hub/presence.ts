import { create } from "@bufbuild/protobuf";
import { type RegistrySyncService, ReportPresenceRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { Clock, Timer } from "#runtime/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import type { PresenceSink } from "../command-forwarding/index.ts";

const RETRY_MS = 500;
/** registry-sync counts an attachment as gone when it is not repeated for long; repeated this often it never lapses. */
const REPEAT_MS = 20_000;

/**
 * createPresence tells registry-sync which nodes have an executor. It tells the whole list first and after every failure, then
 * what changed; so it is right again whichever of the two services was restarted.
 */
export function createPresence(
  client: () => ClientOf<typeof RegistrySyncService>,
  clock: Clock,
  log: Logger,
): PresenceSink & { stop(): void } {
  const attached = new Set<string>();
  let changed = new Map<string, boolean>();
  let whole = true;
  let repeat = false;
  let busy = false;
  let timer: Timer | undefined;
  let stopped = false;

  const arm = (delayMs: number): void => {
    timer?.cancel();
    // What comes after a pause is the whole list again, so that a registry that was restarted meanwhile is told.
    if (delayMs === REPEAT_MS) repeat = true;
    if (!stopped) timer = clock.setTimer(delayMs, () => void send());
  };
  const send = async (): Promise<void> => {
    if (busy || stopped) return;
    busy = true;
    const told = changed;
    if (repeat && told.size === 0) whole = true;
    repeat = false;
    const request = whole
      ? { attached: [...attached], replace: true }
      : { attached: [...told].flatMap(([id, on]) => (on ? [id] : [])), detached: [...told].flatMap(([id, on]) => (on ? [] : [id])) };
    changed = new Map();
    whole = false;
    let delayMs = REPEAT_MS;
    try {
      await client().reportPresence(create(ReportPresenceRequestSchema, request), { timeoutMs: 5_000 });
    } catch (error) {
      whole = true;
      delayMs = RETRY_MS;
      log.debug({ error }, "presence was not taken");
    }
    busy = false;
    arm(changed.size > 0 && !whole ? 0 : delayMs);
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
