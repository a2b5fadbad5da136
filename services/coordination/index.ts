export { type Verdict, verifyCertificate } from "./ballots/certificate.ts";
export type { CoordinationConfig } from "./config.ts";
export { type CoordinationOptions, createCoordination } from "./module.ts";
