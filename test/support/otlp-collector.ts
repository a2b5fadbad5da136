// A small OTLP/HTTP collector: it takes spans as a real one does, reads the protobuf and keeps what it read.
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { BinaryReader, type WireType } from "@bufbuild/protobuf/wire";

/** CollectedSpan is a span as the collector got it. Times are Unix time in ns. */
export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for the first of a trace. */
  readonly parentSpanId: string;
  readonly state: string;
  readonly name: string;
  readonly kind: "INTERNAL" | "SERVER" | "CLIENT" | "OTHER";
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, string | boolean | bigint | number>>;
  readonly events: readonly string[];
  /** 0 unset, 1 ok, 2 error. */
  readonly status: number;
  /** Attributes of the process that made it. */
  readonly resource: Readonly<Record<string, string | boolean | bigint | number>>;
}

type Fields = Map<number, unknown[]>;

/** Wire types: 0 varint, 1 eight bytes, 2 length, 5 four bytes (https://protobuf.dev/programming-guides/encoding). */
function fieldsOf(bytes: Uint8Array): Fields {
  const reader = new BinaryReader(bytes);
  const fields: Fields = new Map();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag() as [number, WireType | number];
    const value =
      type === 0 ? reader.int64() : type === 1 ? reader.fixed64() : type === 2 ? reader.bytes() : type === 5 ? reader.fixed32() : undefined;
    if (value === undefined) throw new Error(`wire type ${type} in an OTLP message`);
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}

const messages = (fields: Fields, number: number): Fields[] => ((fields.get(number) ?? []) as Uint8Array[]).map(fieldsOf);
const textOf = (fields: Fields, number: number): string =>
  Buffer.from((fields.get(number)?.[0] as Uint8Array | undefined) ?? []).toString("utf8");
const hexOf = (fields: Fields, number: number): string =>
  Buffer.from((fields.get(number)?.[0] as Uint8Array | undefined) ?? []).toString("hex");
const numberOf = (fields: Fields, number: number): bigint => BigInt((fields.get(number)?.[0] as bigint | number | undefined) ?? 0);

/** KeyValue: key = 1, value = 2; AnyValue: string = 1, bool = 2, int = 3, double = 4. */
function attributesOf(fields: Fields, number: number): CollectedSpan["attributes"] {
  return Object.fromEntries(
    messages(fields, number).map((pair) => {
      const [value = new Map()] = messages(pair, 2);
      const read = value.has(1)
        ? textOf(value, 1)
        : value.has(2)
          ? numberOf(value, 2) === 1n
          : value.has(4)
            ? new Float64Array(new BigUint64Array([numberOf(value, 4)]).buffer)[0]!
            : numberOf(value, 3);
      return [textOf(pair, 1), read];
    }),
  );
}

const KINDS = ["OTHER", "INTERNAL", "SERVER", "CLIENT"] as const;

/** spansIn reads an ExportTraceServiceRequest (opentelemetry-proto, trace v1): the numbers are those of its schema. */
export function spansIn(body: Uint8Array): CollectedSpan[] {
  return messages(fieldsOf(body), 1).flatMap((resourceSpans) => {
    const [owner = new Map() as Fields] = messages(resourceSpans, 1);
    const resource = attributesOf(owner, 1);
    return messages(resourceSpans, 2).flatMap((scopeSpans) =>
      messages(scopeSpans, 2).map((span): CollectedSpan => {
        const [status = new Map() as Fields] = messages(span, 15);
        return {
          traceId: hexOf(span, 1),
          spanId: hexOf(span, 2),
          state: textOf(span, 3),
          parentSpanId: hexOf(span, 4),
          name: textOf(span, 5),
          kind: KINDS[Number(numberOf(span, 6))] ?? "OTHER",
          startNs: numberOf(span, 7),
          endNs: numberOf(span, 8),
          attributes: attributesOf(span, 9),
          events: messages(span, 11).map((event) => textOf(event, 2)),
          status: Number(numberOf(status, 3)),
          resource,
        };
      }),
    );
  });
}

/** CollectorTls makes the collector an HTTPS server that demands a client certificate from `ca`, if there is one. */
export interface CollectorTls {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
}

/** OtlpCollector is the running collector. */
export class OtlpCollector {
  readonly spans: CollectedSpan[] = [];
  readonly headers: IncomingHttpHeaders[] = [];
  readonly paths: string[] = [];
  /** Status that requests are answered with; 0 leaves them without an answer. */
  status = 200;
  readonly #server: Server;
  readonly #host: string;
  readonly #scheme: "http" | "https";

  private constructor(host: string, tls: CollectorTls | undefined) {
    this.#host = host;
    this.#scheme = tls === undefined ? "http" : "https";
    const listener: Parameters<typeof createServer>[1] = (request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        this.paths.push(`${request.method} ${request.url}`);
        this.headers.push(request.headers);
        if (this.status === 0) return;
        if (this.status === 200) this.spans.push(...spansIn(Buffer.concat(chunks)));
        response.writeHead(this.status, { "content-type": "application/x-protobuf" }).end();
      });
    };
    this.#server =
      tls === undefined
        ? createServer(listener)
        : createTlsServer({ ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: tls.ca !== undefined }, listener);
  }

  /** start listens on a free port of a loopback address, or on the port given. */
  static async start(
    options: { readonly host?: string; readonly port?: number; readonly tls?: CollectorTls } = {},
  ): Promise<OtlpCollector> {
    const host = options.host ?? "127.0.0.1";
    const collector = new OtlpCollector(host, options.tls);
    await new Promise<void>((resolve, reject) => {
      collector.#server.once("error", reject);
      collector.#server.listen(options.port ?? 0, host, resolve);
    });
    return collector;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `${this.#scheme}://${this.#host}:${this.port}`;
  }

  stop(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}
