import { create, fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { type AuditBatch, AuditBatchSchema, type AuditRecord as ProtoRecord } from "#gen/foedus/telemetry/v1alpha1/audit_pb.ts";
import { VALUE_TYPE } from "#kernel/wire/value.ts";
import { capability } from "../../../test/commands/hub.ts";
import { invocationsOf, MemoryHub, resultsOf } from "../../../test/commands/world.ts";
import { valueBytes } from "../codec/codec.ts";
import { type Command, type CommandEffect, type Input, NO_VALUE, OUTCOME } from "../messages.ts";
import { AUDIT_SECRETS, type Settings } from "../settings.ts";
import { AUDIT_LOG } from "./audit.ts";
import { type AuditRecord, BatchWriter, readHead, WAY } from "./batch.ts";
import { SecretNames } from "./secret-names.ts";

const batches = (hub: MemoryHub): AuditBatch[] => hub.disk.read(AUDIT_LOG).map(({ bytes }) => fromBinary(AuditBatchSchema, bytes));

/** Shown is a record with its texts in their places. */
interface Shown extends ProtoRecord {
  readonly texts: Readonly<Record<"caller" | "hub" | "node" | "capability" | "reason" | "message" | "key", string>>;
  readonly number: number;
}

function shown(batch: AuditBatch): Shown[] {
  const text = (place: number): string => (place === 0 ? "" : (batch.texts[place - 1] ?? "?"));
  return batch.records.map((record, i) => {
    const { caller, hub, node, capability: name, reason, message, key } = record;
    const texts = {
      caller: text(caller),
      hub: text(hub),
      node: text(node),
      capability: text(name),
      reason: text(reason),
      message: text(message),
      key: text(key),
    };
    return { ...record, texts, number: Number(batch.first) + i };
  });
}

const records = (hub: MemoryHub): Shown[] => batches(hub).flatMap(shown);

const CALLER = "spiffe://a/gateway/zigbee";
const string = (text: string): Uint8Array => valueBytes(create(ValueSchema, { kind: { case: "stringValue", value: text } }));

/** Two hubs with a lamp each, joined, with an executor at both. */
class Pair {
  mono = 0;
  readonly now = () => ({ mono: this.mono, wall: 1_800_000_000_000 + this.mono });
  readonly a: MemoryHub;
  readonly b: MemoryHub;
  readonly told = new Map<string, number>();
  session = 0;
  corr = 0;
  /** Tasks that no executor has answered. */
  tasks: { readonly hub: MemoryHub; readonly taskId: number }[] = [];
  wire: { readonly to: MemoryHub; readonly input: Input }[] = [];

  constructor(settings: Partial<Settings> = {}) {
    this.a = new MemoryHub("a", this.now, settings);
    this.b = new MemoryHub("b", this.now, settings);
    for (const hub of [this.a, this.b]) this.introduce(hub);
    this.up();
  }

  introduce(hub: MemoryHub): void {
    const capabilities = [
      capability("say", VALUE_TYPE.STRING),
      capability("pin_code", VALUE_TYPE.STRING),
      { ...capability("whisper", VALUE_TYPE.STRING), secret: true },
    ];
    const nodes = ["a", "b"].map((hubId) => ({ kind: "put", hubId, nodeId: "lamp", online: true, capabilities }) as const);
    const other = hub === this.a ? "b" : "a";
    this.give(hub, { kind: "directory", changes: [{ kind: "reset" }, ...nodes] });
    this.give(hub, { kind: "peers", peers: [{ hubId: other, level: 3 }] });
    this.give(hub, { kind: "policy", policy: () => "invoke" });
    const offer = { nodeIds: ["lamp"], capabilities: [], maxInFlight: 8, shared: false };
    this.give(hub, { kind: "attach", executor: 1, name: "e", scope: { kind: "gateway", prefixes: [] }, offer });
  }

  up(): void {
    this.session++;
    this.wire = [];
    this.give(this.a, { kind: "peer-up", peer: "b", session: this.session });
    this.give(this.b, { kind: "peer-up", peer: "a", session: this.session });
  }

  give(hub: MemoryHub, input: Input, crashAt?: "before" | "after"): void {
    this.take(hub, hub.give(input, crashAt));
  }

  take(hub: MemoryHub, effects: readonly CommandEffect[]): void {
    const other = hub === this.a ? this.b : this.a;
    for (const effect of effects) {
      if (effect.kind === "invoke")
        this.wire.push({
          to: other,
          input: { kind: "invocations", peer: hub.hubId, session: this.session, frame: invocationsOf(effect, this.mono) },
        });
      else if (effect.kind === "respond")
        this.wire.push({ to: other, input: { kind: "results", peer: hub.hubId, session: this.session, frame: resultsOf(effect) } });
      else if (effect.kind === "tasks") for (const { taskId } of effect.items) this.tasks.push({ hub, taskId });
      else if (effect.kind === "reply" && effect.name !== undefined && !effect.replayed)
        this.told.set(`${effect.name.epoch}/${effect.name.seq}`, effect.result.outcome);
    }
  }

  execute(change: Partial<Command> = {}, crashAt?: "before" | "after"): void {
    const base = {
      corr: ++this.corr,
      hubId: "b",
      nodeId: "lamp",
      capability: "say",
      value: string("on"),
      timeoutMs: 1_000,
      key: "",
      hops: [],
    };
    this.give(this.a, { kind: "execute", client: 2, principal: CALLER, commands: [{ ...base, ...change }] }, crashAt);
  }

  deliver(): void {
    for (let next = this.wire.shift(); next !== undefined; next = this.wire.shift()) this.give(next.to, next.input);
  }

  report(failure = false, crashAt?: "before" | "after"): void {
    const task = this.tasks.shift();
    if (task === undefined) return;
    const report = {
      taskId: task.taskId,
      value: NO_VALUE,
      failure: failure ? { reason: "EXECUTOR_FAILED" as const, message: "broken" } : undefined,
    };
    this.give(task.hub, { kind: "reports", executor: 1, reports: [report] }, crashAt);
  }

  advance(ms: number): void {
    this.mono += ms;
    for (const hub of [this.a, this.b]) this.take(hub, hub.tick());
  }

  crash(hub: MemoryHub): void {
    hub.restart();
    this.crashed(hub);
  }

  /** crashed is what follows the end of a process. */
  crashed(hub: MemoryHub): void {
    this.tasks = this.tasks.filter((task) => task.hub !== hub);
    this.introduce(hub);
    this.give(hub === this.a ? this.b : this.a, { kind: "peer-down", peer: hub.hubId });
    this.up();
  }

  /** settle lets everything come to its end. */
  settle(): void {
    for (let i = 0; i < 40; i++) {
      this.deliver();
      while (this.tasks.length > 0) this.report();
      this.deliver();
      this.advance(2_000);
    }
  }
}

describe("WW2 a command has one record, whatever crashes", () => {
  const act = fc.oneof(
    { weight: 6, arbitrary: fc.record({ act: fc.constant("execute" as const), own: fc.boolean(), keyed: fc.boolean() }) },
    { weight: 8, arbitrary: fc.record({ act: fc.constantFrom("deliver" as const, "report" as const, "fail" as const, "tick" as const) }) },
    fc.record({ act: fc.constantFrom("crash a" as const, "crash b" as const) }),
    fc.record({
      act: fc.constantFrom("die in execute" as const, "die in report" as const),
      at: fc.constantFrom("before" as const, "after" as const),
    }),
  );

  function play(
    pair: Pair,
    step: { readonly act: string; readonly own?: boolean; readonly keyed?: boolean; readonly at?: "before" | "after" },
  ): void {
    const target = { hubId: step.own === true ? "a" : "b", key: step.keyed === true ? `key-${pair.corr}` : "" };
    if (step.act === "execute") pair.execute(target);
    else if (step.act === "deliver") pair.deliver();
    else if (step.act === "report" || step.act === "fail") pair.report(step.act === "fail");
    else if (step.act === "tick") pair.advance(60);
    else if (step.act === "crash a") pair.crash(pair.a);
    else if (step.act === "crash b") pair.crash(pair.b);
    else if (step.act === "die in execute") {
      pair.execute({ hubId: "a" }, step.at);
      pair.crashed(pair.a);
    } else if (pair.tasks[0] !== undefined) {
      const { hub } = pair.tasks[0];
      pair.report(false, step.at);
      pair.crashed(hub);
    }
  }

  test("each that was answered has one with its outcome and its caller, and none has two", () => {
    let told = 0;
    fc.assert(
      fc.property(fc.array(act, { minLength: 20, maxLength: 100 }), (steps) => {
        const pair = new Pair({ lateMs: 0 });
        for (const step of steps) {
          pair.mono++;
          play(pair, step);
        }
        pair.settle();
        const kept = records(pair.a);
        expect(kept.map(({ number }) => number)).toEqual(kept.map((_, i) => i + 1));
        const named = new Map(
          kept.filter(({ nameNumber }) => nameNumber > 0n).map((record) => [`${record.nameEpoch}/${record.nameNumber}`, record]),
        );
        expect(named.size, "a name has two records").toBe(kept.filter(({ nameNumber }) => nameNumber > 0n).length);
        for (const [name, outcome] of pair.told) {
          told++;
          const record = named.get(name);
          expect(record?.texts.caller, name).toBe(CALLER);
          if (outcome !== OUTCOME.UNKNOWN) expect(record?.outcome, name).toBe(outcome);
        }
        const received = records(pair.b).map(({ nameEpoch, nameNumber }) => `${nameEpoch}/${nameNumber}`);
        expect(new Set(received).size, "a name has two records at the owner").toBe(received.length);
        expect(records(pair.b).every(({ texts, way }) => way === WAY.RECEIVED && texts.caller === "a")).toBe(true);
      }),
      { numRuns: 200 },
    );
    expect(told).toBeGreaterThan(500);
  });

  test("BG2 one that had begun when the hub stopped is UNKNOWN, with its caller and what it was", () => {
    const pair = new Pair();
    pair.execute({ hubId: "a", value: string("ON") });
    expect(records(pair.a)).toEqual([]);
    pair.crash(pair.a);
    const [record, ...more] = records(pair.a);
    expect(more).toEqual([]);
    expect(record).toMatchObject({
      way: WAY.LOCAL,
      outcome: OUTCOME.UNKNOWN,
      texts: { caller: CALLER, hub: "a", node: "lamp", capability: "say" },
    });
    pair.crash(pair.a);
    expect(records(pair.a)).toHaveLength(1);
  });

  test("an owner that stopped while a peer's command ran says so once, with what it was", () => {
    const pair = new Pair();
    pair.deliver();
    pair.execute();
    pair.deliver();
    expect(pair.tasks).toHaveLength(1);
    pair.advance(150);
    pair.crash(pair.b);
    expect(records(pair.b)).toMatchObject([
      { way: WAY.RECEIVED, outcome: OUTCOME.UNKNOWN, texts: { caller: "a", hub: "b", node: "lamp", capability: "say" } },
    ]);
    pair.crash(pair.b);
    expect(records(pair.b)).toHaveLength(1);
  });

  test("BG3 an owner that stopped as soon as a peer's command ran knows whose it was, and its name", () => {
    const pair = new Pair();
    pair.deliver();
    pair.execute();
    pair.deliver();
    pair.crash(pair.b);
    expect(records(pair.b)).toMatchObject([
      { way: WAY.RECEIVED, outcome: OUTCOME.UNKNOWN, nameNumber: 1n, texts: { caller: "a", node: "" } },
    ]);
  });

  test("BG1 callers who take turns are told apart after a restart", () => {
    const pair = new Pair();
    pair.deliver();
    const callers = ["x", "x", "y", "x", "z", "z", "y"].map((name) => `spiffe://a/node/${name}`);
    for (const principal of callers) {
      const command = { hubId: "b", nodeId: "lamp", capability: "say", value: string("on"), timeoutMs: 1_000, key: "", hops: [] };
      pair.give(pair.a, { kind: "execute", client: 2, principal, commands: [{ ...command, corr: ++pair.corr }] });
    }
    pair.crash(pair.a);
    pair.settle();
    const kept = records(pair.a).sort((one, other) => Number(one.nameNumber - other.nameNumber));
    expect(kept.map(({ texts }) => texts.caller)).toEqual(callers);
  });

  test("WW3 the answer to a command for an own node leaves behind its record, and its task does not wait for that it has begun", () => {
    const pair = new Pair();
    const started = pair.a.give({
      kind: "execute",
      client: 2,
      principal: CALLER,
      commands: [{ corr: 1, hubId: "a", nodeId: "lamp", capability: "say", value: string("on"), timeoutMs: 1_000, key: "", hops: [] }],
    });
    expect(started.map(({ kind }) => kind)).toEqual(["tasks"]);
    expect(pair.a.early).toBe(1);
    const answered = pair.a.give({ kind: "reports", executor: 1, reports: [{ taskId: 1, value: NO_VALUE, failure: undefined }] });
    expect(answered.map(({ kind }) => kind)).toEqual(["reply"]);
    expect(pair.a.early).toBe(0);
    expect(records(pair.a)).toMatchObject([{ outcome: OUTCOME.DONE }]);
  });
});

describe("WW4 refusals", () => {
  const absent = (pair: Pair, count: number): void => {
    for (let i = 0; i < count; i++) pair.execute({ hubId: "a", nodeId: `no-such-${i}` });
  };

  test("each has a record while there are few, and a flood is counted, to the last", () => {
    const pair = new Pair({ auditRefusalsPerSecond: 5, auditRefusalsBurst: 10 });
    absent(pair, 1_000);
    pair.advance(1_000);
    const kept = records(pair.a);
    const each = kept.filter(({ suppressed }) => suppressed === 0n);
    expect(each).toHaveLength(10);
    expect(each[0]).toMatchObject({ outcome: OUTCOME.REJECTED, texts: { caller: CALLER, node: "no-such-0", reason: "NODE_NOT_FOUND" } });
    expect(kept.filter(({ suppressed }) => suppressed > 0n)).toMatchObject([{ suppressed: 990n, outcome: 0, texts: { caller: CALLER } }]);
    absent(pair, 3);
    expect(records(pair.a)).toHaveLength(14);
  });

  test("a caller who floods leaves others their records", () => {
    const pair = new Pair({ auditRefusalsPerSecond: 5, auditRefusalsBurst: 10 });
    absent(pair, 500);
    const denied: Input = {
      kind: "denied",
      principal: "spiffe://a/operator/view",
      failure: { reason: "ACCESS_DENIED", message: "no" },
      times: 3,
    };
    pair.give(pair.a, denied);
    expect(records(pair.a).at(-1)).toMatchObject({ texts: { caller: "spiffe://a/operator/view", reason: "ACCESS_DENIED" } });
    pair.advance(1_000);
    expect(records(pair.a).flatMap(({ suppressed, texts }) => (suppressed > 0n ? [[texts.caller, suppressed]] : []))).toEqual([
      [CALLER, 490n],
      ["spiffe://a/operator/view", 2n],
    ]);
  });

  test("while the store refuses nothing is written, and the count is told afterwards", () => {
    const pair = new Pair();
    pair.give(pair.a, { kind: "stored", ok: false, failure: { reason: "STORE_UNAVAILABLE", message: "full" }, unstored: [] });
    absent(pair, 50);
    pair.advance(5_000);
    expect(records(pair.a)).toEqual([]);
    pair.give(pair.a, { kind: "stored", ok: true, failure: undefined, unstored: [] });
    pair.advance(1_000);
    expect(records(pair.a)).toMatchObject([{ suppressed: 50n }]);
  });
});

describe("WW5 values", () => {
  test("those of secret capabilities are in no record, whatever becomes of the command", () => {
    const pair = new Pair();
    pair.deliver();
    for (const capability of ["pin_code", "whisper"])
      for (const hubId of ["a", "b"]) {
        pair.execute({ hubId, capability, value: string("hunter2") });
        pair.execute({ hubId, capability, value: string("hunter2"), key: `k-${capability}-${hubId}` });
      }
    // Refused, at different places; with an answer that repeats what was given.
    pair.execute({ hubId: "a", capability: "whisper", value: string("hunter2"), timeoutMs: 1e9 });
    pair.execute({ hubId: "a", capability: "unlock-code", value: string("hunter2") });
    pair.deliver();
    const task = pair.tasks.shift();
    if (task === undefined) throw new Error("nothing runs");
    const failure = { reason: "EXECUTOR_FAILED" as const, message: "hunter2 is wrong" };
    pair.give(task.hub, { kind: "reports", executor: 1, reports: [{ taskId: task.taskId, value: NO_VALUE, failure }] });
    pair.settle();
    for (const hub of [pair.a, pair.b]) {
      expect(records(hub).length).toBeGreaterThan(3);
      for (const { bytes } of hub.disk.read(AUDIT_LOG)) expect(Buffer.from(bytes).includes("hunter2")).toBe(false);
      expect(records(hub).every(({ hidden, value }) => hidden && value.length === 0)).toBe(true);
    }
  });

  test("others are cut to so many bytes, and the record says how many there were", () => {
    const pair = new Pair({ auditValueBytes: 16 });
    pair.execute({ hubId: "a", value: string("short") });
    pair.execute({ hubId: "a", value: string("x".repeat(3_000)) });
    pair.settle();
    expect(records(pair.a).map(({ value, valueBytes: length }) => [value.length, length])).toEqual([
      [string("short").length, 0],
      [16, string("x".repeat(3_000)).length],
    ]);
  });

  test.each([
    ["pin", true],
    ["PIN", true],
    ["doorPin", true],
    ["user_pin", true],
    ["pin_2", true],
    ["unlockCode", true],
    ["pincode", true],
    ["wifi_password", true],
    ["api_token", true],
    ["passphrase", true],
    ["state", false],
    ["brightness", false],
    ["pinned", false],
    ["color_temp", false],
    ["", false],
  ])("%s is secret: %s", (name, secret) => {
    expect(new SecretNames(AUDIT_SECRETS).has(name)).toBe(secret);
  });

  test("any pattern and any name are judged, and none takes long", () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 }), { maxLength: 8 }),
        fc.string({ unit: "binary", maxLength: 300 }),
        (patterns, name) => {
          expect(typeof new SecretNames(patterns).has(name)).toBe("boolean");
        },
      ),
    );
    expect(new SecretNames(["*a*a*a*a*b"]).has("a".repeat(127))).toBe(false);
  });
});

