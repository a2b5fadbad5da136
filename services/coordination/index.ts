export { type Verdict, verifyCertificate } from "./ballots/certificate.ts";
export { actionText } from "./codec/ballot-views.ts";
export type { CoordinationConfig } from "./config.ts";
export { replicaProblem } from "./formation/held.ts";
export { type Seat, type SeatFacts, seatOf, type Word } from "./liveness/fences.ts";
export { type CoordinationOptions, createCoordination, type Dialled } from "./module.ts";
