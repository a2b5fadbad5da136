import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type DescMessage, type MessageInitShape, ScalarType, toBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { RawMessage } from "#channel/call.ts";
import { decodeMessage } from "#channel/messages.ts";
import {
  InvocationResultSchema,
  InvocationSchema,
  InvocationsSchema,
  ResultsSchema,
  SessionFrameSchema,
  type SessionRequest,
  SessionRequestSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { CommandHub, capability } from "../../test/commands/hub.ts";
import { MemoryHub } from "../../test/commands/world.ts";
import { until } from "../../test/rpc/fixture.ts";
import { testHub } from "../../test/testca/index.ts";
import {
  ACK_PAIRS_MAX,
  CANCELS_MAX,
  checkFrame,
  encodeInvocations,
  encodeResults,
  FRAME_ITEMS_MAX,
  installSessionDecoder,
} from "./codec/codec.ts";
import { COMMANDS_MAX, decodeStreamRequest, encodeStreamRequest } from "./codec/stream-codec.ts";
import { Reader, WireError } from "./codec/wire.ts";
import {
  type CommandEffect,
  type InvocationsFrame,
  NO_VALUE,
  NUMBER_END,
  OUTCOME,
  type Respond,
  type ResultsFrame,
  TIMEOUT_END,
} from "./messages.ts";

const BIGGEST = Number.MAX_SAFE_INTEGER;

installSessionDecoder();

/** problemOf reads a message as a session does, and says what is wrong with it. */
function problemOf(bytes: Uint8Array): Failure | undefined {
  const { frame } = decodeMessage(SessionRequestSchema, bytes) as SessionRequest;
  if (frame === undefined) throw new Error("no frame");
  return checkFrame(frame);
}

const many = <T>(count: number, item: T): T[] => new Array<T>(count).fill(item);

function written(frame: NonNullable<MessageInitShape<typeof SessionFrameSchema>["frame"]>): Uint8Array {
  return toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame: { frame } }));
}

/** Every number of 64 bits in our frames, by its path, with a message that has it. */
function numbers(): [string, (value: bigint) => Uint8Array][] {
  const fields = (schema: DescMessage) => schema.fields.filter(({ scalar }) => scalar === ScalarType.UINT64);
  const init = ({ localName, fieldKind }: DescMessage["fields"][number], value: bigint) => ({
    [localName]: fieldKind === "list" ? [1n, value] : value,
  });
  return [
    ...fields(InvocationsSchema).map((field): [string, (value: bigint) => Uint8Array] => [
      `invocations.${field.name}`,
      (value) => written({ case: "invocations", value: init(field, value) }),
    ]),
    ...fields(InvocationSchema).map((field): [string, (value: bigint) => Uint8Array] => [
      `invocations.invocations.${field.name}`,
      (value) => written({ case: "invocations", value: { invocations: [{ nodeId: "lamp", capability: "on", ...init(field, value) }] } }),
    ]),
    ...fields(ResultsSchema).map((field): [string, (value: bigint) => Uint8Array] => [
      `results.${field.name}`,
      (value) => written({ case: "results", value: init(field, value) }),
    ]),
    ...fields(InvocationResultSchema).map((field): [string, (value: bigint) => Uint8Array] => [
      `results.results.${field.name}`,
      (value) => written({ case: "results", value: { results: [init(field, value)] } }),
    ]),
  ];
}

