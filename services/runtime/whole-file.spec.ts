import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeWhole } from "./whole-file.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-whole-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string): string => join(folder, name);
const modeOf = (name: string): number => statSync(at(name)).mode & 0o777;

test("a new file has the mode that is asked for, and its folder is made", () => {
  writeWhole(at("a/b/file"), "one", 0o600);
  expect([readFileSync(at("a/b/file"), "utf8"), modeOf("a/b/file"), readdirSync(at("a/b"))]).toEqual(["one", 0o600, ["file"]]);
});

test("a file that is there is another one afterwards, with its mode; a link to it stays a link", () => {
  writeFileSync(at("file"), "one", { mode: 0o640 });
  symlinkSync("file", at("link"));
  const before = statSync(at("file")).ino;
  writeWhole(at("link"), "two", 0o600);
  expect(lstatSync(at("link")).isSymbolicLink()).toBe(true);
  expect([readFileSync(at("file"), "utf8"), modeOf("file")]).toEqual(["two", 0o640]);
  expect(statSync(at("file")).ino).not.toBe(before);
});

test("what cannot be replaced stays as it is, with nothing beside it", () => {
  mkdirSync(at("taken"));
  expect(() => writeWhole(at("taken"), "text")).toThrow(/EISDIR|ENOTEMPTY|EEXIST/);
  expect(readdirSync(folder)).toEqual(["taken"]);
});
