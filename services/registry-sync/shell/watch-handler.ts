import { whenAborted } from "#channel/abort.ts";
import type { Outbound } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import type { WatchRequest, WatchResponse } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { StreamsPerCaller } from "#kernel/bounds/streams-per-caller.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import { BlocksCache, pushToProto } from "../codec/answer-codec.ts";
import { callerName, watchFromProto } from "../codec/codec.ts";
import type { WatchOptions, WatchPush } from "../messages.ts";
import type { Shell } from "./shell.ts";

type Run = (
  options: WatchOptions,
  over: PromiseWithResolvers<Failure | undefined>,
  out: Outbound<WatchResponse>,
  context: CallContext,
) => Promise<void>;

/** watchRunner gives what runs one watch until it is over. */
function watchRunner(shell: Shell, cache: BlocksCache): Run {
  const send = (out: Outbound<WatchResponse>, push: WatchPush): boolean =>
    out.send(push.kind === "blocks" ? cache.of(push) : pushToProto(push));

  return async (options, over, out, context) => {
    const watch = shell.id();
    const stop = (failure: Failure): void => over.resolve(failure);
    whenAborted(context.signal, () => over.resolve(undefined));
    shell.onStop.add(stop);
    shell.watches.set(watch, (output) => {
      if (output.kind === "watch_refused") return over.resolve(output.failure);
      for (const push of output.pushes) if (!send(out, push)) return over.resolve(undefined);
      void out.drained().then(() => {
        if (shell.watches.has(watch)) shell.tell({ kind: "watch_ready", watch });
      });
    });
    try {
      await shell.offer({ kind: "watch_open", watch, options });
      const failure = await over.promise;
      if (failure !== undefined) throw new FoedusError(failure);
    } finally {
      shell.onStop.delete(stop);
      shell.watches.delete(watch);
      shell.tell({ kind: "watch_close", watch });
    }
  };
}

/**
 * createWatchHandlers are the handlers of Watch: the next push comes only when the transport has taken the last one. At most `maxWatches`
 * run at a time, and a part of them for one caller. A newer watch of the same group ends the older one, so that a client that comes back does
 * not run into its own leavings.
 */
export function createWatchHandlers(shell: Shell, maxWatches: number, clock: Clock) {
  const parts = new StreamsPerCaller("watchers", maxWatches);
  shell.parts.push(parts);
  const fences = new FencedStreams<Fenced>(clock);
  const run = watchRunner(shell, new BlocksCache());

  return {
    async watch(request: WatchRequest, out: Outbound<WatchResponse>, context: CallContext): Promise<void> {
      const options = watchFromProto(request);
      if ("reason" in options) throw new FoedusError(options);
      const caller = callerName(context.caller);
      const over = Promise.withResolvers<Failure | undefined>();
      let held = false;
      const give = (): void => {
        if (held) parts.give(caller);
        held = false;
      };
      const fence = (failure: Failure): void => {
        // At once: the newer one is about to ask for a place.
        give();
        over.resolve(failure);
      };
      const leave = request.stream === undefined ? undefined : fences.enter(context.caller, request.stream, { fence }).leave;
      try {
        const failure = parts.take(caller);
        if (failure !== undefined) throw new FoedusError(failure);
        held = true;
        await run(options, over, out, context);
      } finally {
        give();
        leave?.();
      }
    },
  };
}
