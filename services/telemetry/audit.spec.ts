import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import type { Event } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { printable } from "#kernel/printable.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { type AuditRecord, BatchWriter, WAY } from "../command-forwarding/audit/batch.ts";
import { auditBatchFrom, filterFromProto, happeningCodec, wantedBy } from "./codec/events.ts";
import { shownValue } from "./codec/shown-value.ts";
import { AUDIT_KEY, META_SPACE, TelemetryCore } from "./core.ts";
import { SUMMARY_SPACE, TAIL_LOG } from "./log/event-log.ts";
import type { Effect, HappeningFilter, Input } from "./messages.ts";
import { EventReader } from "./shell/event-reader.ts";

const WALL = 1_800_000_000_000;
const NOW = { mono: 0, wall: WALL };
const ALL = filterFromProto(undefined);
const ON = Uint8Array.of(0x22, 2, 0x4f, 0x4e);
const RECORD: AuditRecord = {
  way: WAY.LOCAL,
  outcome: 1,
  wallMs: WALL,
  durationMs: 1.5,
  caller: "spiffe://home/operator/admin",
  hub: "home",
  node: "lamp",
  capability: "state",
  value: ON,
  valueBytes: 0,
  hidden: false,
  reason: "",
  message: "",
  nameEpoch: 7,
  nameNumber: 1,
  key: "",
  suppressed: 0,
};
const writer = new BatchWriter();

function batch(epoch: number, first: number, ...records: Partial<AuditRecord>[]): Uint8Array {
  for (const record of records) writer.add({ ...RECORD, ...record });
  return writer.take(epoch, first);
}

class Stage {
  readonly store: MemoryStore;
  readonly reader: EventReader;
  core: TelemetryCore;

  constructor(store = new MemoryStore()) {
    this.store = store;
    this.reader = new EventReader(store, systemClock, "home");
    this.core = this.#boot();
  }

  #boot(): TelemetryCore {
    const core = new TelemetryCore({ codec: happeningCodec, retention: { events: 1e6, bytes: 2 ** 40, ms: 2 ** 45 }, watchers: 8 });
    const [tail, summaries] = [this.store.read(TAIL_LOG, 0), this.store.space(SUMMARY_SPACE)];
    core.restore({ tail, summaries, legacy: [], audit: this.store.get(META_SPACE, AUDIT_KEY) });
    return core;
  }

  drive(input: Input, durable = true): Effect[] {
    const out: Effect[] = [];
    this.core.step(NOW, input, out);
    for (const effect of out) if (durable && effect.kind === "persist") expect(this.store.commit(effect.ops)).toEqual({ ok: true });
    return out;
  }

  /** restart is a crash: what was not committed is gone. */
  restart(): void {
    this.core = this.#boot();
  }

  copy(batches: readonly Uint8Array[], durable = true): { readonly epoch: number; readonly number: number } {
    const answer = this.drive({ kind: "copy", call: 1, batches: batches.map(auditBatchFrom) }, durable).find(
      ({ kind }) => kind === "copied",
    );
    if (answer?.kind !== "copied") throw new Error("nothing was answered");
    return answer;
  }

  async list(filter: Partial<HappeningFilter> = {}): Promise<Event[]> {
    const events: Event[] = [];
    const whole = { ...ALL, ...filter };
    for (let beforeSeq = 0; ; ) {
      const listed = this.drive({ kind: "list", call: 1, wanted: wantedBy(whole), beforeSeq }).find(({ kind }) => kind === "listed");
      if (listed?.kind !== "listed") throw new Error("nothing was listed");
      const page = await this.reader.page(listed, whole, beforeSeq, 100);
      events.push(...page.events);
      beforeSeq = page.nextBeforeSeq;
      if (beforeSeq === 0) return events;
    }
  }
}

