import { OUTCOME, OUTCOME_NAMES } from "../../../services/command-forwarding/messages.ts";
import type { Federation } from "../federation.ts";
import { areaOf, shows, takes } from "../nodes.ts";
import { KEY_LIFE_MS } from "../options.ts";
import type { CommandOp } from "../oracle.ts";
import { type Checker, connected, listNodes } from "./checker.ts";

/** Long enough for a command and its answer. */
const PROBE_MS = 9_000;
/** Clocks differ by a hundredth, and deadlines of commands come on top. */
const MARGIN_MS = 40_000;
const MOST = 3;

/** Expiry: an idempotency key whose life is over stands for nothing. Who uses it again, as a daily job does, has something done (F-17). */
export const expiry: Checker = {
  name: "expiry",
  async check(federation) {
    const { oracle } = federation;
    const again: { readonly op: CommandOp; readonly before: number; readonly calls: number }[] = [];
    for (const op of oracle.commands.values()) {
      if (again.length === MOST) break;
      if (!(await reusable(federation, op))) continue;
      again.push({ op, before: op.effects.length, calls: op.calls.length });
      federation.hub(op.caller).clients.command(op);
    }
    await federation.run(PROBE_MS);
    for (const { op, before, calls } of again) {
      const answer = op.calls[calls]?.answer;
      const anew = op.effects.splice(before);
      op.calls.splice(calls);
      if (answer?.outcome === OUTCOME.DONE && anew.length === 0)
        oracle.violate(
          "expiry",
          "correctness",
          `${op.id} was asked for again after its key had expired, was answered ${OUTCOME_NAMES[answer.outcome]}, and nothing was done`,
        );
    }
  },
};

/** Its last answer is long ago, and the node can be asked. */
async function reusable(federation: Federation, op: CommandOp): Promise<boolean> {
  const { oracle, scheduler } = federation;
  const last = op.calls.at(-1);
  if (op.key === "" || op.tainted || last?.answer?.outcome !== OUTCOME.DONE || op.capability === "lock") return false;
  if (scheduler.now - Math.max(...op.calls.map(({ at }) => at)) < KEY_LIFE_MS + MARGIN_MS + op.timeoutMs) return false;
  if (oracle.rewound.includes(true) || (op.caller !== op.target && !connected(federation, op.target, op.caller))) return false;
  const node = (await listNodes(federation, op.target, op.target))?.find(({ nodeId, online }) => online && nodeId === op.nodeId)?.node;
  if (node === undefined || op.caller === op.target) return node !== undefined;
  const { share } = federation.trustOf(op.target, op.caller);
  const area = areaOf(node);
  return shows(share, federation.hub(op.target).rules, area) && takes(federation.hub(op.caller).imports, area);
}
