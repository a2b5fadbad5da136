import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { fail } from "#kernel/error.ts";
import { readText } from "#runtime/files.ts";
import type { Logger } from "#runtime/log/log.ts";
import { createOtlpSink, type OtlpTls } from "#runtime/trace/otlp.ts";
import { Tracer } from "#runtime/trace/tracer.ts";
import type { HubConfig } from "./config.ts";
import type { Credentials } from "./credentials.ts";
import { resolveFrom } from "./files/identity.ts";
import { SOFTWARE } from "./version.ts";

/** TracingParts are what tracing is made of. */
export interface TracingParts {
  readonly config: HubConfig;
  readonly folder: string;
  /** "hub", or the one service of this process. */
  readonly runs: string;
  readonly credentials: Credentials;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  readonly metrics: Registry;
}

/** Value of tracing.ca that stands for the CAs that come with Node. */
const PUBLIC_CAS = "public";

/** A header as RFC 9110 has it: a token, a colon, and what may stand in a value. */
const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)$/;

/**
 * startTracing gives the Tracer of this process. It rejects with NOT_CONFIGURED for files that cannot be read. A collector that is
 * away is no reason not to start.
 */
export async function startTracing(parts: TracingParts): Promise<Tracer> {
  const { config, credentials, clock, entropy, log, metrics } = parts;
  const { endpoint, ratio, spans_per_second, queue_spans, interval_ms, timeout_ms } = config.tracing;
  const url = new URL(endpoint);
  if (url.pathname === "/") url.pathname = "/v1/traces";
  const sink = await createOtlpSink({
    url: url.href,
    resource: resourceOf(parts),
    scope: { name: "foedus", version: SOFTWARE },
    tls: tlsOf(parts),
    headers: headersOf(parts),
    timeoutMs: timeout_ms,
  });
  credentials.onRenewed(() => sink.renew());
  log.info({ endpoint: url.href, ratio }, "tracing is on");
  return new Tracer({
    sink,
    clock,
    entropy,
    log,
    metrics,
    ratio,
    spansPerSecond: spans_per_second,
    queueSpans: queue_spans,
    intervalMs: interval_ms,
  });
}

/** resourceOf says who made the spans, under the names of OpenTelemetry's semantic conventions. */
function resourceOf({ config, runs }: TracingParts): Readonly<Record<string, string>> {
  const { service_name } = config.tracing;
  return {
    "service.namespace": "foedus",
    "service.name": service_name === "" ? `foedus-${config.hub_id}` : service_name,
    "service.version": SOFTWARE,
    "service.instance.id": `${config.hub_id}/${runs}`,
    "foedus.hub.id": config.hub_id,
  };
}

/**
 * Without tracing.ca the collector belongs to this hub: its certificate is from the hub's CA, and this process shows its own. With
 * one it is somebody else's, who is not shown who we are by a certificate.
 */
function tlsOf({ config, folder, credentials }: TracingParts): () => OtlpTls | undefined {
  const { ca } = config.tracing;
  if (ca === PUBLIC_CAS) return () => undefined;
  if (ca === "")
    return () => {
      const { cert, key } = credentials.certificate;
      return { ca: credentials.caPems, cert, key };
    };
  const file = resolveFrom(folder, ca);
  return follow(() => ({ ca: [readOrFail(file, "the collector's CA", "tracing.ca")] }));
}

function headersOf({ config, folder, log }: TracingParts): () => Readonly<Record<string, string>> {
  const { headers_file } = config.tracing;
  if (headers_file === "") return () => ({});
  const file = resolveFrom(folder, headers_file);
  return follow(
    () => parseHeaders(readOrFail(file, "the collector's headers", "tracing.headers_file"), file),
    (err) => log.warn({ err }, "headers of the collector are not renewed; the last good ones are used"),
  );
}

/** follow reads now, which throws for what an operator must mend, and again each time; what is unreadable later leaves the last. */
function follow<T>(readNow: () => T, complain: (error: unknown) => void = () => undefined): () => T {
  let last = readNow();
  return () => {
    try {
      last = readNow();
    } catch (error) {
      complain(error);
    }
    return last;
  };
}

/** parseHeaders reads lines `name: value`; `#` begins a comment line. A wrong line is named by its number, never by what it says. */
export function parseHeaders(text: string, file: string): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {};
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const [, name, value] = HEADER.exec(line) ?? [];
    if (name === undefined || value === undefined)
      throw fail("NOT_CONFIGURED", `line ${index + 1} of ${file} is not a header; write lines like "authorization: Bearer ..."`);
    headers[name.toLowerCase()] = value.trim();
  }
  return headers;
}

function readOrFail(file: string, what: string, field: string): string {
  try {
    return readText(file);
  } catch (cause) {
    throw fail("NOT_CONFIGURED", `cannot read ${what} ${file}; correct ${field} or make the file readable`, { cause });
  }
}
