import type { Core, Effect as CoreEffect } from "#kernel/core.ts";
import type { Now } from "#kernel/instant.ts";
import type { CommandEffect } from "../../services/command-forwarding/messages.ts";
import type { Effect as RegistryEffect } from "../../services/registry-sync/messages.ts";

/** Look is told what goes into a core and what comes out, and changes nothing. */
export interface Look<I, E> {
  before?(input: I | undefined): void;
  output(effect: E): void;
}

/** lookAt puts an onlooker before a core. */
export function lookAt<I, E extends CoreEffect>(core: Core<I, E>, look: Look<I, E>): Core<I, E> {
  const told = (from: number, out: E[]): void => {
    for (let i = from; i < out.length; i++) look.output(out[i] as E);
  };
  return {
    step: (now: Now, input: I, out: E[]) => {
      const from = out.length;
      look.before?.(input);
      core.step(now, input, out);
      told(from, out);
    },
    tick: (now: Now, out: E[]) => {
      const from = out.length;
      look.before?.(undefined);
      core.tick(now, out);
      told(from, out);
    },
    deadline: () => core.deadline(),
    describe: () => core.describe(),
  };
}

/** nameOfRegistry names an effect of a registry in the trace; undefined for what is not worth a line. */
export function nameOfRegistry(effect: RegistryEffect): string | undefined {
  if (effect.kind === "persist") return undefined;
  if (effect.kind === "observe") return effect.event;
  return effect.kind === "send" ? `send ${effect.frame.type}` : effect.kind;
}

/** nameOfCommands names an effect of a command service. */
export function nameOfCommands(effect: CommandEffect): string | undefined {
  return effect.kind === "persist" || effect.kind === "observe" ? undefined : effect.kind;
}
