import { bytes, encode, list, message, part, text, uint } from "#kernel/wire/shape.ts";
import { BALLOTS_DUMP } from "../ballots/messages.ts";
import { MEMBER_LIMITS, MEMBERS_DUMP } from "../members/messages.ts";
import { MIGRATION_DATA } from "../migration/shapes.ts";
import type { StateData } from "../state/federation-state.ts";
import { AGREED_VALUE, VALUES } from "../values/messages.ts";
import { strictly } from "./commands.ts";
import { decodeResourceDump, encodeResourceDump } from "./resource-dump.ts";

/** STATE_BYTES bounds a state: what an engine takes in a snapshot. */
export const STATE_BYTES = 256 * 1024 * 1024;

const STATE = message({
  index: uint(1),
  term: uint(2),
  time: uint(3),
  authors: list(4, MEMBER_LIMITS.members, message({ author: text(1, 63), session: uint(2), last: uint(3) })),
  values: list(5, VALUES.count, AGREED_VALUE),
  members: part(6, MEMBERS_DUMP),
  ballots: part(7, BALLOTS_DUMP),
  resources: bytes(8, STATE_BYTES),
  migration: part(9, MIGRATION_DATA),
  /** Newest version of any agreed value; missing in states of older hubs, where no version was above that of a value. */
  revision: uint(10),
});

/** writeState encodes the state of a federation. The same state gives the same bytes at every hub, so that a digest of them compares states. */
export function writeState({ resources, values, ...rest }: StateData): Uint8Array {
  return encode(STATE, { ...rest, ...values, resources: encodeResourceDump(resources) });
}

/** readState decodes what `writeState` gave; it throws what is wrong with other bytes. */
export function readState(state: Uint8Array): StateData {
  const { resources, values, revision, ...rest } = strictly(STATE, state);
  return { ...rest, values: { values, revision }, resources: decodeResourceDump(resources) };
}
