/** Settings are the numbers of the core; the configuration fills them. Times in ms. */
export interface Settings {
  /** Deadline of a command that names none (S0-19). */
  readonly defaultTimeoutMs: number;
  readonly maxTimeoutMs: number;
  /** How long after a deadline the caller's hub waits for the owner's verdict, which alone can say "not started". */
  readonly verdictMs: number;
  /** How long after the deadline a late report still turns UNKNOWN into DONE or FAILED. */
  readonly lateMs: number;
  /** Added to a command's timeout: how long the owner keeps an outcome that nobody acknowledges. */
  readonly keepMs: number;
  /** Longest wait before an outcome is acknowledged to its owner when nothing else is sent. */
  readonly ackDelayMs: number;
  /** Commands without an outcome, per peer, in each direction. */
  readonly pendingPerPeer: number;
  /** Bytes of the values of those. */
  readonly pendingBytesPerPeer: number;
  /** Bytes of commands that a peer's session has not taken, beyond which its callers take turns. */
  readonly aheadBytes: number;
  /** Commands of one client stream without an outcome; all unary calls together count as one, in which each caller has a part. */
  readonly pendingPerClient: number;
  /** Commands of this hub's callers for its own nodes without an outcome. */
  readonly pendingLocal: number;
  /** Runs and outcomes that the owner holds for one caller's hub. */
  readonly outcomesPerCaller: number;
  /** Bytes of the values of commands of this hub's callers for its own nodes without an outcome. */
  readonly pendingLocalBytes: number;
  /** Bytes of the outcomes that the owner holds for one caller's hub; what is under way when they are used up still gets its outcome. */
  readonly outcomeBytesPerCaller: number;
  /** Journal epochs of one caller's hub of which the owner holds something: one begins with each of its starts. */
  readonly epochsPerCaller: number;
  /** Executors that are attached. */
  readonly executors: number;
  /** Idempotency keys, and their bytes with all that is kept for them. */
  readonly keys: number;
  readonly keyBytes: number;
  /** How long a key is remembered after its outcome: while there is room, and in any case. */
  readonly keyLifeMs: number;
  readonly keyLeastMs: number;
  /** Capabilities whose values the audit does not keep, by their names. */
  readonly auditSecrets: readonly string[];
  /** Bytes of a value that the audit keeps. */
  readonly auditValueBytes: number;
  /** Refusals without a trace in the journal of which the audit keeps a record, of each caller. */
  readonly auditRefusalsPerSecond: number;
  readonly auditRefusalsBurst: number;
  /** Bytes of records that wait for telemetry. */
  readonly auditBytes: number;
}

/** AUDIT_SECRETS are the names of capabilities whose values are secret, unless others are configured. */
export const AUDIT_SECRETS: readonly string[] = [
  "pin",
  "*pin",
  "*code*",
  "*passw*",
  "*passphrase*",
  "*token*",
  "*secret*",
  "*credential*",
  "*apikey*",
];

/** DEFAULT_SETTINGS are what the requirements name, and measured choices elsewhere. */
export const DEFAULT_SETTINGS: Settings = {
  defaultTimeoutMs: 10_000,
  maxTimeoutMs: 3_600_000,
  verdictMs: 250,
  lateMs: 30_000,
  keepMs: 300_000,
  ackDelayMs: 50,
  pendingPerPeer: 4_096,
  pendingBytesPerPeer: 16 * 1024 * 1024,
  aheadBytes: 64 * 1024,
  pendingPerClient: 16_384,
  pendingLocal: 16_384,
  outcomesPerCaller: 16_384,
  pendingLocalBytes: 64 * 1024 * 1024,
  outcomeBytesPerCaller: 32 * 1024 * 1024,
  epochsPerCaller: 64,
  executors: 4_096,
  keys: 65_536,
  keyBytes: 128 * 1024 * 1024,
  keyLifeMs: 24 * 3_600_000,
  keyLeastMs: 600_000,
  auditSecrets: AUDIT_SECRETS,
  auditValueBytes: 64,
  auditRefusalsPerSecond: 20,
  auditRefusalsBurst: 200,
  auditBytes: 32 * 1024 * 1024,
};
