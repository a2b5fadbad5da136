export { DOOR, type DoorConfig, type End, type Note } from "./core.ts";
export { type Door, type DoorOptions, openDoor } from "./door.ts";
export { type GuestOptions, introduce } from "./guest.ts";
export { decodeInvite, encodeInvite, type Invite, isHost, newPin, newSecret, PIN_PATTERN } from "./invite.ts";
export type { Candidate, OwnOffer } from "./offer.ts";
