import type { Effect, Input } from "../../services/registry-sync/messages.ts";

/** ACTIVITIES are what may be half done at a hub, or change under what is half done. Every pair of them must meet in some seed. */
export const ACTIVITIES = [
  "snapshot in",
  "snapshot out",
  "checkpoint",
  "forget",
  "share change",
  "epoch change",
  "key rotation",
  "disk full",
  "stop",
] as const;

/** Activity is one of them. */
export type Activity = (typeof ACTIVITIES)[number];

/** How long something that happens in one step counts: what it causes is committed and sent in that time. */
const INSTANT_MS = 50;

/** ActivityHooks tell what is seen. */
export interface ActivityHooks {
  readonly now: () => number;
  readonly onOverlap: (began: Activity, meanwhile: Activity) => void;
  readonly onBegin: (activity: Activity) => void;
}

/** nameOfPair names a pair, whichever came first. */
export function nameOfPair(one: Activity, other: Activity): string {
  const [a, b] = [one, other].sort((x, y) => ACTIVITIES.indexOf(x) - ACTIVITIES.indexOf(y));
  return `overlap ${a} + ${b}`;
}

/** PAIRS are the names of all pairs. */
export const PAIRS: readonly string[] = ACTIVITIES.flatMap((one, i) => ACTIVITIES.slice(i + 1).map((other) => nameOfPair(one, other)));

/**
 * Activities notes what is under way at the registry of one process, as seen from outside of its core: it begins with the first input or
 * effect that tells of it, and ends with the last.
 */
export class Activities {
  readonly #hooks: ActivityHooks;
  /** What is under way, by activity and what it is about. */
  readonly #open = new Map<Activity, Set<string>>();
  readonly #instants = new Map<Activity, number>();
  readonly #peers = new Map<number, string>();
  readonly #serials = new Map<string, number>();
  #peerShares = "";
  #shares = "";

  constructor(hooks: ActivityHooks) {
    this.#hooks = hooks;
  }

  begin(activity: Activity, about = ""): void {
    const open = this.#open.get(activity) ?? new Set();
    this.#open.set(activity, open);
    if (open.has(about)) return;
    open.add(about);
    this.#began(activity);
  }

  end(activity: Activity, about = ""): void {
    this.#open.get(activity)?.delete(about);
  }

  /** instant is something that is over at once. */
  instant(activity: Activity): void {
    this.#instants.set(activity, this.#hooks.now());
    this.#began(activity);
  }

  #began(activity: Activity): void {
    for (const other of ACTIVITIES) if (other !== activity && this.#under(other)) this.#hooks.onOverlap(activity, other);
    this.#hooks.onBegin(activity);
  }

  #under(activity: Activity): boolean {
    const at = this.#instants.get(activity);
    return (this.#open.get(activity)?.size ?? 0) > 0 || (at !== undefined && this.#hooks.now() - at <= INSTANT_MS);
  }

  input(input: Input | undefined): void {
    switch (input?.kind) {
      case "session_up":
        this.#peers.set(input.session, input.peer);
        return;
      case "session_down":
        return this.#down(input.session);
      case "frame":
        return this.#frame(input);
      case "compressed":
        return this.end("snapshot out", `job ${input.job}`);
      case "own_key":
        return this.instant("key rotation");
      case "feed_key": {
        const before = this.#serials.get(input.peer);
        this.#serials.set(input.peer, input.serial);
        if (before !== undefined && before !== input.serial) this.instant("key rotation");
        return;
      }
      case "peers":
      case "shares":
        return this.#shared(input);
      default:
        return;
    }
  }

  #shared(input: Extract<Input, { kind: "peers" | "shares" }>): void {
    const before = [this.#peerShares, this.#shares];
    if (input.kind === "peers") this.#peerShares = JSON.stringify(input.peers);
    else this.#shares = JSON.stringify(input.shares);
    const known = input.kind === "shares" || before[0] !== "";
    if (known && (before[0] !== this.#peerShares || before[1] !== this.#shares)) this.instant("share change");
  }

  #down(session: number): void {
    const peer = this.#peers.get(session) ?? "";
    this.#peers.delete(session);
    if ([...this.#peers.values()].includes(peer)) return;
    this.end("snapshot in", peer);
    this.end("snapshot out", `to ${peer}`);
    this.end("forget", `told ${peer}`);
  }

  #frame({ session, frame }: Extract<Input, { kind: "frame" }>): void {
    const peer = this.#peers.get(session) ?? "";
    if (frame.type === "snapshot") this.begin("snapshot in", peer);
    else if (frame.type === "ack" || frame.type === "nack" || frame.type === "feed_open") this.end("snapshot out", `to ${peer}`);
    else if (frame.type === "forget") this.begin("forget", `of ${peer}`);
    else if (frame.type === "forget_done") this.end("forget", `told ${peer}`);
  }

  output(effect: Effect): void {
    if (effect.kind === "send") this.#sent(this.#peers.get(effect.session) ?? "", effect.frame.type);
    else if (effect.kind === "compress") this.begin("snapshot out", `job ${effect.job}`);
    else if (effect.kind === "persist") {
      for (const op of effect.ops) if (op.op === "append" && op.log.startsWith("ckpt/")) this.#part(op.log);
    } else if (effect.kind === "observe") this.#observed(effect);
  }

  /** A part of a snapshot that comes in is stored like one of a checkpoint. */
  #part(log: string): void {
    const [, name = ""] = log.split("/");
    if (this.#open.get("snapshot in")?.has(name) !== true) this.begin("checkpoint", name);
  }

  #sent(peer: string, type: string): void {
    if (type === "snapshot") this.begin("snapshot out", `to ${peer}`);
    else if (type === "forget") this.begin("forget", `told ${peer}`);
    else if (type === "forget_done") this.end("forget", `of ${peer}`);
    else if (type === "nack") this.end("snapshot in", peer);
  }

  #observed({ event, hub, text }: Extract<Effect, { kind: "observe" }>): void {
    if (event === "checkpoint") this.end("checkpoint", hub);
    else if (event === "snapshot" && (text === "snapshot taken in" || text.includes("given up"))) this.end("snapshot in", hub);
    else if (event === "feed" && text === "feed opened an epoch") this.instant("epoch change");
  }
}