describe("numbers that nobody can mean", () => {
  test("the list has every number of 64 bits that the schema lets a frame carry, save what users mean by theirs", () => {
    const wide = [ScalarType.UINT64, ScalarType.INT64, ScalarType.SINT64, ScalarType.FIXED64, ScalarType.SFIXED64];
    const paths = (schema: DescMessage, path: string): string[] =>
      schema.fields.flatMap((field) => {
        const at = path === "" ? field.name : `${path}.${field.name}`;
        if (at === "control") return [];
        if (field.message !== undefined) return paths(field.message, at);
        return field.scalar !== undefined && wide.includes(field.scalar) ? [at] : [];
      });
    const all = paths(SessionFrameSchema, "");
    const users = ["invocations.invocations.value.int_value", "results.results.value.int_value"];
    expect(all.filter((path) => !users.includes(path)).sort()).toEqual(
      numbers()
        .map(([path]) => path)
        .sort(),
    );
    expect(users.filter((path) => !all.includes(path))).toEqual([]);
  });

  test.each(numbers().filter(([field]) => field !== "invocations.acked_below"))(
    "%s of 2^48 and more is refused by name",
    (field, message) => {
      expect(problemOf(message(BigInt(NUMBER_END) - 1n))).toBeUndefined();
      for (const value of [BigInt(NUMBER_END), BigInt(BIGGEST), 2n ** 53n, 2n ** 64n - 1n])
        expect(problemOf(message(value))).toMatchObject({ reason: "INVALID_FIELD", field });
    },
  );

  test("a floor may be as high as a number can be: so all of an epoch that is over is acknowledged", () => {
    const [field = "", message] = numbers().find(([name]) => name === "invocations.acked_below") ?? [];
    expect(problemOf(message?.(BigInt(BIGGEST)) as Uint8Array)).toBeUndefined();
    expect(problemOf(message?.(2n ** 53n) as Uint8Array)).toMatchObject({ reason: "INVALID_FIELD", field });
  });

  test("more ranges of acknowledged positions than a frame may have are refused before they are read", () => {
    const message = (pairs: number) =>
      written({ case: "invocations", value: { acks: Array.from({ length: 2 * pairs }, (_, i) => BigInt(1 + (i % 2))) } });
    expect(problemOf(message(ACK_PAIRS_MAX))).toBeUndefined();
    expect(problemOf(message(ACK_PAIRS_MAX + 1))).toMatchObject({ reason: "LIMIT_EXCEEDED", field: "invocations.acks" });
  });

  test.each<[field: string, most: number, message: (count: number) => Uint8Array]>([
    [
      "invocations.invocations",
      FRAME_ITEMS_MAX,
      (count) => written({ case: "invocations", value: { invocations: many(count, { nodeId: "a", capability: "b" }) } }),
    ],
    ["invocations.cancels", CANCELS_MAX, (count) => written({ case: "invocations", value: { cancels: many(count, 1n) } })],
    ["results.results", FRAME_ITEMS_MAX, (count) => written({ case: "results", value: { results: many(count, {}) } })],
  ])("S-4 so is a frame whose %s are more than one has", (field, most, message) => {
    expect(problemOf(message(most))).toBeUndefined();
    expect(problemOf(message(most + 1))).toMatchObject({ reason: "LIMIT_EXCEEDED", field, facts: { max: String(most) } });
  });

  test("S-4 what this hub sends in a frame stays within the same bounds", () => {
    const count = FRAME_ITEMS_MAX + 1;
    const answer = { seq: 1, result: { outcome: OUTCOME.DONE, value: NO_VALUE, failure: undefined }, late: false, trace: undefined };
    const results = encodeResults({ epoch: 1, ownerEpoch: 1, ownerPosition: 0 }, many(count, answer));
    const item = { seq: 1, nodeId: "a", capability: "b", value: NO_VALUE, retry: false, hops: [], deadline: 1 };
    const head = { epoch: 1, ackedBelow: 0, ownerEpoch: 1, ownerPosition: 0 };
    const invocations = encodeInvocations(head, [], many(count, item), [], 0);
    expect([results.length, invocations.length]).toEqual([2, 2]);
    for (const frame of [...results, ...invocations]) expect(problemOf(frame)).toBeUndefined();
  });

  test("S-4 what a caller sends in a message of its stream stays within the bounds of a message, too", () => {
    const count = 2 * COMMANDS_MAX + 1;
    const command = {
      corr: 1,
      hubId: "",
      nodeId: "a",
      capability: "b",
      value: NO_VALUE,
      timeoutMs: 0,
      key: "",
      hops: [],
      trace: undefined,
    };
    const messages = encodeStreamRequest(many(count, command), many(count, 1)).map(decodeStreamRequest);
    expect(messages.flatMap(({ commands }) => commands)).toHaveLength(count);
    expect(messages.map(({ cancels }) => cancels.length)).toEqual([0, 0, COMMANDS_MAX, COMMANDS_MAX, 1]);
    expect(encodeStreamRequest([], [])).toHaveLength(1);
  });

  test("so is a timeout that its field does not hold", () => {
    const head = { epoch: 1, ackedBelow: 0, ownerEpoch: 1, ownerPosition: 0 };
    const item = { seq: 1, nodeId: "lamp", capability: "on", value: NO_VALUE, retry: false, hops: [] };
    const message = (deadline: number) => encodeInvocations(head, [], [{ ...item, deadline }], [], 0)[0] as Buffer;
    expect(problemOf(message(TIMEOUT_END - 1))).toBeUndefined();
    for (const timeoutMs of [TIMEOUT_END, BIGGEST])
      expect(problemOf(message(timeoutMs))).toMatchObject({ reason: "INVALID_FIELD", field: "invocations.invocations.timeout_ms" });
  });

  test("a number has ten bytes at most, as many zeros as follow: none is taken for a length that never ends", () => {
    const endless = new Uint8Array(200).fill(0x80);
    endless[198] = 0;
    expect(() => new Reader(endless).uint()).toThrow(WireError);
    expect(() => decodeStreamRequest(Uint8Array.of(0x0a, ...endless))).toThrow(WireError);
    expect(new Reader(Uint8Array.of(0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00)).uint()).toBe(1);
  });
});

