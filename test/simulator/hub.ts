import { Registry } from "prom-client";
import type { Prng } from "#kernel/prng.ts";
import { type Command, OUTCOME_NAMES, type Reply } from "../../services/command-forwarding/messages.ts";
import type { NamedUpdate, Output, WatchPush } from "../../services/registry-sync/messages.ts";
import { MachineClock, ProcessClock } from "./clock.ts";
import { type Behaviour, CommandHost } from "./command-host.ts";
import { Disk } from "./disk.ts";
import type { Federation } from "./federation.ts";
import { type Process, SILENT } from "./host.ts";
import { encodeNode, LIMITED_RULES, type NodeSpec, STATE_KEYS, stringValue, textIn } from "./nodes.ts";
import type { HubOptions } from "./options.ts";
import type { CommandCall, CommandOp, Write } from "./oracle.ts";
import { GATEWAY, RegistryHost } from "./registry-host.ts";
import { Watcher } from "./watcher.ts";

const WALL = 1_800_000_000_000;

/** Running is one process of a hub, from start to crash. */
interface Running {
  readonly process: Process;
  readonly registry: RegistryHost;
  readonly commands: CommandHost;
  readonly watcher: Watcher;
  readonly stream: number;
  /** Client number of the hub's user in the command service. */
  client: number;
  batch: number;
  corr: number;
  readonly calls: Map<number, readonly Write[]>;
  readonly batches: Map<number, readonly Write[]>;
  readonly commandCalls: Map<number, { readonly op: CommandOp; readonly call: CommandCall }>;
}

/** SimHub is one hub: a machine with a clock and two disks, which outlive the processes that run on it one after the other. */
export class SimHub {
  readonly no: number;
  readonly hubId: string;
  readonly machine: MachineClock;
  readonly disks: { readonly registry: Disk; readonly commands: Disk };
  readonly options: HubOptions;
  readonly #f: Federation;
  readonly #prng: Prng;
  running: Running | undefined;
  /** Number of the newest process; nodes' versions rise with every registration. */
  incarnation = 0;
  boots = 0;
  slowUntil = 0;
  rules = 0;
  readonly versions = new Map<string, number>();
  readonly areas = new Map<string, string>();
  #op = 0;

  constructor(f: Federation, no: number, options: HubOptions, prng: Prng) {
    this.#f = f;
    this.no = no;
    this.hubId = f.hubIds[no] as string;
    this.options = options;
    this.#prng = prng;
    this.machine = new MachineClock(f.scheduler, options.clockRate, WALL + options.wallSkewMs);
    const disk = () => new Disk(f.scheduler, prng, options.disk, f.settle);
    this.disks = { registry: disk(), commands: disk() };
  }

