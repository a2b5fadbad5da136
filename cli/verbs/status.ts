import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { type Peer, PeerSchema } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { GetStatusRequestSchema, type GetStatusResponse, GetStatusResponseSchema } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import {
  type HubFreshness,
  HubFreshnessSchema,
  ListNodesRequestSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type CliError, EXIT, type ExitCode, toCliError } from "../exit.ts";
import type { Io } from "../io.ts";
import { ago, clean, count, duration, since } from "../print/format.ts";
import { type Cell, facts, table } from "../print/table.ts";
import { prose } from "../print/text.ts";
import { type Connection, connect, type Endpoint, endpointsOf } from "../reach/connect.ts";
import { freshnessCell, messageJson, type OperatorFlags, printJson } from "../verb.ts";
import { levelText, stateCell } from "./peers.ts";

/** A hub whose clock differs from ours by more than this is worth a word, ms. */
const SKEW_SHOWN_MS = 2_000;
/** A certificate that ends sooner than this is worth a colour, ms. */
const CERTIFICATE_SOON_MS = 7 * 86_400_000;

interface Process {
  readonly endpoint: Endpoint;
  readonly status: GetStatusResponse | undefined;
  readonly error: CliError | undefined;
}

interface Overview {
  readonly processes: readonly Process[];
  readonly peers: readonly Peer[];
  readonly hubs: readonly HubFreshness[];
  /** What could not be asked, and why. */
  readonly problems: readonly string[];
}

/** run shows how the hub is: its processes and modules, its peers, and how current its picture of each hub is. Fails (1) if something is not ready. */
export async function run(io: Io, _args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const overview = await look(connection, io);
  const ready =
    overview.problems.length === 0 && overview.processes.every(({ status }) => status?.modules.every((module) => module.ready) === true);
  if (options.json) await printJson(io, toJson(overview, ready));
  else if (options.quiet) await io.out(ready ? "ready\n" : "not ready\n");
  else await io.out(text(overview, io));
  return ready ? EXIT.ok : EXIT.failed;
}

async function look(connection: Connection, io: Io): Promise<Overview> {
  const signal = io.stopped;
  const problems: string[] = [];
  const note = (what: string, error: unknown): CliError => {
    const failure = toCliError(error, () => "");
    problems.push(`${what}: ${failure.message}`);
    return failure;
  };
  let first: unknown;
  const processes = await Promise.all(
    endpointsOf(connection.target).map(async (endpoint): Promise<Process> => {
      try {
        return { endpoint, status: await connection.hub(endpoint).getStatus(create(GetStatusRequestSchema), { signal }), error: undefined };
      } catch (error) {
        first ??= error;
        return { endpoint, status: undefined, error: note(`${endpoint.service} at ${endpoint.address}`, error) };
      }
    }),
  );
  // Nobody answers: one clear error instead of an empty overview.
  if (processes.every(({ status }) => status === undefined)) throw first;
  const ask = async <T>(what: string, call: () => Promise<readonly T[]>): Promise<readonly T[]> => {
    try {
      return await call();
    } catch (error) {
      note(what, error);
      return [];
    }
  };
  const oneNode: MessageInitShape<typeof ListNodesRequestSchema> = { pageSize: 1, summary: true };
  const [peers, hubs] = await Promise.all([
    ask("peers", async () => (await connection.discovery.listPeers(create(ListPeersRequestSchema), { signal })).peers),
    ask("nodes", async () => (await connection.registry.listNodes(create(ListNodesRequestSchema, oneNode), { signal })).hubs),
  ]);
  return { processes, peers, hubs, problems };
}

function toJson({ processes, peers, hubs, problems }: Overview, ready: boolean): object {
  return {
    ready,
    processes: processes.map(({ endpoint, status, error }) => ({
      ...endpoint,
      ...(status === undefined ? { error: error?.message ?? "" } : { status: messageJson(GetStatusResponseSchema, status) }),
    })),
    peers: peers.map((peer) => messageJson(PeerSchema, peer)),
    hubs: hubs.map((hub) => messageJson(HubFreshnessSchema, hub)),
    problems,
  };
}

