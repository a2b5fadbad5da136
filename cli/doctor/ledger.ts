/** Severity of a finding: an error keeps something from working, or soon will; a warning is worth a thought. */
export type Severity = "error" | "warning";

/** Check is the kind of thing that was looked at. */
export type Check =
  | "configuration"
  | "federation-file"
  | "certificate"
  | "key-file"
  | "clock"
  | "disk"
  | "setting"
  | "context"
  | "reach"
  | "hub"
  | "link"
  | "copies"
  | "revoked"
  | "lag";

/** Finding is something that is wrong, and what to do about it. */
export interface Finding {
  readonly severity: Severity;
  readonly check: Check;
  /** What it is about: a file, a field or a peer. */
  readonly subject: string;
  /** What is wrong, one sentence without a full stop. */
  readonly message: string;
  /** What to do, one sentence or a command. */
  readonly fix: string;
}

/** Ledger collects what was looked at and what was found: a doctor who looked at nothing must not call anybody healthy. */
export class Ledger {
  readonly #findings: Finding[] = [];
  readonly #skipped: string[] = [];
  readonly #notes: string[] = [];
  #looked = 0;

  /** findings, errors first, otherwise in the order found. */
  get findings(): readonly Finding[] {
    return [
      ...this.#findings.filter(({ severity }) => severity === "error"),
      ...this.#findings.filter(({ severity }) => severity === "warning"),
    ];
  }

  /** looked is how many things were looked at. */
  get looked(): number {
    return this.#looked;
  }

  /** skipped says what could not be looked at, and why. */
  get skipped(): readonly string[] {
    return this.#skipped;
  }

  /** notes are what is in order and worth knowing. */
  get notes(): readonly string[] {
    return this.#notes;
  }

  note(text: string): void {
    this.#notes.push(text);
  }

  /** look counts one thing that is looked at. It answers whether it is in order: no finding if `bad` is undefined or false. */
  look(bad: Finding | false | undefined): boolean {
    this.#looked++;
    if (bad === undefined || bad === false) return true;
    this.#findings.push(bad);
    return false;
  }

  skip(what: string): void {
    this.#skipped.push(what);
  }

  /** has tells whether there is an error of a kind, about a subject if one is given. */
  has(check: Check, subject?: string): boolean {
    return this.#findings.some(
      (finding) => finding.severity === "error" && finding.check === check && (subject === undefined || finding.subject === subject),
    );
  }
}
