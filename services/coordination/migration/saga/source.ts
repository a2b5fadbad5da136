import type { Core, StoreOp } from "#kernel/core.ts";
import type { Crypto } from "#kernel/crypto.ts";
import type { Now } from "#kernel/instant.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import { EMPTY } from "../bytes.ts";
import {
  type Checkpoint,
  type Chunks,
  checkpointProblem,
  layOut,
  missingIn,
  readManifest,
  type SignedManifest,
  signCheckpoint,
} from "../checkpoint/checkpoint.ts";
import { claimHolds } from "../claim.ts";
import type { MigrationFrame } from "../frames.ts";
import type { Cause, Claim, Migration } from "../messages.ts";
import { Parcels } from "./parcels.ts";
import { Pace, SAGA_TIMES, SagaStore, type SagaTimes, type Seen, type StoredSaga } from "./saga.ts";
import type { Phase, SagaIdentity, SagaRecord } from "./saga-record.ts";
import type { SourceEffect, SourceInput } from "./source-messages.ts";

/** SourceSettings bound the rounds in which the agent still runs: a last one that brings too little, or too little less, ends them. */
export interface SourceSettings extends SagaTimes {
  /** Most rounds before the agent is frozen. */
  readonly rounds: number;
  /** A round with no more bytes than these is the last one. */
  readonly enoughBytes: number;
  /** So is one that has more than this part, in percent, of the bytes of the one before. */
  readonly shrinkPercent: number;
}

/** SOURCE_SETTINGS hold unless a test wants others. */
export const SOURCE_SETTINGS: SourceSettings = { ...SAGA_TIMES, rounds: 6, enoughBytes: 256 * 1024, shrinkPercent: 70 };

/**
 * SourceSaga lets an agent go (libvirt's v3 handshake: begin, perform, confirm). It is driven by what stands in the log, and holds no
 * opinion of its own about who owns the agent.
 *
 * MS1 before the agent is frozen it stands in the store that it will be; from then on it runs here again only after an abort was read.
 * MS2 TRANSFER is proposed only for a checkpoint that is stored here, of an agent that is frozen.
 * MS3 the copy here is deleted only after CONFIRM was read and the destination has said that the agent runs there.
 * MS4 whatever gets no answer is asked again, also after a restart; nothing is decided by this hub's clock.
 * MS5 if the log says TRANSFER of a checkpoint that is not here, this store is older than the log (a restored backup): the agent stays
 *    closed until the migration is decided.
 * MS6 rounds are bounded: by number, and by what they bring.
 * MS7 no quorum while frozen: it stays frozen, and commands are told so.
 */
export class SourceSaga implements Core<SourceInput, SourceEffect> {
  readonly #id: SagaIdentity;
  readonly #crypto: Crypto;
  readonly #settings: SourceSettings;
  readonly #store: SagaStore;
  readonly #pace: Pace;
  #phase: Phase = "copying";
  #round = 0;
  #seen: Seen | undefined;
  #judged: Extract<SourceInput, { kind: "judged" }> | undefined;
  /** Round that the agent was asked for. */
  #capturing = 0;
  #signed: SignedManifest | undefined;
  #content: Chunks = new Map();
  #claim: Uint8Array = EMPTY;
  /** Round that the destination holds, its chunks, and the bytes that the last rounds brought. */
  #held = 0;
  #heldChunks: Chunks = new Map();
  #brought = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  readonly #parcels: Parcels;
  /** What is stored at the end of this step, because nothing that it says waits for that. */
  #storing: StoreOp[] = [];
  #wish: { readonly cause: Cause; readonly message: string } | undefined;
  #gate = "";
  #finished = false;
  #stale = false;
  #over = false;

  constructor(id: SagaIdentity, crypto: Crypto, settings: SourceSettings = SOURCE_SETTINGS, stored?: StoredSaga) {
    this.#id = id;
    this.#crypto = crypto;
    this.#settings = settings;
    this.#pace = new Pace(settings.againMs);
    this.#parcels = new Parcels(id, settings.windowBytes);
    this.#store = new SagaStore("source", id.transfer, stored?.chunks ?? new Map());
    if (stored !== undefined) this.#restore(stored);
  }

  /** over tells whether nothing is left to do. */
  get over(): boolean {
    return this.#over;
  }

  /** phase is how far it is, for people and tests. */
  get phase(): Phase {
    return this.#phase;
  }

