import type { EventSink } from "#runtime/events.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { CommandOutcome, AutomationPort as CommandPort, CommandRequest } from "../command-forwarding/index.ts";
import type { StateChange } from "../registry-sync/index.ts";

/** AutomationHub is what a rule may ask of the hub that runs it. */
export interface AutomationHub {
  readonly hubId: string;
  /**
   * submit runs a command and gives its outcome: at a local executor, at the in-process handler, or at the owning hub, as its target
   * says (S0-26). The automation's name is counted as a hop, so that two hubs cannot command each other for ever (B0-8).
   */
  submit(command: CommandRequest): Promise<CommandOutcome>;
  /** forwardToFederation sends a command to a peer's node; false when federation is off or no session leads there (S0-27). It never throws. */
  forwardToFederation(command: CommandRequest): boolean;
}

/** Automation is a rule engine in the hub's process. In split mode the same is written as a client: Watch and Execute. */
export interface Automation {
  /** Names it in hops, journals and events. */
  readonly name: string;
  /** onChange is told each state change of own nodes before any peer is (S0-25), and each of peers' nodes when it was applied (S0-26). It must not wait. */
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
      submit: (command) => this.#commands?.submit(command, name) ?? Promise.reject(new Error("command forwarding is not running")),
      forwardToFederation: (command) => this.#commands?.forwardToFederation(command, name) ?? false,
    };
  }

  /** connect gives it the way to run commands. */
  connect(commands: CommandPort): void {
    this.#commands = commands;
  }

  onChange(change: StateChange): void {
    try {
      this.#automation.onChange(change, this.#hub);
    } catch (error) {
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
}
