import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { assert } from "#kernel/assert.ts";
import type { StoreOp } from "#kernel/core.ts";
import { Journal } from "./journal.ts";
import { bootId, explain, openDatabase, reserveOf, SQLITE, type SqliteOptions, sqliteCode } from "./open.ts";
import type { Blob, CommitOutcome, Store } from "./port.ts";

/** Numbers of one log: 0 .. 2^40 - 1. */
const SEQ_LIMIT = 2 ** 40;

/** Logs of one store: their positions must stay exact as JavaScript numbers (2^53). */
const LOG_LIMIT = 2 ** 13;

/** Blobs fetched at a time while reading; a read never holds a statement open across a commit. */
const PAGE = 64;

/** LastStop tells how the store was left the last time. */
export type LastStop = "none" | "clean" | "unclean";

/** openSqliteStore opens the one SQLite file of a service. Errors: see `openDatabase`. */
export function openSqliteStore(options: SqliteOptions): SqliteStore {
  return new SqliteStore(options);
}

/**
 * SqliteStore keeps a service's records in one SQLite file, in write-ahead mode, locked against other processes.
 * A commit is one transaction on the calling thread; ST1 to ST4 of the port hold by SQLite's own guarantees. With `flush` "pool" its sync
 * is not on that thread: a sync that fails leaves the batch in the file, not durable, and every commit after it fails as well.
 */
export class SqliteStore implements Store {
  readonly durability: "full" | "process";
  /** lastStop: "unclean" means that the process, or the machine, went down without `close`. */
  readonly lastStop: LastStop;
  readonly tailAtRisk: boolean;
  readonly #db: DatabaseSync;
  readonly path: string;
  readonly #reservePath: string;
  readonly #logs = new Map<string, number>();
  readonly #q: Statements;
  readonly #boot: string;
  readonly #journal: Journal | undefined;
  /** False while a tail at risk is not dealt with: that takes a commit, and a start that ends before it must find it at risk again. */
  #marked: boolean;
  #open = true;

