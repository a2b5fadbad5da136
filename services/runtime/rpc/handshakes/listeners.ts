import net from "node:net";
import { fail } from "#kernel/error.ts";
import { listenError, portTaken } from "./listen-error.ts";

/**
 * Sockets that listen on one port. Node takes one connection of a listening socket in a round of the event loop, whatever else the round
 * does. With a single socket, strangers who cost a millisecond each would fill its queue, and the kernel drop whoever else connects: callers
 * try again after a second, and after two more.
 */
const SOCKETS = 16;

/** Listeners accept the connections to a port, many in each round of the event loop. Nothing is read of them yet: most of a flood are closed at once. */
export class Listeners {
  readonly #sockets = new Set<net.Server>();
  readonly #accept: (socket: net.Socket) => void;
  readonly #failed: (err: Error) => void;
  #closed = false;

  constructor(accept: (socket: net.Socket) => void, failed: (err: Error) => void) {
    this.#accept = accept;
    this.#failed = failed;
  }

  /** listen binds a port (0 picks a free one) and resolves with it. A taken port fails with what to do, and one that is closed meanwhile too. */
  async listen(host: string, port: number, setting?: string): Promise<number> {
    // Sockets that share a port do so with those of another process of the same user, which is then a mistake.
    const taken = port === 0 ? undefined : await portTaken(host, port, setting);
    if (taken !== undefined) throw taken;
    if (this.#closed) throw closedMeanwhile();
    const bound = await this.#bind(host, port, true)
      .catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === "ENOTSUP" || cause.code === "EINVAL") return this.#bind(host, port, false);
        throw cause;
      })
      .catch((cause: NodeJS.ErrnoException) => {
        throw this.#closed ? closedMeanwhile() : listenError(host, port, cause, setting);
      });
    const more = Array.from({ length: SOCKETS - 1 }, () => this.#bind(host, bound, true));
    // Where ports cannot be shared, one socket has to do.
    await Promise.allSettled(more);
    if (this.#closed) throw closedMeanwhile();
    return bound;
  }

  #bind(host: string, port: number, reusePort: boolean): Promise<number> {
    const listener = net.createServer({ pauseOnConnect: true }, this.#accept);
    return new Promise((resolve, reject) => {
      listener.once("error", reject);
      listener.listen({ host, port, reusePort }, () => {
        listener.off("error", reject).on("error", this.#failed);
        const { port: bound } = listener.address() as net.AddressInfo;
        if (this.#closed) listener.close(() => reject(closedMeanwhile()));
        else {
          this.#sockets.add(listener);
          resolve(bound);
        }
      });
    });
  }

  /** close closes the port for good, also what is being bound; connections live on. */
  close(): void {
    this.#closed = true;
    for (const socket of this.#sockets) socket.close();
    this.#sockets.clear();
  }
}

function closedMeanwhile(): Error {
  return fail("SHUTTING_DOWN", "the port was closed while it was being bound");
}
