// A program on the SDK whose agent counts, and can move; and a client that sends it commands wherever it is.
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { sleep } from "#runtime/clock.ts";
import {
  type AgentCheckpoint,
  type AgentHost,
  type ExecutorClient,
  Hub,
  type MovableOptions,
  movedTo,
  type NodeInit,
} from "../../clients/typescript/index.ts";
import { type HubProcess, SERVICES } from "./federation.ts";

/** KIND is the first dependency of the agent: what programs take in. */
const KIND = "counting";

const KEY_BYTES = 48;
const NODE: NodeInit = { nodeId: "counter", type: "agent", capabilities: [{ name: "count", type: 2, readable: true, invocable: true }] };

/** ProgramPlace is what a program knows of the hub that it runs at. */
export type ProgramPlace = Pick<HubProcess, "id" | "dir" | "split" | "address" | "pki">;

/** Stored is the agent as the program's disk has it. */
interface Stored {
  readonly fence: number;
  readonly serials: readonly number[];
  readonly progress: number;
  /** Where its memory is. */
  readonly memory: string;
}

/**
 * CountingProgram is a program at one hub. Its agent has counted each serial number once; with each it writes what it is, so that a program
 * that starts again has it. `ballast` are further bytes of its memory.
 */
export class CountingProgram {
  readonly name: string;
  readonly hub: Hub;
  readonly host: AgentHost;
  readonly #file: string;
  #serials = new Set<number>();
  #ballast: Buffer = Buffer.alloc(0);
  #key: KeyObject | undefined;
  /** The memory that is staged. */
  #staged: Uint8Array | undefined;
  #executor: ExecutorClient | undefined;
  /** Monotonic times, ms. */
  frozenAt = 0;
  startedAt = 0;
  starts = 0;
  /** Fences that tasks came with. */
  readonly fences = new Set<number>();
  problem = "";
  /** What the program does not do before it is let go on, by its name in MovableOptions; `held` is called when it gets there. */
  hold:
    | { readonly what: "checkpoint" | "freeze" | "resume" | "discard" | "stage"; readonly held: () => void; readonly go: Promise<void> }
    | undefined;

