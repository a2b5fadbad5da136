import { create } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import type { Clock } from "#channel/clock.ts";
import {
  AdmitMemberResponseSchema,
  CastVoteResponseSchema,
  ChangeValueResponseSchema,
  CoordinationService,
  FederationState,
  FoundFederationResponseSchema,
  GetBallotResponseSchema,
  GetFederationResponseSchema,
  GetValueResponseSchema,
  JoinFederationResponseSchema,
  LeaveFederationResponseSchema,
  ListBallotsResponseSchema,
  ListValuesResponseSchema,
  LogRole,
  OpenBallotResponseSchema,
  ReadLogResponseSchema,
  RejoinFederationResponseSchema,
  RemoveMemberResponseSchema,
  TransferLeadershipResponseSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { ListPoliciesResponseSchema } from "#gen/foedus/coordination/v1alpha1/policies_pb.ts";
import type { SessionFrame } from "#gen/foedus/coordination/v1alpha1/session_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { bind, type Handlers, type ServiceBinding } from "#runtime/rpc/call.ts";
import type { Calls } from "#runtime/service/calls.ts";
import type { PeerLinks } from "#runtime/sessions/peer-links.ts";
import type { BallotValue } from "../ballots/messages.ts";
import { actionFromProto, ballotPage, ballotToProto, policyToProto, resultToProto, voteFromProto } from "../codec/ballot-views.ts";
import { valueCommandFromProto, valueToProto } from "../codec/values.ts";
import type { Role } from "../log/engine.ts";
import type { Answer, FederationStatus, Input, LogRecord, Request, Standing } from "../messages.ts";
import { agentHandlers } from "./agent-handlers.ts";
import type { AgentPrograms } from "./agent-programs.ts";
import type { Ask, Begin } from "./ask.ts";
import { lendingHandlers } from "./lending.ts";
import { roleHandlers } from "./roles.ts";
import { sharingHandlers } from "./sharing.ts";
import { createValueStreams } from "./value-stream.ts";

/** Entries of a page of the log, if the caller does not say. */
const PAGE_DEFAULT = 100;

const STANDINGS: Readonly<Record<Standing, FederationState>> = {
  none: FederationState.NONE,
  founding: FederationState.FOUNDING,
  joining: FederationState.JOINING,
  member: FederationState.MEMBER,
  returning: FederationState.RETURNING,
};

const ROLES: Readonly<Record<Role, LogRole>> = {
  leader: LogRole.LEADER,
  candidate: LogRole.CANDIDATE,
  follower: LogRole.FOLLOWER,
  learner: LogRole.LEARNER,
  outside: LogRole.OUTSIDE,
};

/** GIVEN_UP is told to nobody: it ends what waits for an answer that nobody wants any more. */
const GIVEN_UP: Failure = { reason: "CANCELLED", message: "the caller gave up; what it asked for may be decided yet" };

/** BindingOptions join the RPCs to the shell. */
export interface BindingOptions {
  /** Gives the calls: after the store has failed there are new ones. */
  readonly current: () => Calls<Input, Answer>;
  readonly links: PeerLinks<SessionFrame>;
  readonly programs: AgentPrograms;
  /** Begins to time a decision, and its answer ends that. */
  readonly time: () => () => void;
  readonly hubId: string;
  readonly clock: Clock;
  /** Makes an id for a request that has none. */
  readonly newId: () => string;
}

/** createBinding binds the RPCs of the service to the calls of its shell. */
export function createBinding({ current, links, programs, time, hubId, clock, newId }: BindingOptions): ServiceBinding {
  const begin: Begin = (_kind, request) => {
    const calls = current();
    const decided = isDecided(request) ? time() : undefined;
    let number = 0;
    const answer = calls.ask((call) => {
      number = call;
      return { kind: "call", call, request };
    });
    if (decided !== undefined) answer.then(decided, () => undefined);
    // Who hangs up does not take back what is on its way: only nobody waits for it any more.
    const cancel = (): void => {
      if (calls.refuse(number, GIVEN_UP)) calls.tell({ kind: "cancel", call: number });
    };
    return { answer: answer as never, cancel };
  };
  const ask: Ask = (kind, request, context) => {
    const { answer, cancel } = begin(kind, request);
    whenAborted(context.signal, cancel);
    return answer;
  };
  return bind(CoordinationService, {
    ...federationHandlers(ask),
    ...valueHandlers(ask),
    ...createValueStreams(begin, clock),
    ...ballotHandlers(ask),
    ...agentHandlers(ask, programs),
    ...roleHandlers(hubId, ask),
    ...lendingHandlers(ask, hubId, newId),
    ...sharingHandlers(ask),
    session: (...call) => links.accept(...call),
  });
}

/** Requests whose answer is a decision of the federation. */
const DECIDED: ReadonlySet<Request["kind"]> = new Set(["change", "propose", "vote", "admit", "remove", "migrate", "abort_migration"]);

function isDecided(request: Request): boolean {
  return DECIDED.has(request.kind) || (request.kind === "lending" && (request.ask.kind === "request" || request.ask.kind === "command"));
}

type Handled = Handlers<typeof CoordinationService>;

function federationHandlers(
  ask: Ask,
): Pick<
  Handled,
  "getFederation" | "foundFederation" | "joinFederation" | "leaveFederation" | "rejoinFederation" | "transferLeadership" | "readLog"
> {
  return {
    getFederation: async ({ withStateDigest }, context) => {
      const { status } = await ask("status", { kind: "status", withDigest: withStateDigest }, context);
      return create(GetFederationResponseSchema, statusToProto(status));
    },
    foundFederation: async ({ federationId, name, engine, founders, admission }, context) => {
      const request = {
        kind: "found",
        federationId,
        name,
        engine: oneOf("engine", engine, ENGINES),
        admission: oneOf("admission", admission, ADMISSIONS),
        founders,
      } as const;
      const { standing } = await ask("standing", request, context);
      return create(FoundFederationResponseSchema, { state: STANDINGS[standing] });
    },
    joinFederation: async ({ federationId, via }, context) => {
      const { standing } = await ask("standing", { kind: "join", federationId, via }, context);
      return create(JoinFederationResponseSchema, { state: STANDINGS[standing] });
    },
    leaveFederation: async ({ federationId, force }, context) => {
      await ask("done", { kind: "leave", federationId, force }, context);
      return create(LeaveFederationResponseSchema);
    },
    rejoinFederation: async ({ federationId, trust }, context) => {
      const { standing } = await ask("standing", { kind: "rejoin", federationId, trust }, context);
      return create(RejoinFederationResponseSchema, { state: STANDINGS[standing] });
    },
    transferLeadership: async ({ toHubId }, context) => {
      await ask("done", { kind: "transfer", hubId: toHubId }, context);
      return create(TransferLeadershipResponseSchema);
    },
    readLog: async ({ pageSize, beforeIndex }, context) => {
      const limit = pageSize === 0 ? PAGE_DEFAULT : pageSize;
      const { records, next } = await ask("log", { kind: "log", limit, before: Number(beforeIndex) }, context);
      return create(ReadLogResponseSchema, { entries: records.map(recordToProto), nextBeforeIndex: BigInt(next) });
    },
  };
}

/** oneOf takes a word; empty is the first one that is allowed. */
function oneOf<T extends string>(field: string, word: string, allowed: readonly [T, ...T[]]): T {
  const found = word === "" ? allowed[0] : allowed.find((one) => one === word);
  if (found === undefined) throw fail("INVALID_FIELD", `${field}: say one of ${allowed.join(", ")}`, { field });
  return found;
}

const ENGINES = ["raft", "bft"] as const;
const ADMISSIONS = ["ballot", "founder"] as const;

function valueHandlers(ask: Ask): Pick<Handled, "changeValue" | "getValue" | "listValues"> {
  return {
    changeValue: async ({ change }, context) => {
      const command = { book: "values", command: valueCommandFromProto(change!) } as const;
      const { value } = await ask("changed", { kind: "change", command }, context);
      return create(ChangeValueResponseSchema, { version: BigInt(value as number) });
    },
    getValue: async ({ key, local }, context) => {
      const { answer, applied, ageMs } = await ask("queried", { kind: "query", query: { kind: "value", key }, local }, context);
      const value = answer.kind === "value" && answer.value !== undefined ? { value: valueToProto(answer.value) } : {};
      return create(GetValueResponseSchema, { ...value, applied: BigInt(applied), ageMs: BigInt(Math.ceil(ageMs)) });
    },
    listValues: async ({ prefix, after }, context) => {
      const query = { kind: "values", prefix, after } as const;
      const { answer, applied, ageMs } = await ask("queried", { kind: "query", query, local: true }, context);
      const { values, next } = answer.kind === "values" ? answer : { values: [], next: "" };
      const page = { values: values.map(valueToProto), next };
      return create(ListValuesResponseSchema, { ...page, applied: BigInt(applied), ageMs: BigInt(Math.ceil(ageMs)) });
    },
  };
}

function ballotHandlers(
  ask: Ask,
): Pick<Handled, "admitMember" | "removeMember" | "openBallot" | "castVote" | "listBallots" | "getBallot" | "listPolicies"> {
  const ballotOf = ({ value }: Extract<Answer, { kind: "changed" }>) => {
    const { ballotId = "", result } = value as Partial<BallotValue>;
    return { ballotId, result: resultToProto(result) };
  };
  return {
    admitMember: async ({ hubId, weight }, context) => {
      const answer = await ask("changed", { kind: "admit", hubId, weight: weight ?? 1 }, context);
      return create(AdmitMemberResponseSchema, ballotOf(answer));
    },
    removeMember: async ({ hubId }, context) => {
      return create(RemoveMemberResponseSchema, ballotOf(await ask("changed", { kind: "remove", hubId }, context)));
    },
    openBallot: async ({ action, reasoning, durationMs }, context) => {
      const request = { kind: "propose", action: actionFromProto(action!), reasoning, durationMs: Number(durationMs) } as const;
      return create(OpenBallotResponseSchema, ballotOf(await ask("changed", request, context)));
    },
    castVote: async ({ ballotId, vote, reasoning }, context) => {
      const answer = await ask("changed", { kind: "vote", ballotId, vote: voteFromProto(vote), reasoning }, context);
      return create(CastVoteResponseSchema, { result: ballotOf(answer).result });
    },
    listBallots: async ({ after }, context) => {
      const { answer, ageMs } = await ask("queried", { kind: "query", query: { kind: "ballots" }, local: true }, context);
      const { items: ballots, next } = ballotPage(answer.kind === "ballots" ? answer.ballots : [], after);
      return create(ListBallotsResponseSchema, { ballots, next, ageMs: BigInt(Math.ceil(ageMs)) });
    },
    getBallot: async ({ ballotId }, context) => {
      const { answer } = await ask("queried", { kind: "query", query: { kind: "ballot", ballotId }, local: true }, context);
      if (answer.kind !== "ballot" || answer.ballot === undefined)
        throw fail(
          "BALLOT_CLOSED",
          `there is no ballot ${ballotId} here (settled ones are kept for 7 days); foedus federation ballot lists them`,
          { field: "ballot_id" },
        );
      const { ballot, certificate } = answer;
      const proof = typeof certificate === "string" ? { noCertificate: certificate } : { certificate };
      return create(GetBallotResponseSchema, { ballot: ballotToProto(ballot), ...proof });
    },
    listPolicies: async ({ local }, context) => {
      const { answer, ageMs } = await ask("queried", { kind: "query", query: { kind: "policies" }, local }, context);
      const all = answer.kind === "policies" ? answer.policies : [];
      const policies = all.map(({ key, value, version, fallback }) => ({
        key,
        value: policyToProto(value),
        version: BigInt(version),
        defaultValue: policyToProto(fallback),
      }));
      return create(ListPoliciesResponseSchema, { policies, ageMs: BigInt(Math.ceil(ageMs)) });
    },
  };
}

function statusToProto(status: FederationStatus) {
  return {
    state: STANDINGS[status.standing],
    federationId: status.federationId,
    name: status.name,
    engine: status.engine,
    role: ROLES[status.role],
    term: BigInt(status.term),
    leader: status.leader,
    committed: BigInt(status.committed),
    applied: BigInt(status.applied),
    appliedTime: BigInt(status.appliedTime),
    canDecide: status.canDecide,
    ...(status.ageMs === undefined ? {} : { ageMs: BigInt(Math.ceil(status.ageMs)) }),
    problem: status.problem,
    members: status.members.map((member) => ({ ...member })),
    invitations: status.invitations.map(({ federationId, from, founders, engine, joined }) => ({
      federationId,
      fromHubId: from,
      founders: [...founders],
      engine,
      joined: [...joined],
    })),
    stateDigest: status.stateDigest,
    founding: status.founding,
    joins: [...status.joins],
  };
}

function recordToProto({ index, term, time, lines }: LogRecord) {
  return { index: BigInt(index), term: BigInt(term), time: BigInt(time), lines: lines.map((line) => ({ ...line })) };
}
