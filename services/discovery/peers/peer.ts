import { Backoff, type BackoffConfig, Retry } from "#kernel/backoff.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Prng } from "#kernel/prng.ts";
import type { PeerView } from "#kernel/session/peer-view.ts";
import type { LinkState } from "#kernel/session/rules.ts";
import type { Address, Evidence, HeldToken, PeerInfo, PeerRecord, PeerSpec, ServiceEndpoint, SessionNote } from "../messages.ts";
import { Runs, ToldCopies } from "./copies.ts";
import { type Decision, decide, type EvidenceConfig, weigh } from "./evidence.ts";

/** SOFTWARE_MAX is the most characters of what a hub says of its software. */
export const SOFTWARE_MAX = 63;

/** ENDPOINTS_MAX is how many endpoints a hub may advertise: it has one per service, and a later version may have more services. */
export const ENDPOINTS_MAX = 16;

/** Characters of a SPIFFE id of a service. */
const SPIFFE_MAX = 255;

/** How long a peer that was never met before may refuse us before that is worth a warning, ms. */
const FRESH_MS = 10_000;

/** NEVER is the instant of what is not planned. */
export const NEVER = Number.POSITIVE_INFINITY;

/** Pending is a call of ours that is under way. */
export interface Pending {
  readonly attempt: number;
  readonly address: Address;
  readonly sentAt: number;
  readonly sentAtWall: number;
  readonly leaves: ReadonlySet<string>;
}

/** Wrong says when an address at which another hub answered is tried again. */
interface Wrong {
  readonly retry: Retry;
  /** How many rounds through all addresses had failed in a row when that hub answered. */
  round: number;
}

/** Peer is what the core keeps of one peer. Instants are mono ms unless they end in Wall. */
export interface Peer {
  readonly hubId: string;
  spec: PeerSpec;
  record: PeerRecord;
  backoff: Backoff;
  state: LinkState;
  since: number;
  hello: Pending | undefined;
  refresh: Pending | undefined;
  /** A Hello is wanted from this instant on, subject to the backoff. */
  helloAt: number;
  refreshAt: number;
  /** When its handshake stops counting as evidence. */
  lapsesAt: number;
  helloDoneAt: number;
  /** Spaces out the renewal of tokens that a peer lets expire at once, or does not renew. */
  readonly renewal: Backoff;
  /** When the first of our tokens expires. */
  tokensEndAt: number;
  /** Addresses that were tried since the last failure of all of them. */
  tried: number;
  /** Addresses at which another hub answered, which are passed over for a time: what is wrong there today may be right tomorrow. */
  readonly wrong: Map<string, Wrong>;
  /** By thumbprint of our leaf. */
  tokens: Map<string, HeldToken>;
  /** Leaves that were in the last finished Hello. */
  offered: ReadonlySet<string>;
  introduced: boolean;
  /** Services of which it speaks a version, as it said in its last Hello; undefined before the first one. */
  services: ReadonlySet<string> | undefined;
  wasUp: boolean;
  readonly sessions: Map<string, SessionNote>;
  /** Processes of it that were met, and what it says of ours. */
  readonly runs: Runs;
  readonly told: ToldCopies;
  skewMs: number;
  pinnedAtWall: number;
  decision: Decision;
  failure: Failure | undefined;
  /** Until then a failure is expected: the operator there has not added us yet, or that hub has not read it. */
  readonly freshUntil: number;
  /** The present failure was told as a warning. */
  warned: boolean;
  clockTold: boolean;
  wake: number;
}

function newRecord(spec: PeerSpec): PeerRecord {
  return {
    enabled: true,
    endpoints: [],
    lastGood: undefined,
    certificateAtWall: 0,
    bundleSeq: 1,
    caDigests: spec.cas.map(({ digest }) => digest),
    minTokenIssuedAtWall: 0,
    software: "",
    levelThere: 0,
  };
}

