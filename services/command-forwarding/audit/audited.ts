import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Pending } from "../caller/pending.ts";
import { type Command, NO_VALUE, OUTCOME, type Outcome, type ReceivedInvocation, type Result } from "../messages.ts";
import type { CallerEpoch, Run } from "../owner/run.ts";
import type { Audit, Audited } from "./audit.ts";
import { WAY, type Way } from "./batch.ts";
import { type Found, openName } from "./open-commands.ts";

/** AuditParts are what of the core's parts the audit needs. */
export interface AuditParts {
  readonly hubId: string;
  readonly audit: Audit;
}

/** didNotStart tells the outcomes of what provably did not run. */
export function didNotStart(outcome: Outcome): boolean {
  return outcome === OUTCOME.REJECTED || outcome === OUTCOME.EXPIRED;
}

/** auditPending keeps the final outcome of a command of a caller of this hub. It comes before the journal drops the command. */
export function auditPending({ hubId, audit }: AuditParts, now: Now, pending: Pending, result: Result): void {
  const local = pending.hubId === hubId;
  const { nodeId, capability, value, secret, epoch, seq, keyed, recovered } = pending;
  const command: Audited = {
    way: local ? WAY.LOCAL : WAY.FORWARDED,
    caller: pending.principal,
    hub: pending.hubId,
    nodeId,
    capability,
    value,
    secret,
    epoch,
    seq,
    key: keyed?.key ?? "",
  };
  // By the clock of a process that is over, only the date counts.
  const durationMs = recovered ? Math.max(0, now.wall - pending.acceptedWall) : now.mono - pending.startedAt;
  const kept = pending.blob !== 0 || pending.begun !== undefined;
  audit.open.end(pending);
  if (!kept && didNotStart(result.outcome)) audit.refused(now, command, result.outcome, result.failure, durationMs);
  else audit.ended(now, command, result, durationMs, !local && pending.blob !== 0);
}

/** auditRefused keeps that a command of a caller of this hub was not accepted. `secret`: its capability is, as far as it is known. */
export function auditRefused({ audit }: AuditParts, now: Now, caller: string, command: Command, failure: Failure, secret: boolean): void {
  const { hubId: hub, nodeId, capability, value, key } = command;
  const audited = { way: WAY.NONE, caller, hub, nodeId, capability, value, secret, epoch: 0, seq: 0, key };
  audit.refused(now, audited, OUTCOME.REJECTED, failure, 0);
}

/** auditRun keeps the final outcome of a peer's command. `kept`: the journal notes it in this step. */
export function auditRun({ hubId, audit }: AuditParts, now: Now, run: Run, value: Uint8Array, result: Result, kept: boolean): void {
  const { nodeId, capability, secret, seq } = run;
  const { book, epoch } = run.origin as CallerEpoch;
  const command: Audited = {
    way: WAY.RECEIVED,
    caller: book.hubId,
    hub: hubId,
    nodeId,
    capability,
    value,
    secret,
    epoch,
    seq,
    key: "",
  };
  audit.open.end(run);
  const durationMs = now.mono - run.acceptedAt;
  if (kept) audit.ended(now, command, result, durationMs, false);
  else audit.refused(now, command, result.outcome, result.failure, durationMs);
}

/** auditTurnedAway keeps that a peer's command was refused as it came. */
export function auditTurnedAway(
  { hubId, audit }: AuditParts,
  now: Now,
  caller: CallerEpoch,
  item: ReceivedInvocation,
  result: Result,
  secret: boolean,
): void {
  const { nodeId, capability, value, seq } = item;
  const { book, epoch } = caller;
  const command = { way: WAY.RECEIVED, caller: book.hubId, hub: hubId, nodeId, capability, value, secret, epoch, seq, key: "" };
  audit.refused(now, command, result.outcome, result.failure, 0);
}

/**
 * beginRun notes what the audit must know of a run that starts if the hub stops before its outcome. It tells whether its task waits until
 * the step is durable.
 */
export function beginRun({ audit: { open } }: AuditParts, now: Now, run: Run): boolean {
  const { origin } = run;
  if (origin !== undefined) {
    if (run.idempotent) return false;
    if (run.begun === undefined) open.begin(WAY.RECEIVED, origin.book.hubId, origin.epoch, now, run);
    return true;
  }
  const pending = run.pending as Pending;
  // Its key has it in the journal, and nobody must be told anything else under that (IK2).
  if (pending.keyed !== undefined) return true;
  if (pending.begun === undefined) open.begin(WAY.LOCAL, pending.principal, pending.epoch, now, pending);
  return false;
}

const STOPPED: Result = {
  outcome: OUTCOME.UNKNOWN,
  value: NO_VALUE,
  failure: { reason: "OUTCOME_UNKNOWN", message: "the hub stopped after it was started" },
};

/**
 * auditFound keeps what became of commands that had begun when the hub stopped: those of this hub's callers for its own nodes (`found`), and
 * peers' that are in the journal as begun and have no outcome (`unfinished`). What a peer's command was is known if it ran for a while.
 */
export function auditFound({ hubId, audit }: AuditParts, now: Now, found: ReadonlyMap<string, Found>, unfinished: Iterable<Run>): void {
  const keep = (way: Way, caller: string, epoch: number, seq: number, known: Found | undefined): void => {
    const { nodeId = "", capability = "", wallMs = now.wall } = known ?? {};
    const audited = { way, caller, hub: hubId, nodeId, capability, value: NO_VALUE, secret: false, epoch, seq, key: "" };
    audit.ended(now, audited, STOPPED, Math.max(0, now.wall - wallMs), false);
  };
  for (const { origin, seq } of unfinished) {
    const { book, epoch } = origin as CallerEpoch;
    keep(WAY.RECEIVED, book.hubId, epoch, seq, found.get(openName(book.hubId, epoch, seq)));
  }
  for (const command of found.values()) {
    audit.open.end(command);
    if (command.way === WAY.LOCAL) keep(WAY.LOCAL, command.who, command.epoch, command.seq, command);
  }
}
