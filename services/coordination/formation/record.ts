import type { StoreOp } from "#kernel/core.ts";
import { decode, encode, list, message, type Of, part, uint } from "#kernel/wire/shape.ts";
import { COPIED } from "../bft/height/consensus.ts";
import type { StoredLog } from "../log/engine.ts";
import { MEMORY_SPACE } from "../members/memory.ts";
import { INTRODUCED, type Introduced, LOG_MAX, SIGNED_FOUNDING, type SignedFounding, VOTERS } from "../members/messages.ts";
import { RESIDENTS } from "../migration/hosting/residents.ts";
import { Sagas } from "../migration/hosting/sagas.ts";
import { WANTED_SPACE } from "../resources/desk/wanted.ts";
import { BORROWER_SPACE, EXECUTOR_SPACE } from "../resources/kept.ts";
import { SHARED_SPACE } from "../shared/messages.ts";

/** SPACE is where the core keeps what it must not forget. */
export const SPACE = "coordination";
const KEY = "federation";
const STORED = message({
  founding: part(1, SIGNED_FOUNDING),
  incarnation: uint(2, LOG_MAX, 1),
  voters: list(3, VOTERS.bft.max, INTRODUCED),
});

/** Where it keeps what outlasts a federation. */
const PAST = "coordination-past";
const LAST = "incarnation";
const LAST_USED = message({ incarnation: uint(1, LOG_MAX) });

/** LOG is the name of the log in the store. */
export const LOG = "raft";

/** Begun is a federation that this hub is a part of. */
export interface Begun {
  readonly founding: SignedFounding;
  /** Of its replica. */
  readonly incarnation: number;
  /** Voters that this hub was told of when it came in, or has known since; none where founders are all that it knows. */
  readonly voters: readonly Introduced[];
}

/** storedFederation reads which federation this hub belongs to; undefined for none. It throws what is wrong with what is there. */
export function storedFederation(store: Pick<StoredLog, "get">): Begun | undefined {
  const bytes = store.get(SPACE, KEY);
  if (bytes === undefined) return undefined;
  const decoded = decode(STORED, bytes);
  if (!decoded.ok) throw new RangeError(`what was stored of this hub's federation is damaged: ${decoded.problem}`);
  return decoded.value;
}

/** lastIncarnation reads the largest number that a replica of this hub ever had, in whatever federation; 0 for none. It throws as above. */
export function lastIncarnation(store: StoredLog): number {
  const bytes = store.get(PAST, LAST);
  if (bytes === undefined) return 0;
  const decoded = decode(LAST_USED, bytes);
  if (!decoded.ok) throw new RangeError(`what was stored of this hub's replicas is damaged: ${decoded.problem}`);
  return decoded.value.incarnation;
}

/** beginning is how a federation that begins is stored. `last` is the largest incarnation from now on. */
export function beginning(begun: Begun, last: number): StoreOp[] {
  return [remembering(begun), { op: "put", space: PAST, key: LAST, bytes: encode(LAST_USED, { incarnation: last }) }];
}

/** remembering is how what is stored of a federation is written anew, with other voters. */
export function remembering(begun: Begun): StoreOp {
  return { op: "put", space: SPACE, key: KEY, bytes: encode(STORED, begun as Of<typeof STORED>) };
}

/** Where the engines keep their part. */
const LOGS = [LOG, "bft.decided", "bft.journal"];
/** Where lending and shared state keep theirs. */
const LENDING = [EXECUTOR_SPACE, BORROWER_SPACE, WANTED_SPACE, SHARED_SPACE];
const SPACES = [MEMORY_SPACE, LOG, `${LOG}-snapshot`, `${LOG}-incoming`, "bft.snapshot", "bft.evidence", COPIED, ...LENDING];

/** ending is how all that was stored of a federation is forgotten, except that the number of its replica was used. */
export function ending(store: StoredLog): StoreOp[] {
  return [
    { op: "clear", space: SPACE },
    ...LOGS.map((log): StoreOp => ({ op: "drop", log })),
    ...[...SPACES, RESIDENTS, ...Sagas.spaces(store)].map((space): StoreOp => ({ op: "clear", space })),
  ];
}
