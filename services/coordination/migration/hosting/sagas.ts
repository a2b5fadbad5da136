import type { Crypto } from "#kernel/crypto.ts";
import type { Now } from "#kernel/instant.ts";
import { encode, sameBytes } from "#kernel/wire/shape.ts";
import type { StoredLog } from "../../log/engine.ts";
import type { Members } from "../../members/members.ts";
import type { Effect } from "../../messages.ts";
import type { PartGround } from "../../part.ts";
import type { MigrationBook } from "../book.ts";
import { EMPTY } from "../bytes.ts";
import type { MigrationFrame } from "../frames.ts";
import { type Migration, type MigrationCommand, stepAt } from "../messages.ts";
import { DestinationSaga } from "../saga/destination.ts";
import type { DestinationEffect, DestinationInput } from "../saga/destination-messages.ts";
import { chunkSpace, readRecord, recordSpace, type Seen, type Side, type StoredSaga, sideNeeded } from "../saga/saga.ts";
import type { SagaIdentity } from "../saga/saga-record.ts";
import { SourceSaga } from "../saga/source.ts";
import type { SourceEffect, SourceInput } from "../saga/source-messages.ts";
import { AGENT_CLAIM } from "../shapes.ts";
import { askerProblem } from "./asker.ts";
import type { AskReply, AskSpec } from "./messages.ts";
import type { Residents } from "./residents.ts";

/** CHECKPOINT_MAX is the largest checkpoint that this hub gives away or takes, bytes: each end holds it in memory. */
export const CHECKPOINT_MAX = 64 * 1024 * 1024;
/** ROOM_MAX is how much of all agents that are on their way here it holds at a time, bytes. */
export const ROOM_MAX = 512 * 1024 * 1024;
/** ROOM_MS is how long the room for an agent is kept, ms of log time. */
const ROOM_MS = 24 * 3_600_000;
/** A hub that has just started waits so long for the programs that take agents in before it refuses one, ms. */
const PROGRAMS_MS = 10_000;

type Running = { readonly id: SagaIdentity } & (
  | { readonly side: "source"; readonly saga: SourceSaga }
  | { readonly side: "destination"; readonly saga: DestinationSaga }
);
type AnyInput = SourceInput | DestinationInput;

/** SagasGround is what they work with. */
export interface SagasGround {
  readonly hubId: string;
  readonly crypto: Crypto;
  readonly stored: StoredLog;
  readonly sealingKey: Uint8Array;
  readonly book: MigrationBook;
  readonly members: Members;
  readonly residents: () => Residents;
  readonly submit: PartGround["submit"];
  /** read asks for a linearizable read, whose end is told by `tell`. */
  readonly read: () => void;
  /** seen is what the log says here of a migration and its agent. */
  readonly seen: (agent: string, transfer: number) => Seen;
  readonly beganAt: number;
}

/**
 * Sagas are this hub's side of every migration: each is stored, goes on after a restart, and is driven by the log, by frames of the other
 * hub, and by what programs answer.
 *
 * SG1 a saga hears frames only of the hub at its other end.
 * SG2 a source seals only to the key with which the destination is a member.
 * SG3 a destination lets a move be committed only while a program is there that takes in agents of that kind.
 * SG4 a saga that is not stored begins only after a linearizable read of this process: before, the log may show a move that is long over.
 * SG5 what is promised to moves to here, and what is held of them until programs have the agents, has at most ROOM_MAX bytes together.
 * SG6 where members may lie, a source gives an agent away by its own hub's word only.
 */
export class Sagas {
  readonly #o: SagasGround;
  /** As many as there are moves from here and to here that are not over (BOUNDS). */
  readonly #running = new Map<string, Running>();
  #todo: { readonly running: Running; readonly input: AnyInput | undefined }[] = [];

  constructor(ground: SagasGround) {
    this.#o = ground;
    for (const side of ["source", "destination"] as const)
      for (const { bytes } of ground.stored.space(recordSpace(side))) {
        const record = readRecord(bytes);
        const chunks = new Map([...ground.stored.space(chunkSpace(side, record.transfer))].map(({ key, bytes: chunk }) => [key, chunk]));
        this.#run(side, record, { record, chunks });
      }
  }

