import type { SessionFrame } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import type { Prng } from "#kernel/prng.ts";
import type { Output } from "#runtime/driver.ts";
import { createDriver, type Driver } from "#runtime/driver.ts";
import type { RawMessage } from "#runtime/rpc/call.ts";
import type { PeerLinks } from "#runtime/rpc/peer-links.ts";
import { decodeInvocations, decodeResults } from "../../services/command-forwarding/codec.ts";
import { CommandCore } from "../../services/command-forwarding/core.ts";
import { PeerOutbox } from "../../services/command-forwarding/links.ts";
import {
  type Command,
  type CommandEffect,
  type DirectoryChange,
  type Input,
  NO_VALUE,
  type Reply,
  type Task,
  type TaskReport,
} from "../../services/command-forwarding/messages.ts";
import { META_KEY, META_SPACE } from "../../services/command-forwarding/restore.ts";
import { isAnswer, isUrgent, overtakes } from "../../services/command-forwarding/store-refusal.ts";
import { Turn } from "../../services/command-forwarding/turn.ts";
import { FieldError, Reader } from "../../services/command-forwarding/wire.ts";
import { fastHash } from "./crypto.ts";
import type { Disk } from "./disk.ts";
import { linksBase, type Process, type Service } from "./host.ts";
import { Links } from "./links.ts";
import { mayInvoke, textIn } from "./nodes.ts";

/** Behaviour of an executor for one task, drawn by the workload's generator. */
export interface Behaviour {
  readonly what: "done" | "fail" | "decline" | "hang" | "crash";
  readonly delayMs: number;
}

/** CommandHooks join the commands of a hub to its surroundings. */
export interface CommandHooks {
  readonly nodeIds: readonly string[];
  readonly behave: () => Behaviour;
  readonly prng: Prng;
  /** tamper may add to what a hostile hub sends, or put something else in its place. */
  readonly tamper: (peer: string, bytes: Uint8Array) => readonly Uint8Array[];
  readonly onReply: (reply: Reply) => void;
  readonly onPresence: (attached: readonly string[], detached: readonly string[]) => void;
}

const EXECUTOR = "gateway/sim";

/** readFrame reads what a session carries. */
export function readFrame(bytes: Uint8Array) {
  const envelope = new Reader(bytes);
  envelope.tag();
  const frame = envelope.sub();
  return frame.tag() === 0x12
    ? { kind: "invocations" as const, frame: decodeInvocations(frame.sub()) }
    : { kind: "results" as const, frame: decodeResults(frame.sub()) };
}

/** CommandHost runs the shipping command core of one process, with the shipping driver, turns and outbox. */
export class CommandHost implements Service {
  readonly #p: Process;
  readonly #hooks: CommandHooks;
  readonly disk: Disk;
  readonly links: Links;
  readonly core: CommandCore;
  readonly #outbox: PeerOutbox;
  #driver: Driver<Input> | undefined;
  #turn: Turn<Input> | undefined;
  #executor = 0;

  constructor(p: Process, disk: Disk, hooks: CommandHooks) {
    this.#p = p;
    this.#hooks = hooks;
    this.disk = disk;
    this.core = new CommandCore({ hubId: p.hubId, hash: fastHash });
    this.links = new Links({
      ...linksBase(p, "commands"),
      synchronises: false,
      heads: () => [],
      onUp: (peer, session, replaced) => {
        if (replaced === undefined) this.#outbox.drop(peer);
        this.#tell({ kind: "peer-up", peer, session: session.streamId });
      },
      onDown: (peer) => {
        if (this.links.current(peer) !== undefined) return;
        this.#outbox.drop(peer);
        this.#tell({ kind: "peer-down", peer });
      },
      onFrame: (peer, session, frame) => this.#frame(peer, session.streamId, frame as Uint8Array),
      onHeads: () => undefined,
      onCredit: (peer) => this.#outbox.pump(peer),
    });
    const facade: Pick<PeerLinks<SessionFrame>, "current" | "send"> = {
      current: (peer) => this.links.current(peer),
      send: (peer, message) => {
        const { bytes } = message as RawMessage;
        return hooks.tamper(peer, bytes).every((each) => this.links.send(peer, each, each.length));
      },
    };
    this.#outbox = new PeerOutbox(p.clock, () => facade as PeerLinks<SessionFrame>);
  }

