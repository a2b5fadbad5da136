// The MCP server of a hub: tools for agents, over stdio and HTTP, on top of the SDK.
export { Gate } from "./gate.ts";
export { type HttpListener, type HttpOptions, serveHttp } from "./http.ts";
export { isLoopback, TOKEN_MIN_CHARS } from "./http-guard.ts";
export { Keys } from "./keys.ts";
export { createServer, type ServerParts } from "./server.ts";
export { serveOverStdio } from "./stdio.ts";
export type { Caller } from "./tool.ts";
