import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { AgentCard, generateAgentCardSignature, type Part, type StreamResponse, type Task, TaskState } from "@a2a-js/sdk";
import { ServerCallContext } from "@a2a-js/sdk/server";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { node as nodes, registrySync } from "../../clients/typescript/schema.ts";
import { HOSTILE } from "../../test/support/hostile-text.ts";
import { clipped, keysOf, nodeOf, readCard, unsigned, verifyCard } from "./card.ts";
import { A2A_CONFIG, configProblems } from "./config.ts";
import { cardJson, fetchFor } from "./fetching.ts";
import { Latest } from "./latest.ts";
import { agentAt, agentCard, catalogueCard, meantBy, offeredOf, pathOf } from "./offered.ts";
import { answerOf, hear, isOver, NOTHING_HEARD, stateWord, valueOf } from "./outcome.ts";
import { valueFor } from "./serving.ts";
import { BoundedTaskStore } from "./store.ts";

const text = (value: string): Part => ({ content: { $case: "text", value }, metadata: undefined, filename: "", mediaType: "text/plain" });
const data = (value: unknown): Part => ({
  content: { $case: "data", value },
  metadata: undefined,
  filename: "",
  mediaType: "application/json",
});
const file: Part = { content: { $case: "url", value: "https://x" }, metadata: undefined, filename: "f", mediaType: "image/png" };

const task = (state: TaskState, parts: Part[] = []): StreamResponse => ({
  payload: {
    $case: "task",
    value: {
      id: "t",
      contextId: "c",
      status: { state, message: undefined, timestamp: undefined },
      artifacts: parts.length === 0 ? [] : [{ artifactId: "a", name: "", description: "", parts, metadata: undefined, extensions: [] }],
      history: [],
      metadata: undefined,
    },
  },
});
const status = (state: TaskState, says = ""): StreamResponse => ({
  payload: {
    $case: "statusUpdate",
    value: {
      taskId: "t",
      contextId: "c",
      metadata: undefined,
      status: {
        state,
        timestamp: undefined,
        message: {
          messageId: "m",
          contextId: "c",
          taskId: "t",
          role: 2,
          parts: [text(says)],
          metadata: undefined,
          extensions: [],
          referenceTaskIds: [],
        },
      },
    },
  },
});
const artifact = (...parts: Part[]): StreamResponse => ({
  payload: {
    $case: "artifactUpdate",
    value: {
      taskId: "t",
      contextId: "c",
      append: true,
      lastChunk: false,
      metadata: undefined,
      artifact: { artifactId: "a", name: "", description: "", parts, metadata: undefined, extensions: [] },
    },
  },
});

const heardOf = (...events: readonly StreamResponse[]) => events.reduce(hear, NOTHING_HEARD);

describe("what an agent answers", () => {
  test.each<[string, StreamResponse[], unknown]>([
    [
      "artifacts in parts",
      [task(TaskState.TASK_STATE_SUBMITTED), artifact(text("a")), artifact(text("b")), status(TaskState.TASK_STATE_COMPLETED)],
      { value: "a\nb" },
    ],
    ["a whole task", [task(TaskState.TASK_STATE_COMPLETED, [text("x"), data(1)])], { value: { json: '{"text":"x","data":[1]}' } }],
    [
      "a task with a file",
      [task(TaskState.TASK_STATE_COMPLETED, [text("x"), file])],
      { value: { json: '{"text":"x","files_left_out":1}' } },
    ],
    ["only a sentence at the end", [status(TaskState.TASK_STATE_COMPLETED, "all done")], { value: "all done" }],
    [
      "a rejection",
      [status(TaskState.TASK_STATE_REJECTED, "no")],
      { failure: { reason: "CAPABILITY_ACCESS", message: "the agent rejected the task: no" } },
    ],
    [
      "a cancellation",
      [task(TaskState.TASK_STATE_CANCELED)],
      { failure: { reason: "EXECUTOR_FAILED", message: "the task was cancelled" } },
    ],
    [
      "a question",
      [status(TaskState.TASK_STATE_AUTH_REQUIRED)],
      { failure: { reason: "EXECUTOR_FAILED", message: "the agent asks for credentials before it goes on" } },
    ],
    [
      "nothing to the end",
      [task(TaskState.TASK_STATE_WORKING)],
      { failure: { reason: "OUTCOME_UNKNOWN", message: "the connection to the agent ended before its answer" } },
    ],
  ])("%s", (_what, events, wanted) => {
    const heard = heardOf(...events);
    expect(answerOf(heard)).toEqual(wanted);
    expect(isOver(heard)).toBe(JSON.stringify(wanted).includes("OUTCOME_UNKNOWN") === false);
  });

  test("fits into a value, however much it is and whatever it says", () => {
    const part = fc.oneof(fc.string({ unit: "binary", maxLength: 6_000 }).map(text), fc.jsonValue().map(data), fc.constant(file));
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
        const value = valueOf({ parts });
        if (typeof value === "string") expect(Buffer.byteLength(value)).toBeLessThanOrEqual(4_096);
        else expect(Buffer.byteLength((value as { json: string }).json)).toBeLessThanOrEqual(16_384);
      }),
    );
    expect(stateWord(99 as TaskState)).toBe("unknown");
  });
});

