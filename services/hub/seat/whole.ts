import { type Held, mayServe, type Word } from "../../coordination/index.ts";

/** Data is what a process has of its hub's data. */
export interface Data {
  /** Why it is missing or cannot be read; undefined if it is there. */
  readonly problem?: string | undefined;
  /** A store is not there of which any content will do: whoever takes over needs it, who acted last does not. */
  readonly missing?: string | undefined;
  /** Which replica of the log it is of; undefined for a service without the log. */
  readonly replica?: Held | undefined;
}

/** Report is what another process of the same installation says of itself. */
export interface Report {
  /** What it found; undefined of a process that acts, as its stores are in use. */
  readonly data: Data | undefined;
  /** Fence with which it acts; undefined while it waits, and of one that acts without. */
  readonly fence: number | undefined;
}

/** dataProblem says why data is not that of a hub whose replica of the log has the number `incarnation`; undefined if it is (LF2). */
export function dataProblem(hub: string, { problem, replica }: Data, incarnation: number): string | undefined {
  if (problem !== undefined || replica === undefined) return problem;
  const verdict = mayServe(hub, replica, incarnation);
  return verdict.ok ? undefined : verdict.why;
}

/** WholeOptions say whose word an installation waits for. */
export interface WholeOptions {
  readonly hub: string;
  /** Services in other processes that have data without which the installation does not act. */
  readonly needed: readonly string[];
  /** A report counts so long, ms. */
  readonly freshMs: number;
}

/** Whole is what the processes of an installation found of their hub's data (SI6). */
export class Whole {
  readonly #options: WholeOptions;
  readonly #reports = new Map<string, { readonly report: Report; readonly at: number }>();

  constructor(options: WholeOptions) {
    this.#options = options;
  }

  /** told takes a process's report; `now` is monotonic ms. */
  told(service: string, report: Report, now: number): void {
    if (this.#options.needed.includes(service)) this.#reports.set(service, { report, at: now });
  }

  /** problem says why the installation that is dialled by that word has not the data of its hub; undefined if it has. */
  problem(word: Word, now: number): string | undefined {
    const problems = this.#options.needed.map((service) => this.#problemOf(service, word, now));
    // What is missing for good is told before what was only not heard yet.
    return (problems.find((problem) => problem?.said) ?? problems.find((problem) => problem !== undefined))?.why;
  }

  #problemOf(service: string, word: Word, now: number): { readonly why: string; readonly said: boolean } | undefined {
    const { hub, freshMs } = this.#options;
    const last = this.#reports.get(service);
    if (last === undefined || now - last.at > freshMs)
      return { why: `${service} of this installation has not said yet whether it has the data of ${hub}: see that it runs`, said: false };
    const { data, fence } = last.report;
    if (fence === word.fence) return undefined;
    if (data === undefined) return { why: `${service} of this installation still acts as before; it has to be started again`, said: false };
    const why = dataProblem(hub, data, word.incarnation);
    return why === undefined ? undefined : { why: `${service} of this installation says: ${why}`, said: true };
  }
}
