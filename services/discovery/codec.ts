import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { failureFromProto, failureToProto } from "#channel/failure.ts";
import type { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import {
  type DialledMember as DialledMemberProto,
  type DialledMemberSchema,
  type GetDialledResponse,
  GetDialledResponseSchema,
  type HelloRequest,
  type HelloResponse,
  type IssuedToken,
  type SessionReport,
  type WatchPeersResponseSchema,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import {
  type Endpoint,
  type EndpointSchema,
  type EvidenceSchema,
  LinkState as LinkStateProto,
  type PeerSchema,
  type PeerViewSchema,
  type SessionInfo,
} from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import type { Reason } from "#kernel/error.ts";
import type { LinkState } from "#kernel/session/rules.ts";
import { absentOr, fields, finite, flag, list, readStored, text, whole, writeStored } from "#kernel/wire/stored-json.ts";
import type { SessionReport as PortReport } from "#runtime/peers.ts";
import type {
  DialledMember,
  Evidence,
  Introduction,
  Level,
  PeerInfo,
  PeerRecord,
  Push,
  ReceivedToken,
  RecordCodec,
  ServiceEndpoint,
  SessionNote,
} from "./messages.ts";

/** Endpoints of one hub: as many as the schema lets it name. */
const ENDPOINTS_MAX = 16;

const STATES: readonly LinkState[] = ["INIT", "DISCOVERING", "CONNECTING", "SYNCING", "OPERATIONAL", "RECOVERING", "TERMINATED"];

/** recordCodec stores peer records as JSON: small, seldom written, and readable when something went wrong. */
export const recordCodec: RecordCodec = { encode: writeStored };

const WALL = finite(0, Number.MAX_SAFE_INTEGER);
const ADDRESS = { host: text(4_096), port: whole(0, 65_535) };
/** A version before took any number of endpoints, and any level. */
const RECORD = fields({
  enabled: flag,
  endpoints: list(fields({ ...ADDRESS, service: text(4_096), spiffeId: text(4_096) }), 1_000_000),
  lastGood: absentOr(fields(ADDRESS)),
  certificateAtWall: WALL,
  bundleSeq: WALL,
  caDigests: list(text(4_096), 1_000_000),
  minTokenIssuedAtWall: WALL,
  software: absentOr(text(1024 * 1024)),
  dialled: absentOr(fields({ ...ADDRESS, standby: flag, fence: WALL, incarnation: WALL })),
  misconduct: absentOr(text(4_096)),
});

/** decodeRecord reads a stored record; StoredError if it is not what was written: whether an operator has ended the link stands in it. */
export function decodeRecord(bytes: Uint8Array, record = "of a peer"): PeerRecord {
  const held = readStored<PeerRecord>(record, bytes, RECORD);
  const { enabled, lastGood, certificateAtWall, bundleSeq, caDigests, minTokenIssuedAtWall, software = "" } = held;
  const { dialled, misconduct } = held;
  // What has become of the endpoints and the level stands in each answer about the peer.
  const [endpoints, levelThere] = [held.endpoints.slice(0, ENDPOINTS_MAX), levelFromProto(held.levelThere)];
  const kept = { enabled, endpoints, lastGood, certificateAtWall, bundleSeq, caDigests, minTokenIssuedAtWall, software, levelThere };
  return { ...kept, ...(dialled === undefined ? {} : { dialled }), ...(misconduct === undefined ? {} : { misconduct }) };
}

/** levelFromProto reads a level that a peer states; one that this version does not know counts as none stated. */
export function levelFromProto(level: number): number {
  return level >= 0 && level <= 3 ? level : 0;
}

/** endpointFromProto and endpointToProto convert an endpoint. */
export function endpointFromProto({ service, host, port, spiffeId }: Endpoint): ServiceEndpoint {
  return { service, host, port, spiffeId };
}

export function endpointToProto({ service, host, port, spiffeId }: ServiceEndpoint): MessageInitShape<typeof EndpointSchema> {
  return { service, host, port, spiffeId };
}

/** introductionOf reads what a hub says of itself. */
export function introductionOf(hello: HelloRequest | HelloResponse): Introduction {
  const { hubId, software, packages, endpoints } = hello;
  return {
    hubId,
    incarnation: Number(hello.incarnation),
    run: Buffer.from(hello.run).toString("hex"),
    software,
    packages,
    endpoints: endpoints.map(endpointFromProto),
    wallMs: Number(hello.wallMs),
    fence: Number(hello.fence),
  };
}

/** dialledFromProto reads where members with standbys are dialled; what is no place is left out. */
export function dialledFromProto(members: readonly DialledMemberProto[]): DialledMember[] {
  return members.flatMap(({ hubId, host, port, standby, fence, incarnation }) =>
    port === 0 || fence === 0n ? [] : { hubId, endpoint: { host, port }, standby, fence: Number(fence), incarnation: Number(incarnation) },
  );
}

/** dialledToProto writes where a hub is dialled. */
export function dialledToProto({ endpoint, fence, incarnation, ...rest }: DialledMember): MessageInitShape<typeof DialledMemberSchema> {
  return { ...rest, ...endpoint, fence: BigInt(fence), incarnation: BigInt(incarnation) };
}

/** dialledAt is the answer to who asks where a hub is dialled; undefined: it has no standbys. */
export function dialledAt(member: DialledMember | undefined): GetDialledResponse {
  return create(GetDialledResponseSchema, member === undefined ? {} : { member: dialledToProto(member) });
}

/** tokensFromProto reads the tokens of an answer. */
export function tokensFromProto(tokens: readonly IssuedToken[]): ReceivedToken[] {
  return tokens.map(({ thumbprint, jwt, expiresInMs }) => ({ thumbprint, jwt, expiresInMs: Number(expiresInMs) }));
}

/** evidenceToProto writes evidence. */
export function evidenceToProto({ method, valid, detail, checkedAtWall }: Evidence): MessageInitShape<typeof EvidenceSchema> {
  return { method, valid, detail, checkedAtMs: BigInt(Math.round(checkedAtWall)) };
}

function noteFromProto(service: string, info: SessionInfo): SessionNote {
  const { dialer, rttMs, synced } = info;
  const state = STATES[info.state - 1] ?? "INIT";
  return {
    service,
    state,
    dialer,
    rttMs,
    synced,
    failure: info.failure === undefined ? undefined : failureFromProto(info.failure),
    heard: Number(info.heard),
  };
}

/** reportsFromProto reads session reports; the reporter's name wins over the ones inside. */
export function reportsFromProto(service: string, reports: readonly SessionReport[]): { hubId: string; session: SessionNote }[] {
  return reports.flatMap(({ hubId, session }) => (session === undefined ? [] : [{ hubId, session: noteFromProto(service, session) }]));
}

/** reportsFromPort reads reports of this process's own sessions. */
export function reportsFromPort(reports: readonly PortReport[]): { hubId: string; session: SessionNote }[] {
  return reports.map(({ hubId, failure, ...rest }) => ({
    hubId,
    session: { ...rest, failure: failure === undefined ? undefined : { reason: failure.reason as Reason, message: failure.message } },
  }));
}

/** peerToProto writes a peer for people. */
export function peerToProto(info: PeerInfo): MessageInitShape<typeof PeerSchema> {
  const { hubId, level, maxTrust, decision, share, software, attempts, levelThere, failure } = info;
  return {
    hubId,
    level,
    maxTrust,
    decision,
    share,
    software,
    attempts,
    levelThere: levelThere as TrustLevel,
    evidence: info.evidence.map(evidenceToProto),
    state: LinkStateProto[info.state],
    stateAgeMs: BigInt(Math.max(0, Math.round(info.stateAgeMs))),
    endpoints: info.endpoints.map(endpointToProto),
    sessions: info.sessions.map(({ service, state, dialer, rttMs, synced, failure: lost, heard }) => ({
      service,
      state: LinkStateProto[state],
      dialer,
      rttMs,
      synced,
      heard: BigInt(heard),
      ...(lost === undefined ? {} : { failure: failureToProto(lost) }),
    })),
    clockSkewMs: BigInt(Math.round(info.clockSkewMs)),
    retryInMs: BigInt(Math.max(0, Math.round(info.retryInMs))),
    caSha256: [...info.caDigests],
    revokedSha256: [...info.revokedDigests],
    copies: [...info.copies],
    ownCopies: [...info.ownCopies],
    ...(failure === undefined ? {} : { failure: failureToProto(failure) }),
  };
}

/** pushToProto writes a push to a watching process; `service` is the first that it watches for. */
export function pushToProto(push: Push, service: string): NonNullable<MessageInitShape<typeof WatchPeersResponseSchema>["push"]> {
  if (push.kind === "removed") return { case: "removed", value: push.hubId };
  if (push.kind === "synced") return { case: "synced", value: true };
  return { case: "view", value: viewToProto(push, service) };
}

function viewToProto({ view, also }: Extract<Push, { kind: "view" }>, service: string): MessageInitShape<typeof PeerViewSchema> {
  const { hubId, level, share, endpoint, token, terminated } = view;
  return {
    hubId,
    level: level as Level,
    share,
    terminated,
    ...(endpoint === undefined ? {} : { endpoint: endpointToProto({ service, ...endpoint }) }),
    token: token?.jwt ?? "",
    tokenIssuedMs: BigInt(Math.round(token?.issuedAtWall ?? 0)),
    tokenExpiresMs: BigInt(Math.round(token?.expiresAtWall ?? 0)),
    caPems: [...view.caPems],
    bundleSeq: BigInt(view.bundleSeq),
    revoked: [...view.revoked],
    minTokenIssuedMs: BigInt(Math.ceil(view.minTokenIssuedAtWall)),
    wake: BigInt(view.wake),
    also: also.map(endpointToProto),
  };
}
