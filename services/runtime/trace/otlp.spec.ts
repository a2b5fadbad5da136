import { afterEach, describe, expect, test } from "vitest";
import { OtlpCollector } from "../../../test/support/otlp-collector.ts";
import { type TestHub, testHub } from "../../../test/testca/index.ts";
import { isTest, read, sources } from "../../../test/tidy/files.ts";
import { createOtlpSink, type OtlpOptions, type OtlpSink, type OtlpTls } from "./otlp.ts";
import { SPAN_KIND, Span } from "./span.ts";

let collector: OtlpCollector | undefined;
let sink: OtlpSink | undefined;

afterEach(async () => {
  sink?.close();
  await collector?.stop();
  collector = undefined;
});

function span(): Span {
  const made = new Span({
    name: "work",
    kind: SPAN_KIND.SERVER,
    traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
    spanId: "00f067aa0ba902b7",
    parent: undefined,
    startMs: 1_800_000_000_123.25,
  });
  Object.assign(made.attributes, { text: "x", count: 3, part: 0.5, yes: true });
  made.endMs = made.startMs + 2.5;
  made.failed = true;
  return made;
}

async function sinkTo(url: string, more: Partial<OtlpOptions> = {}): Promise<OtlpSink> {
  sink = await createOtlpSink({
    url,
    resource: { "service.name": "foedus-home" },
    scope: { name: "foedus", version: "1" },
    tls: () => undefined,
    headers: () => ({}),
    timeoutMs: 500,
    ...more,
  });
  return sink;
}

const tlsOf = (hub: TestHub): OtlpTls => {
  const { certificatePem, keyPem, caPem } = hub.service();
  return { ca: [caPem], cert: certificatePem, key: keyPem };
};

describe("OTLP over HTTP", () => {
  test("a span arrives whole, under the path of the endpoint and with the headers of the moment", async () => {
    collector = await OtlpCollector.start();
    let token = "one";
    const to = await sinkTo(`${collector.url}/v1/traces`, { headers: () => ({ authorization: `Bearer ${token}` }) });
    await to.send([span()]);
    token = "two";
    await to.send([span()]);
    expect(collector.paths).toEqual(["POST /v1/traces", "POST /v1/traces"]);
    expect(collector.headers.map((headers) => [headers["authorization"], headers["content-type"]])).toEqual([
      ["Bearer one", "application/x-protobuf"],
      ["Bearer two", "application/x-protobuf"],
    ]);
    expect(collector.spans[0]).toEqual({
      traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
      spanId: "00f067aa0ba902b7",
      parentSpanId: "",
      state: "",
      name: "work",
      kind: "SERVER",
      startNs: 1_800_000_000_123_250_000n,
      endNs: 1_800_000_000_125_750_000n,
      attributes: { text: "x", count: 3n, part: 0.5, yes: true },
      events: [],
      status: 2,
      resource: { "service.name": "foedus-home" },
    });
  });

  test("a collector of this hub proves itself by the hub's CA, and is shown the hub's certificate", async () => {
    const hub = await testHub("home");
    const own = hub.service("collector", { ips: ["127.0.0.1"] });
    collector = await OtlpCollector.start({ tls: { cert: own.chainPem, key: own.keyPem, ca: hub.caPem } });
    await (await sinkTo(collector.url, { tls: () => tlsOf(hub) })).send([span()]);
    expect(collector.spans).toHaveLength(1);
  });

  test("a collector under another CA gets nothing, and after a renewal the new certificates count", async () => {
    const [hub, stranger] = await Promise.all([testHub("home"), testHub("home")]);
    const own = hub.service("collector", { ips: ["127.0.0.1"] });
    collector = await OtlpCollector.start({ tls: { cert: own.chainPem, key: own.keyPem, ca: hub.caPem } });
    let material = tlsOf(stranger);
    const to = await sinkTo(collector.url, { tls: () => material });
    await expect(to.send([span()])).rejects.toThrow(/certificate|issuer/i);
    material = tlsOf(hub);
    to.renew();
    await to.send([span()]);
    expect(collector.spans).toHaveLength(1);
  });

  test.each([400, 401, 500])("an answer of %i is a refusal at once", async (status) => {
    collector = await OtlpCollector.start();
    collector.status = status;
    await expect((await sinkTo(collector.url)).send([span()])).rejects.toThrow();
    expect(collector.paths).toHaveLength(1);
  });

  test("nobody there is a refusal within the time that the collector has", async () => {
    collector = await OtlpCollector.start();
    const { url } = collector;
    await collector.stop();
    collector = undefined;
    await expect((await sinkTo(url)).send([span()])).rejects.toThrow(/ECONNREFUSED/);
  });
});

describe("a hub that does not trace", () => {
  test("loads nothing of OpenTelemetry: the one file that names it does so when tracing starts", () => {
    const users = sources().filter((path) => !isTest(path) && /"@opentelemetry\//.test(read(path)));
    expect(users).toEqual(["services/runtime/trace/otlp.ts"]);
    expect(read(users[0]!)).not.toMatch(/^\s*(?:import|export)\s[^(]*from "@opentelemetry\//m);
    const lazy = /await import\("\.\/tracing\.ts"\)/;
    expect(sources().filter((path) => !isTest(path) && /"\.\/tracing\.ts"/.test(read(path)))).toEqual(["services/hub/process.ts"]);
    expect(read("services/hub/process.ts")).toMatch(lazy);
  });
});
