export type { CommandOutcome, CommandRequest, ValueInit } from "./codec/request.ts";
export { type CommandForwardingConfig, commandForwardingConfig } from "./config.ts";
export type { AgentPlaces, CapabilityInfo, DirectoryChange, SharePolicy } from "./messages.ts";
export {
  type CommandForwarding,
  type CommandForwardingOptions,
  type CommandForwardingPorts,
  createCommandForwarding,
  type FederationPorts,
} from "./module.ts";
export type { AgentPlacesSource, AuditSink, DirectorySource, NodeTable, PresenceSink, SharePolicySource, TableNode } from "./ports.ts";
export type { AutomationPort, LocalCommandHandler, LocalTask } from "./shell/automation.ts";
