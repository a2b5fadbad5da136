import type { Observe, Persist } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { PeerView } from "#kernel/session/peer-view.ts";
import type { LinkState } from "#kernel/session/rules.ts";

/** Evidence is one reason to believe that a peer is who it says (S4-2). */
export interface Evidence {
  readonly method: "certificate" | "operator-pin";
  readonly valid: boolean;
  readonly detail: string;
  /** Wall ms of the last check; 0 for never. */
  readonly checkedAtWall: number;
}

/** Level of trust: 0 none, 1 MINIMAL, 2 LIMITED, 3 FULL (S4-4 to S4-6). */
export type Level = 0 | 1 | 2 | 3;

/** Address is where something is dialled. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** ServiceEndpoint is where a service of a hub is reached, as that hub says. */
export interface ServiceEndpoint extends Address {
  readonly service: string;
  readonly spiffeId: string;
}

/** PinnedCa is a CA certificate that an operator pinned to a hub. */
export interface PinnedCa {
  readonly pem: string;
  /** SHA-256 of the certificate, hex: tells versions of a bundle apart. */
  readonly digest: string;
}

/** RevokedLeaf is a certificate of a peer's service that an operator revoked: whoever shows it is nobody. */
export interface RevokedLeaf {
  /** base64url of the SHA-256 of the certificate (`x5t#S256`), as connections and tokens are compared. */
  readonly thumbprint: string;
  /** The same in hex, for people. */
  readonly digest: string;
}

/** PeerSpec is a peer as the configuration wants it. */
export interface PeerSpec {
  readonly hubId: string;
  /** Addresses in the order in which they are tried; empty if it can only dial us. */
  readonly addresses: readonly Address[];
  readonly cas: readonly PinnedCa[];
  readonly revoked: readonly RevokedLeaf[];
  readonly maxTrust: Level;
  readonly share: string;
}

/** DialledPlace is which installation of a peer is dialled, by a decision of the federation that both belong to. */
export interface DialledPlace extends Address {
  /** It is one of its standbys. */
  readonly standby: boolean;
  /** Token of the installation there: each one that is dialled after it has a higher one. */
  readonly fence: number;
  /** Of the hub's replica of the log. */
  readonly incarnation: number;
}

/** DialledMember is a member of the federation that has standbys, and where it is dialled. */
export interface DialledMember {
  readonly hubId: string;
  readonly endpoint: Address;
  readonly standby: boolean;
  readonly fence: number;
  /** Of the hub's replica of the log. */
  readonly incarnation: number;
}

/** PeerRecord is what a restart must not forget of a peer. */
export interface PeerRecord {
  readonly enabled: boolean;
  readonly endpoints: readonly ServiceEndpoint[];
  /** Where its discovery last answered. */
  readonly lastGood: Address | undefined;
  /** Wall ms of the last handshake under its bundle; 0 for none. */
  readonly certificateAtWall: number;
  readonly bundleSeq: number;
  readonly caDigests: readonly string[];
  readonly minTokenIssuedAtWall: number;
  readonly software: string;
  readonly levelThere: number;
  /** Where the federation has it dialled; absent while that is for the operator here to say. */
  readonly dialled?: DialledPlace | undefined;
  /** What it was proved to have done, as a sentence; absent for nothing. An operator's word takes it away. */
  readonly misconduct?: string | undefined;
}

/** RecordCodec turns records into the bytes that are stored; `codec.ts` has the one that ships. */
export interface RecordCodec {
  encode(record: PeerRecord): Uint8Array;
}

/** Leaf is a certificate of one of this hub's own processes; the DER stays outside of the core. */
export interface Leaf {
  readonly thumbprint: string;
  readonly der: Uint8Array;
}

/** RefusedLeaf is a certificate in a peer's Hello that is not one of that peer's services. */
export interface RefusedLeaf {
  readonly thumbprint: string;
  readonly why: string;
}

/** ReceivedToken is a token that a peer issued to one of our leaves. */
export interface ReceivedToken {
  readonly thumbprint: string;
  readonly jwt: string;
  readonly expiresInMs: number;
}