/** acceptRecord takes of a stored record what would be taken from the peer today. */
function acceptRecord(hubId: string, record: PeerRecord): PeerRecord {
  const { lastGood, endpoints, software } = record;
  const good = lastGood !== undefined && isAddress(lastGood) ? lastGood : undefined;
  return { ...record, endpoints: acceptEndpoints(hubId, endpoints), lastGood: good, software: software.slice(0, SOFTWARE_MAX) };
}

/** newPeer starts with what the configuration says and what an earlier run left. */
export function newPeer(now: Now, spec: PeerSpec, record: PeerRecord | undefined, prng: Prng, backoff: BackoffConfig): Peer {
  return {
    hubId: spec.hubId,
    spec,
    // What an earlier version stored was not checked when it came in.
    record: record === undefined ? newRecord(spec) : acceptRecord(spec.hubId, record),
    backoff: new Backoff(prng, backoff),
    renewal: new Backoff(prng, backoff),
    tokensEndAt: NEVER,
    state: "INIT",
    since: now.mono,
    hello: undefined,
    refresh: undefined,
    helloAt: now.mono,
    refreshAt: NEVER,
    lapsesAt: NEVER,
    helloDoneAt: Number.NEGATIVE_INFINITY,
    tried: 0,
    wrong: new Map(),
    tokens: new Map(),
    offered: new Set(),
    introduced: false,
    services: undefined,
    wasUp: false,
    sessions: new Map(),
    runs: new Runs(),
    told: new ToldCopies(),
    skewMs: 0,
    pinnedAtWall: now.wall,
    decision: { level: 0, sentence: "none: not decided yet" },
    failure: undefined,
    freshUntil: record === undefined ? now.mono + FRESH_MS : Number.NEGATIVE_INFINITY,
    warned: false,
    clockTold: false,
    wake: 0,
  };
}

/** showAddress writes an address as `host:port`. */
export function showAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** isAddress tells whether something can be dialled and shown: one host name or address, and a port. */
function isAddress({ host, port }: Address): boolean {
  return /^[A-Za-z0-9._:%-]{1,253}$/.test(host) && Number.isInteger(port) && port > 0 && port <= 65_535;
}

/** advertisedOf is where a peer says that its discovery is. */
function advertisedOf({ record }: Peer): ServiceEndpoint | undefined {
  return record.endpoints.find(({ service }) => service === "discovery");
}

/** goodOf is the address that answered last, as long as the operator or the peer still names it. */
export function goodOf(peer: Peer): Address | undefined {
  const { lastGood } = peer.record;
  if (lastGood === undefined) return undefined;
  const advertised = advertisedOf(peer);
  const said = placesOf(peer);
  const named = advertised === undefined ? said : [...said, advertised];
  return named.some((address) => showAddress(address) === showAddress(lastGood)) ? lastGood : undefined;
}

/** placesOf is where a peer is dialled: at its standby if the federation decided that, else where the operator here says. */
function placesOf({ spec, record }: Peer): readonly Address[] {
  const { dialled } = record;
  if (dialled === undefined) return spec.addresses;
  const { host, port, standby } = dialled;
  // Where its primary is, its operator says to the federation, too.
  return standby ? [{ host, port }] : [...spec.addresses, { host, port }];
}

/** isDialled: a peer without a configured address is not dialled, whatever it advertises. That is what the operator said. */
export function isDialled(peer: Peer): boolean {
  return peer.spec.addresses.length > 0;
}

/**
 * passOver leaves out an address at which another hub answered, unless the operator wrote it first: there is always one to try. Each
 * time in a row it is for twice as long.
 */
export function passOver(peer: Peer, mono: number, address: Address, baseMs: number, maxMs: number): boolean {
  const shown = showAddress(address);
  const [first] = placesOf(peer);
  if (first !== undefined && showAddress(first) === shown) return false;
  const wrong = peer.wrong.get(shown) ?? { retry: new Retry({ baseMs, maxMs, factor: 2 }), round: 0 };
  wrong.round = peer.backoff.failures;
  wrong.retry.failed(mono);
  peer.wrong.set(shown, wrong);
  const named = new Set(namedBy(peer).map(showAddress));
  for (const other of peer.wrong.keys()) if (!named.has(other)) peer.wrong.delete(other);
  return true;
}

