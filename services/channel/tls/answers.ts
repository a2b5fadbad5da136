import { subscribe } from "node:diagnostics_channel";
import type { ClientHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../clock.ts";
import { Chatter, FLOOD_BYTES } from "./chatter.ts";
import { MessageEnds } from "./message-ends.ts";
import { stopReading, watchPostHandshake } from "./post-handshake.ts";
import { Rounds } from "./rounds.ts";
import type { ServerHandshakes } from "./server-handshakes.ts";

/** How often what came of servers is looked at, ms. */
const LOOK_MS = 200;
/** Informational headers of one answer. No server of gRPC sends any. */
const INFORMATIONAL_MAX = 16;

type AnswersClock = Pick<Clock, "mono" | "setTimer" | "setImmediate">;

/** Where HTTP/2 finds the `Answers` of its connection: its sessions know the socket that they were given. */
const ANSWERS = Symbol("answers");

/** Answers are what comes over a connection that this hub dialled. Its server may be as hostile as a client. */
class Answers {
  readonly raw: Socket;
  readonly #secure: TLSSocket;
  readonly #chatter = new Chatter();
  readonly server: ServerHandshakes;
  readonly #clock: AnswersClock;
  readonly #onTooMuch: (why: string) => void;
  #over = false;

  constructor(raw: Socket, secure: TLSSocket, server: ServerHandshakes, clock: AnswersClock, onTooMuch: (why: string) => void) {
    this.raw = raw;
    this.#secure = secure;
    this.server = server;
    this.#clock = clock;
    this.#onTooMuch = onTooMuch;
    // What the handshake took does not count.
    this.#chatter.excess(raw, secure.bytesRead);
    watchPostHandshake(
      secure,
      () => clock.mono(),
      () => this.flood("the server sends key updates or tickets without end"),
    );
  }

  /** begins watches the answer to a call, or refuses a stream that the server opens: gRPC has none. */
  begins(stream: ClientHttp2Stream): void {
    if (stream.id !== undefined && stream.id % 2 === 0) {
      // Nobody else listens to it: the error with which it ends would end the process.
      stream.on("error", () => undefined);
      return this.flood("the server pushes streams");
    }
    this.#chatter.stream();
    let informational = 0;
    stream.on("headers", () => {
      if (++informational > INFORMATIONAL_MAX) this.flood("the server sends informational headers without end");
    });
    const messages = new MessageEnds();
    const push = stream.push;
    stream.push = (piece: Buffer | null, encoding) => {
      if (piece === null) return push.call(stream, piece, encoding);
      if (this.#over) return false;
      const fits = this.#chatter.piece(piece.length, messages.take(piece));
      if (!fits) this.flood("the server sends its answers in too many pieces");
      return fits && push.call(stream, piece, encoding);
    };
  }

  /** flood ends all connections to the server for what no honest server does. What reads of it may be at work, so it ends when that is done. */
  flood(why: string): void {
    if (this.#over) return;
    this.server.chattered(FLOOD_BYTES, this.#clock.mono());
    for (const each of byClock.get(this.#clock)?.all ?? [this]) if (each.server === this.server) each.#cut(why);
  }

  #cut(why: string): void {
    stopReading(this.raw);
    if (!this.#over) this.#end(why);
  }

  #end(why: string): void {
    this.#over = true;
    this.#clock.setImmediate(() => this.#onTooMuch(why));
  }

  look(): void {
    const excess = this.#chatter.excess(this.raw, this.#secure.bytesRead);
    if (excess === 0 || this.#over) return;
    if (this.server.chattered(excess, this.#clock.mono())) this.#end("the server sends much that carries nothing");
  }
}

const byClock = new WeakMap<AnswersClock, Rounds<Answers>>();
let subscribed = false;

/** watchAnswers bounds what a server sends that carries nothing. `onTooMuch` is to end the connection. */
export function watchAnswers(
  secure: TLSSocket,
  raw: Socket,
  server: ServerHandshakes,
  clock: AnswersClock,
  onTooMuch: (why: string) => void,
): void {
  // grpc-js keeps its sessions to itself; Node tells of each stream of any.
  if (!subscribed)
    subscribe("http2.client.stream.created", (message) => {
      const { stream } = message as { readonly stream: ClientHttp2Stream };
      const socket = stream.session?.socket;
      const answers = socket === undefined ? undefined : (Reflect.get(socket, ANSWERS) as Answers | undefined);
      answers?.begins(stream);
    });
  subscribed = true;
  const answers = new Answers(raw, secure, server, clock, onTooMuch);
  Reflect.set(secure, ANSWERS, answers);
  let all = byClock.get(clock);
  if (all === undefined) byClock.set(clock, (all = new Rounds(clock, LOOK_MS, (one) => one.look())));
  all.add(answers, raw);
}
