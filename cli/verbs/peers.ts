import { create } from "@bufbuild/protobuf";
import { TrustLevelSchema } from "#gen/foedus/common/v1/access_pb.ts";
import {
  GetPeerRequestSchema,
  ListPeersRequestSchema,
  SetPeerEnabledRequestSchema,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState, LinkStateSchema, type Peer, PeerSchema, type SessionInfo } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { listed } from "#kernel/printable.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseHub } from "../parse.ts";
import { clean, count, duration, label, since } from "../print/format.ts";
import { type Cell, facts, table } from "../print/table.ts";
import { withPeers } from "../reach/candidates.ts";
import { connect } from "../reach/connect.ts";
import { closedTo } from "../reach/cut-off.ts";
import { failureError, messageJson, type OperatorFlags, printJson } from "../verb.ts";

/** levelText names a trust level; "none" is undecided. */
export function levelText(level: number): string {
  return level === 0 ? "none" : label(TrustLevelSchema, level);
}

/** stateCell shows the state of a link: green works, yellow is on its way, red needs a look. */
export function stateCell(state: LinkState): Cell {
  const style =
    state === LinkState.OPERATIONAL ? "green" : state === LinkState.RECOVERING || state === LinkState.TERMINATED ? "red" : "yellow";
  return { text: label(LinkStateSchema, state), style };
}

/** HOW_TO_PEER says which commands make a peer. */
export const HOW_TO_PEER = "`foedus peer invite` invites one, and `foedus peer accept` takes an invite";

/** run lists the peers, or shows one with the evidence for its trust level. */
export async function run(io: Io, [hubId]: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  if (hubId !== undefined) {
    const { getPeer } = connection.discovery;
    const request = create(GetPeerRequestSchema, { hubId: parseHub(hubId) });
    const { peer } = await withPeers(connection, hubId, io.stopped, () => getPeer(request, { signal: io.stopped }));
    if (peer === undefined) throw new CliError(EXIT.notFound, `there is no peer ${hubId}`, "List the peers with `foedus peers`.");
    await show(io, peer, options);
    return EXIT.ok;
  }
  const { peers } = await connection.discovery.listPeers(create(ListPeersRequestSchema), { signal: io.stopped });
  if (options.json) await printJson(io, { peers: peers.map((peer) => messageJson(PeerSchema, peer)) });
  else if (options.quiet) await io.out(peers.map((peer) => `${clean(peer.hubId)}\n`).join(""));
  else if (peers.length === 0) io.note(`no peers yet: in the hub's folder, ${HOW_TO_PEER}\n`);
  else {
    await io.out(listText(io, peers));
    io.note(peers.map(remarksOf).join(""));
  }
  return EXIT.ok;
}

/** setEnabled ends the link to a peer until it is enabled again, or enables it. Doing it twice is doing it once. */
export async function setEnabled(
  io: Io,
  [hubId = ""]: readonly string[],
  options: OperatorFlags & { readonly enabled: boolean },
): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const request = create(SetPeerEnabledRequestSchema, { hubId: parseHub(hubId), enabled: options.enabled });
  const peer = await withPeers(connection, hubId, io.stopped, async () => {
    const answer = await connection.discovery.setPeerEnabled(request, { signal: io.stopped });
    if (answer.failure !== undefined) throw failureError(answer.failure);
    return answer.peer;
  });
  if (options.json) await printJson(io, { peer: peer === undefined ? null : messageJson(PeerSchema, peer) });
  else if (!options.quiet && peer !== undefined)
    await io.out(`${hubId} is ${options.enabled ? "enabled" : "disabled"}; the link is ${label(LinkStateSchema, peer.state)}\n`);
  return EXIT.ok;
}

