import { create } from "@bufbuild/protobuf";
import { reasonRule } from "#channel/status.ts";
import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState, LinkStateSchema, type Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { GetStatusRequestSchema, type GetStatusResponse } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { type Feed, ListFeedsRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type Event, EventKind, ListEventsRequestSchema, Severity } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { SECOND_CONNECTION } from "#runtime/sessions/second-streams.ts";
import type { Federation, HubConfig } from "../../services/hub/index.ts";
import { toCliError } from "../exit.ts";
import { ago, count, duration, label } from "../print/format.ts";
import { type Connection, endpointsOf } from "../reach/connect.ts";
import { cutOff } from "../reach/cut-off.ts";
import { failureError } from "../verb.ts";
import { copiesOf } from "../verbs/peers.ts";
import type { Finding, Ledger } from "./ledger.ts";

/** A peer that is connected is a few segments behind now and then; more than this is worth a word. */
const LAG_SEGMENTS = 256n;
/** A link that is on its way gets this long before it counts as broken, ms. */
const ON_ITS_WAY_MS = 30_000n;

/** So many of the newest warnings about sessions are looked at, none older than a day. */
const WARNINGS = 200;
const DAY_MS = 86_400_000n;

/** Answers are what the running hub says of itself. */
export interface Answers {
  readonly processes: readonly GetStatusResponse[];
  readonly peers: readonly Peer[];
  readonly feeds: readonly Feed[];
  /** Warnings about sessions, newest first. */
  readonly warnings: readonly Event[];
}

/** askHub asks the running hub; what it refuses to answer is a finding, and undefined comes back. */
export async function askHub(ledger: Ledger, connection: Connection, signal: AbortSignal): Promise<Answers | undefined> {
  try {
    const [processes, { peers }, { feeds }, warnings] = await Promise.all([
      Promise.all(
        endpointsOf(connection.target).map((endpoint) => connection.hub(endpoint).getStatus(create(GetStatusRequestSchema), { signal })),
      ),
      connection.discovery.listPeers(create(ListPeersRequestSchema), { signal }),
      connection.registry.listFeeds(create(ListFeedsRequestSchema), { signal }),
      askWarnings(ledger, connection, signal),
    ]);
    ledger.look(undefined);
    return { processes, peers, feeds, warnings };
  } catch (error) {
    const { message, remedy } = toCliError(error, (reason) => reasonRule(reason).remedy);
    ledger.look({
      severity: "error",
      check: "hub",
      subject: connection.target.hubId,
      message: `it runs, but does not answer this operator: ${message}`,
      fix: remedy || "Look at the operator's certificate and at the context (`foedus contexts list`).",
    });
    return undefined;
  }
}

/** askWarnings asks for warnings about sessions. The rest is looked at without them: telemetry may be a process of its own, and away. */
async function askWarnings(ledger: Ledger, connection: Connection, signal: AbortSignal): Promise<readonly Event[]> {
  try {
    const filter = { kinds: [EventKind.SESSION], minSeverity: Severity.WARNING };
    return (await connection.telemetry.listEvents(create(ListEventsRequestSchema, { filter, pageSize: WARNINGS }), { signal })).events;
  } catch (error) {
    ledger.skip(`warnings about sessions: ${toCliError(error, () => "").message}`);
    return [];
  }
}

/** lookAtAnswers judges what the running hub said. */
export function lookAtAnswers(ledger: Ledger, answers: Answers, config: HubConfig, federation: Federation): void {
  for (const { modules } of answers.processes)
    for (const { name, ready, reason } of modules)
      ledger.look(
        !ready && {
          severity: "error",
          check: "hub",
          subject: name,
          message: `it is not ready: ${reason}`,
          fix: "Look at the hub's log and at `foedus status`.",
        },
      );
  for (const { hubId } of federation.peers) {
    const peer = answers.peers.find((known) => known.hubId === hubId);
    if (
      ledger.look(
        peer === undefined && {
          severity: "error",
          check: "link",
          subject: hubId,
          message: "it is in the federation file, but the running hub does not know it",
          fix: "Check the hub's log: it refused the file, or was started with another one, or with federation off. Then restart it.",
        },
      )
    )
      lookAtPeer(ledger, peer!, config);
    ledger.look(secondFinding(hubId, answers));
  }
  const operational = new Set(answers.peers.filter(({ state }) => state === LinkState.OPERATIONAL).map(({ hubId }) => hubId));
  for (const { head, own, cursors } of answers.feeds)
    if (own)
      for (const { hubId, lag, snapshot } of cursors)
        ledger.look(lagFinding(hubId, head?.share ?? "", lag, operational.has(hubId) && !snapshot));
}

