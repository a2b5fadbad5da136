import { createServer } from "node:net";
import { expect, test } from "vitest";
import { takenPorts } from "./running.ts";

test("a port that somebody listens on is told before anything is started", async () => {
  const listen = (): Promise<{ port: number; close(): Promise<void> }> =>
    new Promise((resolve) => {
      const server = createServer();
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as { port: number };
        resolve({ port, close: () => new Promise((done) => server.close(() => done())) });
      });
    });
  const [taken, free] = await Promise.all([listen(), listen()]);
  await free.close();
  expect(await takenPorts([taken.port, free.port])).toEqual([taken.port]);
  await taken.close();
});