/** roundFailed notes that nobody answered at any address that was tried. Those that were passed over in this round are all that is left. */
export function roundFailed(peer: Peer, mono: number): void {
  for (const [shown, { round }] of peer.wrong) if (round !== peer.backoff.failures) peer.wrong.delete(shown);
  peer.tried = 0;
  peer.backoff.failed(mono);
}

/** namedBy lists where the operator or the federation, the last answer and the peer itself say that it is. */
function namedBy(peer: Peer): Address[] {
  return [...placesOf(peer), goodOf(peer), advertisedOf(peer)].filter((address) => address !== undefined);
}

/**
 * addressesOf lists where the peer's discovery may be, best first: configured, last good, as it advertised itself, without doubles.
 * Those at which another hub answered are left out until it is time to try them again.
 */
export function addressesOf(peer: Peer, mono: number): Address[] {
  if (!isDialled(peer)) return [];
  const seen = new Set<string>();
  return namedBy(peer).filter((address) => {
    const shown = showAddress(address);
    if (seen.has(shown) || peer.wrong.get(shown)?.retry.due(mono) === false) return false;
    seen.add(shown);
    return true;
  });
}

/** acceptEndpoints keeps what a hub may say of itself: one endpoint per service, under its own trust domain, and not too many. */
export function acceptEndpoints(hubId: string, endpoints: readonly ServiceEndpoint[]): ServiceEndpoint[] {
  const kept = new Map<string, ServiceEndpoint>();
  for (const endpoint of endpoints) {
    const { service, spiffeId } = endpoint;
    if (kept.size >= ENDPOINTS_MAX && !kept.has(service)) continue;
    const own = spiffeId.startsWith(`spiffe://${hubId}/service/`) && spiffeId.length <= SPIFFE_MAX;
    if (own && isAddress(endpoint) && /^[a-z][a-z0-9-]{0,62}$/.test(service)) kept.set(service, endpoint);
  }
  return [...kept.values()].sort((a, b) => (a.service < b.service ? -1 : 1));
}

/** endpointOf is where one service of the peer is dialled; undefined if it is not (see `isDialled`). */
export function endpointOf(peer: Peer, service: string): ServiceEndpoint | undefined {
  const { endpoints } = peer.record;
  if (!isDialled(peer)) return undefined;
  const good = goodOf(peer);
  const found = endpoints.find((endpoint) => endpoint.service === service);
  const discovery = advertisedOf(peer);
  if (found === undefined) {
    // It advertises nothing and yet answered where the operator said: one port for all services.
    if (good === undefined || endpoints.length > 0) return undefined;
    return { service, ...good, spiffeId: `spiffe://${peer.hubId}/service/hub` };
  }
  // The address that answered is better than the advertised one when both mean the same port of the peer.
  const samePort = discovery !== undefined && discovery.host === found.host && discovery.port === found.port;
  return samePort && good !== undefined ? { ...found, ...good } : found;
}

/** evidenceOf weighs what is known of a peer now. */
export function evidenceOf(peer: Peer, nowWall: number, config: EvidenceConfig): Evidence[] {
  const { record, spec, pinnedAtWall } = peer;
  return weigh({ certificateAtWall: record.certificateAtWall, pinnedCas: spec.cas.length, pinnedAtWall }, nowWall, config);
}

/** decisionOf decides about a peer now. */
export function decisionOf(peer: Peer, nowWall: number, config: EvidenceConfig): Decision {
  return decide(evidenceOf(peer, nowWall, config), peer.spec.maxTrust, config, peer.record.misconduct);
}

/** thumbprintsOf lists the revoked leaves of a peer as connections are compared with them. */
export function thumbprintsOf({ revoked }: PeerSpec): string[] {
  return revoked.map(({ thumbprint }) => thumbprint);
}

