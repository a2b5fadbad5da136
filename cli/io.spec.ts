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
