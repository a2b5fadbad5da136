import { bytes, choice, flag, list, maybe, message, type Of, part, text, texts, uint, word } from "#kernel/wire/shape.ts";

/**
 * What the members of a federation say about themselves and each other, as `proto/foedus/coordination/v1alpha1/members.proto` describes
 * it: tables of fields with their bounds, and the types that follow from them.
 */

/** ENGINES are the two ways to decide (`log/engine.ts`). */
export const ENGINES = ["raft", "bft"] as const;
/** Engine is how a federation decides. */
export type Engine = (typeof ENGINES)[number];

/** ADMISSIONS are the rules by which a founding entry may let hubs in: by ballot, or by the word of any founder that is still a member. */
export const ADMISSIONS = ["ballot", "founder"] as const;

/** VOTERS says how many hubs keep the log and decide on it, by engine; every further member is a learner. */
export const VOTERS: Readonly<Record<Engine, { readonly min: number; readonly max: number }>> = {
  raft: { min: 1, max: 7 },
  bft: { min: 4, max: 30 },
};

/** MEMBER_LIMITS bound what the book of members holds (BK4). */
export const MEMBER_LIMITS = {
  /** Members of one federation. */
  members: 256,
  /** Founders, who sign the founding entry together. */
  founders: 30,
  /** Requests to join that wait, and those that one member brought; beyond those in all, one of each member that has brought none. */
  joins: 64,
  joinsPerSponsor: 8,
  /** Hubs that are no members any more. Their last incarnation is never forgotten: when these and the members are so many, no hub with a new name is let in. */
  retired: 4_096,
  /** Keys of one hub that are remembered, the one in force included. */
  keys: 16,
  /** Standby endpoints of one hub, and standby hubs of a role. */
  standbys: 3,
  /** Federation roles. */
  roles: 16,
  /** Words of a policy. */
  words: 32,
  /** Confirmed failures of one hub that are remembered to damp it. */
  failures: 8,
  /** Vote of one member. With 256 members, sums stay far below 2^53, also multiplied by a fraction. */
  weight: 1_000,
} as const;

/** JOINS_MAX is how many requests to join wait at the most. */
export const JOINS_MAX = MEMBER_LIMITS.joins + MEMBER_LIMITS.members;

/** ID_BYTES bounds ids of hubs and federations: DNS labels. */
export const ID_BYTES = 63;
/** LABEL is how ids of hubs and federations look. */
export const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** NAME is how ids of ballots and names of roles, policies and resources look. */
export const NAME = /^[a-zA-Z0-9](?:[a-zA-Z0-9._:-]{0,62}[a-zA-Z0-9])?$/;
const HOST = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,251}[a-zA-Z0-9])?|[0-9a-fA-F:.]{2,45})$/;

/** LOG_MAX bounds positions and terms of the log, serials and incarnations. */
export const LOG_MAX = 2 ** 48;

const hub = (no: number) => text(no, ID_BYTES, LABEL);

/** ENDPOINT is an address at which a hub is dialled: that of its discovery, which tells where its other services are. */
export const ENDPOINT = message({ host: text(1, 253, HOST), port: uint(2, 65_535, 1) });
/** Endpoint is an address at which a hub is dialled. */
export type Endpoint = Of<typeof ENDPOINT>;

/** CANDIDATE is what a hub says of itself when it founds or joins. */
export const CANDIDATE = message({
  hubId: hub(1),
  /** Number of its replica of the log, never used before by this hub. */
  incarnation: uint(2, LOG_MAX, 1),
  /** Ed25519 key that signs its votes and certificates: serial 1. */
  publicKey: bytes(3, 32, 32),
  /** X25519 key to which checkpoints are sealed: serial 1. */
  sealingKey: bytes(4, 32, 32),
  /** Its weight in ballots; 0 watches only. */
  weight: uint(5, MEMBER_LIMITS.weight),
  primary: part(6, ENDPOINT),
  /** Dialled in this order when the hub has failed. */
  standbys: list(7, MEMBER_LIMITS.standbys, ENDPOINT),
});
/** Candidate is what a hub says of itself when it founds or joins. */
export type Candidate = Of<typeof CANDIDATE>;

/** FOUNDING is what founders agree on before there is a log. */
export const FOUNDING = message({
  federationId: hub(1),
  name: text(2, 63, /^\S(?:.*\S)?$/u),
  engine: word(3, ENGINES),
  admission: word(4, ADMISSIONS),
  /** Sorted by hub id. */
  founders: list(5, MEMBER_LIMITS.founders, CANDIDATE),
});
/** Founding is what founders agree on before there is a log. */
export type Founding = Of<typeof FOUNDING>;