/** dialledFor is where a service of this hub dials its counterpart at a peer. */
export function dialledFor(peer: Peer, service: string): ServiceEndpoint | undefined {
  // A peer that grants us MINIMAL refuses every session but discovery's; dialling it for others would only be refused.
  const refused = peer.record.levelThere === 1 && service !== "discovery";
  return refused || !hasService(peer, service) ? undefined : endpointOf(peer, service);
}

/** viewOf is what a service that dials with the given leaf needs to know. */
export function viewOf(peer: Peer, service: string, thumbprint: string | undefined, nowWall: number): PeerView {
  const { record, spec } = peer;
  const held = thumbprint === undefined ? undefined : peer.tokens.get(thumbprint);
  return {
    hubId: peer.hubId,
    level: peer.decision.level,
    share: spec.share,
    endpoint: dialledFor(peer, service),
    token: held !== undefined && held.expiresAtWall > nowWall ? held : undefined,
    caPems: spec.cas.map(({ pem }) => pem),
    bundleSeq: record.bundleSeq,
    revoked: thumbprintsOf(spec),
    minTokenIssuedAtWall: record.minTokenIssuedAtWall,
    terminated: !record.enabled,
    wake: peer.wake,
  };
}

/** hasService tells whether a peer has a service, as far as it has said which it has. */
export function hasService({ services }: Pick<Peer, "services">, service: string): boolean {
  return services === undefined || services.has(service);
}

/** stands tells whether frames pass on a session. */
export function stands({ state }: Pick<SessionNote, "state">): boolean {
  return state === "OPERATIONAL" || state === "SYNCING";
}

/** concernsLink tells whether a session counts for the link: one that stands does, whatever the peer says that it has. */
export function concernsLink(peer: Pick<Peer, "services">, session: SessionNote): boolean {
  return stands(session) || hasService(peer, session.service);
}

/** refusalOf is why nothing is taken over a session that stands. One that is lost has a failure too, and comes back by itself. */
function refusalOf({ sessions }: Peer): Failure | undefined {
  for (const { state, failure } of sessions.values()) if (state === "SYNCING" && failure !== undefined) return failure;
  return undefined;
}

/** infoOf is a peer for people. `nextAt`: when the next Hello is planned. */
export function infoOf(peer: Peer, now: Now, nextAt: number, config: EvidenceConfig): PeerInfo {
  const { record, spec, decision } = peer;
  return {
    hubId: peer.hubId,
    level: decision.level,
    maxTrust: spec.maxTrust,
    evidence: evidenceOf(peer, now.wall, config),
    decision: decision.sentence,
    share: spec.share,
    state: peer.state,
    stateAgeMs: now.mono - peer.since,
    endpoints: record.endpoints,
    // Of a service that the peer does not have there is nothing to wait for.
    sessions: [...peer.sessions.values()].filter((session) => concernsLink(peer, session)).sort((a, b) => (a.service < b.service ? -1 : 1)),
    software: record.software,
    clockSkewMs: peer.skewMs,
    attempts: peer.backoff.failures,
    retryInMs: nextAt === NEVER ? 0 : Math.max(0, nextAt - now.mono),
    failure: peer.failure ?? refusalOf(peer),
    levelThere: record.levelThere,
    caDigests: spec.cas.map(({ digest }) => digest),
    revokedDigests: spec.revoked.map(({ digest }) => digest),
    copies: peer.runs.copies(now.mono),
    ownCopies: peer.told.places(now.mono),
  };
}

/** failureSeverity says how grave a failed Hello is: a warning once for each reason, and less while a new peer may not know us yet. */
export function failureSeverity(now: Now, peer: Peer, before: Failure | undefined): "DEBUG" | "INFO" | "WARNING" {
  const same = before?.reason === peer.failure?.reason;
  if (!peer.wasUp && now.mono < peer.freshUntil) return same ? "DEBUG" : "INFO";
  if (same && peer.warned) return "DEBUG";
  peer.warned = true;
  return "WARNING";
}
