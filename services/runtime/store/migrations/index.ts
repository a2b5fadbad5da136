/** Migration brings a store's file one version further. Released migrations are never edited; the next one is appended. */
export interface Migration {
  readonly version: number;
  readonly sql: string;
}

/**
 * MIGRATIONS in order, numbered from 1. The version of a file is its `user_version`.
 *
 * log_entry: one row per blob; position = log id * 2^40 + seq, so that a log is one range of the table's own order.
 * log_name: the numbers of logs. kv: spaces of keyed blobs. meta: facts about the file itself.
 */
export const MIGRATIONS: readonly Migration[] = [
  {
    version: 1,
    sql: `
      CREATE TABLE log_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
      CREATE TABLE log_entry (position INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
      CREATE TABLE kv (space TEXT NOT NULL, key TEXT NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (space, key)) STRICT, WITHOUT ROWID;
      CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    `,
  },
];