  /** spaces are those of all sagas that are stored. */
  static spaces(stored: StoredLog): string[] {
    return (["source", "destination"] as const).flatMap((side) => [
      recordSpace(side),
      ...[...stored.space(recordSpace(side))].map(({ key }) => chunkSpace(side, Number(key))),
    ]);
  }

  /** arriving tells whether an agent comes here and has not been started, though it may be committed. */
  arriving(agent: string): boolean {
    return this.#some((one) => one.side === "destination" && one.id.agent === agent && one.saga.phase !== "started");
  }

  leaving(agent: string): boolean {
    return this.#some((one) => one.side === "source" && one.id.agent === agent);
  }

  /** tell gives the log's news to all sagas and starts those that are needed. */
  tell(now: Now, out: Effect[]): void {
    const { book } = this.#o;
    for (const migration of [...book.migrations(), ...book.history()]) this.#runNeeded(migration);
    for (const running of [...this.#running.values()]) this.#tellOne(running);
    this.#work(now, out);
  }

  /** tellOf gives the news of one migration. */
  tellOf(now: Now, migration: Migration, out: Effect[]): void {
    this.#runNeeded(migration);
    for (const running of this.#both(migration.transfer)) this.#tellOne(running);
    this.#work(now, out);
  }

  frame(now: Now, from: string, frame: MigrationFrame, out: Effect[]): void {
    for (const running of this.#both(frame.transfer)) {
      const { from: source, to } = running.id;
      if (from === (running.side === "source" ? to : source)) this.#todo.push({ running, input: { kind: "frame", frame } });
    }
    this.#work(now, out);
  }

  input(now: Now, side: Side, transfer: number, input: AnyInput, out: Effect[]): void {
    const running = this.#running.get(`${side} ${transfer}`);
    if (running !== undefined) this.#todo.push({ running, input });
    this.#work(now, out);
  }

  tick(now: Now, out: Effect[]): void {
    for (const running of this.#running.values())
      if ((running.saga.deadline() ?? Number.POSITIVE_INFINITY) <= now.mono) this.#todo.push({ running, input: undefined });
    this.#work(now, out);
  }

  deadline(): number {
    let due = Number.POSITIVE_INFINITY;
    for (const { saga } of this.#running.values()) due = Math.min(due, saga.deadline() ?? due);
    return due;
  }

  /** describe has one line for each saga. */
  describe(): string[] {
    return [...this.#running.values()].map(({ saga }) => saga.describe());
  }

  #some(holds: (running: Running) => boolean): boolean {
    for (const running of this.#running.values()) if (holds(running)) return true;
    return false;
  }

  #both(transfer: number): Running[] {
    return (["source", "destination"] as const).map((side) => this.#running.get(`${side} ${transfer}`)).filter((one) => one !== undefined);
  }

  #tellOne(running: Running): void {
    const { agent, transfer } = running.id;
    this.#todo.push({ running, input: { kind: "log", seen: this.#o.seen(agent, transfer) } });
  }

  #runNeeded(migration: Migration): void {
    const { agent, transfer } = migration;
    const { linear, agent: owned } = this.#o.seen(agent, transfer);
    // After a start the log is read again from its beginning, and shows moves that were over long ago as if they were under way (SG4).
    if (!linear) return;
    const side = sideNeeded(migration, this.#o.hubId, this.#o.residents().fence(agent), owned);
    if (side !== undefined && !this.#running.has(`${side} ${transfer}`)) this.#run(side, migration);
  }

  #run(side: Side, { transfer, agent, fence, from, to }: SagaIdentity, stored?: StoredSaga): void {
    const id = { transfer, agent, fence, from, to };
    const { crypto, members, sealingKey } = this.#o;
    if (side === "source") {
      this.#running.set(`source ${transfer}`, { side, id, saga: new SourceSaga(id, crypto, undefined, stored) });
      return;
    }
    const keys = {
      get source() {
        return members.key(from)?.publicKey ?? EMPTY;
      },
      sealing: sealingKey,
    };
    this.#running.set(`destination ${transfer}`, { side, id, saga: new DestinationSaga(id, crypto, keys, undefined, stored) });
  }

  /** work steps sagas until nothing is left that they can be told. */
  #work(now: Now, out: Effect[]): void {
    for (let next = this.#todo.shift(); next !== undefined; next = this.#todo.shift()) {
      const { running, input } = next;
      if (running.side === "source") {
        const effects: SourceEffect[] = [];
        if (input === undefined) running.saga.tick(now, effects);
        else running.saga.step(now, input as SourceInput, effects);
        for (const effect of effects) this.#one(now, running, effect, out);
      } else {
        const effects: DestinationEffect[] = [];
        if (input === undefined) running.saga.tick(now, effects);
        else running.saga.step(now, input as DestinationInput, effects);
        for (const effect of effects) this.#one(now, running, effect, out);
      }
    }
  }

  #one(now: Now, running: Running, effect: SourceEffect | DestinationEffect, out: Effect[]): void {
    const { transfer, agent } = running.id;
    const later = (input: AnyInput): void => void this.#todo.push({ running, input });
    switch (effect.kind) {
      case "persist":
        return void out.push(effect);
      case "observe":
        return void out.push({ kind: "observe", what: `migration_${effect.what}`, value: effect.value });
      case "propose":
        if (effect.command.kind === "confirm") return this.#confirm(running, effect.command);
        return this.#o.submit({ book: "migration", command: effect.command });
      case "read":
        return this.#o.read();
      case "send":
        return void out.push({ kind: "send", peer: effect.to, early: effect.early, frame: { kind: "migration", frame: effect.frame } });
      case "gate":
        if (running.side === "destination" && effect.state === "open") this.#o.residents().started(agent);
        return this.#o.residents().gate(agent, effect.state, effect.fence, effect.hub, out);
      case "over":
        this.#running.delete(`${running.side} ${transfer}`);
        this.#o.residents().drop(`${running.side} ${transfer} `);
        return void out.push(overEvent(running, effect.outcome));
      case "judge":
        return this.#judge(now, running, effect.migration);
      case "seal":
        if (!sameBytes(effect.key, this.#o.members.member(running.id.to)?.sealingKey ?? EMPTY))
          return later({ kind: "abort", cause: "FAILED", message: `${running.id.to} is no member with the key that it said` });
        return void out.push({ kind: "agent", effect: { ...effect, transfer }, early: true });
      case "open":
        return void out.push({ kind: "agent", effect: { ...effect, transfer }, early: true });
      case "stage":
        return this.#o.residents().stage(transfer, agent, running.id.fence + 1, effect.checkpoint, out);
      case "unstage":
        return void out.push({ kind: "agent", effect });
      default:
        return this.#ask(running, effect, out);
    }
  }

  /** judge says whether an agent may go, or is taken. Without a program that could, it says nothing for a while. */
  #judge(now: Now, running: Running, migration: Migration): void {
    const residents = this.#o.residents();
    if (running.side === "source") {
      const message = askerProblem(this.#o.members, migration.from, migration.by);
      const failure = message === undefined ? undefined : ({ reason: "ACCESS_DENIED", message } as const);
      if (failure !== undefined) return void this.#todo.push({ running, input: { kind: "judged", failure, bytes: 0 } });
      if (residents.connected(migration.agent)) this.#todo.push({ running, input: { kind: "judged", bytes: CHECKPOINT_MAX } });
      return;
    }
    const until = now.wall + ROOM_MS;
    const answer = (message?: string): void => {
      const failure = message === undefined ? {} : { failure: { reason: "NO_EXECUTOR", message } as const };
      this.#todo.push({ running, input: { kind: "judged", ...failure, bytes: CHECKPOINT_MAX, until } });
    };
    if (migration.bytes + this.#roomTaken(running) > ROOM_MAX)
      return answer(`${this.#o.hubId} takes in too many agents at once; ask again when some have arrived`);
    if (residents.takes()) return answer();
    if (now.mono - this.#o.beganAt >= PROGRAMS_MS) answer(`no program is connected to ${this.#o.hubId} that takes agents in; start one`);
  }

  /** roomTaken is how much room other agents have that are on their way here, or were told that they may come (SG5), bytes. */
  #roomTaken(judged: Running): number {
    let bytes = 0;
    for (const running of this.#running.values()) {
      if (running.side !== "destination" || running === judged) continue;
      const migration = this.#o.book.migration(running.id.transfer);
      if (migration === undefined) continue;
      const isAccepted = migration.status === "open" && stepAt(migration.step) >= stepAt("ACCEPT");
      if (isAccepted || running.saga.holds) bytes += migration.bytes;
    }
    return bytes;
  }

  /** confirm has the move committed; the log refuses what comes before TRANSFER. */
  #confirm(running: Running, command: Extract<MigrationCommand, { kind: "confirm" }>): void {
    if (!this.#mayConfirm(running)) return void this.#todo.push({ running, input: this.#noProgram(running) });
    this.#o.submit({ book: "migration", command }, (outcome, at, out) => {
      const result = outcome.kind === "applied" ? outcome.applied.result : undefined;
      if (result?.ok === false && result.failure.reason === "MIGRATION_STEP")
        this.input(at, running.side, running.id.transfer, { kind: "too_early" }, out);
    });
  }

  #mayConfirm(running: Running): boolean {
    return running.side !== "destination" || this.#o.residents().takes(running.saga.agentKind ?? "");
  }

  #noProgram(running: Running): AnyInput {
    const kind = running.side === "destination" ? (running.saga.agentKind ?? "") : "";
    const message = `no program is connected to ${this.#o.hubId} that takes in agents of the kind "${kind}" (the first dependency); start one`;
    return { kind: "abort", cause: "REFUSED", message };
  }

  #ask(
    running: Running,
    effect: Extract<SourceEffect | DestinationEffect, { kind: "capture" | "claim" | "resume" | "discard" | "start" }>,
    out: Effect[],
  ): void {
    const { transfer, agent, fence, to } = running.id;
    const common = { agent, fence, transfer, round: 0, claim: EMPTY, checkpoint: undefined, hub: "" };
    const want = (spec: AskSpec, made: (reply: AskReply) => AnyInput | undefined): void => {
      const key = `${running.side} ${transfer} ${spec.deed} ${spec.round}`;
      const then = (reply: AskReply, at: Now, later: Effect[]): void => {
        const input = made(reply);
        if (input?.kind === "discarded") this.#o.residents().discarded(agent, fence, later);
        if (input !== undefined) this.input(at, running.side, transfer, input, later);
      };
      this.#o.residents().ask(key, spec, then, out);
    };
    switch (effect.kind) {
      case "capture": {
        const { round } = effect;
        return want({ ...common, deed: effect.freeze ? "FREEZE" : "CAPTURE", round }, ({ checkpoint, failure = GONE }) =>
          checkpoint === undefined ? { kind: "not_captured", round, failure } : { kind: "captured", round, checkpoint },
        );
      }
      case "claim": {
        const { round } = effect;
        return want({ ...common, deed: "CLAIM", round, claim: encode(AGENT_CLAIM, effect.claim) }, ({ signature, failure = GONE }) =>
          signature === undefined
            ? { kind: "abort", cause: "FAILED", message: failure.message }
            : { kind: "claimed", round, claim: signature },
        );
      }
      case "resume":
        return want({ ...common, deed: "RESUME", checkpoint: effect.checkpoint }, ({ failure }) =>
          failure === undefined ? { kind: "resumed" } : undefined,
        );
      case "discard":
        return want({ ...common, deed: "DISCARD", hub: to }, ({ failure }) => (failure === undefined ? { kind: "discarded" } : undefined));
      case "start":
        return want({ ...common, deed: "START", fence: effect.fence, checkpoint: effect.checkpoint }, ({ failure }) =>
          failure === undefined ? { kind: "started" } : { kind: "not_started", failure },
        );
    }
  }
}

const GONE = { reason: "EXECUTOR_FAILED", message: "the program of the agent answered without what it was asked for" } as const;

function overEvent({ side, id: { agent, from, to, transfer } }: Running, outcome: "moved" | "aborted" | "stale"): Effect {
  const [severity, what] =
    outcome === "moved"
      ? (["info", `has moved from ${from} to ${to}`] as const)
      : outcome === "aborted"
        ? (["warning", `stays at ${from}: the move to ${to} was aborted (foedus agents migrations says why)`] as const)
        : (["error", `was found in a store that is older than the log; its move from ${from} to ${to} was decided before`] as const);
  const message = `agent ${agent} ${what} (migration ${transfer})`;
  return { kind: "event", severity, name: `agent_${outcome}`, message, hubId: side === "source" ? to : from };
}
