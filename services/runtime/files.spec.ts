import { spawnSync } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { closeToOthers, irregular, makeFolder, placeNew, readText, writeWhole } from "./files.ts";

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

test("S-18 a link in the place of the temporary file is not followed", () => {
  writeFileSync(at("victim"), "precious", { mode: 0o600 });
  symlinkSync("victim", at("federation.json.new"));
  writeWhole(at("federation.json"), "text");
  expect([readFileSync(at("victim"), "utf8"), modeOf("victim")]).toEqual(["precious", 0o600]);
  expect([readFileSync(at("federation.json"), "utf8"), lstatSync(at("federation.json")).isFile()]).toEqual(["text", true]);
  expect(readdirSync(folder).sort()).toEqual(["federation.json", "victim"]);
});

test("S-18 a pipe, a device, a folder and a file without end are refused, and do not hang", () => {
  expect(spawnSync("mkfifo", [at("fifo")]).status).toBe(0);
  expect(() => readText(at("fifo"))).toThrow(/fifo is a pipe and not a file/);
  expect(() => readText("/dev/zero")).toThrow(/device and not a file/);
  expect(() => readText(folder)).toThrow(/folder and not a file/);
  expect(() => readText(at("absent"))).toThrow(/ENOENT/);
});

test("S-18 a file that says it is empty is read within bounds, and one of any length is refused within them", () => {
  expect(() => readText("/proc/self/maps", 100)).toThrow(/maps holds more than 100 bytes/);
  symlinkSync("/proc/self/pagemap", at("pagemap"));
  writeFileSync(at("sparse"), "{");
  truncateSync(at("sparse"), 2 ** 40);
  writeFileSync(at("full"), "x".repeat(200_000));
  expect(readText(at("full"), 200_000)).toHaveLength(200_000);
  expect(readText("/proc/self/stat").length).toBeGreaterThan(0);
  for (const name of ["pagemap", "sparse", "full"])
    expect(() => readText(at(name), 199_999)).toThrow(expect.objectContaining({ code: "ETOOLARGE" }));
});

test("S-18 whatever stands at a path, looking at it and reading it end, with a code", () => {
  spawnSync("mkfifo", [at("pipe")]);
  mkdirSync(at("folder"));
  for (const [name, to] of Object.entries({ loop: "loop", nowhere: "absent", zero: "/dev/zero", full: "/dev/full", mem: "/proc/self/mem" }))
    symlinkSync(to, at(name));
  const codes = readdirSync(folder).map((name) => {
    try {
      return [name, readText(at(name))];
    } catch (error) {
      return [name, (error as NodeJS.ErrnoException).code];
    }
  });
  expect(Object.fromEntries(codes)).toEqual({
    pipe: "ENOTFILE",
    folder: "EISDIR",
    loop: "ELOOP",
    nowhere: "ENOENT",
    zero: "ENOTFILE",
    full: "ENOTFILE",
    mem: "EIO",
  });
  expect(["pipe", "folder", "zero", "nowhere", "mem"].map((name) => irregular([at("absent"), at(name)])?.kind)).toEqual([
    "a pipe",
    "a folder",
    "a device",
    undefined,
    undefined,
  ]);
});

test("F-27 a byte order mark before the text is no part of it", () => {
  writeFileSync(at("bom"), "\ufeff{}");
  expect(readText(at("bom"))).toBe("{}");
});

test("F-10 a folder that cannot be made is said, at once", () => {
  makeFolder(at("a/b/c"));
  makeFolder(at("a/b/c"));
  expect(statSync(at("a/b/c")).isDirectory()).toBe(true);
  expect(() => makeFolder("/proc/nope/deeper")).toThrow(/ENOENT|EACCES|EPERM/);
  writeFileSync(at("file"), "");
  expect(() => makeFolder(at("file/below"))).toThrow(/ENOTDIR/);
  expect(() => makeFolder(at("file"))).toThrow(/EEXIST/);
});

test.each(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])("F-27 a new file gets its name without hard links: %s", (code) => {
  const none = (): never => {
    throw Object.assign(new Error(code), { code });
  };
  for (const [name, link] of [
    ["linked", undefined],
    ["copied", none],
  ] as const) {
    writeFileSync(at("new"), "text", { mode: 0o600 });
    placeNew(at("new"), at(name), link);
    expect([readFileSync(at(name), "utf8"), modeOf(name)]).toEqual(["text", 0o600]);
    writeFileSync(at("new"), "second");
    expect(() => placeNew(at("new"), at(name), link)).toThrow(/EEXIST/);
    expect(readFileSync(at(name), "utf8")).toBe("text");
    expect(readdirSync(folder).filter((file) => file === "new")).toEqual([]);
  }
});

test("S-18 a folder that is open to others is closed to them; its group keeps what it had", () => {
  mkdirSync(at("data"), { mode: 0o755 });
  expect([closeToOthers(at("data")), modeOf("data")]).toEqual([true, 0o750]);
  expect([closeToOthers(at("data")), closeToOthers(at("absent"))]).toEqual([true, true]);
});
