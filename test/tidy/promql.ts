// Enough of PromQL to see which metrics and labels an expression speaks of.

/** Mentioned is what an expression speaks of. */
export interface Mentioned {
  readonly metrics: ReadonlySet<string>;
  readonly labels: ReadonlySet<string>;
}

const KEYWORDS = new Set(["and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"]);

/** mentioned reads an expression; functions, numbers, strings and ranges are left out. */
export function mentioned(expression: string): Mentioned {
  const labels = new Set<string>();
  const rest = expression
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, '""')
    .replaceAll(/\{([^}]*)\}/g, (_all, matchers: string) => {
      for (const [, label] of matchers.matchAll(/(\w+)\s*[=!]/g)) labels.add(label!);
      return " ";
    })
    .replaceAll(/\[[^\]]*\]/g, " ")
    .replaceAll(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g, (_all, names: string) => {
      for (const [label] of names.matchAll(/\w+/g)) labels.add(label);
      return " ";
    });
  const names = [...rest.matchAll(/(?<![\w.$])([a-zA-Z_]\w*)(?!\w*\s*\()/g)].map((match) => match[1]!);
  return { metrics: new Set(names.filter((name) => !KEYWORDS.has(name))), labels };
}

/** knownMetrics reads docs/METRICS.md: series by name, with their labels; Prometheus' own beside them. */
export function knownMetrics(page: string): ReadonlyMap<string, ReadonlySet<string>> {
  const known = new Map<string, ReadonlySet<string>>([
    ["up", new Set()],
    ["ALERTS", new Set(["alertname", "alertstate", "severity"])],
  ]);
  for (const [, name = "", kind, names = ""] of page.matchAll(/^\| `(\w+)` \| (\w+) \| ([^|]*) \|/gm)) {
    const labels = names
      .split(",")
      .map((label) => label.trim())
      .filter((label) => label !== "");
    if (kind !== "histogram") known.set(name, new Set(labels));
    else {
      known.set(`${name}_bucket`, new Set([...labels, "le"]));
      for (const suffix of ["_sum", "_count"]) known.set(name + suffix, new Set(labels));
    }
  }
  return known;
}

/** Labels that Prometheus gives to everything that it scrapes. */
const OF_TARGETS = ["job", "instance"];

/** strangers lists what an expression speaks of and nobody exports. */
export function strangers(expression: string, known: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const { metrics, labels } = mentioned(expression);
  const there = new Set([...OF_TARGETS, ...[...metrics].flatMap((metric) => [...(known.get(metric) ?? [])])]);
  return [...[...metrics].filter((metric) => !known.has(metric)), ...[...labels].filter((label) => !there.has(label)).map((l) => `{${l}}`)];
}
