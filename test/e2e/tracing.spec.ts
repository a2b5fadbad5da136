// Traces through two hubs with real processes, and a collector that reads what they export.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { type ExecutorClient, type ExecutorTask, Hub } from "../../clients/typescript/index.ts";
import { start } from "../cli/fixture.ts";
import { execute, lamp, register, text } from "../support/acts.ts";
import { type Clients, Federation, ROOT, until } from "../support/federation.ts";
import { type CollectedSpan, OtlpCollector } from "../support/otlp-collector.ts";

const SPAN = "00f067aa0ba902b7";
const STATE = "rojo=00f067aa0ba902b7";
let traces = 0;
/** A trace id that no other test uses. */
const newTrace = (): string => `4bf92f3577b34da6a3ce929d${(traces++).toString(16).padStart(8, "0")}`;
const parent = (traceId: string, sampled = true): string => `00-${traceId}-${SPAN}-${sampled ? "01" : "00"}`;

interface Rig {
  readonly federation: Federation;
  readonly home: Clients;
  readonly factory: Clients;
  readonly tasks: ExecutorTask[];
  stop(): Promise<void>;
}

/** rigOf starts `home` and `factory` with the lamp `press-lamp` and its executor at the factory, and the lamp `desk-lamp` at home. */
async function rigOf(homeTracing: object | undefined, factoryTracing: object, homeMode: "single" | "split"): Promise<Rig> {
  const hub = (id: string, other: string, mode: "single" | "split", tracing: object | undefined) =>
    ({ id, mode, peers: [{ hub: other }], config: { log: { level: "debug" }, ...(tracing === undefined ? {} : { tracing }) } }) as const;
  const federation = await Federation.start({
    hubs: [hub("home", "factory", homeMode, homeTracing), hub("factory", "home", "single", factoryTracing)],
  });
  const tasks: ExecutorTask[] = [];
  const executors: ExecutorClient[] = [];
  try {
    await federation.operational(30_000);
    for (const [id, nodeId] of [
      ["home", "desk-lamp"],
      ["factory", "press-lamp"],
    ] as const) {
      const gateway = federation.hub(id).clients("gateway-zigbee");
      await register(gateway, lamp(nodeId));
      const attached = Promise.withResolvers<void>();
      const run = (task: ExecutorTask) => {
        tasks.push(task);
        return { value: task.value };
      };
      executors.push(Hub.over(gateway).serve({ nodeIds: [nodeId], run, onAttached: () => attached.resolve() }));
      await attached.promise;
    }
    const [home, factory] = [federation.hub("home").clients(), federation.hub("factory").clients()];
    // The service that forwards commands hears of nodes a moment after the registry does.
    await until("both lamps answering", async () => {
      await execute(home, "home", "desk-lamp", "state", text("ON"));
      return (await execute(home, "factory", "press-lamp", "state", text("ON"))).result?.outcome === Outcome.DONE;
    });
    return {
      federation,
      home,
      factory,
      tasks,
      stop: async () => {
        for (const executor of executors) executor.close();
        await federation.stop();
      },
    };
  } catch (error) {
    await federation.stop();
    throw error;
  }
}

const press = (value: string, more: object = {}) =>
  create(ExecuteRequestSchema, {
    command: { target: { hubId: "factory", nodeId: "press-lamp" }, capability: "state", value: text(value), timeoutMs: 5_000, ...more },
  });

const QUICK = { interval_ms: 100, timeout_ms: 500, ratio: 0 };

