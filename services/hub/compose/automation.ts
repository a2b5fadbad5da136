import { fail } from "#kernel/error.ts";
import type { EventSink } from "#runtime/events.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { CommandOutcome, AutomationPort as CommandPort, CommandRequest } from "../../command-forwarding/index.ts";
import type { StateChange } from "../../registry-sync/index.ts";

/** AutomationHub is what a rule may ask of the hub that runs it. */
export interface AutomationHub {
  readonly hubId: string;
  /**
   * submit runs a command and gives its outcome: at a local executor, at the in-process handler, or at the owning hub, as its target
   * says (S0-26). The automation's name is counted as a hop, so that two hubs cannot command each other for ever (B0-8). It rejects
   * with the reason why there is no outcome, OVERLOADED for instance; a rule that does not wait for it need not catch that.
   */
  submit(command: CommandRequest): Promise<CommandOutcome>;
  /** forwardToFederation sends a command to a peer's node; false when federation is off or no session leads there (S0-27). It never throws. */
  forwardToFederation(command: CommandRequest): boolean;
}

/** Automation is a rule engine in the hub's process. In split mode the same is written as a client: Watch and Execute. */
export interface Automation {
  /** Names it in hops, journals and events. */
  readonly name: string;
  /** onChange is told each state change of own nodes before any peer is (S0-25), and each of peers' nodes when it was applied (S0-26). It may be async; nobody waits for it. */
  onChange(change: StateChange, hub: AutomationHub): void;
}

/** Only the first failure of so many is told; a broken rule fails at every change. */
const TELL_EVERY = 1_000;

/** AutomationSeat joins an automation to the services, and keeps its failures away from them (S0-24). */
export class AutomationSeat {
  readonly enabled = true;
  readonly #automation: Automation;
  readonly #log: Logger;
  readonly #events: EventSink;
  readonly #hub: AutomationHub;
  #commands: CommandPort | undefined;
  #failures = 0;

  constructor(automation: Automation, options: { readonly hubId: string; readonly log: Logger; readonly events: EventSink }) {
    this.#automation = automation;
    this.#log = options.log;
    this.#events = options.events;
    const { name } = automation;
    this.#hub = {
      hubId: options.hubId,
      submit: (command) => this.#submit(command),
      forwardToFederation: (command) => this.#commands?.forwardToFederation(command, name) ?? false,
    };
  }

  /** connect gives it the way to run commands. */
  connect(commands: CommandPort): void {
    this.#commands = commands;
  }

  onChange(change: StateChange): void {
    try {
      const pending: unknown = this.#automation.onChange(change, this.#hub);
      if (pending instanceof Promise) pending.catch((error: unknown) => this.#failed(error));
    } catch (error) {
      this.#failed(error);
    }
  }

  /** submit hands out a promise that somebody listens to already: one that nobody awaits and that rejects would end the process. */
  #submit(command: CommandRequest): Promise<CommandOutcome> {
    const { name } = this.#automation;
    const outcome =
      this.#commands === undefined
        ? Promise.reject<CommandOutcome>(fail("SHUTTING_DOWN", "command forwarding is not running"))
        : this.#commands.submit(command, name);
    outcome.catch((error: unknown) => this.#log.warn({ automation: name, error }, "command of an automation was not taken"));
    return outcome;
  }

  #failed(error: unknown): void {
    if (this.#failures++ % TELL_EVERY !== 0) return;
    const { name } = this.#automation;
    this.#log.error({ automation: name, failures: this.#failures, error }, "automation failed");
    this.#events.report({
      kind: "MODULE",
      severity: "ERROR",
      text: `the automation ${name} failed`,
      fields: { failures: String(this.#failures) },
    });
  }
}