function text({ processes, peers, hubs, problems }: Overview, io: Io): string {
  const blocks = [head(processes, io), modules(processes, io)];
  if (peers.length > 0) {
    const columns = [{ title: "PEER" }, { title: "STATE" }, { title: "FOR", align: "right" as const }, { title: "TRUST" }];
    blocks.push(
      table(
        io,
        columns,
        peers.map((peer) => [peer.hubId, stateCell(peer.state), duration(peer.stateAgeMs), levelText(peer.level)]),
      ),
    );
  }
  if (hubs.length > 0) {
    const columns = [{ title: "HUB" }, { title: "NODES", align: "right" as const }, { title: "FRESHNESS" }, { title: "CONFIRMED" }];
    blocks.push(
      table(
        io,
        columns,
        hubs.map((hub) => [hub.hubId, hub.nodes.toLocaleString("en-US"), freshnessCell(hub.freshness), ago(hub.ageMs)]),
      ),
    );
  }
  if (problems.length > 0)
    blocks.push(
      problems.map((problem) => `${io.style("red", "problem")}  ${prose(clean(problem), io.columns, 9).join("\n         ")}\n`).join(""),
    );
  return blocks.join("\n");
}

/** head says once what all processes of the hub say alike; where they differ it names them. */
function head(processes: readonly Process[], io: Io): string {
  const answers = processes.flatMap(({ endpoint: { service }, status }) => (status === undefined ? [] : [{ service, status }]));
  const nowWall = io.clock.wall();
  const each = (say: (status: GetStatusResponse) => string): string => {
    const texts = answers.map(({ service, status }) => ({ service, text: say(status) }));
    const alike = texts.every(({ text }) => text === texts[0]?.text);
    return alike ? (texts[0]?.text ?? "") : texts.map(({ service, text }) => `${text || "-"} (${service})`).join(", ");
  };
  const endsMs = Math.min(...answers.map(({ status }) => Number(status.certificateExpiresMs)));
  const clock = each((status) => {
    const skewMs = Number(status.wallMs) - nowWall;
    if (Math.abs(skewMs) <= SKEW_SHOWN_MS) return "";
    return `${duration(Math.abs(skewMs))} ${skewMs > 0 ? "ahead of" : "behind"} this machine`;
  });
  return facts(io, [
    ["hub", { text: each(({ hubId }) => hubId), style: "bold" }],
    ["software", each(({ software }) => software)],
    ["mode", each(({ mode }) => mode)],
    ["running for", each(({ uptimeMs }) => duration(uptimeMs))],
    ["durability", each(({ durability }) => durability)],
    [
      "certificate",
      {
        text: `${endsMs > nowWall ? "ends" : "ended"} ${since(endsMs, nowWall)}`,
        style: endsMs - nowWall < CERTIFICATE_SOON_MS ? "red" : undefined,
      },
    ],
    ["clock", clock === "" ? "" : { text: clock, style: "yellow" }],
  ]);
}

function modules(processes: readonly Process[], io: Io): string {
  const rows = processes.flatMap(({ endpoint: { service }, status, error }): Cell[][] =>
    status === undefined
      ? [[service, "-", { text: "unreachable", style: "red" }, error?.message ?? ""]]
      : status.modules.map((module): Cell[] => [
          service,
          module.name,
          module.ready ? { text: "ready", style: "green" } : { text: "not ready", style: "red" },
          module.reason,
        ]),
  );
  if (rows.length === 0) return `${count(0, "module")}\n`;
  const columns = [{ title: "PROCESS" }, { title: "MODULE" }, { title: "STATE" }, { title: "REMARK", flexible: true, prose: true }];
  // Modules of the same name run in each process of a hub in split mode.
  return processes.length > 1
    ? table(io, columns, rows)
    : table(
        io,
        columns.slice(1),
        rows.map((row) => row.slice(1)),
      );
}
