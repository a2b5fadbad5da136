import { printable } from "#kernel/printable.ts";
import type { Action } from "../ballots/messages.ts";
import type { Committed, Membership } from "../log/engine.ts";
import type { LogRecord } from "../messages.ts";
import type { LogCommand } from "./commands.ts";
import type { Applied } from "./federation-state.ts";

/** Entries that are remembered for people; older ones live on in the state only. */
const KEPT = 1_000;
/** Lines that are remembered of one entry. */
const LINES = 64;
/** Bytes of a value that are kept with the command that sets it. */
const SHORT = 64;

/** Record is an entry as it was applied; the words for it are found when somebody asks. */
interface Record {
  readonly index: number;
  readonly term: number;
  readonly time: number;
  readonly commands: readonly (Pick<Applied, "author" | "result"> & { readonly command: LogCommand | string | undefined })[];
  readonly further: number;
  readonly membership: Membership | undefined;
  readonly empty: boolean;
}

/** Records are the newest entries that were applied here, in words. */
export class Records {
  #records: Record[] = [];

  add({ index, term, time, payloads, membership }: Committed, commands: readonly Applied[]): void {
    const further = Math.max(0, commands.length - LINES);
    const first = commands.slice(0, LINES).map(({ author, command, result }) => ({ author, command: withoutBytes(command), result }));
    this.#records.push({ index, term, time, commands: first, further, membership, empty: payloads.length === 0 });
    if (this.#records.length >= 2 * KEPT) this.#records = this.#records.slice(-KEPT);
  }

  /** list gives the newest records before a position, newest first, and the position for the next page; 0 when there is none. */
  list(limit: number, before: number): { readonly records: readonly LogRecord[]; readonly next: number } {
    const kept = this.#records.slice(-KEPT);
    const older = before === 0 ? kept : kept.filter(({ index }) => index < before);
    const records = older.slice(-limit).reverse().map(inWords);
    return { records, next: older.length > limit ? (records.at(-1)?.index ?? 0) : 0 };
  }
}

/** withoutBytes is what is kept of a command: its words at once where it holds much that they do not need. */
function withoutBytes(command: LogCommand | undefined): LogCommand | string | undefined {
  const isLong = command?.book === "values" && command.command.kind === "put" && command.command.value.length > SHORT;
  return isLong ? commandText(command) : command;
}

/** refusedOfOthers is what is counted of commands that were refused. What this hub itself wanted is answered, and counted, where it was asked for. */
export function refusedOfOthers(commands: readonly Applied[], hubId: string): string[] {
  return commands.flatMap(({ author, result }) =>
    result.ok || author === hubId ? [] : [`refused_command: of ${author}, ${result.failure.reason}`],
  );
}

function inWords({ index, term, time, commands, further, membership, empty }: Record): LogRecord {
  const lines = commands.map(({ author, command, result }) => ({
    author,
    text: command === undefined ? "a command that is none" : typeof command === "string" ? command : commandText(command),
    refused: result.ok ? "" : result.failure.message,
  }));
  if (further > 0) lines.push({ author: "", text: `${further} further commands`, refused: "" });
  if (membership !== undefined) {
    const { voters, outgoing, learners } = membership;
    const from = outgoing.length === 0 ? "" : ` instead of ${outgoing.join(", ")}`;
    const also = learners.length === 0 ? "" : `; learners ${learners.join(", ")}`;
    lines.push({ author: "", text: `the log is kept by ${voters.join(", ")}${from}${also}`, refused: "" });
  }
  // A batch that two leaders wrote has its effect where it stands first.
  const nothing = empty ? "a new term begins" : "nothing new: what is written here was decided before, or has no effect";
  if (lines.length === 0) lines.push({ author: "", text: nothing, refused: "" });
  return { index, term, time, lines };
}

/** commandText says in words what a command wants. */
export function commandText(command: LogCommand): string {
  switch (command.book) {
    case "values": {
      const { command: change } = command;
      const condition = change.conditional ? ` at version ${change.expect}` : "";
      return change.kind === "delete"
        ? `delete value ${printable(change.key)}${condition}`
        : `set value ${printable(change.key)} (${change.value.length} bytes)${condition}`;
    }
    case "members":
      return memberText(command.command);
    case "ballots":
      return ballotText(command.command);
    case "resources":
      return `lending: ${command.command.kind.replaceAll("_", " ")}`;
    case "migration":
      return migrationText(command.command);
    case "clock":
      return "time passes";
  }
}

function memberText(command: Extract<LogCommand, { book: "members" }>["command"]): string {
  const words = command.kind.replaceAll("_", " ");
  if (command.kind === "request_join") return `${words}: ${printable(command.candidate.hubId)}`;
  return "hubId" in command ? `${words} ${printable(command.hubId)}` : words;
}

function ballotText(command: Extract<LogCommand, { book: "ballots" }>["command"]): string {
  const ballot = `ballot ${printable(command.ballotId)}`;
  switch (command.kind) {
    case "propose":
      return `open ${ballot}: ${actionText(command.action)}`;
    case "vote":
      return `${command.vote.toLowerCase()} ${ballot}`;
    case "withdraw":
      return `withdraw ${ballot}`;
    case "attest":
      return `attest the votes of ${ballot}`;
  }
}

/** actionText says in words what an approved ballot does. */
export function actionText(action: Action): string {
  switch (action.kind) {
    case "admit":
      return `let ${action.hubId} in`;
    case "remove":
      return `remove ${action.hubId}`;
    case "weigh":
      return `give ${action.hubId} the weight ${action.weight}`;
    case "assign_role":
      return `give ${action.hubId} the role ${printable(action.role)}`;
    case "confirm_failed":
      return `confirm that ${action.hubId} has failed`;
    case "set_policy":
      return `set the policy ${printable(action.key)}`;
    case "allocate":
      return `${action.owner} lends ${action.amount} of ${printable(action.resource)} to ${action.borrower}`;
    case "prioritize":
      return `give ${printable(action.id)} the priority ${action.priority}`;
  }
}

function migrationText(command: Extract<LogCommand, { book: "migration" }>["command"]): string {
  if (command.kind === "request") return `move agent ${printable(command.agent)} to ${command.to}`;
  return "agent" in command ? `${command.kind} agent ${printable(command.agent)}` : `${command.kind} migration ${command.transfer}`;
}