/** Introduction is what a hub says of itself in Hello, in both directions. */
export interface Introduction {
  readonly hubId: string;
  readonly incarnation: number;
  /** Random for each start, hex; empty or absent from hubs that do not send it. */
  readonly run?: string;
  readonly software: string;
  readonly packages: readonly string[];
  readonly endpoints: readonly ServiceEndpoint[];
  readonly wallMs: number;
  /** With which this installation acts for its hub; 0 or absent for a hub that has one only. */
  readonly fence?: number;
}

/** SessionNote is how a service's session with a peer stands, as that service reported it. */
export interface SessionNote {
  readonly service: string;
  readonly state: LinkState;
  readonly dialer: string;
  readonly rttMs: number;
  readonly synced: boolean;
  readonly failure: Failure | undefined;
  readonly heard: number;
}

/** HeldToken is our token at a peer. */
export interface HeldToken {
  readonly jwt: string;
  readonly issuedAtWall: number;
  readonly expiresAtWall: number;
}

/** PeerInfo is a peer as people see it. */
export interface PeerInfo {
  readonly hubId: string;
  readonly level: Level;
  readonly maxTrust: Level;
  readonly evidence: readonly Evidence[];
  readonly decision: string;
  readonly share: string;
  readonly state: LinkState;
  readonly stateAgeMs: number;
  readonly endpoints: readonly ServiceEndpoint[];
  readonly sessions: readonly SessionNote[];
  readonly software: string;
  readonly clockSkewMs: number;
  readonly attempts: number;
  readonly retryInMs: number;
  readonly failure: Failure | undefined;
  readonly levelThere: number;
  /** SHA-256 of the pinned CA certificates and of the revoked leaves, hex. */
  readonly caDigests: readonly string[];
  readonly revokedDigests: readonly string[];
  /** Where copies of it run, and where it says that copies of this hub do. */
  readonly copies: readonly string[];
  readonly ownCopies: readonly string[];
}

/** Input of the core. `call` and `watch` are numbers that the shell gave; `attempt` comes from the effect that is answered. */
export type Input =
  /** The peers that the configuration wants now: all of them. */
  | { readonly kind: "federation"; readonly peers: readonly PeerSpec[] }
  | { readonly kind: "watch"; readonly watch: number; readonly services: readonly string[]; readonly leaf: Leaf | undefined }
  | { readonly kind: "watch_ready"; readonly watch: number }
  | { readonly kind: "watch_end"; readonly watch: number }
  | {
      readonly kind: "hello_answered";
      readonly peer: string;
      readonly attempt: number;
      readonly from: Introduction;
      readonly tokens: readonly ReceivedToken[];
      readonly level: number;
      /** Where copies of this hub run, as the peer says. */
      readonly copies?: readonly string[];
    }
  | { readonly kind: "hello_failed"; readonly peer: string; readonly attempt: number; readonly failure: Failure }
  | {
      readonly kind: "refresh_answered";
      readonly peer: string;
      readonly attempt: number;
      readonly tokens: readonly ReceivedToken[];
      readonly level: number;
    }
  | { readonly kind: "refresh_failed"; readonly peer: string; readonly attempt: number; readonly failure: Failure }
  /** `caller`: the hub that the certificate proves. */
  | {
      readonly kind: "hello_received";
      readonly call: number;
      readonly caller: string;
      /** Address that it called from, if that is known. */
      readonly address?: string | undefined;
      readonly from: Introduction;
      readonly leaves: readonly string[];
      readonly refused: readonly RefusedLeaf[];
    }
  | {
      readonly kind: "refresh_received";
      readonly call: number;
      readonly caller: string;
      readonly leaves: readonly string[];
      readonly refused: readonly RefusedLeaf[];
    }
  | {
      readonly kind: "sessions";
      readonly service: string;
      readonly reports: readonly { readonly hubId: string; readonly session: SessionNote }[];
    }
  /** The level that a peer grants us, as it said on its session. */
  | { readonly kind: "announced"; readonly peer: string; readonly level: number; readonly copies?: readonly string[] }
  /** A process of the peer lives: it opened a session or answered on one. */
  | {
      readonly kind: "met";
      readonly peer: string;
      readonly run: string;
      readonly incarnation: number;
      readonly address: string | undefined;
    }
  /** A service of this hub has a proof that the peer broke a protocol. */
  | { readonly kind: "misconduct"; readonly peer: string; readonly service: string; readonly sentence: string }
  /** Where the federation has members with standbys dialled: all of them. `confirmed`: nothing newer is decided. */
  | {
      readonly kind: "dialled";
      readonly members: readonly DialledMember[];
      readonly voters: readonly string[];
      readonly confirmed: boolean;
    }
  /** An installation of a hub, or a process of this one, asks where its hub is dialled. */
  | { readonly kind: "ask_dialled"; readonly call: number; readonly caller: string }
  | { readonly kind: "set_enabled"; readonly call: number; readonly peer: string; readonly enabled: boolean }
  | { readonly kind: "list"; readonly call: number; readonly peer: string | undefined }
  /** Stores token keys; answered by `keys_stored` when they are durable. */
  | {
      readonly kind: "store_keys";
      readonly call: number;
      readonly put: readonly { readonly kid: string; readonly bytes: Uint8Array }[];
      readonly remove: readonly string[];
    };

