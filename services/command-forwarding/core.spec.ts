import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { VALUE_TYPE } from "#kernel/wire/value.ts";
import { capability } from "../../test/commands/hub.ts";
import { invocationsOf, MemoryDisk, MemoryHub, resultsOf } from "../../test/commands/world.ts";
import { checkTranscript, type Step } from "../../test/datadriven/index.ts";
import { type CommandEffect, type Input, NO_VALUE, OUTCOME_NAMES, type Result } from "./messages.ts";

/*
 * Two hubs, a (the caller's) and b (the owner's), with a wire between them that a transcript operates: frames wait until
 * `deliver`, are lost with `down`, and each step of a hub may be the last before a crash.
 */
const CAPABILITIES = [
  capability("say", VALUE_TYPE.STRING, { allowed: ["on", "off"] }),
  capability("level", VALUE_TYPE.DOUBLE, { min: 0, max: 254, step: 1, idempotent: true }),
  capability("temperature", VALUE_TYPE.DOUBLE, { invocable: false }),
];

interface Packet {
  readonly to: "a" | "b";
  readonly input: Input;
  readonly text: string;
}

class Stage {
  mono = 0;
  session = 0;
  wire: Packet[] = [];
  lines: string[] = [];
  backup = new MemoryDisk();
  readonly now = () => ({ mono: this.mono, wall: 1_800_000_000_000 + this.mono });
  readonly hubs = { a: new MemoryHub("a", this.now, { outcomesPerCaller: 3 }), b: new MemoryHub("b", this.now, { outcomesPerCaller: 3 }) };

  constructor() {
    for (const who of ["a", "b"] as const) this.#introduce(who);
  }

  run(step: Step): string {
    this.lines = [];
    this.#run(step);
    return this.lines.join("\n");
  }

