import { LOG_MAX } from "../members/messages.ts";

/** Up to here a number is believed of any member: no hub comes near it by itself. */
const BELIEVED_MAX = LOG_MAX / 2;
/** How far a number may be beyond those that this hub has used; by itself it draws the next one within 2^32. */
const BEYOND_MAX = 2 ** 40;

/**
 * numberProblem says why this hub does not go on with the number that a peer names as the next one of its replica, or undefined. `used` is the
 * largest that it knows to have used. Numbers have an end, and who lets a liar lead it there has none left for any other federation.
 */
export function numberProblem(peer: string, named: number, used: number): string | undefined {
  const most = Math.min(Math.max(BELIEVED_MAX, used + BEYOND_MAX), LOG_MAX - BEYOND_MAX);
  if (named <= most) return undefined;
  return `${peer} wants this hub to go on with replica ${named}, which it can hardly have reached; ask another member`;
}
