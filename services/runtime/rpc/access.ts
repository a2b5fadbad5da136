import { type DescMessage, type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import { type Access, access, CostClass, frame_access, OperatorRole, Principal, TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { listed, withArticle } from "#kernel/printable.ts";
import type { Caller } from "./call.ts";

/** Cost classes of calls, cheapest first; configuration gives each its rate. */
export type Cost = "cheap" | "normal" | "expensive";

/** AccessRule is the `access` option of an RPC, or the `frame_access` option of a frame, ready to use. */
export interface AccessRule {
  readonly principals: ReadonlySet<Caller["kind"]>;
  /** Least trust level of a peer; 0 means that none was stated, and then no peer is let in. */
  readonly minTrust: number;
  /** Least role of an operator: 1 viewer, 2 admin. */
  readonly minRole: number;
  readonly cost: Cost;
  /** True for streams that live as long as a connection. */
  readonly longLived: boolean;
  /** True if a peer may call it before it holds a token. */
  readonly tokenless: boolean;
  /** True for rules that ask for no trust level: health, reflection, and what a peer calls before it has one (Hello). */
  readonly anyTrust?: boolean;
}

const KINDS: Readonly<Record<number, Caller["kind"]>> = {
  [Principal.PEER]: "peer",
  [Principal.NODE]: "node",
  [Principal.GATEWAY]: "gateway",
  [Principal.OPERATOR]: "operator",
  [Principal.SERVICE]: "service",
  [Principal.STRANGER]: "stranger",
};

function costOf(cost: CostClass): Cost {
  if (cost === CostClass.CHEAP) return "cheap";
  return cost === CostClass.EXPENSIVE ? "expensive" : "normal";
}

function toRule(option: Access): AccessRule {
  const principals = new Set<Caller["kind"]>();
  for (const principal of option.principals) {
    const kind = KINDS[principal];
    if (kind !== undefined) principals.add(kind);
  }
  return {
    principals,
    minTrust: option.minTrust,
    minRole: Math.max(OperatorRole.VIEWER, option.minRole),
    cost: costOf(option.cost),
    longLived: option.longLived,
    tokenless: option.tokenless,
    // What comes before a token comes before trust too: Hello is how a level is decided. A stated level still counts.
    anyTrust: option.tokenless && option.minTrust === TrustLevel.UNSPECIFIED,
  };
}

const EVERYONE: AccessRule = {
  principals: new Set(["peer", "node", "gateway", "operator", "service"]),
  minTrust: TrustLevel.UNSPECIFIED,
  minRole: OperatorRole.VIEWER,
  cost: "cheap",
  longLived: false,
  tokenless: true,
  anyTrust: true,
};

/**
 * Rules of services whose schema is not ours and so carries no option: health and reflection answer any authenticated
 * caller, a peer also without a token and at any trust level. They tell the names of services and the schema, which is public.
 */
const FOREIGN_RULES: Readonly<Record<string, AccessRule>> = {
  "grpc.health.v1.Health.Check": EVERYONE,
  "grpc.health.v1.Health.List": EVERYONE,
  "grpc.health.v1.Health.Watch": { ...EVERYONE, longLived: true },
  "grpc.reflection.v1.ServerReflection.ServerReflectionInfo": { ...EVERYONE, longLived: true },
  "grpc.reflection.v1alpha.ServerReflection.ServerReflectionInfo": { ...EVERYONE, longLived: true },
};

/** methodRule reads the access rule of an RPC, or undefined if its schema states none: such an RPC must not be served. */
export function methodRule(method: DescMethod): AccessRule | undefined {
  const foreign = FOREIGN_RULES[`${method.parent.typeName}.${method.name}`];
  if (foreign !== undefined) return foreign;
  return hasOption(method, access) ? toRule(getOption(method, access)) : undefined;
}

/** requireMethodRule is `methodRule` that throws: start-up fails for an RPC without a rule. */
export function requireMethodRule(method: DescMethod): AccessRule {
  const rule = methodRule(method);
  if (rule === undefined)
    throw fail("ACCESS_DENIED", `${method.parent.typeName}.${method.name} has no (foedus.common.v1.access) option; state who may call it`);
  return rule;
}

const frameRules = new WeakMap<DescMessage, AccessRule>();

/** frameRule reads the `frame_access` rule of a session frame (cached), or undefined if it states none: such a frame is denied. */
export function frameRule(message: DescMessage): AccessRule | undefined {
  const known = frameRules.get(message);
  if (known !== undefined || !hasOption(message, frame_access)) return known;
  const rule = toRule(getOption(message, frame_access));
  frameRules.set(message, rule);
  return rule;
}

/** Principals is the part of a caller that access depends on. */
export type Principals = Pick<Caller, "kind" | "level" | "role">;

function denial(kind: string, rule: AccessRule | undefined): string {
  const may = [...(rule?.principals ?? [])].map(withArticle);
  const who = may.length === 0 ? "" : `; it takes ${listed(may, "or")}`;
  return `${withArticle(kind)} may not do this${who}`;
}

/**
 * authorise decides whether a caller may use an RPC or a frame: undefined for yes. An unknown rule is a denial.
 * It is the only place where access is decided, on both ends of a session (S0-4).
 */
export function authorise(caller: Principals, rule: AccessRule | undefined): Failure | undefined {
  if (rule === undefined || !rule.principals.has(caller.kind))
    return { reason: "ACCESS_DENIED", message: denial(caller.kind, rule), facts: { kind: caller.kind } };
  if (caller.kind === "peer" && rule.anyTrust !== true && (rule.minTrust === 0 || caller.level < rule.minTrust)) {
    const facts = { level: String(caller.level), needed: String(rule.minTrust) };
    return { reason: "TRUST_TOO_LOW", message: `this needs trust level ${rule.minTrust} and yours is ${caller.level}`, facts };
  }
  if (caller.kind === "operator" && caller.role < rule.minRole) {
    const [needed, role] = [rule.minRole > OperatorRole.VIEWER ? "admin" : "viewer", caller.role > 0 ? "viewer" : "metrics"];
    return { reason: "ACCESS_DENIED", message: `this needs an operator with the role ${needed}`, facts: { role } };
  }
  return undefined;
}