const CARD = {
  name: "Planner",
  description: "plans",
  version: "1",
  supportedInterfaces: [{ url: "http://127.0.0.1:1/", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
  capabilities: {},
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
  skills: [{ id: "route", name: "Route", description: "routes", tags: ["x"] }],
};

function pair(kid: string): { readonly privateKey: KeyObject; readonly jwks: string } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { privateKey, jwks: JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid }] }) };
}

describe("a card", () => {
  const mine = pair("k");
  const sign = (header: object = {}) =>
    generateAgentCardSignature(mine.privateKey, { alg: "ES256", kid: "k", typ: "JOSE", ...header })(readCard(CARD));

  test("is verified with the keys that are known, and only with them", async () => {
    const signed = AgentCard.toJSON(await sign()) as Record<string, unknown>;
    const { publicKey, signature } = await verifyCard(readCard(signed), keysOf(mine.jwks));
    expect([publicKey.length > 60, signature.length]).toEqual([true, 64]);
    const changed = readCard({ ...signed, skills: [] });
    await expect(verifyCard(changed, keysOf(mine.jwks))).rejects.toThrow("no signature of the agent's card");
    await expect(verifyCard(readCard(signed), keysOf(pair("k").jwks))).rejects.toThrow("no signature");
    await expect(verifyCard(readCard(signed), keysOf(pair("other").jwks))).rejects.toThrow("no signature");
    await expect(verifyCard(readCard(CARD), keysOf(mine.jwks))).rejects.toThrow("is not signed");
    const none = { ...signed, signatures: [{ protected: Buffer.from('{"alg":"none","kid":"k"}').toString("base64url"), signature: "" }] };
    await expect(verifyCard(readCard(none), keysOf(mine.jwks))).rejects.toThrow("no signature");
  });

  test.each([null, 7, "x", [], {}, { name: "x" }, { ...CARD, name: 7 }, { ...CARD, supportedInterfaces: [] }])("%j is none", (json) => {
    expect(() => readCard(json)).toThrow(/^the agent's card/);
  });

  test.each(["", "{}", '{"keys":[]}', '{"keys":[{"kty":"EC"}]}', '{"keys":[{"kid":"x","kty":"oct","k":"AA","d":"private"}]}'])(
    "%s is no set of keys",
    (set) => {
      expect(() => keysOf(set)).toThrow("no JWK set");
    },
  );

  test("becomes a node that the hub takes, whatever it says", () => {
    const word = fc.oneof(fc.constantFrom(...HOSTILE.filter((one) => one.isWellFormed())), fc.string({ unit: "binary", maxLength: 300 }));
    const skill = fc.record({
      id: word,
      name: word,
      description: word,
      tags: fc.array(word, { maxLength: 40 }),
      inputModes: fc.array(word, { maxLength: 3 }),
    });
    const lie = fc.record({ name: word, description: word, version: word, skills: fc.array(skill, { maxLength: 80 }) });
    fc.assert(
      fc.property(lie, (said) => {
        let card: AgentCard;
        try {
          card = readCard({ ...CARD, ...said });
        } catch {
          return;
        }
        const { capabilities = [], agent, name = "", description = "" } = nodeOf("x", "http://127.0.0.1", unsigned(card));
        expect(Buffer.byteLength(name)).toBeLessThanOrEqual(255);
        expect(Buffer.byteLength(description)).toBeLessThanOrEqual(4_096);
        const names = capabilities.map((one) => one.name ?? "");
        expect(new Set(names).size).toBe(names.length);
        for (const one of names) expect(Buffer.byteLength(one)).toBeLessThanOrEqual(127);
        expect(agent?.skills?.length).toBeLessThanOrEqual(64);
        for (const mark of HOSTILE.filter((one) => one.isWellFormed()))
          expect(JSON.stringify([name, names])).not.toContain(JSON.stringify(mark).slice(1, -1));
      }),
    );
    expect(clipped("é".repeat(10), 9)).toBe("ééé…");
  });
});

describe("what is fetched", () => {
  let server: Server;
  let url = "";
  let body = "";

  beforeAll(async () => {
    server = createServer((request, response) => {
      if (request.url === "/gone/.well-known/agent-card.json") return response.writeHead(302, { location: "http://127.0.0.1:1/" }).end();
      response.end(body === "" ? JSON.stringify({ seen: request.headers.authorization }) : body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  test("comes from the agent's own origin, with its token, and is not too long", async () => {
    expect(await cardJson(url, fetchFor(url, "secret"))).toEqual({ seen: "Bearer secret" });
    await expect(fetchFor(url, "secret")("http://127.0.0.2:1/")).rejects.toThrow("the agent's card names an address at http://127.0.0.2:1");
    await expect(cardJson(`${url}/gone`, fetchFor(url, undefined))).rejects.toThrow();
    body = `"${"x".repeat(300_000)}"`;
    await expect(cardJson(url, fetchFor(url, undefined))).rejects.toThrow("more than 262144 bytes");
    body = "not json";
    await expect(cardJson(url, fetchFor(url, undefined))).rejects.toThrow();
  });
});

describe("what is offered", () => {
  const record = (hubId: string, nodeId: string, kind: 1 | 2, names: string[]) => {
    const capabilities = names.map((name) => create(nodes.CapabilitySchema, { name, type: 4, invocable: true }));
    return create(registrySync.NodeRecordSchema, {
      name: { hubId, nodeId },
      node: { nodeId, kind, name: `${nodeId}\u202e`, capabilities },
    });
  };
  const records = [
    record("home", "own", 2, ["ask"]),
    record("factory", "planner", 2, ["ask", "route"]),
    record("factory", "lamp", 1, ["state"]),
    record("factory", "mute", 2, []),
    record("lab", "solo", 2, ["solve"]),
  ];
  const all = offeredOf(records, "home");
  const [planner, solo] = all;

  test("are agents of other hubs that can be asked, each at a path of its own", () => {
    expect(all.map(pathOf)).toEqual(["/agents/factory/planner", "/agents/lab/solo"]);
    expect(agentAt("/agents/factory/planner/.well-known/agent-card.json")).toEqual({
      hubId: "factory",
      nodeId: "planner",
      rest: "/.well-known/agent-card.json",
    });
    for (const path of ["/agents/", "/agents/a", "/agents/../x", "/agents/a/%2e%2e", "/agents/A/b"]) expect(agentAt(path)).toBeUndefined();
    expect(agentCard(planner!, "http://x").name).toBe("planner\\u{202e}");
    expect(catalogueCard(all, "home", "http://x").skills.map(({ id }) => id)).toEqual([
      "factory/planner/ask",
      "factory/planner/route",
      "lab/solo/solve",
    ]);
  });

  test.each<[unknown, number | undefined, string]>([
    [undefined, 0, "planner ask"],
    ["route", 0, "planner route"],
    ["none", 0, 'the agent has no such skill; name one as "skill" in the metadata of the message: ask, route'],
    [undefined, 1, "solo solve"],
    ["factory/planner/route", undefined, "planner route"],
    ["factory/planner/", undefined, "planner ask"],
    [{ evil: 1 }, undefined, 'name the skill that is meant as "skill" in the metadata of the message'],
    ["__proto__", undefined, 'name the skill that is meant as "skill" in the metadata of the message'],
  ])("%j of agent %s means %s", (skill, index, wanted) => {
    const meant = meantBy(skill, index === undefined ? undefined : [planner, solo][index], all);
    expect(typeof meant === "string" ? meant : `${meant.offered.nodeId} ${meant.capability.name}`).toBe(wanted);
  });

  test("messages become values", () => {
    expect(valueFor([text("a"), text("b")], 4)).toEqual({ value: "a\nb" });
    expect(valueFor([data(1)], 4)).toBe("the skill takes text, and the message has none");
    expect(valueFor([data({ a: 1 })], 6)).toEqual({ value: { json: '{"a":1}' } });
    expect(valueFor([text("[1]")], 6)).toEqual({ value: { json: "[1]" } });
    expect(valueFor([text("no")], 6)).toBe("the skill takes data, and the message has none");
    expect(valueFor([data(1), data(2)], 6)).toBe("the skill takes one part with data, and the message has more");
    expect(valueFor([], 0)).toEqual({ value: undefined });
  });
});

test("no more tasks are kept than there is room for, and nobody sees another agent's", async () => {
  const store = new BoundedTaskStore(3);
  const at = (tenant: string): ServerCallContext => new ServerCallContext({ tenant });
  const one = (id: string): Task => ({ id, contextId: "c", status: undefined, artifacts: [], history: [], metadata: undefined });
  for (const id of ["1", "2", "3", "4"]) await store.save(one(id), at("a/b"));
  expect(store.size).toBe(3);
  expect(await store.load("1", at("a/b"))).toBeUndefined();
  expect((await store.load("4", at("a/b")))?.id).toBe("4");
  expect(await store.load("4", at("a/c"))).toBeUndefined();
  const roomy = new BoundedTaskStore(100, 5_000);
  for (const id of ["1", "2", "3"]) await roomy.save({ ...one(id), contextId: "x".repeat(2_000) }, at("a/b"));
  expect(roomy.size).toBe(2);
  await roomy.save({ ...one("4"), contextId: "x".repeat(20_000) }, at("a/b"));
  expect(roomy.size).toBe(1);
  const { tasks } = await store.list({ tenant: "", contextId: "", status: 0, pageToken: "", statusTimestampAfter: undefined }, at("a/b"));
  expect(tasks.map(({ id }) => id).sort()).toEqual(["2", "3", "4"]);
});

test("of what an agent says at work, the first, some and the last are told", () => {
  let due: (() => void) | undefined;
  const told: number[] = [];
  const cancel = (): void => {
    due = undefined;
  };
  const setTimer = (_ms: number, fire: () => void) => {
    due = fire;
    return { cancel };
  };
  const latest = new Latest<number>({ setTimer }, 200, (value) => told.push(value));
  for (let i = 1; i <= 1_000; i++) latest.put(i);
  expect(told).toEqual([1]);
  due?.();
  expect(told).toEqual([1, 1_000]);
  due?.();
  latest.put(1_001);
  latest.put(1_002);
  expect(told).toEqual([1, 1_000, 1_001]);
  latest.close();
  expect([told.at(-1), due]).toEqual([1_002, undefined]);
});

test("a configuration is read strictly", () => {
  const good = A2A_CONFIG.parse({ agents: [{ node: "x", url: "https://x.example", keys: "k" }] });
  expect(configProblems(good, () => false)).toEqual([]);
  for (const bad of [{ agents: [{ node: "a b", url: "https://x" }] }, { agents: [{ node: "x", url: "file:///etc/passwd" }] }, { more: 1 }])
    expect(A2A_CONFIG.safeParse(bad).success).toBe(false);
  const twice = A2A_CONFIG.parse({ agents: [1, 2].map(() => ({ node: "x", url: "https://x.example", unsigned: true })) });
  expect(configProblems(twice, () => false)).toEqual(["agents.1.node: x is there twice"]);
});
