import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { counter, gauge, histogram, LabelBound, sampledGauge } from "./declare.ts";

test("a metric is declared once per registry and shared by label", async () => {
  const [home, work] = [new Registry(), new Registry()];
  const spec = { name: "foedus_test_total", help: "a count", labels: ["service"] } as const;
  counter(home, spec).inc({ service: "a" });
  counter(home, spec).inc({ service: "b" }, 2);
  counter(work, spec).inc({ service: "a" }, 7);
  const text = await home.metrics();
  expect(text).toContain('foedus_test_total{service="a"} 1');
  expect(text).toContain('foedus_test_total{service="b"} 2');
  expect(await work.metrics()).toContain('foedus_test_total{service="a"} 7');
});

test("the same name with another meaning is a bug", () => {
  const registry = new Registry();
  histogram(registry, { name: "foedus_x", help: "x" });
  expect(() => histogram(registry, { name: "foedus_x", help: "x", labels: ["peer"] })).toThrow("declared twice");
  expect(() => gauge(registry, { name: "foedus_x", help: "x" })).toThrow("declared twice");
});

test("a sampled gauge reads when scraped and forgets removed series", async () => {
  const registry = new Registry();
  let depth = 3;
  const add = sampledGauge(registry, { name: "foedus_depth", help: "depth", labels: ["service"] });
  const remove = add({ service: "a" }, () => depth);
  sampledGauge(registry, { name: "foedus_depth", help: "depth", labels: ["service"] })({ service: "b" }, () => 1);
  depth = 5;
  expect(await registry.metrics()).toContain('foedus_depth{service="a"} 5');
  remove();
  const text = await registry.metrics();
  expect(text).not.toContain('service="a"');
  expect(text).toContain('foedus_depth{service="b"} 1');
});

test("label values are bounded", () => {
  const bound = new LabelBound(2);
  expect(["a", "b", "c", "a"].map((v) => bound.of(v))).toEqual(["a", "b", "other", "a"]);
  bound.forget("a");
  expect(bound.of("c")).toBe("c");
});
