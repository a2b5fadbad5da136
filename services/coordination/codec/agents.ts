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
import { bytesOf, type Checkpoint, type Laid } from "../migration/checkpoint/checkpoint.ts";
import type { AskReply, AskSpec, HostOffer, Standing } from "../migration/hosting/messages.ts";
import type { AgentRecord, Migration } from "../migration/messages.ts";
import { AGENT_RECORD, MIGRATION } from "../migration/shapes.ts";

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
export function headOf({ memoryBytes, contextBytes, progress, dependencies }: Laid): CheckpointHead {
  const sizes = { memoryBytes: BigInt(memoryBytes), contextBytes: BigInt(contextBytes) };
  return create(CheckpointHeadSchema, { ...sizes, progress, dependencies: [...dependencies] });
}

/** digestBytesOf are what the digest of a checkpoint is over: the digests of its chunks, in order. */
export function digestBytesOf({ chunks }: Laid): Uint8Array {
  return Buffer.concat(chunks.map(({ digest }) => bytesOf(digest)));
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

/** LaidPart is what is sent of a checkpoint in one message: a chunk, or what is the same as in the one that was staged, from a place on. */
export type LaidPart = { readonly data: Uint8Array } | { readonly same: number; readonly from: number };

/** partsOf gives the parts of a checkpoint, in order, for a program that has `base`; none of the same goes over the end of its memory. */
export function* partsOf(laid: Laid, base?: Laid): Generator<LaidPart> {
  const places = new Map<string, number>();
  let end = 0;
  for (const { digest, bytes } of base?.chunks ?? []) {
    if (!places.has(digest)) places.set(digest, end);
    end += bytes.length;
  }
  let run = { same: 0, from: 0 };
  let at = 0;
  for (const { digest, bytes } of laid.chunks) {
    const from = places.get(digest);
    const follows = from === run.from + run.same && at !== laid.memoryBytes && from !== base?.memoryBytes;
    if (run.same > 0 && !follows) {
      yield run;
      run = { same: 0, from: 0 };
    }
    if (from === undefined) yield { data: bytes };
    else run = run.same === 0 ? { same: bytes.length, from } : { same: run.same + bytes.length, from: run.from };
    at += bytes.length;
  }
  if (run.same > 0) yield run;
}

/** partToProto writes a part of a checkpoint; `ask` is 0 for what is staged. */
export function partToProto(ask: number, part: LaidPart): HostAgentsResponse {
  return create(HostAgentsResponseSchema, { frame: { case: "part", value: { ask: BigInt(ask), ...part } } });
}

/** Digests are those of a checkpoint that is sent and of the one from which parts of it are taken; empty for none. */
export interface Digests {
  readonly digest: Uint8Array;
  readonly base: Uint8Array;
}

/** stageToProto writes what may come; the parts of the checkpoint follow it. */
export function stageToProto(agent: string, transfer: number, checkpoint: Laid, digests: Digests): HostAgentsResponse {
  const value = { agent, transfer: BigInt(transfer), head: headOf(checkpoint), ...digests };
  return create(HostAgentsResponseSchema, { frame: { case: "stage", value } });
}

/** unstageToProto writes that an agent does not come. */
export function unstageToProto(agent: string, transfer: number): HostAgentsResponse {
  return create(HostAgentsResponseSchema, { frame: { case: "unstage", value: { agent, transfer: BigInt(transfer) } } });
}

/** askToProto writes an ask; the parts of its checkpoint follow it. */
export function askToProto(ask: number, spec: AskSpec, digests?: Digests): HostAgentsResponse {
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
    ...digests,
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
