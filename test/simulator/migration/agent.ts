import type { Checkpoint } from "../../../services/coordination/migration/checkpoint/checkpoint.ts";

const FILLER_BYTES = 72 * 1024;

/** ToyAgent is a program that counts and answers commands. It is what its hub's disk has of it: every command is stored before it is answered. */
export interface ToyAgent {
  fence: number;
  /** Commands that it has carried out, in order. */
  done: number[];
  frozen: boolean;
  /** The last transfer of which it was told that it goes on here. */
  resumed: number;
}

const filler = Uint8Array.from({ length: FILLER_BYTES }, (_none, at) => (Math.imul(at, 2654435761) >>> 13) & 0xff);

/** checkpointOf is all that the agent is. */
export function checkpointOf(agent: ToyAgent): Checkpoint {
  const memory = new Uint8Array(4 + 4 * agent.done.length + FILLER_BYTES);
  const view = new DataView(memory.buffer);
  view.setUint32(0, agent.done.length);
  agent.done.forEach((serial, at) => {
    view.setUint32(4 + 4 * at, serial);
  });
  memory.set(filler, 4 + 4 * agent.done.length);
  const context = new TextEncoder().encode(`counted ${agent.done.length}`);
  return { memory, context, progress: Math.min(1_000_000, agent.done.length * 1_000), dependencies: ["clock", "valve"] };
}

/** agentOf makes an agent of a checkpoint; undefined if that is not whole. */
export function agentOf(checkpoint: Checkpoint, fence: number): ToyAgent | undefined {
  const { memory, context } = checkpoint;
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  const count = view.getUint32(0);
  if (memory.length !== 4 + 4 * count + FILLER_BYTES) return undefined;
  const done = Array.from({ length: count }, (_none, at) => view.getUint32(4 + 4 * at));
  const whole = memory.subarray(4 + 4 * count).every((byte, at) => byte === filler[at]);
  return whole && new TextDecoder().decode(context) === `counted ${count}` ? { fence, done, frozen: false, resumed: 0 } : undefined;
}
