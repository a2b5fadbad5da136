import { createHash } from "node:crypto";

/** Intent is what a caller wants done. */
export interface Intent {
  /** Who calls, so that two callers never share a key. */
  readonly caller: string;
  readonly node: string;
  readonly capability: string;
  /** Written as text; undefined for none. */
  readonly value: string | undefined;
}

/** Ending is how a call ended: the caller has its answer, or nobody knows whether the command ran, or it provably did not. */
export type Ending = "answered" | "unknown" | "not-started";

/** Commands whose answer is missing, and for how long their keys are kept: hubs keep theirs for at least so long. */
const OPEN_MAX = 1_024;
const OPEN_MS = 600_000;

interface Open {
  readonly key: string;
  /** Calls with this intent that run now. */
  running: number;
  /** Mono ms. */
  until: number;
}

/**
 * Keys gives each intent its idempotency key, so that a tool call that is repeated does not act twice, and one that is meant again does.
 *
 * TC1 calls with the same intent that run at the same time share a key: the hub runs one command for all of them.
 * TC2 a call whose answer did not reach its caller (cancelled, cut, timed out, UNKNOWN) leaves its key to the next call with this intent.
 * TC3 after an answer, or for a command that provably did not start, the same intent gets a new key.
 * TC4 keys of two runs of this program, and of two callers, are never the same.
 */
export class Keys {
  /** The intents without an answer; those that were used last are last. */
  readonly #open = new Map<string, Open>();
  /** Random for each run of the program. */
  readonly #run: string;
  #count = 0;

  constructor(run: string) {
    this.#run = run;
  }

  /** size is how many intents are kept. */
  get size(): number {
    return this.#open.size;
  }

  /** begin gives the key of an intent whose call begins now. Each has to be followed by `end`. */
  begin(intent: Intent, nowMono: number): string {
    const id = idOf(intent);
    let open = this.#open.get(id);
    if (open !== undefined && open.running === 0 && open.until <= nowMono) open = undefined;
    open ??= { key: `mcp-${hash(`${this.#run} ${++this.#count} ${id}`)}`, running: 0, until: 0 };
    open.running++;
    this.#open.delete(id);
    this.#open.set(id, open);
    this.#forget(nowMono);
    return open.key;
  }

  /** end says how a call ended that began with this key. */
  end(intent: Intent, key: string, ending: Ending, nowMono: number): void {
    const id = idOf(intent);
    const open = this.#open.get(id);
    if (open?.key !== key) return;
    open.running--;
    // Of several that share it, one answer settles it.
    if (ending !== "unknown") this.#open.delete(id);
    else open.until = nowMono + OPEN_MS;
  }

  #forget(nowMono: number): void {
    for (const [id, { running, until }] of this.#open) {
      const over = running === 0 && until <= nowMono;
      if (!over && this.#open.size <= OPEN_MAX) break;
      if (running === 0) this.#open.delete(id);
    }
  }
}

const hash = (text: string): string => createHash("sha256").update(text).digest("base64url").slice(0, 32);

function idOf({ caller, node, capability, value }: Intent): string {
  return hash(JSON.stringify([caller, node, capability, value ?? null]));
}

/** givenKey is the key that stands for one that a caller chose: callers do not meet each other's. One that a result named stands for itself. */
export function givenKey(caller: string, key: string): string {
  return /^mcp-[\w-]{32}$/.test(key) ? key : `mcp-${hash(JSON.stringify(["given", caller, key]))}`;
}

/** CommandName is a command's name as hubs write it: hub/epoch/number. */
export interface CommandName {
  readonly hubId: string;
  readonly epoch: bigint;
  readonly seq: bigint;
}

/** commandText writes the name of a command. */
export function commandText(name: CommandName | undefined): string | null {
  return name === undefined ? null : `${name.hubId}/${name.epoch}/${name.seq}`;
}
