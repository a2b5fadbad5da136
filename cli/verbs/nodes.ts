import { create } from "@bufbuild/protobuf";
import { NodeKindSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { Freshness, FreshnessSchema } from "#gen/foedus/common/v1/value_pb.ts";
import {
  type HubFreshness,
  HubFreshnessSchema,
  ListNodesRequestSchema,
  type ListNodesResponse,
  type NodeFilter,
  NodeFilterSchema,
  type NodeRecord,
  NodeRecordSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { listed } from "#kernel/printable.ts";
import { EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseCount, parseHub, parseLabel } from "../parse.ts";
import { ago, clean, count, enumLabels, enumValue, label, nodeText } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { mustBeKnown } from "../reach/candidates.ts";
import { type Connection, connect } from "../reach/connect.ts";
import { showsNothing } from "../reach/cut-off.ts";
import { freshnessCell, messageJson, type OperatorFlags, printJson } from "../verb.ts";

/** FilterFlags select nodes. */
export interface FilterFlags {
  readonly hubId?: readonly string[];
  readonly type?: string;
  readonly kind?: string;
  readonly capability?: string;
  readonly online?: boolean;
  readonly label?: readonly string[];
  readonly prefix?: string;
}

/** Most nodes that the hub gives in one page. */
const PAGE_MAX = 1_000;

/** filterOf builds the filter that the flags describe. Throws CliError (usage). */
export function filterOf(flags: FilterFlags): NodeFilter {
  const kind = flags.kind === undefined ? 0 : enumValue(NodeKindSchema, flags.kind);
  if (kind === undefined) throw usage(`there is no kind "${flags.kind}"`, `Kinds are ${listed(enumLabels(NodeKindSchema))}.`);
  return create(NodeFilterSchema, {
    hubIds: (flags.hubId ?? []).map(parseHub),
    nodeIdPrefix: flags.prefix ?? "",
    type: flags.type ?? "",
    kind,
    capability: flags.capability ?? "",
    onlineOnly: flags.online ?? false,
    labels: (flags.label ?? []).reduce((labels, text) => parseLabel(text, labels), {}),
  });
}

/** Found is what a hub knows of the nodes that a filter selects. */
export interface Found {
  readonly records: readonly NodeRecord[];
  readonly hubs: readonly HubFreshness[];
  readonly total: number;
}

/** run lists nodes of this hub and of its peers, page after page. */
export async function run(
  io: Io,
  _args: readonly string[],
  options: OperatorFlags & FilterFlags & { readonly limit?: string },
): Promise<ExitCode | undefined> {
  const filter = filterOf(options);
  const limit = options.limit === undefined ? Number.POSITIVE_INFINITY : parseCount(options.limit);
  using connection = await connect(options, io);
  const found = await listNodes(connection, filter, limit, { summary: options.json !== true, signal: io.stopped });
  const { records, hubs, total } = found;
  if (total === 0 && options.hubId !== undefined) await mustBeKnown(connection, options.hubId, io.stopped);
  if (options.json) {
    const document = {
      nodes: records.map((record) => messageJson(NodeRecordSchema, record)),
      hubs: hubs.map((hub) => messageJson(HubFreshnessSchema, hub)),
      total,
    };
    await printJson(io, document);
  } else if (options.quiet) await io.out(records.map((record) => `${clean(nodeText(record.name))}\n`).join(""));
  else {
    await show(io, found);
    if (found.total === 0) io.note(await whyNone(connection, options, io.stopped));
  }
  return EXIT.ok;
}

/** whyNone says of an empty list what to do about it: a filter may be too narrow, or nothing was connected yet. */
async function whyNone(connection: Connection, flags: FilterFlags, signal: AbortSignal): Promise<string> {
  const { hubId, type, kind, capability, online, label: labels, prefix } = flags;
  const narrowed = [type, kind, capability, online, labels, prefix].some((flag) => flag !== undefined);
  const hidden = narrowed ? [] : await Promise.all((hubId ?? []).map((id) => showsNothing(connection, id, signal)));
  const said = hidden.flatMap((cause) => (cause === undefined ? [] : `${cause.message}. ${cause.remedy}\n`));
  if (said.length > 0) return said.join("");
  if (narrowed || hubId !== undefined) return "nothing matches; `foedus nodes` without options lists all\n";
  return [
    "nothing is connected yet: `foedus device simulate` plays a device, and `foedus node add <id>` begins a program for a real one.",
    "Nodes of other hubs come with peers (`foedus peer invite`), as far as the share that they give this hub shows any",
    "(`foedus doctor` at their hub says how)\n",
  ].join(" ");
}

/** listNodes gets the nodes that a filter selects, page after page, up to a limit. `summary` leaves capabilities out. */
export async function listNodes(
  connection: Connection,
  filter: NodeFilter,
  limit: number,
  { summary, signal }: { readonly summary: boolean; readonly signal: AbortSignal },
): Promise<Found> {
  const records: NodeRecord[] = [];
  let page: ListNodesResponse | undefined;
  do {
    const pageSize = Math.min(PAGE_MAX, limit - records.length);
    const request = create(ListNodesRequestSchema, { filter, pageSize, pageToken: page?.nextPageToken ?? "", summary });
    page = await connection.registry.listNodes(request, { signal });
    records.push(...page.records);
  } while (page.nextPageToken !== "" && records.length < limit);
  return { records, hubs: page.hubs, total: page.total };
}

async function show(io: Io, { records, hubs, total }: Found): Promise<void> {
  const columns = [
    { title: "NODE" },
    { title: "KIND" },
    { title: "TYPE", flexible: true },
    { title: "NAME", flexible: true },
    { title: "ONLINE" },
    { title: "FRESHNESS" },
    { title: "CONFIRMED" },
  ];
  const rows = records.map((record): Cell[] => [
    nodeText(record.name),
    label(NodeKindSchema, record.node?.kind || 1),
    record.node?.type || "-",
    record.node?.name || "-",
    record.online ? { text: "yes", style: "green" } : { text: "no", style: "dim" },
    freshnessCell(record.freshness),
    ago(record.ageMs),
  ]);
  if (rows.length > 0) await io.out(table(io, columns, rows));
  io.note(`${records.length < total ? `${records.length.toLocaleString("en-US")} of ` : ""}${count(total, "node")}\n`);
  // "Empty" is not "unknown": say of which hubs this list may be out of date.
  for (const hub of hubs) {
    if (hub.freshness === Freshness.FRESH) continue;
    const last = ago(hub.ageMs);
    const confirmed = last === "never" ? "never confirmed since this hub started" : `last confirmed ${last}`;
    io.note(`${hub.hubId} is ${label(FreshnessSchema, hub.freshness)}: ${confirmed}\n`);
  }
}
