import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { FollowedFiles, type Noted } from "./follow.ts";

let folder: string;
let clock: ManualClock;
let seen: string[];
let during: () => void;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-follow-"));
  clock = new ManualClock();
  seen = [];
  during = () => undefined;
});
afterEach(() => rmSync(folder, { recursive: true }));

const write = (name: string, text: string): void => {
  writeFileSync(join(folder, `${name}.new`), text);
  renameSync(join(folder, `${name}.new`), join(folder, name));
};

/** main names another file; the value is the content of that. */
function read(noted: Noted): string {
  const open = (name: string): string => {
    noted(join(folder, name));
    return readFileSync(join(folder, name), "utf8");
  };
  const value = open(open("main"));
  during();
  if (value === "bad") throw new Error("bad");
  return value;
}

const follow = (): FollowedFiles<string> =>
  new FollowedFiles({
    clock,
    intervalMs: 1_000,
    read,
    apply: (value) => seen.push(value),
    failed: (error) => seen.push(`failed: ${(error as Error).message.slice(0, 6)}`),
  });

test("a file that is named by another is followed as well, and no longer when it is not named any more", async () => {
  write("main", "one");
  write("one", "1");
  write("two", "2");
  const files = follow();
  expect(files.first()).toBe("1");
  files.start();
  await clock.advance(3_000);
  expect(seen).toEqual([]);
  write("one", "1b");
  await clock.advance(1_000);
  expect(seen).toEqual(["1b"]);
  write("main", "two");
  await clock.advance(1_000);
  write("one", "1c");
  await clock.advance(2_000);
  expect(seen).toEqual(["1b", "2"]);
  files.stop();
  write("two", "2b");
  await clock.advance(2_000);
  expect(seen).toEqual(["1b", "2"]);
});

test("a change while it is read is not missed, the first time neither", async () => {
  write("main", "one");
  write("one", "1");
  let times = 0;
  during = () => {
    if (times++ < 2) write("one", `1 + ${times}`);
  };
  const files = follow();
  expect(files.first()).toBe("1");
  files.start();
  await clock.advance(4_000);
  expect(seen).toEqual(["1 + 1", "1 + 2"]);
  files.stop();
});

test("each bad state is told once; what was not read because of it is still followed", async () => {
  write("main", "one");
  write("one", "1");
  const files = follow();
  files.first();
  files.start();
  write("main", "nowhere");
  await clock.advance(3_000);
  expect(seen).toEqual(["failed: ENOENT"]);
  write("nowhere", "found");
  await clock.advance(1_000);
  write("nowhere", "bad");
  await clock.advance(3_000);
  expect(seen).toEqual(["failed: ENOENT", "found", "failed: bad"]);
  rmSync(join(folder, "main"));
  await clock.advance(1_000);
  write("nowhere", "unseen while main is missing");
  await clock.advance(1_000);
  write("main", "nowhere");
  await clock.advance(1_000);
  expect(seen.at(-1)).toBe("unseen while main is missing");
  files.stop();
});

test("without a first read the first look reads, and a reread does whether anything changed or not", async () => {
  write("main", "one");
  write("one", "1");
  const files = follow();
  files.look();
  files.look();
  expect(seen).toEqual(["1"]);
  files.reread();
  expect(seen).toEqual(["1", "1"]);
});

test("S-18 rights that are put right are noticed although the file itself stays the same", async () => {
  write("main", "one");
  write("one", "1");
  const files = follow();
  files.first();
  files.start();
  write("one", "1b");
  during = () => {
    throw new Error("EACCES");
  };
  await clock.advance(1_000);
  during = () => undefined;
  chmodSync(join(folder, "one"), 0o640);
  await clock.advance(1_000);
  expect(seen).toEqual(["failed: EACCES", "1b"]);
  files.stop();
});

test("S-18 what kept the files from being read may pass without a trace on them: they are tried again, told once, ever more seldom", async () => {
  write("main", "one");
  write("one", "1");
  const files = follow();
  files.first();
  files.start();
  write("one", "1b");
  let tries = 0;
  during = () => {
    tries++;
    throw new Error("EMFILE");
  };
  await clock.advance(600_000);
  expect(seen).toEqual(["failed: EMFILE"]);
  expect(tries).toBeGreaterThan(15);
  expect(tries).toBeLessThan(40);
  // Who asks for a reading is answered.
  files.reread();
  expect(seen).toEqual(["failed: EMFILE", "failed: EMFILE"]);
  during = () => undefined;
  await clock.advance(30_000);
  expect(seen.slice(2)).toEqual(["1b"]);
  files.stop();
});
