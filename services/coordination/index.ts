export { type Verdict, verifyCertificate } from "./ballots/certificate.ts";
export { actionText } from "./codec/ballot-views.ts";
export type { CoordinationConfig } from "./config.ts";
export { heldReplica } from "./formation/held.ts";
export { type Held, mayServe, type Seat, type SeatFacts, seatOf, type Word } from "./liveness/fences.ts";
export { type CoordinationOptions, createCoordination, type Dialled } from "./module.ts";
