import { connect, type Socket } from "node:net";
import type { Clock } from "#runtime/clock.ts";

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

/** again dials the same address. */
function again({ host, port }: Place): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true }, () => {
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
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
 * place, until `wanted` says no, or after a second and a half. `target`: where the first one was to go.
 */
export async function redialling<T>(
  first: Socket,
  target: Place,
  handshake: (socket: Socket) => Promise<T>,
  clock: Timers,
  wanted: () => boolean,
): Promise<T> {
  const place = placeOf(first) ?? target;
  let socket: Socket | undefined = first;
  for (let left = REDIALS, waitMs = FIRST_WAIT_MS; ; left--, waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS)) {
    try {
      socket ??= await again(place);
      return await handshake(socket);
    } catch (error) {
      if (left === 0 || !wanted() || !cutOff(error, socket)) throw error;
    }
    socket = undefined;
    const ms = waitMs;
    await new Promise<void>((resolve) => void clock.setTimer(ms, resolve));
  }
}
