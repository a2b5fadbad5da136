import type { Failure } from "#kernel/error.ts";
import type { Io } from "../io.ts";
import { clean, clockTime, count } from "../print/format.ts";
import { type OutputFlags, printJson } from "../verb.ts";
import type { Change, FeatureValue, SimulatedDevice } from "./kinds.ts";

/** Most lines about commands and readings in a second: who commands a device must not fill the terminal or the log of its owner. */
const LINES_PER_SECOND = 20;
const SECOND_MS = 1_000;

/** What a device measures by itself is printed so seldom, ms, and on a terminal only in its last line. JSON has all of it. */
const READINGS_MS = 10_000;

/** Named is who a device is. */
export interface Named {
  readonly hubId: string;
  readonly nodeId: string;
}

/** Invoked is a command that came to a device. */
export interface Invoked {
  readonly capability: string;
  readonly value: unknown;
  /** The hub that it came from. */
  readonly callerHubId: string;
}

/** valueOf writes a value of a device, with its unit. */
function valueOf(device: SimulatedDevice, key: string, value: FeatureValue): string {
  const unit = device.features.find(({ name }) => name === key)?.unit ?? "";
  return `${value}${unit === "" ? "" : ` ${unit}`}`;
}

/** Longest text of an argument that is shown. */
const ARGUMENT_MAX = 60;

/** argumentOf writes what somebody sent, which may be anything. */
function argumentOf(value: unknown): string {
  const text = typeof value === "object" && value !== null ? `(${value instanceof Uint8Array ? "bytes" : "JSON"})` : String(value ?? "");
  return clean(text.length > ARGUMENT_MAX ? `${text.slice(0, ARGUMENT_MAX)}…` : text);
}

/** Teller says what happens to a simulated device: a line for each thing, JSON for programs, and on a terminal a last line with its state. */
export class Teller {
  readonly #io: Io;
  readonly #flags: OutputFlags;
  readonly #device: SimulatedDevice;
  readonly #name: Named;
  #link = "connecting";
  #lastBy = "";
  #second = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #unsaid = 0;
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(io: Io, flags: OutputFlags, device: SimulatedDevice, name: Named) {
    this.#io = io;
    this.#flags = flags;
    this.#device = device;
    this.#name = name;
  }

