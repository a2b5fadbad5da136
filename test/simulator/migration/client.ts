import { AGENT, type World } from "./world.ts";

/** Client sends one command after the other to the agent, to wherever it was told that it is, until each has its answer. */
export class Client {
  readonly #world: World;
  #serial: number;
  #at = "home";
  /** Where it was told to go. */
  redirected = 0;
  delayed = 0;

  constructor(world: World, first: number) {
    this.#world = world;
    this.#serial = first;
    this.#next();
  }

  #next(): void {
    this.#world.after(1 + this.#world.prng.below(30), () => this.#send());
  }

  #send(): void {
    const serial = this.#serial;
    let over = false;
    const again = (): void => {
      if (over) return;
      over = true;
      this.delayed++;
      this.#next();
    };
    this.#world.after(200, again);
    const hub = this.#world.hub(this.#at);
    if (!hub.hears || this.#world.prng.chance(this.#world.loss)) return;
    this.#world.after(this.#world.delay(4), () => {
      if (!hub.hears) return;
      hub.command(AGENT, {
        serial,
        answer: (outcome) => {
          if (over || this.#world.prng.chance(this.#world.loss)) return;
          if (outcome === "retry") return again();
          over = true;
          if (outcome === "done") this.#serial++;
          else {
            this.#at = outcome.moved;
            this.redirected++;
          }
          this.#next();
        },
      });
    });
  }
}
