import { create } from "@bufbuild/protobuf";
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
  type RegisterNodesResponse,
  RegisterNodesResponseSchema,
  type ReportPresenceRequest,
  type ReportPresenceResponse,
  ReportPresenceResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import type { Clock } from "#runtime/clock.ts";
import type { CallContext, Caller } from "#runtime/rpc/call.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import { outcomeToProto } from "../codec/answer-codec.ts";
import { nodeBytes, scopeOf } from "../codec/codec.ts";
import type { NodeOutcome } from "../messages.ts";
import type { Shell } from "./shell.ts";

/** createNodeHandlers are the handlers of registration and presence: they answer when the change is durable. */
export function createNodeHandlers(shell: Shell, clock: Clock) {
  const fences = new FencedStreams<Fenced>(clock);

  /** inOrder refuses a numbered call if a newer one of its program was taken before: the network held it back, and nobody waits for it. */
  const inOrder = (caller: Caller, order: StreamOpen | undefined): void => {
    // A call that is taken reaches the core before any that follows, so there is nothing to fence off.
    if (order !== undefined) fences.enter(caller, order, { fence: () => undefined }).leave();
  };

  return {
    async registerNode({ node, order }: RegisterNodeRequest, context: CallContext): Promise<RegisterNodeResponse> {
      if (node === undefined) throw fail("INVALID_FIELD", "a node is needed", { field: "node" });
      inOrder(context.caller, order);
      const bytes = nodeBytes(node, "node");
      if (!(bytes instanceof Uint8Array)) throw new FoedusError(bytes);
      const answer = await shell.ask<"registered">((call) => ({ kind: "register", call, scope: scopeOf(context.caller), nodes: [bytes] }));
      const [outcome] = answer.results;
      if (outcome?.failure !== undefined) throw new FoedusError({ field: "node.node_id", ...outcome.failure });
      return create(RegisterNodeResponseSchema, { ref: outcome?.ref ?? 0 });
    },

    async registerNodes({ nodes, order }: RegisterNodesRequest, context: CallContext): Promise<RegisterNodesResponse> {
      inOrder(context.caller, order);
      const encoded = nodes.map((node: Node, index) => nodeBytes(node, `nodes[${index}]`));
      const good = encoded.filter((bytes) => bytes instanceof Uint8Array);
      const results =
        good.length === 0
          ? []
          : (await shell.ask<"registered">((call) => ({ kind: "register", call, scope: scopeOf(context.caller), nodes: good }))).results;
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
      const answer = await shell.ask<"deregistered">((call) => ({ kind: "deregister", call, scope: scopeOf(context.caller), nodeId }));
      if (answer.failure !== undefined) throw new FoedusError({ field: "node_id", ...answer.failure });
      return create(DeregisterNodeResponseSchema, { existed: answer.existed });
    },

    async reportPresence({ attached, detached, replace, round }: ReportPresenceRequest): Promise<ReportPresenceResponse> {
      await shell.ask<"presence_noted">((call) => ({ kind: "presence", call, attached, detached, replace, round: Number(round) }));
      return create(ReportPresenceResponseSchema);
    },
  };
}
