import type { NodeRule, PeerShare, ShareRules } from "../messages.ts";
import type { NodeSummary } from "../ports.ts";
import { decidingAt, missOf, type NoShare, noShareOf, type Right, type RuleField, rightTo } from "./share.ts";

/** Offered is a node of this hub as it was registered. */
export interface Offered {
  readonly info: NodeSummary;
  readonly capabilities: readonly { readonly name: string; readonly invocable: boolean }[];
  /** Keys of its state, of capabilities and others. */
  readonly keys: readonly string[];
}

/** Because is what decides about a node: why the peer has no share, that its share is `full`, a rule, or that no rule selects the node. */
export type Because = NoShare | "full" | "rule" | "no-rule";

/** CapabilityAccess is what a peer may do with one capability, or with one key of the state. */
export interface CapabilityAccess {
  readonly name: string;
  readonly right: Right;
  /** False if the node itself does not take commands for it, whatever the rule says. */
  readonly invocable: boolean;
}

/** NodeAccess is what a peer may do with a node, and why. */
export interface NodeAccess {
  readonly because: Because;
  /** Index of the rule that decides; -1 if none does. */
  readonly at: number;
  /** Of each rule before that one, or of all if none decides, the first field that the node does not fit. */
  readonly missed: readonly RuleField[];
  readonly shown: boolean;
  /** Capabilities first, then further keys of the state, which nobody invokes. */
  readonly capabilities: readonly CapabilityAccess[];
}

/** missedBy lists, for the rules up to the one that decides, the first field that a node does not fit. */
function missedBy(rules: readonly NodeRule[], info: NodeSummary, at: number): RuleField[] {
  return rules.slice(0, at < 0 ? undefined : at).flatMap((rule) => missOf(rule, info) ?? []);
}

/**
 * explainShare says what a peer may see and invoke of a node, and why, by the functions that the exporter and the command door use.
 * `shares` are those of the configuration, without `full`.
 */
export function explainShare(peer: Pick<PeerShare, "level" | "share">, shares: readonly ShareRules[], node: Offered): NodeAccess {
  const rules = shares.find(({ name }) => name === peer.share)?.rules;
  const closed = noShareOf(peer, () => rules !== undefined);
  const names = [...node.capabilities, ...otherKeys(node)];
  const nothing = names.map(({ name, invocable }): CapabilityAccess => ({ name, right: "none", invocable }));
  if (closed !== undefined) return { because: closed, at: -1, missed: [], shown: false, capabilities: nothing };
  if (rules === undefined || peer.share === "full")
    return { because: "full", at: -1, missed: [], shown: true, capabilities: rightsOf(undefined, names) };
  const at = decidingAt(rules, node.info);
  const rule = rules[at];
  const shown = rule?.allow === true;
  return {
    because: rule === undefined ? "no-rule" : "rule",
    at,
    missed: missedBy(rules, node.info, at),
    shown,
    capabilities: shown ? rightsOf(rule, names) : nothing,
  };
}

function otherKeys({ capabilities, keys }: Offered): { readonly name: string; readonly invocable: boolean }[] {
  const known = new Set(capabilities.map(({ name }) => name));
  return keys.filter((key) => !known.has(key)).map((name) => ({ name, invocable: false }));
}

function rightsOf(
  rule: NodeRule | undefined,
  names: readonly { readonly name: string; readonly invocable: boolean }[],
): CapabilityAccess[] {
  return names.map(({ name, invocable }) => {
    const right = rightTo(rule, name);
    return { name, invocable, right: right === "invoke" && !invocable ? "see" : right };
  });
}

/** ImportDecision is whether a node of a peer is taken in, and why. */
export interface ImportDecision {
  readonly taken: boolean;
  /** Index of the rule that decides; -1 if none does. */
  readonly at: number;
  readonly missed: readonly RuleField[];
}

/** explainImport says whether a node of a peer is taken in. Without rules everything is. */
export function explainImport(rules: readonly NodeRule[] | undefined, info: NodeSummary): ImportDecision {
  if (rules === undefined) return { taken: true, at: -1, missed: [] };
  const at = decidingAt(rules, info);
  return { taken: rules[at]?.allow === true, at, missed: missedBy(rules, info, at) };
}
