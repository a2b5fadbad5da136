export { type TelemetryConfig, telemetryConfig } from "./config.ts";
export { createTelemetry } from "./module.ts";