  get nodeIds(): string[] {
    return Array.from({ length: this.#f.options.nodesPerHub }, (_, i) => `n${i}`);
  }

  // ---- life

  start(): void {
    if (this.running !== undefined) return;
    const f = this.#f;
    const clock = new ProcessClock(f.scheduler, this.machine);
    this.incarnation++;
    const process: Process = {
      hub: this.no,
      hubId: this.hubId,
      hubIds: f.hubIds,
      incarnation: this.incarnation,
      seed: this.#prng.u32(),
      clock,
      scheduler: f.scheduler,
      network: f.network,
      oracle: f.oracle,
      trace: f.trace,
      metrics: new Registry(),
      log: SILENT,
      windowBytes: f.options.windowBytes,
      bootId: `boot-${this.boots}`,
      dialable: (peer) => this.#dialable(peer),
      slowMs: () => (f.scheduler.now < this.slowUntil ? 150 : 0),
      trust: (peer) => f.trustOf(this.no, peer),
      sabotage: f.sabotage,
      settle: f.settle,
      fatal: (service, error) => f.fatal(this.no, service, error),
    };
    f.trace.note(f.scheduler.now, this.no, "start");
    try {
      this.running = this.#boot(process);
    } catch (error) {
      clock.alive = false;
      f.fatal(this.no, "start", error);
    }
  }

  #boot(process: Process): Running {
    const f = this.#f;
    const { ringSegments, tailSegments, checkpointSegments, partBytes } = f.options;
    const watcher = new Watcher(f.oracle, this.no, f.hubIds);
    const registry = new RegistryHost(process, this.disks.registry, {
      options: { ringSegments, tailSegments, checkpointSegments, partBytes },
      shares: () => [LIMITED_RULES[this.rules] as (typeof LIMITED_RULES)[number]],
      workMs: () => 1 + 20 * this.#prng.unit(),
      tamper: (peer, frame) => f.tamper(this.no, peer, frame),
      onOutput: (output) => this.#onOutput(output),
      onRejected: (call) => this.#onRejected(call),
      onWatch: (_watch, pushes) => this.#onWatch(pushes),
    });
    const commands = new CommandHost(process, this.disks.commands, {
      nodeIds: this.nodeIds,
      prng: this.#prng,
      behave: () => this.#behave(),
      tamper: (peer, bytes) => f.tamperCommands(this.no, peer, bytes),
      onReply: (reply) => this.#onReply(reply),
      onPresence: (attached, detached) => registry.tell({ kind: "presence", call: registry.id(), attached, detached, replace: false }),
    });
    const running: Running = {
      process,
      registry,
      commands,
      watcher,
      stream: registry.id(),
      client: 1,
      batch: 0,
      corr: 0,
      calls: new Map(),
      batches: new Map(),
      commandCalls: new Map(),
    };
    this.running = running;
    registry.start();
    commands.start();
    registry.tell({ kind: "stream_open", stream: running.stream, scope: GATEWAY });
    const filter = { hubIds: [], nodeIdPrefix: "", type: "", kind: 0, capability: "", onlineOnly: false, labels: {} };
    registry.tell({
      kind: "watch_open",
      watch: registry.id(),
      options: { filter, encoding: "events", nodesOnly: false, latestOnly: this.#prng.chance(0.3), resume: [] },
    });
    return running;
  }

  /** crash ends the process at once. `what`: the process, the machine, or the machine with a backup of its store afterwards. */
  crash(what: "process" | "machine" | "restore"): void {
    const { running } = this;
    if (running === undefined) return;
    const f = this.#f;
    f.trace.note(f.scheduler.now, this.no, `crash ${what}`);
    this.#end(running);
    f.network.kill(this.no, what === "process");
    const { registry, commands } = this.disks;
    const backedUpAt = Math.min(registry.backedUpAt, commands.backedUpAt);
    const syncedAt = Math.min(registry.syncedAt, commands.syncedAt);
    const lost = [registry.crash(what), commands.crash(what)].some((missing) => missing);
    if (lost) f.oracle.rewind(this.no, what === "restore" && backedUpAt >= 0 ? backedUpAt : syncedAt, what === "restore");
    if (what === "process") return;
    this.boots++;
    this.machine.reboot(this.options.battery);
    if (!this.options.battery) f.scheduler.after(3_000 + this.#prng.below(20_000), () => this.machine.setWall(WALL + f.scheduler.now));
  }

  /** stop ends the process cleanly, within grace. */
  stop(done: () => void): void {
    const { running } = this;
    if (running === undefined) return;
    const f = this.#f;
    f.trace.note(f.scheduler.now, this.no, "stop");
    void Promise.all([running.registry.stop(), running.commands.stop()]).then(() => {
      if (this.running !== running) return;
      this.#end(running);
      f.network.kill(this.no, true);
      this.disks.registry.crash("process");
      this.disks.commands.crash("process");
      done();
    });
  }

  #end(running: Running): void {
    const f = this.#f;
    this.running = undefined;
    running.process.clock.alive = false;
    f.network.listen(this.no, "registry", undefined);
    f.network.listen(this.no, "commands", undefined);
    for (const { call } of running.commandCalls.values()) call.void = true;
  }

  // ---- what this hub's clients do

  /** register puts a node, or replaces it. */
  register(nodeId: string, area: string): void {
    const { running } = this;
    if (running === undefined) return;
    const version = (this.versions.get(nodeId) ?? 0) + 1;
    this.versions.set(nodeId, version);
    this.areas.set(`${nodeId}/${version}`, area);
    const spec: NodeSpec = { nodeId, version, area };
    const call = running.registry.id();
    const write = this.#f.oracle.write(this.no, nodeId, String(version));
    running.calls.set(call, [write]);
    if (!running.registry.post({ kind: "register", call, scope: GATEWAY, nodes: [encodeNode(spec)] })) write.refused = true;
  }

  deregister(nodeId: string): void {
    const { running } = this;
    if (running === undefined) return;
    const call = running.registry.id();
    // Its state goes with it.
    const subjects = [nodeId, ...STATE_KEYS.map(({ name }) => `${nodeId}.${name}`)];
    const writes = subjects.map((name) => this.#f.oracle.write(this.no, name, undefined));
    running.calls.set(call, writes);
    if (running.registry.post({ kind: "deregister", call, scope: GATEWAY, nodeId })) return;
    for (const write of writes) write.refused = true;
  }

  /** update reports state changes as one batch. */
  update(updates: readonly NamedUpdate[]): void {
    const { running } = this;
    if (running === undefined) return;
    const seq = ++running.batch;
    const writes = updates.map(({ nodeId, key, value }) => this.#f.oracle.write(this.no, `${nodeId}.${key}`, String(value)));
    running.batches.set(seq, writes);
    if (running.registry.post({ kind: "named", stream: running.stream, seq, updates })) return;
    for (const write of writes) write.refused = true;
    running.batches.delete(seq);
  }

  /** command calls for something to be done at a hub, again if it is known already. */
  command(op: CommandOp): void {
    const { running } = this;
    if (running === undefined) return;
    const call: CommandCall = { at: this.#f.scheduler.now, answer: undefined, void: false, answers: 0 };
    const corr = ++running.corr;
    const command: Command = {
      corr,
      hubId: this.#f.hubIds[op.target] as string,
      nodeId: op.nodeId,
      capability: op.capability,
      value: stringValue(op.id),
      timeoutMs: op.timeoutMs,
      key: op.key,
      hops: [],
    };
    op.calls.push(call);
    running.commandCalls.set(corr, { op, call });
    if (!running.commands.execute(running.client, command)) {
      call.void = true;
      running.commandCalls.delete(corr);
    }
  }

  /** newOp makes something new to be done. */
  newOp(spec: Pick<CommandOp, "target" | "nodeId" | "capability" | "timeoutMs"> & { readonly keyed: boolean }): CommandOp {
    const { keyed, ...rest } = spec;
    const id = `${this.hubId}:${this.incarnation}:${this.#op++}`;
    const op: CommandOp = {
      ...rest,
      id,
      caller: this.no,
      key: keyed ? id : "",
      calls: [],
      effects: [],
      declined: false,
      tainted: false,
      restored: false,
    };
    this.#f.oracle.commands.set(id, op);
    return op;
  }

  cancelLast(): void {
    if (this.running !== undefined) this.running.commands.cancel(this.running.client, this.running.corr);
  }

  /** clientGone cuts the user's stream: nobody waits any more. */
  clientGone(): void {
    const { running } = this;
    if (running === undefined) return;
    for (const { call } of running.commandCalls.values()) call.void = true;
    running.commandCalls.clear();
    running.commands.clientGone(running.client);
    running.client++;
  }

  // ---- what they are told

  #onOutput(output: Extract<Output, { kind: "registered" | "deregistered" | "acked" | "refused" | "bound" | "presence_noted" }>): void {
    const { running } = this;
    if (running === undefined) return;
    const { oracle } = this.#f;
    if (output.kind === "registered" || output.kind === "deregistered") {
      const failed = output.kind === "registered" ? output.results[0]?.failure : output.failure;
      for (const write of running.calls.get(output.call) ?? []) {
        if (failed === undefined) oracle.ack(write);
        else write.refused = true;
      }
      running.calls.delete(output.call);
    } else if (output.kind === "acked") {
      for (const [seq, writes] of running.batches) {
        if (seq > output.upTo) break;
        for (const write of writes) oracle.ack(write);
        running.batches.delete(seq);
      }
    } else if (output.kind === "refused") {
      for (const write of running.batches.get(output.seq) ?? []) write.refused = true;
      running.batches.delete(output.seq);
    }
  }

  /** The store refused it for now: it may still become true, so it stays among what may be there. */
  #onRejected(call: number): void {
    this.running?.calls.delete(call);
  }

  #onWatch(pushes: readonly WatchPush[]): void {
    const { running } = this;
    if (running === undefined) return;
    running.commands.directory(running.watcher.take(pushes));
  }

  #onReply(reply: Reply): void {
    const entry = this.running?.commandCalls.get(reply.corr);
    if (entry === undefined || reply.client !== this.running?.client) return;
    const { op, call } = entry;
    const { outcome, failure, value } = reply.result;
    call.answers++;
    this.#f.trace.note(
      this.#f.scheduler.now,
      this.no,
      `reply ${OUTCOME_NAMES[outcome]} ${failure?.reason ?? ""}`.trim(),
      () => `${op.id} ${failure?.message ?? ""}`,
    );
    // The entry stays: a second answer to the same call must be seen. What the caller was told is the first one.
    call.answer ??= {
      at: this.#f.scheduler.now,
      outcome,
      reason: failure?.reason ?? "",
      value: value.length === 0 ? "" : textIn(value),
    };
  }

  #dialable(peer: number): boolean {
    const { network, trace, scheduler } = this.#f;
    if (!network.natted(peer)) return true;
    trace.note(scheduler.now, this.no, "fault nat", () => `cannot dial hub-${peer}`);
    return false;
  }

  #behave(): Behaviour {
    const delayMs = this.#prng.chance(0.8) ? 200 * this.#prng.unit() : 4_000 * this.#prng.unit();
    if (!this.#f.troubled || !this.#f.options.faults.has("executor")) return { what: "done", delayMs: Math.min(delayMs, 200) };
    const die = this.#prng.unit();
    const what = die < 0.7 ? "done" : die < 0.8 ? "fail" : die < 0.87 ? "decline" : die < 0.94 ? "hang" : "crash";
    if (what !== "done") this.#f.trace.note(this.#f.scheduler.now, this.no, "fault executor", () => what);
    return { what, delayMs };
  }

  describe(): string {
    const { running } = this;
    if (running === undefined) return `${this.hubId} is down`;
    return `== ${this.hubId}\n${running.registry.describe()}\n${running.commands.describe()}`;
  }
}
