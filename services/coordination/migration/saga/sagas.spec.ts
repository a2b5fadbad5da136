import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../../../test/fakes/memory-store.ts";
import { feedKeyOf, simCrypto } from "../../../../test/simulator/crypto.ts";
import { type Checkpoint, joinChunks, type Laid, type ManifestHead, missingIn, signCheckpoint, wholeOf } from "../checkpoint/checkpoint.ts";
import { parcelsOf } from "../checkpoint/parcel.ts";
import { claimBytes } from "../claim.ts";
import type { Claim, Migration, Step } from "../messages.ts";
import { stepAt } from "../messages.ts";
import { DestinationSaga } from "./destination.ts";
import type { DestinationEffect, DestinationInput } from "./destination-messages.ts";
import { chunkSpace, readRecord, recordSpace, type Seen } from "./saga.ts";
import { SOURCE_SETTINGS, SourceSaga } from "./source.ts";
import type { SourceEffect, SourceInput } from "./source-messages.ts";

const ID = { transfer: 7, agent: "counter", fence: 3, from: "home", to: "factory" } as const;
const HEAD: ManifestHead = { ...ID, round: 1, final: false };
const NODE = simCrypto("node counter");
const TIMES = { againMs: 100, windowBytes: 64 * 1024 };
const AGREED = 300_000;

function memoryOf(seed: number, length = 200_000): Uint8Array {
  return Uint8Array.from({ length }, (_none, at) => (Math.imul(at + seed * 7919, 0x9e3779b1) >>> 9) & 0xff);
}
const checkpointOf = (seed: number, length?: number): Checkpoint => ({
  memory: memoryOf(seed, length),
  context: new Uint8Array(9),
  progress: 1,
  dependencies: [],
});

/** seenAt is the log at a step. */
function seenAt(step: Step, more: Partial<Migration> = {}, owner = stepAt(step) >= stepAt("CONFIRM") ? "factory" : "home"): Seen {
  const migration: Migration = {
    ...ID,
    by: "office",
    why: "",
    step,
    status: stepAt(step) < stepAt("CONFIRM") ? "open" : step === "CONFIRM" ? "committed" : "released",
    stepMs: 1_000,
    deadline: 0,
    times: [],
    bytes: stepAt(step) === 0 ? 0 : AGREED,
    sealingKey: stepAt(step) < stepAt("ACCEPT") ? new Uint8Array(0) : new Uint8Array(32),
    until: 0,
    digest: new Uint8Array(0),
    claim: new Uint8Array(0),
    index: 1,
    cause: undefined,
    message: "",
    ...more,
  };
  const fence = owner === "home" ? 3 : 4;
  const agent = { agent: "counter", owner, fence, nodeKey: feedKeyOf("node counter"), since: 0, lost: false };
  return { index: stepAt(step), linear: true, agent, migration };
}

/** Side drives one saga and its store. */
class Side<I, E extends { readonly kind: string }> {
  readonly store: MemoryStore;
  saga: { step(now: { mono: number; wall: number }, input: I, out: E[]): void; tick(now: { mono: number; wall: number }, out: E[]): void };
  mono = 0;

  constructor(saga: Side<I, E>["saga"], store = new MemoryStore()) {
    this.saga = saga;
    this.store = store;
  }

  do(input: I): E[] {
    return this.#kept((out) => this.saga.step({ mono: this.mono, wall: this.mono }, input, out));
  }

  wait(ms: number): E[] {
    this.mono += ms;
    return this.#kept((out) => this.saga.tick({ mono: this.mono, wall: this.mono }, out));
  }

  #kept(step: (out: E[]) => void): E[] {
    const out: E[] = [];
    step(out);
    for (const effect of out) if (effect.kind === "persist") void this.store.commit((effect as unknown as { ops: [] }).ops);
    return out.filter(({ kind }) => kind !== "persist");
  }

  stored(side: "source" | "destination") {
    const record = readRecord(this.store.get(recordSpace(side), "7")!);
    return { record, chunks: new Map([...this.store.space(chunkSpace(side, 7))].map(({ key, bytes }) => [key, bytes] as const)) };
  }
}