const WALL = 1_800_000_000_000;

/** A hub with a lamp, and peers that may use it. */
class Stage {
  mono = 1_000;
  readonly hub = new MemoryHub("home", () => ({ mono: this.mono, wall: WALL + this.mono }));
  readonly peers = ["mallory", "away"];
  #seq = 0;
  #corr = 0;

  constructor() {
    this.meet();
  }

  meet(): void {
    this.hub.give({ kind: "peers", peers: this.peers.map((hubId) => ({ hubId, level: 3 })) });
    this.hub.give({ kind: "policy", policy: () => "invoke" });
    const node = (hubId: string) => ({ kind: "put", hubId, nodeId: "lamp", online: true, capabilities: [capability("on", 0)] }) as const;
    this.hub.give({ kind: "directory", changes: ["home", ...this.peers].map(node) });
    const offer = { nodeIds: ["lamp"], capabilities: [], maxInFlight: 8, shared: false };
    this.hub.give({ kind: "attach", executor: 1, name: "bridge", scope: { kind: "gateway", prefixes: [] }, offer });
    for (const peer of this.peers) this.hub.give({ kind: "peer-up", peer, session: 1 });
  }

  get epochs(): { readonly owner: number; readonly caller: number } {
    const [, owner, caller] = /owner-epoch=(\d+) caller-epoch=(\d+)/.exec(this.hub.core.describe()) ?? [];
    return { owner: Number(owner), caller: Number(caller) };
  }

  /** epochOf is the epoch in the names of commands for a peer. */
  epochOf(peer: string): number {
    const line = this.hub.core
      .describe()
      .split("\n")
      .find((each) => each.startsWith(`to ${peer}:`));
    return Number(/caller-epoch=(\d+)/.exec(line ?? "")?.[1] ?? this.epochs.caller);
  }

  get position(): number {
    return Number(/position=(\d+)/.exec(this.hub.core.describe())?.[1]);
  }

  /** results is a frame of a peer that says what it knows of this hub's epochs as a caller. */
  results(peer: string, more: Partial<ResultsFrame>): CommandEffect[] {
    return this.hub.give({ kind: "results", peer, session: 1, frame: { epoch: 0, ownerEpoch: 7, ownerPosition: 0, items: [], ...more } });
  }

  /** invocations is a frame of a peer that says what it knows of this hub's journal as an owner. */
  invocations(peer: string, more: Partial<InvocationsFrame>): CommandEffect[] {
    const frame = { epoch: 5, ackedBelow: 0, acks: [], items: [], cancels: [], ownerEpoch: this.epochs.owner, ownerPosition: 0, ...more };
    return this.hub.give({ kind: "invocations", peer, session: 1, frame });
  }

