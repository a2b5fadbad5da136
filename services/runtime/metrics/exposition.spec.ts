import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { counter, histogram, sampledCounter, sampledGauge } from "./declare.ts";
import { tracedHistogram } from "./exemplars.ts";
import { expose, wantsOpenMetrics } from "./exposition.ts";

/** What Prometheus 2.42 sends; Prometheus 3 adds parameters. */
const PROMETHEUS =
  "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";

describe("which format a scraper gets", () => {
  test.each([
    [PROMETHEUS, true],
    ["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5", true],
    ["application/openmetrics-text", true],
    ["Application/OpenMetrics-Text; version=1.0.0", true],
    ["application/openmetrics-text;q=0.4,text/plain;q=0.5", false],
    ["application/openmetrics-text;q=0", false],
    ["application/openmetrics-text;q=many", false],
    ["application/openmetrics-text;version=2.0.0", false],
    ["text/plain", false],
    ["*/*", false],
    ["", false],
  ])("Accept: %s gives OpenMetrics: %s", (accept, open) => expect(wantsOpenMetrics(accept)).toBe(open));
});

describe("a registry in both formats", () => {
  const registry = new Registry();
  counter(registry, { name: "foedus_runs_total", help: "runs", labels: ["kind"] }).inc({ kind: 'a"b' }, 3);
  sampledGauge<never>(registry, { name: "foedus_depth", help: "depth" })({}, () => 2);
  histogram(registry, { name: "foedus_plain_seconds", help: "plain" }, [1]).observe(0.5);
  const traced = tracedHistogram(registry, { name: "foedus_traced_seconds", help: "traced" }, [0.1, 1]);
  traced.observe(0.05);
  traced.observe(0.5, { traceId: "0".repeat(31) + "1", wallMs: 1 });
  traced.observe(0.25, { traceId: TRACE, wallMs: 1_700_000_000_500 });
  traced.observe(7, { traceId: "", wallMs: 5 });

  test("OpenMetrics names counters without _total, ends with EOF, and shows the last trace of each bucket", async () => {
    const { contentType, body } = await expose(registry, PROMETHEUS);
    expect(contentType).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8");
    expect(body.split("\n")).toEqual([
      "# HELP foedus_runs runs",
      "# TYPE foedus_runs counter",
      'foedus_runs_total{kind="a\\"b"} 3',
      "# HELP foedus_depth depth",
      "# TYPE foedus_depth gauge",
      "foedus_depth 2",
      "# HELP foedus_plain_seconds plain",
      "# TYPE foedus_plain_seconds histogram",
      'foedus_plain_seconds_bucket{le="1"} 1',
      'foedus_plain_seconds_bucket{le="+Inf"} 1',
      "foedus_plain_seconds_sum 0.5",
      "foedus_plain_seconds_count 1",
      "# HELP foedus_traced_seconds traced",
      "# TYPE foedus_traced_seconds histogram",
      'foedus_traced_seconds_bucket{le="0.1"} 1',
      `foedus_traced_seconds_bucket{le="1"} 3 # {trace_id="${TRACE}"} 0.25 1700000000.5`,
      'foedus_traced_seconds_bucket{le="+Inf"} 4',
      "foedus_traced_seconds_sum 7.8",
      "foedus_traced_seconds_count 4",
      "# EOF",
      "",
    ]);
  });

  test("the text format is as ever, also after a scrape in the other", async () => {
    await Promise.all([expose(registry, PROMETHEUS), expose(registry), expose(registry, PROMETHEUS)]);
    const { contentType, body } = await expose(registry);
    expect(contentType).toContain("text/plain; version=0.0.4");
    expect(body).toContain("# TYPE foedus_runs_total counter\nfoedus_runs_total{");
    expect(body).not.toMatch(/trace_id|EOF/);
  });

  test("above the last bound the exemplar is that of the bucket without one", async () => {
    const own = new Registry();
    tracedHistogram(own, { name: "foedus_x_seconds", help: "x" }, [1]).observe(2, { traceId: TRACE, wallMs: 0 });
    tracedHistogram(own, { name: "foedus_x_seconds", help: "x" }, [1]).observe(3);
    expect((await expose(own, PROMETHEUS)).body).toContain(`{le="+Inf"} 2 # {trace_id="${TRACE}"} 2 0\n`);
  });
});

test("a sampled counter reads a plain number when scraped, and forgets removed series", async () => {
  const registry = new Registry();
  let n = 3;
  const add = sampledCounter(registry, { name: "foedus_seen_total", help: "seen", labels: ["service"] });
  const remove = add({ service: "a" }, () => n);
  add({ service: "b" }, () => 1);
  n = 5;
  for (let scrape = 0; scrape < 2; scrape++) expect(await registry.metrics()).toContain('foedus_seen_total{service="a"} 5');
  remove();
  expect(await registry.metrics()).not.toContain('service="a"');
  counter(registry, { name: "foedus_counted_total", help: "counted" });
  expect(() => sampledCounter(registry, { name: "foedus_counted_total", help: "counted" })).toThrow("not sampled before");
});
