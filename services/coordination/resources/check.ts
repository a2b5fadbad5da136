import type { Failure } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { amountsProblem, isNothing } from "./amounts.ts";
import { type Offer, ON_DISCONNECT, type Policy, PRIORITIES, type ResourceCommand, type Terms } from "./commands.ts";
import { HOLDS, type Kind, NETWORKS, uncounted, type Want, WORKS } from "./kinds.ts";
import { MICRO_MAX } from "./lending/ledger.ts";
import {
  AGENTS_MAX,
  CONTEXT_LENGTH,
  DURATION_MAX,
  GRACE_MAX_MS,
  LEASES_MAX,
  MODELS_MAX,
  NAME_LENGTH,
  TYPES_MAX,
  WAIT_MAX_MS,
} from "./rules.ts";

/** Names of resources, agents, models and correlation ids: what can be typed and seen. */
const NAME = new RegExp(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,${NAME_LENGTH - 1}}$`);

/** Problem is the field at fault and what is wrong with it. */
type Problem = readonly [field: string, message: string] | undefined;

/** invalid is the failure of a field. */
export function invalid(field: string, message: string): Failure {
  return { reason: "INVALID_FIELD", field, message };
}

/** commandProblem says what is wrong with a command itself, whoever sends it and whatever the book has; undefined if nothing is. */
export function commandProblem(command: ResourceCommand): Failure | undefined {
  const problem = problemOf(command);
  return problem === undefined ? undefined : invalid(problem[0], problem[1]);
}

function problemOf(command: ResourceCommand): Problem {
  switch (command.kind) {
    case "policy":
      return policyProblem(command.policy);
    case "offer":
      return offerProblem(command.offer);
    case "withdraw":
    case "refence":
      return name("name", command.name);
    case "quota":
      return quotaProblem(command);
    case "request":
      return requestProblem(command);
    case "counter":
      return first(talk(command), count("round", command.round, 1, 1_000), termsProblem(command.terms));
    case "accept":
      return first(talk(command), count("round", command.round, 1, 1_000));
    case "decline":
      return talk(command);
    case "confirm":
      return name("id", command.id);
    case "renew":
      return first(lease(command), duration("duration_ms", command.durationMs));
    case "release":
      return lease(command);
    case "reclaim":
      return first(count("lease", command.lease, 1), count("grace_ms", command.graceMs, 0, GRACE_MAX_MS));
    case "stopped":
      return leases(command.leases);
    default:
      return ["command", "the command is not one that this version knows; upgrade this hub"];
  }
}

function first(...problems: readonly Problem[]): Problem {
  return problems.find((problem) => problem !== undefined);
}

function count(field: string, value: unknown, min: number, max = Number.MAX_SAFE_INTEGER): Problem {
  if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return undefined;
  return [field, `${field} is not a whole number from ${min} to ${max}; correct it`];
}

const duration = (field: string, value: unknown): Problem => count(field, value, 1, DURATION_MAX);

function name(field: string, value: unknown): Problem {
  if (typeof value === "string" && NAME.test(value)) return undefined;
  return [
    field,
    `${field} is not a name of 1 to ${NAME_LENGTH} letters, digits and . _ : / - that begins with a letter or digit; write for example coder-1`,
  ];
}

function hub(field: string, value: unknown): Problem {
  return typeof value === "string" && isHubId(value)
    ? undefined
    : [field, `${field} is not the id of a hub: 1 to 63 of a-z, 0-9 and hyphens, for example home-1`];
}

function word(field: string, value: unknown, words: readonly string[]): Problem {
  return words.includes(value as string) ? undefined : [field, `${field} is none of ${words.join(", ")}; choose one`];
}

function flag(field: string, value: unknown): Problem {
  return typeof value === "boolean" ? undefined : [field, `${field} is neither true nor false`];
}

function vector(field: string, value: unknown): Problem {
  const problem = amountsProblem(value);
  return problem === undefined ? undefined : [field, problem];
}

/** A list is sorted and says each thing once, so that there is one way to write it. */
function names(field: string, values: unknown, min: number, max: number): Problem {
  if (!Array.isArray(values) || values.length < min || values.length > max) {
    const has = Array.isArray(values) ? `has ${values.length} names` : "is no list of names";
    return [field, `${field} ${has}; give ${min} to ${max}`];
  }
  const bad = values.map((value, at) => name(`${field}[${at}]`, value)).find((problem) => problem !== undefined);
  if (bad !== undefined) return bad;
  const at = values.findIndex((value, index) => index > 0 && value <= values[index - 1]);
  return at < 0 ? undefined : [`${field}[${at}]`, `${field} is not sorted, or names ${values[at]} twice; name each once, in order`];
}

function policyProblem(policy: Policy): Problem {
  const { storage } = policy;
  return first(
    count("max_agents", policy.maxAgents, 0, AGENTS_MAX),
    duration("max_duration_ms", policy.maxDurationMs),
    names("allowed_types", policy.allowedTypes, 0, TYPES_MAX),
    count("max_utilization", policy.maxUtilization, 0, 1_000),
    word("priority", policy.priority, PRIORITIES),
    flag("preemption", policy.preemption),
    count("storage.max_mb", storage?.maxMb, 0, 1_000_000_000),
    duration("storage.retention_ms", storage?.retentionMs),
    count("storage.replication", storage?.replication, 1, 16),
    word("on_disconnect", policy.onDisconnect, ON_DISCONNECT),
  );
}

function offerProblem(offer: Offer): Problem {
  const { capacity, prices, what } = offer;
  const problem = first(
    name("name", offer.name),
    kindProblem(what),
    vector("capacity", capacity),
    vector("prices", prices),
    flag("shared", offer.shared),
    flag("automatic", offer.automatic),
  );
  if (problem !== undefined) return problem;
  if (what.kind === "agent" && capacity[0] !== what.agents.length)
    return ["capacity.agents", `capacity has ${capacity[0]} agents, but ${what.agents.length} are named; make them equal`];
  return counted("capacity", what.kind, capacity);
}

function counted(field: string, kind: Kind["kind"], amounts: readonly number[]): Problem {
  if (isNothing(amounts)) return [field, `${field} is nothing; name an amount above zero`];
  const dimension = uncounted(kind, amounts);
  return dimension === undefined ? undefined : [`${field}.${dimension}`, `${kind} is not counted in ${dimension}; leave it out`];
}

function kindProblem(what: Kind): Problem {
  switch (what?.kind) {
    case "agent":
      return first(name("type", what.type), names("agents", what.agents, 1, AGENTS_MAX));
    case "compute":
      return first(
        word("work", what.work, WORKS),
        names("models", what.models, 0, MODELS_MAX),
        count("max_batch", what.maxBatch, 0, 1_000_000),
        count("horizon_ms", what.horizonMs, 0, DURATION_MAX),
      );
    case "storage":
      return first(
        word("holds", what.holds, HOLDS),
        duration("retention_ms", what.retentionMs),
        count("replication", what.replication, 1, 16),
      );
    case "network":
      return word("mode", what.mode, NETWORKS);
    default:
      return ["what", "what is offered is neither agents, compute, storage nor network"];
  }
}

function wantProblem(want: Want): Problem {
  switch (want?.kind) {
    case "agent":
      return name("want.type", want.type);
    case "compute":
      return first(
        word("want.work", want.work, WORKS),
        want.model === "" ? undefined : name("want.model", want.model),
        count("want.batch", want.batch, 0, 1_000_000),
        count("want.horizon_ms", want.horizonMs, 0, DURATION_MAX),
      );
    case "storage":
      return first(word("want.holds", want.holds, HOLDS), count("want.replication", want.replication, 0, 16));
    case "network":
      return word("want.mode", want.mode, NETWORKS);
    default:
      return ["want", "what is wanted is neither agents, compute, storage nor network"];
  }
}

function quotaProblem(command: Extract<ResourceCommand, { kind: "quota" }>): Problem {
  const { nominal, limit } = command;
  const problem = first(name("name", command.name), hub("borrower", command.borrower), vector("nominal", nominal), vector("limit", limit));
  if (problem !== undefined || nominal.every((amount, i) => amount <= (limit[i] as number))) return problem;
  return ["nominal", "the nominal quota is above the limit; raise the limit"];
}

function requestProblem(command: Extract<ResourceCommand, { kind: "request" }>): Problem {
  const { context } = command;
  const problem = first(
    name("id", command.id),
    command.owner === "" ? undefined : hub("owner", command.owner),
    command.name === "" ? undefined : name("name", command.name),
    command.name !== "" && command.owner === "" ? ["owner", "a resource is named without its owner; name the owner"] : undefined,
    wantProblem(command.want),
    vector("amounts", command.amounts),
    duration("duration_ms", command.durationMs),
    word("priority", command.priority, PRIORITIES),
    typeof context === "string" && context.length <= CONTEXT_LENGTH && context.isWellFormed()
      ? undefined
      : ["context", `the context is not a text of at most ${CONTEXT_LENGTH} characters`],
    count("max_cost_micro", command.maxCostMicro, 0, MICRO_MAX),
    count("wait_ms", command.waitMs, 0, WAIT_MAX_MS),
  );
  return problem ?? principal(command.want.kind, command.amounts) ?? counted("amounts", command.want.kind, command.amounts);
}

/** Who wants agents says how many. */
function principal(kind: Want["kind"], amounts: readonly number[]): Problem {
  if (kind !== "agent" || (amounts[0] as number) > 0) return undefined;
  return ["amounts.agents", "a request for agents is for none; name how many"];
}

function termsProblem(terms: Terms): Problem {
  return first(
    vector("terms.amounts", terms?.amounts),
    duration("terms.duration_ms", terms?.durationMs),
    count("terms.cost_micro", terms?.costMicro, 0, MICRO_MAX),
  );
}

function talk(command: { readonly borrower: string; readonly id: string }): Problem {
  return first(hub("borrower", command.borrower), name("id", command.id));
}

function lease(command: { readonly lease: number; readonly fence: number }): Problem {
  return first(count("lease", command.lease, 1), count("fence", command.fence, 1));
}

function leases(list: readonly number[]): Problem {
  if (!Array.isArray(list) || list.length < 1 || list.length > LEASES_MAX) return ["leases", `leases are 1 to ${LEASES_MAX}`];
  const bad = list.map((one, at) => count(`leases[${at}]`, one, 1)).find((problem) => problem !== undefined);
  if (bad !== undefined) return bad;
  const at = list.findIndex((one, index) => index > 0 && one <= (list[index - 1] as number));
  return at < 0 ? undefined : [`leases[${at}]`, "leases are not sorted, or one is named twice; name each once, in order"];
}
