export * from "./command-stream.ts";
export * from "./registry-client.ts";