/** HUB_SIGNATURE is a signature of a hub that the context knows the key of. */
export const HUB_SIGNATURE = message({ hubId: hub(1), signature: bytes(2, 64, 64) });

/** SIGNED_FOUNDING is the founding entry: signed by each founder over the encoded Founding. It is what others verify certificates from. */
export const SIGNED_FOUNDING = message({
  founding: part(1, FOUNDING),
  /** Sorted by hub id, one of each founder. */
  signatures: list(2, MEMBER_LIMITS.founders, HUB_SIGNATURE),
});
/** SignedFounding is the founding entry. */
export type SignedFounding = Of<typeof SIGNED_FOUNDING>;

/** INTRODUCED is a voter of whom a hub is told that comes in: whose word it may take for the state, and with which key that hub signs. */
export const INTRODUCED = message({ hubId: hub(1), incarnation: uint(2, LOG_MAX, 1), publicKey: bytes(3, 32, 32) });
/** Introduced is such a voter. */
export type Introduced = Of<typeof INTRODUCED>;

/** KEY_LINK takes a hub from one signing key to the next: the old key says so, and the new one that somebody holds it. */
export const KEY_LINK = message({
  hubId: hub(1),
  serial: uint(2, LOG_MAX, 2),
  publicKey: bytes(3, 32, 32),
  /** Serial of the key before. */
  previous: uint(4, LOG_MAX, 1),
  /** By the key before. */
  signature: bytes(5, 64, 64),
  /** By the new key. */
  proof: bytes(6, 64, 64),
});
/** KeyLink takes a hub from one signing key to the next. */
export type KeyLink = Of<typeof KEY_LINK>;

/** POLICY_VALUE is the value of a policy. */
export const POLICY_VALUE = choice({
  int: message({ value: uint(1) }),
  fraction: message({ numerator: uint(1, 1_000), denominator: uint(2, 1_000, 1) }),
  words: message({ words: texts(1, MEMBER_LIMITS.words, 63) }),
});
/** PolicyValue is the value of a policy. */
export type PolicyValue = Of<typeof POLICY_VALUE>;

const ADMIT = message({
  hubId: hub(1),
  incarnation: uint(2, LOG_MAX, 1),
  publicKey: bytes(3, 32, 32),
  weight: uint(4, MEMBER_LIMITS.weight),
});
const HUB = message({ hubId: hub(1) });
const LIFE = message({ hubId: hub(1), life: uint(2, LOG_MAX) });

/** MEMBER_ACTIONS are what an approved ballot can do to the book of members. */
export const MEMBER_ACTIONS = {
  /** The hub that asked to join, with exactly this replica and key. */
  admit: ADMIT,
  remove: HUB,
  weigh: message({ hubId: hub(1), weight: uint(2, MEMBER_LIMITS.weight) }),
  assign_role: message({
    role: text(1, 64, NAME),
    hubId: hub(2),
    standbys: texts(3, MEMBER_LIMITS.standbys, ID_BYTES, LABEL),
  }),
  confirm_failed: LIFE,
  /** `basis` is the version of the policy that was changed: of two changes of one version the first counts (S4-14). */
  set_policy: message({ key: text(1, 64, NAME), value: part(2, POLICY_VALUE), basis: uint(3, LOG_MAX) }),
} as const;

/** MEMBER_ACTION is one of MEMBER_ACTIONS. */
export const MEMBER_ACTION = choice(MEMBER_ACTIONS);
/** MemberAction is what an approved ballot can do to the book of members. */
export type MemberAction = Of<typeof MEMBER_ACTION>;

const ENDPOINTS = message({ primary: part(1, ENDPOINT), standbys: list(2, MEMBER_LIMITS.standbys, ENDPOINT) });

/** MEMBER_COMMAND is what a hub may put into the log about members. */
export const MEMBER_COMMAND = choice({
  /** The first entry of a log. */
  found: SIGNED_FOUNDING,
  /** The candidate, or a member for it, asks; the candidate's key signs (`joinBytes`). */
  request_join: message({ candidate: part(1, CANDIDATE), signature: bytes(2, 64, 64) }),
  /** A founder alone, where the founding entry says so. */
  admit: ADMIT,
  remove: HUB,
  leave: message({}),
  /** The author's replica is gone or not to be trusted; another one takes its place. */
  replace: message({ incarnation: uint(1, LOG_MAX, 1) }),
  /** The author's replica has all that was decided, and may have a seat among the voters. */
  ready: message({ incarnation: uint(1, LOG_MAX, 1) }),
  rotate_key: message({
    serial: uint(1, LOG_MAX, 2),
    publicKey: bytes(2, 32, 32),
    signature: bytes(3, 64, 64),
    proof: bytes(4, 64, 64),
  }),
  set_sealing_key: message({ serial: uint(1, LOG_MAX, 2), sealingKey: bytes(2, 32, 32) }),
  set_endpoints: ENDPOINTS,
  /** The author says that this hub has failed. `life` is the number with which that hub last said that it lives. */
  accuse: LIFE,
  /** The author lives: with a higher life than it was accused in. */
  refute: message({ life: uint(1, LOG_MAX, 1) }),
});
/** MemberCommand is what a hub may put into the log about members. */
export type MemberCommand = Of<typeof MEMBER_COMMAND>;

