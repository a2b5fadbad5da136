import { useState } from "preact/hooks";
import { type CallError, call, RPC } from "../api.ts";
import { freshKey, wallMs } from "../browser.ts";
import { Badge, Name } from "../parts.tsx";
import { asCallError } from "../poll.ts";
import { ageText, shown, timeText, valueText, wordOf } from "../text.ts";
import type { Capability, NodeName, Value } from "../types.ts";
import { parsed, rangeText } from "../value.ts";
import { Field } from "./field.tsx";

/** How long a command may take, ms. */
const COMMAND_MS = 10_000;

/** Result is what became of a command. */
interface Result {
  readonly outcome: string;
  readonly text: string;
  readonly at: string;
  /** With this key the same command may be asked for again: it runs once. */
  readonly lost?: { readonly key: string; readonly value: Value | undefined };
}

interface Executed {
  readonly result?: { readonly outcome?: string; readonly value?: Value; readonly durationMs?: number | string };
}

interface Props {
  readonly target: NodeName;
  readonly capability: Capability;
  readonly now: Value | undefined;
  readonly done: () => void;
}

/** typedOf is the text with which a field begins. */
function typedOf({ type, allowed = [] }: Capability, now: Value | undefined): string {
  if (type === "VALUE_TYPE_BOOL") return String(now?.boolValue ?? false);
  if (type === "VALUE_TYPE_BYTES" || now === undefined) return allowed[0] ?? "";
  return String(now.intValue ?? now.doubleValue ?? now.stringValue ?? now.jsonValue ?? allowed[0] ?? "");
}

/** useSending sends commands of one capability, one at a time. */
function useSending(target: NodeName, capability: Capability, done: () => void) {
  const [sending, setSending] = useState(false);
  const [result, setResult] = useState<Result>();
  const send = async (key: string, value: Value | undefined): Promise<void> => {
    setSending(true);
    try {
      const command = {
        target,
        capability: capability.name,
        idempotencyKey: key,
        timeoutMs: COMMAND_MS,
        ...(value === undefined ? {} : { value }),
      };
      const { result: answer } = await call<Executed>(RPC.execute, { command }, { timeoutMs: COMMAND_MS });
      const back = answer?.value === undefined ? "" : `, answered ${valueText(answer.value, capability.unit)}`;
      const outcome = wordOf("OUTCOME_", answer?.outcome);
      setResult({ outcome, text: `in ${ageText(Number(answer?.durationMs ?? 0))}${back}`, at: timeText(wallMs()) });
    } catch (error) {
      setResult(failed(asCallError(error), key, value));
    }
    setSending(false);
    done();
  };
  return { sending, result, send };
}

/** Command is a form that is made from what a capability says it takes. */
export function Command({ target, capability, now, done }: Props) {
  const [typed, setTyped] = useState<string>();
  const [problem, setProblem] = useState("");
  const { sending, result, send } = useSending(target, capability, done);
  const id = `command-${capability.name.replaceAll(/[^\w]/g, (character) => `-${character.codePointAt(0)?.toString(16)}-`)}`;
  const text = typed ?? typedOf(capability, now);

  const onSubmit = (event: Event): void => {
    event.preventDefault();
    const read = parsed(capability, text);
    setProblem("problem" in read ? read.problem : "");
    if ("value" in read) void send(freshKey(), read.value);
  };
  const range = rangeText(capability);
  return (
    <form class="command" onSubmit={onSubmit} noValidate aria-label={`Command ${shown(capability.name)}`}>
      <div class="tools">
        <Field id={id} capability={capability} text={text} change={setTyped} problem={problem} />
        <button type="submit" class="main" disabled={sending}>
          {sending ? "Sending …" : "Send"}
          <span class="hidden"> {shown(capability.name)}</span>
        </button>
      </div>
      {range === "" ? null : (
        <p class="soft hint" id={`${id}-hint`}>
          {shown(range)}
        </p>
      )}
      {capability.description === undefined || capability.description === "" ? null : (
        <p class="soft hint">
          <Name text={capability.description} />
        </p>
      )}
      {problem === "" ? null : (
        <p class="problem" role="alert" id={`${id}-problem`}>
          The value {problem}.
        </p>
      )}
      <Outcome result={result} again={send} />
    </form>
  );
}

function failed(error: CallError, key: string, value: Value | undefined): Result {
  const at = timeText(wallMs());
  if (error.code === "unreachable")
    return { outcome: "no answer", text: "the hub did not answer; the command may or may not have run", at, lost: { key, value } };
  const reason = error.reason === "" ? error.code : error.reason;
  return { outcome: shown(error.facts["outcome"]).toLowerCase() || "refused", text: `${shown(error.message)} (${shown(reason)})`, at };
}

interface OutcomeProps {
  readonly result: Result | undefined;
  readonly again: (key: string, value: Value | undefined) => Promise<void>;
}

function Outcome({ result, again }: OutcomeProps) {
  const { lost } = result ?? {};
  return (
    <p class="result" role="status">
      {result === undefined ? null : (
        <>
          <Badge tone={result.outcome === "done" ? "good" : "bad"}>{result.outcome}</Badge> <bdi class="name">{result.text}</bdi>{" "}
          <span class="soft">at {result.at}</span>
        </>
      )}
      {lost === undefined ? null : (
        <>
          {" "}
          <button type="button" onClick={() => void again(lost.key, lost.value)}>
            Ask what became of it
          </button>
        </>
      )}
    </p>
  );
}
