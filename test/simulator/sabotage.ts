// Cores that are wrong on purpose: each breaks one promise, and one checker must notice. Used by simulator.spec.ts only.
import type { Core, Effect } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import type { OnResult } from "../../clients/typescript/command-stream.ts";
import { NO_VALUE, OUTCOME, type Reply, type Result } from "../../services/command-forwarding/messages.ts";
import type { ChangeEvent } from "../../services/registry-sync/messages.ts";
import { Checkpointer } from "../../services/registry-sync/table/checkpoint.ts";
import { TelemetryCore } from "../../services/telemetry/core.ts";
import type { Sabotage } from "./host.ts";

/** bend wraps a core: `input` may change or swallow what goes in, `output` may change, add or drop what comes out. */
export function bend<I, E extends Effect>(
  core: Core<I, E>,
  change: { readonly input?: (input: I) => I | undefined; readonly output?: (effect: E) => readonly E[] },
): Core<I, E> {
  const { input = (same) => same, output } = change;
  const through = (out: E[], run: (inner: E[]) => void): void => {
    const inner: E[] = [];
    run(inner);
    for (const effect of inner) out.push(...(output?.(effect) ?? [effect]));
  };
  return {
    step: (now: Now, given: I, out: E[]) => {
      const taken = input(given);
      if (taken !== undefined) through(out, (inner) => core.step(now, taken, inner));
    },
    tick: (now: Now, out: E[]) => through(out, (inner) => core.tick(now, inner)),
    deadline: () => core.deadline(),
    describe: () => core.describe(),
  };
}

/** Acknowledges what it does not take. */
export const lyingAcks: Sabotage = {
  registry: (core) => {
    let taken = 0;
    return {
      ...bend(core, {}),
      step: (now, input, out) => {
        if (input.kind === "updates" && ++taken % 2 === 0) out.push({ kind: "acked", stream: input.stream, upTo: input.seq });
        else core.step(now, input, out);
      },
    };
  },
};

/** Answers before what it says is durable: the store never hears of some of it. */
export const forgetfulStore: Sabotage = {
  registry: (core) => {
    let appended = 0;
    const keep = (op: { readonly op: string; readonly log?: string }): boolean =>
      !(op.op === "append" && op.log?.startsWith("own/full/") === true && ++appended > 6);
    return bend(core, { output: (effect) => (effect.kind === "persist" ? [{ ...effect, ops: effect.ops.filter(keep) }] : [effect]) });
  },
};

/** deafImporter never applies a segment. */
export const deafImporter: Sabotage = {
  registry: (core, hub) =>
    bend(core, { input: (input) => (hub === 0 && input.kind === "frame" && input.frame.type === "segment" ? undefined : input) }),
};

/** Shows every peer everything. */
export const openHouse: Sabotage = {
  registry: (core) =>
    bend(core, {
      input: (input) => (input.kind === "peers" ? { ...input, peers: input.peers.map((peer) => ({ ...peer, share: "full" })) } : input),
    }),
};

/** Brings a removed or replaced node back to watchers as it was first. */
export const necromancer: Sabotage = {
  registry: (core) => {
    const first = new Map<string, ChangeEvent>();
    return bend(core, {
      output: (effect) => {
        if (effect.kind !== "watch_send") return [effect];
        const again: ChangeEvent[] = [];
        for (const push of effect.pushes) {
          if (push.kind !== "events") continue;
          for (const event of push.events) {
            const name = `${event.name.hubId}/${event.name.nodeId}`;
            const known = first.get(name);
            if (event.change.kind !== "put") continue;
            if (known === undefined) first.set(name, event);
            else again.push(known);
          }
        }
        return [{ ...effect, pushes: [...effect.pushes, { kind: "events", events: again }] }];
      },
    });
  },
};

