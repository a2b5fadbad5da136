export { FULL_SHARE, type RegistrySyncConfig, registrySyncConfig, sharesOf } from "./config.ts";
export type { NodeRule, ShareRules } from "./messages.ts";
export { createRegistrySync, type RegistrySync, type RegistrySyncOptions, type RegistrySyncPorts } from "./module.ts";
export { matchesPattern, ruleFor } from "./share/share.ts";
export type { AutomationPort } from "./shell/automation.ts";
export type { StateChange } from "./table/changes.ts";
