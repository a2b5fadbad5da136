// A TCP relay between two hubs that a test can cut, stall and slow. It moves bytes and knows nothing of what they mean.

import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { systemClock } from "#channel/clock.ts";

/** Mode of a relay: `pass` moves bytes; `stall` swallows them, so that both ends believe in a connection; `cut` ends connections and refuses new ones. */
export type Mode = "pass" | "stall" | "cut";

/** Held is what a relay keeps of the connections that there were when it was told to hold. */
export interface Held {
  /** Bytes that are held, on their way to the target. */
  readonly bytes: number;
  /** cut ends the connections for who opened them; the target does not learn of it. */
  cut(): void;
  /** release delivers what was held; it resolves when the target's machine has all of it. */
  release(): Promise<void>;
}

/** Relay listens at one address and connects to another. */
export class Relay {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** By the socket that they came from: bytes that are held back. */
  readonly #held = new Map<Socket, Buffer[]>();
  readonly #target: { readonly host: string; readonly port: number };
  #mode: Mode = "pass";
  #delayMs = 0;
  /** Connections that were taken so far. */
  accepted = 0;
  /** Bytes that were read so far, in both directions. */
  taken = 0;

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async listen(
    at: { readonly host: string; readonly port: number },
    target: { readonly host: string; readonly port: number },
  ): Promise<Relay> {
    const relay = new Relay(target);
    await new Promise<void>((resolve, reject) => {
      relay.#server.once("error", reject);
      relay.#server.listen(at.port, at.host, resolve);
    });
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** set changes the mode. From `stall` to `pass` connections that lost bytes are reset, as a network forgets what it dropped. */
  set(mode: Mode, delayMs = 0): void {
    const lossy = this.#mode === "stall" && mode !== "stall";
    this.#mode = mode;
    this.#delayMs = delayMs;
    if (mode === "cut" || lossy) this.#reset();
  }

  /** hold keeps back what is sent to the target on the connections that there are now; on others everything passes. */
  hold(): Held {
    const pairs = [...this.#pairs];
    const chunks = pairs.map(([near]) => {
      const mine: Buffer[] = [];
      this.#held.set(near, mine);
      return mine;
    });
    return {
      get bytes() {
        return chunks.flat().reduce((sum, { length }) => sum + length, 0);
      },
      cut: () => {
        for (const [near] of pairs) near.destroy();
      },
      release: async () => {
        const writes = pairs.flatMap(([, far], i) =>
          (chunks[i] ?? []).splice(0).map((bytes) => new Promise<void>((resolve) => far.write(bytes, () => resolve()))),
        );
        await Promise.all(writes);
      },
    };
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#reset();
    await closed;
  }

  #reset(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#pairs.clear();
  }

  #accept(near: Socket): void {
    if (this.#mode === "cut") return void near.destroy();
    this.accepted++;
    const far = connect(this.#target);
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    this.#pipe(near, far);
    this.#pipe(far, near);
    for (const [socket, other] of [pair, [far, near] as const])
      socket
        .setNoDelay(true)
        .on("error", () => other.destroy())
        .on("close", () => {
          this.#pairs.delete(pair);
          // A network that swallows bytes swallows the end of a connection as well.
          if (this.#mode !== "stall" && !this.#held.has(socket)) other.destroy();
        });
  }

  /** pipe keeps the order of bytes whenever the delay changes, and reads no faster than the other side takes them. */
  #pipe(from: Socket, to: Socket): void {
    const late: Buffer[] = [];
    let dueAt = 0;
    const give = (bytes: Buffer): void => {
      if (this.#mode !== "pass" || !to.writable || to.write(bytes) || from.isPaused()) return;
      from.pause();
      to.once("drain", () => from.resume());
    };
    from.on("data", (bytes: Buffer) => {
      this.taken += bytes.length;
      if (this.#mode !== "pass") return;
      const held = this.#held.get(from);
      if (held !== undefined) return void held.push(bytes);
      if (this.#delayMs === 0 && late.length === 0) return give(bytes);
      const now = systemClock.mono();
      dueAt = Math.max(dueAt, now + this.#delayMs);
      late.push(bytes);
      // Timers of the same moment fire in any order; the bytes do not.
      systemClock.setTimer(dueAt - now, () => give(late.shift() as Buffer));
    });
  }
}
