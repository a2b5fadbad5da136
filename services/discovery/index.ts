export { dialledAt } from "./codec.ts";
export { type DiscoveryConfig, discoveryConfigOf } from "./config.ts";
export type { Address, DialledMember, ServiceEndpoint } from "./messages.ts";
export { createDiscovery, type Discovery, type DiscoveryOptions, type DiscoveryServicePorts } from "./module.ts";
export type { DialRequest, SeatPort } from "./ports.ts";
export {
  DEFAULT_PORT,
  type Federation,
  type FederationOptions,
  loadFederation,
  NO_FEDERATION,
  parseFederation,
  parseSeeds,
} from "./sources/federation.ts";