/** KEY_RECORD is a key of a hub and the positions of the log from which and before which it was in force. */
export const KEY_RECORD = message({
  serial: uint(1, LOG_MAX, 1),
  publicKey: bytes(2, 32, 32),
  /** Serial of the key before; 0 for the first. */
  previous: uint(3, LOG_MAX),
  /** Of the link from that key (KEY_LINK); empty for the first. */
  signature: bytes(4, 64),
  proof: bytes(5, 64),
  from: uint(6, LOG_MAX),
  /** 0 while it is in force. */
  until: uint(7, LOG_MAX),
});
/** KeyRecord is a key of a hub and when it was in force. */
export type KeyRecord = Of<typeof KEY_RECORD>;

const ACCUSATION = message({ by: hub(1), time: uint(2) });
const TIME = message({ time: uint(1) });

/** MEMBER is a member as the log knows it. */
export const MEMBER = message({
  hubId: hub(1),
  incarnation: uint(2, LOG_MAX, 1),
  /** In the order of their serials; the last is in force. */
  keys: list(3, MEMBER_LIMITS.keys, KEY_RECORD),
  sealingSerial: uint(4, LOG_MAX, 1),
  sealingKey: bytes(5, 32, 32),
  weight: uint(6, MEMBER_LIMITS.weight),
  primary: part(7, ENDPOINT),
  standbys: list(8, MEMBER_LIMITS.standbys, ENDPOINT),
  /** Which endpoint is dialled: 0 the primary, n the n-th standby. */
  dialled: uint(9, MEMBER_LIMITS.standbys),
  /** Token of who acts for the hub: rises when another endpoint is dialled. */
  fence: uint(10, LOG_MAX, 1),
  /** Log time at which a failure last moved it; 0 never. */
  movedAt: uint(11),
  /** How it came in: by the founding entry, a ballot or a founder, and which. */
  admittedBy: word(12, ["founding", "ballot", "founder"]),
  admittedRef: text(13, 64),
  admittedIndex: uint(14, LOG_MAX),
  admittedTime: uint(15),
  /** It keeps the log and decides on it; else it is a learner. */
  voter: flag(16),
  /** Its replica has said that it has all. */
  ready: flag(17),
  /** Rises with each refutation (S1-16). Not the replica's incarnation. */
  life: uint(18, LOG_MAX),
  failed: flag(19),
  /** Sorted by hub id, one of each accuser. */
  accusations: list(20, MEMBER_LIMITS.members, ACCUSATION),
  /** Log times of its confirmed failures that damp it. */
  failures: list(21, MEMBER_LIMITS.failures, TIME),
  /** Log time until which it gets no role; 0 while it may. */
  dampedUntil: uint(22),
});
/** Member is a member as the log knows it. */
export type Member = Of<typeof MEMBER>;

/** JOIN is a request to join that waits. */
export const JOIN = message({ candidate: part(1, CANDIDATE), sponsor: hub(2), index: uint(3, LOG_MAX), expires: uint(4) });
/** Join is a request to join that waits. */
export type Join = Of<typeof JOIN>;

/** ROLE is a task of the federation that one hub has at a time. */
export const ROLE = message({
  role: text(1, 64, NAME),
  hubId: hub(2),
  standbys: texts(3, MEMBER_LIMITS.standbys, ID_BYTES, LABEL),
  /** Token: rises with each holder, over all roles. */
  fence: uint(4, LOG_MAX, 1),
});
/** FederationRole is a task of the federation that one hub has at a time. */
export type FederationRole = Of<typeof ROLE>;

const POLICY = message({ key: text(1, 64, NAME), value: part(2, POLICY_VALUE), version: uint(3, LOG_MAX, 1) });
const RETIRED = message({ hubId: hub(1), incarnation: uint(2, LOG_MAX, 1) });

/** MEMBERS_DUMP is the whole book, lists sorted by hub id, role and key. */
export const MEMBERS_DUMP = message({
  founding: maybe(1, SIGNED_FOUNDING),
  foundedIndex: uint(2, LOG_MAX),
  foundedTime: uint(3),
  members: list(4, MEMBER_LIMITS.members, MEMBER),
  joins: list(5, JOINS_MAX, JOIN),
  retired: list(6, MEMBER_LIMITS.retired, RETIRED),
  roles: list(7, MEMBER_LIMITS.roles, ROLE),
  /** Last fence that was given out. */
  fence: uint(8, LOG_MAX),
  /** Policies that were changed; all others have their defaults. */
  policies: list(9, 64, POLICY),
});
/** MembersDump is the whole book. */
export type MembersDump = Of<typeof MEMBERS_DUMP>;