/** Does not tell watchers of removals. */
export const mutedWatch: Sabotage = {
  registry: (core) =>
    bend(core, {
      output: (effect) => {
        if (effect.kind !== "watch_send") return [effect];
        const pushes = effect.pushes.map((push) =>
          push.kind === "events" ? { ...push, events: push.events.filter(({ change }) => change.kind !== "removed") } : push,
        );
        return [{ ...effect, pushes }];
      },
    }),
};

/** Does not tell watchers that a node came, only what becomes of it. */
export const absentee: Sabotage = {
  registry: (core) =>
    bend(core, {
      output: (effect) => {
        if (effect.kind !== "watch_send") return [effect];
        const pushes = effect.pushes.map((push) =>
          push.kind === "events" ? { ...push, events: push.events.filter(({ change }) => change.kind !== "put") } : push,
        );
        return [{ ...effect, pushes }];
      },
    }),
};

/** Keeps every segment for ever. */
export const hoarder: Sabotage = {
  registry: (core) =>
    bend(core, {
      output: (effect) => (effect.kind === "persist" ? [{ ...effect, ops: effect.ops.filter(({ op }) => op !== "trim") }] : [effect]),
    }),
};

/** Gives each task to its executor twice. */
export const stutter: Sabotage = {
  commands: (core) =>
    bend(core, {
      output: (effect) => {
        if (effect.kind !== "tasks") return [effect];
        // Under another number: the executor of the SDK refuses one that it has.
        const again = effect.items.map((task) => ({ ...task, taskId: task.taskId + 1_000_000 }));
        return [{ ...effect, items: [...effect.items, ...again] }];
      },
    }),
};

/** Gives tasks to another node of the same executor, which refuses those of others. */
export const misdirection: Sabotage = {
  commands: (core) =>
    bend(core, {
      output: (effect) =>
        effect.kind === "tasks"
          ? [{ ...effect, items: effect.items.map((task) => ({ ...task, nodeId: task.nodeId === "n0" ? "n1" : "n0" })) }]
          : [effect],
    }),
};

/** Says DONE whatever happened, with the value that a true executor would have answered. */
export const flattery: Sabotage = {
  commands: (core) => {
    const values = new Map<number, Uint8Array>();
    return bend(core, {
      input: (input) => {
        if (input.kind === "execute") for (const { corr, value } of input.commands) values.set(corr, value);
        return input;
      },
      output: (effect) => {
        if (effect.kind !== "reply") return [effect];
        return [{ ...effect, result: { outcome: OUTCOME.DONE, value: values.get(effect.corr) ?? NO_VALUE, failure: undefined } }];
      },
    });
  },
};

/** Says of what it did that it came too late for it. */
export const denial: Sabotage = {
  commands: (core) =>
    bend(core, {
      output: (effect) =>
        effect.kind === "reply" && effect.result.outcome === OUTCOME.DONE
          ? [{ ...effect, result: { ...effect.result, outcome: OUTCOME.EXPIRED } }]
          : [effect],
    }),
};

/** Gives two callers each other's values. */
export const crossed: Sabotage = {
  commands: (core) => {
    let held: Reply | undefined;
    return bend(core, {
      output: (effect) => {
        if (effect.kind !== "reply" || effect.result.outcome !== OUTCOME.DONE) return [effect];
        const first = held;
        held = first === undefined ? effect : undefined;
        if (first === undefined) return [];
        return [
          { ...first, result: { ...first.result, value: effect.result.value } },
          { ...effect, result: { ...effect.result, value: first.result.value } },
        ];
      },
    });
  },
};

/** Answers each call twice. */
export const echo: Sabotage = {
  commands: (core) => bend(core, { output: (effect) => (effect.kind === "reply" ? [effect, effect] : [effect]) }),
};

/** Says something else when it is asked again. */
export const fickle: Sabotage = {
  commands: (core) =>
    bend(core, {
      output: (effect) =>
        effect.kind === "reply" && effect.replayed ? [{ ...effect, result: { ...effect.result, outcome: OUTCOME.FAILED } }] : [effect],
    }),
};

