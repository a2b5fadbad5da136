import type { Client } from "@a2a-js/sdk/client";
import { Backoff, type BackoffConfig } from "#kernel/backoff.ts";
import { Prng } from "#kernel/prng.ts";
import {
  type Clock,
  type ExecutorAnswer,
  type ExecutorClient,
  type ExecutorTask,
  FoedusError,
  type Hub,
  type Refusal,
  type Updater,
  VALUE_TYPE,
} from "../../clients/typescript/index.ts";
import { Calls, clientFor } from "./calls.ts";
import { nodeOf, type PublicKeys, REACHABLE, readCard, TASK, unsigned, type Verified, verifyCard } from "./card.ts";
import { cardJson, fetchFor } from "./fetching.ts";
import { Latest } from "./latest.ts";
import { progressOf } from "./outcome.ts";

/** ImportOptions are an agent that becomes a node. */
export interface ImportOptions {
  readonly node: string;
  readonly url: string;
  /** Undefined: its card need not be signed. */
  readonly keys: PublicKeys | undefined;
  readonly token: string | undefined;
}

/** ImportParts are what it works with. */
export interface ImportParts {
  readonly hub: Hub;
  readonly clock: Clock;
  /** For how waits differ. */
  readonly seed: number;
  /** Makes ids of messages. */
  readonly id: () => string;
  /** Told once about each change between reachable and not, and why. */
  readonly onChange: (node: string, problem: string | undefined) => void;
  readonly onError: (error: unknown) => void;
}

/** How often a card is read again while its agent is there, ms, and how it is tried again while it is not. */
const LOOK_MS = 30_000;
const AGAIN: BackoffConfig = { baseMs: 500, maxMs: 30_000, factor: 2, jitter: 0.25 };
/** How often the progress of an agent's task is told, ms: it may say more than a hub should keep. */
const PROGRESS_MS = 200;
/** Commands that one agent works on at the same time. */
const IN_FLIGHT = 16;

/**
 * Imported is an agent as a node of the hub. While its card can be read and is signed as it has to be, the node is registered and its commands
 * are served; while not, nobody serves them, and its state says that it is not reachable.
 */
export class Imported {
  readonly #o: ImportOptions;
  readonly #p: ImportParts;
  readonly #fetch: typeof fetch;
  readonly #progress: Latest<string>;
  readonly #again: Backoff;
  #updater: Updater | undefined;
  #executor: ExecutorClient | undefined;
  #calls: Calls | undefined;
  #registered = "";
  #problem: string | undefined = "";
  #timer: { cancel(): void } | undefined;
  #closed = false;

  constructor(options: ImportOptions, parts: ImportParts) {
    this.#o = options;
    this.#p = parts;
    this.#fetch = fetchFor(options.url, options.token);
    this.#progress = new Latest(parts.clock, PROGRESS_MS, (text) => this.#set(TASK, text));
    this.#again = new Backoff(new Prng(parts.seed), AGAIN);
    void this.#look();
  }

  /** close serves the agent no more. The node stays registered, offline. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#executor?.close();
    this.#progress.close();
    this.#updater?.close();
  }

  async #look(): Promise<void> {
    let problem: string | undefined;
    try {
      const verified = await this.#verified();
      const client = await clientFor(verified.card, this.#fetch);
      if (this.#closed) return;
      await this.#serve(verified, client);
      this.#again.succeeded();
    } catch (error) {
      problem = error instanceof FoedusError ? error.message : "the agent cannot be reached";
      this.#executor?.close();
      this.#executor = undefined;
      this.#set(REACHABLE, false);
    }
    if (this.#closed) return;
    if (problem !== this.#problem) this.#p.onChange(this.#o.node, problem);
    this.#problem = problem;
    const waitMs = problem === undefined ? LOOK_MS : this.#again.failed(this.#p.clock.mono());
    this.#timer = this.#p.clock.setTimer(waitMs, () => void this.#look());
  }

  async #verified(): Promise<Verified> {
    const card = readCard(await cardJson(this.#o.url, this.#fetch));
    return this.#o.keys === undefined ? unsigned(card) : verifyCard(card, this.#o.keys);
  }

  async #serve(verified: Verified, client: Client): Promise<void> {
    const { hub, clock, id, onError } = this.#p;
    const node = nodeOf(this.#o.node, this.#o.url, verified);
    const text = JSON.stringify(node);
    this.#calls = new Calls(client, clock, id);
    if (this.#updater === undefined) {
      const onRefused = ({ failure }: Refusal): void => onError(new FoedusError(failure));
      this.#updater = hub.updater({ nodes: [node], onRefused, onError });
      this.#updater.field(this.#o.node, TASK, VALUE_TYPE.JSON);
    } else if (text !== this.#registered) await hub.register(node);
    this.#registered = text;
    this.#set(REACHABLE, true);
    this.#executor ??= hub.serve({ nodeIds: [this.#o.node], maxInFlight: IN_FLIGHT, run: (task) => this.#run(task), onError });
  }

  #run({ capability, value, signal }: ExecutorTask): Promise<ExecutorAnswer> {
    const calls = this.#calls as Calls;
    return calls.run({ capability, value, signal, onProgress: (heard) => this.#progress.put(progressOf(heard)) });
  }

  #set(key: string, value: string | boolean): void {
    try {
      this.#updater?.set(this.#o.node, key, value);
    } catch (error) {
      // Far too much waits, or the hub takes nothing any more: it was told why.
      this.#p.onError(error);
    }
  }
}
