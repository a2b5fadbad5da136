import fc from "fast-check";
import { expect, test } from "vitest";
import { StoredError } from "#kernel/wire/stored-json.ts";
import { Writer } from "../codec/wire.ts";
import { CommandCore } from "../core.ts";
import { NO_VALUE, OUTCOME, type Result } from "../messages.ts";
import { LOG } from "./journal.ts";
import { RECORD, writeResolved, writeResult, writeTexts } from "./records.ts";
import { writeEpochs } from "./restore.ts";

const NOW = { mono: 1_000, wall: 1_800_000_000_000 };
const DONE: Result = { outcome: OUTCOME.DONE, value: NO_VALUE, failure: undefined };

/** blobs are a journal with a record of each kind. */
function blobs(): Uint8Array[] {
  const record = (write: (writer: Writer) => void): Uint8Array => {
    const writer = new Writer();
    write(writer);
    return writer.take();
  };
  const numbers = (writer: Writer, ...all: number[]): void => {
    for (const n of all) writer.uint(n);
  };
  const submit = (seq: number, hubId: string) => (writer: Writer) => {
    numbers(writer, RECORD.SUBMIT, 7, seq);
    for (const text of [hubId, "lamp", "on"]) writer.string(text);
    writer.bytes(NO_VALUE);
    numbers(writer, 60_000, NOW.wall + 60_000, 9);
    writeTexts(writer, ["home"]);
    writer.string("");
  };
  const run = (kind: number, seq: number) => (writer: Writer) => {
    writer.uint(kind);
    writer.string("away");
    numbers(writer, 7, seq, 60_000);
    if (kind === RECORD.OUTCOME) writeResult(writer, DONE);
  };
  const keyed = (writer: Writer): void => {
    numbers(writer, RECORD.KEYED, 7, 3);
    writer.string("key");
    writer.bytes(new Uint8Array(32));
    writer.uint(NOW.wall + 60_000);
    writeResult(writer, DONE);
  };
  const floor = (writer: Writer): void => {
    writer.uint(RECORD.FLOOR);
    writer.string("away");
    numbers(writer, 7, 1, 5);
  };
  const writes = [submit(1, "away"), submit(2, "home"), run(RECORD.INTENT, 1), run(RECORD.OUTCOME, 1), keyed, floor];
  return [...writes.map(record), record((writer) => writeResolved(writer, 7, [1, 2]))];
}

/** restored is how a start with this store ends. */
function restored(meta: Uint8Array, journal: readonly Uint8Array[]): StoredError | undefined {
  const core = new CommandCore({ hubId: "home", hash: (data) => data });
  try {
    core.restore(NOW, { meta, blobs: journal.map((bytes, i) => ({ seq: i + 1, bytes })) });
  } catch (error) {
    if (error instanceof StoredError) return error;
    throw error;
  }
  core.step(NOW, { kind: "start" }, []);
  return undefined;
}

const META = writeEpochs({ owner: 7, caller: 8, raised: new Map([["away", 9]]) });

test("A10 a journal with damaged bytes is read as it is, or named: nothing else is thrown, and nothing spins", () => {
  expect(restored(META, blobs())).toBeUndefined();
  fc.assert(
    fc.property(fc.nat(blobs().length), fc.nat(), fc.integer({ min: 1, max: 255 }), fc.boolean(), (which, at, by, cut) => {
      const all = [META, ...blobs()];
      const bytes = (all[which] as Uint8Array).slice();
      const index = at % bytes.length;
      bytes[index] = (bytes[index] as number) ^ by;
      all[which] = cut ? bytes.slice(0, index) : bytes;
      const [meta = META, ...journal] = all;
      const refused = restored(meta, journal);
      if (refused !== undefined) expect(refused.record).toBe(which === 0 ? "meta/journal" : `${LOG}/${which}`);
    }),
    { numRuns: 1_000 },
  );
});

test("A10 bounds of what is done that are far apart take no longer than there are commands", () => {
  const writer = new Writer();
  writeResolved(writer, 7, [0, Number.MAX_SAFE_INTEGER]);
  expect(restored(META, [...blobs(), writer.take()])).toBeUndefined();
});

test("A10 a store whose epochs leave no room for newer ones is refused", () => {
  const epochs = writeEpochs({ owner: 7, caller: Number.MAX_SAFE_INTEGER, raised: new Map() });
  expect(restored(epochs, [])).toBeInstanceOf(StoredError);
});
