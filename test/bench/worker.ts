// Benches run their parts as processes of their own. A parent starts a part, waits until it is ready, says go, and gets its result.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";

/** Part is a started part of a bench. */
export interface Part<R> {
  readonly pid: number;
  /** go starts the measured work and resolves with the part's result. */
  go(argument?: unknown): Promise<R>;
  stop(): Promise<void>;
}

/** startPart starts a role of a bench file; it resolves when the part said that it is ready. */
export async function startPart<R>(file: string, role: string, argument: unknown): Promise<Part<R>> {
  const child = fork(file, [role, JSON.stringify(argument)], { stdio: ["ignore", "inherit", "inherit", "ipc"], execArgv: [] });
  await message(child, "ready");
  return {
    pid: child.pid!,
    go: async (more) => {
      child.send({ kind: "go", argument: more });
      return (await message(child, "result")).value as R;
    },
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      await gone;
    },
  };
}

interface Message {
  readonly kind: string;
  readonly value?: unknown;
}

function message(child: ChildProcess, kind: string): Promise<Message> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null): void => reject(new Error(`a part of the bench ended with ${code} before it said ${kind}`));
    const onMessage = (received: unknown): void => {
      const said = received as Message;
      if (said.kind !== kind) return;
      child.off("exit", onExit);
      child.off("message", onMessage);
      resolve(said);
    };
    child.on("message", onMessage);
    child.once("exit", onExit);
  });
}

/** A role prepares with its argument and gives the function that `go` calls. */
export type Role = (argument: never) => Promise<(more: never) => Promise<unknown>>;

/** runRole is the main program of a bench file when it was started as a part; false if it was not. */
export async function runRole(roles: Readonly<Record<string, Role>>): Promise<boolean> {
  const [name, argument] = process.argv.slice(2);
  const role = name === undefined ? undefined : roles[name];
  if (process.send === undefined || role === undefined) return false;
  const go = await role(JSON.parse(argument ?? "null") as never);
  process.on("message", (received: { kind: string; argument?: unknown }) => {
    if (received.kind !== "go") return;
    go(received.argument as never).then(
      (value) => process.send!({ kind: "result", value }),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
        process.exit(1);
      },
    );
  });
  process.once("SIGTERM", () => process.exit(0));
  process.once("disconnect", () => process.exit(0));
  process.send({ kind: "ready" });
  return true;
}

/** quantiles of an unsorted list of numbers. */
export function quantiles(values: readonly number[] | Float64Array): { p50: number; p99: number; p999: number; max: number } {
  const sorted = Float64Array.from(values).sort();
  const at = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: sorted.at(-1) ?? Number.NaN };
}

/** median of a list. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length === 0 ? Number.NaN : sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** preciseWall is Unix time in ms with a fraction: comparable between the processes of one machine. */
export function preciseWall(): number {
  return performance.timeOrigin + performance.now();
}
