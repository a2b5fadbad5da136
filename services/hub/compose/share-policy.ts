import type { PeerSource, PeerView } from "#runtime/peers.ts";
import type { SharePolicy, SharePolicySource } from "../../command-forwarding/index.ts";
import { matchesPattern, ruleFor, sharesOf } from "../../registry-sync/index.ts";
import type { HubConfig } from "../config.ts";
import type { LiveConfig } from "../files/live-config.ts";
import type { DirectoryFeed } from "./directory.ts";

/**
 * createSharePolicy turns the rules of the shares into the question that command-forwarding asks as an owner: may this peer invoke
 * that capability of this node of ours, or at least know of the node? Seeing a node is not the right to invoke it. The share `full` allows everything. The answer
 * follows the peers and the configuration.
 */
export function createSharePolicy(
  live: Pick<LiveConfig, "current" | "onChange">,
  peers: PeerSource,
  directory: Pick<DirectoryFeed, "node">,
): SharePolicySource {
  const policyFor = ({ hub_id: hubId, registry_sync }: HubConfig, views: readonly PeerView[]): SharePolicy => {
    const rulesByShare = new Map(sharesOf(registry_sync).map((share) => [share.name, share.rules]));
    const shareOf = new Map(views.map((view) => [view.hubId, view.share]));
    return (peerHubId, nodeId, capability) => {
      const share = shareOf.get(peerHubId) ?? "";
      if (share === "full") return "invoke";
      const rules = rulesByShare.get(share);
      const node = directory.node(hubId, nodeId);
      const rule = rules === undefined || node === undefined ? undefined : ruleFor(rules, node.info);
      if (rule === undefined) return "none";
      const matches = (patterns: readonly string[]): boolean => patterns.some((pattern) => matchesPattern(pattern, capability));
      return matches(rule.capabilities) && matches(rule.invoke) ? "invoke" : "see";
    };
  };
  return {
    subscribe: (listener) => {
      let over = false;
      live.onChange((config) => {
        if (!over) listener(policyFor(config, peers.current()));
      });
      const end = peers.subscribe("command-forwarding", (views) => listener(policyFor(live.current, views)));
      return () => {
        over = true;
        end();
      };
    },
  };
}
