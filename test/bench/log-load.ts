// The load on a log: clients in a process of their own, each with a connection and one put in flight, whatever log it is.
import { systemClock } from "#channel/clock.ts";
import { Etcd } from "./etcd.ts";
import { FoedusLog } from "./foedus-log.ts";
import { quantiles, runRole } from "./worker.ts";

/** LogEndpoint is where a replica of a log answers, and what its clients show: plain data, because it travels to another process. */
export interface LogEndpoint {
  /** Hub id that its certificate says. */
  readonly hub: string;
  /** `host:port`. */
  readonly address: string;
  /** Files (PEM): the authority of the log's servers, and a client's certificate and key. */
  readonly pki: { readonly ca: string; readonly cert: string; readonly key: string };
}

/** Putter is one client. */
export interface Putter {
  /** put resolves when the value is durable at a majority, and rejects otherwise. */
  put(value: Uint8Array): Promise<void>;
  close(): void;
}

/** LogUnderTest is a replicated log that values are put into. It starts in the process of the bench; `open` is called in the one that loads. */
export interface LogUnderTest {
  readonly name: string;
  /** start starts three replicas with their data below `dir`, and gives their endpoints, the leader's first. */
  start(dir: string): Promise<readonly LogEndpoint[]>;
  /** open makes a client with a connection of its own. `client` counts from 0; clients write keys of their own. */
  open(endpoint: LogEndpoint, client: number): Putter;
  /** syncs is how often the leader has made its log durable since it started. */
  syncs(): Promise<number>;
  /** pids are the processes of the replicas. */
  pids(): readonly number[];
  stop(): Promise<void>;
}

/** LOGS are the logs that can be measured. etcd is the one that the others are compared with. */
export const LOGS: Readonly<Record<string, () => LogUnderTest>> = { etcd: () => new Etcd(), foedus: () => new FoedusLog() };

/** LogClients says which clients a load part opens. */
export interface LogClients {
  /** Name in LOGS. */
  readonly log: string;
  readonly endpoint: LogEndpoint;
  readonly clients: number;
}

/** LogRun is one run of them. */
export interface LogRun {
  readonly seconds: number;
  /** Length of a value. */
  readonly bytes: number;
}

/** LogResult is what a run gave; latencies from the call to the answer. */
export interface LogResult {
  readonly puts: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** putters opens the clients of a load part and gives what one run does: a closed loop. */
export async function putters(argument: LogClients): Promise<(run: LogRun) => Promise<LogResult>> {
  const log = LOGS[argument.log]!();
  const clients = Array.from({ length: argument.clients }, (_, client) => log.open(argument.endpoint, client));
  // The connections are made by the first put.
  await Promise.all(clients.map((client) => client.put(Buffer.alloc(1))));
  return async ({ seconds, bytes }) => {
    const value = Buffer.alloc(bytes, "v");
    const latencies: number[] = [];
    const start = systemClock.mono();
    const end = start + seconds * 1_000;
    const one = async (client: Putter): Promise<void> => {
      for (let sent = systemClock.mono(); sent < end; sent = systemClock.mono()) {
        await client.put(value);
        latencies.push(systemClock.mono() - sent);
      }
    };
    await Promise.all(clients.map(one));
    const { p50, p99, max } = quantiles(latencies);
    return {
      puts: latencies.length,
      perSecond: (latencies.length / (systemClock.mono() - start)) * 1_000,
      p50Ms: p50,
      p99Ms: p99,
      maxMs: max,
    };
  };
}

export const LOG_LOAD_FILE = import.meta.filename;

await runRole({ putters });
