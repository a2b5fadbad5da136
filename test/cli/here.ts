// A command that runs in this process: for tests that run many, where starting a process for each would take most of their time.

import { CommanderError } from "commander";
import { systemClock } from "#channel/clock.ts";
import { reasonRule } from "#channel/status.ts";
import { EXIT, type ExitCode, errorText, toCliError } from "../../cli/exit.ts";
import type { Io } from "../../cli/io.ts";
import { buildProgram } from "../../cli/program.ts";
import type { Finished } from "./fixture.ts";

/** runHere runs a command line as `foedus` does, without a terminal. */
export async function runHere(
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: Readonly<Record<string, string>> },
): Promise<Finished> {
  let [code, out, err]: [ExitCode, string, string] = [EXIT.ok, "", ""];
  const io = (quiet: boolean): Io => ({
    out: async (text) => void (out += text),
    note: (text) => void (err += quiet ? "" : text),
    error: (text) => void (err += text),
    ask: async () => undefined,
    style: (_format, text) => text,
    columns: undefined,
    env: options.env ?? {},
    cwd: options.cwd,
    clock: systemClock,
    stopped: new AbortController().signal,
    onHangup: () => undefined,
  });
  const program = buildProgram(async (command, load) => {
    const flags = { ...command.parent?.opts(), ...command.opts() } as { readonly quiet?: boolean };
    code = (await (await load())(io(flags.quiet === true), command.args, flags as never)) ?? EXIT.ok;
  });
  try {
    await program.parseAsync(args as string[], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return { code: error.exitCode === 0 ? EXIT.ok : EXIT.usage, out, err: err + error.message };
    const told = toCliError(error, (reason) => reasonRule(reason).remedy);
    return { code: told.exitCode, out, err: err + errorText(told) };
  }
  return { code, out, err };
}
