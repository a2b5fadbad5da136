// Pages of docs/ that are generated from the code. `--write` writes them; without it they are compared.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DescMessage, getOption } from "@bufbuild/protobuf";
import { access, CostClass, frame_access, OperatorRole, Principal, TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { ErrorReasonSchema, rule } from "#gen/foedus/common/v1/error_pb.ts";
import { configTable, describeConfig } from "#runtime/config/describe.ts";
import { hubConfig } from "../../services/hub/config.ts";
import { nodeRule } from "../../services/registry-sync/config.ts";
import { chartFiles } from "../chart/generate.ts";
import { ROOT } from "./files.ts";
import { invariantsPage } from "./invariants.ts";
import { boundsPage } from "./kept-maps.ts";
import { declaredMetrics, metricsPage } from "./metrics.ts";
import { FRAMES, SERVICES } from "./schema.ts";
import { serviceParts } from "./services.ts";

const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

const nameOf = (object: Readonly<Record<string, number | string>>, value: number): string =>
  (Object.entries(object).find(([, number]) => number === value)?.[0] ?? "").toLowerCase();

function errorsPage(): string {
  const rows = ErrorReasonSchema.values
    .filter((value) => value.number !== 0)
    .map((value) => {
      const { code, retryable, remedy } = getOption(value, rule);
      return `| \`${value.name.replace("ERROR_REASON_", "")}\` | ${CODES[code]} | ${retryable ? "yes" : "no"} | ${remedy} |`;
    });
  return [
    "# Errors",
    "",
    "Generated from `proto/foedus/common/v1/error.proto` by `make generate`; a test fails when this page lies.",
    "",
    "An error over gRPC has a code, a sentence, and a `google.rpc.ErrorInfo` in its details with the reason below and the domain",
    "`foedus`; `BadRequest` names fields, `RetryInfo` is there when the same call may succeed later.",
    "",
    "| reason | gRPC code | retry | what to do |",
    "|---|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}

function protocolSection(): string {
  const lines: string[] = [];
  for (const service of SERVICES) {
    lines.push(`### ${service.typeName}`, "", "| RPC | kind | who | least trust | cost |", "|---|---|---|---|---|");
    for (const method of service.methods) {
      const { principals, minTrust, cost, minRole, tokenless } = getOption(method, access);
      const who = principals.map(
        (principal) =>
          nameOf(Principal, principal) + (principal === Principal.OPERATOR && minRole === OperatorRole.ADMIN ? " (admin)" : ""),
      );
      const trust = minTrust === 0 ? (tokenless ? "before trust is decided" : "") : nameOf(TrustLevel, minTrust);
      lines.push(
        `| ${method.name} | ${method.methodKind.replace("_", " ")} | ${who.join(", ")} | ${trust} | ${nameOf(CostClass, cost || CostClass.NORMAL)} |`,
      );
    }
    lines.push("");
  }
  lines.push("### Frames between hubs", "", "| frame | least trust | cost |", "|---|---|---|");
  const frame = (message: DescMessage): string => {
    const { minTrust, cost } = getOption(message, frame_access);
    return `| ${message.typeName} | ${nameOf(TrustLevel, minTrust)} | ${cost === CostClass.UNSPECIFIED ? "S12" : nameOf(CostClass, cost)} |`;
  };
  lines.push(...FRAMES.map(frame), "");
  return lines.join("\n");
}

/** liveFields lists the fields that follow the file, as the schema marks them. */
function liveFields(): string {
  const rows = describeConfig(hubConfig).filter(({ applies }) => applies === "live");
  return rows.map(({ path }) => `\`${path}\``).join(", ");
}

/** ruleRows describes the fields of a rule. */
function ruleRows(): string[] {
  return describeConfig(nodeRule).map(({ path, type, unit, fallback, bounds, description }) => {
    const kind = type === "enum" ? bounds : type === "array" ? `list of ${unit}` : type.replace(/^map of .*/, "map of patterns");
    return `| \`${path}\` | ${kind} | ${fallback === "none" ? "the share's" : `\`${fallback}\``} | ${description} |`;
  });
}

function configPage(): string {
  return [
    "# Configuration",
    "",
    "Generated from the schemas in `services/*/config.ts` by `make generate`; a test fails when this page lies.",
    "",
    "A hub reads a file (`--config hub.json`), then the environment (`FOEDUS_<SECTION>_<FIELD>`), then flags (`--set section.field=value`); later",
    "values override earlier ones. An unknown key is an error. `foedus config` prints the effective configuration with secrets redacted.",
    "",
    "SIGHUP applies only part of a changed file at once; the rest waits for a restart. Each process also looks by itself every two seconds (certificates: `tls.reload_ms`).",
    "What cannot be read is tried again within a minute; SIGHUP reads all files at once, whether they changed or not. A file of settings or lists may have 8 MiB, one of keys or certificates 1 MiB; of the problems in one the first 20 are told.",
    "",
    `- At once: the fields marked \`live\`, which are ${liveFields()}; the peers in the federation file, with the CA files that it names; the list of`,
    "  revoked certificates; the content of the certificate and key files.",
    "- At the next start: every other field, among them all ports, addresses and paths, and `sync_interval` of the federation file. The log and an",
    "  event say so, and `foedus config --diff hub.json` shows which changes need a restart.",
    "- Never while the hub runs: values from the environment or flags. They take precedence over the file, also after it has changed.",
    "",
    "An invalid file changes nothing.",
    "",
    configTable(describeConfig(hubConfig)),
    "",
    "## Rules of shares and imports",
    "",
    "What stands in `registry_sync.shares.*.nodes` and `registry_sync.imports.nodes`: a pattern for the node id, or an object with these fields.",
    "All that it names must hold. `keys` and `invoke` are for shares only. [SHARING.md](SHARING.md) explains the rules with examples, and",
    "`foedus share test <peer>` shows what they do.",
    "",
    "| field of a rule | type | default | what it is |",
    "|---|---|---|---|",
    ...ruleRows(),
    "",
    'For example `"nodes": [{ "ids": ["lamp-*"], "invoke": ["state"] }, { "types": ["camera"], "allow": false }, "*"]`.',
    "",
    "## The federation file",
    "",
    '`federation_config_path` names it: `{ "peers": [ … ], "sync_interval": 30 }`. It is followed while the hub runs, with every CA file that it names:',
    "a change is in force within two seconds, and a file that is not valid changes nothing. `foedus peer` writes it.",
    "",
    "| field of a peer | default | what it is |",
    "|---|---|---|",
    "| `hub_id` | required | the hub |",
    "| `host`, `port` | none, `18800` | where it is dialled; without `host` it only dials this hub |",
    "| `ca` | `discovery.trust.bundles` | its CA certificates: PEM, or the path of a PEM file, relative to this file |",
    "| `max_trust` | `limited` | ceiling of its trust level: `minimal`, `limited` or `full` |",
    "| `share` | by `max_trust` | share of this hub that it gets (`registry_sync.shares`): `full` for full, `limited` for limited, none for minimal |",
    "| `revoked` | none | SHA-256 fingerprints (hex, with or without colons) of certificates of its services that were stolen: their connections end at once, and nobody who shows one is let in or trusted as a server; at most 256 |",
    "",
    "`sync_interval` is how often the heads of the feeds are told at least, in seconds; a change waits for the next start.",
    "",
  ].join("\n");
}

const BEGIN = "<!-- generated: rpcs -->";
const END = "<!-- end generated -->";

function withSection(page: string, section: string): string {
  const start = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  if (start < 0 || end < start) return `${page.trimEnd()}\n\n## RPCs and frames\n\n${BEGIN}\n\n${section}\n${END}\n`;
  return `${page.slice(0, start)}${BEGIN}\n\n${section}\n${page.slice(end)}`;
}

/** pages gives each generated page as it must be. */
export async function pages(): Promise<ReadonlyMap<string, string>> {
  const parts = serviceParts();
  return new Map([
    ...parts,
    ...chartFiles(),
    ["docs/METRICS.md", metricsPage(await declaredMetrics())],
    ["docs/BOUNDS.md", boundsPage()],
    ["docs/ERRORS.md", errorsPage()],
    ["docs/INVARIANTS.md", invariantsPage()],
    ["docs/CONFIG.md", configPage()],
    ["docs/PROTOCOL.md", withSection(parts.get("docs/PROTOCOL.md") ?? "", protocolSection())],
  ]);
}

if (process.argv.includes("--write")) for (const [path, text] of await pages()) writeFileSync(join(ROOT, path), text);
