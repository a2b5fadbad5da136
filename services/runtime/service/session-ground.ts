import type { DescMethodBiDiStreaming } from "@bufbuild/protobuf";
import { Prng } from "#kernel/prng.ts";
import type { PeerLinksOptions } from "../sessions/peer-links-api.ts";
import type { Platform } from "./module.ts";

/** SessionGround is what the sessions of every service stand on. */
export type SessionGround = Pick<
  PeerLinksOptions<never>,
  "method" | "hubId" | "incarnation" | "packages" | "software" | "clock" | "prng" | "log" | "events" | "metrics"
>;

/**
 * sessionGround takes from the platform what the sessions of a service, named by its Session RPC, are made with. Of the packages that
 * the hub speaks only versions of the service's own count: a peer that speaks none of them gets UPGRADE_NEEDED.
 */
export function sessionGround(platform: Platform, method: DescMethodBiDiStreaming): SessionGround {
  const { hubId, incarnation, software, clock, entropy, log, events, metrics } = platform;
  const anyVersion = method.parent.file.proto.package.replace(/[^.]+$/, "");
  const packages = platform.packages.filter((name) => name.startsWith(anyVersion));
  return { method, hubId, incarnation, packages, software, clock, prng: new Prng(entropy.seed()), log, events, metrics };
}