  start(): void {
    const { store } = this.disk;
    const { clock, metrics, log } = this.#p;
    this.core.restore(clock.now(), {
      meta: store.get(META_SPACE, META_KEY),
      blobs: store.read("journal", 0),
      tailAtRisk: store.tailAtRisk,
    });
    this.#driver = createDriver<Input, CommandEffect>({
      service: "command-forwarding",
      core: this.#p.sabotage.commands?.(this.core, this.#p.hub) ?? this.core,
      store,
      clock,
      log,
      metrics,
      commit: "now",
      execute: (effect) => this.#execute(effect),
      observe: () => undefined,
      reject: (effect) => {
        if (!isAnswer(effect)) return "keep";
        this.#execute(effect);
        return "drop";
      },
      overtakes,
      urgent: isUrgent,
      onStored: (report) =>
        report.ok
          ? report.recovered
            ? { kind: "stored", ok: true, failure: undefined }
            : undefined
          : { kind: "stored", ok: false, failure: report.failure },
      onFatal: (error) => this.#p.fatal("command-forwarding", error),
    });
    this.#turn = new Turn(clock, this.#driver, () => this.#outbox.flush());
    this.#tell({ kind: "start" });
    this.setPolicy();
    this.setPeers();
    this.attach();
  }

  setPolicy(): void {
    const { hubIds, trust } = this.#p;
    this.#tell({
      kind: "policy",
      policy: (peer, _nodeId, capability) => (mayInvoke(trust(hubIds.indexOf(peer)).share, capability) ? "invoke" : "see"),
    });
  }

  setPeers(): void {
    const { hub, hubIds, trust } = this.#p;
    const peers = hubIds.flatMap((hubId, i) => (i === hub ? [] : [{ hubId, level: trust(i).level }]));
    this.#tell({ kind: "peers", peers });
    for (let i = 0; i < hubIds.length; i++) if (i !== hub) this.links.setTrust(hubIds[i] as string, trust(i));
  }

  directory(changes: readonly DirectoryChange[]): void {
    if (changes.length > 0) this.#tell({ kind: "directory", changes });
  }

  execute(client: number, command: Command): boolean {
    return this.#turn?.post({ kind: "execute", client, principal: `spiffe://${this.#p.hubId}/operator/sim`, commands: [command] }) ?? false;
  }

  cancel(client: number, corr: number): void {
    this.#tell({ kind: "cancel", client, corrs: [corr] });
  }

  clientGone(client: number): void {
    this.#tell({ kind: "client-gone", client });
  }

  /** attach makes the gateway's executor serve all nodes; a newer one replaces it. */
  attach(): void {
    this.#executor++;
    const offer = { nodeIds: this.#hooks.nodeIds, capabilities: [], maxInFlight: 4, shared: false };
    this.#tell({ kind: "attach", executor: this.#executor, name: EXECUTOR, scope: { kind: "gateway", prefixes: [] }, offer });
  }

  /** executorGone is a cut of the executor's stream. */
  executorGone(): void {
    this.#tell({ kind: "executor-gone", executor: this.#executor });
  }

  stop(): Promise<boolean> {
    this.#tell({ kind: "stop" });
    this.links.stop();
    return this.#driver?.stop() ?? Promise.resolve(false);
  }

  describe(): string {
    return `${this.core.describe()}\n${this.links.describe()}`;
  }

  #tell(input: Input): void {
    this.#turn?.tell(input);
  }

  /** A hostile hub may send numbers that nobody can mean. What cannot be read at all is a bug of the hub that wrote it, or of this one. */
  #frame(peer: string, session: number, bytes: Uint8Array): void {
    try {
      this.#tell({ ...readFrame(bytes), peer, session });
    } catch (error) {
      if (!(error instanceof FieldError)) return this.#p.fatal("command-forwarding", error);
      this.#p.trace.note(this.#p.scheduler.now, this.#p.hub, "refused frame", () => `${error.field} from ${peer}`);
      this.links.violate(session, { reason: "INVALID_FIELD", message: error.message, field: error.field });
    }
  }

  #execute(effect: Output<CommandEffect>): void {
    const { trace, hub, settle } = this.#p;
    // What waits for the end of the turn runs as a microtask.
    settle();
    this.#turn?.wrote();
    trace.note(this.#p.scheduler.now, hub, effect.kind);
    switch (effect.kind) {
      case "reply":
        return this.#hooks.onReply(effect);
      case "invoke":
        return this.#outbox.invoke(effect);
      case "respond":
        return this.#outbox.respond(effect);
      case "tasks":
        for (const task of effect.items) this.#task(effect.executor, task);
        return;
      case "presence":
        return this.#hooks.onPresence(effect.online ? effect.nodeIds : [], effect.online ? [] : effect.nodeIds);
      case "detach":
      case "attached":
      case "cancel-task":
        return;
    }
  }

  /** task is what the executor does: it lives outside the hub, so that its effect happens even if the hub is gone by then. */
  #task(executor: number, task: Task): void {
    const { what, delayMs } = this.#hooks.behave();
    const { scheduler, oracle, hub, clock } = this.#p;
    const op = oracle.commands.get(textIn(task.value));
    const report = (result: Omit<TaskReport, "taskId">): void => {
      if (clock.alive && executor === this.#executor)
        this.#tell({ kind: "reports", executor, reports: [{ taskId: task.taskId, ...result }] });
    };
    scheduler.after(delayMs, () => {
      if (what === "decline") {
        if (op !== undefined) op.declined = true;
        return report({ value: NO_VALUE, failure: { reason: "VALUE_OUT_OF_RANGE", message: "not now" } });
      }
      op?.effects.push({ hub, nodeId: task.nodeId, at: scheduler.now });
      this.#p.trace.note(scheduler.now, hub, "effect", () => `${op?.id} ${task.nodeId} ${task.capability}`);
      if (what === "done") return report({ value: task.value, failure: undefined });
      if (what === "fail") return report({ value: NO_VALUE, failure: { reason: "EXECUTOR_FAILED", message: "it did not work" } });
      if (what === "crash" && clock.alive && executor === this.#executor) {
        this.executorGone();
        scheduler.after(500, () => {
          if (clock.alive && executor === this.#executor) this.attach();
        });
      }
    });
  }
}
