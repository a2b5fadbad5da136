import type { Core } from "#kernel/core.ts";
import type { Crypto } from "#kernel/crypto.ts";
import type { Now } from "#kernel/instant.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import { EMPTY } from "../bytes.ts";
import {
  layOut,
  lengthOf,
  type Manifest,
  missingIn,
  openManifest,
  readManifest,
  type SignedManifest,
  splitChunks,
} from "../checkpoint/checkpoint.ts";
import { sealAad, sealInfo } from "../checkpoint/parcel.ts";
import { type MigrationFrame, SEALED_MORE } from "../frames.ts";
import { type Cause, type Migration, stepAt } from "../messages.ts";
import type { DestinationEffect, DestinationInput } from "./destination-messages.ts";
import { Held } from "./held.ts";
import { Pace, SAGA_TIMES, SagaStore, type SagaTimes, type Seen, type StoredSaga } from "./saga.ts";
import type { Phase, SagaIdentity, SagaRecord } from "./saga-record.ts";
import { Wanted } from "./wanted.ts";

/** Parcels that do not open, or are not what the manifest says, before the move is given up. */
const STRIKES = 8;

/** DestinationKeys are what a destination checks and unseals with. */
export interface DestinationKeys {
  /** Raw Ed25519 key of the source's hub, by its statement. */
  readonly source: Uint8Array;
  /** Raw X25519 key of this hub. */
  readonly sealing: Uint8Array;
}

/**
 * DestinationSaga takes an agent in (libvirt's v3 handshake: prepare, finish). What it holds is not an agent before the log says so.
 *
 * MX1 the agent starts here only after CONFIRM was read from the log, by a process that knows all that was decided before it began.
 * MX2 CONFIRM is proposed only for a final checkpoint all of which is stored here; once before TRANSFER was read, as the log takes it only
 *    behind a TRANSFER that names the same.
 * MX3 nothing is stored that a signed manifest of the source does not name; every chunk is checked against its digest first.
 * MX4 what is held of a transfer is never more than the hubs agreed on, and nothing once the program has the agent; what is asked for or
 *    being opened is one window.
 * MX5 commands reach the agent only after it is stored that it runs here: a start that is repeated after a crash repeats no command.
 * MX6 if the log says RELEASE of an agent that this store has not started, this store is older than the log (a restored backup): the agent
 *    does not start, because it has run here already.
 * MX7 whatever gets no answer is asked again, also after a restart; nothing is decided by this hub's clock.
 * MX8 the program is shown what it may have to start before that is decided; it starts only by MX1, and is told when it does not come.
 */
export class DestinationSaga implements Core<DestinationInput, DestinationEffect> {
  readonly #id: SagaIdentity;
  readonly #crypto: Crypto;
  readonly #keys: DestinationKeys;
  readonly #store: SagaStore;
  readonly #pace: Pace;
  /** What is held, all of it in the manifest. */
  readonly #held: Held;
  readonly #wanted: Wanted;
  #phase: Phase = "copying";
  #seen: Seen | undefined;
  #judged: Extract<DestinationInput, { kind: "judged" }> | undefined;
  /** It is stored that the agent is taken in. */
  #reserved = false;
  #signed: SignedManifest | undefined;
  #claim: Uint8Array = EMPTY;
  #strikes = 0;
  /** CONFIRM was proposed before TRANSFER was read; that is not done twice for one manifest. */
  #ahead: "no" | "asked" | "done" = "no";
  /** Round that the program was shown. */
  #staged = 0;
  #wish: { readonly cause: Cause; readonly message: string } | undefined;
  #confirmed = false;
  #over = false;

  constructor(id: SagaIdentity, crypto: Crypto, keys: DestinationKeys, times: SagaTimes = SAGA_TIMES, stored?: StoredSaga) {
    this.#id = id;
    this.#crypto = crypto;
    this.#keys = keys;
    this.#wanted = new Wanted(times.windowBytes);
    this.#pace = new Pace(times.againMs);
    const chunks = stored?.chunks ?? new Map();
    this.#store = new SagaStore("destination", id.transfer, chunks);
    this.#held = new Held(this.#store, times.windowBytes, chunks);
    if (stored !== undefined) this.#restore(stored.record);
  }

