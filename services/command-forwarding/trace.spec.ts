import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeMessage } from "#channel/messages.ts";
import {
  AttachExecutorResponseSchema,
  ExecuteStreamRequestSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type TraceContext as ProtoTrace, TraceContextSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { type SessionRequest, SessionRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import type { Now } from "#kernel/instant.ts";
import { formatParent, type TraceContext } from "#kernel/trace-context.ts";
import { encodeInvocations, installSessionDecoder, invocationsIn } from "./codec/codec.ts";
import { decodeTaskFrame, encodeTasks } from "./codec/executor-codec.ts";
import { decodeStreamRequest, encodeStreamRequest } from "./codec/stream-codec.ts";
import { CommandCore } from "./core.ts";
import { type Command, type CommandEffect, type Input, type Invocation, LOCAL_EXECUTOR, NO_VALUE, OUTCOME, type Task } from "./messages.ts";

const hex = (digits: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`)).filter((text) => /[1-9a-f]/.test(text));
const context: fc.Arbitrary<TraceContext> = fc.record({
  traceId: hex(32),
  spanId: hex(16),
  sampled: fc.boolean(),
  state: fc.constantFrom("", "rojo=00f067aa0ba902b7", "a=1,b@c=2"),
});
const maybe = fc.option(context, { nil: undefined });
const written = (trace: ProtoTrace | undefined) => trace && [trace.traceparent, trace.tracestate];
const wanted = (trace: TraceContext | undefined) => trace && [formatParent(trace), trace.state];

const command = (trace?: TraceContext, more: Partial<Command> = {}): Command => ({
  corr: 1,
  hubId: "factory",
  nodeId: "lamp",
  capability: "state",
  value: new Uint8Array([0x22, 2, 0x4f, 0x4e]),
  timeoutMs: 0,
  key: "",
  hops: [],
  trace,
  ...more,
});
const invocation = (trace?: TraceContext): Invocation => {
  const { nodeId, capability, value } = command();
  return { seq: 7, nodeId, capability, value, deadline: 5_000, retry: false, hops: ["home"], trace };
};
const task = (trace?: TraceContext): Task => {
  const { nodeId, capability, value } = command();
  return { taskId: 4, nodeId, capability, value, deadline: 5_000, callerHubId: "home", trace };
};
const HEAD = { epoch: 3, ackedBelow: 6, ownerEpoch: 2, ownerPosition: 9 };
const frameOf = (items: readonly Invocation[]): Buffer => encodeInvocations(HEAD, [], items, [], 0)[0] as Buffer;

/** one is the message of which there is one. */
function one([message, ...more]: readonly Buffer[]): Buffer {
  expect(more).toEqual([]);
  return message as Buffer;
}

installSessionDecoder();

describe("trace context on the wire", () => {
  test("a command without a trace has the bytes that it had before there were traces", () => {
    expect(frameOf([invocation()]).toString("hex")).toBe(
      "0aae800012aa8000080310061a9e8000080712046c616d701a057374617465220422024f4e2888273a04686f6d6528023809",
    );
    expect(encodeStreamRequest([command()], [])[0]?.toString("hex")).toBe(
      "0aa68000080112a080000a8f80000a07666163746f727912046c616d70120573746174651a0422024f4e",
    );
    expect(encodeTasks([task()], 0)[0]?.toString("hex")).toBe(
      "12a280000a9e8000080412046c616d701a057374617465220422024f4e2888273204686f6d65",
    );
  });

  test("with and without, the hand-written frames are what the generated code reads and writes", () => {
    fc.assert(
      fc.property(fc.array(maybe, { minLength: 1, maxLength: 5 }), (traces) => {
        const { frame } = fromBinary(SessionRequestSchema, frameOf(traces.map((trace) => invocation(trace))));
        if (frame?.frame.case !== "invocations") throw new Error("not invocations");
        expect(frame.frame.value.invocations.map((item) => written(item.trace))).toEqual(traces.map(wanted));
        const again = toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame }));
        const back = (decodeMessage(SessionRequestSchema, again) as SessionRequest).frame?.frame;
        if (back?.case !== "invocations") throw new Error("not invocations");
        expect(invocationsIn(back.value).items.map((item) => item.trace)).toEqual(traces);

        const request = fromBinary(
          ExecuteStreamRequestSchema,
          one(
            encodeStreamRequest(
              traces.map((trace) => command(trace)),
              [],
            ),
          ),
        );
        expect(request.commands.map((item) => written(item.command?.trace))).toEqual(traces.map(wanted));
        const { commands } = decodeStreamRequest(toBinary(ExecuteStreamRequestSchema, request));
        expect(commands.map((item) => item.trace)).toEqual(traces);

        const response = fromBinary(
          AttachExecutorResponseSchema,
          one(
            encodeTasks(
              traces.map((trace) => task(trace)),
              0,
            ),
          ),
        );
        if (response.frame.case !== "tasks") throw new Error("not tasks");
        expect(response.frame.value.tasks.map((item) => written(item.trace))).toEqual(traces.map(wanted));
        const tasks = decodeTaskFrame(toBinary(AttachExecutorResponseSchema, response));
        expect(tasks.kind === "tasks" && tasks.tasks.map((item) => item.trace)).toEqual(traces);
      }),
      { numRuns: 300 },
    );
  });

  test("a malformed context is as if there were none, and the command is read all the same", () => {
    const trace = create(TraceContextSchema, { traceparent: "00-not-a-trace-01", tracestate: "x" });
    const bytes = toBinary(
      ExecuteStreamRequestSchema,
      create(ExecuteStreamRequestSchema, {
        commands: [{ corr: 1n, command: { target: { nodeId: "lamp" }, capability: "state", hops: ["a"], trace } }],
      }),
    );
    expect(decodeStreamRequest(bytes).commands).toEqual([command(undefined, { hubId: "", value: NO_VALUE, hops: ["a"] })]);
  });
});

const NOW: Now = { mono: 1_000, wall: 1_800_000_000_000 };
const TRACE: TraceContext = { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: "00f067aa0ba902b7", sampled: true, state: "" };

/** A core that knows the lamp of `factory` and the peer `home`. */
function coreOf(hubId: string): (input: Input) => CommandEffect[] {
  const core = new CommandCore({ hubId, hash: (data) => data.slice(0, 32) });
  core.restore(NOW, { meta: undefined, blobs: [] });
  const step = (input: Input): CommandEffect[] => {
    const out: CommandEffect[] = [];
    core.step(NOW, input, out);
    return out;
  };
  const state = { name: "state", type: 0, invocable: true, readable: true, idempotent: false, min: undefined, max: undefined } as const;
  const capabilities = [{ ...state, step: undefined, allowed: [] }];
  step({ kind: "start" });
  step({ kind: "directory", changes: [{ kind: "put", hubId: "factory", nodeId: "lamp", online: true, capabilities }] });
  const peer = hubId === "home" ? "factory" : "home";
  step({ kind: "policy", policy: () => "invoke" });
  step({ kind: "peers", peers: [{ hubId: peer, level: 3 }] });
  step({ kind: "peer-up", peer, session: 1 });
  step({ kind: "results", peer, session: 1, frame: { epoch: 0, ownerEpoch: 5, ownerPosition: 0, items: [] } });
  return step;
}

const find = <K extends CommandEffect["kind"]>(effects: readonly CommandEffect[], kind: K) =>
  effects.find((effect) => effect.kind === kind) as Extract<CommandEffect, { readonly kind: K }>;

describe("trace context through the core", () => {
  test("the caller's side hands on and gives back the very object that came, for a forwarded command and for a refused one", () => {
    const step = coreOf("home");
    const invoke = find(step({ kind: "execute", client: 2, principal: "p", commands: [command(TRACE)] }), "invoke");
    expect(invoke.items[0]?.trace).toBe(TRACE);
    const result = { outcome: OUTCOME.DONE, value: NO_VALUE, failure: undefined };
    const answer = { seq: invoke.items[0]?.seq ?? 0, result, late: false };
    const frame = { epoch: invoke.epoch, ownerEpoch: 5, ownerPosition: 1, items: [answer] };
    expect(find(step({ kind: "results", peer: "factory", session: 1, frame }), "reply").trace).toBe(TRACE);
    const unknown = command(TRACE, { nodeId: "nobody" });
    expect(find(step({ kind: "execute", client: 2, principal: "p", commands: [unknown] }), "reply").trace).toBe(TRACE);
  });

  test("the owner's side gives it to the executor, and to the answer", () => {
    const step = coreOf("factory");
    step({ kind: "handler", present: true });
    const { deadline: _, ...item } = { ...invocation(TRACE), timeoutMs: 1_000 };
    const frame = { ...HEAD, ownerEpoch: 0, ownerPosition: 0, acks: [], items: [item], cancels: [] };
    const tasks = find(step({ kind: "invocations", peer: "home", session: 1, frame }), "tasks");
    expect(tasks.items[0]?.trace).toBe(TRACE);
    const report = { taskId: tasks.items[0]?.taskId ?? 0, value: NO_VALUE, failure: undefined };
    const respond = find(step({ kind: "reports", executor: LOCAL_EXECUTOR, reports: [report] }), "respond");
    expect(respond.items[0]).toMatchObject({ seq: 7, result: { outcome: OUTCOME.DONE } });
    expect(respond.items[0]?.trace).toBe(TRACE);
  });

  test("each of two callers that joined by an idempotency key gets its own back", () => {
    const step = coreOf("home");
    const other = { ...TRACE, spanId: "1111111111111111" };
    const invoke = find(step({ kind: "execute", client: 2, principal: "p", commands: [command(TRACE, { key: "k" })] }), "invoke");
    step({ kind: "execute", client: 3, principal: "p", commands: [command(other, { key: "k" })] });
    const result = { outcome: OUTCOME.DONE, value: NO_VALUE, failure: undefined };
    const frame = {
      epoch: invoke.epoch,
      ownerEpoch: 5,
      ownerPosition: 1,
      items: [{ seq: invoke.items[0]?.seq ?? 0, result, late: false }],
    };
    const replies = step({ kind: "results", peer: "factory", session: 1, frame }).filter((effect) => effect.kind === "reply");
    expect(replies.map(({ client, trace }) => [client, trace])).toEqual([
      [2, TRACE],
      [3, other],
    ]);
    const late = { ...TRACE, spanId: "2222222222222222" };
    const stored = step({ kind: "execute", client: 4, principal: "p", commands: [command(late, { key: "k" })] });
    expect(find(stored, "reply")).toMatchObject({ client: 4, replayed: true, trace: late });
  });
});