/** enable is `peers enable`. */
export const enable = (io: Io, args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> =>
  setEnabled(io, args, { ...options, enabled: true });

/** disable is `peers disable`. */
export const disable = (io: Io, args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> =>
  setEnabled(io, args, { ...options, enabled: false });

function rttOf(peer: Peer): string {
  const rtts = peer.sessions.filter(({ state, rttMs }) => state === LinkState.OPERATIONAL && rttMs > 0).map(({ rttMs }) => rttMs);
  return rtts.length === 0 ? "-" : duration(Math.min(...rtts));
}

/** copiesOf says in one sentence that a hub runs twice: a peer, or our own as the peer says; empty if none does. */
export function copiesOf({ hubId, copies, ownCopies }: Peer): string {
  const at = (places: readonly string[]): string => listed(places.map((place) => `at ${place}`));
  if (copies.length > 0) return `two copies of hub ${hubId} run: ${at(copies)}`;
  return ownCopies.length > 0 ? `two copies of our own hub run, as ${hubId} sees it: ${at(ownCopies)}` : "";
}

function problemOf(peer: Peer): string {
  const copies = copiesOf(peer);
  if (copies !== "") return copies;
  const retry = peer.retryInMs > 0n ? `; next attempt in ${duration(peer.retryInMs)}` : "";
  return peer.failure === undefined ? "" : `${peer.failure.message}${retry}`;
}

/** isClosed tells whether trust keeps a service's session from being opened, so that there is nothing to wait for. */
function isClosed(peer: Peer, { service, synced }: SessionInfo): boolean {
  return service !== "discovery" && !synced && closedTo(peer) !== "";
}

/** syncedText says of how many sessions the first exchange is complete; a session has one service. */
function syncedText(peer: Peer): string {
  const sessions = peer.sessions.filter((session) => !isClosed(peer, session));
  const synced = sessions.filter((session) => session.synced).length;
  if (synced === sessions.length) return sessions.length === 0 ? "-" : "yes";
  return `${synced} of ${count(sessions.length, "service")}`;
}

/** remarksOf explains what SYNCED says: what is not there yet, what stays closed, and what carries less than it could. */
function remarksOf(peer: Peer): string {
  const hubId = clean(peer.hubId);
  const named = (sessions: readonly SessionInfo[]): string => listed(sessions.map(({ service }) => clean(service)));
  const waiting = peer.sessions.filter((session) => !session.synced && !isClosed(peer, session));
  const closed = peer.sessions.filter((session) => isClosed(peer, session));
  const have = waiting.length === 1 ? "has" : "have";
  return [
    waiting.length === 0 ? "" : `${hubId}: ${named(waiting)} ${have} not finished the first exchange; see \`foedus peers ${hubId}\`\n`,
    closed.length === 0 ? "" : `${hubId}: only discovery is open, because ${closedTo(peer)}\n`,
  ].join("");
}

function listText(io: Io, peers: readonly Peer[]): string {
  const columns = [
    { title: "PEER" },
    { title: "STATE" },
    { title: "FOR", align: "right" as const },
    { title: "TRUST" },
    { title: "SHARE" },
    { title: "RTT", align: "right" as const },
    { title: "SYNCED" },
    { title: "PROBLEM", flexible: true, prose: true },
  ];
  const rows = peers.map((peer): Cell[] => [
    peer.hubId,
    stateCell(peer.state),
    duration(peer.stateAgeMs),
    levelText(peer.level),
    peer.share || "-",
    rttOf(peer),
    syncedText(peer),
    { text: problemOf(peer), style: "red" },
  ]);
  return table(io, columns, rows);
}

/** evidenceTable shows why a peer is believed. */
function evidenceTable(io: Io, peer: Peer): string {
  const columns = [{ title: "EVIDENCE" }, { title: "HOLDS" }, { title: "CHECKED" }, { title: "DETAIL", flexible: true, prose: true }];
  const rows = peer.evidence.map((evidence): Cell[] => [
    evidence.method,
    evidence.valid ? { text: "yes", style: "green" } : { text: "no", style: "red" },
    evidence.checkedAtMs === 0n ? "never" : since(evidence.checkedAtMs, io.clock.wall()),
    evidence.detail,
  ]);
  return table(io, columns, rows);
}

/** sessionTable shows how the sessions with a peer stand. */
function sessionTable(io: Io, peer: Peer): string {
  const columns = [
    { title: "SESSION" },
    { title: "STATE" },
    { title: "DIALED BY" },
    { title: "RTT", align: "right" as const },
    { title: "SYNCED" },
    { title: "PROBLEM", flexible: true, prose: true },
  ];
  const rows = peer.sessions.map((session): Cell[] => [
    session.service,
    isClosed(peer, session) ? { text: "closed", style: "dim" } : stateCell(session.state),
    session.dialer || "-",
    session.rttMs > 0 ? duration(session.rttMs) : "-",
    isClosed(peer, session) ? "-" : session.synced ? "yes" : "no",
    isClosed(peer, session) ? closedTo(peer) : { text: session.failure?.message ?? "", style: "red" },
  ]);
  return table(io, columns, rows);
}

async function show(io: Io, peer: Peer, options: OperatorFlags): Promise<void> {
  if (options.json) return printJson(io, { peer: messageJson(PeerSchema, peer) });
  if (options.quiet) return io.out(`${label(LinkStateSchema, peer.state)}\n`);
  const blocks = [
    facts(io, [
      ["peer", { text: peer.hubId, style: "bold" }],
      ["state", stateCell(peer.state)],
      ["for", duration(peer.stateAgeMs)],
      ["trust", `${levelText(peer.level)} (ceiling ${levelText(peer.maxTrust)}, it grants us ${levelText(peer.levelThere)})`],
      ["why", peer.decision],
      ["share", peer.share],
      ["software", peer.software],
      [
        "clock",
        peer.clockSkewMs === 0n
          ? ""
          : `${duration(peer.clockSkewMs < 0n ? -peer.clockSkewMs : peer.clockSkewMs)} ${peer.clockSkewMs > 0n ? "ahead of" : "behind"} ours`,
      ],
      ["problem", { text: problemOf(peer), style: "red" }],
      ["attempts", peer.attempts === 0 ? "" : count(peer.attempts, "failed attempt")],
    ]),
  ];
  if (peer.evidence.length > 0) blocks.push(evidenceTable(io, peer));
  if (peer.sessions.length > 0) blocks.push(sessionTable(io, peer));
  if (peer.endpoints.length > 0) {
    const columns = [{ title: "ENDPOINT" }, { title: "ADDRESS" }, { title: "IDENTITY", flexible: true }];
    blocks.push(
      table(
        io,
        columns,
        peer.endpoints.map((endpoint) => [endpoint.service, `${endpoint.host}:${endpoint.port}`, endpoint.spiffeId]),
      ),
    );
  }
  return io.out(blocks.join("\n"));
}
