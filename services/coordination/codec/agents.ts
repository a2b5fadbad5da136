import { create, fromBinary } from "@bufbuild/protobuf";
import { failureFromProto, failureToProto } from "#channel/failure.ts";
import {
  type AgentAnswer,
  AgentDeed,
  type AgentHosts,
  AgentViewSchema,
  type CheckpointHead,
  CheckpointHeadSchema,
  type HostAgentsResponse,
  HostAgentsResponseSchema,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { MigratingAgentSchema, MigrationSchema } from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import { encode } from "#kernel/wire/shape.ts";
import type { Checkpoint } from "../migration/checkpoint/checkpoint.ts";
import type { AskReply, AskSpec, HostOffer, Standing } from "../migration/hosting/messages.ts";
import type { AgentRecord, Migration } from "../migration/messages.ts";
import { AGENT_RECORD, MIGRATION } from "../migration/shapes.ts";

/** PART_BYTES is how many bytes of a checkpoint go in one message. */
export const PART_BYTES = 256 * 1024;

/** offerFromProto reads what a program says of itself. */
export function offerFromProto({ agents, kinds }: AgentHosts): HostOffer {
  return { agents: agents.map(({ agent, nodeKey, fence }) => ({ agent, nodeKey, fence: Number(fence) })), kinds };
}

/** replyFromProto reads an answer that has no checkpoint. */
export function replyFromProto({ signature, failure }: AgentAnswer): AskReply {
  if (failure !== undefined) return { failure: failureFromProto(failure) };
  return signature.length === 0 ? {} : { signature };
}

/** headOf is a checkpoint without its bytes. */
export function headOf({ memory, context, progress, dependencies }: Checkpoint): CheckpointHead {
  const [memoryBytes, contextBytes] = [BigInt(memory.length), BigInt(context.length)];
  return create(CheckpointHeadSchema, { memoryBytes, contextBytes, progress, dependencies: [...dependencies] });
}

/** checkpointOf puts a checkpoint together from its head and all bytes that followed, of which it is a view. */
export function checkpointOf({ memoryBytes, progress, dependencies }: CheckpointHead, bytes: Uint8Array): Checkpoint {
  const memory = Number(memoryBytes);
  return { memory: bytes.subarray(0, memory), context: bytes.subarray(memory), progress, dependencies };
}

/** sizeOf is how many bytes follow a head. */
export function sizeOf({ memoryBytes, contextBytes }: CheckpointHead): number {
  return Number(memoryBytes + contextBytes);
}

/** partsOf cuts the bytes of a checkpoint into messages, memory first. */
export function* partsOf({ memory, context }: Checkpoint): Generator<Uint8Array> {
  for (const bytes of [memory, context])
    for (let from = 0; from < bytes.length; from += PART_BYTES) yield bytes.subarray(from, from + PART_BYTES);
}

/** askToProto writes an ask; the parts of its checkpoint follow it. */
export function askToProto(ask: number, spec: AskSpec): HostAgentsResponse {
  const { agent, fence, transfer, deed, round, claim, checkpoint, hub } = spec;
  const head = checkpoint === undefined ? {} : { head: headOf(checkpoint) };
  const value = {
    ask: BigInt(ask),
    agent,
    fence: BigInt(fence),
    transfer: BigInt(transfer),
    deed: AgentDeed[deed],
    round: BigInt(round),
    claim,
    hub,
    ...head,
  };
  return create(HostAgentsResponseSchema, { frame: { case: "ask", value } });
}

/** hostedToProto writes how agents stand. */
export function hostedToProto(agents: readonly Standing[]): HostAgentsResponse {
  const value = {
    agents: agents.map(({ agent, fence, runs, movedTo, failure }) => ({
      agent,
      fence: BigInt(fence),
      runs,
      movedTo,
      ...(failure === undefined ? {} : { failure: failureToProto(failure) }),
    })),
  };
  return create(HostAgentsResponseSchema, { frame: { case: "hosted", value } });
}

/** migrationToView writes a migration: as it is stored, so it is shown. */
export function migrationToView(migration: Migration) {
  return fromBinary(MigrationSchema, encode(MIGRATION, migration));
}

/** agentToView writes an agent for people. */
export function agentToView(agent: AgentRecord, connected: boolean, runs: boolean) {
  return create(AgentViewSchema, { agent: fromBinary(MigratingAgentSchema, encode(AGENT_RECORD, agent)), connected, runs });
}