describe("TE7 records of the audit", () => {
  test("each is kept once, whatever comes twice, is cut off, or is lost in a crash", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ records: fc.integer({ min: 1, max: 5 }), again: fc.nat(6), restarts: fc.boolean(), durable: fc.boolean() }), {
          maxLength: 40,
        }),
        async (acts) => {
          const stage = new Stage();
          const sent: Uint8Array[] = [];
          let next = 1;
          let epoch = 1;
          for (const { records, again, restarts, durable } of acts) {
            if (restarts) epoch++;
            sent.push(batch(epoch, next, ...Array.from({ length: records }, (_, i) => ({ nameNumber: next + i }))));
            next += records;
            // The source begins where it thinks that telemetry is, or a little before.
            if (!durable) {
              stage.copy(sent.slice(-1 - again), false);
              stage.restart();
            }
            expect(stage.copy(sent.slice(-20))).toMatchObject({ epoch, number: next - 1 });
            if (restarts) stage.restart();
          }
          const numbers = (await stage.list()).map(({ command }) => Number(command?.number)).reverse();
          expect(numbers).toEqual(Array.from({ length: next - 1 }, (_, i) => i + 1));
        },
      ),
      { numRuns: 50 },
    );
  });

  test("TE5 those that are missing become an event, and so does a journal that was lost or restored", async () => {
    const stage = new Stage();
    stage.copy([batch(5, 1, {}, {})]);
    stage.copy([batch(5, 10, {})]);
    stage.copy([batch(6, 4, {})]);
    const texts = (await stage.list({ kinds: [14] })).map(({ text }) => text);
    expect(texts).toEqual([
      "the audit of commands goes on at number 4 after 10: its store was lost or restored",
      "7 records of the audit of commands are missing",
    ]);
    expect(await stage.list({ kinds: [7] })).toHaveLength(4);
  });

  test("while the store refuses they stay where they are", () => {
    const stage = new Stage();
    stage.drive({ kind: "stored", ok: false, failure: { reason: "STORE_UNAVAILABLE", message: "full" } });
    expect(stage.drive({ kind: "copy", call: 1, batches: [auditBatchFrom(batch(1, 1, {}))] })).toMatchObject([{ kind: "declined" }]);
  });

  test("what is no batch is refused with a reason, whatever the bytes", () => {
    const good = batch(1, 1, {}, { node: "x" });
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255) }).map(({ at, byte }) => good.with(at, byte)),
      fc.nat(good.length).map((length) => good.subarray(0, length)),
    );
    fc.assert(
      fc.property(bytes, (made) => {
        try {
          const stage = new Stage();
          stage.copy([made]);
          const row = happeningCodec.row([auditBatchFrom(made)]);
          expect(row.part.count).toBeGreaterThan(0);
        } catch (error) {
          expect(error instanceof FoedusError && error.failure.reason).toBe("INVALID_FIELD");
        }
      }),
    );
  });
});

