import { spawnSync } from "node:child_process";
import { pbkdf2 } from "node:crypto";
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fail } from "#kernel/error.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { until } from "../../../test/support/until.ts";
import { createLogger, silentLogger } from "./log.ts";
import { prettyLine } from "./pretty.ts";
import { REDACTED, redact } from "./redact.ts";
import type { SinkState } from "./sink.ts";

test("lines are JSON with level, time, message and fields; the level changes while running, for children too", async () => {
  const folder = mkdtempSync(join(tmpdir(), "foedus-log-"));
  const file = join(folder, "logs", "hub.log");
  const log = createLogger({ level: "info", destination: file });
  const child = log.child({ service: "discovery" });
  child.debug({}, "hidden");
  child.info({ peer: "work", authorization: "Bearer abc" }, "peer connected");
  log.setLevel("debug");
  child.debug({ peer: "home" }, "shown");
  await log.flush();
  const lines = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  rmSync(folder, { recursive: true });
  expect(lines.map((l) => [l["level"], l["message"], l["peer"], l["service"]])).toEqual([
    ["info", "peer connected", "work", "discovery"],
    ["debug", "shown", "home", "discovery"],
  ]);
  expect(lines[0]?.["authorization"]).toBe(REDACTED);
  expect(String(lines[0]?.["time"])).toMatch(/^\d{4}-\d\d-\d\dT/);
});

test("a log that cannot be written does not take the process down, and neither flush nor close waits for it", () => {
  const script = `
    import { createLogger } from "#runtime/log/log.ts";
    const log = createLogger({ level: "info", destination: "/dev/full" });
    const times = [];
    for (const end of [() => log.flush(), () => log.close()]) {
      for (let i = 0; i < 3; i++) log.info({ i }, "line");
      const before = performance.now();
      await end();
      times.push(performance.now() - before);
    }
    process.stdout.write(JSON.stringify({ times, failing: log.sink.failing }));
  `;
  const run = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", script], { encoding: "utf8", timeout: 30_000 });
  expect([run.status, run.signal]).toEqual([0, null]);
  const { times, failing } = JSON.parse(run.stdout) as { times: number[]; failing: string };
  expect(failing).toBe("ENOSPC");
  // Each would take a second if it waited for what cannot be written.
  for (const ms of times) expect(ms).toBeLessThan(900);
});

test("F-10 a log that fails is told once, and its lines are counted; a flush after the failure does not wait", async () => {
  const states: SinkState[] = [];
  const log = createLogger({ level: "info", destination: "/dev/full", onState: (state) => states.push(state) });
  log.info({}, "line");
  await log.flush();
  for (let i = 0; i < 50; i++) log.info({ text: "x".repeat(100_000) }, "line");
  await log.flush();
  expect(states).toEqual([{ code: "ENOSPC", text: expect.stringContaining("/dev/full cannot be written: the disk is full") }]);
  expect(log.sink.failing).toBe("ENOSPC");
  expect(log.sink.lost).toBeGreaterThan(0);
  await log.close();
});

test("F-10 a reader that does not read holds neither a line nor the end, and what it reads later is whole", async () => {
  const folder = mkdtempSync(join(tmpdir(), "foedus-log-"));
  const fifo = join(folder, "fifo");
  expect(spawnSync("mkfifo", [fifo]).status).toBe(0);
  expect(() => createLogger({ level: "info", destination: fifo })).toThrow(/pipe that nobody reads/);
  const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const log = createLogger({ level: "info", destination: fifo });
  for (let i = 0; i < 20; i++) log.info({ i, text: "x".repeat(10_000) }, "line");
  const before = performance.now();
  await log.flush();
  expect(performance.now() - before).toBeLessThan(5_000);
  expect(log.sink.failing).toBeUndefined();
  const taken = Buffer.alloc(1 << 20);
  let length = 0;
  await until("all is read", () => {
    length += readSync(reader, taken, length, taken.length - length, null);
    return taken.subarray(0, length).toString().split("\n").length > 20;
  });
  for (const line of taken.subarray(0, length).toString().trim().split("\n")) expect(JSON.parse(line)).toMatchObject({ message: "line" });
  await log.close();
  closeSync(reader);
  rmSync(folder, { recursive: true });
});

