// What a program is told that gave no callback for it: warnings of Node, as few as say it.
import { createServer } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type Failure, fail } from "#kernel/error.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { until } from "../../../test/support/federation.ts";
import { HubHere } from "../../../test/support/hub-here.ts";
import { Links, refusalsTold } from "./telling.ts";

const { emitWarning } = vi.hoisted(() => ({ emitWarning: vi.fn() }));
vi.mock(import("node:process"), async (original) => ({ ...(await original()), emitWarning }));

const AWAY: Failure = { reason: "PEER_UNREACHABLE", message: "nothing listens at here:1" };
const FOREIGN: Failure = { reason: "FOREIGN_CA", message: "another hub" };
const said = (): string[] => emitWarning.mock.calls.map(([sentence]) => String(sentence));

beforeEach(() => void emitWarning.mockClear());

describe("the links of a hub", () => {
  test("a reason is one sentence until the stream works again", () => {
    const clock = new ManualClock();
    const link = new Links("home", clock).of("updates");
    for (const failure of [AWAY, AWAY, FOREIGN, AWAY, FOREIGN]) link.down(failure, true);
    expect(emitWarning.mock.calls).toEqual([
      [
        expect.stringMatching(
          /^the stream to hub home for updates is down and will be reopened: nothing listens at here:1\. Start the hub, or correct the address\.$/,
        ),
        { type: "FoedusWarning", code: "PEER_UNREACHABLE" },
      ],
      [expect.stringContaining("another hub"), { type: "FoedusWarning", code: "FOREIGN_CA" }],
    ]);
    clock.advance(60_000);
    link.down(AWAY, true);
    expect(said()).toHaveLength(2);
    link.works();
    link.down(AWAY, true);
    expect(said()).toHaveLength(3);
  });

  test("a stream that comes and goes tells once a minute", () => {
    const clock = new ManualClock();
    const link = new Links("home", clock).of("updates");
    for (let i = 0; i < 100; i++) {
      link.down(AWAY, true);
      link.works();
    }
    expect(said()).toHaveLength(1);
    clock.advance(60_000);
    link.down(AWAY, true);
    expect(said()).toHaveLength(2);
  });

  test("one that went again within the minute, and stays away, is told when the minute is over", () => {
    const clock = new ManualClock();
    const link = new Links("home", clock).of("updates");
    link.down(AWAY, true);
    link.works();
    clock.advance(30_000);
    link.down(AWAY, true);
    expect(said()).toHaveLength(1);
    clock.advance(30_000);
    for (let i = 0; i < 3; i++) link.down(AWAY, true);
    expect(said()).toHaveLength(2);
  });

  test("what all streams are down for is told once, and one that was closed hides nothing", () => {
    const clock = new ManualClock();
    const links = new Links("home", clock);
    const [updates, commands] = [links.of("updates"), links.of("commands")];
    updates.down(AWAY, true);
    commands.down(AWAY, true);
    clock.advance(60_000);
    updates.works();
    updates.down(AWAY, true);
    expect(said()).toHaveLength(1);
    for (const link of [updates, commands]) link.over();
    links.of("events").down(AWAY, true);
    expect(said()).toHaveLength(2);
  });

  test("what a hub says cannot rewrite the terminal", () => {
    new Links("home", new ManualClock()).of("updates").down({ reason: "INTERNAL", message: "\u001b]0;mine\u0007\nsudo" }, true);
    expect(said()[0]).toContain(": \\u{1b}]0;mine\\u{7} sudo. ");
  });

  test("that a stream is not opened again is always told", () => {
    const links = new Links("home", new ManualClock());
    for (const what of ["updates", "commands"]) links.of(what).down({ reason: "SESSION_REPLACED", message: "another one" }, false);
    expect(said()).toEqual([
      expect.stringMatching(/^the stream to hub home for updates has ended and will not be reopened: another one\. /),
      expect.stringMatching(/^the stream to hub home for commands has ended and will not be reopened: another one\. /),
    ]);
  });
});

