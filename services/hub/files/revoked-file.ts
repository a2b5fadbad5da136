import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import * as z from "zod";
import type { Clock } from "#channel/clock.ts";
import { fail } from "#kernel/error.ts";
import { FollowedFiles } from "#runtime/config/follow.ts";
import { parseSettings } from "#runtime/config/json.ts";
import { firstProblem, issueWords } from "#runtime/config/words.ts";
import type { EventSink } from "#runtime/events.ts";
import { LISTS_MAX_BYTES, makeFolder, readText, writeWhole } from "#runtime/files.ts";
import type { Logger } from "#runtime/log/log.ts";
import { oneLine } from "./federation-file.ts";

/** A revoked certificate is refused within two seconds (D-15). */
const LOOK_MS = 1_000;

/** Entries that count; a certificate that has expired needs none. */
const REVOKED_MAX = 10_000;

/** RevokedEntry is one certificate of this hub that is refused: what it was and why is for people. */
export interface RevokedEntry {
  /** SHA-256 of its DER, 64 hex digits. */
  readonly sha256: string;
  readonly spiffe_id?: string | undefined;
  readonly reason?: string | undefined;
  /** ISO 8601. */
  readonly at?: string | undefined;
}

const revokedFile = z.strictObject({
  revoked: z
    .array(
      z.strictObject({
        sha256: z.string().regex(/^[0-9a-f]{64}$/, "must be a SHA-256 in 64 hex digits"),
        spiffe_id: z.string().max(200).optional(),
        reason: z.string().max(200).optional(),
        at: z.string().max(40).optional(),
      }),
    )
    .max(REVOKED_MAX),
});

/** What somebody does about a damaged list, as the end of a sentence. */
const MEND = "correct it, or take it from a backup";

/** readRevoked reads the list of this hub's own revoked certificates; a missing file is an empty one. NOT_CONFIGURED if it is damaged. */
export function readRevoked(path: string): readonly RevokedEntry[] {
  return existsSync(path) ? readList(path) : [];
}

/** What the names of the copies in the data folder end with. */
const KEPT = ".revoked.json";

/** keptRevoked is where a process keeps the last good list. */
export function keptRevoked(dataDir: string, runs: string): string {
  return join(dataDir, `${runs}${KEPT}`);
}

/**
 * refusedNow reads the list as the hub counts it: the file or, if that is gone, what the hub's processes kept of it. A data folder that
 * this user may not read counts as none. NOT_CONFIGURED if a list is damaged.
 */
export function refusedNow(path: string, dataDir: string): readonly RevokedEntry[] {
  if (existsSync(path)) return readList(path);
  let names: readonly string[];
  try {
    names = readdirSync(dataDir);
  } catch {
    return [];
  }
  const kept = names.filter((name) => name.endsWith(KEPT)).flatMap((name) => readRevoked(join(dataDir, name)));
  return [...new Map(kept.map((entry) => [entry.sha256, entry])).values()];
}

function readList(path: string): readonly RevokedEntry[] {
  const bad = (what: string, cause?: unknown): Error =>
    fail("NOT_CONFIGURED", `the list of revoked certificates ${path} is not valid: ${what}; ${MEND}`, { cause });
  let text: string;
  try {
    text = readText(path, LISTS_MAX_BYTES);
  } catch (cause) {
    throw bad(oneLine(cause), cause);
  }
  let value: unknown;
  try {
    value = parseSettings(text);
  } catch (cause) {
    throw bad(oneLine(cause));
  }
  const parsed = revokedFile.safeParse(value, { error: issueWords });
  if (parsed.success) return parsed.data.revoked;
  throw bad(firstProblem(parsed.error));
}

/** refusedThumbprints are those of `refusedNow`; while the list is damaged, those of the last good one that was kept. */
export function refusedThumbprints(path: string, dataDir: string): ReadonlySet<string> {
  const list = (): readonly RevokedEntry[] => {
    try {
      return refusedNow(path, dataDir);
    } catch {
      return refusedNow("", dataDir);
    }
  };
  return new Set(list().map(({ sha256 }) => thumbprintFrom(sha256)));
}

/** encodeRevoked writes the list as it stands in the file. */
export function encodeRevoked(revoked: readonly RevokedEntry[]): string {
  return `${JSON.stringify({ revoked }, undefined, 2)}\n`;
}

/** thumbprintFrom is a SHA-256 in hex as certificates are compared by. */
const thumbprintFrom = (sha256: string): string => Buffer.from(sha256, "hex").toString("base64url");