const keys = { source: feedKeyOf("home"), sealing: new Uint8Array(32) };
const kinds = (effects: readonly { readonly kind: string }[]): string[] => effects.map(({ kind }) => kind);

function destinationAt(step: Step): Side<DestinationInput, DestinationEffect> {
  const side = new Side<DestinationInput, DestinationEffect>(new DestinationSaga(ID, simCrypto("factory"), keys, TIMES));
  side.do({ kind: "log", seen: seenAt("ACCEPT") });
  side.do({ kind: "log", seen: seenAt(step) });
  return side;
}

function manifestFrame(head: Partial<ManifestHead>, checkpoint: Checkpoint, by = "home") {
  const signed = signCheckpoint(simCrypto(by), { ...HEAD, ...head }, checkpoint);
  const { agent, from, to, transfer } = ID;
  const claim =
    head.final === true ? NODE.sign(claimBytes({ agent, from, to, transfer, fence: 4, digest: signed.digest })) : new Uint8Array(0);
  const frame = { kind: "manifest", transfer: 7, bytes: signed.bytes, signature: signed.signature, claim } as const;
  return { signed, frame };
}

/** asked is what a destination says is missing. */
const asked = (effects: readonly DestinationEffect[]): readonly number[] =>
  effects.flatMap((effect) => (effect.kind === "send" && effect.frame.kind === "missing" ? effect.frame.numbers : []));

/** feed answers until nothing is missing, or as often as is said. */
function feed(
  side: Side<DestinationInput, DestinationEffect>,
  signed: ReturnType<typeof manifestFrame>["signed"],
  first: readonly number[],
  windows = 99,
) {
  let numbers = first;
  let last: DestinationEffect[] = [];
  for (let window = 0; window < windows && numbers.length > 0; window++) {
    const next: number[] = [];
    for (const parcel of parcelsOf(signed.manifest, numbers)) {
      const raw = joinChunks(signed.manifest, parcel, signed.content)!;
      const round = signed.manifest.round;
      const opening = side.do({
        kind: "frame",
        frame: { kind: "parcel", transfer: 7, round, numbers: parcel, enc: new Uint8Array(32), sealed: raw },
      });
      expect(kinds(opening)).toEqual(["open"]);
      last = side.do({ kind: "opened", round, numbers: parcel, raw });
      next.push(...asked(last));
    }
    numbers = next;
  }
  return last;
}

