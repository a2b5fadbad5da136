import { closeSync, constants, existsSync, fstatSync, lstatSync, openSync, readFileSync, readSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fail } from "#kernel/error.ts";
import { irregular, makeFolder } from "../files.ts";
import { MIGRATIONS } from "./migrations/index.ts";
import type { Store } from "./port.ts";

/** SqliteOptions say where a store lives and what it promises. */
export interface SqliteOptions {
  /** Path of the file; missing folders are made. */
  readonly path: string;
  /** "full" survives power loss (synchronous FULL), "process" only the end of the process (NORMAL). */
  readonly durability: "full" | "process";
  /**
   * Where a commit of durability "full" waits for the disk: on the calling thread ("loop", the default), or on libuv's pool ("pool"), where
   * the event loop goes on meanwhile. The latter is for services that believe no store whose sync failed (DR12).
   */
  readonly flush?: "loop" | "pool";
  /** How long to wait for another process that holds the file, ms. It blocks; 2,000 by default, for a restart that overlaps. */
  readonly busyTimeoutMs?: number;
  /** Disk space set aside so that a full disk still lets the hub stop cleanly, bytes. 1 MiB by default, 0 for none. */
  readonly reserveBytes?: number;
  /** Largest size of the file, bytes; beyond it commits answer "full". No bound of its own by default. */
  readonly maxBytes?: number;
}

/** Marks our files among all SQLite files: "FDUS". */
const APPLICATION_ID = 0x46445553;

const PAGE_BYTES = 4_096;

/** Newest format of a store. */
const NEWEST = MIGRATIONS.at(-1)?.version ?? 0;

/** SQLITE are the result codes of SQLite (sqlite3.h) that mean something to us. */
export const SQLITE = { BUSY: 5, READONLY: 8, CORRUPT: 11, FULL: 13, CANTOPEN: 14, CONSTRAINT: 19, NOTADB: 26 } as const;

/** sqliteCode is the primary result code of an error of node:sqlite, or undefined for other errors. */
export function sqliteCode(error: unknown): number | undefined {
  const code: unknown = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === "number" ? code & 0xff : undefined;
}

/**
 * openDatabase opens or makes the file, takes the exclusive lock and brings the schema up to date.
 * It throws STORE_UNAVAILABLE when another process holds the file or it is damaged, UPGRADE_NEEDED when newer software made it.
 */
export function openDatabase(options: SqliteOptions): DatabaseSync {
  const { path } = options;
  let db: DatabaseSync | undefined;
  try {
    makeFolder(dirname(path), 0o700);
    refuseForeign(path);
    refuseIrregular(path);
    db = new DatabaseSync(path);
    db.exec(`PRAGMA busy_timeout = ${options.busyTimeoutMs ?? 2_000}`);
    db.exec("PRAGMA locking_mode = EXCLUSIVE");
    if (pragma(db, "user_version") === 0) db.exec(`PRAGMA page_size = ${PAGE_BYTES}`);
    db.exec("PRAGMA journal_mode = WAL");
    db.exec(`PRAGMA synchronous = ${options.durability === "full" && options.flush !== "pool" ? "FULL" : "NORMAL"}`);
    db.exec("PRAGMA wal_autocheckpoint = 1000");
    if (options.maxBytes !== undefined) db.exec(`PRAGMA max_page_count = ${Math.ceil(options.maxBytes / PAGE_BYTES)}`);
    db.exec("BEGIN IMMEDIATE");
    migrate(db, path);
    db.exec("COMMIT");
    return db;
  } catch (error) {
    db?.close();
    throw explain(error, path);
  }
}

/**
 * lookInto reads a store that this process does not use, and changes nothing of it: another process may use it, or bring it. It throws
 * STORE_UNAVAILABLE when another process holds the file or it is damaged, UPGRADE_NEEDED when newer software made it.
 */
export function lookInto<T>(path: string, look: (reader: Pick<Store, "get">) => T): T {
  let db: DatabaseSync | undefined;
  try {
    refuseForeign(path);
    refuseIrregular(path);
    db = new DatabaseSync(path, { readOnly: true });
    db.exec("PRAGMA busy_timeout = 0");
    refuseNewer(db, path);
    const get = db.prepare("SELECT bytes FROM kv WHERE space = ? AND key = ?");
    return look({ get: (space, key) => get.get(space, key)?.["bytes"] as Uint8Array | undefined });
  } catch (error) {
    throw explain(error, path);
  } finally {
    db?.close();
  }
}

/** Of the header of every SQLite file (fileformat2.html, section 1.3). */
const HEADER = { bytes: 100, magic: "SQLite format 3\0", pagesAt: 28, applicationAt: 68 } as const;

