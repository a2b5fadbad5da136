import type { Readable, Writable } from "node:stream";
import { StdioServerTransport, serveStdio } from "@modelcontextprotocol/server/stdio";
import { whenAborted } from "../../clients/typescript/index.ts";
import { createServer, type ServerParts } from "./server.ts";
import type { Caller } from "./tool.ts";

/** Bytes of one message: more than any call has. What is longer ends the connection, as nothing behind it can be told apart. */
const MESSAGE_MAX_BYTES = 1_048_576;

/** Pipes are what a server talks over. */
export interface Pipes {
  readonly input: Readable;
  readonly output: Writable;
}

/** Transport tells when it is closed, by whomever: the client hung up, a message was too long, or nobody reads the answers. */
class Transport extends StdioServerTransport {
  readonly #closed = Promise.withResolvers<void>();

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  override async close(): Promise<void> {
    await super.close();
    this.#closed.resolve();
  }
}

/** serveOverStdio serves one client over pipes, and resolves when the connection is over or `signal` aborts. */
export async function serveOverStdio(
  { input, output }: Pipes,
  callerNow: () => Caller,
  parts: ServerParts,
  signal: AbortSignal,
): Promise<void> {
  const transport = new Transport(input, output, { maxBufferSize: MESSAGE_MAX_BYTES });
  const handle = serveStdio(() => createServer(callerNow(), parts), { transport, onerror: parts.onError });
  const stop = (): void => void handle.close().catch(parts.onError);
  whenAborted(signal, stop);
  await transport.closed;
  signal.removeEventListener("abort", stop);
  await handle.close();
}
