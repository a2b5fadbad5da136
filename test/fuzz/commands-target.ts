import { create, type DescField, toBinary } from "@bufbuild/protobuf";
import { decodeRequest, Malformed } from "#channel/messages.ts";
import {
  AttachExecutorRequestSchema,
  ExecuteStreamRequestSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CommandResultSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { SessionFrameSchema, type SessionRequest, SessionRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import type { Prng } from "#kernel/prng.ts";
import {
  checkFrame,
  encodeInvocations,
  encodeResults,
  installSessionDecoder,
  invocationsIn,
  isWireError,
  resultsIn,
  resultToProto,
} from "../../services/command-forwarding/codec/codec.ts";
import { decodeReports, decodeTaskFrame, encodeTasks } from "../../services/command-forwarding/codec/executor-codec.ts";
import { decodeStreamRequest, decodeStreamResponse, encodeStreamResponse } from "../../services/command-forwarding/codec/stream-codec.ts";
import type { CommandEffect, Input } from "../../services/command-forwarding/messages.ts";
import { capability } from "../commands/hub.ts";
import { MemoryHub } from "../commands/world.ts";
import { Bytes, Generator } from "./raw-message.ts";
import { must, Tally, type Target } from "./target.ts";

const TYPES = ["any", "bool", "int", "double", "string", "bytes", "json"];
const CAPABILITIES = TYPES.map((name, type) => capability(name, type, type === 3 ? { min: 0, max: 100, step: 0.1 } : {}));

/** CommandsTarget is command forwarding with a hostile peer, caller and executor. */
export class CommandsTarget extends Tally implements Target {
  readonly name = "commands: frames of a peer, streams of callers and executors";
  readonly weight = 3;
  #mono = 1_000;
  #hub = new MemoryHub("me", () => this.#now());
  #tasks: number[] = [];
  #owner = 0;
  #own = 1;
  #seq = 0;

  constructor() {
    super();
    installSessionDecoder();
  }

  renew(): void {
    this.#mono = 1_000;
    [this.#owner, this.#own] = [0, 1];
    this.#hub = new MemoryHub("me", () => this.#now());
    this.#start();
  }

  #now() {
    return { mono: this.#mono, wall: 1_700_000_000_000 + this.#mono };
  }

  #start(): void {
    this.#tasks = [];
    this.#seq = 0;
    const own = { kind: "put", nodeId: "door", online: true, capabilities: CAPABILITIES } as const;
    this.#give({
      kind: "directory",
      changes: [
        { ...own, hubId: "me" },
        { ...own, hubId: "peer" },
      ],
    });
    this.#give({ kind: "policy", policy: () => "invoke" });
    this.#give({ kind: "peers", peers: [{ hubId: "peer", level: 2 }] });
    this.#give({
      kind: "attach",
      executor: 2,
      name: "x",
      scope: { kind: "node", nodeId: "door" },
      offer: { nodeIds: ["door"], capabilities: [], maxInFlight: 64, shared: false },
    });
    this.#give({ kind: "peer-up", peer: "peer", session: 1 });
  }

  take(prng: Prng): void {
    const generator = new Generator(prng, (field) => this.#hint(field, prng));
    generator.mood();
    this.#mono += prng.below(50);
    this.#settle(this.#hub.tick());
    const kind = prng.below(10);
    if (kind < 6) this.#frame(generator, kind < 4 ? "invocations" : "results");
    else if (kind < 8) this.#caller(generator);
    else this.#executor(generator);
    if (!prng.chance(0.02)) return;
    this.#hub.restart();
    this.#start();
  }

  #hint(field: DescField, prng: Prng): bigint | number | string | undefined {
    const { name } = field;
    if (name === "node_id") return "door";
    if (name === "hub_id") return prng.chance(0.5) ? "peer" : "me";
    if (name === "capability") return TYPES[prng.below(TYPES.length)];
    if (name === "owner_epoch") return BigInt(this.#owner);
    if (name === "epoch") return BigInt(this.#own);
    if (name === "seq" || name === "corr") return BigInt(1 + (++this.#seq % 5_000));
    if (name === "task_id") return BigInt(this.#tasks[prng.below(this.#tasks.length + 1)] ?? 1);
    if (name === "timeout_ms") return prng.below(5_000);
    if (name === "hops" || name === "idempotency_key") return prng.chance(0.8) ? "" : "k";
    if (name === "acked_below" || name === "owner_position") return BigInt(prng.below(4));
    return undefined;
  }

  #frame(generator: Generator, kind: string): void {
    const out = new Bytes();
    out.delimited(1, generator.message(SessionFrameSchema, 0, kind));
    const message = decodeRequest(SessionRequestSchema, out.take());
    if (message instanceof Malformed) return this.refuse(message.error.failure.reason);
    const { frame } = message as SessionRequest;
    if (frame === undefined) return this.refuse("no frame");
    const failure = checkFrame(frame as never);
    if (failure !== undefined) return this.refuse(failure.reason);
    const inner = frame.frame;
    if (inner.case === "invocations") this.#give({ kind: "invocations", peer: "peer", session: 1, frame: invocationsIn(inner.value) });
    if (inner.case === "results") this.#give({ kind: "results", peer: "peer", session: 1, frame: resultsIn(inner.value) });
    this.applied++;
  }

  #caller(generator: Generator): void {
    const read = this.#read(() => decodeStreamRequest(generator.message(ExecuteStreamRequestSchema)));
    if (read === undefined) return;
    if (read.commands.length > 0) this.#give({ kind: "execute", client: 7, principal: "p", commands: read.commands });
    if (read.cancels.length > 0) this.#give({ kind: "cancel", client: 7, corrs: read.cancels });
    this.applied++;
  }

  #executor(generator: Generator): void {
    const reports = this.#read(() => decodeReports(generator.message(AttachExecutorRequestSchema, 0, "results")));
    if (reports === undefined) return;
    this.#give({ kind: "reports", executor: 2, reports });
    this.applied++;
  }

  #read<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!isWireError(error)) throw error;
      this.refuse("INVALID_FIELD");
      return undefined;
    }
  }

  #give(input: Input): void {
    this.#settle(this.#hub.give(input));
  }

  /** settle writes everything that leaves as it leaves, and reads it as who gets it does. */
  #settle(effects: readonly CommandEffect[]): void {
    this.#hub.out.length = 0;
    for (const effect of effects) {
      switch (effect.kind) {
        case "reply":
          toBinary(CommandResultSchema, create(CommandResultSchema, resultToProto(effect)));
          for (const bytes of encodeStreamResponse([effect])) must(decodeStreamResponse(bytes).length === 1, "a reply is lost on its way");
          break;
        case "tasks":
          for (const { taskId } of effect.items) this.#tasks.push(taskId);
          if (this.#tasks.length > 100) this.#tasks.splice(0, 50);
          for (const bytes of encodeTasks(effect.items, this.#mono))
            must(decodeTaskFrame(bytes).kind === "tasks", "a task is lost on its way");
          break;
        case "invoke":
          this.#own = effect.epoch;
          for (const bytes of encodeInvocations(effect, effect.acks, effect.items, effect.cancels, this.#mono)) this.#reads(bytes);
          break;
        case "respond":
          this.#owner = effect.ownerEpoch;
          for (const bytes of encodeResults(effect, effect.items)) this.#reads(bytes);
      }
    }
  }

  /** reads is what a peer of the same version makes of our own frame: it takes it. */
  #reads(bytes: Uint8Array): void {
    const message = decodeRequest(SessionRequestSchema, bytes);
    must(!(message instanceof Malformed), "a frame of ours cannot be read");
    const failure = checkFrame((message as SessionRequest).frame as never);
    must(failure === undefined, `a frame of ours is refused by its reader: ${failure?.message}`);
  }
}
