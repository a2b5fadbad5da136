import type { DescMethodBiDiStreaming, MessageInitShape } from "@bufbuild/protobuf";
import type { Registry } from "prom-client";
import type { CallOptions, ClientDuplex, Outbound, RawMessage } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import type { FeedHead, FeedHeadSchema } from "#gen/foedus/common/v1/session_pb.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import type { Failure } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";
import type { LinkState, PeerSession, SessionConfig, SessionId } from "#kernel/session/rules.ts";
import type { EventSink, LinkCounters } from "#runtime/events.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { PeerView, SessionReporter } from "#runtime/peers.ts";
import type { CallContext } from "../rpc/call.ts";
import type { TokenVerifier } from "../rpc/server/token-verifier.ts";
import type { Envelope, Frame } from "./session-codec.ts";

/** SessionClient is the part of a service's client that a link needs. Each dial gets its own, closed with the session. */
export interface SessionClient<F extends Frame> {
  session(options?: CallOptions): ClientDuplex<Envelope<F>, Envelope<F>>;
  /** bytesRead counts what came over its connection, frames that are not whole yet included. */
  bytesRead?(): number;
  /** endsAtWall is when its connection ends with the certificate of the server, wall ms. */
  endsAtWall?(): number;
  close(): void;
}

/** ConnectOptions are what a connection of a session is made with. */
export interface ConnectOptions {
  /** Bytes of which the peer may have sent so many before they are read. */
  readonly windowBytes: number;
}

/** FeedHeadInit is the newest position of a feed of ours. */
export type FeedHeadInit = MessageInitShape<typeof FeedHeadSchema>;

/** MetRun is a process of a peer that answers on a session. */
export interface MetRun {
  /** Random for each start, hex; empty from hubs that do not send it. */
  readonly run: string;
  /** Number of the start; 0 if only the other side said one. */
  readonly incarnation: number;
  /** Where it was met, if that is known. */
  readonly address: string | undefined;
}

/** PeerLinksOptions join the sessions of one service to the world. Callbacks must not throw. */
export interface PeerLinksOptions<F extends Frame> {
  /** Name of the service, as in metrics. */
  readonly service: string;
  /** The service's Session RPC: its schema gives frames and access rules. */
  readonly method: DescMethodBiDiStreaming;
  readonly hubId: string;
  readonly incarnation: number;
  /** Versions of this service's package that we speak. */
  readonly packages: readonly string[];
  readonly software: string;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly log: Logger;
  /** Told, once per peer and minute, of a peer that sends more than it may. */
  readonly events?: EventSink;
  readonly metrics: Registry;
  /** connect makes a client for one dial to a peer that has an endpoint. It does not wait; throwing counts as a failed dial. */
  readonly connect: (view: PeerView, options: ConnectOptions) => SessionClient<F>;
  /** Checks the tokens of Refresh frames. Without it they are ignored. */
  readonly tokens?: TokenVerifier;
  /** Heads of the feeds that we offer to a peer: they travel with pings and pongs. */
  readonly heads?: (peer: string) => readonly FeedHeadInit[];
  /** Send on this session from now on; frames of `replaced` may still arrive. */
  readonly onUp: (peer: string, session: PeerSession, replaced: PeerSession | undefined) => void;
  readonly onDown: (peer: string, session: PeerSession, failure: Failure, willRetry: boolean) => void;
  /** check tells what is wrong with a frame that its access rule allows: the failure ends the session. Undefined for nothing. */
  readonly check?: (frame: F) => Failure | undefined;
  /** A frame that its access rule allows, in order per session. A pending promise holds the session's next frames and its credit back. */
  readonly onFrame: (peer: string, session: PeerSession, frame: F, bytes: number) => void | Promise<void>;
  /** The peer's heads arrived, with a ping (`rttMs` is the last known, -1 for none) or as the answer to one of ours. */
  readonly onHeads?: (peer: string, heads: readonly FeedHead[], rttMs: number) => void;
  /** The current session became writable. */
  readonly onCredit?: (peer: string) => void;
  /** False keeps a session on one stream, as for a service that sends little. Default true: two streams, with each peer that can have them. */
  readonly two?: boolean;
  /** True if the service calls `synced` after its first synchronisation on a session. */
  readonly synchronises?: boolean;
  /** What tells this process from others with the same keys, and who is told which processes of peers live: at each open and each pong. */
  readonly runs?: { readonly own: Uint8Array; readonly met: (peer: string, run: MetRun) => void };
  /** Told of all peers whenever something about one changed. */
  readonly reporter?: SessionReporter;
  /** Bytes of frames under way per direction and session. Default 4 MiB. */
  readonly windowBytes?: number;
  readonly closeTimeoutMs?: number;
  readonly times?: Partial<SessionConfig>;
  readonly backoff?: BackoffConfig;
}

/** LinkStatus is how one peer stands, for `/statusz` and operators. */
export interface LinkStatus {
  readonly hubId: string;
  readonly state: LinkState;
  readonly sinceMs: number;
  readonly session: SessionId | undefined;
  /** Age of the last frame of the peer; negative before the first. */
  readonly lastFrameAgeMs: number;
  readonly rttMs: number;
  readonly attempts: number;
  readonly failure: Failure | undefined;
}

/** PeerLinks are the sessions of one service with all its peers. */
export interface PeerLinks<F extends Frame> {
  /** setPeers makes what runs equal to what is wanted: starts, ends, refreshes and re-authorises (D-11, D-15). */
  setPeers(views: readonly PeerView[]): void;
  /** accept is the handler of the Session RPC. */
  accept(requests: AsyncIterable<Envelope<F>>, out: Outbound<Envelope<F>>, context: CallContext): Promise<void>;
  /** send on the current session; false when there is none or it is full. It never throws (S0-9). */
  send(peer: string, frame: F | RawMessage): boolean;
  writable(peer: string): boolean;
  /** aheadBytes is how many bytes of frames the current session lets be under way; Infinity if it does not bound that. */
  aheadBytes(peer: string): number;
  current(peer: string): PeerSession | undefined;
  /** synced says that the first synchronisation on the current session is done. */
  synced(peer: string): void;
  /** probe sends a ping at once, if none is under way; its answer comes by `onHeads`. */
  probe(peer: string): void;
  /** redial replaces the sessions that we dialled, of one peer or all, by fresh ones: our certificate changed. */
  redial(peer?: string): void;
  /** disconnect ends the current session with a failure; the peer is told to come back. */
  disconnect(peer: string, failure: Failure): void;
  status(): readonly LinkStatus[];
  counters(mount: string): readonly LinkCounters[];
  describe(): string;
  /** stop says SHUTTING_DOWN on every session and resolves when all are over, at the latest after `graceMs`. */
  stop(graceMs: number): Promise<void>;
}
