import { create } from "@bufbuild/protobuf";
import { boundDecoded } from "#channel/decoded-size.ts";
import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import type { StreamOpen } from "#gen/foedus/common/v1/stream_pb.ts";
import {
  type DeregisterNodeRequest,
  type DeregisterNodeResponse,
  DeregisterNodeResponseSchema,
  type RegisterNodeRequest,
  type RegisterNodeResponse,
  RegisterNodeResponseSchema,
  type RegisterNodesRequest,
  RegisterNodesRequestSchema,
  type RegisterNodesResponse,
  RegisterNodesResponseSchema,
  type ReportPresenceRequest,
  type ReportPresenceResponse,
  ReportPresenceResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import type { Clock } from "#runtime/clock.ts";
import type { CallContext, Caller } from "#runtime/rpc/call.ts";
import { principalOf } from "#runtime/rpc/connections/principal.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import { outcomeToProto } from "../codec/answer-codec.ts";
import { nodeBytes, scopeOf } from "../codec/codec.ts";
import type { NodeOutcome } from "../messages.ts";
import { PageTurns } from "../read/page-turns.ts";
import { CallerLines } from "./caller-lines.ts";
import type { CallOutput, Shell } from "./shell.ts";

type Registered = Extract<CallOutput, { readonly kind: "registered" }>;

/** What a page of nodes may take in memory, so that reading it takes no longer than other requests: 500 nodes with 40 capabilities each. */
boundDecoded(RegisterNodesRequestSchema, 8 * 1024 * 1024);

/** What registering nodes costs is that of their capabilities, and some more for each node. */
const NODE_WEIGHT = 4;
/** A part of a page that goes to the core at once: some ten milliseconds. */
const PART_WEIGHT = 1_000;
/** From this on a change waits for its turn: with what is cheaper a turn of the event loop is hardly filled. */
const TURN_WEIGHT = 64;

const weightOf = ({ capabilities }: Node): number => NODE_WEIGHT + capabilities.length;

/** partsOf cuts a page. */
function* partsOf(nodes: readonly Node[]): Iterable<{ readonly first: number; readonly nodes: readonly Node[]; readonly weight: number }> {
  let first = 0;
  let weight = 0;
  for (const [index, node] of nodes.entries()) {
    const more = weightOf(node);
    if (weight > 0 && weight + more > PART_WEIGHT) {
      yield { first, nodes: nodes.slice(first, index), weight };
      first = index;
      weight = 0;
    }
    weight += more;
  }
  yield { first, nodes: nodes.slice(first), weight };
}

/**
 * createNodeHandlers are the handlers of registration and presence: they answer when the change is durable. Large changes go to the core in
 * parts, one in a turn of the event loop, callers taking turns: a page may have a thousand nodes with 512 capabilities each.
 */
export function createNodeHandlers(shell: Shell, clock: Clock) {
  const fences = new FencedStreams<Fenced>(clock);
  const turns = new PageTurns(clock);
  const lines = new CallerLines();

  /** inOrder refuses a numbered call if a newer one of its program was taken before: the network held it back, and nobody waits for it. */
  const inOrder = (caller: Caller, order: StreamOpen | undefined): void => {
    // A call that is taken reaches the core before any that follows, so there is nothing to fence off. The newest may come again.
    if (order !== undefined) fences.enter(caller, order, { fence: () => undefined }, "may repeat").leave();
  };

  /** change hands a change over in its place among those of its caller. `work` is done when all of it is with the core. */
  const change = async <T>({ caller, signal }: CallContext, weight: number, work: () => T | Promise<T>): Promise<T> => {
    const { turn, leave } = lines.enter(principalOf(caller));
    try {
      if (turn !== undefined) await turn;
      if (weight > TURN_WEIGHT) await turns.turn(principalOf(caller), signal);
      return await work();
    } finally {
      leave();
    }
  };

  /** register asks the core; the failure of an answer that nobody waits for yet is kept for whoever does. */
  const register = (caller: Caller, nodes: readonly Uint8Array[]): Promise<Registered> => {
    const answer = shell.ask<"registered">((call) => ({ kind: "register", call, scope: scopeOf(caller), nodes }));
    answer.catch(() => undefined);
    return answer;
  };

  return {
    async registerNode({ node, order }: RegisterNodeRequest, context: CallContext): Promise<RegisterNodeResponse> {
      if (node === undefined) throw fail("INVALID_FIELD", "a node is needed", { field: "node" });
      inOrder(context.caller, order);
      const { answer } = await change(context, weightOf(node), () => {
        const bytes = nodeBytes(node, "node");
        if (!(bytes instanceof Uint8Array)) throw new FoedusError(bytes);
        return { answer: register(context.caller, [bytes]) };
      });
      const [outcome] = (await answer).results;
      if (outcome?.failure !== undefined) throw new FoedusError({ field: "node.node_id", ...outcome.failure });
      return create(RegisterNodeResponseSchema, { ref: outcome?.ref ?? 0 });
    },

    async registerNodes({ nodes, order }: RegisterNodesRequest, context: CallContext): Promise<RegisterNodesResponse> {
      inOrder(context.caller, order);
      const encoded: (Uint8Array | Failure)[] = [];
      const answers: Promise<Registered>[] = [];
      const [begin, ...rest] = partsOf(nodes);
      const hand = ({ first, nodes: part }: typeof begin & {}): void => {
        const these = part.map((node, index) => nodeBytes(node, `nodes[${first + index}]`));
        encoded.push(...these);
        const good = these.filter((bytes) => bytes instanceof Uint8Array);
        if (good.length > 0) answers.push(register(context.caller, good));
      };
      if (begin !== undefined)
        await change(context, begin.weight, async () => {
          hand(begin);
          for (const part of rest) {
            await turns.turn(principalOf(context.caller), context.signal);
            hand(part);
          }
        });
      const results = (await Promise.all(answers)).flatMap((answer) => answer.results);
      let next = 0;
      const all = encoded.map((bytes, index): NodeOutcome => {
        const { nodeId } = nodes[index] as Node;
        if (!(bytes instanceof Uint8Array)) return { nodeId, ref: 0, failure: bytes };
        const outcome = results[next++];
        if (outcome === undefined) return { nodeId, ref: 0, failure: { reason: "INTERNAL", message: "no result for this node" } };
        if (outcome.failure === undefined) return outcome;
        const { field = "node.node_id" } = outcome.failure;
        return { ...outcome, failure: { ...outcome.failure, field: field.replace(/^node\b/, `nodes[${index}]`) } };
      });
      return create(RegisterNodesResponseSchema, { results: all.map(outcomeToProto) });
    },

    async deregisterNode({ nodeId, order }: DeregisterNodeRequest, context: CallContext): Promise<DeregisterNodeResponse> {
      inOrder(context.caller, order);
      const { asked } = await change(context, 0, () => {
        const asked = shell.ask<"deregistered">((call) => ({ kind: "deregister", call, scope: scopeOf(context.caller), nodeId }));
        asked.catch(() => undefined);
        return { asked };
      });
      const answer = await asked;
      if (answer.failure !== undefined) throw new FoedusError({ field: "node_id", ...answer.failure });
      return create(DeregisterNodeResponseSchema, { existed: answer.existed });
    },

    async reportPresence({ attached, detached, replace, round }: ReportPresenceRequest): Promise<ReportPresenceResponse> {
      await shell.ask<"presence_noted">((call) => ({ kind: "presence", call, attached, detached, replace, round: Number(round) }));
      return create(ReportPresenceResponseSchema);
    },
  };
}
