// Who did what: commands under load and SIGKILL, and what the audit says of them.
import { execFileSync } from "node:child_process";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { CommandWay, CopyAuditRequestSchema } from "#gen/foedus/telemetry/v1alpha1/audit_pb.ts";
import { EventKind, ReportEventsRequestSchema, Severity } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { FoedusError } from "#kernel/error.ts";
import { ExecutorClient, type ExecutorTask } from "../../clients/typescript/command-stream.ts";
import { lamp, register, text } from "../support/acts.ts";
import { audited, contradictions, type Filter, repeated, Switchboard } from "../support/audit.ts";
import { type Clients, Federation, ROOT, until } from "../support/federation.ts";

/** 100,000 with `make audit`, which sets it. */
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

  test("S3-24 kill -9 in the middle of commands: each that was answered has its event, and none has two", {
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

describe("who did what, at a hub in several processes", () => {
  let federation: Federation;
  let admin: Clients;
  let viewer: Clients;
  const executors: ExecutorClient[] = [];

  beforeAll(async () => {
    federation = await Federation.start({
      hubs: [
        { id: "home", mode: "split", peers: [{ hub: "factory" }] },
        { id: "factory", peers: [{ hub: "home" }] },
      ],
    });
    await federation.operational();
    for (const id of ["home", "factory"]) {
      const gateway = federation.hub(id).clients("gateway-zigbee");
      await register(gateway, lamp("lamp"), lock("lock"));
      const attached = Promise.withResolvers<void>();
      const run = ({ value }: ExecutorTask) =>
        value === "wrong" ? { failure: { reason: "EXECUTOR_FAILED" as const, message: "wrong is wrong" } } : {};
      executors.push(new ExecutorClient(gateway.commands, { nodeIds: ["lamp", "lock"], run, onAttached: () => attached.resolve() }));
      await attached.promise;
    }
    admin = federation.hub("home").clients("operator-admin");
    viewer = federation.hub("home").clients("operator-viewer");
    for (const known of ["home: 2 nodes, 2 online", "factory: 2 nodes, 2 online"])
      await until(`commands know ${known}`, async () =>
        (await federation.hub("home").ops("/statusz", "command-forwarding")).includes(known),
      );
  }, 120_000);

  afterAll(async () => {
    for (const executor of executors) executor.close();
    await federation?.stop();
  });

  const command = (clients: Clients, hubId: string, nodeId: string, capability: string, value: string): Promise<string> =>
    clients.commands.execute(create(ExecuteRequestSchema, { command: { target: { hubId, nodeId }, capability, value: text(value) } })).then(
      () => "DONE",
      (error: FoedusError) => error.failure.reason,
    );
  const about = async (filter: Filter): Promise<string[]> => (await audited(viewer, filter)).map((event) => event.text);

  test("S3-24 accepted and refused commands are told with caller, node, value and outcome, and secrets are not", async () => {
    expect(await command(admin, "home", "lamp", "state", "ON")).toBe("DONE");
    expect(await command(admin, "factory", "lamp", "state", "OFF")).toBe("DONE");
    expect(await command(admin, "home", "lock", "open", "hunter2")).toBe("DONE");
    expect(await command(admin, "factory", "lock", "pin", "wrong")).toBe("EXECUTOR_FAILED");
    expect(await command(viewer, "home", "lamp", "state", "ON")).toBe("ACCESS_DENIED");
    expect(await command(admin, "home", "no-such", "state", "ON")).toBe("NODE_NOT_FOUND");
    expect(await command(admin, "home", "lamp", "state", "\u202eFFO\u001b[2J")).toBe("VALUE_OUT_OF_RANGE");
    expect(await command(admin, "home", "lock", "say", `\u202e${"x".repeat(4_000)}`)).toBe("DONE");
    expect(await command(admin, "home", "lamp", "", "ON")).toBe("INVALID_FIELD");
    await until("all of it", async () => (await about({})).length === 9);
    const told = await about({ caller: "operator/admin" });
    expect(told.slice(0, 6)).toEqual([
      'operator/admin: state of home/lamp = "ON": done',
      'operator/admin: state of factory/lamp = "OFF": done',
      "operator/admin: open of home/lock = (hidden): done",
      "operator/admin: pin of factory/lock = (hidden): failed (EXECUTOR_FAILED)",
      'operator/admin: state of home/no-such = "ON": rejected (NODE_NOT_FOUND: no node home/no-such)',
      'operator/admin: state of home/lamp = "\\u{202e}FFO\\u001b[2J": rejected (VALUE_OUT_OF_RANGE: state is one of ON, OFF)',
    ]);
    expect(told[6]).toMatch(/^operator\/admin: say of home\/lock = "\\u\{202e\}x{40,80}"?…: done$/);
    expect(told[7]).toContain("a command of operator/admin was refused before it was read (INVALID_FIELD");
    expect(await about({ caller: "viewer" })).toMatchObject([expect.stringContaining("refused before it was read (ACCESS_DENIED")]);
    expect(await about({ node: "home/lamp", outcomes: [Outcome.DONE] })).toEqual(told.slice(0, 1));
    const factory = federation.hub("factory").clients("operator-viewer");
    await until("the factory's account", async () => (await audited(factory)).length === 2);
    expect((await audited(factory, { caller: "home" })).map((event) => event.text)).toEqual([
      'hub/home: state of factory/lamp = "OFF": done',
      "hub/home: pin of factory/lock = (hidden): failed (EXECUTOR_FAILED)",
    ]);
    const everything = JSON.stringify([await audited(viewer), await audited(factory)], (_key, value) =>
      typeof value === "bigint" ? String(value) : value,
    );
    expect(everything).not.toContain("hunter2");
    expect(everything).not.toContain("wrong");
  });

  test("while telemetry is away records wait, and after a restart of all processes they are as they were", async () => {
    const before = (await audited(viewer)).length;
    const home = federation.hub("home");
    await home.end("SIGKILL", "telemetry");
    for (let i = 0; i < 20; i++) expect(await command(admin, "home", "lamp", "state", i % 2 === 0 ? "ON" : "OFF")).toBe("DONE");
    await home.end("SIGKILL", "command-forwarding");
    for (const name of ["telemetry", "command-forwarding"]) home.startProcess(name);
    await home.ready();
    await until("what was done meanwhile", async () => (await audited(viewer)).length === before + 20);
    const events = await audited(viewer);
    expect(repeated(events)).toEqual([]);
    expect(events.map(({ command: audit }) => Number(audit?.number))).toEqual(events.map((_, i) => i + 1));
    await home.end();
    await home.start();
    expect((await until("the same events", () => audited(viewer))).map(({ text: said }) => said)).toEqual(
      events.map(({ text: said }) => said),
    );
  });

  test("foedus events finds them by node, caller, outcome and time, and shows debug events to who asks for them", async () => {
    const home = federation.hub("home");
    const { ca, cert, key } = home.pki("operator-viewer");
    const foedus = (...flags: string[]): string =>
      execFileSync(
        process.execPath,
        [
          `${ROOT}/cli/main.ts`,
          "events",
          "--address",
          `telemetry=${home.address("telemetry")}`,
          "--ca",
          ca,
          "--cert",
          cert,
          "--key",
          key,
          ...flags,
        ],
        {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "pipe"],
        },
      );
    const events = (...flags: string[]): { readonly command?: { readonly caller: string } }[] =>
      (JSON.parse(foedus("--json", "--limit", "1000", ...flags)) as { events: [] }).events;
    const asked = ["--kind", "command", "--node", "home/lamp", "--caller", "admin", "--outcome", "done", "--since", "1h"];
    expect(events(...asked)).toHaveLength(21);
    expect(events(...asked, "--caller", "nobody")).toEqual([]);
    expect(events(...asked.slice(0, -1), "1ms")).toEqual([]);
    expect(events("--kind", "command", "--outcome", "rejected", "--outcome", "failed")).toHaveLength(5);
    expect(foedus("--kind", "command", "--node", "factory/lock")).toContain("operator/admin: pin of factory/lock = (hidden): failed");
    const debug = { wallMs: BigInt(Math.floor(systemClock.wall())), kind: EventKind.MODULE, severity: Severity.DEBUG, text: "for tracing" };
    const service = home.clients("service-hub").telemetry;
    await service.reportEvents(create(ReportEventsRequestSchema, { service: "telemetry", events: [debug] }));
    expect(foedus("--kind", "module")).not.toContain("for tracing");
    expect(foedus("--kind", "module", "--severity", "debug")).toContain("for tracing");
    const forged = viewer.telemetry.copyAudit(create(CopyAuditRequestSchema, { batches: [Uint8Array.of(1)] }));
    await expect(forged).rejects.toMatchObject({ failure: { reason: "ACCESS_DENIED" } });
    const broken = home.clients("service-hub").telemetry.copyAudit(create(CopyAuditRequestSchema, { batches: [Uint8Array.of(1)] }));
    await expect(broken).rejects.toMatchObject({ failure: { reason: "INVALID_FIELD" } });
    expect(() => foedus("--outcome", "maybe")).toThrow(/there is no outcome "maybe"/);
  });
});

/** lock is a device with values that must not be kept: by the name of a capability, and because it says so. */
function lock(nodeId: string): Node {
  return create(NodeSchema, {
    nodeId,
    type: "lock",
    capabilities: [
      { name: "open", type: ValueType.STRING, invocable: true, secret: true },
      { name: "pin", type: ValueType.STRING, invocable: true },
      { name: "say", type: ValueType.STRING, invocable: true },
    ],
  });
}

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
