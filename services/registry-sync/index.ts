export { FULL_SHARE, importsOf, type RegistrySyncConfig, registrySyncConfig, sharesOf } from "./config.ts";
export { feedProblem } from "./feed/held-feed.ts";
export type { NodeRule, ShareRules } from "./messages.ts";
export { createRegistrySync, type RegistrySync, type RegistrySyncOptions, type RegistrySyncPorts } from "./module.ts";
export type { RegistryNode, RegistryNodes } from "./read/nodes.ts";
export {
  type Because,
  type CapabilityAccess,
  explainImport,
  explainShare,
  type ImportDecision,
  type NodeAccess,
  type Offered,
} from "./share/explain.ts";
export { type RuleField, rightTo, ruleFor } from "./share/share.ts";
export type { AutomationPort } from "./shell/automation.ts";
export type { StateChange } from "./table/changes.ts";