describe("WW6 records wait for telemetry", () => {
  test("what it has goes, what it has not stays, and beyond so many bytes the oldest go and their numbers are missing", () => {
    const pair = new Pair({ auditBytes: 64 * 1024 });
    const run = (count: number): void => {
      for (let i = 0; i < count; i++) {
        pair.execute({ hubId: "a" });
        pair.report();
      }
    };
    run(300);
    const { epoch } = batches(pair.a).at(-1) as AuditBatch;
    pair.give(pair.a, { kind: "audit-copied", epoch: Number(epoch), number: 200 });
    run(1);
    expect(Number(batches(pair.a)[0]?.first)).toBe(201);
    run(2_000);
    const first = Number(batches(pair.a)[0]?.first);
    expect(first).toBeGreaterThan(1_000);
    expect(records(pair.a).at(-1)?.number).toBe(2_301);
    pair.crash(pair.a);
    run(1);
    expect(records(pair.a).at(-1)?.number).toBe(2_302);
    expect(Number(batches(pair.a).at(-1)?.epoch)).toBeGreaterThan(Number(epoch));
  });
});

test("a batch is what the schema says, whatever the texts", () => {
  const text = fc.oneof(fc.string({ unit: "binary", maxLength: 300 }), fc.constantFrom("", "spiffe://a/node/x", "\u202egnp", "\u{1f6a8}"));
  const number = fc.maxSafeNat();
  const record: fc.Arbitrary<AuditRecord> = fc.record({
    way: fc.constantFrom(...Object.values(WAY)),
    outcome: fc.integer({ min: 0, max: 5 }),
    wallMs: fc.nat(2 ** 48),
    durationMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
    caller: text,
    hub: text,
    node: text,
    capability: text,
    value: fc.uint8Array({ maxLength: 64 }),
    valueBytes: fc.nat(20_000),
    hidden: fc.boolean(),
    reason: text,
    message: text,
    nameEpoch: number,
    nameNumber: number,
    key: text,
    suppressed: number,
  });
  const writer = new BatchWriter();
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 20 }), number, number, (all, epoch, first) => {
      for (const one of all) writer.add(one);
      const bytes = writer.take(epoch, first);
      expect(readHead(bytes)).toEqual({ epoch, first, count: all.length });
      const batch = fromBinary(AuditBatchSchema, bytes);
      expect(batch.$unknown).toBe(undefined);
      expect(shown(batch)).toMatchObject(
        all.map(({ way, outcome, wallMs, value, hidden, nameNumber, suppressed }) => ({
          way,
          outcome,
          wallMs: BigInt(wallMs),
          value: new Uint8Array(value),
          hidden,
          nameNumber: BigInt(nameNumber),
          suppressed: BigInt(suppressed),
        })),
      );
      for (const [i, { caller, node }] of all.entries()) {
        const { texts } = shown(batch)[i] as Shown;
        // What is no text of Unicode, or too long, is cut or replaced, never refused.
        if (caller.isWellFormed() && caller.length < 60) expect(texts.caller).toBe(caller);
        if (node.isWellFormed() && node.length < 60) expect(texts.node).toBe(node);
      }
    }),
  );
});