  item(retry: boolean, timeoutMs = 1_000) {
    return { seq: ++this.#seq, nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs, retry, hops: [] };
  }

  /** sends lets a user of this hub use a peer's lamp, and gives the frames that go there. */
  sends(peer: string): Buffer[] {
    const base = { hubId: peer, nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 1_000, key: "", hops: [] };
    const effects = this.hub.give({ kind: "execute", client: 1, principal: "user", commands: [{ ...base, corr: ++this.#corr }] });
    return effects.flatMap((effect) =>
      effect.kind === "invoke" ? encodeInvocations(effect, effect.acks, effect.items, effect.cancels, this.mono) : [],
    );
  }
}

const greetings = (effects: readonly CommandEffect[]): string[] =>
  effects.filter((effect): effect is Respond => effect.kind === "respond" && effect.items.length === 0).map(({ peer }) => peer);

describe("CA9 a peer that claims to know a newer epoch of this hub", () => {
  test.each([
    ["as high as there are", NUMBER_END - 1],
    ["as high as is believed", NUMBER_END / 2 - 1],
    ["a little higher", WALL + 5_000],
  ])("%s: what this hub sends is understood, and what it sends to others has nothing of that, now and after restarts", (_what, epoch) => {
    const stage = new Stage();
    for (let start = 0; start < 3; start++) {
      const before = stage.epochs.caller;
      stage.results("mallory", { epoch });
      stage.results("away", {});
      expect([stage.epochOf("away"), stage.epochs.caller]).toEqual([before, before]);
      if (epoch < NUMBER_END / 2) expect(stage.epochOf("mallory")).toBeGreaterThan(epoch);
      expect(["away", "mallory"].flatMap((peer) => stage.sends(peer)).map(problemOf)).toEqual([undefined, undefined]);
      stage.mono += 20_000;
      stage.hub.restart();
      stage.meet();
      expect(stage.epochs.caller).toBeGreaterThan(before);
    }
  });

  test("gets one that is newer, which lasts over a restart as long as it is the newest", () => {
    const stage = new Stage();
    const epoch = WALL + 1_000_000;
    stage.results("mallory", { epoch });
    expect(stage.epochOf("mallory")).toBe(epoch + 1);
    stage.hub.restart();
    stage.meet();
    expect(stage.epochOf("mallory")).toBe(epoch + 2);
    stage.mono += 2_000_000;
    stage.hub.restart();
    stage.meet();
    expect(stage.epochOf("mallory")).toBe(stage.epochs.caller);
  });

  test("is heard once in a while: an honest one has to say it once", () => {
    const stage = new Stage();
    const seen = new Set<number>();
    const claim = (peer: string): void => {
      stage.results(peer, { epoch: stage.epochOf(peer) + 5 });
      seen.add(stage.epochOf(peer));
    };
    for (let i = 0; i < 100; i++) claim("mallory");
    expect(seen.size).toBe(1);
    for (let i = 0; i < 100; i++) claim("mallory");
    stage.mono += 1_000;
    stage.results("away", { epoch: stage.epochOf("away") + 7 });
    expect(stage.epochOf("away"), "and another peer all the same").toBe(stage.epochs.caller + 8);
    for (stage.mono = 11_000; stage.mono <= 130_000; stage.mono += 100) claim("mallory");
    expect(seen.size, "10 s after the first, 20 s and 40 s after those").toBe(4);
  });

  test("and was not heard is heard with a later frame, whatever else that says", () => {
    const stage = new Stage();
    stage.results("mallory", { epoch: stage.epochOf("mallory") + 5 });
    const newer = stage.epochOf("mallory") + 5;
    stage.results("mallory", { epoch: newer });
    expect(stage.epochOf("mallory")).toBeLessThan(newer);
    stage.mono += 10_000;
    const items = [{ seq: 77, result: { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure: undefined }, late: false }];
    stage.results("mallory", { epoch: 1, items });
    expect(stage.epochOf("mallory")).toBe(newer + 1);
  });
});

describe("OW7 a peer that claims to know a newer position of this hub's journal", () => {
  const beyond = (stage: Stage): Partial<InvocationsFrame> => ({ ownerPosition: stage.position + 100 });

  test("is believed once in a while, and all others are told each time", () => {
    const stage = new Stage();
    const { owner } = stage.epochs;
    expect(greetings(stage.invocations("mallory", beyond(stage))).sort()).toEqual(["away", "mallory"]);
    const { owner: second } = stage.epochs;
    expect(second).toBeGreaterThan(owner);
    for (let i = 0; i < 100; i++) expect(greetings(stage.invocations("mallory", beyond(stage)))).toEqual([]);
    expect(stage.epochs.owner).toBe(second);
    expect(greetings(stage.invocations("away", beyond(stage)))).toHaveLength(2);
    stage.mono += 10_000;
    expect(greetings(stage.invocations("mallory", beyond(stage)))).toHaveLength(2);
    stage.mono += 10_000;
    expect(greetings(stage.invocations("mallory", beyond(stage)))).toHaveLength(0);
  });

  test("has no retry of its own run meanwhile: it may have run in the time that is lost", () => {
    const stage = new Stage();
    stage.invocations("mallory", beyond(stage));
    const retried = stage.invocations("mallory", { ...beyond(stage), items: [stage.item(true)] });
    expect(retried.filter(({ kind }) => kind === "tasks")).toEqual([]);
    const answers = retried.flatMap((effect) => (effect.kind === "respond" ? effect.items : []));
    expect(answers.map(({ result }) => result.outcome)).toEqual([OUTCOME.UNKNOWN]);
    expect(stage.invocations("mallory", { items: [stage.item(false)] }).some(({ kind }) => kind === "tasks")).toBe(true);
  });
});

test("OW3 an outcome is kept as long as the longest timeout of this hub asks for, whatever its caller names", () => {
  const stage = new Stage();
  const kept = (): string => /from mallory: open=(\d+) kept=(\d+)/.exec(stage.hub.core.describe())?.[0] ?? "";
  stage.invocations("mallory", { items: [stage.item(false, TIMEOUT_END - 1)] });
  stage.hub.give({ kind: "reports", executor: 1, reports: [{ taskId: 1, value: NO_VALUE, failure: undefined }] });
  stage.hub.restart();
  stage.meet();
  expect(kept()).toBe("from mallory: open=0 kept=1");
  stage.mono += 3_600_000 + 300_000 + 10;
  stage.hub.tick();
  expect(kept()).toBe("from mallory: open=0 kept=0");
});

describe("two hubs over mutual TLS, one of which breaks the rules", () => {
  const ends: (() => Promise<unknown>)[] = [];
  let dir: string;

  afterEach(async () => {
    await Promise.all(ends.splice(0).map((end) => end()));
    rmSync(dir, { recursive: true, force: true });
  });

  const meet = async () => {
    dir = mkdtempSync(join(tmpdir(), "hostile-"));
    const [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
    const make = (own: typeof alpha, other: typeof alpha, name: string): CommandHub =>
      new CommandHub({ hubId: own.hubId, credential: own.service(), peerCaPems: { [other.hubId]: other.caPem }, dataDir: join(dir, name) });
    const a = await make(alpha, beta, "a").start();
    const b = await make(beta, alpha, "b").start();
    ends.push(
      () => a.stop(),
      () => b.stop(),
    );
    a.peer("beta");
    b.peer("alpha", { port: a.port });
    await until(() => a.service.peerLinks?.current("beta") !== undefined && b.service.peerLinks?.current("alpha") !== undefined);
    return { a, b, alpha, beta, make };
  };

  test("A4 who asks ten thousand times for what it does not read loses its session before that is written", async () => {
    const { a: good, b: bad } = await meet();
    good.policy(() => "invoke");
    good.directory({ kind: "put", hubId: "alpha", nodeId: "lamp", online: true, capabilities: [capability("on", 0)] });
    good.service.setLocalCommandHandler(() => ({ kind: { case: "jsonValue", value: `"${"a".repeat(16_000)}"` } }));
    const head = { epoch: 1, ackedBelow: 0, ownerEpoch: 1, ownerPosition: 0 };
    const item = (retry: boolean) => ({ seq: 1, nodeId: "lamp", capability: "on", value: NO_VALUE, deadline: 5_000, retry, hops: [] });
    const send = (count: number, retry: boolean): void => {
      for (const frame of encodeInvocations(
        head,
        [],
        Array.from({ length: count }, () => item(retry)),
        [],
        0,
      ))
        bad.service.peerLinks?.send("alpha", new RawMessage(frame));
    };
    send(1, false);
    await until(() => /kept=1/.test(good.service.describe()) && /1 DONE/.test(good.service.describe()));
    send(10_000, true);
    const failure = (): Failure | undefined => bad.service.peerLinks?.status()[0]?.failure;
    await until(() => failure() !== undefined);
    expect(failure()).toMatchObject({ reason: "OVERLOADED" });
  });

  test.each([
    ["the one that dials", "results.epoch"],
    ["the one that dials", "invocations.owner_position"],
    ["the one that is dialled", "results.epoch"],
    ["the one that is dialled", "invocations.invocations.seq"],
  ])("S1-33 %s, by %s: the session ends with the field's name, and the other starts again as it was", async (who, field) => {
    const { a, b, alpha, beta, make } = await meet();
    const [bad, good] = who === "the one that dials" ? [b, a] : [a, b];
    const head = { epoch: 1, ackedBelow: 0, ownerEpoch: 1, ownerPosition: field === "invocations.owner_position" ? BIGGEST : 0 };
    const items = [{ seq: BIGGEST, nodeId: "lamp", capability: "on", value: NO_VALUE, deadline: 0, retry: false, hops: [] }];
    const frames = field.startsWith("results")
      ? encodeResults({ ...head, epoch: BIGGEST }, [])
      : encodeInvocations(head, [], field.endsWith("seq") ? items : [], [], 0);
    expect(bad.service.peerLinks?.send(good.hubId, new RawMessage(frames[0] as Buffer))).toBe(true);
    const failure = (): Failure | undefined => bad.service.peerLinks?.status()[0]?.failure;
    await until(() => failure() !== undefined);
    expect(failure()).toMatchObject({ reason: "INVALID_FIELD", field });
    await good.stop();
    const again = await make(good === a ? alpha : beta, good === a ? beta : alpha, good === a ? "a" : "b").start();
    ends.push(() => again.stop());
    expect(Number(/caller-epoch=(\d+)/.exec(again.service.describe())?.[1])).toBeLessThan(2 ** 42);
  });
});
