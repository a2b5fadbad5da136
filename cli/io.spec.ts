import { spawnSync } from "node:child_process";
import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { writeTo } from "./io.ts";

const counts = (stream: Writable): number[] => ["error", "drain", "close"].map((name) => stream.listenerCount(name));

test("writing to a slow reader leaves no listeners behind, and ends with the reader", async () => {
  let taken: (() => void) | undefined;
  const written: string[] = [];
  const stream = new Writable({
    highWaterMark: 1,
    write: (chunk, _encoding, done) => {
      written.push(String(chunk));
      taken = done;
    },
  });
  // As in the command: somebody else answers for errors.
  stream.on("error", () => undefined);
  const before = counts(stream);
  for (let i = 0; i < 20; i++) {
    let over = false;
    const pending = writeTo(stream, `line ${i}\n`).then(() => {
      over = true;
    });
    await Promise.resolve();
    expect(over).toBe(false);
    taken?.();
    await pending;
  }
  expect(written).toHaveLength(20);
  expect(counts(stream)).toEqual(before);
  const last = writeTo(stream, "nobody reads this\n");
  stream.destroy(new Error("EPIPE"));
  await last;
  expect(counts(stream)[0]).toBe(before[0]);
});

const python = spawnSync("python3", ["-c", "import pty"]).status === 0;
if (!python) console.warn("python3 is not here: the test with a terminal is skipped");

test.skipIf(!python)("a terminal that says 0 columns cuts no table, and a log on it is for people", () => {
  const script = `
    const { processIo } = await import(${JSON.stringify(new URL("./io.ts", import.meta.url))});
    const { isTerminal } = await import(${JSON.stringify(new URL("../services/runtime/log/sink.ts", import.meta.url))});
    const { isTTY, columns } = process.stdout;
    console.log(JSON.stringify([isTTY, columns, processIo({ quiet: true }).columns ?? "all", isTerminal("stdout"), isTerminal("/dev/null")]));
    process.exit();
  `;
  const program = [process.execPath, "--input-type=module", "-e", script];
  const { stdout } = spawnSync("python3", ["-c", "import pty, sys; pty.spawn(sys.argv[1:])", ...program], { encoding: "utf8", input: "" });
  expect(JSON.parse(stdout)).toEqual([true, 0, "all", true, false]);
});
