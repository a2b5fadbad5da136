/** isOwn tells the principals that operate this hub from nodes and gateways: the last part of a room is theirs. */
export function isOwn(principal: string): boolean {
  return !principal.includes("/node/") && !principal.includes("/gateway/");
}
