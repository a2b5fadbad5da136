// An agent that counts and can move, as a program of its own on the SDK: `make up` starts one at home, which has the agent, and one at the
// factory, which takes it in. It ends with whoever started it.
import { CountingProgram, type ProgramPlace } from "../support/counting-agent.ts";

/** CounterArguments say at which hub it runs; they are the only argument, as JSON. */
export interface CounterArguments {
  readonly id: string;
  /** Folder for what the agent is. */
  readonly dir: string;
  readonly address: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Bytes of memory that the agent has beside its count; without them it is not born here. */
  readonly ballast?: number;
}

const { id, dir, address, ballast, ...files } = JSON.parse(process.argv[2] ?? "{}") as CounterArguments;
const place: ProgramPlace = { id, dir, split: false, address: () => address, pki: () => files };

process.on("disconnect", () => process.exit(0));
await CountingProgram.at(place, ballast === undefined ? undefined : { ballast: Buffer.alloc(ballast, id) });
process.send?.("connected");