describe("the destination", () => {
  test("PROTOCOL G9 MX3 takes no manifest but one of the source, of this transfer, with a claim when it is final", () => {
    const bad: Parameters<typeof manifestFrame>[] = [
      [{}, checkpointOf(1), "mallory"],
      [{ transfer: 8 }, checkpointOf(1)],
      [{ fence: 2 }, checkpointOf(1)],
      [{ agent: "other" }, checkpointOf(1)],
      [{ from: "office" }, checkpointOf(1)],
      [{ to: "office" }, checkpointOf(1)],
      [{}, checkpointOf(1, AGREED)],
    ];
    for (const args of bad) {
      const side = destinationAt("CHECKPOINT");
      expect(kinds(side.do({ kind: "frame", frame: manifestFrame(...args).frame }))).toEqual(["observe"]);
    }
    const { frame } = manifestFrame({ final: true }, checkpointOf(1));
    expect(kinds(destinationAt("CHECKPOINT").do({ kind: "frame", frame: { ...frame, claim: new Uint8Array(0) } }))).toEqual(["observe"]);
    expect(kinds(destinationAt("CHECKPOINT").do({ kind: "frame", frame }))).toEqual(["send"]);
  });

  test("PROTOCOL G9 MX4 holds no more than was agreed, round after round, and opens no more than it asked for", () => {
    const side = destinationAt("CHECKPOINT");
    const saga = side.saga as DestinationSaga;
    for (let round = 1; round < 8; round++) {
      const { frame, signed } = manifestFrame({ round }, checkpointOf(round));
      const numbers = asked(side.do({ kind: "frame", frame }));
      feed(side, signed, numbers);
      expect(saga.heldBytes).toBe(200_009);
      expect([...side.store.space(chunkSpace("destination", 7))].reduce((sum, { bytes }) => sum + bytes.length, 0)).toBe(200_009);
      // Twice, unasked, too long: nothing is opened.
      for (const extra of [numbers.slice(0, 1), [numbers.at(-1)!]])
        expect(
          kinds(
            side.do({
              kind: "frame",
              frame: { kind: "parcel", transfer: 7, round, numbers: extra, enc: new Uint8Array(32), sealed: new Uint8Array(9) },
            }),
          ),
        ).toEqual(["observe"]);
    }
  });

  test("a transfer that is resumed asks for what is missing only, and a changed chunk in it is refused", () => {
    const first = destinationAt("CHECKPOINT");
    const { frame, signed } = manifestFrame({}, checkpointOf(1));
    feed(first, signed, asked(first.do({ kind: "frame", frame })), 1);
    const stored = first.stored("destination");
    const again = new Side<DestinationInput, DestinationEffect>(
      new DestinationSaga(ID, simCrypto("factory"), keys, TIMES, stored),
      first.store,
    );
    again.do({ kind: "log", seen: seenAt("CHECKPOINT") });
    const missing = missingIn(signed.manifest, stored.chunks);
    expect(missing.length).toBeLessThan(signed.manifest.chunks.length);
    let numbers = asked(again.wait(100));
    expect(numbers).toEqual(missing.slice(0, numbers.length));
    let effects: DestinationEffect[] = [];
    for (let strike = 1; strike <= 8; strike++) {
      const [parcel] = parcelsOf(signed.manifest, numbers) as [number[]];
      const raw = joinChunks(signed.manifest, parcel, signed.content)!.slice();
      raw[3]! ^= 1;
      again.do({ kind: "frame", frame: { kind: "parcel", transfer: 7, round: 1, numbers: parcel, enc: new Uint8Array(32), sealed: raw } });
      effects = again.do({ kind: "opened", round: 1, numbers: parcel, raw });
      expect(missingIn(signed.manifest, again.stored("destination").chunks)).toEqual(missing);
      if (strike === 8) break;
      numbers = asked(again.wait(100));
      expect(numbers.length).toBeGreaterThan(0);
    }
    expect(effects.find(({ kind }) => kind === "propose")).toMatchObject({ command: { kind: "abort", cause: "CHECKPOINT" } });
  });

  /** complete is a destination with the final checkpoint. */
  function complete() {
    const side = destinationAt("CHECKPOINT");
    const { frame, signed } = manifestFrame({ final: true }, checkpointOf(1));
    const effects = feed(side, signed, asked(side.do({ kind: "frame", frame })));
    return { side, signed, proposed: effects.filter(({ kind }) => kind === "propose") };
  }

  test("MX2 proposes CONFIRM for the final checkpoint that it holds: once before it has read TRANSFER, and then for what TRANSFER names", () => {
    const { side, signed, proposed } = complete();
    const confirm = { command: { kind: "confirm", fence: 4, digest: signed.digest } };
    expect(proposed).toMatchObject([confirm]);
    expect(kinds([...side.wait(5_000), ...side.do({ kind: "too_early" }), ...side.wait(5_000)])).not.toContain("propose");
    const other = new Uint8Array(32).fill(1);
    expect(kinds(side.do({ kind: "log", seen: seenAt("TRANSFER", { digest: other }) }))).not.toContain("propose");
    const right = side.do({ kind: "log", seen: seenAt("TRANSFER", { digest: signed.digest }) });
    expect(right.find(({ kind }) => kind === "propose")).toMatchObject(confirm);
  });

  test("MX2 does not propose CONFIRM twice while it may be on its way, and again as soon as it was refused", () => {
    const { side, signed } = complete();
    const seen = seenAt("TRANSFER", { digest: signed.digest });
    expect(kinds(side.do({ kind: "log", seen }))).not.toContain("propose");
    expect(kinds(side.do({ kind: "too_early" }))).toContain("propose");
    expect(kinds(side.do({ kind: "too_early" }))).not.toContain("propose");
  });

  test("MX1 starts nothing before it has read the commit, linearly, with itself as owner", () => {
    const { side, signed } = complete();
    const digest = { digest: signed.digest };
    for (const seen of [
      seenAt("TRANSFER", digest),
      { ...seenAt("CONFIRM", digest), linear: false },
      seenAt("CONFIRM", digest, "home"),
      { ...seenAt("CONFIRM", digest), agent: { ...seenAt("CONFIRM").agent!, lost: true } },
    ])
      expect(kinds(side.do({ kind: "log", seen }))).not.toContain("start");
    const effects = side.do({ kind: "log", seen: seenAt("CONFIRM", digest) });
    expect(effects.find(({ kind }) => kind === "start")).toMatchObject({ fence: 4 });
    expect(kinds(side.do({ kind: "started" }))).toEqual(["gate", "observe", "send"]);
  });

  test("MX4 holds nothing any more once the program has the agent, though the source never says that it knows", () => {
    const { side, signed } = complete();
    const saga = side.saga as DestinationSaga;
    side.do({ kind: "log", seen: seenAt("CONFIRM", { digest: signed.digest }) });
    expect(saga.heldBytes).toBeGreaterThan(0);
    side.do({ kind: "started" });
    expect(saga.heldBytes).toBe(0);
    expect([...side.store.space(chunkSpace("destination", 7))]).toEqual([]);
  });

  test("MX8 shows the program each round that is whole, once, and starts nothing by that; what changed is all that differs", () => {
    const side = destinationAt("CHECKPOINT");
    const shown: Laid[] = [];
    for (const round of [1, 2]) {
      const { frame, signed } = manifestFrame({ round, final: round === 2 }, checkpointOf(round));
      const effects = feed(side, signed, asked(side.do({ kind: "frame", frame })));
      shown.push(...effects.flatMap((effect) => (effect.kind === "stage" ? [effect.checkpoint] : [])));
      expect(kinds([...effects, ...side.wait(200), ...side.do({ kind: "frame", frame })])).not.toContain("start");
    }
    expect(shown.map((laid) => wholeOf(laid).memory)).toEqual([memoryOf(1), memoryOf(2)]);
    expect(kinds(side.do({ kind: "log", seen: seenAt("TRANSFER", { status: "aborted" }) }))).toContain("unstage");
  });

  test.each(["PREPARE", "CHECKPOINT", "TRANSFER", "CONFIRM"] as const)("MX7 takes again all that was lost with its store at %s", (step) => {
    const side = new Side<DestinationInput, DestinationEffect>(new DestinationSaga(ID, simCrypto("factory"), keys, TIMES));
    const { frame, signed } = manifestFrame({ final: true }, checkpointOf(1));
    const digest = stepAt(step) < stepAt("TRANSFER") ? {} : { digest: signed.digest };
    side.do({ kind: "log", seen: seenAt(step, digest) });
    feed(side, signed, asked(side.do({ kind: "frame", frame })));
    const started = side.do({ kind: "log", seen: seenAt("CONFIRM", { digest: signed.digest }) });
    const effects = step === "CONFIRM" ? side.wait(200) : started;
    expect(effects.find(({ kind }) => kind === "start")).toMatchObject({ fence: 4 });
  });

  test("MX6 does not start what has run here before its store was set back", () => {
    const { side, signed } = complete();
    const effects = side.do({ kind: "log", seen: seenAt("RELEASE", { digest: signed.digest }) });
    expect(kinds(effects)).toEqual(["observe", "unstage", "over"]);
    expect(effects.at(-1)).toMatchObject({ outcome: "stale" });
  });

  test("an abort takes everything away", () => {
    const { side } = complete();
    expect(kinds(side.do({ kind: "log", seen: seenAt("TRANSFER", { status: "aborted" }) }))).toEqual(["unstage", "over"]);
    expect([...side.store.space(chunkSpace("destination", 7))]).toEqual([]);
    expect(side.store.get(recordSpace("destination"), "7")).toBeUndefined();
  });
});

