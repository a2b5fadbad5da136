import type { Now } from "#kernel/instant.ts";
import type { FederationState } from "./federation-state.ts";

/** How soon a digest is made again once the state has changed, ms. */
const AGAIN_MS = 1_000;
const NONE = new Uint8Array();

/** StateDigest compares the state with those of other hubs. All of the state is read for it, so it is made once for a position, and not often. */
export class StateDigest {
  readonly #make: (state: FederationState) => Uint8Array;
  #made: { readonly index: number; readonly at: number; readonly digest: Uint8Array } | undefined;

  constructor(make: (state: FederationState) => Uint8Array) {
    this.#make = make;
  }

  /** of gives the digest of a state; empty if that of another position was made less than a second ago. */
  of(state: FederationState, { mono }: Now): Uint8Array {
    const made = this.#made;
    if (made?.index === state.at.index) return made.digest;
    if (made !== undefined && mono - made.at < AGAIN_MS) return NONE;
    const digest = this.#make(state);
    this.#made = { index: state.at.index, at: mono, digest };
    return digest;
  }
}
