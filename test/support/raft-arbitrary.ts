import fc from "fast-check";
import type { Committed, Membership } from "../../services/coordination/log/engine.ts";
import { FRAME_LIMITS, type RaftFrame } from "../../services/coordination/raft/frames.ts";

/** position is any number that may stand in a frame. */
export const position = fc.nat({ max: FRAME_LIMITS.position - 1 });
const bytes = fc.uint8Array({ maxLength: 40 });
const replica = fc
  .tuple(fc.constantFrom("a", "b", "hub-7", "z9"), fc.integer({ min: 1, max: 9_999 }))
  .map(([hub, incarnation]) => `${hub}/${incarnation}`);
const list = fc.uniqueArray(replica, { maxLength: 5 }).map((ids) => ids.sort());

/** membership is any, also one that cannot be. */
export const membership: fc.Arbitrary<Membership> = fc.record({ voters: list, outgoing: list, learners: list });

/** entry is any position of a log. */
export const entry: fc.Arbitrary<Committed> = fc
  .record({
    index: position,
    term: position,
    time: position,
    payloads: fc.array(bytes, { maxLength: 4 }),
    membership: fc.option(membership),
  })
  .map(({ membership: changed, ...rest }) => (changed === null ? rest : { ...rest, membership: changed }));

/** frame is any frame of a replica, sound or not. */
export const frame: fc.Arbitrary<RaftFrame> = fc.oneof(
  fc.record({
    type: fc.constant("vote_request" as const),
    term: position,
    pre: fc.boolean(),
    lastIndex: position,
    lastTerm: position,
    transfer: fc.boolean(),
  }),
  fc.record({
    type: fc.constant("vote_answer" as const),
    term: position,
    pre: fc.boolean(),
    granted: fc.boolean(),
    commitIndex: position,
    commitTerm: position,
  }),
  fc.record({
    type: fc.constant("append" as const),
    term: position,
    prevIndex: position,
    prevTerm: position,
    entries: fc.array(entry, { maxLength: 4 }),
    commit: position,
    probe: position,
    ageMs: fc.nat({ max: 2 ** 32 - 1 }),
    lease: fc.boolean(),
  }),
  fc.record({
    type: fc.constant("append_answer" as const),
    term: position,
    ok: fc.boolean(),
    index: position,
    hintIndex: position,
    hintTerm: position,
    probe: position,
  }),
  fc.record({ type: fc.constant("snapshot_offer" as const), term: position, manifest: bytes, signature: bytes }),
  fc.record({ type: fc.constant("snapshot_part" as const), term: position, index: position, part: fc.nat({ max: 4_095 }), bytes }),
  fc.record({ type: fc.constant("snapshot_answer" as const), term: position, index: position, have: fc.nat({ max: 4_096 }) }),
  fc.record({ type: fc.constant("transfer_now" as const), term: position }),
);
