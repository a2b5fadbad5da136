export * from "./client.ts";
export { FULL_SHARE, type RegistrySyncConfig, registrySyncConfig } from "./config.ts";
export type { NodeRule, ShareRules } from "./messages.ts";
export { createRegistrySync, type RegistrySync, type RegistrySyncOptions, type RegistrySyncPorts } from "./module.ts";
export { grantsOf } from "./share/grants.ts";
export type { AutomationPort, StateChange } from "./shell/automation.ts";
