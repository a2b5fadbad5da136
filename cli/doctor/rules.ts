import { isNodeId } from "#kernel/node-name.ts";
import { nearest } from "#runtime/config/shape.ts";
import type { HubConfig } from "../../services/hub/index.ts";
import { toCliError } from "../exit.ts";
import { count } from "../print/format.ts";
import { COMPARED_MAX, nodesLike } from "../reach/candidates.ts";
import type { Connection } from "../reach/connect.ts";
import type { Finding, Ledger } from "./ledger.ts";

/** A pattern for node ids in a rule, and where it stands. */
interface IdPattern {
  readonly pattern: string;
  /** "share limited", or "imports". */
  readonly of: string;
}

type Rules = Pick<HubConfig, "registry_sync">;

/** Ids that no node has which are compared with those that are there: each takes a tenth of a second with 5,000 nodes. */
const LOOKED_UP_MAX = 20;

type Selector = string | { readonly ids: readonly string[] };

const patternsIn = (of: string, nodes: readonly Selector[]): IdPattern[] =>
  nodes.flatMap((selector) => (typeof selector === "string" ? [selector] : selector.ids).map((pattern) => ({ pattern, of })));

function sharePatterns({ registry_sync: { shares } }: Rules): IdPattern[] {
  return Object.entries(shares).flatMap(([name, { nodes }]) => patternsIn(`share ${name}`, nodes));
}

/** isPossible tells whether a pattern can match the id of some node. */
function isPossible(pattern: string): boolean {
  const least = pattern.replaceAll("*", "");
  return least === "" || isNodeId(least);
}

/** lookAtRules looks for rules that no node can ever match: tables show nodes with their hub, and rules are written without it. */
export function lookAtRules(ledger: Ledger, config: HubConfig): void {
  const imports = config.registry_sync.imports?.nodes ?? [];
  for (const { pattern, of } of [...sharePatterns(config), ...patternsIn("imports", imports)])
    ledger.look(!isPossible(pattern) && impossible(pattern, of, config.hub_id));
}

function impossible(pattern: string, of: string, hubId: string): Finding {
  const slash = pattern.indexOf("/");
  const id = pattern.slice(slash + 1);
  const foreign = slash > 0 && of !== "imports" && pattern.slice(0, slash) !== hubId;
  const found = { severity: "warning", check: "setting", subject: of } as const;
  const what = of === "imports" ? `rule ${pattern} of the imports` : `rule ${pattern} of ${of}`;
  if (slash < 0)
    return { ...found, message: `${what} selects no node: no node has such an id`, fix: "Write the id of a node, see `foedus nodes`." };
  return {
    ...found,
    message: `${what} selects no node; ids in rules are without the hub: ${id}`,
    fix: foreign ? "A share has nodes of this hub only: remove the rule, or name one of them." : `Write ${id} in the configuration.`,
  };
}

/** askRuleNodes asks the running hub for its nodes, if rules name some, and judges the rules. */
export async function askRuleNodes(ledger: Ledger, connection: Connection, config: HubConfig, signal: AbortSignal): Promise<void> {
  if (literalIds(config).length === 0) return;
  try {
    const names = await nodesLike(connection, config.hub_id, signal);
    lookAtRuleNodes(
      ledger,
      config,
      names.map((name) => name.slice(name.indexOf("/") + 1)),
    );
  } catch (error) {
    ledger.skip(`ids in rules of shares: ${toCliError(error, () => "").message}`);
  }
}

/** literalIds lists the ids that rules of shares name without a wildcard. */
function literalIds(config: Rules): IdPattern[] {
  return sharePatterns(config).filter(({ pattern }) => !pattern.includes("*") && isPossible(pattern));
}

/**
 * lookAtRuleNodes compares the ids that rules name with the nodes of this hub. A rule for a node that is yet to come is in order, so that
 * only what is probably a slip is a finding. Names that differ in their numbers only are none.
 */
export function lookAtRuleNodes(ledger: Ledger, config: HubConfig, nodeIds: readonly string[]): void {
  const named = literalIds(config);
  if (named.length > 0 && nodeIds.length >= COMPARED_MAX)
    return ledger.skip("ids in rules of shares: this hub has too many nodes to compare");
  const present = new Set(nodeIds);
  const bare = (id: string): string => id.replace(/\d+/g, "");
  let compared = 0;
  for (const { pattern, of } of named) {
    if (present.has(pattern)) {
      ledger.look(undefined);
      continue;
    }
    if (compared++ === LOOKED_UP_MAX) ledger.skip(`further ids in rules of shares: more than ${LOOKED_UP_MAX} select no node`);
    if (compared > LOOKED_UP_MAX) continue;
    const near = nearest(pattern, nodeIds);
    const message = `rule ${pattern} of ${of} selects none of the ${count(nodeIds.length, "node")} of this hub`;
    if (ledger.look(near !== undefined && bare(near) !== bare(pattern) && slip(of, message, near))) ledger.note(message);
  }
}

function slip(of: string, message: string, near: string): Finding {
  const fix = `If ${near} is meant, write that in the configuration; if the node is yet to come, leave it.`;
  return { severity: "warning", check: "setting", subject: of, message: `${message}; did you mean ${near}?`, fix };
}