/** sourceAt is a source that was told so far. */
function sourceAt(step: Step, settings = SOURCE_SETTINGS): Side<SourceInput, SourceEffect> {
  const side = new Side<SourceInput, SourceEffect>(new SourceSaga(ID, simCrypto("home"), { ...settings, ...TIMES }));
  side.do({ kind: "log", seen: seenAt(step) });
  return side;
}

describe("the source", () => {
  /** rounds lets the source send rounds that bring so many bytes each, and answers how many it made until it froze the agent. */
  function rounds(sizes: readonly number[]): number {
    const side = sourceAt("CHECKPOINT", { ...SOURCE_SETTINGS, enoughBytes: 1_000 });
    for (const [at, size] of sizes.entries()) {
      side.do({ kind: "captured", round: at + 1, checkpoint: checkpointOf(at + 1, size) });
      const effects = side.do({ kind: "frame", frame: { kind: "have", transfer: 7, round: at + 1 } });
      const capture = effects.find((effect) => effect.kind === "capture");
      if (capture?.kind === "capture" && capture.freeze) return at + 1;
    }
    return sizes.length;
  }

  test("MS6 ends its rounds when they bring little, do not shrink, or are too many", () => {
    expect(rounds([900])).toBe(1);
    expect(rounds([200_000, 900])).toBe(2);
    expect(rounds([200_000, 190_000])).toBe(2);
    expect(rounds([200_000, 120_000, 72_000, 43_000, 26_000, 15_000, 9_000])).toBe(6);
  });

  /** frozen is a source with its final checkpoint, whose TRANSFER is not decided. */
  function frozen() {
    const side = sourceAt("CHECKPOINT", { ...SOURCE_SETTINGS, rounds: 1 });
    side.do({ kind: "captured", round: 1, checkpoint: checkpointOf(1) });
    const freezing = side.do({ kind: "frame", frame: { kind: "have", transfer: 7, round: 1 } });
    expect(kinds(freezing)).toEqual(["gate", "capture"]);
    expect(side.stored("source").record.phase).toBe("freezing");
    const [, claim] = side.do({ kind: "captured", round: 2, checkpoint: checkpointOf(2) });
    expect(claim).toMatchObject({ kind: "claim" });
    const effects = side.do({ kind: "claimed", round: 2, claim: NODE.sign(claimBytes((claim as { claim: Claim }).claim)) });
    const transfer = effects.find(({ kind }) => kind === "propose") as { command: { digest: Uint8Array } };
    return { side, effects, digest: transfer.command.digest };
  }

  test("MS1 MS2 stores that the agent is being frozen before it stops it, and the checkpoint before it says TRANSFER", () => {
    const { side, effects } = frozen();
    expect(kinds(effects)).toEqual(["observe", "propose", "send"]);
    expect(side.stored("source")).toMatchObject({ record: { phase: "frozen", round: 2 } });
    expect(side.stored("source").chunks.size).toBeGreaterThan(1);
  });

  test("MP1 what the destination does not have goes by itself behind the manifest, and again when it asks twice", () => {
    const side = sourceAt("CHECKPOINT", { ...SOURCE_SETTINGS, rounds: 1 });
    const seal = (effects: readonly SourceEffect[]) => effects.flatMap((effect) => (effect.kind === "seal" ? [effect] : []));
    const sealed = (effects: readonly SourceEffect[]): SourceEffect[] =>
      seal(effects).flatMap(({ round, numbers, key, raw }) => side.do({ kind: "sealed", round, numbers, enc: key, sealed: raw }));
    const sent = (effects: readonly SourceEffect[]) => effects.flatMap((effect) => (effect.kind === "send" ? [effect.frame.kind] : []));
    const early = (effects: readonly SourceEffect[]) => effects.flatMap((effect) => (effect.kind === "send" ? [effect.early] : []));
    // What is copied while the agent runs waits for no disk; what is final is stored before it leaves.
    expect(early(side.do({ kind: "captured", round: 1, checkpoint: checkpointOf(1) }))).toEqual([true]);
    side.do({ kind: "frame", frame: { kind: "have", transfer: 7, round: 1 } });
    const changed = checkpointOf(1).memory.slice();
    changed[7]! ^= 1;
    const captured = side.do({ kind: "captured", round: 2, checkpoint: { ...checkpointOf(1), memory: changed } });
    expect(seal(captured).flatMap(({ numbers }) => numbers)).toEqual([0]);
    expect(sent(sealed(captured))).toEqual([]);
    const claim = captured.find((effect) => effect.kind === "claim") as { claim: Claim };
    const claimed = side.do({ kind: "claimed", round: 2, claim: NODE.sign(claimBytes(claim.claim)) });
    expect([sent(claimed), early(claimed)]).toEqual([
      ["manifest", "parcel"],
      [false, false],
    ]);
    const ask = { kind: "frame", frame: { kind: "missing", transfer: 7, round: 2, numbers: [0] } } as const;
    expect(seal(side.do(ask))).toEqual([]);
    expect(sent(sealed(side.do(ask)))).toEqual(["parcel"]);
  });

  test("reads the agent while the destination makes room, and sends nothing before it has", () => {
    const side = sourceAt("VALIDATE");
    const first = new SourceSaga(ID, simCrypto("home"), SOURCE_SETTINGS);
    const out: SourceEffect[] = [];
    first.step({ mono: 0, wall: 0 }, { kind: "log", seen: seenAt("VALIDATE") }, out);
    expect(kinds(out)).toEqual(["capture"]);
    expect(kinds(side.do({ kind: "captured", round: 1, checkpoint: checkpointOf(1) }))).toEqual(["observe"]);
    expect(new Set(kinds(side.do({ kind: "log", seen: seenAt("ACCEPT") })))).toEqual(new Set(["seal"]));
    expect(kinds(side.do({ kind: "log", seen: seenAt("PREPARE") }))).toEqual(["propose", "send"]);
  });

  test("a claim that is not the agent's ends the move", () => {
    const side = sourceAt("CHECKPOINT", { ...SOURCE_SETTINGS, rounds: 1 });
    side.do({ kind: "captured", round: 1, checkpoint: checkpointOf(1) });
    side.do({ kind: "frame", frame: { kind: "have", transfer: 7, round: 1 } });
    side.do({ kind: "captured", round: 2, checkpoint: checkpointOf(2) });
    const effects = side.do({ kind: "claimed", round: 2, claim: new Uint8Array(64) });
    expect(effects).toMatchObject([{ kind: "propose", command: { kind: "abort", cause: "CHECKPOINT" } }]);
  });

  test("MS1 MS7 goes on here by an abort that it reads, and by nothing else, however long it takes and however often it restarts", () => {
    const { side, digest } = frozen();
    let now = side;
    for (let restart = 0; restart < 3; restart++) {
      for (let wait = 0; wait < 50; wait++)
        expect(kinds(now.wait(1_000)).filter((kind) => kind === "resume" || kind === "discard")).toEqual([]);
      const saga = new SourceSaga(ID, simCrypto("home"), { ...SOURCE_SETTINGS, ...TIMES }, now.stored("source"));
      const again = new Side<SourceInput, SourceEffect>(saga, now.store);
      expect(kinds(again.do({ kind: "log", seen: seenAt("TRANSFER", { digest }) }))).toEqual(["gate", "send"]);
      now = again;
    }
    expect(now.saga instanceof SourceSaga && now.saga.describe()).toContain("frozen until the log decides");
    const [resume] = now.do({ kind: "log", seen: seenAt("TRANSFER", { digest, status: "aborted" }) });
    expect(resume).toMatchObject({ kind: "resume", fence: 3 });
    expect(wholeOf((resume as { checkpoint: Laid }).checkpoint).memory).toEqual(memoryOf(2));
    expect(kinds(now.do({ kind: "resumed" }))).toEqual(["gate", "over"]);
  });

  test("MS3 keeps its copy until the log says CONFIRM and the destination that the agent runs", () => {
    const { side, digest } = frozen();
    side.do({ kind: "frame", frame: { kind: "finished", transfer: 7, fence: 3 } });
    expect(kinds(side.do({ kind: "log", seen: seenAt("CONFIRM", { digest }) }))).not.toContain("discard");
    expect(kinds(side.wait(5_000))).not.toContain("discard");
    expect(kinds(side.do({ kind: "frame", frame: { kind: "finished", transfer: 7, fence: 4 } }))).toEqual(["discard"]);
    expect(side.do({ kind: "discarded" })).toMatchObject([
      { kind: "send", frame: { kind: "confirm", fence: 4 } },
      { kind: "propose", command: { kind: "release" } },
    ]);
    expect(kinds(side.do({ kind: "log", seen: seenAt("RELEASE", { digest }) }))).toEqual(["over"]);
  });

  test("MS3 does not delete by the word of a destination alone", () => {
    const { side, digest } = frozen();
    const early = side.do({ kind: "frame", frame: { kind: "finished", transfer: 7, fence: 4 } });
    expect(kinds([...early, ...side.do({ kind: "log", seen: seenAt("TRANSFER", { digest }) }), ...side.wait(5_000)])).not.toContain(
      "discard",
    );
  });

  test("MS5 whose store is older than the log stays closed until the log has decided", () => {
    const side = sourceAt("TRANSFER");
    const saga = side.saga as SourceSaga;
    expect(saga.describe()).toContain("stale");
    expect(kinds(side.wait(60_000))).toEqual([]);
    expect(side.do({ kind: "log", seen: seenAt("CONFIRM") })).toMatchObject([
      { kind: "gate", state: "moved", hub: "factory" },
      { kind: "send" },
    ]);
  });

  test("PROTOCOL G9 no destination makes it seal what is not in the manifest, or the same twice at once", () => {
    const side = sourceAt("CHECKPOINT");
    side.do({ kind: "captured", round: 1, checkpoint: checkpointOf(1) });
    const ask = (numbers: readonly number[], round = 1) =>
      side.do({ kind: "frame", frame: { kind: "missing", transfer: 7, round, numbers } });
    expect([ask([999]), ask([0], 2), ask([0], 99)]).toEqual([[], [], []]);
    // Number 0 goes by itself, and nothing else fits into the window with it.
    expect([ask([0, 1]), ask([0, 1])]).toEqual([[], []]);
    const sealed = (number: number) =>
      side.do({ kind: "sealed", round: 1, numbers: [number], enc: new Uint8Array(32), sealed: new Uint8Array(60) });
    sealed(0);
    expect(kinds(ask([1]))).toEqual(["seal"]);
    expect(ask([1])).toEqual([]);
  });

  test("PROTOCOL G9 MP3 a destination that asks for the same again and again is not answered on and on, and the move ends", () => {
    const side = sourceAt("CHECKPOINT");
    side.do({ kind: "captured", round: 1, checkpoint: checkpointOf(1) });
    let bytes = 0;
    let effects: SourceEffect[] = [];
    for (let times = 0; times < 1_000 && !kinds(effects).includes("propose"); times++) {
      effects = side.do({ kind: "frame", frame: { kind: "missing", transfer: 7, round: 1, numbers: [1] } });
      for (const effect of effects) {
        if (effect.kind !== "seal") continue;
        bytes += effect.raw.length;
        side.do({ kind: "sealed", round: 1, numbers: effect.numbers, enc: new Uint8Array(32), sealed: new Uint8Array(60) });
      }
      side.do({ kind: "sealed", round: 1, numbers: [0], enc: new Uint8Array(32), sealed: new Uint8Array(60) });
    }
    expect(effects.find(({ kind }) => kind === "propose")).toMatchObject({ command: { kind: "abort", cause: "FAILED" } });
    const { memory, context } = checkpointOf(1);
    expect(bytes).toBeGreaterThan(memory.length + context.length);
    expect(bytes).toBeLessThan(17 * (memory.length + context.length));
  });
});
