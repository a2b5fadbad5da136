// Who did what: commands under load and SIGKILL, and what the audit says of them.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { CommandWay } from "#gen/foedus/telemetry/v1alpha1/audit_pb.ts";
import { audited, contradictions, repeated, Switchboard } from "../support/audit.ts";
import { until } from "../support/federation.ts";

/** 100,000 in `make audit`. */
const COMMANDS = Number(process.env["AUDIT_COMMANDS"] ?? 4_000);
const IN_FLIGHT = 64;

describe("commands under SIGKILL", () => {
  let board: Switchboard;

  beforeAll(async () => {
    board = await Switchboard.start(8);
  }, 90_000);

  afterAll(async () => {
    await board?.stop();
  });

  test(`S4-19 kill -9 in the middle of ${COMMANDS} commands: each that was answered has its event, and none has two`, {
    timeout: 600_000,
  }, async () => {
    const sent = board.send(COMMANDS, IN_FLIGHT, ["home", "factory"]);
    for (const [part, id] of [
      [0.25, "home"],
      [0.5, "factory"],
      [0.75, "home"],
    ] as const) {
      await until(`${part} of the commands`, () => board.answered >= part * COMMANDS, 300_000);
      const hub = board.federation.hub(id);
      await hub.end("SIGKILL");
      await hub.start();
    }
    await sent;
    const home = board.federation.hub("home").clients();
    expect(board.told.size, "commands whose caller was told an outcome by the hub").toBeGreaterThan(COMMANDS / 2);
    await until("the audit of home", async () => agreed(contradictions(board.told, await audited(home))), 60_000);
    const events = await audited(home);
    expect(repeated(events)).toEqual([]);
    expect(new Set(events.map(({ command }) => command?.caller))).toEqual(new Set(["gateway/zigbee"]));
    // The owner's own account of what it did for home.
    const done = new Map([...board.told].filter(([name, outcome]) => outcome === Outcome.DONE && forwarded(events, name)));
    const factory = board.federation.hub("factory").clients();
    await until("the audit of the factory", async () => agreed(contradictions(done, await audited(factory))), 60_000);
    const received = await audited(factory);
    expect(repeated(received)).toEqual([]);
    expect(
      received.every(({ command, peer }) => command?.way === CommandWay.RECEIVED && command.caller === "hub/home" && peer === "home"),
    ).toBe(true);
  });
});

function agreed(problems: readonly string[]): boolean {
  if (problems.length > 0) throw new Error(`${problems.length} commands: ${problems.slice(0, 5).join("; ")}`);
  return true;
}

const ways = new WeakMap<object, Map<string, CommandWay | undefined>>();

function forwarded(events: Awaited<ReturnType<typeof audited>>, name: string): boolean {
  let known = ways.get(events);
  if (known === undefined) ways.set(events, (known = new Map(events.map(({ command }) => [command?.name ?? "", command?.way]))));
  return known.get(name) === CommandWay.FORWARDED;
}