/** Push is one message to a watching service. */
export type Push =
  /** `also` are the endpoints of the counterparts of the watch's further services. */
  | { readonly kind: "view"; readonly view: PeerView; readonly also: readonly ServiceEndpoint[] }
  | { readonly kind: "removed"; readonly hubId: string }
  | { readonly kind: "synced" };

/** Output that leaves the core through the gate. */
export type Output =
  | {
      readonly kind: "hello";
      readonly peer: string;
      readonly attempt: number;
      readonly address: Address;
      readonly caPems: readonly string[];
      /** Thumbprints of leaves that the answering server must not have. */
      readonly revoked: readonly string[];
      readonly leaves: readonly Leaf[];
    }
  | {
      readonly kind: "refresh";
      readonly peer: string;
      readonly attempt: number;
      readonly address: Address;
      readonly caPems: readonly string[];
      /** Thumbprints of leaves that the answering server must not have. */
      readonly revoked: readonly string[];
      readonly leaves: readonly Leaf[];
      readonly jwt: string;
    }
  /** Answer a Hello or Refresh with tokens for these leaves. */
  | {
      readonly kind: "grant";
      readonly call: number;
      readonly peer: string;
      readonly level: Level;
      readonly evidence: readonly Evidence[];
      readonly leaves: readonly string[];
      /** Where copies of the caller's hub run. */
      readonly copies: readonly string[];
    }
  | { readonly kind: "refuse"; readonly call: number; readonly failure: Failure }
  | { readonly kind: "peers"; readonly call: number; readonly peers: readonly PeerInfo[] }
  | { readonly kind: "keys_stored"; readonly call: number }
  | { readonly kind: "dialled_at"; readonly call: number; readonly member: DialledMember | undefined }
  /** Where this hub itself is dialled, whose word counts for that (the other voters), and where others are. Undefined: it has no standbys. */
  | {
      readonly kind: "own_dialled";
      readonly member: DialledMember | undefined;
      readonly hubs: readonly string[];
      readonly members: readonly DialledMember[];
    }
  | { readonly kind: "push"; readonly watch: number; readonly pushes: readonly Push[] };

/** Note is something for telemetry: an event, a count, or that a peer came or went. */
export interface Note extends Observe {
  readonly what: "event" | "hello" | "peer_added" | "peer_removed" | "copies";
  readonly peer: string;
  readonly event?: "LINK_STATE" | "SESSION" | "TRUST_DECIDED" | "CREDENTIAL" | "ACCESS_REFUSED" | "CLOCK";
  readonly severity?: "DEBUG" | "INFO" | "WARNING" | "ERROR";
  readonly text?: string;
  readonly fields?: Readonly<Record<string, string>>;
  /** Of a Hello: "ok" or the reason of its failure; `direction` is "in" or "out". */
  readonly result?: string;
  readonly direction?: "in" | "out";
}

/** Effect of the core. */
export type Effect = Persist | Output | Note;
