import type { Members } from "../../members/members.ts";

/**
 * askerProblem says why a hub moves no agent away because another one asks for it, or undefined. Who takes an agent in reads all that it is: where
 * members may lie, each could ask for every agent of the others, and only the hub that has one says where it goes.
 */
export function askerProblem(members: Pick<Members, "founding">, owner: string, by: string): string | undefined {
  if (owner === by || members.founding?.founding.engine !== "bft") return undefined;
  return `${owner} moves its agents itself, as members of this federation may lie; ask for the move there`;
}