test("what this program has cancelled itself is not told", () => {
  new Links("home", new ManualClock()).of("updates").down({ reason: "CANCELLED", message: "closed" }, false);
  expect(said()).toEqual([]);
});

test("a refusal is told once for each node or key, and not of the keys of a node that was refused", () => {
  const errors: unknown[] = [];
  const tell = refusalsTold((error) => errors.push(error));
  const { failure } = fail("OUT_OF_SCOPE", "not yours");
  for (const [nodeId, key] of [
    ["lamp9", ""],
    ["lamp9", ""],
    ["lamp9", "power"],
    ["lamp", "pwoer"],
    ["lamp", "pwoer"],
  ] as const)
    tell({ nodeId, key, failure });
  expect(errors.map(String)).toEqual([expect.stringContaining("lamp9: not yours"), expect.stringContaining("lamp pwoer: not yours")]);
});

describe("a program with no callbacks", () => {
  let here: HubHere;
  const closedPort = async (): Promise<string> => {
    const server = createServer();
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    await new Promise((closed) => server.close(closed));
    return `127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  };

  beforeAll(async () => {
    here = await HubHere.start("other");
  }, 60_000);
  afterAll(() => here?.stop());

  test.each(["updater", "serve", "watch", "events", "changes"] as const)(
    "%s says that nothing listens at the address, and a callback says it in its place",
    async (what) => {
      const hub = await here.connect("operator-admin", { address: await closedPort() });
      const told = vi.fn();
      const open = (callbacks: object): void =>
        void {
          updater: () => hub.updater({ nodes: [{ nodeId: "lamp" }], onError: () => undefined, ...callbacks }),
          serve: () => hub.serve({ nodeIds: ["lamp"], run: () => ({}), ...callbacks }),
          watch: () => hub.watch(callbacks),
          events: () => hub.events(callbacks),
          changes: () => hub.changes(callbacks),
        }[what]();
      open({ onLink: told, onDetached: told });
      await until("the callback", () => told.mock.calls.length > 0);
      expect(said()).toEqual([]);
      open({});
      await until("a warning", () => said().length > 0);
      expect(said()).toEqual([
        expect.stringMatching(/^the stream to hub home for \w+ is down and will be reopened: nothing listens at 127\.0\.0\.1:\d+\. /),
      ]);
    },
    30_000,
  );

  test("one that calls the port of another hub is told so, once for its two streams", async () => {
    const other = await here.connect("operator-admin", here.federation.hub("other").pki("operator-admin"));
    const cuts = vi.fn();
    other.watch({ onLink: cuts });
    other.updater({ nodes: [{ nodeId: "lamp" }] });
    other.serve({ nodeIds: ["lamp"], run: () => ({}) });
    await until("a warning", () => said().length > 0);
    await until("another attempt", () => cuts.mock.calls.length > 2);
    expect(said()).toEqual([expect.stringMatching(/^the stream to hub other for \w+ is down and will be reopened: at [\d.:]+: /)]);
  }, 30_000);

  test("an iteration that ends for good throws why, and no warning says it as well", async () => {
    const gateway = await here.connect("gateway-zigbee");
    await expect(gateway.events().next()).rejects.toMatchObject({ reason: "ACCESS_DENIED" });
    expect(said()).toEqual([]);
  }, 30_000);

  test("a node and a key that the hub refuses are told", async () => {
    const gateway = await here.connect("gateway-zigbee");
    const errors: unknown[] = [];
    const updater = gateway.updater({ nodes: [{ nodeId: "lamp" }, { nodeId: "a lamp" }], onError: (error) => errors.push(error) });
    for (let i = 0; i < 2; i++) {
      updater.set("a lamp", "power", 1);
      updater.set("lamp", "pwoer", 1);
      await updater.drain();
    }
    expect(errors.map(String).sort()).toEqual([expect.stringMatching(/a lamp: /), expect.stringMatching(/lamp pwoer: /)]);
    expect(said()).toEqual([]);
  }, 30_000);
});
