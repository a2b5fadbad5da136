import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fail } from "#kernel/error.ts";
import type { EventReport } from "#runtime/events.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import type { CommandRequest, AutomationPort as Commands } from "../../command-forwarding/index.ts";
import type { StateChange } from "../../registry-sync/index.ts";
import { type Automation, AutomationSeat } from "./automation.ts";

const CHANGE = { hubId: "home", nodeId: "lamp-1", key: "power", value: 1 } as unknown as StateChange;
const COMMAND: CommandRequest = { nodeId: "lamp-1", capability: "state" };

/** What would end a process that has no handler for it. */
const unhandled: unknown[] = [];
const note = (error: unknown): void => void unhandled.push(error);
let before: NodeJS.UnhandledRejectionListener[];
beforeEach(() => {
  unhandled.length = 0;
  before = process.listeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", note);
});
afterEach(() => {
  process.removeAllListeners("unhandledRejection");
  for (const listener of before) process.on("unhandledRejection", listener);
});

/** settled lets Node find out which promises nobody listens to. */
const settled = async (): Promise<void> => {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
};

function seat(onChange: Automation["onChange"]) {
  const log = memoryLogger();
  const events: EventReport[] = [];
  const made = new AutomationSeat({ name: "rules", onChange }, { hubId: "home", log, events: { report: (event) => events.push(event) } });
  made.connect({
    submit: () => Promise.reject(fail("OVERLOADED", "too many commands")),
    forwardToFederation: () => false,
  } as Commands);
  return { made, log, events };
}

describe("S0-24 a rule that is careless with promises does not end the hub", () => {
  test("a command that it does not wait for is refused: that is logged; who waits for it is told", async () => {
    const failures: unknown[] = [];
    const { made, log, events } = seat((_change, hub) => {
      void hub.submit(COMMAND);
      hub.submit(COMMAND).catch((error: { failure: unknown }) => failures.push(error.failure));
    });
    made.onChange(CHANGE);
    await settled();
    expect(unhandled).toEqual([]);
    expect(failures).toEqual([expect.objectContaining({ reason: "OVERLOADED" })]);
    expect(log.lines.map(({ level, message }) => `${level} ${message}`)).toEqual(
      Array.from({ length: 2 }, () => "warn command of an automation was not taken"),
    );
    expect(events).toEqual([]);
  });

  test("before command forwarding runs as well", async () => {
    const made = new AutomationSeat(
      { name: "rules", onChange: (_change, hub) => void hub.submit(COMMAND) },
      { hubId: "home", log: memoryLogger(), events: { report: () => undefined } },
    );
    made.onChange(CHANGE);
    await settled();
    expect(unhandled).toEqual([]);
  });

  test("an async rule that rejects is told like one that throws", async () => {
    const { made, log, events } = seat(async (_change, hub) => {
      await hub.submit(COMMAND);
    });
    made.onChange(CHANGE);
    await settled();
    expect(unhandled).toEqual([]);
    expect(log.lines.map(({ message }) => message)).toContain("automation failed");
    expect(events).toMatchObject([{ kind: "MODULE", severity: "ERROR", text: "the automation rules failed" }]);
  });
});
