import type { Command } from "commander";
import type { ExitCode } from "./exit.ts";
import type { Io } from "./io.ts";

/** Loaded is a verb whose code was just loaded. */
export type Loaded = (io: Io, args: readonly string[], options: never) => Promise<ExitCode | undefined>;

/** Declare adds a verb. */
export type Declare = (parent: Command, signature: string, description: string, load: () => Promise<Loaded>) => Command;
