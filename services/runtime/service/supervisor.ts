import type { Clock } from "#channel/clock.ts";
import { fail } from "#kernel/error.ts";
import { withTimeout } from "../clock.ts";
import type { Logger } from "../log/log.ts";
import type { ServiceModule } from "./module.ts";

/** ModuleRow is a line of the module table. */
export interface ModuleRow<M extends ServiceModule = ServiceModule> {
  readonly module: M;
  /** needs: these must have started, or this one is not started. */
  readonly needs?: readonly string[];
  /** after: these are started before, if they are there; this one starts even if they failed. */
  readonly after?: readonly string[];
}

/** ModuleState is how a module fares. */
export interface ModuleState {
  readonly name: string;
  readonly state: "waiting" | "running" | "failed" | "stopped";
  readonly ready: boolean;
  readonly reason?: string;
}

/** SupervisorOptions are the table and the platform. */
export interface SupervisorOptions {
  readonly modules: readonly ModuleRow[];
  readonly clock: Clock;
  readonly log: Logger;
  /** How long a module may take to start, ms. 30,000 by default. */
  readonly startTimeoutMs?: number;
}

/** orderModules sorts a table so that each module comes after what it needs; it keeps the table's order where it may. Throws on unknown names and cycles. */
export function orderModules(rows: readonly ModuleRow[]): ModuleRow[] {
  const byName = new Map(rows.map((row) => [row.module.name, row]));
  if (byName.size !== rows.length) throw fail("NOT_CONFIGURED", "a module is in the table twice");
  const order: ModuleRow[] = [];
  const done = new Set<string>();
  const visit = (row: ModuleRow, path: readonly string[]): void => {
    const { name } = row.module;
    if (done.has(name)) return;
    if (path.includes(name))
      throw fail("NOT_CONFIGURED", `modules need each other: ${[...path.slice(path.indexOf(name)), name].join(" -> ")}`);
    for (const need of row.needs ?? [])
      if (!byName.has(need)) throw fail("NOT_CONFIGURED", `module ${name} needs ${need}, which is not there`);
    for (const before of [...(row.needs ?? []), ...(row.after ?? [])]) {
      const other = byName.get(before);
      if (other !== undefined) visit(other, [...path, name]);
    }
    done.add(name);
    order.push(row);
  };
  for (const row of rows) visit(row, []);
  return order;
}

/**
 * Supervisor starts the modules of a hub in order and stops them in reverse. A module that fails to start, or later, never
 * takes others with it (S0-24): it is reported as not ready, with the reason, and so are those that need it.
 */
export class Supervisor {
  readonly #o: SupervisorOptions;
  readonly #order: readonly ModuleRow[];
  readonly #states = new Map<string, "waiting" | "running" | "failed" | "stopped">();
  readonly #reasons = new Map<string, string>();
  readonly #errors = new Map<string, unknown>();

  constructor(options: SupervisorOptions) {
    this.#o = options;
    this.#order = orderModules(options.modules);
    for (const { module } of this.#order) this.#states.set(module.name, "waiting");
  }

  /** start starts what can be started; true when all modules run. It does not throw. */
  async start(): Promise<boolean> {
    for (const row of this.#order) {
      const missing = (row.needs ?? []).find((need) => this.#states.get(need) !== "running");
      if (missing === undefined) await this.#startOne(row.module);
      else this.failed(row.module.name, fail("NOT_CONFIGURED", `needs ${missing}, which does not run`));
    }
    return this.#order.every(({ module }) => this.#states.get(module.name) === "running");
  }

  /** failed notes that a module broke while running: a failed assertion of its core, for instance. */
  failed(name: string, error: unknown): void {
    this.#states.set(name, "failed");
    this.#errors.set(name, error);
    this.#reasons.set(name, error instanceof Error ? error.message : String(error));
    this.#o.log.error({ module: name, error }, "module failed");
  }

  /** firstError is why the first module, in starting order, failed; undefined if none did. Those that needed it follow from it. */
  firstError(): unknown {
    const failed = this.#order.find(({ module }) => this.#states.get(module.name) === "failed");
    return failed === undefined ? undefined : this.#errors.get(failed.module.name);
  }

  /** states tell how each module fares, in starting order. */
  states(): ModuleState[] {
    return this.#order.map(({ module }) => this.#stateOf(module));
  }

  /** ready is true when every module runs and is ready. */
  ready(): boolean {
    return this.states().every((state) => state.ready);
  }

  /** describe joins what the modules tell about themselves. */
  describe(): string {
    const parts = this.#order.map(({ module }) => {
      const { state, reason } = this.#stateOf(module);
      const head = `== ${module.name}: ${state}${reason === undefined ? "" : ` (${reason})`}`;
      return state === "running" ? `${head}\n${guarded(() => module.describe(), "cannot describe itself")}` : head;
    });
    return `${parts.join("\n\n")}\n`;
  }

  /** stop stops the modules in reverse order, those that failed too; all of them share `graceMs`. True when none failed to. */
  async stop(graceMs: number): Promise<boolean> {
    const end = this.#o.clock.mono() + graceMs;
    let clean = true;
    for (const { module } of this.#order.toReversed()) {
      if (this.#states.get(module.name) === "waiting") continue;
      const left = Math.max(0, end - this.#o.clock.mono());
      try {
        await withTimeout(this.#o.clock, left + STOP_MARGIN_MS, async () => module.stop(left));
        if (this.#states.get(module.name) === "running") this.#states.set(module.name, "stopped");
      } catch (error) {
        clean = false;
        this.failed(module.name, error);
      }
    }
    return clean;
  }

  async #startOne(module: ServiceModule): Promise<void> {
    const timeoutMs = this.#o.startTimeoutMs ?? 30_000;
    try {
      await withTimeout(this.#o.clock, timeoutMs, async () => module.start());
      this.#states.set(module.name, "running");
      this.#o.log.info({ module: module.name }, "module started");
    } catch (error) {
      this.failed(module.name, error);
    }
  }

  #stateOf(module: ServiceModule): ModuleState {
    const state = this.#states.get(module.name) ?? "waiting";
    const said = this.#reasons.get(module.name);
    if (state !== "running") return { name: module.name, state, ready: false, ...(said === undefined ? {} : { reason: said }) };
    const { ready, reason } = guarded(() => module.readiness(), { ready: false, reason: "cannot tell its readiness" });
    return { name: module.name, state, ready, ...(reason === undefined ? {} : { reason }) };
  }
}

/** A module that ignores its grace is given this much more before it is left behind. */
const STOP_MARGIN_MS = 500;

/** guarded keeps a module that throws where it must not from hurting the others (S0-24). */
function guarded<T>(ask: () => T, otherwise: T): T {
  try {
    return ask();
  } catch {
    return otherwise;
  }
}
