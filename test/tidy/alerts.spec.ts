import { describe, expect, test } from "vitest";
import { EventKind } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { buildProgram } from "../../cli/program.ts";
import { read } from "./files.ts";
import { knownMetrics, mentioned, strangers } from "./promql.ts";

interface Alert {
  readonly name: string;
  readonly expression: string;
  readonly text: string;
}

/** alertsOf takes the rule file apart; promtool checks that it is one. */
function alertsOf(file: string): Alert[] {
  return file
    .split(/^ {6}- alert: /m)
    .slice(1)
    .map((text) => {
      const block = /^ {8}expr: (?:\|-\n((?: {10}.*\n)+)|(.*)\n)/m.exec(text);
      return { name: text.slice(0, text.indexOf("\n")), expression: block?.[1] ?? block?.[2] ?? "", text };
    });
}

const ALERTS = alertsOf(read("ops/prometheus/alerts.yaml"));
const NAMES = ALERTS.map(({ name }) => name);
const TESTS = read("ops/prometheus/alerts.test.yaml");
const RUNBOOK = read("docs/RUNBOOK.md");
const KNOWN = knownMetrics(read("docs/METRICS.md"));

/** field is the value of a field of an alert, without quotes. */
function field(alert: Alert, name: string): string {
  return new RegExp(`^ {8,10}${name}: "?(.*?)"?$`, "m").exec(alert.text)?.[1] ?? "";
}

describe("S4-20 alerts", () => {
  test("there are some, each once, and each has severity, summary, description and a way into the runbook", () => {
    expect(NAMES.length).toBeGreaterThan(25);
    expect(new Set(NAMES).size).toBe(NAMES.length);
    for (const alert of ALERTS) {
      expect([alert.name, field(alert, "severity")]).toEqual([alert.name, expect.stringMatching(/^(critical|warning|info)$/)]);
      expect([alert.name, field(alert, "summary").length]).toEqual([alert.name, expect.toSatisfy((length: number) => length > 10)]);
      expect([alert.name, field(alert, "description").length]).toEqual([alert.name, expect.toSatisfy((length: number) => length > 80)]);
      expect(field(alert, "runbook_url")).toBe(`docs/RUNBOOK.md#${alert.name.toLowerCase()}`);
    }
  });

  test("each has a test in which it is quiet and one in which it fires", () => {
    const tests = TESTS.split(/^ {2}- name: /m).slice(1);
    expect(tests.map((text) => text.slice(0, text.indexOf("\n")))).toEqual(NAMES);
    for (const [index, text] of tests.entries()) {
      const asked = [...text.matchAll(/ALERTS\{alertname="(\w+)"/g)].map((match) => match[1]);
      expect(new Set(asked)).toEqual(new Set([NAMES[index]]));
      expect([NAMES[index], /exp_samples: \[\]/.test(text), /exp_samples:\n\s+- labels/.test(text)]).toEqual([NAMES[index], true, true]);
    }
  });

  test("each has an entry in the runbook, and the runbook has no other", () => {
    expect([...RUNBOOK.matchAll(/^## (\w+)$/gm)].map((match) => match[1])).toEqual(NAMES);
    expect(
      [...RUNBOOK.matchAll(/^- \[(\w+)\]\(#(\w+)\) \((\w+)\)$/gm)].map(([, name, anchor, severity]) => [name, anchor, severity]),
    ).toEqual(ALERTS.map((alert) => [alert.name, alert.name.toLowerCase(), field(alert, "severity")]));
    for (const entry of RUNBOOK.split(/^## /m).slice(1)) {
      expect(entry).toMatch(/^\w+\n\n\S[\s\S]*\nLook:\n\n```sh\nfoedus /);
      expect(entry).toMatch(/\nFix:\n\n- /);
    }
    const links = [...RUNBOOK.matchAll(/\]\(#(\w+)\)/g)].map((match) => match[1]!);
    expect(links.filter((anchor) => !NAMES.some((name) => name.toLowerCase() === anchor))).toEqual([]);
  });

  test("they speak only of metrics and labels that are exported", () => {
    for (const { name, expression, text } of ALERTS) {
      expect([name, strangers(expression, KNOWN)]).toEqual([name, []]);
      const there = [...mentioned(expression).metrics].flatMap((metric) => [...(KNOWN.get(metric) ?? [])]);
      const shown = [...text.matchAll(/\$labels\.(\w+)/g)].map((match) => match[1]!);
      expect([name, shown.filter((label) => !["instance", "job", ...there].includes(label))]).toEqual([name, []]);
    }
  });

  test("the dashboard speaks only of metrics and labels that are exported", () => {
    const dashboard = read("ops/grafana/foedus.json");
    const queries = [...dashboard.matchAll(/"expr": ("(?:[^"\\]|\\.)*")/g)].map((match) => JSON.parse(match[1]!) as string);
    expect(queries.length).toBeGreaterThan(60);
    for (const query of queries) expect([query, strangers(query, KNOWN)]).toEqual([query, []]);
  });

  test("what nobody exports is found", () => {
    expect(strangers('sum by (peer) (rate(foedus_nothing_total{kind="a"}[5m])) > 0', KNOWN)).toEqual([
      "foedus_nothing_total",
      "{kind}",
      "{peer}",
    ]);
    expect(strangers('foedus_session_state{peer="a"} and on (colour) up', KNOWN)).toEqual(["{colour}"]);
    expect(strangers("histogram_quantile(0.5, foedus_commit_seconds_bucket) > 1e3 or vector(0)", KNOWN)).toEqual([]);
  });
});

describe("commands in the runbook", () => {
  const commands = [...new Set([...RUNBOOK.matchAll(/(?:^|`)(foedus [^`\n]+)/gm)].map((match) => match[1]!))].filter(
    (line) => !line.includes("…"),
  );

  test("there are some", () => expect(commands.length).toBeGreaterThan(30));

  test.each(commands)("%s", async (line) => {
    const words = line.split(" ").slice(1);
    const ran: string[] = [];
    const program = buildProgram((command) => Promise.resolve(void ran.push(command.name())));
    await program.parseAsync(words, { from: "user" });
    expect(ran).toHaveLength(1);
    const kinds = words.flatMap((word, index) => (word === "--kind" ? [words[index + 1]!.toUpperCase().replaceAll("-", "_")] : []));
    expect(kinds.filter((kind) => !(kind in EventKind))).toEqual([]);
  });
});
