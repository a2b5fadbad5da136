import type { EngineEffect, EngineInput, LogEngine } from "../../../../services/coordination/log/engine.ts";

/** Bend says how an engine is wrong from the outside. */
export interface Bend<F> {
  /** What goes in instead. */
  readonly input?: (input: EngineInput<F>, engine: LogEngine<F>) => readonly EngineInput<F>[];
  /** What comes out of a step instead. */
  readonly output?: (effects: readonly EngineEffect<F>[]) => readonly EngineEffect<F>[];
}

/** bend wraps an engine. */
export function bend<F>(engine: LogEngine<F>, { input, output }: Bend<F>): LogEngine<F> {
  const through = (out: EngineEffect<F>[], run: (inner: EngineEffect<F>[]) => void): void => {
    const inner: EngineEffect<F>[] = [];
    run(inner);
    out.push(...(output?.(inner) ?? inner));
  };
  return {
    step: (now, given, out) => {
      for (const one of input?.(given, engine) ?? [given]) through(out, (inner) => engine.step(now, one, inner));
    },
    tick: (now, out) => through(out, (inner) => engine.tick(now, inner)),
    deadline: () => engine.deadline(),
    status: (now) => engine.status(now),
    time: (now) => engine.time(now),
    describe: () => engine.describe(),
  };
}
