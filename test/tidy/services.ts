// What files that cannot import the table of services say of it: `make generate` writes these parts of them, docs.spec.ts compares them.
import { callsOf, DEFAULT_PORT, portsOf, SERVICES, TABLE, withSessions } from "../../services/hub/services.ts";
import { read } from "./files.ts";

/** `lineWidth` of biome.json. */
const LINE_WIDTH = 140;

const PORTS = [...SERVICES.map((name) => portsOf(name).port), ...SERVICES.flatMap((name) => [portsOf(name).ops, portsOf(name).metrics])];

/** series writes names as part of a sentence. */
function series(names: readonly string[], last: "and" | "or"): string {
  return `${names.slice(0, -1).join(", ")} ${last} ${names.at(-1)}`;
}

const units = SERVICES.map((name) => `foedus@${name}.service`).join(" ");

/** shellLines writes arguments of a command, some to a line, so that the shell reads on after each line. */
function shellLines(words: readonly string[], perLine: number): string {
  const lines: string[] = [];
  for (let at = 0; at < words.length; at += perLine) lines.push(`  ${words.slice(at, at + perLine).join(" ")} \\\n`);
  return lines.join("");
}

const quoted = SERVICES.map((name) => `"${name}"`);

/** array writes a list of strings in TypeScript as the formatter has it. */
function array(before: string, items: readonly string[], after: string): string {
  const line = `${before}[${items.join(", ")}]${after}`;
  return line.length <= LINE_WIDTH ? line : `${before}[\n${items.map((item) => `  ${item},\n`).join("")}]${after}`;
}

function portTable(): string {
  const rows = SERVICES.map((name) => {
    const { port, ops, metrics } = portsOf(name);
    return `| \`foedus@${name}\` | ${port} | ${ops} | ${metrics} |\n`;
  });
  return `| unit | services | health | metrics |\n|---|---|---|---|\n${rows.join("")}`;
}

/** Parts, by file: what is there now as a pattern that matches once, and what must be there. */
const PARTS: readonly (readonly [path: string, now: RegExp, wanted: string])[] = [
  ["Dockerfile", /^EXPOSE .*$/m, `EXPOSE ${PORTS.join(" ")}`],
  [
    "ops/image/build.sh",
    /^(?: {2}--port [^\n]*\\\n)+/m,
    shellLines(
      PORTS.map((port) => `--port ${port}`),
      8,
    ),
  ],
  ["ops/systemd/foedus.target", /^Wants=.*$/m, `Wants=${units}`],
  ["ops/systemd/foedus-hub.service", /^Conflicts=.*$/m, `Conflicts=${units}`],
  ["ops/systemd/foedus@.service", /^# One service of a hub: .*?, e\.g\./m, `# One service of a hub: ${series(SERVICES, "or")}, e.g.`],
  ["docs/INSTALL.md", /^\| unit \| services .*\n(?:\|.*\n)+/m, portTable()],
  [
    "docs/INSTALL.md",
    /^(?: {2}--address [^\n]*\\\n)+/m,
    shellLines(
      SERVICES.map((name) => `--address ${name}=127.0.0.1:${portsOf(name).port}`),
      2,
    ),
  ],
  [
    "docs/PROTOCOL.md",
    /^ {2}default ports are [^\n]*\.$/m,
    `  default ports are ${series(
      SERVICES.map((name) => `${portsOf(name).port} (${name})`),
      "and",
    )}.`,
  ],
  [
    "docs/INSTALL.md",
    /then the same with `[^.]*\./,
    `then the same with ${series(
      SERVICES.filter((name) => TABLE[name].port !== DEFAULT_PORT).map((name) => `\`${name}\``),
      "and",
    )}.`,
  ],
  // A client knows no hub: it has a list of its own.
  [
    "clients/typescript/reach/target.ts",
    /^export const SERVICE_NAMES = \[[^\]]*\] as const;$/m,
    array("export const SERVICE_NAMES = ", quoted, " as const;"),
  ],
  ["clients/python/src/foedus/_core/methods.py", /^SERVICES = \([^)]*\)$/m, `SERVICES = (${quoted.join(", ")})`],
];

/** serviceParts gives each file with a part that lists services as it must be, by path from the root. */
export function serviceParts(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const [path, now, wanted] of PARTS) {
    const text = files.get(path) ?? read(path);
    if (!now.test(text)) throw new Error(`${path} has no place for its list of services: ${now}`);
    files.set(
      path,
      text.replace(now, () => wanted),
    );
  }
  return files;
}

/** servicesTemplate is what the chart's templates know of the services. */
export function servicesTemplate(): string {
  const calls = Object.fromEntries(SERVICES.map((name) => [name, callsOf(name)]));
  return [
    "{{/* The services of a hub, generated from services/hub/services.ts by `make generate`. */}}",
    "",
    "{{/* All, in the order of their ports. */}}",
    `{{- define "foedus.services" -}}${SERVICES.join(" ")}{{- end -}}`,
    "",
    "{{/* Those that have sessions with peers, which connect to them. */}}",
    `{{- define "foedus.withSessions" -}}${withSessions().join(" ")}{{- end -}}`,
    "",
    "{{/* Who calls whom inside a split hub, as JSON. */}}",
    `{{- define "foedus.calls" -}}${JSON.stringify(calls)}{{- end -}}`,
    "",
  ].join("\n");
}
