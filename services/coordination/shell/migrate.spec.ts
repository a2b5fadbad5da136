import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { expect, test } from "vitest";
import type { Effect } from "#kernel/core.ts";
import { createCrypto, generateFeedKey } from "#runtime/crypto.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { MigrationBook } from "../migration/book.ts";
import { type Checkpoint, wholeOf } from "../migration/checkpoint/checkpoint.ts";
import { claimBytes } from "../migration/claim.ts";
import type { MigrationCommand } from "../migration/messages.ts";
import { DestinationSaga } from "../migration/saga/destination.ts";
import type { DestinationEffect, DestinationInput } from "../migration/saga/destination-messages.ts";
import { SourceSaga } from "../migration/saga/source.ts";
import type { SourceEffect, SourceInput } from "../migration/saga/source-messages.ts";
import { sealingKeyOf } from "./keys.ts";
import { Sealing } from "./sealing.ts";

const MEBIBYTES = 10;

/** memoryOf is half noise, half what repeats. */
function memoryOf(bytes: number): Buffer {
  const memory = Buffer.alloc(bytes, "what an agent knows of its valves; ");
  randomBytes(bytes / 2).copy(memory);
  return memory;
}

/** Move is both sides and the log in one process, with real keys, seals and compression. */
class Move {
  readonly #feedKey = generateFeedKey();
  readonly #crypto = createCrypto(this.#feedKey);
  readonly #node = generateKeyPairSync("ed25519");
  readonly #sealing = sealingKeyOf(randomBytes(32));
  readonly #book = new MigrationBook(this.#crypto);
  readonly #stores = { home: new MemoryStore(), factory: new MemoryStore() };
  #index = 0;
  #source!: SourceSaga;
  #destination!: DestinationSaga;
  #open!: Sealing;
  memory = memoryOf(MEBIBYTES * 1024 * 1024);
  started: Checkpoint | undefined;
  frozenAt = 0;
  startedAt = 0;
  rounds = 0;
  sent = 0;

  async run(): Promise<void> {
    this.#open = await Sealing.create(this.#sealing);
    const nodeKey = this.#node.publicKey.export({ format: "der", type: "spki" }).subarray(12);
    this.#append("home", { kind: "enlist", agent: "counter", nodeKey });
    this.#append("home", { kind: "request", agent: "counter", fence: 1, to: "factory", stepMs: 60_000, why: "" });
    const id = { transfer: 1, agent: "counter", fence: 1, from: "home", to: "factory" };
    this.#source = new SourceSaga(id, this.#crypto);
    this.#destination = new DestinationSaga(id, this.#crypto, { source: this.#feedKey.publicKey, sealing: this.#sealing.publicKey });
    this.#tell();
    while (!this.#source.over || !this.#destination.over) {
      await new Promise((resolve) => setImmediate(resolve));
      this.#tick();
    }
  }

  /** tick does what is due: a CONFIRM that was ahead of its TRANSFER, which the log refused, is proposed again. */
  #tick(): void {
    const now = this.#now();
    const due = (at: number | undefined): boolean => at !== undefined && at <= now.mono;
    const fromSource: SourceEffect[] = [];
    if (due(this.#source.deadline())) this.#source.tick(now, fromSource);
    for (const effect of fromSource) this.#common("home", effect) || this.#ofSource(effect);
    const fromDestination: DestinationEffect[] = [];
    if (due(this.#destination.deadline())) this.#destination.tick(now, fromDestination);
    for (const effect of fromDestination) this.#common("factory", effect) || this.#ofDestination(effect);
  }

  #append(author: string, command: MigrationCommand): void {
    this.#book.apply({ index: ++this.#index, term: 1, time: Date.now() }, author, command);
  }

  #tell(): void {
    const seen = { index: this.#index, linear: true, agent: this.#book.owner("counter"), migration: this.#book.migration(1) };
    this.#toSource({ kind: "log", seen });
    this.#toDestination({ kind: "log", seen });
  }

  #now = () => ({ mono: performance.now(), wall: Date.now() });

  #toSource(input: SourceInput): void {
    const out: SourceEffect[] = [];
    this.#source.step(this.#now(), input, out);
    for (const effect of out) this.#common("home", effect) || this.#ofSource(effect);
  }

  #toDestination(input: DestinationInput): void {
    const out: DestinationEffect[] = [];
    this.#destination.step(this.#now(), input, out);
    for (const effect of out) this.#common("factory", effect) || this.#ofDestination(effect);
  }

