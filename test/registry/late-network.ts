// A network between a client and the handlers of a hub in the same process that keeps the bytes of cut streams, and delivers them whenever the test says.
import type { CallOptions, ClientDuplex, ClientOf } from "#channel/call.ts";
import type { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError, type Reason } from "#kernel/error.ts";

type Client = ClientOf<typeof RegistrySyncService>;
type Duplex = ClientDuplex<never, unknown>;

/** LateStream is one stream: what the client sent and the hub has not got, what the hub answered and the client has not got. */
export class LateStream {
  /** Messages on their way to the hub. Opening the call is on its way too, until the first of them is delivered. */
  readonly under: unknown[] = [];
  readonly #inner: Duplex;
  readonly #answers: unknown[] = [];
  #wake: (() => void) | undefined;
  #failure: FoedusError | undefined;

  constructor(inner: Duplex) {
    this.#inner = inner;
    void this.#collect();
  }

  async #collect(): Promise<void> {
    try {
      for await (const message of this.#inner.responses) {
        this.#answers.push(message);
        this.#wake?.();
      }
    } catch {
      // The hub ended a stream whose client is gone.
    }
  }

  /** deliver hands some of what is under way to the hub. */
  deliver(count = this.under.length): void {
    for (const message of this.under.splice(0, count)) this.#inner.send(message as never);
  }

  /** cut ends it for the client only; the hub does not know. */
  cut(reason: Reason = "PEER_UNREACHABLE"): void {
    this.#failure ??= new FoedusError({ reason, message: "the test cut the connection" });
    this.#wake?.();
  }

  async *#responses(): AsyncGenerator<unknown> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#answers.length > 0) yield this.#answers.shift();
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** client is what the client has of it. */
  client(): Duplex {
    const stream = this;
    return {
      opened: Promise.resolve(),
      responses: this.#responses(),
      bufferedBytes: 0,
      get closed() {
        return stream.#failure !== undefined;
      },
      send: (message: unknown) => {
        if (this.#failure !== undefined) return false;
        this.under.push(message);
        return true;
      },
      drained: () => Promise.resolve(),
      end: () => undefined,
      cancel: () => this.cut(),
    } as Duplex;
  }

  /** close lets the hub see the end. */
  close(): void {
    this.cut();
    this.#inner.cancel();
  }
}

/** LateNetwork gives a client whose UpdateState streams it delays. */
export class LateNetwork {
  readonly streams: LateStream[] = [];
  readonly client: Client;

  constructor(inner: Client) {
    this.client = {
      ...inner,
      updateState: (options?: CallOptions) => {
        const stream = new LateStream(inner.updateState(options) as unknown as Duplex);
        this.streams.push(stream);
        return stream.client();
      },
    } as Client;
  }

  get newest(): LateStream | undefined {
    return this.streams.at(-1);
  }
}
