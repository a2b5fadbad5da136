import { type Metric, type MetricObjectWithValues, type MetricValue, type OpenMetricsContentType, Registry } from "prom-client";
import { exemplarOf } from "./exemplars.ts";

/** Exposition is a page of metrics for one scraper. */
export interface Exposition {
  readonly contentType: string;
  readonly body: string;
}

const OPEN_METRICS = "application/openmetrics-text";
/** Versions of OpenMetrics whose text we write. */
const VERSIONS: ReadonlySet<string> = new Set(["", "1.0.0", "0.0.1"]);

/**
 * wantsOpenMetrics reads an Accept header (RFC 9110, 12.5.1): true if it names OpenMetrics and does not like plain text better. A
 * header that accepts anything gets plain text, which people can read without knowing about it.
 */
export function wantsOpenMetrics(accept: string): boolean {
  let open = 0;
  let plain = 0;
  for (const range of accept.toLowerCase().split(",")) {
    const [type = "", ...rest] = range.split(";").map((part) => part.trim());
    const parameters = new Map(rest.map((part) => part.split("=", 2) as [string, string]));
    const quality = Number(parameters.get("q") ?? 1);
    if (!(quality > 0 && quality <= 1)) continue;
    if (type === OPEN_METRICS && VERSIONS.has(parameters.get("version") ?? "")) open = Math.max(open, quality);
    else if (type === "text/plain") plain = Math.max(plain, quality);
  }
  return open > 0 && open >= plain;
}

/** What the registry renders: a histogram's values come bundled, which spares one object per bucket. */
type Rendered = Metric & { getForPromString?(): Promise<MetricObjectWithValues<MetricValue<string>>> };
type Bucket = MetricValue<string> & { exemplar?: unknown };

/**
 * View is a metric as a second registry sees it. prom-client's OpenMetrics registry takes `_total` off the names of the counters that it
 * renders; a view takes that change, and the metric keeps its name.
 */
class View {
  name: string;
  readonly type: string;
  readonly #metric: Rendered;

  constructor(metric: Metric) {
    const declared = metric as unknown as { readonly name: string; readonly type: string };
    this.name = declared.name;
    this.type = declared.type;
    this.#metric = metric as Rendered;
  }

  async getForPromString(): Promise<object> {
    const metric = this.#metric;
    const data = await (metric.getForPromString === undefined
      ? (metric.get() as Promise<MetricObjectWithValues<MetricValue<string>>>)
      : metric.getForPromString());
    if (this.type === "histogram") for (const value of data.values) this.#explain(value);
    return { ...data, name: this.name };
  }

  #explain(value: Bucket): void {
    const le: unknown = value.labels["le"];
    if (le === undefined) return;
    const exemplar = exemplarOf(this.#metric, le as number | string);
    if (exemplar !== undefined) value.exemplar = exemplar;
  }
}

/** expose writes a registry's metrics as the scraper asks by its Accept header: OpenMetrics 1.0.0 with exemplars, or the text format 0.0.4. */
export async function expose(registry: Registry, accept = ""): Promise<Exposition> {
  if (!wantsOpenMetrics(accept)) return { contentType: registry.contentType, body: await registry.metrics() };
  const view = new Registry<OpenMetricsContentType>();
  view.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  for (const metric of registry.getMetricsAsArray()) view.registerMetric(new View(metric as unknown as Metric) as unknown as Metric);
  return { contentType: view.contentType, body: await view.metrics() };
}
