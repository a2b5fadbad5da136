import { type Failure, FoedusError, type Reason } from "#kernel/error.ts";
import { own } from "#kernel/own.ts";
import { printableJson, printableLines } from "#kernel/printable.ts";
import { clean } from "./print/format.ts";

/** EXIT are the exit codes of the command; cli/README.md explains them and a test keeps the two equal. */
export const EXIT = { ok: 0, failed: 1, usage: 2, connect: 3, refused: 4, notFound: 5, timeout: 6 } as const;

/** ExitCode is one of EXIT. */
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Reasons that are not simply "it failed" (1). */
const CODE_OF_REASON: Readonly<Partial<Record<Reason, ExitCode>>> = {
  INVALID_FIELD: EXIT.usage,
  VALUE_OUT_OF_RANGE: EXIT.usage,
  NODE_AMBIGUOUS: EXIT.usage,
  UNKNOWN_IDENTITY: EXIT.refused,
  FOREIGN_CA: EXIT.refused,
  CERTIFICATE_EXPIRED: EXIT.refused,
  IDENTITY_MISMATCH: EXIT.refused,
  ACCESS_DENIED: EXIT.refused,
  TRUST_TOO_LOW: EXIT.refused,
  TOKEN_INVALID: EXIT.refused,
  TOKEN_EXPIRED: EXIT.refused,
  NOT_SHARED: EXIT.refused,
  OUT_OF_SCOPE: EXIT.refused,
  INVITE_CLOSED: EXIT.refused,
  PIN_MISMATCH: EXIT.refused,
  NODE_NOT_FOUND: EXIT.notFound,
  PEER_NOT_FOUND: EXIT.notFound,
  CAPABILITY_NOT_FOUND: EXIT.notFound,
  OFFER_NOT_FOUND: EXIT.notFound,
  // At another hub's node it is the share that does not let it be invoked, or the node itself: the answer does not tell.
  CAPABILITY_ACCESS: EXIT.refused,
  DEADLINE_EXPIRED: EXIT.timeout,
  SHUTTING_DOWN: EXIT.connect,
};

/** gRPC's code for "no connection". */
const UNAVAILABLE = 14;

/** CliError is an end with an exit code, a sentence that says what is wrong, and one that says what to do. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  readonly remedy: string;
  readonly failure: Failure | undefined;

  constructor(exitCode: ExitCode, message: string, remedy: string, more: { readonly failure?: Failure; readonly cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "CliError";
    this.exitCode = exitCode;
    this.remedy = remedy;
    this.failure = more.failure;
  }
}

/** AdvisedError is a failure to reach a hub of which more is known here than its reason says. */
export class AdvisedError extends FoedusError {
  /** What to do: one sentence or more. */
  readonly advice: string;

  constructor(error: FoedusError, advice: string) {
    super(error.failure, { cause: error.cause });
    this.advice = advice;
  }
}

/** usage is a CliError for what was typed wrongly. */
export function usage(message: string, remedy: string, cause?: unknown): CliError {
  return new CliError(EXIT.usage, message, remedy, { cause });
}

/** RemedyOf looks up what to do about a reason. It loads the schema only when a remedy is needed, as that costs start-up time. */
export type RemedyOf = (reason: Reason) => string;

/** fromTransport tells whether a failure is what gRPC itself says (no connection, no answer) and not the hub's own answer. */
export function fromTransport(failure: Failure, code: string): boolean {
  return failure.facts?.["grpc_code"] === code;
}

/** neverConnected tells whether a call ended before there was a connection, so that it provably had no effect. */
export function neverConnected(error: unknown): boolean {
  if (!(error instanceof FoedusError)) return false;
  const details = error.cause instanceof Error && "details" in error.cause ? String(error.cause.details) : "";
  if (fromTransport(error.failure, "DEADLINE_EXCEEDED")) return /waiting for lb pick/i.test(details);
  return fromTransport(error.failure, "UNAVAILABLE") && /no connection established|name resolution|ECONNREFUSED/i.test(details);
}

/** refusedInTls tells whether one end refused the other's certificate, so that no call took place. A hub that answers says so with other codes. */
export function refusedInTls(error: FoedusError): boolean {
  const code = error.cause instanceof Error && "code" in error.cause ? error.cause.code : undefined;
  return CODE_OF_REASON[error.failure.reason] === EXIT.refused && code === UNAVAILABLE;
}

/** exitCodeOf maps a failure to an exit code. */
export function exitCodeOf(error: FoedusError): ExitCode {
  if (refusedInTls(error)) return EXIT.refused;
  if (fromTransport(error.failure, "UNAVAILABLE") && error.failure.reason === "PEER_UNREACHABLE") return EXIT.connect;
  if (neverConnected(error)) return EXIT.connect;
  return CODE_OF_REASON[error.failure.reason] ?? EXIT.failed;
}

/** toCliError turns anything thrown into a CliError. What is none of ours is a bug, and FOEDUS_DEBUG=1 shows where. */
export function toCliError(error: unknown, remedyOf: RemedyOf): CliError {
  if (error instanceof CliError) return error;
  if (error instanceof FoedusError) {
    const { failure } = error;
    const exitCode = exitCodeOf(error);
    return new CliError(exitCode, failure.message, remedy(error, exitCode, remedyOf), { failure, cause: error });
  }
  // The PKI's refusals are sentences for the operator; its class is not imported because node-forge would come with it.
  if (error instanceof Error && error.name === "PkiError") return new CliError(EXIT.usage, error.message, "", { cause: error });
  if (error instanceof Error && "code" in error && "syscall" in error) return fromSystem(error, String(error.code));
  const text = error instanceof Error ? error.message : String(error);
  return new CliError(EXIT.failed, `unexpected error: ${text}`, "Run it again with FOEDUS_DEBUG=1 and report what it prints.", {
    cause: error,
  });
}

