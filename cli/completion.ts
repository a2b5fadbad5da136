import type { Command } from "commander";
import { EXIT, type ExitCode, usage } from "./exit.ts";
import type { Io } from "./io.ts";

/** Words that may follow one command: its subcommands and its options. */
interface Words {
  /** Path of the command, e.g. "peers enable"; empty for the program. */
  readonly path: string;
  readonly commands: readonly string[];
  readonly options: readonly string[];
}

function wordsOf(command: Command, path = ""): Words[] {
  const commands = command.commands.filter((sub) => sub.name() !== "help");
  const options = [...command.options.flatMap(({ long, short }) => [long, short]).filter((name) => name !== undefined), "--help"];
  return [
    { path, commands: commands.map((sub) => sub.name()), options },
    ...commands.flatMap((sub) => wordsOf(sub, `${path} ${sub.name()}`.trim())),
  ];
}

const SHELLS: Readonly<Record<string, (words: readonly Words[]) => string>> = { bash, zsh, fish };

/** completion prints a script that completes this program's commands, options and contexts in a shell. */
export async function completion(io: Io, program: Command, shell: string): Promise<ExitCode> {
  const script = Object.hasOwn(SHELLS, shell) ? SHELLS[shell] : undefined;
  if (script === undefined) throw usage(`there is no completion for "${shell}"`, `Shells are ${Object.keys(SHELLS).join(", ")}.`);
  await io.out(script(wordsOf(program)));
  return EXIT.ok;
}

/** The part that bash and zsh share: find the command among the words before the cursor, then offer what may follow. */
function cases(words: readonly Words[]): string {
  return words.map(({ path, commands, options }) => `    "${path}") words="${[...commands, ...options].join(" ")}" ;;`).join("\n");
}

function paths(words: readonly Words[]): string {
  return words
    .filter(({ path }) => path !== "")
    .map(({ path }) => `"${path}"`)
    .join("|");
}

function bash(words: readonly Words[]): string {
  return `# foedus completion for bash: source <(foedus completion bash)
_foedus() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" last="" path="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${path:+$path }\${COMP_WORDS[i]}" in
      ${paths(words)}) path="\${path:+$path }\${COMP_WORDS[i]}" last="\${COMP_WORDS[i]}" ;;
    esac
  done
  if [[ "$previous" == "--hub" || "$path" == "contexts use" ]]; then
    words="$(foedus contexts list -q 2>/dev/null)"
  elif [[ "$previous" == "$last" && "$current" != -* && "$path" =~ ^peer (add|remove|revoke|trust)$ ]]; then
    words="$(foedus peer list -q 2>/dev/null)"
  elif [[ "$previous" == "$last" && "$current" != -* && "$path" == "share test" ]]; then
    words="$(foedus peers -q 2>/dev/null)"
  elif [[ "$path" == "peer trust" && "$current" != -* ]]; then
    words="full limited minimal"
  elif [[ "$previous" =~ ^--(ca|cert|certificate|key|config|contexts|file|diff|dir|out)$ ]]; then
    compopt -o default
    return
  else
    case "$path" in
${cases(words)}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _foedus foedus
`;
}

function zsh(words: readonly Words[]): string {
  return `#compdef foedus
# foedus completion for zsh: source <(foedus completion zsh)
_foedus() {
  local previous="\${words[CURRENT-1]}" last="" route="" i
  local -a typed
  typed=("\${(@)words}")
  for ((i = 2; i < CURRENT; i++)); do
    case "\${route:+$route }\${typed[i]}" in
      ${paths(words)}) route="\${route:+$route }\${typed[i]}" last="\${typed[i]}" ;;
    esac
  done
  if [[ "$previous" == "--hub" || "$route" == "contexts use" ]]; then
    compadd -- \${(f)"$(foedus contexts list -q 2>/dev/null)"}
  elif [[ "$previous" == "$last" && "$PREFIX" != -* && "$route" == (peer\\ add|peer\\ remove|peer\\ revoke|peer\\ trust) ]]; then
    compadd -- \${(f)"$(foedus peer list -q 2>/dev/null)"}
  elif [[ "$previous" == "$last" && "$PREFIX" != -* && "$route" == "share test" ]]; then
    compadd -- \${(f)"$(foedus peers -q 2>/dev/null)"}
  elif [[ "$route" == "peer trust" && "$PREFIX" != -* ]]; then
    compadd -- full limited minimal
  elif [[ "$previous" =~ ^--(ca|cert|certificate|key|config|contexts|file|diff|dir|out)$ ]]; then
    _files
  else
    case "$route" in
${words.map(({ path, commands, options }) => `    "${path}") compadd -- ${[...commands, ...options].join(" ")} ;;`).join("\n")}
    esac
  fi
}
compdef _foedus foedus
`;
}

function fish(words: readonly Words[]): string {
  const lines = words.flatMap(({ path, commands, options }) => {
    const condition = `-n '__foedus_at "${path}"'`;
    return [
      ...(commands.length === 0 ? [] : [`complete -c foedus -f ${condition} -a '${commands.join(" ")}'`]),
      ...options.filter((name) => name.startsWith("--")).map((name) => `complete -c foedus ${condition} -l ${name.slice(2)}`),
    ];
  });
  return `# foedus completion for fish: foedus completion fish | source
function __foedus_at
  set -l path
  for word in (commandline -opc)[2..]
    if contains -- (string join ' ' $path $word) ${words
      .filter(({ path }) => path !== "")
      .map(({ path }) => `'${path}'`)
      .join(" ")}
      set -a path $word
    end
  end
  test (string join ' ' $path) = "$argv[1]"
end
${lines.join("\n")}
complete -c foedus -l hub -x -a '(foedus contexts list -q 2>/dev/null)'
complete -c foedus -f -n '__foedus_at "peer add"; or __foedus_at "peer remove"; or __foedus_at "peer revoke"; or __foedus_at "peer trust"' -a '(foedus peer list -q 2>/dev/null)'
complete -c foedus -f -n '__foedus_at "share test"' -a '(foedus peers -q 2>/dev/null)'
complete -c foedus -f -n '__foedus_at "peer trust"' -a 'full limited minimal'
complete -c foedus -f -n '__foedus_at "contexts use"' -a '(foedus contexts list -q 2>/dev/null)'
`;
}