test("F-9 a log is opened again after it was rotated; no line is lost or written twice", async () => {
  const folder = mkdtempSync(join(tmpdir(), "foedus-log-"));
  const file = join(folder, "hub.log");
  const log = createLogger({ level: "info", destination: file });
  for (let i = 0; i < 300; i++) {
    log.info({ i }, "line");
    if (i % 100 !== 50) continue;
    renameSync(file, `${file}.${i}`);
    log.reopen();
  }
  await log.close();
  const all = readdirSync(folder)
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n"))
    .filter((line) => line !== "");
  expect(all.map((line) => (JSON.parse(line) as { i: number }).i).sort((a, b) => a - b)).toEqual(Array.from({ length: 300 }, (_, i) => i));
  rmSync(folder, { recursive: true });
});

test("a log that became a symbolic link is not followed at a rotation: the old file goes on, and it is told; one that was a link stays one", async () => {
  const folder = mkdtempSync(join(tmpdir(), "foedus-log-"));
  const [file, victim, link] = [join(folder, "hub.log"), join(folder, "victim"), join(folder, "link.log")];
  const states: SinkState[] = [];
  const log = createLogger({ level: "info", destination: file, onState: (state) => states.push(state) });
  renameSync(file, `${file}.1`);
  writeFileSync(victim, "");
  symlinkSync(victim, file);
  log.reopen();
  // The threads that write have other things to do first.
  for (let i = 0; i < 8; i++) pbkdf2("x", "y", 100_000, 32, "sha256", () => undefined);
  log.info({}, "after the rotation");
  await log.close();
  expect(readFileSync(victim, "utf8")).toBe("");
  expect(readFileSync(`${file}.1`, "utf8")).toContain("after the rotation");
  expect(states[0]?.text).toMatch(/hub\.log: it is a symbolic link, which it was not when the hub started/);
  symlinkSync(victim, link);
  const linked = createLogger({ level: "info", destination: link });
  linked.reopen();
  linked.info({}, "as configured");
  await linked.close();
  expect(readFileSync(victim, "utf8")).toContain("as configured");
  rmSync(folder, { recursive: true });
});

test("what is buffered is written when the process exits", () => {
  const script = `
    import { createLogger } from "#runtime/log/log.ts";
    const log = createLogger({ level: "info", destination: "stdout" });
    for (let i = 0; i < 500; i++) log.info({ i }, "line");
    process.exit(0);
  `;
  const run = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", script], { encoding: "utf8" });
  expect(run.stdout.trim().split("\n").length).toBe(500);
  expect(run.status).toBe(0);
});

test("secrets are redacted at any depth, whatever the spelling", () => {
  const secret = {
    token: "s3",
    peer: { privateKey: "s3", list: [{ client_secret: "s3", "key-pem": "s3" }] },
    key: "s3",
    Password: "s3",
    refreshToken: "s3",
  };
  expect(JSON.stringify(redact({ ...secret, monkey: "banana", keys: 3 }))).not.toContain("s3");
  expect(redact({ monkey: "banana", keyCount: 3 })).toEqual({ monkey: "banana", keyCount: 3 });
});

test("errors keep reason and cause, bytes and endless objects are cut", () => {
  const cause = Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
  const shown = redact({ error: fail("PEER_UNREACHABLE", "cannot reach work", { cause, facts: { token: "s3" } }) });
  expect(shown).toMatchObject({ error: { reason: "PEER_UNREACHABLE", facts: { token: REDACTED }, cause: { code: "ECONNREFUSED" } } });
  const loop: Record<string, unknown> = { bytes: new Uint8Array(5), big: 3n };
  loop["self"] = loop;
  expect(JSON.stringify(redact(loop))).toContain("[deep]");
  expect(redact(loop)).toMatchObject({ bytes: "[5 bytes]", big: "3" });
});

test("pretty lines are for people", () => {
  const line = JSON.stringify({
    level: "warn",
    time: "2026-11-01T10:20:30.400Z",
    peer: "work",
    text: "two words",
    error: { message: "x", stack: "Error: x\n    at f" },
    message: "peer lost",
  });
  expect(prettyLine(line)).toBe('10:20:30.400 WARN  peer lost  peer=work text="two words" error={"message":"x"}\n    at f\n');
});

test("the silent logger drops, the memory logger collects", () => {
  silentLogger.child({ a: 1 }).error({}, "gone");
  const log = memoryLogger();
  log.child({ a: 1 }).warn({ secret: "s3" }, "kept");
  expect(log.lines).toEqual([{ level: "warn", message: "kept", fields: { a: 1, secret: REDACTED } }]);
});