  #common(hub: "home" | "factory", effect: Effect & (SourceEffect | DestinationEffect)): boolean {
    if (effect.kind === "persist") void this.#stores[hub].commit(effect.ops);
    else if (effect.kind === "propose")
      setImmediate(() => {
        this.#append(hub, effect.command);
        this.#tell();
      });
    else if (effect.kind === "send") {
      if (effect.frame.kind === "parcel") this.sent += effect.frame.sealed.length;
      const input = { kind: "frame", frame: effect.frame } as const;
      setImmediate(() => (hub === "home" ? this.#toDestination(input) : this.#toSource(input)));
    } else return false;
    return true;
  }

  #ofSource(effect: SourceEffect): void {
    switch (effect.kind) {
      case "judge":
        return this.#toSource({ kind: "judged", bytes: 16 * 1024 * 1024 });
      case "capture": {
        this.rounds++;
        // The agent goes on: a hundredth of its memory is another one each time, and something was inserted.
        if (effect.freeze) this.frozenAt = performance.now();
        this.memory = Buffer.from(this.memory);
        randomBytes(50 * 1024).copy(this.memory, 1_000_000);
        this.memory = Buffer.concat([this.memory.subarray(0, 4_000_000), Buffer.from("news"), this.memory.subarray(4_000_000)]);
        const checkpoint = { memory: this.memory, context: Buffer.from("counting"), progress: 750_000, dependencies: ["valves"] };
        return void setImmediate(() => this.#toSource({ kind: "captured", round: effect.round, checkpoint }));
      }
      case "claim": {
        const claim = sign(null, claimBytes(effect.claim), this.#node.privateKey);
        return void setImmediate(() => this.#toSource({ kind: "claimed", round: effect.round, claim }));
      }
      case "seal": {
        const { round, numbers } = effect;
        void this.#open
          .seal(effect.key, effect.info, effect.aad, effect.raw)
          .then((sealed) => this.#toSource({ kind: "sealed", round, numbers, ...sealed! }));
        return;
      }
      case "discard":
        return this.#toSource({ kind: "discarded" });
    }
  }

  #ofDestination(effect: DestinationEffect): void {
    switch (effect.kind) {
      case "judge":
        return this.#toDestination({ kind: "judged", bytes: 16 * 1024 * 1024, until: Date.now() + 60_000 });
      case "open": {
        const { round, numbers, info, aad, rawLength } = effect;
        void this.#open.open(effect, info, aad, rawLength).then((raw) => this.#toDestination({ kind: "opened", round, numbers, raw }));
        return;
      }
      case "start":
        this.started = wholeOf(effect.checkpoint);
        this.startedAt = performance.now();
        return this.#toDestination({ kind: "started" });
    }
  }
}

test(`S1-39 an agent with a checkpoint of ${MEBIBYTES} MiB moves, sealed, and is at the end what it was`, async () => {
  const move = new Move();
  const begin = performance.now();
  await move.run();
  const total = performance.now() - begin;
  expect(Buffer.compare(move.started?.memory ?? Buffer.alloc(0), move.memory)).toBe(0);
  expect(move.started).toMatchObject({ progress: 750_000, dependencies: ["valves"] });
  expect(move.rounds).toBeGreaterThan(1);
  if (process.env["MEASURE"] !== undefined) {
    const pause = move.startedAt - move.frozenAt;
    process.stderr.write(`total ${total.toFixed(0)} ms, pause ${pause.toFixed(0)} ms, rounds ${move.rounds}, sealed ${move.sent} bytes\n`);
  }
});