/** What to do about an error of the operating system. */
const REMEDY_OF_CODE: Readonly<Record<string, string>> = {
  EACCES: "Run this as the user that owns it, or change its permissions.",
  EPERM: "Run this as the user that owns it, or change its permissions.",
  EROFS: "Choose a place that is not mounted read-only.",
  ENOSPC: "Free some space on the disk, then run this again.",
  EDQUOT: "Free some of your quota on the disk, then run this again.",
  EMFILE: "Raise the limit of open files (`ulimit -n`), then run this again.",
  ENOENT: "Check the path.",
  ENOTDIR: "Check the path.",
  EISDIR: "Check the path.",
  ENOTFILE: "Check the path.",
  EEXIST: "Move it out of the way, or choose another name.",
};

/** What Node calls the steps that a command takes, in words. */
const STEPS: Readonly<Record<string, string>> = {
  mkdir: "create the folder",
  rename: "replace",
  unlink: "delete",
  scandir: "list",
  rm: "delete",
};

/** fromSystem makes a sentence of what Node says: `EACCES: permission denied, open '/x'`. */
function fromSystem(error: Error, code: string): CliError {
  const [, why = "", step = "", path, target] = /^[A-Z0-9]+: (.+), (\w+) '(.*?)'(?: -> '(.*)')?$/s.exec(error.message) ?? [];
  const message = path === undefined ? error.message : `cannot ${own(STEPS, step) ?? step} ${target ?? path}: ${why} (${code})`;
  return new CliError(EXIT.failed, message, own(REMEDY_OF_CODE, code) ?? "", { cause: error });
}

/** fromHub tells whether a hub answered with it, over gRPC, and not this process. */
function fromHub({ cause }: FoedusError): boolean {
  return cause instanceof Error && "details" in cause && "code" in cause;
}

/** operatorWith says whose certificate may do what this one may not. */
function operatorWith(role: string): string {
  return (
    `Use an operator's certificate with that right: pki/operator-${role}.pem in the hub's folder, or one that ` +
    `\`foedus pki issue operator <name> --role ${role}\` makes there.`
  );
}

function remedy(error: FoedusError, exitCode: ExitCode, remedyOf: RemedyOf): string {
  const { failure } = error;
  if (error instanceof AdvisedError) return error.advice;
  // The schema's remedies are written for a hub that refuses a caller; in TLS it may be this command that refuses the server.
  if (refusedInTls(error))
    return "Check the address, the CA and the certificate of the context (`foedus contexts list`, `foedus pki show <file>`).";
  if (exitCode === EXIT.connect) return "Check that the hub runs and that the address is right (`foedus contexts list`).";
  // The schema's remedy speaks of the hub's own verdict; here nobody answered.
  if (fromTransport(failure, "DEADLINE_EXCEEDED")) return "Try again, or allow more time with --timeout.";
  if (fromTransport(failure, "UNIMPLEMENTED"))
    return "The hub does not serve this here: upgrade it, or name the service's own address in the context.";
  // What is wrong with our own configuration is listed; the schema's remedies are for callers of a hub.
  if (error.name === "ConfigError") return "Correct it and try again.";
  if (failure.reason === "NOT_CONFIGURED" && !fromHub(error)) return "";
  if (failure.reason === "ACCESS_DENIED" && fromHub(error))
    return operatorWith(/ role (viewer|admin)\b/.exec(failure.message)?.[1] ?? "admin");
  // A message may say what to do by itself, after a semicolon; twice would be noise.
  return failure.message.includes("; ") ? "" : remedyOf(failure.reason);
}

/** errorText is the error for people: one sentence, then what to do. */
export function errorText(error: CliError): string {
  const { failure } = error;
  // The command was made here: nobody typed its fields.
  const typed = failure?.field !== undefined && !failure.field.startsWith("command.");
  const field = typed && failure?.field !== undefined && !error.message.includes(failure.field) ? ` (${clean(failure.field)})` : "";
  // Only a list of problems with our own configuration has lines; from elsewhere they would look like ours.
  const message =
    (error.cause instanceof Error && error.cause.name === "ConfigError") || failure === undefined
      ? printableLines(error.message)
      : clean(error.message);
  return `foedus: ${message}${field}${error.remedy === "" ? "" : `. ${error.remedy}`}\n`;
}

/** errorJson is the error for programs, on one line. */
export function errorJson(error: CliError): string {
  const { failure } = error;
  return `${printableJson(
    JSON.stringify({
      error: {
        reason: failure?.reason ?? (error.exitCode === EXIT.usage ? "USAGE" : "FAILED"),
        message: error.message,
        remedy: error.remedy,
        exit_code: error.exitCode,
        ...(failure?.field === undefined ? {} : { field: failure.field }),
        ...(failure?.facts === undefined ? {} : { facts: failure.facts }),
      },
    }),
  )}\n`;
}
