// The command line that operators use, against a hub of the harness.
import { spawn } from "node:child_process";

/** Answer is how a call ended, as grpcurl tells it. */
export interface Answer {
  /** gRPC code by its number; 0 is OK. */
  readonly code: number;
  readonly message: string;
  /** google.rpc details, decoded by grpcurl; one that it cannot decode has `@error` in it. */
  readonly details: readonly Readonly<Record<string, unknown>>[];
  /** Everything that the server answered, as grpcurl printed it. */
  readonly stdout: string;
}

/** Door is where to call and as whom. */
export interface Door {
  readonly grpcurl: string;
  readonly address: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Descriptor set to use instead of reflection. */
  readonly protoset?: string;
  readonly headers?: readonly string[];
}

/** Exited is a command that is over. */
export interface Exited {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface RunOptions {
  readonly stdin?: string;
  /** True leaves stdin open until the command prints something. */
  readonly stays?: boolean | undefined;
  /** The command is ended, as by ctrl-c, once it has printed this; its code is then 0. */
  readonly enough?: RegExp | undefined;
  readonly timeoutMs?: number;
  readonly cwd?: string;
}

/** run runs a command to its end; what does not end within the time is killed and fails the test. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Exited> {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], timeout: options.timeoutMs ?? 60_000, cwd: options.cwd });
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) child[name].setEncoding("utf8").on("data", (part: string) => (text[name] += part));
  child.stdin.on("error", () => undefined).write(options.stdin ?? "");
  if (options.stays === true) child.stdout.once("data", () => child.stdin.end());
  else child.stdin.end();
  let had = false;
  child.stdout.on("data", () => {
    had ||= options.enough?.test(text.stdout) === true;
    if (had) child.kill("SIGINT");
  });
  return new Promise<Exited>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (had || signal === null) resolve({ code: had ? 0 : code, ...text });
      else reject(new Error(`${[command, ...args].join(" ")} did not end: ${signal}\n${text.stdout}${text.stderr}`));
    });
  });
}

function flagsOf(door: Door): string[] {
  const schema = door.protoset === undefined ? [] : ["-protoset", door.protoset];
  const headers = (door.headers ?? []).flatMap((header) => ["-H", header]);
  return ["-cacert", door.ca, "-cert", door.cert, "-key", door.key, "-connect-timeout", "30", ...schema, ...headers];
}

/** ask runs grpcurl with a verb (`list`, `describe`) and answers its lines; a failure is thrown. */
export async function ask(door: Door, ...verb: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await run(door.grpcurl, [...flagsOf(door), door.address, ...verb]);
  if (code !== 0) throw new Error(`grpcurl ${verb.join(" ")}: ${stderr}`);
  return stdout.trimEnd().split("\n");
}

/** CallOptions shape a call. */
interface CallOptions {
  /** Deadline, s. */
  readonly maxTimeS: number;
  /** True ends the caller's side of the stream only after the first answer. */
  readonly stays?: boolean | undefined;
  /** The caller has seen enough, and goes, when this was printed; the code is then 0. */
  readonly enough?: RegExp | undefined;
}

/** call makes one call with the given requests, one after another for streams. */
export async function call(door: Door, method: string, requests: readonly unknown[], options: CallOptions): Promise<Answer> {
  const data = requests.map((request) => JSON.stringify(request)).join("\n");
  const flags = [...flagsOf(door), "-format-error", "-max-time", String(options.maxTimeS), "-d", "@"];
  const { stays, enough } = options;
  const { code, stdout, stderr } = await run(door.grpcurl, [...flags, door.address, method], { stdin: data, stays, enough });
  if (code === 0) return { code: 0, message: "", details: [], stdout };
  // grpcurl ends with 64 and the code; anything else is a mistake of the command line or of the connection.
  if (code === null || code < 64) throw new Error(`grpcurl ${method}: ${stderr}`);
  const status = JSON.parse(stderr) as { message?: string; details?: Record<string, unknown>[] };
  return { code: code - 64, message: status.message ?? "", details: status.details ?? [], stdout };
}

/** detail finds a google.rpc detail by its name, e.g. "ErrorInfo". */
export function detail(answer: Answer, name: string): Readonly<Record<string, unknown>> | undefined {
  return answer.details.find((found) => found["@type"] === `type.googleapis.com/google.rpc.${name}`);
}
