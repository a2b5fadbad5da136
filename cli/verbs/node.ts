import { create } from "@bufbuild/protobuf";
import { type Capability, NodeKindSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueTypeSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { GetNodeRequestSchema, type NodeRecord, NodeRecordSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseDuration, parseNode } from "../parse.ts";
import { ago, clean, label, nodeText, valueText } from "../print/format.ts";
import { type Cell, facts, table } from "../print/table.ts";
import { withNodes } from "../reach/candidates.ts";
import { type Connection, connect } from "../reach/connect.ts";
import { freshnessCell, messageJson, type OperatorFlags, printJson } from "../verb.ts";

/** getNode gets a node by what was typed: `hub/node` or a bare id. Throws CliError or FoedusError. */
export async function getNode(connection: Connection, text: string, signal: AbortSignal, maxStalenessMs?: number): Promise<NodeRecord> {
  const { hubId, nodeId } = parseNode(text);
  const staleness = maxStalenessMs === undefined ? {} : { maxStalenessMs: BigInt(Math.round(maxStalenessMs)) };
  const request = create(GetNodeRequestSchema, { name: { hubId, nodeId }, ...staleness });
  const { record } = await withNodes(connection, text, signal, () => connection.registry.getNode(request, { signal }));
  if (record?.node === undefined) throw new CliError(EXIT.notFound, `there is no node ${text}`, "List the nodes with `foedus nodes`.");
  return record;
}

/** run shows one node: what it is, what it can do, how it is, and how current that is. */
export async function run(
  io: Io,
  [text = ""]: readonly string[],
  options: OperatorFlags & { readonly maxStaleness?: string },
): Promise<ExitCode | undefined> {
  const maxStalenessMs = options.maxStaleness === undefined ? undefined : parseDuration(options.maxStaleness);
  using connection = await connect(options, io);
  const record = await getNode(connection, text, io.stopped, maxStalenessMs);
  if (options.json) await printJson(io, messageJson(NodeRecordSchema, record));
  else if (options.quiet) await io.out(record.state.map(({ key, value }) => `${clean(`${key}=${valueText(value)}`)}\n`).join(""));
  else await io.out(details(io, record));
  return EXIT.ok;
}

/** rangeOf writes what a capability takes: values to choose from, or a range. */
export function rangeOf(capability: Capability): string {
  if (capability.allowed.length > 0) return capability.allowed.join(" | ");
  const { min, max, step } = capability;
  const range = min === undefined && max === undefined ? "" : `${min ?? "…"} to ${max ?? "…"}`;
  return step === undefined ? range : `${range} step ${step}`.trim();
}

function accessOf({ readable, invocable, idempotent }: Capability): string {
  return [readable ? "read" : "", invocable ? "invoke" : "", idempotent ? "idempotent" : ""].filter((word) => word !== "").join(", ");
}

/** capabilityTable shows what a node can do, with the values that it says it has. */
function capabilityTable(io: Io, capabilities: readonly Capability[], state: NodeRecord["state"]): string {
  const columns = [
    { title: "CAPABILITY" },
    { title: "TYPE" },
    { title: "UNIT" },
    { title: "RANGE", flexible: true },
    { title: "ACCESS" },
    { title: "STATE", flexible: true, least: 16 },
    { title: "DESCRIPTION", flexible: true, prose: true },
  ];
  const values = new Map(state.map(({ key, value }) => [key, value]));
  const rows = capabilities.map((capability): Cell[] => [
    capability.name,
    capability.type === 0 ? "-" : label(ValueTypeSchema, capability.type),
    capability.unit,
    rangeOf(capability),
    accessOf(capability),
    values.has(capability.name) ? { text: valueText(values.get(capability.name), capability.unit), style: "bold" } : "-",
    capability.description,
  ]);
  return table(io, columns, rows);
}

function details(io: Io, record: NodeRecord): string {
  const { node, state } = record;
  const blocks = [
    facts(io, [
      ["node", { text: nodeText(record.name), style: "bold" }],
      ["name", node?.name ?? ""],
      ["kind", label(NodeKindSchema, node?.kind || 1)],
      ["type", node?.type ?? ""],
      ["vendor", node?.vendor ?? ""],
      ["description", node?.description ?? ""],
      [
        "labels",
        Object.entries(node?.labels ?? {})
          .map(([key, value]) => `${key}=${value}`)
          .join(" "),
      ],
      ["agent", node?.agent === undefined ? "" : [node.agent.version, node.agent.endpoint].filter((part) => part !== "").join(" at ")],
      ["skills", node?.agent?.skills.map(({ id }) => id).join(", ") ?? ""],
      ["online", record.online ? { text: "yes", style: "green" } : { text: "no", style: "red" }],
      ["freshness", freshnessCell(record.freshness)],
      ["confirmed", ago(record.ageMs)],
      [
        "version",
        record.version === undefined
          ? ""
          : `${record.version.epoch}:${record.version.seq} of ${record.version.hubId}/${record.version.share}`,
      ],
    ]),
  ];
  const capabilities = node?.capabilities ?? [];
  if (capabilities.length > 0) blocks.push(capabilityTable(io, capabilities, state));
  const named = new Set(capabilities.map(({ name }) => name));
  const others = state.filter(({ key }) => !named.has(key));
  if (others.length > 0)
    blocks.push(
      table(
        io,
        [{ title: "STATE" }, { title: "VALUE", flexible: true, least: 16 }],
        others.map(({ key, value }) => [key, valueText(value)]),
      ),
    );
  return blocks.join("\n");
}
