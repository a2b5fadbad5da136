import { create } from "@bufbuild/protobuf";
import { systemEntropy } from "#channel/entropy.ts";
import { ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type CommandResult, CommandResultSchema, Outcome, OutcomeSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import type { Capability } from "#gen/foedus/common/v1/node_pb.ts";
import { type Value, ValueType, ValueTypeSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { formatParent, parseTrace } from "#kernel/trace-context.ts";
import { nearest } from "#runtime/config/shape.ts";
import { CliError, EXIT, type ExitCode, exitCodeOf, fromTransport, neverConnected, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseDuration, parseNode, parseValue } from "../parse.ts";
import { clean, duration, enumLabels, enumValue, label, nodeText, valueText } from "../print/format.ts";
import { withNodes } from "../reach/candidates.ts";
import { type Connection, connect } from "../reach/connect.ts";
import { causeOf } from "../reach/cut-off.ts";
import { failureError, messageJson, type OperatorFlags, printJson } from "../verb.ts";
import { getNode, rangeOf } from "./node.ts";

/** SendFlags are the options of `send`. */
export interface SendFlags extends OperatorFlags {
  readonly idempotencyKey?: string;
  readonly type?: string;
  readonly traceparent?: string;
}

/** Deadline of a command, ms, unless --timeout says otherwise (S0-19). */
const DEFAULT_TIMEOUT_MS = 10_000;
/** Longest deadline of a command, ms: the schema's bound. */
const MAX_TIMEOUT_MS = 3_600_000;
/** The answer gets this much longer than the command, ms, so that the hub's EXPIRED arrives and is not guessed. */
const ANSWER_MARGIN_MS = 2_000;

interface Order {
  readonly target: { readonly hubId: string; readonly nodeId: string };
  readonly capability: string;
  readonly value: Value | undefined;
  readonly unit: string;
}

/** run runs one command on a node and prints what became of it. */
export async function run(
  io: Io,
  [text = "", capability = "", given]: readonly string[],
  options: SendFlags,
): Promise<ExitCode | undefined> {
  const timeoutMs = Math.ceil(options.timeout === undefined ? DEFAULT_TIMEOUT_MS : parseDuration(options.timeout));
  if (timeoutMs > MAX_TIMEOUT_MS)
    throw usage(`a command cannot wait ${duration(timeoutMs)}`, `The longest deadline is ${duration(MAX_TIMEOUT_MS)}.`);
  const metadata = traceMetadata(io, options.traceparent);
  // A key even if none is given: a lost answer can then be asked for again without running the command twice.
  const idempotencyKey = options.idempotencyKey ?? `cli-${systemEntropy.id()}`;
  using connection = await connect(options, io);
  const order = await orderOf(connection, text, capability, given, options.type, io.stopped);
  const command = {
    target: order.target,
    capability,
    timeoutMs,
    idempotencyKey,
    ...(order.value === undefined ? {} : { value: order.value }),
  };
  let result: CommandResult | undefined;
  try {
    const call = { timeoutMs: timeoutMs + ANSWER_MARGIN_MS, signal: io.stopped, metadata };
    const request = create(ExecuteRequestSchema, { command });
    ({ result } = await withNodes(connection, text, io.stopped, () => connection.commands.execute(request, call)));
  } catch (error) {
    throw await withCause(connection, order, explain(error, idempotencyKey), io.stopped);
  }
  if (result === undefined) throw new CliError(EXIT.failed, "the hub answered without a result", "Upgrade the hub.");
  await show(io, order, result, options);
  if (result.outcome === Outcome.DONE) return EXIT.ok;
  if (result.failure !== undefined) throw await withCause(connection, order, failureError(result.failure), io.stopped);
  return result.outcome === Outcome.EXPIRED ? EXIT.timeout : EXIT.failed;
}

/**
 * traceMetadata is what tells the hub which trace the command belongs to: --traceparent, else TRACEPARENT, as other tools set it. A
 * wrong flag is an error; what is wrong in the environment, which may be meant for others, is left out.
 */
function traceMetadata({ env }: Io, flag: string | undefined): Readonly<Record<string, string>> {
  const trace = parseTrace(flag ?? env["TRACEPARENT"] ?? "", env["TRACESTATE"]);
  if (flag !== undefined && trace === undefined)
    throw usage(`"${flag}" is not a trace context`, "Write 00-<32 hex digits>-<16 hex digits>-<2 hex digits> (W3C Trace Context).");
  if (trace === undefined) return {};
  return { traceparent: formatParent(trace), ...(trace.state === "" ? {} : { tracestate: trace.state }) };
}

/** orderOf reads the value as the capability's type asks; --type says it without asking the hub. */
async function orderOf(
  connection: Connection,
  text: string,
  name: string,
  given: string | undefined,
  type: string | undefined,
  signal: AbortSignal,
): Promise<Order> {
  const what = `${text} ${name}`;
  if (type !== undefined) {
    const number = enumValue(ValueTypeSchema, type);
    if (number === undefined) throw usage(`there is no type "${type}"`, `Types are ${enumLabels(ValueTypeSchema).join(", ")}.`);
    return {
      target: parseNode(text),
      capability: name,
      value: given === undefined ? undefined : parseValue(given, number, what),
      unit: "",
    };
  }
  const { name: target, node } = await getNode(connection, text, signal);
  const capability = node?.capabilities.find((candidate) => candidate.name === name);
  if (capability === undefined || target === undefined) {
    const known = node?.capabilities.filter(({ invocable }) => invocable).map((candidate) => clean(candidate.name)) ?? [];
    const near = nearest(name, known);
    const meant = near === undefined ? undefined : `Did you mean ${near}?`;
    const remedy =
      known.length === 0
        ? "Nothing on it can be invoked."
        : (meant ?? `It can do: ${known.slice(0, 12).join(", ")}${known.length > 12 ? ", …" : ""}.`);
    const failure = { reason: "CAPABILITY_NOT_FOUND" as const, message: `${nodeText(target)} has no capability "${name}"` };
    throw new CliError(EXIT.notFound, failure.message, remedy, { failure });
  }
  // One that is not to be invoked is refused by the hub, which says why.
  if (given === undefined && capability.type !== 0 && capability.invocable) throw usage(`${what} needs a value`, takes(capability));
  return {
    target,
    capability: name,
    value: given === undefined ? undefined : parseValue(given, capability.type, what),
    unit: capability.unit,
  };
}

const KINDS: Readonly<Record<number, string>> = {
  [ValueType.BOOL]: "true or false",
  [ValueType.SINT64]: "a whole number",
  [ValueType.DOUBLE]: "a number",
  [ValueType.STRING]: "some text",
  [ValueType.BYTES]: "bytes as 0x… or base64",
  [ValueType.JSON]: "JSON",
};

/** takes says what a capability takes as its value. */
function takes(capability: Capability): string {
  if (capability.allowed.length > 0) return `Give one of ${capability.allowed.slice(0, 16).map(clean).join(", ")}.`;
  const range = clean(rangeOf(capability));
  const unit = clean(capability.unit);
  return `Give ${KINDS[capability.type] ?? "one"}${range === "" ? "" : `, ${range}`}${unit === "" ? "" : ` ${unit}`}.`;
}

/** explain says of a call that ended without an answer that its outcome is not known, and how to learn it. */
function explain(error: unknown, idempotencyKey: string): unknown {
  if (!(error instanceof FoedusError) || neverConnected(error)) return error;
  const { failure } = error;
  const timedOut = fromTransport(failure, "DEADLINE_EXCEEDED");
  if (!timedOut && !fromTransport(failure, "UNAVAILABLE") && !fromTransport(failure, "CANCELLED")) return error;
  const message = timedOut
    ? "the hub did not answer in time, so the outcome is not known"
    : "the connection ended before the answer, so the outcome is not known";
  const remedy = `Repeat the same command with --idempotency-key ${idempotencyKey}: it will not run twice, and you get its outcome.`;
  const known = { reason: "OUTCOME_UNKNOWN" as const, message, facts: { idempotency_key: idempotencyKey } };
  return new CliError(timedOut ? EXIT.timeout : EXIT.failed, message, remedy, { failure: known, cause: error });
}

/** withCause says of a hub that answered "no session with the owner" why there is none, as its view of peers knows it. */
async function withCause(connection: Connection, { target }: Order, error: unknown, signal: AbortSignal): Promise<unknown> {
  if (!(error instanceof FoedusError) || error.failure.reason !== "PEER_UNREACHABLE" || fromTransport(error.failure, "UNAVAILABLE"))
    return error;
  const cause = await causeOf(connection, target.hubId, signal);
  if (cause === undefined) return error;
  const { failure } = error;
  return new CliError(exitCodeOf(error), `${failure.message}: ${cause.message}`, cause.remedy, { failure, cause: error });
}

async function show(io: Io, order: Order, result: CommandResult, options: SendFlags): Promise<void> {
  if (options.json) return printJson(io, messageJson(CommandResultSchema, result));
  if (options.quiet) return result.value?.kind.case === undefined ? undefined : io.out(`${clean(valueText(result.value))}\n`);
  const outcome = label(OutcomeSchema, result.outcome);
  const colour = result.outcome === Outcome.DONE ? "green" : result.outcome === Outcome.UNKNOWN ? "yellow" : "red";
  const value = result.value?.kind.case === undefined ? "" : `, value ${clean(valueText(result.value, order.unit))}`;
  const replayed = result.replayed ? ", stored answer of an earlier run" : "";
  return io.out(
    `${nodeText(order.target)} ${clean(order.capability)}: ${io.style(colour, outcome)} in ${duration(result.durationMs)}${value}${replayed}\n`,
  );
}
