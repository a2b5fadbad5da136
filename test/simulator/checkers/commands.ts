import { OUTCOME, OUTCOME_NAMES } from "../../../services/command-forwarding/messages.ts";
import type { CommandCall, CommandOp, Oracle } from "../oracle.ts";
import type { Checker } from "./checker.ts";

/** Capability that may run twice: it says of itself that twice is as good as once. */
const IDEMPOTENT = "set";

/** atMostOnce: what a user wants done once has at most one effect, at the node that was named and nowhere else. */
export const atMostOnce: Checker = {
  name: "at-most-once",
  check({ oracle }) {
    for (const op of oracle.commands.values()) {
      for (const { hub, nodeId } of op.effects)
        if (hub !== op.target || nodeId !== op.nodeId)
          oracle.violate("at-most-once", "correctness", `${op.id} for hub-${op.target}/${op.nodeId} was diverted to hub-${hub}/${nodeId}`);
      if (op.effects.length > 1 && op.capability !== IDEMPOTENT && !op.tainted)
        oracle.violate(
          "at-most-once",
          "correctness",
          `${op.id} (${op.capability}) had ${op.effects.length} effects, at ${op.effects.map(({ at }) => at.toFixed(1)).join(" and ")}`,
        );
    }
  },
};

/** answers: what callers were told is true, and they were told one thing. */
export const answers: Checker = {
  name: "answers",
  check({ oracle }) {
    for (const op of oracle.commands.values()) {
      for (const { answer } of op.calls) if (answer !== undefined) checkAnswer(oracle, op, answer);
      checkConsistency(oracle, op);
    }
  },
};

function checkAnswer(oracle: Oracle, op: CommandOp, { outcome, value }: NonNullable<CommandCall["answer"]>): void {
  const name = OUTCOME_NAMES[outcome];
  const { effects } = op;
  // An executor answers with the value that it was given, which names the command: another value is another command's answer.
  if (outcome === OUTCOME.DONE && value !== op.id)
    oracle.violate("answers", "correctness", `${op.id} was answered ${name} with the value "${value}"`);
  if (outcome === OUTCOME.DONE && effects.length === 0)
    oracle.violate("answers", "correctness", `${op.id} was answered ${name} and had no effect`);
  const single = op.calls.length === 1;
  const provably = outcome === OUTCOME.EXPIRED || (outcome === OUTCOME.REJECTED && !op.declined);
  if (provably && single && !op.restored && effects.length > 0)
    oracle.violate("answers", "correctness", `${op.id} was answered ${name} and had an effect`);
}

/** One key has one final outcome: whoever asks after DONE or FAILED was told is told the same. */
function checkConsistency(oracle: Oracle, op: CommandOp): void {
  if (op.key === "" || op.tainted) return;
  const told = op.calls.flatMap(({ at: askedAt, answer }) => (answer === undefined ? [] : [{ ...answer, askedAt }]));
  for (const final of told) {
    if (final.outcome !== OUTCOME.DONE && final.outcome !== OUTCOME.FAILED) continue;
    for (const { outcome, reason, lost, askedAt, at } of told) {
      const settled = outcome === OUTCOME.DONE || outcome === OUTCOME.FAILED;
      // Refused for reasons of the moment, or cancelled for this caller only: nothing is said about the command. Nor does a lost stream.
      if (!settled && (outcome === OUTCOME.REJECTED || reason === "CANCELLED" || lost)) continue;
      // What was asked before may have been answered before, on another stream.
      if (outcome === final.outcome || (settled ? at < final.at : askedAt <= final.at)) continue;
      oracle.violate(
        "answers",
        "correctness",
        `${op.id} was answered ${OUTCOME_NAMES[final.outcome]} and later ${OUTCOME_NAMES[outcome]} (${reason})`,
      );
    }
  }
}

/** Time after its deadline within which a command has its answer, when nothing stands in the way; and with a disk that is away or an answer held back. */
const GRACE_MS = 3_000;
const DELAYED_GRACE_MS = 30_000;

const KEEPALIVE_MS = 31_000;

/** answered: every caller that waited got exactly one answer, by its deadline and a grace. */
export const answered: Checker = {
  name: "answered",
  check({ oracle, options }) {
    const delayed = (["disk", "late", "slow", "overlap"] as const).some((fault) => options.faults.has(fault));
    const grace = delayed ? DELAYED_GRACE_MS : GRACE_MS;
    for (const op of oracle.commands.values()) {
      for (const call of op.calls) {
        if (call.answers > 1) oracle.violate("answered", "correctness", `a call of ${op.id} was answered ${call.answers} times`);
        // A caller whose connection is dead learns that from its keepalive only.
        const due = call.at + op.timeoutMs * 1.02 + grace + (call.answer?.lost ? KEEPALIVE_MS : 0);
        if (call.answer !== undefined && call.answer.at > due)
          oracle.violate("answered", "liveness", `${op.id} was answered ${Math.round(call.answer.at - due)} ms too late`);
        // Where nothing keeps a hub from answering, its caller's program does not have to give up.
        if (call.answer === undefined || (options.faults.size === 0 && call.answer.lost))
          oracle.violate("answered", "liveness", `${op.id} (to hub-${op.target}, at ${call.at.toFixed(0)}) was never answered`);
      }
    }
  },
};
