import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { allOf, endProcess, isRunning } from "./processes.ts";

/** run starts a program of Node that says a line when its handlers are there, and waits for that line. */
async function run(program: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, ["-e", `${program}; console.log("ready"); setInterval(() => {}, 1000);`]);
  await once(child.stdout, "data");
  return child;
}

test("a process is told to end, and its exit code comes back", async () => {
  const child = await run('process.on("SIGTERM", () => process.exit(7))');
  expect(isRunning(child)).toBe(true);
  expect(await endProcess(child, "it")).toBe(7);
  expect(isRunning(child)).toBe(false);
  expect(await endProcess(child, "it")).toBe(7);
});

test("a process that does not end is killed, and nobody is told that it ended", async () => {
  const child = await run('process.on("SIGTERM", () => {})');
  await expect(endProcess(child, "the stubborn one", "SIGTERM", 100)).rejects.toThrow(
    "the stubborn one did not end within 100 ms after SIGTERM and was killed",
  );
  expect(child.signalCode).toBe("SIGKILL");
});

test("all are waited for although one fails", async () => {
  let slow = false;
  const slowly = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    slow = true;
  });
  await expect(allOf([Promise.reject(new Error("first")), slowly])).rejects.toThrow("first");
  expect(slow).toBe(true);
  expect(await allOf([Promise.resolve(1), Promise.resolve(2)])).toEqual([1, 2]);
});