  private constructor(process: ProgramPlace, hub: Hub, born: { readonly ballast: Buffer } | undefined) {
    this.name = process.id;
    this.hub = hub;
    this.#file = join(process.dir, "counter.agent");
    const agents: (MovableOptions & { readonly fence: number })[] = [];
    if (born !== undefined) {
      this.#ballast = born.ballast;
      this.#key = generateKeyPairSync("ed25519").privateKey;
      agents.push({ ...this.#options(), fence: 0 });
    }
    this.host = hub.hostAgents({
      agents,
      takesIn: {
        [KIND]: {
          start: (checkpoint) => this.#takeIn(checkpoint),
          stage: (checkpoint) => this.#stage(checkpoint),
          unstage: () => this.#unstage(),
        },
      },
      onDetached: () => undefined,
      backoff: BACKOFF,
      onError: (error) => void (this.problem = String(error)),
    });
    if (born !== undefined) void Promise.all([hub.register(NODE), this.#serve()]);
  }

  /** at makes the program at a hub, with the agent if it is `born` there. */
  static async at(process: ProgramPlace, born?: { readonly ballast: Buffer }): Promise<CountingProgram> {
    return new CountingProgram(process, await connectTo(process, "gateway-agents"), born);
  }

  /** has tells whether the agent runs here. */
  get has(): boolean {
    return this.host.agent("counter")?.runs === true;
  }

  get serials(): readonly number[] {
    return [...this.#serials];
  }

  /** file is where the agent is stored; it is gone when the agent is. */
  get stored(): boolean {
    return existsSync(this.#file);
  }

  get ballast(): Buffer {
    return this.#ballast;
  }

  close(): void {
    this.hub.close();
  }

  #options(): MovableOptions {
    return {
      agent: "counter",
      nodeKey: this.#key!,
      node: NODE,
      checkpoint: async () => {
        await this.#held("checkpoint");
        return this.#checkpoint();
      },
      freeze: async () => {
        await this.#held("freeze");
        this.frozenAt = systemClock.mono();
      },
      resume: async (checkpoint, fence) => {
        await this.#held("resume");
        if (checkpoint !== undefined) await this.#store(fence, checkpoint);
        if (this.#executor === undefined) await this.#serve();
        this.startedAt = systemClock.mono();
        this.starts++;
      },
      discard: async () => {
        await this.#held("discard");
        if (this.stored) await rm(this.storedHead().memory, { force: true });
        await rm(this.#file, { force: true });
      },
    };
  }

  async #held(what: NonNullable<CountingProgram["hold"]>["what"]): Promise<void> {
    const { hold } = this;
    if (hold?.what !== what) return;
    hold.held();
    await hold.go;
  }

  #checkpoint(): AgentCheckpoint {
    const numbers = Uint32Array.from(this.#serials);
    const key = this.#key!.export({ format: "der", type: "pkcs8" });
    const memory = Buffer.concat([key, this.#ballast]);
    return { memory, context: Buffer.from(numbers.buffer), progress: 0.5, dependencies: [KIND] };
  }

  #takeIn(checkpoint: AgentCheckpoint): MovableOptions {
    const { memory, context } = checkpoint;
    this.#key = createPrivateKey({ key: Buffer.from(memory.subarray(0, KEY_BYTES)), format: "der", type: "pkcs8" });
    // What came is not changed.
    this.#ballast = Buffer.from(memory.buffer, memory.byteOffset + KEY_BYTES, memory.length - KEY_BYTES);
    this.#serials = new Set(new Uint32Array(Uint8Array.from(context).buffer));
    return this.#options();
  }

  /** store writes what came, complete or not at all: the memory is there already if it was staged and nothing of it changed. */
  async #store(fence: number, { memory, progress }: AgentCheckpoint): Promise<void> {
    const name = `${this.#file}.memory-${fence}`;
    if (this.#staged === memory) await rename(this.#stagedFile, name);
    else await writeDurably(name, memory);
    const head: Stored = { fence, serials: this.serials, progress, memory: name };
    await writeDurably(`${this.#file}.new`, Buffer.from(JSON.stringify(head)));
    await rename(`${this.#file}.new`, this.#file);
  }

  /** stage writes what may come. It happens while the agent still runs elsewhere. */
  async #stage({ memory }: AgentCheckpoint): Promise<void> {
    await this.#held("stage");
    if (this.#staged === memory) return;
    this.#staged = undefined;
    await writeDurably(this.#stagedFile, memory);
    this.#staged = memory;
  }

  async #unstage(): Promise<void> {
    this.#staged = undefined;
    await rm(this.#stagedFile, { force: true });
  }

  get #stagedFile(): string {
    return `${this.#file}.staged`;
  }

  /** staged tells whether something is staged here, in memory or on the disk. */
  get staged(): boolean {
    return this.#staged !== undefined || existsSync(this.#stagedFile);
  }

  /** storedHead is what the disk says of the agent. */
  storedHead(): Stored {
    return JSON.parse(readFileSync(this.#file, "utf8")) as Stored;
  }

  /** serve answers its commands: resolves when the hub has taken the offer. */
  async #serve(): Promise<void> {
    const attached = Promise.withResolvers<void>();
    this.#executor = this.hub.serve({
      nodeIds: ["counter"],
      backoff: BACKOFF,
      onAttached: () => attached.resolve(),
      onDetached: () => undefined,
      run: ({ value, agentFence }) => {
        this.fences.add(agentFence);
        const count = () => {
          this.#serials.add(Number(value));
          return { value: BigInt(this.#serials.size) };
        };
        return this.host.run("counter", count, agentFence);
      },
    });
    await attached.promise;
  }
}

/** writeDurably writes a file that survives a loss of power. */
async function writeDurably(name: string, bytes: Uint8Array): Promise<void> {
  const file = await open(name, "w");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

const BACKOFF = { baseMs: 20, maxMs: 200, factor: 2, jitter: 0.5 };

/** connectTo connects the SDK to a hub that is a process, with one of its certificates. */
export function connectTo(process: ProgramPlace, principal: "gateway-agents" | "operator-admin"): Promise<Hub> {
  const address = process.split
    ? Object.fromEntries(SERVICES.map((name) => [name, process.address(name)]))
    : process.address("coordination");
  return Hub.connect({ address, hubId: process.id, ...process.pki(principal), onError: () => undefined });
}

/** CountingClient sends the agent one number after the other, each until it was counted, and follows it when it has moved. */
export class CountingClient {
  readonly #hubs: ReadonlyMap<string, Hub>;
  #at: string;
  #stopped = false;
  #abandoned = false;
  #run: Promise<void> | undefined;
  /** Numbers that were counted, and how often a command was sent on, or again. */
  sent = 0;
  redirected = 0;
  repeated = 0;
  /** When each answer came, and from where, monotonic ms. */
  readonly answers: { readonly at: number; readonly hub: string }[] = [];
  lastRefusal = "";

  constructor(hubs: ReadonlyMap<string, Hub>, at: string) {
    this.#hubs = hubs;
    this.#at = at;
  }

  start(): void {
    this.#run = this.#loop();
  }

  /** stop ends it when the last number was counted. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#run;
  }

  /** abandon ends it at once. */
  async abandon(): Promise<void> {
    this.#abandoned = true;
    await this.stop();
  }

  async #loop(): Promise<void> {
    while (!this.#stopped) await this.#count(++this.sent);
  }

  /** count repeats a number until it was counted: the agent counts it once. */
  async #count(serial: number): Promise<void> {
    while (!this.#abandoned) {
      const hub = this.#at;
      const result = await this.#hubs
        .get(hub)!
        .execute({ hubId: hub, nodeId: "counter", capability: "count", value: BigInt(serial), timeoutMs: 3_000 });
      if (result.outcome === "DONE") {
        this.answers.push({ at: systemClock.mono(), hub });
        if (this.answers.length % 8 === 0) await sleep(systemClock, 1);
        return;
      }
      this.lastRefusal = `${hub}: ${result.outcome} ${result.failure?.reason} ${result.failure?.message}`;
      const to = result.failure && movedTo(result.failure);
      if (to !== undefined) {
        this.redirected++;
        this.#at = to;
      } else {
        this.repeated++;
        await sleep(systemClock, 5);
      }
    }
  }

  /** pause is the longest time between two answers since a time, ms. */
  pauseSince(since: number): number {
    let longest = 0;
    let before = since;
    for (const { at } of this.answers) {
      if (at < since) continue;
      longest = Math.max(longest, at - before);
      before = at;
    }
    return longest;
  }
}
