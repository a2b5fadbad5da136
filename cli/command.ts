import { type Command, CommanderError } from "commander";
import { printableOutput } from "#kernel/printable.ts";
import { nearest } from "#runtime/config/shape.ts";
import { type CliError, EXIT, type ExitCode, errorJson, errorText, toCliError, usage } from "./exit.ts";
import { columnsOf, processIo } from "./io.ts";
import { clean } from "./print/format.ts";
import { paragraphs } from "./print/text.ts";
import { buildProgram, type Handle } from "./program.ts";

/** report writes an error as people or programs want it; FOEDUS_DEBUG=1 adds the stacks. */
function report(error: CliError, json: boolean): ExitCode {
  process.stderr.write(printableOutput(json ? errorJson(error) : paragraphs(errorText(error), columnsOf(process.stderr))));
  if (process.env["FOEDUS_DEBUG"] === "1")
    process.stderr.write(
      printableOutput(`${String(error.stack)}\n${error.cause instanceof Error ? `caused by ${error.cause.stack}\n` : ""}`),
    );
  return error.exitCode;
}

/** fromCommander turns a complaint of the parser into ours; help and version are no complaints. */
function fromCommander(error: CommanderError, program: Command): CliError | undefined {
  if (error.exitCode === 0 || error.code === "commander.help") return undefined;
  const meant = subcommandMeant(error, program);
  if (meant !== undefined) return meant;
  const message = error.message
    .replace(/^error: /, "")
    .replace(/\n/g, " ")
    .trim()
    // Some are sentences already, and what to do follows.
    .replace(/\.$/, "");
  return usage(message, "See `foedus --help`, or --help after the command.");
}

/**
 * subcommandMeant finds what a word is that is no command where it stands: a verb that runs by itself and has subcommands (`hub`, `peers`)
 * takes a mistyped one for an argument, and some have another of nearly the same name (`peer`, `peers`).
 */
function subcommandMeant({ code, message }: CommanderError, program: Command): CliError | undefined {
  const verbs = program.commands.map((verb) => ({ name: verb.name(), words: verb.commands.map((command) => command.name()) }));
  const elsewhere = (word: string): string | undefined => {
    const found = verbs.find(({ words }) => words.includes(word));
    return found && `${found.name} ${word}`;
  };
  const meant = (complaint: string, command: string | undefined): CliError | undefined =>
    command === undefined ? undefined : usage(complaint, `Did you mean \`foedus ${command}\`?`);
  if (code === "commander.unknownCommand") {
    const [, word = ""] = /unknown command '([^']+)'/.exec(message) ?? [];
    return meant(`there is no command "${clean(word)}" here`, elsewhere(word));
  }
  if (code !== "commander.excessArguments") return undefined;
  const [, verb = "", word = ""] = /too many arguments for '([^']+)'.*?: ([^,.\s]+)/.exec(message) ?? [];
  const near = nearest(word, verbs.find(({ name }) => name === verb)?.words ?? []);
  return meant(`${verb} has no command "${clean(word)}"`, near === undefined ? elsewhere(word) : `${verb} ${near}`);
}

/** main runs a command line and answers its exit code. */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  const json = argv.includes("--json");
  const handle: Handle = async (command: Command, load) => {
    // A verb with subcommands takes its options before and after them.
    const options = { ...command.parent?.opts(), ...command.opts() } as { readonly quiet?: boolean };
    const io = processIo({ quiet: options.quiet === true });
    const run = await load();
    const result = await run(io, command.args, options as never);
    exitCode = result ?? EXIT.ok;
  };
  const program = buildProgram(handle);
  try {
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync(argv as string[], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      const complaint = fromCommander(error, program);
      return complaint === undefined ? (error.exitCode === 0 ? EXIT.ok : EXIT.usage) : report(complaint, json);
    }
    const { reasonRule } = await import("#channel/status.ts");
    return report(
      toCliError(error, (reason) => reasonRule(reason).remedy),
      json,
    );
  }
}