const foreign = (path: string): Error => fail("STORE_UNAVAILABLE", `${path} is not a file of this software; choose another data folder`);

/**
 * refuseForeign looks whose file it is before SQLite opens it, which would change it (journal, locks). A file of one page may be ours, from
 * a process that was killed before the first transaction was in the file itself; `migrate` looks again.
 */
function refuseForeign(path: string): void {
  if (!existsSync(path)) return;
  const header = Buffer.alloc(HEADER.bytes);
  const handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!fstatSync(handle).isFile()) throw foreign(path);
    if (readSync(handle, header) < HEADER.bytes || header.toString("latin1", 0, HEADER.magic.length) !== HEADER.magic) return;
  } finally {
    closeSync(handle);
  }
  if (header.readUInt32BE(HEADER.applicationAt) !== APPLICATION_ID && header.readUInt32BE(HEADER.pagesAt) > 1) throw foreign(path);
}

/** What SQLite opens beside a database, by what is added to its path. */
const BESIDE = ["-journal", "-wal", "-shm"] as const;

/** reserveOf is where a store sets disk space aside. */
export function reserveOf(path: string): string {
  return `${path}.reserve`;
}

/**
 * refuseIrregular looks at what stands beside a database before SQLite opens it: the open of a pipe there would never end. What was set
 * aside is only ever removed and made anew, which ends with all but a folder.
 */
function refuseIrregular(path: string): void {
  const reserve = reserveOf(path);
  const odd = lstatSync(reserve, { throwIfNoEntry: false })?.isDirectory()
    ? { path: reserve, kind: "a folder" }
    : irregular(BESIDE.map((suffix) => path + suffix));
  if (odd !== undefined) throw fail("STORE_UNAVAILABLE", `${odd.path} is ${odd.kind} and not a file; move it away`, { facts: { path } });
}

function migrate(db: DatabaseSync, path: string): void {
  const version = refuseNewer(db, path);
  const owner = pragma(db, "application_id");
  const tables = db.prepare("SELECT count(*) AS n FROM sqlite_master").get()?.["n"];
  if (owner !== APPLICATION_ID && tables !== 0) throw foreign(path);
  for (const migration of MIGRATIONS) if (migration.version > version) db.exec(migration.sql);
  if (version < NEWEST) db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${NEWEST}`);
}

/** refuseNewer gives the version of a store's format, if this software knows it. */
function refuseNewer(db: DatabaseSync, path: string): number {
  const version = pragma(db, "user_version");
  if (version <= NEWEST) return version;
  throw fail(
    "UPGRADE_NEEDED",
    `${path} was written by newer software (format ${version}, this one knows ${NEWEST}); run that version or restore a backup`,
  );
}

function pragma(db: DatabaseSync, name: string): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()?.[name] ?? 0);
}

/** explain makes a sentence of what SQLite or the system says when a store is opened: STORE_UNAVAILABLE. Anything else stays as it is. */
export function explain(error: unknown, path: string): unknown {
  const code = sqliteCode(error);
  const text = error instanceof Error ? error.message : String(error);
  const say = (message: string): Error => fail("STORE_UNAVAILABLE", message, { cause: error, facts: { path } });
  if (code === SQLITE.BUSY)
    return say(
      `another process uses ${path}: this hub runs already, or another one does there; stop it, or give this hub its own data folder`,
    );
  if (code === SQLITE.CORRUPT || code === SQLITE.NOTADB) return say(`${path} is damaged or not a store; restore a backup or move it away`);
  if (code === SQLITE.FULL) return say(`the disk is full; free some space for ${path}`);
  if (code !== undefined) return say(`cannot open ${path}: ${text}`);
  const system = (error as { code?: unknown } | null)?.code;
  return typeof system === "string" && /^E[A-Z]+$/.test(system) ? say(`cannot open ${path}: ${text}`) : error;
}

/** storeInUse tells whether another process holds the store in a file. It waits for nobody and changes nothing. */
export function storeInUse(path: string): boolean {
  if (!existsSync(path)) return false;
  let db: DatabaseSync | undefined;
  try {
    if (irregular([path, ...BESIDE.map((suffix) => path + suffix)]) !== undefined) return false;
    db = new DatabaseSync(path, { readOnly: true });
    db.exec("PRAGMA busy_timeout = 0");
    pragma(db, "user_version");
    return false;
  } catch (error) {
    return sqliteCode(error) === SQLITE.BUSY;
  } finally {
    db?.close();
  }
}

/** bootId names the current start of the operating system, where it tells; it shows whether the machine itself went down. */
export function bootId(): string | undefined {
  const file = "/proc/sys/kernel/random/boot_id";
  return existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
}