/** Never hears a hello, so that no link is ever good enough. */
export const unmoved: Sabotage = {
  commands: (core) => bend(core, { input: (input) => (input.kind === "results" && input.frame.items.length === 0 ? undefined : input) }),
};

/** Answers nobody. */
export const silence: Sabotage = {
  commands: (core) => bend(core, { output: (effect) => (effect.kind === "reply" ? [] : [effect]) }),
};

/** Fails an assertion. */
export const bug: Sabotage = {
  commands: (core) =>
    bend(core, {
      input: (input) => {
        if (input.kind === "execute") throw new Error("this core is broken on purpose");
        return input;
      },
    }),
};

/** Wants to be called again at once, for ever. */
export const spin: Sabotage = {
  commands: (core, hub) => (hub === 0 ? { ...bend(core, {}), deadline: () => 0 } : core),
};

/** F-15, as it was: it says that a share is forgotten, and keeps what it has of it. */
export const keepsake: Sabotage = {
  registry: (core) =>
    bend(core, {
      output: (effect) =>
        effect.kind === "persist" ? [{ ...effect, ops: effect.ops.filter((op) => !(op.op === "delete" || op.op === "drop")) }] : [effect],
    }),
};

/** F-16, as it was: what import rules refuse is taken in all the same. */
export const openDoor: Sabotage = { options: { importRules: undefined } };

/** F-22 and F-29, as they were: a watcher is shown an older value after a newer one. */
export const flicker: Sabotage = {
  registry: (core) => {
    const last = new Map<string, ChangeEvent>();
    return bend(core, {
      output: (effect) => {
        if (effect.kind !== "watch_send") return [effect];
        const again: ChangeEvent[] = [];
        for (const push of effect.pushes)
          for (const event of push.kind === "events" ? push.events : []) {
            if (event.change.kind !== "state") continue;
            const name = `${event.name.hubId}/${event.name.nodeId}.${event.change.state.key}`;
            const before = last.get(name);
            last.set(name, event);
            if (before !== undefined) again.push(before, event);
          }
        return [{ ...effect, pushes: [...effect.pushes, { kind: "events", events: again }] }];
      },
    });
  },
};

/** Shows watchers while the store refuses what is in memory only, as if all of it were stored. */
export const braggart: Sabotage = {
  registry: (core) => bend(core, { input: (input) => (input.kind === "stored" ? { ...input, unstored: [] } : input) }),
};

/** F-21, as it was: events that come while the store refuses are taken, and those who told them hear that they were refused. */
export const reverberant: Sabotage = {
  patch: () => {
    const { step } = TelemetryCore.prototype;
    const refusing = new WeakMap<TelemetryCore, Failure>();
    return replaced(TelemetryCore.prototype, "step", function (this: TelemetryCore, now, input, out) {
      if (input.kind === "stored" && input.failure !== undefined) refusing.set(this, input.failure);
      else if (input.kind === "stored") refusing.delete(this);
      const from = out.length;
      step.call(this, now, input, out);
      const failure = refusing.get(this);
      if (failure === undefined) return;
      for (const [i, effect] of out.entries())
        if (i >= from && effect.kind === "reported") out[i] = { kind: "declined", call: effect.call, failure };
    });
  },
};

/** F-13, as it was: a peer that comes while the mailbox is full is never greeted. */
export const fullMailbox: Sabotage = {
  commands: (core, hub) => bend(core, { input: (input) => (hub === 0 && input.kind === "peer-up" ? undefined : input) }),
};