/** RevokedFileOptions say which file is followed, and by whom. */
export interface RevokedFileOptions {
  readonly path: string;
  /** Copy of the last good list, for a start at which the file is gone. */
  readonly kept: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly events: EventSink;
  /** apply takes the thumbprints of a changed file, at the start too. */
  readonly apply: (thumbprints: ReadonlySet<string>) => void;
}

/**
 * RevokedFile follows the list of this hub's own revoked certificates while the hub runs. A damaged one changes nothing and is told. So
 * does one that is gone, also across a restart: a lost file or mount must not let a thief in again. Only a list that says so is empty.
 */
export class RevokedFile {
  readonly #o: RevokedFileOptions;
  readonly #files: FollowedFiles<readonly RevokedEntry[]>;
  #known: ReadonlySet<string> = new Set();
  #started = false;
  /** The file was missing at the start. */
  #gone = false;

  constructor(options: RevokedFileOptions) {
    this.#o = options;
    this.#files = new FollowedFiles({
      clock: options.clock,
      intervalMs: LOOK_MS,
      read: (noted) => this.#read(noted),
      apply: (entries) => this.#apply(entries),
      failed: (error) => this.#failed(error),
    });
  }

  /**
   * start reads the file and follows it. A damaged one throws: a hub that forgot whom it refuses would let them in. If it is gone, the
   * list of the last run counts.
   */
  start(): void {
    this.#apply(this.#files.first());
    this.#started = true;
    if (this.#gone && this.#known.size > 0) this.#failed(this.#missing());
    this.#files.start();
  }

  stop(): void {
    this.#files.stop();
  }

  /** reread reads the file whether it changed or not. */
  reread(): void {
    this.#files.reread();
  }

  #read(noted: (path: string) => void): readonly RevokedEntry[] {
    const { path, kept } = this.#o;
    noted(path);
    if (existsSync(path)) return readList(path);
    if (this.#started && this.#known.size > 0) throw this.#missing();
    this.#gone = true;
    return this.#started ? [] : readRevoked(kept);
  }

  #apply(entries: readonly RevokedEntry[]): void {
    const { apply, log, events } = this.#o;
    const next = new Set(entries.map(({ sha256 }) => sha256));
    const fresh = entries.filter(({ sha256 }) => !this.#known.has(sha256));
    const back = [...this.#known].filter((sha256) => !next.has(sha256));
    // A list that says nothing new rotates no credentials.
    if (!this.#started || fresh.length > 0 || back.length > 0) apply(new Set([...next].map(thumbprintFrom)));
    this.#known = next;
    this.#keep(entries);
    for (const { sha256, spiffe_id, reason } of fresh) {
      log.warn({ sha256, spiffeId: spiffe_id, reason }, "certificate of this hub is revoked");
      const what = `${spiffe_id ?? "a certificate of this hub"} (SHA-256 ${sha256}) is refused`;
      events.report({
        kind: "CREDENTIAL",
        severity: "WARNING",
        text: reason === undefined ? what : `${what}: ${reason}`,
        fields: { sha256 },
      });
    }
    for (const sha256 of back) {
      log.warn({ sha256 }, "certificate of this hub is no longer revoked");
      events.report({
        kind: "CREDENTIAL",
        severity: "WARNING",
        text: `the certificate with SHA-256 ${sha256} is no longer refused`,
        fields: { sha256 },
      });
    }
  }

  /** keep writes the copy if it differs. Without one the list counts all the same, so that is told and no more. */
  #keep(entries: readonly RevokedEntry[]): void {
    const { kept, log, events } = this.#o;
    const text = encodeRevoked(entries);
    try {
      if (existsSync(kept) ? readText(kept, LISTS_MAX_BYTES) === text : entries.length === 0) return;
      makeFolder(dirname(kept), 0o700);
      writeWhole(kept, text, 0o600);
    } catch (error) {
      log.error({ error }, "copy of the list of revoked certificates cannot be written");
      const what = `the list of revoked certificates cannot be kept for a start without it: ${oneLine(error)}`;
      events.report({ kind: "CREDENTIAL", severity: "ERROR", text: what });
    }
  }

  #missing(): Error {
    const { path } = this.#o;
    const mend = 'put it back, or write {"revoked":[]} to accept all of them again';
    return fail("NOT_CONFIGURED", `the list of revoked certificates ${path} is missing and was not empty; ${mend}`);
  }

  #failed(error: unknown): void {
    this.#o.log.error({ error }, "list of revoked certificates is not valid; the last good one stays");
    const text = `the list of revoked certificates is not valid; the last good one stays: ${oneLine(error)}`;
    this.#o.events.report({ kind: "CREDENTIAL", severity: "ERROR", text });
  }
}
