import { create } from "@bufbuild/protobuf";
import type { Clock } from "#channel/clock.ts";
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
import type { CallContext, Caller } from "#runtime/rpc/call.ts";
import { principalOf } from "#runtime/rpc/connections/principal.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import { outcomeToProto } from "../codec/answer-codec.ts";
import { nodeBytes, scopeOf } from "../codec/codec.ts";
import type { NodeOutcome } from "../messages.ts";
import { CallerLines } from "./caller-lines.ts";
import { PageTurns } from "./page-turns.ts";
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

/** Part is some nodes of a page, from the one at `first` on. */
interface Part {
  readonly first: number;
  readonly nodes: readonly Node[];
  readonly weight: number;
}

/** partsOf cuts a page. */
function* partsOf(nodes: readonly Node[]): Iterable<Part> {
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

/** NodeChanges hands what callers say of their nodes to the core, in order and in parts. */
class NodeChanges {
  readonly #shell: Shell;
  readonly #fences: FencedStreams<Fenced>;
  readonly #turns: PageTurns;
  readonly #lines = new CallerLines();

  constructor(shell: Shell, clock: Clock) {
    this.#shell = shell;
    this.#fences = new FencedStreams(clock);
    this.#turns = new PageTurns(clock);
  }

  /** inOrder refuses a numbered call if a newer one of its program was taken before: the network held it back, and nobody waits for it. */
  inOrder(caller: Caller, order: StreamOpen | undefined): void {
    // A call that is taken reaches the core before any that follows, so there is nothing to fence off. The newest may come again.
    if (order !== undefined) this.#fences.enter(caller, order, { fence: () => undefined }, "may repeat").leave();
  }

  /** hand hands a change over in its place among those of its caller. `work` is done when all of it is with the core. */
  async hand<T>({ caller, signal }: CallContext, weight: number, work: () => T | Promise<T>): Promise<T> {
    const { turn, leave } = this.#lines.enter(principalOf(caller));
    try {
      if (turn !== undefined) await turn;
      if (weight > TURN_WEIGHT) await this.#turns.turn(principalOf(caller), signal);
      return await work();
    } finally {
      leave();
    }
  }

  /** register asks the core; the failure of an answer that nobody waits for yet is kept for whoever does. */
  register(caller: Caller, nodes: readonly Uint8Array[]): Promise<Registered> {
    const answer = this.#shell.ask<"registered">((call) => ({ kind: "register", call, scope: scopeOf(caller), nodes }));
    answer.catch(() => undefined);
    return answer;
  }

  /** page hands a page over; it answers with what became of each node when all of it is durable. */
  async page(nodes: readonly Node[], context: CallContext): Promise<NodeOutcome[]> {
    const encoded: (Uint8Array | Failure)[] = [];
    const answers: Promise<Registered>[] = [];
    const take = ({ first, nodes: part }: Part): void => {
      const these = part.map((node, index) => nodeBytes(node, `nodes[${first + index}]`));
      encoded.push(...these);
      const good = these.filter((bytes) => bytes instanceof Uint8Array);
      if (good.length > 0) answers.push(this.register(context.caller, good));
    };
    const [begin, ...rest] = partsOf(nodes);
    if (begin !== undefined)
      await this.hand(context, begin.weight, async () => {
        take(begin);
        for (const part of rest) {
          await this.#turns.turn(principalOf(context.caller), context.signal);
          take(part);
        }
      });
    const results = (await Promise.all(answers)).flatMap((answer) => answer.results);
    let next = 0;
    return encoded.map((bytes, index) =>
      bytes instanceof Uint8Array
        ? outcomeOf(index, nodes[index] as Node, results[next++])
        : { nodeId: (nodes[index] as Node).nodeId, ref: 0, failure: bytes },
    );
  }
}

/** outcomeOf is what became of a node of a page, with the field at fault as its caller knows it. */
function outcomeOf(index: number, { nodeId }: Node, outcome: NodeOutcome | undefined): NodeOutcome {
  if (outcome === undefined) return { nodeId, ref: 0, failure: { reason: "INTERNAL", message: "no result for this node" } };
  if (outcome.failure === undefined) return outcome;
  const { field = "node.node_id" } = outcome.failure;
  return { ...outcome, failure: { ...outcome.failure, field: field.replace(/^node\b/, `nodes[${index}]`) } };
}

/**
 * createNodeHandlers are the handlers of registration and presence: they answer when the change is durable. Large changes go to the core in
 * parts, one in a turn of the event loop, callers taking turns: a page may have a thousand nodes with 512 capabilities each.
 */
export function createNodeHandlers(shell: Shell, clock: Clock) {
  const changes = new NodeChanges(shell, clock);

  return {
    async registerNode({ node, order }: RegisterNodeRequest, context: CallContext): Promise<RegisterNodeResponse> {
      if (node === undefined) throw fail("INVALID_FIELD", "a node is needed", { field: "node" });
      changes.inOrder(context.caller, order);
      const { answer } = await changes.hand(context, weightOf(node), () => {
        const bytes = nodeBytes(node, "node");
        if (!(bytes instanceof Uint8Array)) throw new FoedusError(bytes);
        return { answer: changes.register(context.caller, [bytes]) };
      });
      const [outcome] = (await answer).results;
      if (outcome?.failure !== undefined) throw new FoedusError({ field: "node.node_id", ...outcome.failure });
      return create(RegisterNodeResponseSchema, { ref: outcome?.ref ?? 0 });
    },

    async registerNodes({ nodes, order }: RegisterNodesRequest, context: CallContext): Promise<RegisterNodesResponse> {
      changes.inOrder(context.caller, order);
      const outcomes = await changes.page(nodes, context);
      return create(RegisterNodesResponseSchema, { results: outcomes.map(outcomeToProto) });
    },

    async deregisterNode({ nodeId, order }: DeregisterNodeRequest, context: CallContext): Promise<DeregisterNodeResponse> {
      changes.inOrder(context.caller, order);
      const { asked } = await changes.hand(context, 0, () => {
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
