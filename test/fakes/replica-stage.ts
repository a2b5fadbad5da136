import type { Now } from "#kernel/instant.ts";
import { commandCodec } from "../../services/coordination/codec/commands.ts";
import { readState, writeState } from "../../services/coordination/codec/state.ts";
import { writeBatch } from "../../services/coordination/log/batch.ts";
import {
  type EngineEffect,
  type EngineInput,
  type LogEngine,
  type LogStatus,
  type ReplicaId,
  replicaIdOf,
} from "../../services/coordination/log/engine.ts";
import { Proposer } from "../../services/coordination/log/proposer.ts";
import { Replica } from "../../services/coordination/log/replica.ts";
import type { ReplicaEffect, ReplicaFrame } from "../../services/coordination/log/replica-messages.ts";
import type { LogCommand } from "../../services/coordination/state/commands.ts";
import { FederationState } from "../../services/coordination/state/federation-state.ts";
import { candidateOf, foundingOf, keyOf } from "./federation-books.ts";

/** HUBS of the federation. */
export const HUBS = ["a", "b", "c"];
const FOUNDING = foundingOf(HUBS.map((hub) => candidateOf(hub)));
/** stateOf is the state of a federation of three hubs that was just founded. */
export const stateOf = (): FederationState => new FederationState({ crypto: keyOf("a").crypto, codec: commandCodec }, FOUNDING);
/** put is a command that sets a value. */
export const put = (key: string): LogCommand => ({
  book: "values",
  command: { kind: "put", key, value: new Uint8Array(), conditional: false, expect: 0 },
});

/** FakeEngine does what a test says. */
class FakeEngine implements LogEngine<string> {
  readonly inputs: EngineInput<string>[] = [];
  quorum = true;
  leader: ReplicaId | undefined;
  on: (input: EngineInput<string>, out: EngineEffect<string>[]) => void = () => undefined;

  step(_now: Now, input: EngineInput<string>, out: EngineEffect<string>[]): void {
    this.inputs.push(input);
    this.on(input, out);
  }

  tick(): void {}

  deadline(): number | undefined {
    return 0;
  }

  status(): LogStatus {
    const membership = { voters: HUBS.map((hub) => replicaIdOf(hub, 1)), outgoing: [], learners: [] };
    return { role: "follower", term: 1, leader: this.leader, committed: 0, last: 0, membership, ageMs: 0, quorum: this.quorum };
  }

  time({ wall }: Now): number {
    return Math.floor(wall);
  }

  describe(): string {
    return "fake";
  }
}

/** Stage is a replica of hub a with an engine that does what a test says. */
export class Stage {
  readonly engine = new FakeEngine();
  readonly out: ReplicaEffect<string>[] = [];
  readonly state = stateOf();
  readonly replica: Replica<string>;
  mono = 0;
  #index = 0;

  constructor({ waiting = 100, leaderless = false } = {}) {
    const sign = (session: number, first: number, commands: readonly Uint8Array[]): Uint8Array =>
      writeBatch({ federation: this.state.federation, author: "a", incarnation: 1, session, first, commands }, keyOf("a").crypto);
    this.replica = new Replica({
      self: "a/1",
      engine: this.engine,
      state: this.state,
      proposer: new Proposer({ window: 4, waiting, waitingBytes: 1_000_000, resendMs: 1_000 }, 5, sign),
      codec: commandCodec,
      stateCodec: { write: writeState, read: readState },
      leaderless,
      start: 5,
      patienceMs: 10_000,
      graceMs: 3_000,
    });
  }

  get now(): Now {
    return { mono: this.mono, wall: 1_000_000 + this.mono };
  }

  /** say has the engine say something. */
  say(...effects: readonly EngineEffect<string>[]): void {
    const before = this.engine.on;
    this.engine.on = (_input, out) => void out.push(...effects);
    this.replica.hint(this.now, { kind: "clock", trusted: true }, this.out);
    this.engine.on = before;
    this.engine.inputs.pop();
  }

  lead(leader: ReplicaId | undefined): void {
    this.engine.leader = leader;
    this.say({ kind: "role", role: leader === "a/1" ? "leader" : "follower", term: 1, leader });
  }

  commit(...payloads: readonly Uint8Array[]): void {
    this.say({ kind: "committed", entries: [{ index: ++this.#index, term: 1, time: 1_000_000, payloads }] });
  }

  at(mono: number): void {
    this.mono = mono;
    this.replica.tick(this.now, this.out);
  }

  submit(call: number, key = `k${call}`): void {
    this.replica.submit(this.now, call, put(key), this.out);
  }

  read(call: number): void {
    this.replica.read(this.now, call, this.out);
  }

  frame(peer: string, frame: ReplicaFrame<string>): void {
    this.replica.frame(this.now, peer, frame, this.out);
  }

  /** told gives what callers were told since the last look. */
  told(): string[] {
    return this.#take(["decided", "readable", "refused", "done"]).map((effect) =>
      effect.kind === "refused" ? `${effect.call} ${effect.failure.reason}` : `${(effect as { call: number }).call} ${effect.kind}`,
    );
  }

  /** sent gives the frames that left since the last look. */
  sent(): { readonly peer: string; readonly frame: ReplicaFrame<string> }[] {
    return this.#take(["send"]) as never;
  }

  stray(): number {
    return this.#take(["observe"]).filter((effect) => effect.kind === "observe" && effect.what === "stray_frame").length;
  }

  #take(kinds: readonly string[]): ReplicaEffect<string>[] {
    const taken = this.out.filter(({ kind }) => kinds.includes(kind));
    for (const effect of taken) this.out.splice(this.out.indexOf(effect), 1);
    return taken;
  }
}