  #introduce(who: "a" | "b"): void {
    const node = (hubId: string, nodeId: string, online: boolean) =>
      ({ kind: "put", hubId, nodeId, online, capabilities: CAPABILITIES }) as const;
    this.hubs[who].give({
      kind: "directory",
      changes: [
        { kind: "reset" },
        node("b", "lamp", true),
        node("b", "away", false),
        node("a", "twin", true),
        node("b", "twin", true),
        node("c", "only", true),
        node("d", "both", true),
        node("c", "both", true),
      ],
    });
    this.hubs[who].give({
      kind: "peers",
      peers: [
        { hubId: who === "a" ? "b" : "a", level: 3 },
        { hubId: "low", level: 1 },
      ],
    });
    if (who === "b")
      this.hubs.b.give({ kind: "policy", policy: (peer, nodeId) => (peer !== "a" ? "none" : nodeId === "twin" ? "see" : "invoke") });
  }

  #run({ words, args }: Step): void {
    const [verb = "", who = "a"] = words;
    const hub = who === "b" ? "b" : "a";
    switch (verb) {
      case "execute":
        return this.#give("a", this.#execute(args));
      case "cancel":
        return this.#give("a", { kind: "cancel", client: 2, corrs: [Number(args["corr"])] });
      case "client-gone":
        return this.#give("a", { kind: "client-gone", client: 2 });
      case "attach":
        return this.#give("b", {
          kind: "attach",
          executor: Number(args["id"] ?? 1),
          name: `e${args["id"] ?? 1}`,
          scope: { kind: "gateway", prefixes: (args["scope"] ?? "").split(",").filter((p) => p !== "") },
          offer: {
            nodeIds: (args["nodes"] ?? "lamp").split(","),
            capabilities: [],
            maxInFlight: Number(args["max"] ?? 8),
            shared: args["shared"] === "true",
          },
        });
      case "detach":
        return this.#give("b", { kind: "executor-gone", executor: Number(args["id"] ?? 1) });
      case "report": {
        const failure =
          args["fail"] === undefined
            ? undefined
            : ({ reason: args["fail"] === "offline" ? "NODE_OFFLINE" : "EXECUTOR_FAILED", message: args["fail"] } as const);
        return this.#give("b", {
          kind: "reports",
          executor: Number(args["id"] ?? 1),
          reports: [{ taskId: Number(args["task"]), value: NO_VALUE, failure }],
        });
      }
      case "up":
        this.session++;
        for (const side of ["a", "b"] as const)
          this.#give(side, { kind: "peer-up", peer: side === "a" ? "b" : "a", session: this.session });
        return;
      case "down":
        this.wire = [];
        for (const side of ["a", "b"] as const) this.#give(side, { kind: "peer-down", peer: side === "a" ? "b" : "a" });
        return;
      case "deliver":
        return this.#deliver(Number(args["n"] ?? 20));
      case "advance":
        return this.#advance(Number(args["ms"]));
      case "crash":
        this.wire = this.wire.filter((packet) => packet.to !== hub);
        this.hubs[hub].restart();
        this.#introduce(hub);
        return this.#give(hub === "a" ? "b" : "a", { kind: "peer-down", peer: hub });
      case "lose-disk":
        this.hubs[hub].disk = new MemoryDisk();
        return;
      case "backup":
        this.backup = this.hubs[hub].disk.copy();
        return;
      case "restore":
        this.hubs[hub].disk = this.backup.copy();
        return;
      case "store":
        return this.#give(hub, {
          kind: "stored",
          ok: args["ok"] === "true",
          failure: { reason: "STORE_UNAVAILABLE", message: "disk is full" },
          unstored: [],
        });
      case "describe":
        return void this.lines.push(this.hubs[hub].core.describe());
      default:
        throw new Error(`unknown command ${verb}`);
    }
  }

  #execute(args: Readonly<Record<string, string>>): Input {
    const text = new TextEncoder().encode(args["value"] ?? "on");
    const number = new Uint8Array(9);
    number[0] = 0x19;
    new DataView(number.buffer).setFloat64(1, Number(args["number"] ?? 0), true);
    const value = args["number"] === undefined ? new Uint8Array([0x22, text.length, ...text]) : number;
    const corrs = (args["corr"] ?? "1").split(",").map(Number);
    const commands = corrs.map((corr) => ({
      corr,
      hubId: args["hub"] ?? "b",
      nodeId: args["node"] ?? "lamp",
      capability: args["cap"] ?? "say",
      value,
      timeoutMs: Number(args["timeout"] ?? 0),
      key: args["key"] ?? "",
      hops: (args["hops"] ?? "").split(",").filter((h) => h !== ""),
    }));
    return { kind: "execute", client: 2, principal: "p", commands };
  }

  #give(who: "a" | "b", input: Input): void {
    const before = this.hubs[who].disk.blobs.size;
    const effects = this.hubs[who].give(input);
    this.#take(who, effects.slice(0, this.hubs[who].early));
    if (this.hubs[who].disk.blobs.size !== before) this.lines.push(`${who} commits`);
    this.#take(who, effects.slice(this.hubs[who].early));
  }

  #deliver(most: number): void {
    for (let n = 0; n < most; n++) {
      const packet = this.wire.shift();
      if (packet === undefined) return;
      this.lines.push(`> ${packet.text}`);
      this.#give(packet.to, packet.input);
    }
  }

  #advance(ms: number): void {
    const end = this.mono + ms;
    for (;;) {
      const due = Math.min(this.hubs.a.core.deadline() ?? Infinity, this.hubs.b.core.deadline() ?? Infinity);
      if (due > end) break;
      this.mono = Math.max(this.mono, due);
      for (const who of ["a", "b"] as const) {
        const before = this.hubs[who].disk.blobs.size;
        const effects = this.hubs[who].tick();
        if (this.hubs[who].disk.blobs.size !== before) this.lines.push(`${who} commits at ${this.mono}`);
        this.#take(who, effects);
      }
    }
    this.mono = end;
  }

  #take(who: "a" | "b", effects: readonly CommandEffect[]): void {
    const to = who === "a" ? "b" : "a";
    for (const effect of effects) {
      if (effect.kind === "invoke") {
        const items = effect.items
          .map((i) => `${i.seq}${i.retry ? "?" : ""} ${i.nodeId}.${i.capability} ${Math.max(0, i.deadline - this.mono)}ms`)
          .join("; ");
        const acks = effect.acks.length === 0 ? "" : ` acks=${effect.acks.join()}`;
        const text = `${who}->${to} invoke [${items}]${acks} below=${effect.ackedBelow}${effect.cancels.length === 0 ? "" : ` cancels=${effect.cancels.join()}`}`;
        this.#send(to, { kind: "invocations", peer: who, session: this.session, frame: invocationsOf(effect, this.mono) }, text);
      } else if (effect.kind === "respond") {
        const text =
          effect.items.length === 0
            ? `${who}->${to} greeting`
            : `${who}->${to} results [${effect.items.map((i) => `${i.seq} ${show(i.result)}${i.late ? " late" : ""}`).join("; ")}]`;
        this.#send(to, { kind: "results", peer: who, session: this.session, frame: resultsOf(effect) }, text);
      } else this.lines.push(`${who}: ${line(effect)}`);
    }
  }

  #send(to: "a" | "b", input: Input, text: string): void {
    this.lines.push(text);
    this.wire.push({ to, input, text });
  }
}

function show(result: Result): string {
  const { outcome, failure } = result;
  const candidates = failure?.facts?.["candidates"];
  return `${OUTCOME_NAMES[outcome]}${failure === undefined ? "" : ` ${failure.reason} "${failure.message}"`}${candidates === undefined ? "" : ` ${candidates}`}`;
}

function line(effect: CommandEffect): string {
  switch (effect.kind) {
    case "reply":
      return `reply ${effect.corr} ${show(effect.result)}${effect.replayed ? " replayed" : ""}`;
    case "tasks":
      return `tasks e${effect.executor} [${effect.items.map((t) => `${t.taskId} ${t.nodeId}.${t.capability}`).join("; ")}]`;
    case "cancel-task":
      return `cancel-task e${effect.executor} ${effect.taskId}`;
    case "attached":
      return `attached e${effect.executor} nodes=${effect.nodes} refused=${effect.refused.map((f) => f.reason).join()}`;
    case "detach":
      return `detach e${effect.executor} ${effect.failure.reason}`;
    case "presence":
      return `presence ${effect.online ? "+" : "-"}${effect.nodeIds.join()}`;
    default:
      return effect.kind;
  }
}

describe("transcripts of two cores", () => {
  const folder = join(import.meta.dirname, "testdata");
  const files = readdirSync(folder).filter((name) => name.endsWith(".txt"));
  test("there are transcripts", () => expect(files.length).toBeGreaterThanOrEqual(5));
  test.each(files)("%s", async (name) => {
    const stage = new Stage();
    expect(await checkTranscript(join(folder, name), (step) => stage.run(step))).toBeGreaterThan(3);
  });
});