/** secondFinding tells of a session that has one connection since its second one could not be opened. */
function secondFinding(hubId: string, { warnings, processes }: Answers): Finding | undefined {
  const now = processes[0]?.wallMs ?? 0n;
  const event = warnings.find(({ peer, text }) => peer === hubId && text.startsWith(SECOND_CONNECTION));
  if (event === undefined || now - event.wallMs > DAY_MS) return undefined;
  return {
    severity: "warning",
    check: "link",
    subject: hubId,
    message: `${event.text} (${ago(now - event.wallMs)})`,
    fix:
      `Have the firewall or NAT between the hubs allow two connections per service; ten minutes later \`foedus peers disable ${hubId}\` and ` +
      `\`enable\` open both, and foedus_session_streams shows 2.`,
  };
}

function lagFinding(hubId: string, share: string, lag: bigint, connected: boolean): Finding | undefined {
  if (lag === 0n || (connected && lag < LAG_SEGMENTS)) return undefined;
  return {
    severity: "warning",
    check: "lag",
    subject: hubId,
    message: `${count(lag, "segment")} of the share ${share} ${lag === 1n ? "is" : "are"} not acknowledged by it`,
    fix: connected
      ? "The peer applies them more slowly than this hub produces them: check its machine and `foedus links`."
      : "They wait until it is back; if it does not come back, `foedus peer remove` discards them.",
  };
}

function lookAtPeer(ledger: Ledger, peer: Peer, config: HubConfig): void {
  const { hubId, clockSkewMs } = peer;
  const skewMs = clockSkewMs < 0n ? -clockSkewMs : clockSkewMs;
  ledger.look(
    skewMs > BigInt(config.discovery.clock_skew_warn_ms) && {
      severity: skewMs > BigInt(config.registry_sync.clock_skew_ms) ? "error" : "warning",
      check: "clock",
      subject: hubId,
      message: `its clock is ${duration(skewMs)} ${clockSkewMs > 0n ? "ahead of" : "behind"} ours`,
      fix: "Find out which clock is wrong, and have both machines use a time service.",
    },
  );
  const copies = copiesOf(peer);
  ledger.look(
    copies !== "" && {
      severity: "error",
      check: "copies",
      subject: hubId,
      message: copies,
      fix: "Stop one of them, and start it again only with a hub id, certificates and a data folder of its own (docs/RUNBOOK.md, FoedusTwoCopies).",
    },
  );
  // One finding per peer: why it cannot be reached says more than that there is no link.
  if (!ledger.has("reach", hubId)) ledger.look(linkFinding(peer, config.hub_id));
}

function linkFinding(peer: Peer, self: string): Finding | undefined {
  const { hubId, state, stateAgeMs, failure } = peer;
  const found = { check: "link", subject: hubId } as const;
  // A ceiling that our own operator set is no finding.
  const cause = peer.maxTrust === TrustLevel.MINIMAL && state === LinkState.OPERATIONAL ? undefined : cutOff(peer, self);
  if (cause !== undefined) return { ...found, severity: "warning", message: cause.message, fix: cause.remedy };
  if (state === LinkState.OPERATIONAL) return undefined;
  const words = `the link has been ${label(LinkStateSchema, state)} for ${duration(stateAgeMs)}`;
  if (failure === undefined)
    return {
      ...found,
      severity: stateAgeMs < ON_ITS_WAY_MS ? "warning" : "error",
      message: words,
      fix: `Give it a moment; then see \`foedus peers ${hubId}\` and the log of both hubs.`,
    };
  return {
    ...found,
    severity: "error",
    message: `${words}: ${failure.message}`,
    fix: reasonRule(failureError(failure).failure.reason).remedy,
  };
}
