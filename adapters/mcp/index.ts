// The MCP server of a hub: tools for agents, over stdio and HTTP, on top of the SDK.
export { Gate } from "./gate.ts";
export { type HttpListener, serveHttp } from "./http.ts";
export { Keys } from "./keys.ts";
export { createServer, type ServerParts } from "./server.ts";
export { serveOverStdio } from "./stdio.ts";
export type { Caller } from "./tool.ts";