  constructor(options: SqliteOptions) {
    this.durability = options.durability;
    this.path = options.path;
    this.#reservePath = reserveOf(options.path);
    this.#db = openDatabase(options);
    try {
      this.#q = prepare(this.#db);
      this.#loadLogs();
      const mark = this.#q.metaGet.get("stop")?.["value"];
      const boot = bootId() ?? "unknown";
      this.lastStop = mark === undefined ? "none" : mark === "clean" ? "clean" : "unclean";
      const sameBoot = boot !== "unknown" && this.#q.metaGet.get("boot")?.["value"] === boot;
      this.tailAtRisk = this.lastStop === "unclean" && !sameBoot && this.#lastDurability() === "process";
      this.#boot = boot;
      this.#marked = !this.tailAtRisk;
      if (this.#marked) this.#mark();
      this.#journal = options.flush === "pool" && options.durability === "full" ? new Journal(`${options.path}-wal`) : undefined;
    } catch (error) {
      this.#db.close();
      throw explain(error, options.path);
    }
    this.#reserve(options.reserveBytes ?? 1024 * 1024);
  }

  commit(ops: readonly StoreOp[]): CommitOutcome | Promise<CommitOutcome> {
    const outcome = this.#journal?.failure ?? this.#commit(ops);
    return outcome.ok && this.#journal !== undefined ? this.#journal.sync() : outcome;
  }

  #commit(ops: readonly StoreOp[]): CommitOutcome {
    assert(this.#open, "commit on a closed store");
    try {
      this.#q.begin.run();
    } catch (error) {
      const outcome = outcomeOf(error);
      return outcome.ok ? outcome : { ...outcome, untouched: true };
    }
    try {
      for (let i = 0; i < ops.length; i++) this.#apply(ops[i] as StoreOp);
      if (!this.#marked) this.#mark();
      this.#q.commit.run();
      this.#marked = true;
      return OK;
    } catch (error) {
      if (this.#db.isTransaction) this.#q.rollback.run();
      this.#loadLogs();
      return outcomeOf(error);
    }
  }

  logs(): string[] {
    const names = [...this.#logs].filter(([, id]) => this.#q.any.get(id * SEQ_LIMIT, (id + 1) * SEQ_LIMIT) !== undefined);
    return names.map(([name]) => name).sort();
  }

  *read(log: string, from: number): Iterable<Blob> {
    const id = this.#logs.get(log);
    if (id === undefined) return;
    const base = id * SEQ_LIMIT;
    for (let next = base + from; ; ) {
      const rows = this.#q.page.all(next, base + SEQ_LIMIT, PAGE);
      for (const row of rows) {
        const position = row["position"] as number;
        yield { seq: position - base, bytes: row["bytes"] as Uint8Array };
        next = position + 1;
      }
      if (rows.length < PAGE) return;
    }
  }

  *space(space: string): Iterable<{ readonly key: string; readonly bytes: Uint8Array }> {
    for (let after: string | null = null; ; ) {
      const rows = after === null ? this.#q.firstKeys.all(space, PAGE) : this.#q.nextKeys.all(space, after, PAGE);
      for (const row of rows) {
        after = row["key"] as string;
        yield { key: after, bytes: row["bytes"] as Uint8Array };
      }
      if (rows.length < PAGE) return;
    }
  }

  get(space: string, key: string): Uint8Array | undefined {
    return this.#q.get.get(space, key)?.["bytes"] as Uint8Array | undefined;
  }

  freeReserve(): void {
    try {
      rmSync(this.#reservePath, { force: true });
    } catch {
      // Then there is no room to be had: whoever put a folder there keeps it, and a stop goes on without.
    }
  }

  /** close marks the stop as clean. On a disk too full even for that, the next start finds it unclean, which is safe. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.freeReserve();
    try {
      if (this.#marked) this.#q.metaPut.run("stop", "clean");
    } catch (error) {
      if (outcomeOf(error).ok) throw error;
    } finally {
      this.#journal?.close();
      this.#db.close();
    }
  }

  #mark(): void {
    this.#q.metaPut.run("stop", "running");
    this.#q.metaPut.run("boot", this.#boot);
    this.#q.metaPut.run("durability", this.durability);
  }

  #loadLogs(): void {
    this.#logs.clear();
    for (const row of this.#q.logNames.all()) this.#logs.set(row["name"] as string, row["id"] as number);
  }

  #apply(op: StoreOp): void {
    switch (op.op) {
      case "append":
        assert(op.seq >= 0 && op.seq < SEQ_LIMIT && Number.isInteger(op.seq), "log position out of range", { seq: op.seq });
        this.#q.append.run(this.#logId(op.log) * SEQ_LIMIT + op.seq, op.bytes);
        return;
      case "trim":
        this.#remove(this.#logs.get(op.log), Math.min(op.below, SEQ_LIMIT));
        return;
      case "cut":
        this.#remove(this.#logs.get(op.log), SEQ_LIMIT, Math.max(op.from, 0));
        return;
      case "drop":
        this.#remove(this.#logs.get(op.log), SEQ_LIMIT);
        this.#q.logDrop.run(op.log);
        this.#logs.delete(op.log);
        return;
      case "put":
        this.#q.put.run(op.space, op.key, op.bytes);
        return;
      case "delete":
        this.#q.delete.run(op.space, op.key);
        return;
      case "clear":
        this.#q.clear.run(op.space);
    }
  }

  #remove(id: number | undefined, below: number, from = 0): void {
    if (id !== undefined) this.#q.trim.run(id * SEQ_LIMIT + from, id * SEQ_LIMIT + below);
  }

  /** logId is the number of a log; a new one gets the smallest that is free. */
  #logId(name: string): number {
    const known = this.#logs.get(name);
    if (known !== undefined) return known;
    const taken = new Set(this.#logs.values());
    let id = 0;
    while (taken.has(id)) id++;
    assert(id < LOG_LIMIT, "too many logs in one store", { logs: this.#logs.size });
    this.#q.logAdd.run(id, name);
    this.#logs.set(name, id);
    return id;
  }

  #lastDurability(): unknown {
    return this.#q.metaGet.get("durability")?.["value"];
  }

  /** reserve writes real bytes: a sparse file would set nothing aside. Failing to is not worth stopping for. */
  #reserve(bytes: number): void {
    this.freeReserve();
    if (bytes === 0) return;
    try {
      // A new file or none: a link that somebody put there would have the zeros written where it leads.
      const file = openSync(this.#reservePath, "wx", 0o600);
      try {
        const zeros = new Uint8Array(64 * 1024);
        for (let left = bytes; left > 0; left -= zeros.length) writeSync(file, zeros, 0, Math.min(left, zeros.length));
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
    } catch {
      this.freeReserve();
    }
  }
}

const OK: CommitOutcome = { ok: true };

/** outcomeOf turns SQLite's errors into outcomes; what is not SQLite's is a bug and goes on as an exception. */
function outcomeOf(error: unknown): CommitOutcome {
  const code = sqliteCode(error);
  if (code === undefined) throw error;
  const text = error instanceof Error ? error.message : String(error);
  if (code === SQLITE.CONSTRAINT) return { ok: false, reason: "conflict", message: `position is taken: ${text}` };
  if (code === SQLITE.FULL) return { ok: false, reason: "full", message: "the disk is full; free some space, writing goes on by itself" };
  return { ok: false, reason: "io", message: `the store cannot write: ${text}` };
}

type Statements = ReturnType<typeof prepare>;

function prepare(db: DatabaseSync) {
  const p = (sql: string): StatementSync => db.prepare(sql);
  return {
    begin: p("BEGIN IMMEDIATE"),
    commit: p("COMMIT"),
    rollback: p("ROLLBACK"),
    append: p("INSERT INTO log_entry (position, bytes) VALUES (?, ?)"),
    trim: p("DELETE FROM log_entry WHERE position >= ? AND position < ?"),
    page: p("SELECT position, bytes FROM log_entry WHERE position >= ? AND position < ? ORDER BY position LIMIT ?"),
    any: p("SELECT 1 FROM log_entry WHERE position >= ? AND position < ? LIMIT 1"),
    logNames: p("SELECT id, name FROM log_name"),
    logAdd: p("INSERT INTO log_name (id, name) VALUES (?, ?)"),
    logDrop: p("DELETE FROM log_name WHERE name = ?"),
    put: p("INSERT INTO kv (space, key, bytes) VALUES (?, ?, ?) ON CONFLICT (space, key) DO UPDATE SET bytes = excluded.bytes"),
    delete: p("DELETE FROM kv WHERE space = ? AND key = ?"),
    clear: p("DELETE FROM kv WHERE space = ?"),
    get: p("SELECT bytes FROM kv WHERE space = ? AND key = ?"),
    firstKeys: p("SELECT key, bytes FROM kv WHERE space = ? ORDER BY key LIMIT ?"),
    nextKeys: p("SELECT key, bytes FROM kv WHERE space = ? AND key > ? ORDER BY key LIMIT ?"),
    metaGet: p("SELECT value FROM meta WHERE name = ?"),
    metaPut: p("INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"),
  };
}