  get #node(): string {
    return clean(`${this.#name.hubId}/${this.#name.nodeId}`);
  }

  /** who names the hub that a command came from. */
  #who(callerHubId: string): string {
    return callerHubId === this.#name.hubId || callerHubId === "" ? `${clean(this.#name.hubId)}, its own hub` : clean(callerHubId);
  }

  /** begins says what is simulated, and what to try. */
  begins(keep: boolean): void {
    const { type, examples, nodeType } = this.#device;
    if (this.#flags.json) return this.#json({ event: "started", node: this.#node, type: nodeType });
    const tries = examples.map(([capability, value]) => `  foedus send ${this.#node} ${capability} ${value}\n`).join("");
    const what = `${this.#node} is a simulated ${type}.`;
    this.#io.note(
      `${tries === "" ? `${what} To see what it reports, from another terminal:\n  foedus watch ${this.#node}\n` : `${what} To switch it, from another terminal:\n${tries}`}` +
        `Ctrl-c ends it${keep ? "; the hub keeps it, as offline" : " and takes it out of the registry"}.\n`,
    );
    this.#show();
  }

  /** connected says that the hub gives it commands. */
  connected(): void {
    if (this.#link === "connected") return;
    this.#link = "connected";
    if (this.#flags.json) this.#json({ event: "connected" });
    else if (!this.#flags.quiet) this.#line(`${this.#io.style("green", "connected")} to ${clean(this.#name.hubId)}`);
    this.#show();
  }

  /** away says why the hub is not reached; it goes on trying. Once, until it is connected again. */
  away(message: string, remedy = ""): void {
    if (this.#link === "away") return;
    this.#link = "away";
    if (this.#flags.json) this.#json({ event: "disconnected", message });
    else this.#io.error(`foedus: ${clean(message)}; trying until it answers${remedy === "" ? "" : `. ${clean(remedy)}`}\n`);
    this.#show();
  }

  /** ran says what a command did. */
  ran({ capability, value, callerHubId }: Invoked, changes: readonly Change[]): void {
    this.#lastBy = this.#who(callerHubId);
    if (this.#flags.json)
      this.#limited(() => this.#json({ event: "command", capability, ...plain(value), by: callerHubId, outcome: "DONE" }));
    const by = `by ${this.#lastBy}`;
    if (changes.length === 0) this.#limited(() => this.#said(`${clean(capability)} ${argumentOf(value)}`, `already, ${by}`));
    this.changed(changes, by);
  }

  /** refused says which command was not done. */
  refused({ capability, value, callerHubId }: Invoked, { reason, message }: Failure): void {
    if (this.#flags.json)
      return this.#limited(() =>
        this.#json({ event: "command", capability, ...plain(value), by: callerHubId, outcome: "REJECTED", reason }),
      );
    const what = `${clean(capability)} ${argumentOf(value)}`.trim();
    this.#limited(() => this.#said(what, `${this.#io.style("yellow", "refused")}: ${clean(message)}, by ${this.#who(callerHubId)}`));
  }

  /** changed says which values became others. */
  changed(changes: readonly Change[], by = ""): void {
    for (const { key, before, value } of changes)
      this.#limited(() => {
        if (this.#flags.json) return this.#json({ event: "state", key, value });
        if (this.#flags.quiet) return void this.#io.out(`${key}=${value}\n`);
        const now = this.#io.style("bold", valueOf(this.#device, key, value));
        return this.#said(`${key} ${by === "" ? now : `${valueOf(this.#device, key, before)} -> ${now}`}`, by);
      });
    this.#show();
  }

  /** reads says what the device measured by itself. */
  reads(changes: readonly Change[]): void {
    const now = this.#io.clock.mono();
    const seldom = this.#flags.json !== true && this.#flags.quiet !== true;
    if (seldom && (this.#io.status !== undefined || now < this.#readAt + READINGS_MS)) return this.#show();
    if (changes.length > 0) this.#readAt = now;
    this.changed(changes);
  }

  /** passes lets a second pass: what was not said for lack of room is counted. */
  passes(): void {
    const unsaid = this.#unsaid;
    this.#unsaid = 0;
    if (unsaid > 0 && !this.#flags.json && !this.#flags.quiet) this.#line(`(and ${count(unsaid, "more line")})`);
  }

  /** ends says how it ended. */
  ends(message: string): void {
    this.passes();
    this.#io.status?.("");
    if (this.#flags.json) this.#json({ event: "ended", message });
    else this.#io.note(`${this.#node} ${message}\n`);
  }

  /** stops takes the last line of the terminal away, for what is thrown. */
  stops(): void {
    this.#io.status?.("");
  }

  #said(what: string, by: string): void {
    if (!this.#flags.json && !this.#flags.quiet) this.#line(`${what}${by === "" ? "" : `  ${by}`}`);
  }

  #limited(say: () => void): void {
    const second = Math.floor(this.#io.clock.mono() / SECOND_MS);
    if (second !== this.#second) [this.#second, this.#lines] = [second, 0];
    if (this.#lines >= LINES_PER_SECOND) this.#unsaid++;
    else {
      this.#lines++;
      say();
    }
  }

  #line(text: string): void {
    void this.#io.out(`${this.#io.style("dim", clockTime(this.#io.clock.wall()))}  ${text}\n`);
  }

  #json(value: object): void {
    void printJson(this.#io, { ...value, at: new Date(this.#io.clock.wall()).toISOString() }, "line");
  }

  /** show draws the last line of the terminal: what the device looks like now. */
  #show(): void {
    if (this.#flags.json || this.#flags.quiet) return;
    const { state } = this.#device;
    const lit = state.get("state") === "ON" || state.get("heating") === true;
    const values = [...state].map(([key, value]) => `${key} ${valueOf(this.#device, key, value)}`).join("   ");
    const mark = lit ? this.#io.style("yellow", "(*)") : this.#io.style("dim", "( )");
    const link = this.#link === "connected" ? this.#io.style("green", "connected") : this.#io.style("red", this.#link);
    this.#io.status?.(
      `${mark} ${this.#io.style("bold", this.#node)}   ${values}   ${link}${this.#lastBy === "" ? "" : `   last by ${this.#lastBy}`}`,
    );
  }
}

/** plain is a value of a command as JSON holds it. */
function plain(value: unknown): { readonly value?: boolean | number | string } {
  if (typeof value === "boolean" || typeof value === "number" || typeof value === "string") return { value };
  return value === undefined ? {} : { value: argumentOf(value) };
}
