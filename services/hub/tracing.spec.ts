import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { SPAN_KIND, type Span } from "#runtime/trace/span.ts";
import type { Tracer } from "#runtime/trace/tracer.ts";
import { memoryLogger } from "../../test/fakes/memory-logger.ts";
import { until } from "../../test/support/federation.ts";
import { OtlpCollector } from "../../test/support/otlp-collector.ts";
import { testHub } from "../../test/testca/index.ts";
import { Credentials } from "./credentials.ts";
import { loadHubConfig, renderConfig } from "./index.ts";
import { parseHeaders, startTracing } from "./tracing.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-tracing-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function configOf(tracing: object): ReturnType<typeof loadHubConfig>["config"] {
  const file = join(folder, "hub.json");
  writeFileSync(file, JSON.stringify({ hub_id: "home", tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" }, tracing }));
  return loadHubConfig({ file }).config;
}

describe("configuration of tracing", () => {
  test("it is off unless a collector is named, and then records little", () => {
    expect(configOf({}).tracing).toMatchObject({ endpoint: "", ratio: 0.01, queue_spans: 2_048, spans_per_second: 200 });
  });

  test.each([
    "https://collector.example:4318",
    "https://10.0.0.7/otlp/v1/traces",
    "http://127.0.0.1:4318",
    "http://[::1]:4318",
    "http://localhost:4318",
  ])("%s may be a collector", (endpoint) => {
    expect(configOf({ endpoint }).tracing.endpoint).toBe(endpoint);
  });

  test.each([
    "collector:4318",
    "http://collector.example:4318",
    "http://127.example.org:4318",
    "https://user:secret@collector.example",
    "https://collector.example/?token=secret",
    "ftp://127.0.0.1",
  ])("%s may not: what callers do leaves this machine encrypted, and secrets have a file", (endpoint) => {
    expect(() => configOf({ endpoint })).toThrow(/tracing\.endpoint: must be an https:\/\/ URL/);
  });

  test.each([{ ratio: 1.5 }, { ratio: -0.1 }, { queue_spans: 10 }, { spans_per_second: 0 }, { endpint: "x" }])(
    "%j is refused by name",
    (tracing) => {
      expect(() => configOf(tracing)).toThrow(`tracing.${Object.keys(tracing)[0]}`);
    },
  );

  test("the effective configuration names the file of the headers, and nothing that stands in it", () => {
    writeFileSync(join(folder, "headers"), "authorization: Bearer hush\n");
    const shown = JSON.stringify(renderConfig(configOf({ endpoint: "https://c.example", headers_file: join(folder, "headers") })));
    expect(shown).toContain("headers");
    expect(shown).not.toContain("hush");
  });
});

describe("headers of the collector", () => {
  test("one a line; comments and empty lines are passed over", () => {
    expect(parseHeaders("# secret of the collector\nAuthorization: Bearer abc=\n\nx-scope-orgid:\thome \r\n", "h")).toEqual({
      authorization: "Bearer abc=",
      "x-scope-orgid": "home",
    });
  });

  test.each(["Bearer hush", "bad name: hush", ": hush", "x: hu\u0007sh"])(
    "a wrong line is named by its number, never by what it says",
    (line) => {
      const attempt = (): unknown => parseHeaders(`a: b\n${line}\n`, "/etc/foedus/headers");
      expect(attempt).toThrow(/^line 2 of \/etc\/foedus\/headers is not a header/);
      expect(attempt).not.toThrow(/hush/);
    },
  );
});

describe("a tracer of a hub", () => {
  const log = memoryLogger();

  /** started starts tracing as `home` with real certificates, and ends it after the test's work. */
  async function started(tracing: object, work: (tracer: Tracer) => Promise<void>): Promise<void> {
    const { certificatePem, keyPem, caPem } = (await testHub("home")).service();
    const [caFile, certFile, keyFile] = ["ca.pem", "c.pem", "k.pem"].map((name) => join(folder, name)) as [string, string, string];
    writeFileSync(caFile, caPem);
    writeFileSync(certFile, certificatePem);
    writeFileSync(keyFile, keyPem, { mode: 0o600 });
    const [clock, metrics] = [systemClock, new Registry()];
    const credentials = await Credentials.load({ hubId: "home", caFile, certFile, keyFile, intervalMs: 60_000, clock, log, metrics });
    try {
      const config = configOf({ ratio: 1, interval_ms: 100, ...tracing });
      const tracer = await startTracing({ config, folder, runs: "hub", credentials, clock, entropy: systemEntropy, log, metrics });
      await work(tracer).finally(() => tracer.stop(1_000));
    } finally {
      credentials.close();
    }
  }

  test.each(["headers_file", "ca"])("%s that cannot be read ends the start with the field to correct", async (field) => {
    const attempt = started({ endpoint: "https://127.0.0.1:1", [field]: "missing" }, () => Promise.resolve());
    await expect(attempt).rejects.toThrow(new RegExp(`^cannot read .*missing; correct tracing\\.${field}`));
  });

  test("renewed headers are used from the next request on; a damaged file leaves the last good ones, and no line of the log has them", async () => {
    const collector = await OtlpCollector.start();
    const file = join(folder, "headers");
    writeFileSync(file, "authorization: Bearer first-secret\n");
    try {
      await started({ endpoint: collector.url, headers_file: "headers" }, async (tracer) => {
        const request = async (): Promise<string | undefined> => {
          const before = collector.headers.length;
          tracer.end(tracer.begin("work", SPAN_KIND.INTERNAL, undefined) as Span, false);
          await until("a request", () => collector.headers.length > before);
          return collector.headers.at(-1)?.authorization;
        };
        expect(await request()).toBe("Bearer first-secret");
        writeFileSync(file, "authorization: Bearer second-secret\n");
        expect(await request()).toBe("Bearer second-secret");
        writeFileSync(file, "Bearer third-secret");
        expect(await request()).toBe("Bearer second-secret");
      });
    } finally {
      await collector.stop();
    }
    expect(collector.paths).toEqual(Array.from({ length: 3 }, () => "POST /v1/traces"));
    expect(log.lines.map(({ message }) => message)).toContain("headers of the collector are not renewed; the last good ones are used");
    expect(JSON.stringify(log.lines)).not.toMatch(/-secret/);
  });
});