  step(now: Now, input: SourceInput, out: SourceEffect[]): void {
    if (this.#over) return;
    this.#take(now, input, out);
    this.#advance(now, out);
    if (this.#storing.length > 0) out.push({ kind: "persist", ops: this.#storing, hard: false });
    this.#storing = [];
  }

  tick(now: Now, out: SourceEffect[]): void {
    this.#pace.passed();
    this.#advance(now, out);
  }

  deadline(): number | undefined {
    return this.#over ? undefined : this.#pace.due;
  }

  describe(): string {
    const { transfer, agent, from, to, fence } = this.#id;
    const step = this.#seen?.migration?.step ?? "unknown";
    const waits = this.#phase === "frozen" && step !== "RELEASE" ? ", frozen until the log decides" : "";
    return `source ${transfer} ${agent} ${from} -> ${to} fence ${fence} ${this.#phase} round ${this.#round} log ${step}${waits}${this.#stale ? ", stale" : ""}`;
  }

  #restore({ record, chunks }: StoredSaga): void {
    this.#phase = record.phase;
    this.#round = record.round;
    this.#claim = record.claim;
    if (record.manifest.length === 0) return;
    const manifest = readManifest(record.manifest);
    if ("reason" in manifest) return;
    this.#content = chunks;
    this.#parcels.restore(manifest, chunks);
    this.#signed = { manifest, bytes: record.manifest, signature: record.signature, digest: this.#crypto.hash(record.manifest) };
  }

  #take(now: Now, input: SourceInput, out: SourceEffect[]): void {
    switch (input.kind) {
      case "log":
        if (this.#seen === undefined || input.seen.index >= this.#seen.index) this.#seen = input.seen;
        return;
      case "judged":
        this.#judged = input;
        return;
      case "captured":
        if (input.round === this.#capturing) this.#captured(input.checkpoint, out);
        return;
      case "not_captured":
        if (input.round === this.#capturing) this.#wish ??= { cause: "FAILED", message: input.failure.message };
        return;
      case "claimed":
        if (input.round === this.#round && this.#phase === "freezing") this.#claimed(input.claim, out);
        return;
      case "sealed":
        return this.#parcels.sealed(input, out);
      case "frame":
        return this.#frame(now, input.frame, out);
      case "resumed":
        if (this.#status() === "aborted") this.#end("aborted", out);
        return;
      case "discarded":
        if (this.#phase === "moved") this.#discarded(out);
        return;
      case "abort":
        this.#wish ??= { cause: input.cause, message: input.message };
    }
  }

  #advance(now: Now, out: SourceEffect[]): void {
    if (this.#over) return;
    if (this.#phase === "freezing" || this.#phase === "frozen") this.#setGate("closed", out);
    switch (this.#status()) {
      case "unknown":
        if (this.#pace.ready(now.mono, "read")) out.push({ kind: "read" });
        return;
      case "open":
        return this.#open(now, this.#seen?.migration as Migration, out);
      case "aborted":
        return this.#aborted(now, out);
      default:
        return this.#moved(now, out);
    }
  }

  /** status of the migration by the log; of one that the log has forgotten, by who owns the agent. */
  #status(): Migration["status"] | "unknown" {
    if (this.#seen === undefined) return "unknown";
    const { migration, agent, linear } = this.#seen;
    if (migration !== undefined) return migration.status;
    if (!linear) return "unknown";
    return agent?.owner === this.#id.from && agent.fence === this.#id.fence ? "aborted" : "released";
  }

  #open(now: Now, migration: Migration, out: SourceEffect[]): void {
    const { transfer } = this.#id;
    if (this.#wish !== undefined) this.#propose(now, { kind: "abort", transfer, ...this.#wish }, out);
    switch (migration.step) {
      case "REQUEST":
        if (this.#judged === undefined) {
          if (this.#pace.ready(now.mono, "judge")) out.push({ kind: "judge", migration });
        } else if (this.#judged.failure !== undefined) {
          this.#propose(now, { kind: "abort", transfer, cause: "REFUSED", message: this.#judged.failure.message }, out);
        } else this.#propose(now, { kind: "validate", transfer, bytes: this.#judged.bytes }, out);
        return;
      case "VALIDATE":
      case "ACCEPT":
        // What the agent is can be read, and sealed, while the destination makes room.
        if (this.#wish !== undefined || this.#phase !== "copying") return;
        if (this.#signed === undefined) this.#capture(out);
        return this.#parcels.push(migration.sealingKey, out);
      case "PREPARE":
      case "CHECKPOINT":
        if (this.#wish === undefined) this.#copy(now, migration, out);
        return;
      case "TRANSFER":
        if (this.#phase === "frozen" && sameBytes(this.#signed?.digest ?? EMPTY, migration.digest)) this.#offer(now, out);
        else this.#staleNow(out);
    }
  }

  #staleNow(out: SourceEffect[]): void {
    this.#setGate("closed", out);
    if (this.#stale) return;
    this.#stale = true;
    out.push({ kind: "observe", what: "stale", value: 1 });
  }

  /** copy sends rounds, and freezes the agent when another one would not bring enough. */
  #copy(now: Now, migration: Migration, out: SourceEffect[]): void {
    const { transfer } = this.#id;
    if (this.#phase === "frozen") {
      if (migration.step === "CHECKPOINT") this.#propose(now, { kind: "transfer", transfer, digest: this.#signed?.digest ?? EMPTY }, out);
      // After a restart nobody has said CHECKPOINT for this round yet.
      else this.#propose(now, { kind: "checkpoint", transfer, bytes: this.#bytes() }, out);
      return this.#offer(now, out);
    }
    // A final manifest that is not frozen yet waits for the agent's claim.
    if (this.#phase === "freezing" && this.#signed?.manifest.final === true) return;
    if (this.#phase === "freezing" || this.#signed === undefined) return this.#capture(out);
    this.#parcels.push(migration.sealingKey, out);
    if (migration.step === "PREPARE") this.#propose(now, { kind: "checkpoint", transfer, bytes: this.#bytes() }, out);
    if (this.#held !== this.#round) return this.#offer(now, out);
    if (migration.step !== "CHECKPOINT") return;
    if (this.#enough()) {
      this.#keep("freezing", out);
      this.#setGate("closed", out);
    }
    this.#capture(out);
  }

  #enough(): boolean {
    const [before, last] = this.#brought as [number, number];
    const { rounds, enoughBytes, shrinkPercent } = this.#settings;
    return this.#round >= rounds || last <= enoughBytes || last * 100 > before * shrinkPercent;
  }

  #bytes(): number {
    const { memoryBytes = 0, contextBytes = 0 } = this.#signed?.manifest ?? {};
    return Math.max(1, memoryBytes + contextBytes);
  }

  #capture(out: SourceEffect[]): void {
    if (this.#capturing > this.#round) return;
    this.#capturing = this.#round + 1;
    const { transfer, agent, fence } = this.#id;
    out.push({ kind: "capture", transfer, agent, fence, round: this.#capturing, freeze: this.#phase === "freezing" });
  }

  #captured(checkpoint: Checkpoint, out: SourceEffect[]): void {
    const problem = checkpointProblem(checkpoint, this.#seen?.migration?.bytes ?? 0);
    if (problem !== undefined) {
      this.#wish ??= { cause: "CHECKPOINT", message: problem.message };
      return;
    }
    const { agent, fence, transfer, from, to } = this.#id;
    const final = this.#phase === "freezing";
    this.#round = this.#capturing;
    const { content, ...signed } = signCheckpoint(
      this.#crypto,
      { agent, fence, transfer, from, to, round: this.#round, final },
      checkpoint,
      this.#signed && { manifest: this.#signed.manifest, content: this.#content },
    );
    this.#signed = signed;
    this.#content = content;
    const { chunks } = signed.manifest;
    const missing = missingIn(signed.manifest, this.#heldChunks);
    const brings = missing.reduce((sum, number) => sum + (chunks[number]?.length ?? 0), 0);
    this.#brought = [this.#brought[1] as number, brings];
    out.push({ kind: "observe", what: "round_bytes", value: brings });
    // An agent that is frozen waits for its claim, and what it is is stored with that.
    if (final) out.push({ kind: "claim", agent, round: this.#round, claim: this.#claimOf(signed) });
    else this.#storing = this.#contentOps();
    this.#parcels.begin(signed.manifest, content, missing);
    this.#parcels.push(this.#sealingKey, out);
  }

  get #sealingKey(): Uint8Array {
    return this.#seen?.migration?.sealingKey ?? EMPTY;
  }

  /** contentOps store what the newest round consists of, and nothing else. */
  #contentOps(): StoreOp[] {
    return [...this.#store.add(this.#content), ...this.#store.keep(new Set(this.#content.keys())), this.#store.record(this.#record())];
  }

  #claimOf(signed: SignedManifest): Claim {
    const { agent, from, to, fence, transfer } = this.#id;
    return { agent, from, to, fence: fence + 1, transfer, digest: signed.digest };
  }

  #claimed(claim: Uint8Array, out: SourceEffect[]): void {
    const nodeKey = this.#seen?.agent?.nodeKey ?? EMPTY;
    if (this.#signed === undefined || !this.#signed.manifest.final) return;
    if (!claimHolds(this.#crypto, nodeKey, this.#claimOf(this.#signed), claim)) {
      this.#wish ??= { cause: "CHECKPOINT", message: `the claim of ${this.#id.agent} is not signed by its node key` };
      return;
    }
    this.#claim = claim.slice();
    this.#phase = "frozen";
    out.push({ kind: "persist", ops: this.#contentOps() });
    out.push({ kind: "observe", what: "frozen", value: this.#round });
  }

  /** offer sends the manifest, until the destination answers what it is missing, and again while nothing comes. */
  #offer(now: Now, out: SourceEffect[]): void {
    if (this.#signed === undefined || this.#held === this.#round || !this.#pace.ready(now.mono, `manifest ${this.#round}`)) return;
    const { bytes, signature } = this.#signed;
    const { to, transfer } = this.#id;
    // The final one goes when it is stored, and behind TRANSFER: what the destination says to the log comes after that.
    const early = this.#claim.length === 0;
    out.push({ kind: "send", to, frame: { kind: "manifest", transfer, bytes, signature, claim: this.#claim }, early });
    this.#parcels.offered(out);
  }

  #frame(now: Now, frame: MigrationFrame, out: SourceEffect[]): void {
    const { transfer, fence } = this.#id;
    if (frame.transfer !== transfer) return;
    this.#pace.heard();
    const current = "round" in frame && frame.round === this.#round;
    if (frame.kind === "missing" && current) {
      if (this.#parcels.missing(frame.numbers, this.#sealingKey, out)) this.#pace.ready(now.mono, `manifest ${this.#round}`);
      if (this.#parcels.spent) this.#wish ??= { cause: "FAILED", message: `${this.#id.to} asked for the same chunks again and again` };
    } else if (frame.kind === "have" && current) {
      this.#held = this.#round;
      this.#heldChunks = this.#content;
    } else if (frame.kind === "finished" && frame.fence === fence + 1) {
      this.#finished = true;
      // It says so again because it has not heard that the copy here is gone.
      if (this.#phase === "discarded") this.#tellConfirm(out);
    }
  }

  #aborted(now: Now, out: SourceEffect[]): void {
    if (this.#phase === "copying" && !this.#stale) return this.#end("aborted", out);
    if (!this.#pace.ready(now.mono, "resume")) return;
    const { transfer, agent, fence } = this.#id;
    const signed = this.#phase === "frozen" ? this.#signed : undefined;
    const checkpoint = signed === undefined ? undefined : layOut(signed.manifest, this.#content);
    out.push({ kind: "resume", transfer, agent, fence, checkpoint });
  }

  /** moved is after the commit: the agent is elsewhere, and its copy here stays until it runs there (MS3). */
  #moved(now: Now, out: SourceEffect[]): void {
    const { agent, transfer, to, fence } = this.#id;
    if (this.#phase !== "moved" && this.#phase !== "discarded") this.#keep("moved", out);
    this.#setGate("moved", out);
    const released = this.#status() === "released";
    if (this.#phase === "moved") {
      if (released || this.#finished) {
        if (this.#pace.ready(now.mono, "discard")) out.push({ kind: "discard", agent, fence });
        return;
      }
      if (this.#pace.ready(now.mono, "ask")) {
        out.push({ kind: "send", to, frame: { kind: "ask", transfer }, early: false });
        // A destination that lost what it had gets it again.
        this.#parcels.renew();
        this.#held = 0;
        this.#offer(now, out);
      }
      return;
    }
    if (released) this.#end("moved", out);
    else this.#propose(now, { kind: "release", transfer }, out);
  }

  #discarded(out: SourceEffect[]): void {
    this.#keep("discarded", out);
    this.#tellConfirm(out);
  }

  #tellConfirm(out: SourceEffect[]): void {
    const { transfer, to, fence } = this.#id;
    out.push({ kind: "send", to, frame: { kind: "confirm", transfer, fence: fence + 1 }, early: false });
  }

  #end(outcome: "moved" | "aborted", out: SourceEffect[]): void {
    // The agent of a hub that was removed goes on nowhere.
    if (outcome === "aborted" && this.#seen?.agent?.lost !== true) this.#setGate("open", out);
    this.#over = true;
    out.push({ kind: "persist", ops: this.#store.forget() });
    out.push({ kind: "over", outcome: outcome === "aborted" && this.#stale ? "stale" : outcome });
  }

  #keep(phase: Phase, out: SourceEffect[]): void {
    this.#phase = phase;
    out.push({ kind: "persist", ops: [this.#store.record(this.#record())] });
  }

  #record(): SagaRecord {
    const final = this.#signed?.manifest.final === true && this.#claim.length > 0 ? this.#signed : undefined;
    return {
      ...this.#id,
      phase: this.#phase,
      round: this.#round,
      manifest: final?.bytes ?? EMPTY,
      signature: final?.signature ?? EMPTY,
      claim: this.#claim,
    };
  }

  #setGate(state: "open" | "closed" | "moved", out: SourceEffect[]): void {
    if (this.#gate === state || (this.#gate === "" && state === "open")) return;
    this.#gate = state;
    const { agent, fence, to } = this.#id;
    out.push({ kind: "gate", agent, state, fence, hub: state === "moved" ? to : "" });
  }

  #propose(now: Now, command: Extract<SourceEffect, { kind: "propose" }>["command"], out: SourceEffect[]): void {
    if (this.#pace.ready(now.mono, `propose ${command.kind}`)) out.push({ kind: "propose", command });
  }
}