describe("questions", () => {
  const nodes = ["lamp", "door", "heater"];
  const callers = ["spiffe://home/operator/admin", "spiffe://home/node/switch", "automation:rules", "factory"];

  test("every filter finds what it should, through segments and the tail, and nothing else", async () => {
    const stage = new Stage();
    const all: AuditRecord[] = [];
    for (let i = 0; i < 3_000; i++) {
      const received = i % 4 === 3;
      all.push({
        ...RECORD,
        way: received ? WAY.RECEIVED : i % 4 === 2 ? WAY.FORWARDED : WAY.LOCAL,
        caller: callers[i % 4] as string,
        hub: i % 4 === 2 ? "lab" : "home",
        node: nodes[i % 3] as string,
        outcome: 1 + (i % 5),
        wallMs: WALL + i * 1_000,
        nameNumber: i + 1,
        // One key in a while, so that most segments have it not.
        key: i % 700 === 0 ? `key-${i}` : "",
      });
    }
    for (let from = 0; from < all.length; from += 50) stage.copy([batch(9, from + 1, ...all.slice(from, from + 50))]);
    expect(stage.core.describe()).toMatch(/segments=[3-9]/);
    const naive = (wanted: (record: AuditRecord) => boolean): number[] =>
      all.flatMap((record, i) => (wanted(record) ? [i + 1] : [])).reverse();
    const found = async (filter: Partial<HappeningFilter>): Promise<number[]> =>
      (await stage.list(filter)).map(({ command }) => Number(command?.number));
    const cases: [Partial<HappeningFilter>, (record: AuditRecord) => boolean][] = [
      [{}, () => true],
      [{ node: "home/lamp" }, ({ hub, node }) => hub === "home" && node === "lamp"],
      [{ node: "lab/door" }, ({ hub, node }) => hub === "lab" && node === "door"],
      [{ node: "lab/nothing" }, () => false],
      [{ caller: "admin" }, ({ caller }) => caller.endsWith("/admin")],
      [{ caller: "operator/admin" }, ({ caller }) => caller.endsWith("/admin")],
      [{ caller: "rules" }, ({ caller }) => caller === "automation:rules"],
      [{ caller: "automation/rules" }, ({ caller }) => caller === "automation:rules"],
      [{ caller: "factory" }, ({ caller }) => caller === "factory"],
      [{ caller: "hub/factory" }, ({ caller }) => caller === "factory"],
      [{ caller: "nobody" }, () => false],
      [{ peer: "factory" }, ({ caller }) => caller === "factory"],
      [{ peer: "lab" }, ({ hub }) => hub === "lab"],
      [{ outcomes: [2, 5] }, ({ outcome }) => outcome === 2 || outcome === 5],
      [{ minSeverity: 3 }, ({ outcome }) => outcome === 5],
      [{ sinceMs: WALL + 100_000, untilMs: WALL + 200_000 }, ({ wallMs }) => wallMs >= WALL + 100_000 && wallMs < WALL + 200_000],
      [{ command: "home/7/1001" }, ({ nameNumber, way }) => nameNumber === 1_001 && way !== WAY.RECEIVED],
      [{ command: "factory/7/1000" }, ({ nameNumber, way }) => nameNumber === 1_000 && way === WAY.RECEIVED],
      [{ command: "key-1400" }, ({ key }) => key === "key-1400"],
      [
        { kinds: [7], node: "home/door", outcomes: [1], caller: "admin" },
        ({ hub, node, outcome, caller }) => hub === "home" && node === "door" && outcome === 1 && caller.endsWith("/admin"),
      ],
      [{ kinds: [3] }, () => false],
    ];
    for (const [filter, wanted] of cases) expect(await found(filter), JSON.stringify(filter)).toEqual(naive(wanted));
  });

  test("an event says who did what, and what became of it", async () => {
    const stage = new Stage();
    stage.copy([
      batch(
        9,
        1,
        {},
        {
          way: WAY.RECEIVED,
          caller: "factory",
          outcome: 3,
          reason: "ACCESS_DENIED",
          message: "not shared",
          hidden: true,
          value: new Uint8Array(),
        },
        { way: WAY.NONE, outcome: 0, caller: "spiffe://home/gateway/mad", suppressed: 990, node: "", hub: "", nameNumber: 0 },
        {
          way: WAY.NONE,
          outcome: 3,
          caller: "spiffe://home/operator/view",
          reason: "ACCESS_DENIED",
          message: "no role",
          node: "",
          hub: "",
          nameNumber: 0,
        },
      ),
    ]);
    const [denied, counted, received, local] = await stage.list();
    expect(local).toMatchObject({
      text: 'operator/admin: state of home/lamp = "ON": done',
      node: "home/lamp",
      command: { caller: "operator/admin", callerHub: "home", way: 1, value: '"ON"', outcome: 1, durationUs: 1_500n, name: "home/7/1" },
    });
    expect(received).toMatchObject({
      text: "hub/factory: state of home/lamp = (hidden): rejected (ACCESS_DENIED: not shared)",
      peer: "factory",
      command: { caller: "hub/factory", callerHub: "factory", valueHidden: true, value: "", name: "factory/7/1" },
    });
    expect(counted).toMatchObject({
      severity: 3,
      text: "990 more refused commands of gateway/mad were counted only",
      command: { suppressed: 990n },
    });
    expect(denied?.text).toBe("a command of operator/view was refused before it was read (ACCESS_DENIED: no role)");
  });

  test("nothing in a name, a reason or a value can pass for anything but text", async () => {
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 255 }),
      fc.constantFrom("\u202elamp", "\u001b[2J", "<script>", "a\nb", "\u{e0041}", "\ud800"),
    );
    await fc.assert(
      fc.asyncProperty(text, text, text, fc.uint8Array({ maxLength: 64 }), fc.boolean(), async (node, caller, message, value, cut) => {
        const stage = new Stage();
        stage.copy([
          batch(9, 1, { node, caller, message, capability: node, reason: message, value, valueBytes: cut ? 5_000 : 0, outcome: 2 }),
        ]);
        const [event] = await stage.list();
        expect(event?.text).toBe(printable(event?.text ?? ""));
        expect(event?.command?.value).toBe(printable(event?.command?.value ?? ""));
        expect(Buffer.byteLength(event?.text ?? "")).toBeLessThanOrEqual(1_024);
        expect((event?.command?.value ?? "").length).toBeLessThan(4_000);
      }),
    );
  });
});

test.each([
  [[0x08, 1], "true"],
  [[0x08], "false"],
  [[0x10, 0x05], "-3"],
  [[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "-9223372036854775808"],
  [[0x19, 0, 0, 0, 0, 0, 0x80, 0x35, 0x40], "21.5"],
  [[...ON], '"ON"'],
  [[0x2a, 2, 0, 0xff], "0x00ff"],
  [[0x32, 2, 0x7b, 0x7d], "{}"],
  [[], ""],
  [[0x22, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], ""],
] as const)("the value %j is shown as %s", (bytes, text) => {
  expect(shownValue(Uint8Array.from(bytes), false)).toBe(text);
});
