// The A2A adapter: agents of the Agent2Agent protocol as nodes of a hub, and agents of other hubs for local agents.
export { keysOf, signerOf } from "./card.ts";
export { A2A_CONFIG, type A2aConfig, configProblems } from "./config.ts";
export { Imported, type ImportOptions } from "./imported.ts";
export { Serving } from "./serving.ts";
