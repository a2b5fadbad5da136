import { connect, type Socket } from "node:net";
import type { Clock } from "../clock.ts";

/** Dials after the first one, and the waits between them, ms: each twice as long as the one before, up to the longest. */
const REDIALS = 30;
const FIRST_WAIT_MS = 5;
const LONGEST_WAIT_MS = 50;

type Timers = Pick<Clock, "setTimer">;

/**
 * cutOff tells whether a server closed a connection before it said a word. So does a hub that strangers flood, with a part of the connections
 * from an address that callers share with them; the next one may get in at once.
 */
function cutOff(error: unknown, socket: Socket | undefined): boolean {
  return (socket?.bytesRead ?? 0) === 0 && /^(ECONNRESET|EPIPE)$/.test((error as NodeJS.ErrnoException | undefined)?.code ?? "");
}

/** heard listens to the errors of a connection for as long as it lives: whoever has it may let go of it, and one without a listener ends the process. */
function heard(socket: Socket): Socket {
  return socket.on("error", () => undefined);
}

/** again dials the same address. */
function again({ host, port }: Place): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = heard(connect({ host, port, noDelay: true }, () => resolve(socket)));
    socket.once("error", reject).once("close", () => reject(new Error("the connection was closed")));
  });
}

/** Place is where a server is. */
export interface Place {
  readonly host: string;
  readonly port: number;
}

/** placeOf is where a connection goes; of one that was reset it is not known any more. */
function placeOf({ remoteAddress: host, remotePort: port }: Socket): Place | undefined {
  return host === undefined || port === undefined ? undefined : { host, port };
}

/**
 * redialling shakes hands on a connection and, for as long as the server closes them before it says a word, on further ones to the same
 * place, until `wanted` says no, or after a second and a half. `target`: where the first one was to go. What it does not answer with is closed.
 */
export async function redialling<T>(
  first: Socket,
  target: Place,
  handshake: (socket: Socket) => Promise<T>,
  clock: Timers,
  wanted: () => boolean,
): Promise<T> {
  const place = placeOf(first) ?? target;
  let socket: Socket | undefined = heard(first);
  for (let left = REDIALS, waitMs = FIRST_WAIT_MS; ; left--, waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS)) {
    try {
      socket ??= await again(place);
      const done = await handshake(socket);
      // HTTP/2 would begin on it, and wait for the server's first word without end.
      if (!wanted()) throw new Error("nobody waits for the connection any more");
      return done;
    } catch (error) {
      socket?.destroy();
      if (left === 0 || !wanted() || !cutOff(error, socket)) throw error;
      const ms = waitMs;
      await new Promise<void>((resolve) => void clock.setTimer(ms, resolve));
      if (!wanted()) throw error;
    }
    socket = undefined;
  }
}
