import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test, vi } from "vitest";

// A folder of our own: a demo that runs on this machine must not be stopped.
vi.hoisted(() => {
  process.env["FOEDUS_DEMO_DIR"] = `/nonexistent/foedus-demo-${process.pid}`;
});
const { DEMO_DIR, demoPortProblem, portsInUse, RUN_DIR, runningHubs, stopDemo, takenPorts } = await import("./running.ts");

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

test.each(["abc", "0", "65500", ""])("FOEDUS_DEMO_PORT=%s is refused with what to write", (text) => {
  expect(demoPortProblem(text)).toBe(
    `FOEDUS_DEMO_PORT is "${text}", which is not a port; write the first of 60 free ports, 1 to 65476, such as 28800`,
  );
  expect([demoPortProblem("28800"), demoPortProblem("65476")]).toEqual([undefined, undefined]);
});

test("`make down` stops hubs that a killed `make up` left behind, and whoever starts another one is told of them", async () => {
  // Programs that run on and have the command line of a hub, one of this demo and one of somebody else.
  const other = spawn(process.execPath, ["-e", "setInterval(() => 0, 60_000)", join(DEMO_DIR, "elsewhere", "hub.json")]);
  const hub = spawn(process.execPath, ["-e", "setInterval(() => 0, 60_000)", "--", "--config", join(RUN_DIR, "home", "hub.json")]);
  const ended = new Promise((resolve) => hub.once("exit", (_code, signal) => resolve(signal)));
  // Until a program is started its command line is that of this test.
  await vi.waitFor(() => expect(runningHubs()).toEqual([hub.pid]), { timeout: 10_000 });
  expect(portsInUse([18_800, 18_810], [hub.pid!])).toBe(
    `ports 18800, 18810 on this machine are in use by hubs of an earlier \`make up\` (pids ${hub.pid}); stop them with \`make down\``,
  );
  expect(portsInUse([18_800], [])).toMatch(
    /^port 18800 on this machine is in use; stop what listens there, or choose others: `FOEDUS_DEMO_PORT=<first port> make up`/,
  );
  expect(await stopDemo()).toBe(true);
  expect(await ended).toBe("SIGTERM");
  expect(runningHubs()).toEqual([]);
  expect([other.exitCode, other.signalCode]).toEqual([null, null]);
  other.kill();
});
