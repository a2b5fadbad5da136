// The SDK's front door with a real hub in this process, over real mutual TLS.
import { spawnSync } from "node:child_process";
import { getEventListeners } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { fail } from "#kernel/error.ts";
import { writePki } from "../../certs/issue.ts";
import { type HubProcess, until } from "../../test/support/federation.ts";
import { HubHere } from "../../test/support/hub-here.ts";
import {
  type ConnectOptions,
  EventKind,
  type ExecutorTask,
  FoedusError,
  Hub,
  hasReason,
  isRetryable,
  type Mirror,
  remedyOf,
  type StateChange,
  VALUE_TYPE,
} from "./index.ts";
import { FileCredentials, readMaterial } from "./reach/file-credentials.ts";

const LAMP = {
  nodeId: "lamp",
  capabilities: [
    { name: "state", type: VALUE_TYPE.STRING, readable: true, invocable: true },
    { name: "level", type: VALUE_TYPE.DOUBLE, readable: true },
  ],
};

let here: HubHere;
let home: HubProcess;

const connect = (name: string, more: ConnectOptions = {}): Promise<Hub> => here.connect(name, more);

beforeAll(async () => {
  here = await HubHere.start();
  home = here.home;
}, 60_000);
afterAll(() => here?.stop());

describe("a hub that is called", () => {
  test("nodes, state, commands and what is watched, there and back", async () => {
    const [gateway, operator] = [await connect("gateway-zigbee"), await connect("operator-admin")];
    expect([gateway.hubId, operator.hubId]).toEqual(["home", "home"]);
    const updater = gateway.updater({ nodes: [LAMP] });
    const tasks: ExecutorTask[] = [];
    const run = (task: ExecutorTask) => {
      tasks.push(task);
      if (task.value === "BREAK") throw fail("VALUE_OUT_OF_RANGE", "a lamp is on or off");
      updater.set("lamp", "state", String(task.value));
      return { value: task.value };
    };
    const changes: StateChange[] = [];
    const mirror = operator.watch({ onChange: (change) => changes.push(change) });
    updater.set("lamp", "level", 0.5);
    await updater.drain();
    await mirror.ready;
    gateway.serve({ nodeIds: ["lamp"], run });
    const command = { nodeId: "lamp", capability: "state", timeoutMs: 2_000 };
    await until("a command done", async () => (await operator.execute({ ...command, value: "ON" })).outcome === "DONE");
    await until("the change", () =>
      changes.some(({ hubId, nodeId, key, value }) => `${hubId} ${nodeId} ${key} ${value}` === "home lamp state ON"),
    );
    expect(mirror.state("home", "lamp").map(({ key, value }) => [key, value])).toEqual(
      expect.arrayContaining([
        ["level", 0.5],
        ["state", "ON"],
      ]),
    );
    const refused = await operator.execute({ ...command, value: "BREAK" });
    expect([refused.outcome, refused.failure?.reason, refused.value]).toEqual(["REJECTED", "VALUE_OUT_OF_RANGE", undefined]);
    expect((await operator.execute({ ...command, capability: "none" })).failure?.reason).toBe("CAPABILITY_NOT_FOUND");
  });

  test("F-19 what onChange throws or rejects with is told to onError, no other change is left out, and after close none is told", async () => {
    const [gateway, operator] = [await connect("gateway-zigbee"), await connect("operator-admin")];
    const updater = gateway.updater({ nodes: [{ ...LAMP, nodeId: "told" }] });
    await updater.drain();
    const [errors, seen, few]: [unknown[], string[], string[]] = [[], [], []];
    const about = (told: string[], change: StateChange): boolean => change.nodeId === "told" && told.push(change.key) > 0;
    const mirror = operator.watch({
      onBatch: () => {
        throw new Error("batch");
      },
      onChange: (change) => {
        if (!about(seen, change)) return;
        if (change.key === "level") throw new Error("thrown");
        return Promise.reject(new Error("rejected")) as never;
      },
      onError: (error) => errors.push((error as Error).message),
    });
    const closes = operator.watch({ onChange: (change) => void (about(few, change) && closes.close()) });
    await Promise.all([mirror.ready, closes.ready]);
    updater.set("told", "level", 1);
    updater.set("told", "state", "ON");
    await until("both changes", () => seen.length === 2);
    await until("what went wrong", () => new Set(errors).size === 3);
    expect([few, closes.closed]).toEqual([["level"], true]);
    mirror.close();
    updater.close();
  });

  test("an executor that wants more at once than a hub gives is refused where it is made", async () => {
    const gateway = await connect("gateway-zigbee");
    for (const maxInFlight of [-1, 0.5, 4_097, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => gateway.serve({ nodeIds: ["lamp"], maxInFlight, run: () => ({}) })).toThrow(
        expect.objectContaining({ reason: "INVALID_FIELD" }),
      );
  });

  test("an aborted signal gives a command up, and ends what it was given to", async () => {
    const [gateway, operator] = [await connect("gateway-zigbee"), await connect("operator-admin")];
    await gateway.register({ ...LAMP, nodeId: "slow" });
    const ends = new AbortController();
    const attached = Promise.withResolvers<void>();
    const started = Promise.withResolvers<AbortSignal>();
    const run = ({ signal }: ExecutorTask) => {
      started.resolve(signal);
      return new Promise<never>(() => undefined);
    };
    gateway.serve({ nodeIds: ["slow"], run, signal: ends.signal, onAttached: () => attached.resolve() });
    await attached.promise;
    const given = new AbortController();
    const result = operator.execute({ nodeId: "slow", capability: "state", value: "ON" }, { signal: given.signal });
    const signal = await started.promise;
    given.abort();
    expect((await result).outcome).toBe("UNKNOWN");
    await until("the executor told", () => signal.aborted);
    ends.abort();
    const asked = { nodeId: "slow", capability: "state", value: "ON", timeoutMs: 1_000 };
    await until("nobody serving it", async () => (await operator.execute(asked)).failure?.reason === "NO_EXECUTOR");
    expect(await gateway.deregister("slow")).toBe(true);
    expect(await gateway.deregister("slow")).toBe(false);
  });

  test("changes come without a copy: what there is, then what happens, of the nodes that are meant", async () => {
    const [gateway, operator] = [await connect("gateway-zigbee"), await connect("operator-admin")];
    await gateway.register({ ...LAMP, nodeId: "seen" }, { ...LAMP, nodeId: "unseen" });
    const ends = new AbortController();
    const seen: string[] = [];
    const changes = operator.changes({ filter: { nodeIdPrefix: "seen" }, nodesOnly: true, signal: ends.signal });
    for await (const change of changes) {
      if (change.kind !== "event") seen.push(change.kind);
      else if (change.event.change.case !== "online") seen.push(`${change.event.name?.nodeId} ${change.event.change.case}`);
      if (seen.at(-1) === "seen removed") break;
      if (seen.at(-1) === "current") await gateway.deregister("seen");
    }
    expect(seen).toEqual(["seen put", "current", "seen removed"]);
    expect(await changes.next()).toEqual({ value: undefined, done: true });
  });

  test("events come in order, from where one wants, until the signal aborts", async () => {
    const operator = await connect("operator-admin");
    const ends = new AbortController();
    const seen: bigint[] = [];
    const events = operator.events({ fromSeq: 1n, signal: ends.signal });
    const error = await (async () => {
      for await (const { seq, kind } of events) {
        expect(Object.values(EventKind)).toContain(kind);
        seen.push(seq);
        if (seen.length === 2) ends.abort(new Error("enough"));
      }
    })().catch((thrown: unknown) => thrown);
    expect([seen, String(error)]).toEqual([[1n, 2n], "Error: enough"]);
  });

  test("what may not be watched is told with its reason and what to do", async () => {
    const gateway = await connect("gateway-zigbee");
    const error = await gateway
      .events()
      .next()
      .catch((thrown: unknown) => thrown);
    expect(hasReason(error, "ACCESS_DENIED") && [isRetryable(error), remedyOf(error).length > 10]).toEqual([false, true]);
    await expect(gateway.register({ nodeId: "not a name" })).rejects.toThrow(FoedusError);
  });

  test("after it was closed nothing is called any more", async () => {
    const hub = await connect("gateway-zigbee");
    const updater = hub.updater();
    updater.connect();
    hub.close();
    await expect(updater.drain()).resolves.toBeUndefined();
    expect(() => hub.close()).not.toThrow();
    await expect(hub.execute({ nodeId: "lamp", capability: "state" })).rejects.toMatchObject({ reason: "CANCELLED" });
    await expect(hub.register(LAMP)).rejects.toMatchObject({ reason: "CANCELLED" });
    for (const call of [
      () => hub.updater(),
      () => hub.watch(),
      () => hub.changes(),
      () => hub.events(),
      () => hub.serve({ nodeIds: [], run: () => ({}) }),
    ])
      expect(call).toThrow("the hub was closed");
  });

  test("what was closed is not held any more, by the hub and by the signals", async () => {
    const { signal } = new AbortController();
    const hub = await connect("operator-admin", { signal });
    const closed = [
      hub.watch({ signal }),
      hub.updater({ signal }),
      hub.serve({ nodeIds: ["lamp"], run: () => ({}), signal }),
      hub.events({ signal }),
    ];
    // An iteration listens by itself, too: it ends with the reason.
    expect(getEventListeners(signal, "abort")).toHaveLength(6);
    await (closed[0] as Mirror).ready;
    const closes = closed.map((one) => vi.spyOn(one, "close"));
    for (const one of closed) one.close();
    await until("the end of all", () => getEventListeners(signal, "abort").length === 1);
    hub.close();
    expect(closes.map(({ mock }) => mock.calls.length)).toEqual([1, 1, 1, 1]);
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  test("a client that the program closed ends what is made of it; nothing is dialled any more, and failures are FoedusError", async () => {
    const hub = await connect("operator-admin");
    const { registry, telemetry } = hub.clients;
    registry.close();
    telemetry.close();
    const errors: unknown[] = [];
    const links: unknown[] = [];
    const onError = (error: unknown): void => void errors.push(error);
    const mirror = hub.watch({ onError, onLink: (failure) => links.push(failure?.reason) });
    await expect(mirror.ready).rejects.toMatchObject({ reason: "CANCELLED" });
    await expect(hub.events({ onError }).next()).rejects.toMatchObject({ reason: "CANCELLED" });
    await expect(hub.deregister("nobody")).rejects.toMatchObject({ reason: "CANCELLED" });
    await expect(hub.updater({ onError }).drain()).resolves.toBeUndefined();
    expect([errors, links]).toEqual([[], ["CANCELLED"]]);
    hub.close();
    expect(() => hub.clients.discovery).toThrow("the hub was closed");
  });

  test("one that belongs to another hub is refused before anything is said", async () => {
    const hub = await connect("gateway-zigbee", { hubId: "factory" });
    const error = await hub.register(LAMP).catch((thrown: unknown) => thrown);
    expect(hasReason(error, "UNKNOWN_IDENTITY") && error.message).toContain("spiffe://home/service/hub");
  });
});

describe("which hub is meant", () => {
  const folder = mkdtempSync(join(tmpdir(), "foedus-target-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  test("a context is found by its name, and its files beside it", async () => {
    const { ca, cert, key } = home.pki("gateway-zigbee");
    const file = join(folder, "contexts.json");
    const one = { hub_id: "home", address: home.address("registry-sync"), ca, cert, key };
    writeFileSync(file, JSON.stringify({ current: "mine", contexts: { mine: one, half: { hub_id: "home", cert } } }));
    for (const options of [{ contexts: file }, { contexts: file, context: "mine" }]) {
      await using hub = await Hub.connect(options);
      await expect(hub.deregister("nobody")).resolves.toBe(false);
    }
    const missing = await Hub.connect({ contexts: file, context: "half" }).catch((thrown: unknown) => thrown);
    expect(hasReason(missing, "NOT_CONFIGURED") && [missing.message, remedyOf(missing)]).toEqual([
      `the context "half" of ${file} cannot be used: ca is missing; it must be a text`,
      "Correct it with `foedus contexts add`.",
    ]);
    const unknown = await Hub.connect({ contexts: file, context: "toString" }).catch((thrown: unknown) => thrown);
    expect(String(unknown)).toContain('no context "toString"');
  });

  test.each([
    [{ address: "nowhere" }, /"nowhere" is not an address/],
    [{ address: "registry=localhost:1" }, /there is no service "registry"/],
    [{ address: "localhost:1", cert: "gone.pem" }, /gone\.pem cannot be read/],
  ])("%o is refused in words", async (options, message) => {
    await expect(Hub.connect({ ...home.pki("gateway-zigbee"), ...options })).rejects.toThrow(message);
  });

  test("what is no file, or too long, is refused at once", async () => {
    const at = (name: string): string => join(folder, name);
    expect(spawnSync("mkfifo", [at("pipe")]).status).toBe(0);
    writeFileSync(at("long"), "");
    truncateSync(at("long"), 2 ** 30);
    for (const [file, what] of [
      [at("pipe"), /it is not a file/],
      [folder, /it is not a file/],
      ["/dev/zero", /it is not a file/],
      [at("long"), /it has more than 8388608 bytes/],
    ] as const) {
      await expect(Hub.connect({ contexts: file })).rejects.toThrow(what);
      await expect(Hub.connect({ address: "localhost:1", ...home.pki("gateway-zigbee"), key: file })).rejects.toThrow(
        /the key .* cannot be read/,
      );
    }
  });

  test("an address for each service is enough for those that are called", async () => {
    const hub = await connect("gateway-zigbee", { address: { "registry-sync": home.address("registry-sync") } });
    await expect(hub.deregister("nobody")).resolves.toBe(false);
    expect(() => hub.clients.telemetry).toThrow(/the address of telemetry is not known/);
  });
});

describe("a certificate in files", () => {
  test("what is renewed is taken, what is damaged is told once and changes nothing", async () => {
    const folder = mkdtempSync(join(tmpdir(), "foedus-renewed-"));
    const at = (name: string): string => join(folder, name);
    const { ca, cert, key } = home.pki("gateway-agents");
    const files = { ca: at("ca.pem"), cert: at("a.pem"), key: at("a.key") };
    for (const [from, to] of [
      [ca, files.ca],
      [cert, files.cert],
      [key, files.key],
    ] as const)
      copyFileSync(from, to);
    const told: string[] = [];
    const onError = (error: unknown): void => void told.push(String(error));
    const credentials = new FileCredentials({ hubId: "home" }, files, readMaterial(files), systemClock, onError);
    expect(credentials.reload()).toBe(false);
    const pki = at("pki");
    mkdirSync(pki);
    await writePki(pki, "home", { now: new Date(systemClock.wall()), leaves: [{ profile: "gateway", name: "agents" }] });
    copyFileSync(join(pki, "gateway-agents.pem"), files.cert);
    // The key of another certificate: between the two files.
    expect([credentials.reload(), credentials.reload(), told.length]).toEqual([false, false, 1]);
    expect(told[0]).toContain("do not belong together");
    copyFileSync(join(pki, "gateway-agents.key"), files.key);
    expect([credentials.reload(), credentials.reload(), told.length]).toEqual([true, false, 1]);
    expect(readFileSync(files.key, "utf8")).not.toBe(readFileSync(key, "utf8"));
    rmSync(folder, { recursive: true });
  });
});

describe("a hub that restarts", () => {
  test("updates, commands and events go on; of the events none is left out and none comes twice", async () => {
    const [gateway, operator] = [await connect("gateway-zigbee"), await connect("operator-admin")];
    const seqs: bigint[] = [];
    const cuts: string[] = [];
    const events = operator.events({ fromSeq: 1n, onCut: ({ reason }) => cuts.push(reason) });
    const followed = (async () => {
      for await (const { seq } of events) seqs.push(seq);
    })();
    const levels = new Set<number>();
    const changes = operator.changes({ filter: { nodeIdPrefix: "kept" }, onCut: ({ reason }) => cuts.push(`changes ${reason}`) });
    const watched = (async () => {
      for await (const change of changes)
        if (change.kind === "event" && change.event.change.case === "state" && change.event.change.value.key === "level")
          levels.add(Number(change.event.change.value.value?.kind.value));
    })();
    const updater = gateway.updater({ nodes: [{ ...LAMP, nodeId: "kept" }] });
    gateway.serve({ nodeIds: ["kept"], run: ({ value }) => ({ value }) });
    const command = { nodeId: "kept", capability: "state", value: "ON", timeoutMs: 1_000 };
    const done = async () => (await operator.execute(command)).outcome === "DONE";
    await until("a command done", done);
    await until("events", () => seqs.length > 0);
    await here.end();
    const before = seqs.length;
    updater.set("kept", "level", 1);
    await here.begin();
    await updater.drain();
    await until("a command done by the hub that is new", done);
    await until("later events", () => seqs.length > before);
    await until("the change that the new hub took", () => levels.has(1));
    expect([cuts.some((cut) => !cut.startsWith("changes")), cuts.some((cut) => cut.startsWith("changes"))]).toEqual([true, true]);
    expect(seqs).toEqual(seqs.map((_, i) => BigInt(i + 1)));
    events.close();
    changes.close();
    await Promise.all([followed, watched]);
  }, 60_000);
});
