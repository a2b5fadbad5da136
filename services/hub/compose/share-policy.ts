import type { PeerSource, PeerView } from "#runtime/peers.ts";
import type { SharePolicy, SharePolicySource } from "../../command-forwarding/index.ts";
import { FULL_SHARE, type RegistrySyncConfig, rightTo, ruleFor, sharesOf } from "../../registry-sync/index.ts";
import type { Live } from "../wiring.ts";
import type { Directory } from "./directory.ts";

/** ShareSettings are what of the configuration shares depend on. */
export interface ShareSettings {
  readonly hub_id: string;
  readonly registry_sync: RegistrySyncConfig;
}

/**
 * createSharePolicy puts to registry-sync's own evaluator of shares what command-forwarding asks as an owner: may this peer invoke that
 * capability of this node of ours, or at least know of the node? Seeing a node is not the right to invoke it. The answer follows the peers
 * and the configuration.
 */
export function createSharePolicy(live: Live<ShareSettings>, peers: PeerSource, directory: Pick<Directory, "node">): SharePolicySource {
  const policyFor = ({ hub_id: hubId, registry_sync }: ShareSettings, views: readonly PeerView[]): SharePolicy => {
    const rulesByShare = new Map(sharesOf(registry_sync).map((share) => [share.name, share.rules]));
    const shareOf = new Map(views.map((view) => [view.hubId, view.share]));
    return (peerHubId, nodeId, capability) => {
      const share = shareOf.get(peerHubId) ?? "";
      if (share === FULL_SHARE) return "invoke";
      const rules = rulesByShare.get(share);
      const node = rules === undefined ? undefined : directory.node(hubId, nodeId);
      const rule = rules === undefined || node === undefined ? undefined : ruleFor(rules, node.info);
      if (rule === undefined) return "none";
      return rightTo(rule, capability) === "invoke" ? "invoke" : "see";
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
