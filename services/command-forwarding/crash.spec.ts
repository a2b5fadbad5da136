import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import type { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CommandForwardingService as Service } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { VALUE_TYPE } from "#kernel/wire/value.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { CommandStream, type ExecutorAnswer, ExecutorClient, OUTCOME } from "../../clients/typescript/command-stream.ts";
import { CommandHub, capability } from "../../test/commands/hub.ts";
import type { OwnerArguments } from "../../test/commands/owner-process.ts";
import { until } from "../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../test/testca/index.ts";

let dir: string;
let alpha: TestHub;
let beta: TestHub;
let a: CommandHub;
let owner: { readonly child: ChildProcess; readonly port: number };
let stream: CommandStream;
let args: OwnerArguments;
const clients: { close(): void }[] = [];
const effects: string[] = [];

async function startOwner(): Promise<typeof owner> {
  const main = join(import.meta.dirname, "../../test/commands/owner-process.ts");
  const child = spawn(process.execPath, [main, JSON.stringify(args)], { stdio: ["pipe", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    const [, port] = /^port (\d+)$/.exec(line) ?? [];
    if (port !== undefined) return { child, port: Number(port) };
  }
  throw new Error("the owner did not start");
}

function ownerClient(): ClientOf<typeof CommandForwardingService> {
  const { certificatePem, keyPem } = beta.gateway("bridge");
  const credentials = createPeerCredentials(
    { hubId: "beta", name: "hub" },
    { cert: certificatePem, key: keyPem, ca: [beta.caPem] },
    systemClock,
  );
  const client = createClient(Service, { address: `127.0.0.1:${owner.port}`, credentials, clock: systemClock });
  clients.push(client);
  return client;
}

async function attach(run: (text: string) => ExecutorAnswer | Promise<ExecutorAnswer>): Promise<ExecutorClient> {
  const attached = Promise.withResolvers<void>();
  const executor = new ExecutorClient(ownerClient(), {
    nodeIds: ["lamp"],
    run: (task) => run(String(task.value)),
    onAttached: () => attached.resolve(),
  });
  await attached.promise;
  return executor;
}

const linked = (): boolean => a.service.describe().includes("to beta: level=3 ready");
const say = (value: string, timeoutMs = 10_000) => ({ hubId: "beta", nodeId: "lamp", capability: "say", value, timeoutMs });

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "commands-crash-"));
  [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  a = await new CommandHub({
    hubId: "alpha",
    credential: alpha.service(),
    peerCaPems: { beta: beta.caPem },
    dataDir: join(dir, "a"),
  }).start();
  a.directory({ kind: "put", hubId: "beta", nodeId: "lamp", online: true, capabilities: [capability("say", VALUE_TYPE.STRING)] });
  a.peer("beta");
  const { certificatePem, keyPem, caPem } = beta.service();
  args = {
    hubId: "beta",
    credential: { certificatePem, keyPem, caPem },
    caller: "alpha",
    callerCaPem: alpha.caPem,
    callerPort: a.port,
    dataDir: join(dir, "b"),
  };
  owner = await startOwner();
  await until(linked);
  stream = new CommandStream(a.client(alpha.operator()));
});

afterAll(async () => {
  stream?.close();
  for (const client of clients) client.close();
  owner?.child.kill("SIGKILL");
  await a?.stop();
  rmSync(dir, { recursive: true, force: true });
});

describe("the owner's process is killed", () => {
  test("between intent and outcome: UNKNOWN, and no second run after its restart", async () => {
    const started = Promise.withResolvers<void>();
    const executor = await attach((text) => {
      effects.push(text);
      started.resolve();
      return new Promise(() => undefined);
    });
    const outcome = stream.execute(say("once"));
    await started.promise;
    owner.child.kill("SIGKILL");
    await once(owner.child, "exit");
    executor.close();
    await until(() => !linked());
    owner = await startOwner();
    const again = await attach((text) => {
      effects.push(text);
      return { value: text };
    });
    await until(linked);
    expect(await outcome).toMatchObject({
      outcome: OUTCOME.UNKNOWN,
      failure: { reason: "OUTCOME_UNKNOWN", message: "the hub stopped after it was started" },
    });
    expect(await stream.execute(say("next"))).toMatchObject({ outcome: OUTCOME.DONE });
    expect(effects).toEqual(["once", "next"]);
    again.close();
  });

  test("with a load of commands in flight: each has at most one effect, and each DONE happened", async () => {
    const counts = new Map<string, number>();
    const run = (text: string): ExecutorAnswer => {
      counts.set(text, (counts.get(text) ?? 0) + 1);
      return { value: text };
    };
    let executor = await attach(run);
    // What had not started is refused when no executor is there yet; what comes after must be done.
    const outcomes: Promise<{ text: string; outcome: number }>[] = [];
    const send = (n: number): void => {
      const text = `load-${n}`;
      outcomes.push(stream.execute(say(text, 3_000)).then(({ outcome }) => ({ text, outcome })));
    };
    for (let n = 0; n < 400; n++) send(n);
    await until(() => counts.size > 100);
    owner.child.kill("SIGKILL");
    await once(owner.child, "exit");
    executor.close();
    owner = await startOwner();
    executor = await attach(run);
    await until(linked);
    for (let n = 400; n < 500; n++) send(n);
    const ended = await Promise.all(outcomes);
    const wrong = ended.filter(({ text, outcome }) => {
      const effectsOf = counts.get(text) ?? 0;
      if (effectsOf > 1) return true;
      return outcome === OUTCOME.DONE ? effectsOf !== 1 : outcome !== OUTCOME.UNKNOWN && effectsOf !== 0;
    });
    expect(wrong).toEqual([]);
    expect(ended.slice(400).filter(({ outcome }) => outcome !== OUTCOME.DONE)).toEqual([]);
    executor.close();
  });
});