  /** over tells whether nothing is left to do. */
  get over(): boolean {
    return this.#over;
  }

  /** phase is how far it is, for people and tests. */
  get phase(): Phase {
    return this.#phase;
  }

  /** agentKind is the first dependency of the agent that comes; undefined before that is known. */
  get agentKind(): string | undefined {
    return this.#signed?.manifest.dependencies[0];
  }

  /** holds tells whether there has to be room here for the checkpoint: it was promised, or comes, and the program does not have the agent yet. */
  get holds(): boolean {
    return this.#phase !== "started" && (this.#reserved || (this.#judged !== undefined && this.#judged.failure === undefined));
  }

  /** heldBytes is what it holds in memory of the checkpoint (MX4). */
  get heldBytes(): number {
    return this.#held.bytes;
  }

  step(now: Now, input: DestinationInput, out: DestinationEffect[]): void {
    if (this.#over) return;
    this.#take(now, input, out);
    this.#advance(now, out);
  }

  tick(now: Now, out: DestinationEffect[]): void {
    this.#pace.passed();
    this.#advance(now, out);
  }

  deadline(): number | undefined {
    return this.#over ? undefined : this.#pace.due;
  }

  describe(): string {
    const { transfer, agent, from, to, fence } = this.#id;
    const step = this.#seen?.migration?.step ?? "unknown";
    const round = this.#signed?.manifest.round ?? 0;
    return `destination ${transfer} ${agent} ${from} -> ${to} fence ${fence + 1} ${this.#phase} round ${round} chunks ${this.#held.all.size} log ${step}`;
  }

  #restore(record: SagaRecord): void {
    this.#phase = record.phase;
    this.#claim = record.claim;
    this.#reserved = true;
    if (record.manifest.length === 0) return;
    const { manifest: bytes, signature } = record;
    // Its signature was checked before it was stored; which key the source has is not known before the log is read.
    const manifest = readManifest(bytes);
    if (!("reason" in manifest)) this.#signed = { manifest, bytes, signature, digest: this.#crypto.hash(bytes) };
  }

