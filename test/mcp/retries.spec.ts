import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ExecutorAnswer, type ExecutorTask, Hub } from "../../clients/typescript/index.ts";
import { lamp } from "../support/acts.ts";
import { until } from "../support/federation.ts";
import { Agent, flagsOf, type World, world } from "./world.ts";

let here: World;
let agent: Agent;
/** Tasks that the device has begun and not answered. */
const held: { readonly task: ExecutorTask; answer(answer: ExecutorAnswer): void }[] = [];
let begun = 0;

beforeAll(async () => {
  here = await world();
  await here.add(lamp("slow-lamp"), { state: "OFF" });
  const attached = Promise.withResolvers<void>();
  Hub.over(here.gateway).serve({
    nodeIds: ["slow-lamp"],
    onAttached: () => attached.resolve(),
    run: (task) => {
      begun++;
      return new Promise((answer) => held.push({ task, answer }));
    },
  });
  await attached.promise;
  agent = await Agent.stdio(flagsOf(here.home, "operator-admin"));
  await until(
    "the lamp being online",
    async () => (await agent.data<{ online: boolean }>("read_node", { node: "factory/slow-lamp" })).online,
  );
});
afterAll(async () => {
  await agent.client.close();
  await here.close();
});

const order = (value: string): Record<string, unknown> => ({ node: "factory/slow-lamp", capability: "state", value });
const begins = (count: number): Promise<unknown> => until(`${count} tasks begun`, () => Promise.resolve(begun === count));
const answerAll = (): void => {
  for (const { task, answer } of held.splice(0)) answer({ value: task.value });
};

interface Done {
  readonly outcome: string;
  readonly replayed: boolean;
  readonly command: string;
  readonly idempotency_key: string;
}

describe("a tool call that is repeated", () => {
  test("while it runs, joins the command that runs", async () => {
    const before = begun;
    const calls = [agent.data<Done>("execute", order("ON")), agent.data<Done>("execute", order("ON"))];
    await begins(before + 1);
    answerAll();
    const [one, two] = await Promise.all(calls);
    expect(one?.outcome).toBe("DONE");
    expect([two?.command, two?.idempotency_key]).toEqual([one?.command, one?.idempotency_key]);
    expect(begun).toBe(before + 1);
  });

  test("after its answer was given up, gets the outcome of the first and does not act again", async () => {
    const before = begun;
    const giveUp = new AbortController();
    const lost = agent.call("execute", order("OFF"), { signal: giveUp.signal });
    await begins(before + 1);
    giveUp.abort();
    await expect(lost).rejects.toThrow();
    answerAll();
    const again = await agent.data<Done>("execute", order("OFF"));
    expect([again.outcome, again.replayed]).toEqual(["DONE", true]);
    expect(begun).toBe(before + 1);
  });

  test("after an answer, is a new action", async () => {
    const before = begun;
    const running = agent.data<Done>("execute", order("ON"));
    await begins(before + 1);
    answerAll();
    const first = await running;
    const next = agent.data<Done>("execute", order("ON"));
    await begins(before + 2);
    answerAll();
    const second = await next;
    expect(second.replayed).toBe(false);
    expect(second.idempotency_key).not.toBe(first.idempotency_key);
    expect(begun).toBe(before + 2);
  });

  test("with a key of its own, acts once, also through another server", async () => {
    const before = begun;
    const first = agent.data<Done>("execute", { ...order("ON"), idempotency_key: "turn-on-at-8" });
    await begins(before + 1);
    answerAll();
    const { command } = await first;
    await using other = await Agent.stdio(flagsOf(here.home, "operator-admin"));
    expect(await other.data("execute", { ...order("ON"), idempotency_key: "turn-on-at-8" })).toMatchObject({ replayed: true, command });
    expect(await agent.refusal("execute", { ...order("OFF"), idempotency_key: "turn-on-at-8" })).toMatch(/^IDEMPOTENCY_CONFLICT: /);
    expect(begun).toBe(before + 1);
  });

  test("after a deadline, says that nobody knows, and continues by the key that it names", async () => {
    const before = begun;
    const text = await agent.refusal("execute", { ...order("OFF"), timeout_ms: 300 });
    expect(begun).toBe(before + 1);
    const [, key] = /^OUTCOME_UNKNOWN: .*repeat the call with idempotency_key "(mcp-[\w-]{32})"\./.exec(text) ?? [];
    expect(key).toBeDefined();
    answerAll();
    const late = await until("the late outcome", async () => {
      const result = await agent.call("execute", { ...order("OFF"), idempotency_key: key });
      return result.isError === true ? undefined : (result.structuredContent as unknown as Done);
    });
    expect(late).toMatchObject({ outcome: "DONE", replayed: true });
    expect(begun).toBe(before + 1);
  });

  test("after the hub was killed in the middle, continues the command that it had journalled", async () => {
    const before = begun;
    const lost = agent.call("execute", order("ON"));
    await begins(before + 1);
    await here.home.end("SIGKILL");
    const { content, isError, _meta } = await lost;
    expect(isError).toBe(true);
    expect(content[0]?.text).toMatch(
      /^OUTCOME_UNKNOWN: no answer came; it is not known whether the command ran\. Read the node's state first\./,
    );
    expect(_meta).toMatchObject({ "foedus/error": { reason: "OUTCOME_UNKNOWN", outcome: "UNKNOWN" } });
    expect(await agent.refusal("list_peers")).toMatch(/^PEER_UNREACHABLE: .* The same call may succeed later\.$/);
    await here.home.start();
    await here.federation.operational();
    answerAll();
    // The same arguments are the same command until its outcome is known here.
    const done = await until("the outcome of the command", async () => {
      const result = await agent.call("execute", order("ON"));
      return result.isError === true ? undefined : (result.structuredContent as unknown as Done);
    });
    expect([done.outcome, done.replayed]).toEqual(["DONE", true]);
    expect(begun).toBe(before + 1);
  });
});
