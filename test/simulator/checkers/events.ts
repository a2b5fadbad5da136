import type { Checker } from "./checker.ts";

/** Events: what happened once is in the history once, whatever the store did meanwhile (TE6 of TelemetryCore). */
export const events: Checker = {
  name: "events",
  async check(federation) {
    const { oracle, trace, scheduler } = federation;
    for (const { no, running } of federation.hubs) {
      if (running === undefined) continue;
      let kept: readonly string[] | undefined;
      running.telemetry.kept().then(
        (names) => {
          kept = names;
        },
        (error: unknown) => federation.fatal(no, "history", error),
      );
      await federation.run(0);
      if (kept === undefined) await federation.run(2_000);
      if (kept === undefined) {
        oracle.violate("events", "liveness", `hub-${no} did not answer a listing of its history`);
        continue;
      }
      const times = new Map<string, number>();
      for (const event of kept) times.set(event, (times.get(event) ?? 0) + 1);
      trace.note(scheduler.now, no, "events kept", () => String(kept?.length));
      for (const [event, count] of times)
        if (count > 1) oracle.violate("events", "correctness", `hub-${no} has the event ${event} ${count} times`);
    }
  },
};