  #take(now: Now, input: DestinationInput, out: DestinationEffect[]): void {
    switch (input.kind) {
      case "log":
        if (this.#seen === undefined || input.seen.index >= this.#seen.index) this.#seen = input.seen;
        return;
      case "judged":
        this.#judged = input;
        return;
      case "frame":
        return this.#frame(now, input.frame, out);
      case "opened":
        return this.#opened(now, input, out);
      case "too_early":
        if (this.#ahead === "asked") this.#pace.answered("propose confirm");
        this.#ahead = "done";
        return;
      case "started":
        if (this.#mayStart()) this.#started(out);
        return;
      case "not_started":
        return;
      case "abort":
        this.#wish ??= { cause: input.cause, message: input.message };
    }
  }

  #advance(now: Now, out: DestinationEffect[]): void {
    if (this.#over) return;
    switch (this.#status()) {
      case "unknown":
        return this.#read(now, out);
      case "open":
        return this.#open(now, this.#seen?.migration as Migration, out);
      case "aborted":
        return this.#end("aborted", out);
      default:
        return this.#committed(now, out);
    }
  }

  /** status of the migration by the log. One that the log has forgotten was decided long ago: what is here then is of no use. */
  #status(): Migration["status"] | "unknown" {
    if (this.#seen === undefined) return "unknown";
    const { migration, linear } = this.#seen;
    if (migration !== undefined) return migration.status;
    return !linear ? "unknown" : this.#phase === "started" ? "released" : "aborted";
  }

  #read(now: Now, out: DestinationEffect[]): void {
    if (this.#pace.ready(now.mono, "read")) out.push({ kind: "read" });
  }

  #open(now: Now, migration: Migration, out: DestinationEffect[]): void {
    const { transfer } = this.#id;
    if (this.#wish !== undefined) this.#propose(now, { kind: "abort", transfer, ...this.#wish }, out);
    switch (migration.step) {
      case "VALIDATE":
        if (this.#judged === undefined) {
          if (this.#pace.ready(now.mono, "judge")) out.push({ kind: "judge", migration });
        } else if (this.#judged.failure !== undefined) {
          this.#propose(now, { kind: "abort", transfer, cause: "REFUSED", message: this.#judged.failure.message }, out);
        } else {
          const { bytes, until } = this.#judged;
          this.#propose(now, { kind: "accept", transfer, bytes, until, sealingKey: this.#keys.sealing }, out);
        }
        return;
      case "ACCEPT":
        // Behind the record: by that this hub goes on with the move, and so has room for it, after a restart too.
        if (!this.#reserved) {
          this.#reserved = true;
          this.#keep(this.#phase, out);
        }
        return this.#propose(now, { kind: "prepare", transfer }, out);
      case "PREPARE":
        return this.#ask(now, out);
      case "CHECKPOINT":
        if (this.#phase !== "complete" || this.#wish !== undefined) return this.#ask(now, out);
        if (this.#ahead !== "no") return;
        this.#ahead = "asked";
        return this.#confirm(now, this.#signed?.digest ?? EMPTY, out);
      case "TRANSFER":
        if (this.#wish !== undefined) return;
        if (this.#holdsWhatIsIn(migration)) this.#confirm(now, migration.digest, out);
        else this.#ask(now, out);
    }
  }

  #holdsWhatIsIn(migration: Migration): boolean {
    return this.#phase === "complete" && sameBytes(this.#signed?.digest ?? EMPTY, migration.digest);
  }

  #confirm(now: Now, digest: Uint8Array, out: DestinationEffect[]): void {
    const { transfer, fence } = this.#id;
    this.#propose(now, { kind: "confirm", transfer, fence: fence + 1, digest, claim: this.#claim }, out);
  }

  /** committed is after the commit: the agent belongs here, and starts as soon as all of it is here. */
  #committed(now: Now, out: DestinationEffect[]): void {
    const { transfer, from, agent, fence } = this.#id;
    const released = this.#status() === "released";
    if (this.#phase === "started") {
      // The program has it, and the source may take a week to say that it knows.
      if (this.#held.bytes > 0) out.push({ kind: "persist", ops: this.#held.clear(), hard: false });
      // Not before: a source that was restored from a backup asks again.
      if (released) return this.#end("moved", out);
      if (this.#confirmed) return;
      const frame: MigrationFrame = { kind: "finished", transfer, fence: fence + 1 };
      if (this.#pace.ready(now.mono, "finished")) out.push({ kind: "send", to: from, frame, early: false });
      return;
    }
    if (released) return this.#end("stale", out);
    const migration = this.#seen?.migration as Migration;
    if (!this.#holdsWhatIsIn(migration)) return this.#ask(now, out);
    if (!this.#mayStart()) return this.#read(now, out);
    const checkpoint = this.#signed === undefined ? undefined : layOut(this.#signed.manifest, this.#held.all);
    if (checkpoint !== undefined && this.#pace.ready(now.mono, "start")) out.push({ kind: "start", agent, fence: fence + 1, checkpoint });
  }

  /** mayStart is MX1: a copy of the log from before a restart may end at the commit while the agent has long run here, and gone on. */
  #mayStart(): boolean {
    if (this.#seen === undefined || this.#status() !== "committed" || this.#phase !== "complete") return false;
    const { agent, linear } = this.#seen;
    return linear && agent?.owner === this.#id.to && agent.fence === this.#id.fence + 1 && !agent.lost;
  }

  #started(out: DestinationEffect[]): void {
    const { agent, fence, to } = this.#id;
    this.#keep("started", out);
    out.push({ kind: "gate", agent, state: "open", fence: fence + 1, hub: to });
    out.push({ kind: "observe", what: "started", value: fence + 1 });
  }

  #frame(now: Now, frame: MigrationFrame, out: DestinationEffect[]): void {
    const { transfer, fence } = this.#id;
    if (frame.transfer !== transfer) return;
    this.#pace.heard();
    if (frame.kind === "manifest") this.#manifest(now, frame, out);
    else if (frame.kind === "parcel") this.#parcel(now, frame, out);
    else if (frame.kind === "ask") {
      this.#confirmed = false;
      this.#pace.answered("finished");
    } else if (frame.kind === "confirm" && frame.fence === fence + 1 && this.#phase === "started") this.#confirmed = true;
  }

  #manifest(now: Now, frame: Extract<MigrationFrame, { kind: "manifest" }>, out: DestinationEffect[]): void {
    const migration = this.#seen?.migration;
    if (migration === undefined || migration.bytes === 0 || this.#phase === "started") return;
    // The log may say PREPARE by a store that is gone; what was in it comes again.
    if (!this.#reserved && stepAt(migration.step) < stepAt("PREPARE")) return;
    const current = this.#signed;
    if (current !== undefined && sameBytes(current.bytes, frame.bytes)) {
      this.#pace.answered("missing");
      return this.#ask(now, out);
    }
    const signed = openManifest(this.#crypto, this.#keys.source, frame, migration.bytes);
    const problem = "reason" in signed ? signed.message : this.#foreign(signed, frame.claim);
    if (problem !== undefined || "reason" in signed) {
      out.push({ kind: "observe", what: "bad_manifest", value: 1 });
      return;
    }
    // Older rounds come late; after the commit only what was committed counts.
    const decided = migration.digest.length > 0 && sameBytes(signed.digest, migration.digest);
    if (migration.digest.length > 0 ? !decided : signed.manifest.round <= (current?.manifest.round ?? 0)) return;
    this.#replace(signed, frame.claim, out);
    this.#pace.answered("missing");
    this.#ask(now, out);
  }

  /** foreign says why a manifest that the source signed is not one of this transfer. */
  #foreign({ manifest }: SignedManifest, claim: Uint8Array): string | undefined {
    const { transfer, agent, fence, from, to } = this.#id;
    const same =
      manifest.transfer === transfer &&
      manifest.agent === agent &&
      manifest.fence === fence &&
      manifest.from === from &&
      manifest.to === to;
    if (!same) return "the manifest is of another move";
    return manifest.final === claim.length > 0 ? undefined : "a final manifest comes with a claim, and no other does";
  }

  #replace(signed: SignedManifest, claim: Uint8Array, out: DestinationEffect[]): void {
    this.#signed = signed;
    this.#claim = claim.slice();
    this.#wanted.clear();
    this.#phase = "copying";
    this.#ahead = "no";
    out.push({ kind: "persist", ops: [...this.#held.keep(signed.manifest), this.#store.record(this.#record())], hard: false });
  }

  /** ask says what is missing of the newest manifest, or that nothing is. */
  #ask(now: Now, out: DestinationEffect[]): void {
    if (this.#signed === undefined || this.#wanted.opens) return;
    const { manifest } = this.#signed;
    const { transfer, from } = this.#id;
    const missing = missingIn(manifest, this.#held.all);
    if (missing.length === 0) this.#stage(out);
    if (missing.length === 0 && this.#phase === "copying" && manifest.final) {
      this.#keep("complete", out);
      return this.#advance(now, out);
    }
    if (!this.#pace.ready(now.mono, "missing")) return;
    const { round } = manifest;
    if (missing.length === 0) return void out.push({ kind: "send", to: from, frame: { kind: "have", transfer, round }, early: false });
    this.#want(this.#wanted.again(manifest, missing), round, out);
  }

  #want(numbers: readonly number[], round: number, out: DestinationEffect[]): void {
    const { transfer, from } = this.#id;
    out.push({ kind: "send", to: from, frame: { kind: "missing", transfer, round, numbers }, early: true });
  }

  /** goOn asks for more before all is here that was asked for. */
  #goOn(now: Now, manifest: Manifest, out: DestinationEffect[]): void {
    const numbers = this.#wanted.more(manifest, this.#held.all);
    if (numbers.length === 0) return;
    this.#pace.answered("missing");
    this.#pace.ready(now.mono, "missing");
    this.#want(numbers, manifest.round, out);
  }

  /** stage shows the program what it may have to start, once a round (MX8). */
  #stage(out: DestinationEffect[]): void {
    const { transfer, agent } = this.#id;
    const { manifest } = this.#signed as SignedManifest;
    if (this.#staged === manifest.round || this.#phase === "started") return;
    const checkpoint = layOut(manifest, this.#held.all);
    if (checkpoint === undefined) return;
    this.#staged = manifest.round;
    out.push({ kind: "stage", transfer, agent, checkpoint });
  }

  #parcel(now: Now, frame: Extract<MigrationFrame, { kind: "parcel" }>, out: DestinationEffect[]): void {
    const manifest = this.#signed?.manifest;
    const { round, numbers, enc, sealed } = frame;
    if (manifest === undefined || round !== manifest.round) return;
    const rawLength = lengthOf(manifest, numbers);
    if (rawLength === undefined || sealed.length > rawLength + SEALED_MORE || !this.#wanted.take(numbers))
      return void out.push({ kind: "observe", what: "bad_frame", value: 1 });
    // The source is at work: it is asked again when it has been quiet for a while.
    this.#pace.ready(now.mono, "missing");
    const { transfer, fence } = this.#id;
    out.push({ kind: "open", round, numbers, enc, sealed, rawLength, info: sealInfo(transfer, fence), aad: sealAad(round, numbers) });
  }

  #opened(now: Now, input: Extract<DestinationInput, { kind: "opened" }>, out: DestinationEffect[]): void {
    const { round, numbers, raw } = input;
    const manifest = this.#signed?.manifest;
    if (manifest === undefined || round !== manifest.round || !this.#wanted.opened(numbers)) return;
    const found = raw === undefined ? undefined : splitChunks(this.#crypto, manifest, numbers, raw);
    if (found === undefined) this.#strike(out);
    else {
      const ops = this.#held.add(found, manifest);
      // The program may see it before it is stored: it is no agent there.
      if (missingIn(manifest, this.#held.all).length === 0) this.#stage(out);
      if (ops.length > 0) out.push({ kind: "persist", ops, hard: false });
    }
    if (!this.#wanted.none) return found === undefined ? undefined : this.#goOn(now, manifest, out);
    if (found !== undefined) this.#pace.answered("missing");
    this.#ask(now, out);
  }

  #strike(out: DestinationEffect[]): void {
    out.push({ kind: "observe", what: "bad_parcel", value: ++this.#strikes });
    if (this.#strikes >= STRIKES) this.#wish ??= { cause: "CHECKPOINT", message: "chunks that came are not those of the manifest" };
  }

  #end(outcome: "moved" | "aborted" | "stale", out: DestinationEffect[]): void {
    const { transfer, agent } = this.#id;
    this.#over = true;
    if (outcome === "stale") out.push({ kind: "observe", what: "stale", value: 1 });
    out.push({ kind: "persist", ops: this.#store.forget() });
    if (outcome !== "moved") out.push({ kind: "unstage", transfer, agent });
    out.push({ kind: "over", outcome });
  }

  #keep(phase: Phase, out: DestinationEffect[]): void {
    this.#phase = phase;
    out.push({ kind: "persist", ops: [this.#store.record(this.#record())] });
  }

  #record(): SagaRecord {
    const { bytes = EMPTY, signature = EMPTY, manifest } = this.#signed ?? {};
    return { ...this.#id, phase: this.#phase, round: manifest?.round ?? 0, manifest: bytes, signature, claim: this.#claim };
  }

  #propose(now: Now, command: Extract<DestinationEffect, { kind: "propose" }>["command"], out: DestinationEffect[]): void {
    if (this.#pace.ready(now.mono, `propose ${command.kind}`)) out.push({ kind: "propose", command });
  }
}