/** F-17, as it was: a key answers for ever. */
export const elephant: Sabotage = {
  commands: (core) => {
    const results = new Map<string, Result>();
    const keys = new Map<string, string>();
    return {
      deadline: () => core.deadline(),
      describe: () => core.describe(),
      tick: (now, out) => {
        const from = out.length;
        core.tick(now, out);
        note(out.slice(from));
      },
      step: (now, input, out) => {
        const from = out.length;
        if (input.kind === "execute") {
          for (const { key, corr } of input.commands) if (key !== "") keys.set(`${input.client} ${corr}`, key);
          const known = input.commands.filter(({ key }) => results.has(key));
          for (const { key, corr } of known)
            out.push({
              kind: "reply",
              client: input.client,
              corr,
              result: results.get(key) as Result,
              name: undefined,
              durationMs: 1,
              replayed: true,
            });
          core.step(now, { ...input, commands: input.commands.filter((command) => !known.includes(command)) }, out);
        } else core.step(now, input, out);
        note(out.slice(from));
      },
    };
    function note(effects: readonly { readonly kind: string }[]): void {
      for (const effect of effects as readonly Reply[])
        if (effect.kind === "reply" && effect.result.outcome === OUTCOME.DONE) {
          const key = keys.get(`${effect.client} ${effect.corr}`);
          if (key !== undefined) results.set(key, effect.result);
        }
    }
  },
};

/** replaced puts something else in the place of a method of a shipping class, until the answer is called. */
function replaced<K extends string, T extends { readonly [P in K]: unknown }>(prototype: T, name: K, method: T[K]): () => void {
  const before = prototype[name];
  Object.assign(prototype, { [name]: method });
  return () => void Object.assign(prototype, { [name]: before });
}

/** Checkpoints that begin soon and take long, as those of large tables do. That alone breaks nothing. */
export const slowCheckpoints: Sabotage = {
  run: { checkpointSegments: 2, partBytes: 256, lateMs: 15 },
  options: { checkpointMs: 50 },
  patch: () => {
    const { step } = Checkpointer.prototype;
    const asked = new WeakMap<Checkpointer, number>();
    return replaced(Checkpointer.prototype, "step", function (this: Checkpointer, done) {
      const times = (asked.get(this) ?? 0) + (this.running ? 1 : 0);
      asked.set(this, times);
      if (times % SLOW === 0) step.call(this, done);
    });
  },
};

/** A part of a checkpoint is written only every so many times that it is asked for. */
const SLOW = 40;

/** F-14, as it was: a checkpoint of what a snapshot has replaced goes on, and counts in the end. */
export const undead: Sabotage = {
  ...slowCheckpoints,
  patch: () => {
    const restore = [slowCheckpoints.patch?.() ?? (() => undefined), replaced(Checkpointer.prototype, "replaced", () => undefined)];
    return () => {
      for (const each of restore) each();
    };
  },
};

/** F-28, as it was: what of an older stream of a caller arrives late is taken. */
export const unfenced: Sabotage = {
  patch: () => replaced(FencedStreams.prototype, "enter", () => ({ replaced: undefined, leave: () => undefined })),
};

/** F-18, as it was: all commands are told to be lost when a stream is cut, also those that go out on the next one. */
export const premature: Sabotage = {
  user: (client, make) => {
    const pending = new Set<{ readonly onResult: OnResult }>();
    const lose = (): void => {
      for (const call of [...pending]) {
        pending.delete(call);
        call.onResult({ corr: 0, result: LOST, name: undefined, durationMs: 0, replayed: false });
      }
    };
    const stream = make({
      executeStream: (options) => {
        const duplex = client.executeStream(options);
        duplex.opened.catch(lose);
        return new Proxy(duplex, {
          get: (target, name) => {
            if (name === "responses") return ended(target.responses, lose);
            const value: unknown = Reflect.get(target, name, target);
            return typeof value === "function" ? value.bind(target) : value;
          },
        });
      },
    });
    return {
      cancel: (corr) => stream.cancel(corr),
      close: () => stream.close(),
      sendEncoded: (command, onResult) => {
        const call = { onResult };
        pending.add(call);
        return stream.sendEncoded(command, (received) => void (pending.delete(call) && onResult(received)));
      },
    };
  },
};

const LOST: Result = { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure: { reason: "OUTCOME_UNKNOWN", message: "the stream was lost" } };

async function* ended<T>(responses: AsyncIterable<T>, then: () => void): AsyncGenerator<T> {
  try {
    yield* responses;
  } finally {
    then();
  }
}
