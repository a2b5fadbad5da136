// Discoveries that are wrong on purpose, as the cores in `sabotage.ts` are. Used by simulator.spec.ts only.
import type { PeerView } from "#kernel/session/peer-view.ts";
import type { Sabotage } from "./host.ts";
import { bend } from "./sabotage.ts";

/** The run has discovery. */
const WITH_DISCOVERY = { run: { discovery: true } } as const;

/** Never says Hello. */
export const taciturn: Sabotage = {
  ...WITH_DISCOVERY,
  discovery: (core) => bend(core, { output: (effect) => (effect.kind === "hello" ? [] : [effect]) }),
};

/** Takes a link for operational once it was, whatever its own services say later. */
export const optimist: Sabotage = {
  ...WITH_DISCOVERY,
  discovery: (core) => {
    const up = new Set<string>();
    return bend(core, {
      input: (input) => {
        if (input.kind !== "sessions") return input;
        const reports = input.reports.filter(({ hubId, session: { service, state, synced } }) => {
          const what = `${service} ${hubId}`;
          if (state === "OPERATIONAL" && synced) up.add(what);
          else if (up.has(what)) return false;
          return true;
        });
        return { ...input, reports };
      },
    });
  },
};

/** Does not listen to what peers say of the level that they give. */
export const conceited: Sabotage = {
  ...WITH_DISCOVERY,
  discovery: (core) =>
    bend(core, {
      input: (input) =>
        input.kind === "announced" || input.kind === "hello_answered" || input.kind === "refresh_answered" ? { ...input, level: 3 } : input,
    }),
};

/** Takes an old process and the next one for two that live. */
export const seeingDouble: Sabotage = {
  ...WITH_DISCOVERY,
  discovery: (core) => {
    let n = 0;
    return bend(core, { input: (input) => (input.kind === "met" ? { ...input, run: `${n++ % 2}${input.run}` } : input) });
  },
};

/** Says that it ended a link, and does not tell the services. */
export const lenient: Sabotage = {
  ...WITH_DISCOVERY,
  discovery: (core) => {
    const before = new Map<string, PeerView>();
    return bend(core, {
      output: (effect) => {
        if (effect.kind !== "push") return [effect];
        const pushes = effect.pushes.map((push) => {
          if (push.kind !== "view") return push;
          const { hubId, terminated } = push.view;
          if (!terminated) before.set(hubId, push.view);
          // Without the void tokens, which would end the sessions as well.
          return { ...push, view: { ...push.view, ...before.get(hubId), terminated: false } };
        });
        return [{ ...effect, pushes }];
      },
    });
  },
};

/** Does not tell the services which certificates are revoked. */
export const forgiving: Sabotage = {
  ...WITH_DISCOVERY,
  discovery: (core) =>
    bend(core, {
      output: (effect) => {
        if (effect.kind !== "push") return [effect];
        const pushes = effect.pushes.map((push) => (push.kind === "view" ? { ...push, view: { ...push.view, revoked: [] } } : push));
        return [{ ...effect, pushes }];
      },
    }),
};