/** REMEMBERED is what a hub remembers of a peer's replica. */
export const REMEMBERED = message({
  incarnation: uint(1, LOG_MAX),
  life: uint(2, LOG_MAX),
  term: uint(3, LOG_MAX),
  index: uint(4, LOG_MAX),
});
/**
 * Remembered is what a hub knows that a peer's replica once had durably: the newest start of it, the highest term that it was in (Raft; else
 * 0), and the newest decided position that it acknowledged. All are 0 where nothing is known.
 */
export type Remembered = Of<typeof REMEMBERED>;

/** TRUSTED_KEY is a key of a member that a verifier believes in, and the positions at which it was in force. */
export const TRUSTED_KEY = message({
  hubId: hub(1),
  serial: uint(2, LOG_MAX, 1),
  publicKey: bytes(3, 32, 32),
  /** Of the hub in ballots. */
  weight: uint(4, MEMBER_LIMITS.weight),
  from: uint(5, LOG_MAX),
  /** 0 while it is in force. */
  until: uint(6, LOG_MAX),
});
/** TRUSTED_KEYS is whom a verifier believes, as a hub that it trusts gives it out. */
export const TRUSTED_KEYS = message({ federationId: hub(1), foundingDigest: bytes(2, 32, 32), keys: list(3, 4_096, TRUSTED_KEY) });
/** TrustedKeys is whom a verifier believes. */
export type TrustedKeys = Of<typeof TRUSTED_KEYS>;

/** KEY_HISTORY are changes of keys, by hub id and serial: with them a verifier who has the founding entry knows later keys of founders. */
export const KEY_HISTORY = message({ links: list(1, 4_096, KEY_LINK) });
/** KeyHistory are changes of keys. */
export type KeyHistory = Of<typeof KEY_HISTORY>;

/** MEMBER_NEWS is what becomes known when the book of members changes. */
export const MEMBER_NEWS = choice({
  founded: message({ federationId: hub(1), engine: word(2, ENGINES) }),
  join_requested: message({ hubId: hub(1), incarnation: uint(2, LOG_MAX, 1), sponsor: hub(3) }),
  join_expired: HUB,
  admitted: message({ hubId: hub(1), incarnation: uint(2, LOG_MAX, 1), by: word(3, ["founding", "ballot", "founder"]), ref: text(4, 64) }),
  /** Left by its own word, or was removed. */
  gone: message({ hubId: hub(1), removed: flag(2), ref: text(3, 64) }),
  replaced: message({ hubId: hub(1), incarnation: uint(2, LOG_MAX, 1), before: uint(3, LOG_MAX, 1) }),
  key_rotated: message({ hubId: hub(1), serial: uint(2, LOG_MAX, 1), sealing: flag(3) }),
  weighed: message({ hubId: hub(1), weight: uint(2, MEMBER_LIMITS.weight) }),
  /** The engine is to have the membership that `wanted` says. */
  seats_changed: message({}),
  /** Another endpoint of the hub is dialled, or its endpoints are others; the old one must not act any more. */
  endpoint_moved: message({ hubId: hub(1), endpoint: part(2, ENDPOINT), fence: uint(3, LOG_MAX, 1), failover: flag(4) }),
  accused: message({ hubId: hub(1), by: hub(2), accusers: uint(3, 256), needed: uint(4, 256) }),
  failed: LIFE,
  refuted: LIFE,
  /** It has failed so often that it gets no role until then. */
  damped: message({ hubId: hub(1), until: uint(2) }),
  role_moved: message({ role: text(1, 64, NAME), hubId: hub(2), before: text(3, ID_BYTES), fence: uint(4, LOG_MAX, 1) }),
  /** Nobody can have the role at the moment. */
  role_vacant: message({ role: text(1, 64, NAME), before: hub(2) }),
  policy_changed: message({ key: text(1, 64, NAME), value: part(2, POLICY_VALUE), version: uint(3, LOG_MAX, 1), ballot: text(4, 64) }),
});
/** MemberNews is what becomes known when the book of members changes. */
export type MemberNews = Of<typeof MEMBER_NEWS>;

/** MemberValue is what the author of a command is answered. */
export interface MemberValue {
  /** Hub that it was about; empty for the founding. */
  readonly hubId: string;
  /** False where everything was so already. */
  readonly changed: boolean;
}