describe("tracing across two hubs", () => {
  let collector: OtlpCollector;
  let rig: Rig;

  beforeAll(async () => {
    collector = await OtlpCollector.start();
    const tracing = { ...QUICK, endpoint: collector.url };
    rig = await rigOf(tracing, tracing, "split");
  }, 120_000);

  afterAll(async () => {
    await rig?.stop();
    await collector?.stop();
  });

  beforeEach(() => void rig.tasks.splice(0));

  const spansOf = (traceId: string): CollectedSpan[] => collector.spans.filter((span) => span.traceId === traceId);
  const spans = (traceId: string, count: number): Promise<CollectedSpan[]> =>
    until(`${count} spans of ${traceId}`, () => (spansOf(traceId).length >= count ? spansOf(traceId) : undefined));
  /**
   * later traces one more command and waits for its spans. Spans leave in order, so whatever ended before has arrived as well, or it
   * was never to leave.
   */
  const later = async (): Promise<string> => {
    const traceId = newTrace();
    await rig.home.commands.execute(press("ON"), { metadata: { traceparent: parent(traceId) } });
    await spans(traceId, 3);
    return traceId;
  };
  const hubOf = (span: CollectedSpan | undefined): unknown => span?.resource["foedus.hub.id"];
  const named = (all: readonly CollectedSpan[], name: string): CollectedSpan => {
    const found = all.filter((span) => span.name === name);
    if (found.length !== 1) throw new Error(`${found.length} spans ${name} among ${all.map((span) => span.name).join(", ")}`);
    return found[0]!;
  };
  const EXECUTE = "foedus.command_forwarding.v1alpha1.CommandForwardingService/Execute";

  test("a command's spans are one tree from the caller to the executor, under the trace that came", async () => {
    const traceId = newTrace();
    const metadata = { traceparent: parent(traceId), tracestate: STATE };
    expect((await rig.home.commands.execute(press("ON"), { metadata })).result?.outcome).toBe(Outcome.DONE);
    const all = await spans(traceId, 3);
    expect(all.map((span) => span.name).sort()).toEqual(["execute", EXECUTE, "forward"].sort());
    const [rpc, forward, run] = [named(all, EXECUTE), named(all, "forward"), named(all, "execute")];
    expect([rpc, forward, run].map(({ kind }) => kind)).toEqual(["SERVER", "CLIENT", "SERVER"]);
    expect([rpc, forward, run].map(hubOf)).toEqual(["home", "home", "factory"]);
    expect([rpc.parentSpanId, forward.parentSpanId, run.parentSpanId]).toEqual([SPAN, rpc.spanId, forward.spanId]);
    expect(all.map(({ state, status }) => [state, status])).toEqual(all.map(() => [STATE, 0]));
    expect(new Set(all.map((span) => span.spanId)).size).toBe(3);
    for (const { startNs, endNs } of all) expect(endNs >= startNs).toBe(true);
    expect(rpc.startNs <= forward.startNs && forward.endNs <= rpc.endNs).toBe(true);
    // The executor goes on under the owner's span.
    expect(rig.tasks.map(({ traceparent, tracestate }) => [traceparent, tracestate])).toEqual([[`00-${traceId}-${run.spanId}-01`, STATE]]);
    expect(run.events).toEqual(["handed to the executor"]);
    expect(rpc.resource).toMatchObject({ "service.name": "foedus-home", "service.instance.id": "home/command-forwarding" });
    expect(rpc.attributes).toEqual({
      "rpc.system.name": "grpc",
      "rpc.method": EXECUTE,
      "rpc.status_code": "OK",
      "foedus.caller.kind": "operator",
      "foedus.caller.hub_id": "home",
    });
    expect(run.attributes).toEqual({
      "rpc.system.name": "foedus",
      "rpc.method": "foedus.command_forwarding.v1alpha1.CommandForwardingService/Invoke",
      "rpc.status_code": "DONE",
      "foedus.node.id": "press-lamp",
      "foedus.capability": "state",
      "foedus.caller.hub_id": "home",
    });
  });

  test("the line of the log that ends the call names trace and span", async () => {
    const traceId = newTrace();
    await rig.home.commands.execute(press("ON"), { metadata: { traceparent: parent(traceId) } });
    const rpc = named(await spans(traceId, 3), EXECUTE);
    const line = await until("the line of the log", () =>
      rig.federation
        .hub("home")
        .log("command-forwarding")
        .split("\n")
        .find((candidate) => candidate.includes(traceId)),
    );
    expect(JSON.parse(line)).toMatchObject({ message: "rpc ended", code: "OK", trace_id: traceId, span_id: rpc.spanId });
  });

  test("on a stream each command has the trace that it names; the stream's own metadata counts for none", async () => {
    const [first, second, ofStream] = [newTrace(), newTrace(), newTrace()];
    const open = rig.home.commands.executeStream;
    const executeStream: typeof open = (options) => open({ ...options, metadata: { traceparent: parent(ofStream) } });
    const hub = Hub.over({ ...rig.home, commands: { ...rig.home.commands, executeStream } });
    const command = { hubId: "factory", nodeId: "press-lamp", capability: "state", value: "OFF" };
    const outcomes = await Promise.all([
      hub.execute({ ...command, traceparent: parent(first) }),
      hub.execute({ ...command, traceparent: parent(second) }),
      hub.execute(command),
    ]);
    hub.close();
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(["DONE", "DONE", "DONE"]);
    for (const traceId of [first, second]) {
      const all = await spans(traceId, 2);
      expect(named(all, "forward").parentSpanId).toBe(SPAN);
      expect(named(all, "execute").parentSpanId).toBe(named(all, "forward").spanId);
    }
    expect(rig.tasks.map(({ traceparent }) => traceparent?.slice(3, 35)).sort()).toEqual([first, second, undefined].sort());
    await later();
    expect(spansOf(ofStream)).toEqual([]);
  });

  test("what the command itself names wins over the call's metadata", async () => {
    const [ofCall, ofCommand] = [newTrace(), newTrace()];
    const request = press("ON", { trace: { traceparent: parent(ofCommand), tracestate: "" } });
    await rig.home.commands.execute(request, { metadata: { traceparent: parent(ofCall) } });
    expect((await spans(ofCommand, 2)).map((span) => span.name).sort()).toEqual(["execute", "forward"]);
    expect((await spans(ofCall, 1)).map((span) => span.name)).toEqual([EXECUTE]);
  });

  test("a command for this hub's own node has one span of its own", async () => {
    const traceId = newTrace();
    const command = { target: { hubId: "home", nodeId: "desk-lamp" }, capability: "state", value: text("ON") };
    await rig.home.commands.execute(create(ExecuteRequestSchema, { command }), { metadata: { traceparent: parent(traceId) } });
    const all = await spans(traceId, 2);
    const run = named(all, "execute");
    expect([run.kind, run.parentSpanId, hubOf(run)]).toEqual(["INTERNAL", named(all, EXECUTE).spanId, "home"]);
    expect(rig.tasks.map(({ traceparent }) => traceparent)).toEqual([`00-${traceId}-${run.spanId}-01`]);
  });

  test("a refused command is an error with its reason, and does not put the names that its caller chose into the trace", async () => {
    const traceId = newTrace();
    const request = press("ON", { target: { hubId: "factory", nodeId: "made-up-4711" } });
    await expect(rig.home.commands.execute(request, { metadata: { traceparent: parent(traceId) } })).rejects.toThrow();
    const forward = named(await spans(traceId, 2), "forward");
    expect(forward.status).toBe(2);
    expect(forward.attributes).toMatchObject({ "rpc.status_code": "REJECTED", "error.type": "NODE_NOT_FOUND" });
    expect(collector.spans.filter((span) => Object.values(span.attributes).includes("made-up-4711"))).toEqual([]);
  });

  test("no argument of a command is in any span", async () => {
    const traceId = newTrace();
    await rig.home.commands.execute(press("OFF"), { metadata: { traceparent: parent(traceId) } });
    expect((await spans(traceId, 3)).flatMap((span) => Object.values(span.attributes))).not.toContain("OFF");
  });

  test.each(["garbage", `00-${"0".repeat(32)}-${SPAN}-01`, `ff-${"a".repeat(32)}-${SPAN}-01`])(
    "a malformed traceparent (%s) is as if there were none",
    async (traceparent) => {
      const before = collector.spans.length;
      expect((await rig.home.commands.execute(press("ON"), { metadata: { traceparent } })).result?.outcome).toBe(Outcome.DONE);
      expect(rig.tasks.map((task) => task.traceparent)).toEqual([undefined]);
      const traceId = await later();
      expect(collector.spans.slice(before).filter((span) => span.traceId !== traceId)).toEqual([]);
    },
  );

  test("a trace that its sender does not record is not recorded here, and reaches the executor as it came", async () => {
    const traceId = newTrace();
    await rig.home.commands.execute(press("ON"), { metadata: { traceparent: parent(traceId, false), tracestate: STATE } });
    expect(rig.tasks.map(({ traceparent, tracestate }) => [traceparent, tracestate])).toEqual([[parent(traceId, false), STATE]]);
    await later();
    expect(spansOf(traceId)).toEqual([]);
  });

  test("`foedus send` passes a trace on: from its flag, else from the environment", async () => {
    const hub = rig.federation.hub("home");
    const { ca, cert, key } = hub.pki("operator-admin");
    const where = ["registry-sync", "command-forwarding"].flatMap((name) => ["--address", `${name}=${hub.address(name as never)}`]);
    const base = ["send", "factory/press-lamp", "state", "ON", ...where, "--ca", ca, "--cert", cert, "--key", key];
    const [ofFlag, ofEnv] = [newTrace(), newTrace()];
    const env = { TRACEPARENT: parent(ofEnv), TRACESTATE: STATE };
    const run = async (more: string[]) => (await start([...base, ...more], { cwd: ROOT, env }).done).code;
    expect(await run(["--traceparent", parent(ofFlag)])).toBe(0);
    expect(await run([])).toBe(0);
    expect(await run(["--traceparent", "nonsense"])).toBe(2);
    expect(named(await spans(ofFlag, 3), EXECUTE).parentSpanId).toBe(SPAN);
    expect(named(await spans(ofEnv, 3), EXECUTE).state).toBe(STATE);
  }, 60_000);

  test("scrapers that ask for OpenMetrics see the trace of a command at its latency", async () => {
    const traceId = newTrace();
    await rig.home.commands.execute(press("ON"), { metadata: { traceparent: parent(traceId) } });
    const hub = rig.federation.hub("home");
    const accept = "application/openmetrics-text; version=1.0.0";
    const answer = await fetch(`http://${hub.host}:${hub.opsPort("command-forwarding")}/metrics`, { headers: { accept } });
    expect(await answer.text()).toMatch(
      new RegExp(`^foedus_command_forwarding_command_seconds_bucket\\{.*\\} \\d+ # \\{trace_id="${traceId}"\\} `, "m"),
    );
  });

  test("what was exported and what was dropped is counted", async () => {
    const metrics = await rig.federation.hub("home").ops("/metrics", "command-forwarding");
    expect(metrics).toMatch(/^foedus_trace_spans_exported_total [1-9]/m);
    expect(metrics).toMatch(/^foedus_trace_spans_dropped_total\{reason="queue"\} 0$/m);
  });

  const count = async (name: string): Promise<number> => {
    const page = await rig.federation.hub("home").ops("/metrics", "command-forwarding");
    return [...page.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\d+)$`, "gm"))].reduce((sum, [, value]) => sum + Number(value), 0);
  };

  const logged = (text: string): Promise<unknown> =>
    until(`the log to say "${text}"`, () => rig.federation.hub("home").log("command-forwarding").includes(text), 10_000);

  test("a collector that is away costs no command anything: spans are dropped and counted, and later ones arrive again", async () => {
    const port = collector.port;
    const lost = newTrace();
    // None of an earlier test waits any more.
    await later();
    const before = await count("foedus_trace_spans_dropped_total");
    await collector.stop();
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () => rig.home.commands.execute(press("ON"), { metadata: { traceparent: parent(lost) } })),
    );
    expect(outcomes.map(({ result }) => result?.outcome)).toEqual(outcomes.map(() => Outcome.DONE));
    // Two of each command at home: of the call, and of the command.
    await until("40 spans dropped", async () => (await count("foedus_trace_spans_dropped_total")) === before + 40, 30_000);
    await logged("traces are not delivered");
    collector = await OtlpCollector.start({ port });
    const traceId = newTrace();
    await rig.home.commands.execute(press("ON"), { metadata: { traceparent: parent(traceId) } });
    await spans(traceId, 3);
    // The collector has them before the hub knows.
    await logged("traces are delivered again");
    expect(spansOf(lost).filter((span) => hubOf(span) === "home")).toEqual([]);
  }, 60_000);

  test("a collector that never answers does not hold the end of a hub", async () => {
    collector.status = 0;
    await rig.factory.commands.execute(press("ON"), { metadata: { traceparent: parent(newTrace()) } });
    const codes = await rig.federation.hub("factory").end();
    expect([...codes]).toEqual([["hub", 0]]);
  });
});

describe("tracing is off at the caller's hub", () => {
  let collector: OtlpCollector;
  let rig: Rig;

  beforeAll(async () => {
    collector = await OtlpCollector.start();
    rig = await rigOf(undefined, { ...QUICK, endpoint: collector.url, ratio: 1, service_name: "press-line" }, "single");
  }, 120_000);

  afterAll(async () => {
    await rig?.stop();
    await collector?.stop();
  });

  test("it exports nothing, has no metrics of tracing, and hands the caller's trace on to a hub where it is on", async () => {
    const traceId = newTrace();
    await rig.home.commands.execute(press("ON"), { metadata: { traceparent: parent(traceId), tracestate: STATE } });
    const span = await until("the owner's span", () => collector.spans.find((candidate) => candidate.traceId === traceId));
    expect([span.name, span.parentSpanId, span.state]).toEqual(["execute", SPAN, STATE]);
    expect(span.resource["service.name"]).toBe("press-line");
    expect(collector.spans.filter((other) => other.resource["foedus.hub.id"] === "home")).toEqual([]);
    expect(await rig.federation.hub("home").ops("/metrics")).not.toContain("foedus_trace_");
  });

  test("a command without a trace begins one at the first hub that records", async () => {
    await rig.home.commands.execute(press("ON"));
    const [, traceId, spanId] = rig.tasks.at(-1)?.traceparent?.split("-") ?? [];
    const span = await until("the owner's span", () => collector.spans.find((candidate) => candidate.spanId === spanId));
    expect([span.traceId, span.name, span.parentSpanId, span.state]).toEqual([traceId, "execute", "", ""]);
  });
});
