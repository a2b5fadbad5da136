import { create } from "@bufbuild/protobuf";
import type { ClientDuplex } from "#channel/call.ts";
import { failureToProto } from "#channel/failure.ts";
import {
  type AgentAsk,
  AgentDeed,
  type HostAgentsRequest,
  HostAgentsRequestSchema,
  type HostAgentsResponse,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import type { AgentReply } from "./movable-agent.ts";
import { PROGRESS_DONE } from "./staging.ts";

type Duplex = ClientDuplex<HostAgentsRequest, HostAgentsResponse>;

/** Bytes of a checkpoint in one message. */
const PART_BYTES = 256 * 1024;
/** Bytes that are not written yet, above which a checkpoint waits. */
const AHEAD_BYTES = 1024 * 1024;

/** Base is a checkpoint that the hub has on a stream, of a move. */
export interface Base {
  readonly transfer: bigint;
  readonly memory: Uint8Array;
}

/** sendReply answers an ask; `bases` are what was sent before on this stream, by agent. */
export async function sendReply(
  duplex: Duplex,
  { ask, agent, transfer, deed }: AgentAsk,
  reply: AgentReply,
  bases: Map<string, Base>,
): Promise<void> {
  const answer = (value: object): void =>
    void duplex.send(create(HostAgentsRequestSchema, { frame: { case: "answer", value: { ask, ...value } } }));
  if (deed === AgentDeed.RESUME || deed === AgentDeed.DISCARD) bases.delete(agent);
  if ("failure" in reply) return answer({ failure: failureToProto(reply.failure) });
  const { checkpoint, signature } = reply;
  if (checkpoint === undefined) return answer(signature === undefined ? {} : { signature });
  const { memory, context, progress, dependencies } = checkpoint;
  const head = {
    memoryBytes: BigInt(memory.length),
    contextBytes: BigInt(context.length),
    progress: Math.round(progress * PROGRESS_DONE),
    dependencies: [...dependencies],
  };
  const before = bases.get(agent);
  bases.set(agent, { transfer, memory });
  answer({ head });
  for (const part of [...partsOf(memory, before?.transfer === transfer ? before.memory : NOTHING), ...partsOf(context, NOTHING)]) {
    duplex.send(create(HostAgentsRequestSchema, { frame: { case: "part", value: { ask, ...part } } }));
    if (duplex.bufferedBytes > AHEAD_BYTES) await duplex.drained();
    if (duplex.closed) return;
  }
}

const NOTHING = new Uint8Array(0);

/** partsOf cuts bytes into messages; of what is the same as before it says so. */
function* partsOf(bytes: Uint8Array, before: Uint8Array): Generator<{ readonly data?: Uint8Array; readonly same?: number }> {
  let same = 0;
  for (let from = 0; from < bytes.length; from += PART_BYTES) {
    const data = bytes.subarray(from, from + PART_BYTES);
    const there = before.subarray(from, from + data.length);
    if (there.length === data.length && Buffer.compare(there, data) === 0) same += data.length;
    else {
      if (same > 0) yield { same };
      same = 0;
      yield { data };
    }
  }
  if (same > 0) yield { same };
}
