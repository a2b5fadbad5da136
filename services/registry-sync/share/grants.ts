import { FULL_SHARE, type RegistrySyncConfig, sharesOf } from "../config.ts";
import type { NodeSummary } from "../ports.ts";
import { type Grant, grantOf } from "./share.ts";

/**
 * grantsOf is the evaluator of all configured shares, for whoever asks from outside what a share grants: by the same rules as what it
 * shows. A share that is not defined grants nothing, nor does a node that nobody knows; only `full` does not ask for the node.
 */
export function grantsOf(config: RegistrySyncConfig): (share: string, node: () => NodeSummary | undefined, capability: string) => Grant {
  const rulesByShare = new Map(sharesOf(config).map(({ name, rules }) => [name, rules]));
  return (share, node, capability) => {
    if (share === FULL_SHARE) return "invoke";
    const rules = rulesByShare.get(share);
    const info = rules === undefined ? undefined : node();
    return rules === undefined || info === undefined ? "none" : grantOf(rules, info, capability);
  };
}
