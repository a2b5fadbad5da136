import fc from "fast-check";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { Core, Persist } from "#kernel/core.ts";
import type { Now } from "#kernel/instant.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { failureOfCall } from "../../../test/rpc/fixture.ts";
import { silentLogger } from "../log/log.ts";
import { Calls } from "./calls.ts";
import { createDriver } from "./driver.ts";

type Input = { readonly kind: "question" | "frame" | "news"; readonly id: number; readonly topic?: string; readonly sum?: number };
type Answer = { readonly kind: "answer"; readonly call: number };

/** Scribe writes down what it is given, makes each input durable, and answers questions. */
class Scribe implements Core<Input, Persist | Answer> {
  readonly seen: Input[] = [];

  step(_: Now, input: Input, out: (Persist | Answer)[]): void {
    this.seen.push(input);
    out.push({ kind: "persist", ops: [{ op: "append", log: "l", seq: this.seen.length, bytes: new Uint8Array(1) }] });
    if (input.kind === "question") out.push({ kind: "answer", call: input.id });
  }

  tick(): void {}

  deadline(): undefined {
    return undefined;
  }

  describe(): string {
    return "";
  }
}

function stage(more: { mailboxCapacity?: number; maxWaiting?: number } = {}) {
  const core = new Scribe();
  const clock = new ManualClock();
  const calls = new Calls<Input, Answer>("the test");
  const held: (() => void)[] = [];
  const driver = createDriver<Input, Persist | Answer>({
    service: "test",
    core,
    store: new MemoryStore({ schedule: (complete) => void held.push(complete) }),
    clock,
    log: silentLogger,
    metrics: new Registry(),
    execute: (answer) => void calls.answer(answer.call, answer),
    observe: () => undefined,
    reject: () => "keep",
    onFatal: (error) => {
      throw error;
    },
    commit: "turn",
    mailboxCapacity: 1,
    maxWaiting: 1,
    ...more,
  });
  calls.attach(driver);
  /** commit lets one transaction end, and everything follow that follows from it. */
  const commit = async (): Promise<boolean> => {
    clock.turn();
    const complete = held.shift();
    complete?.();
    for (let i = 0; i < 8; i++) await Promise.resolve();
    return complete !== undefined;
  };
  return { core, clock, calls, driver, commit };
}

const act = fc.oneof(
  fc.record({ do: fc.constant("tell" as const), topic: fc.option(fc.constantFrom("x", "y"), { nil: undefined }), merge: fc.boolean() }),
  fc.record({ do: fc.constantFrom("ask" as const, "offer" as const, "commit" as const, "cork" as const) }),
);

describe("calls", () => {
  test("F-13 CL1 to CL4 with a mailbox of one place and floods, no news is lost, every question ends and every offer gets in", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
        const { core, calls, driver, commit } = stage();
        const told: { id: number; topic: string | undefined; merge: boolean }[] = [];
        const questions: Promise<string>[] = [];
        const offers: Promise<number>[] = [];
        let corked = false;
        let id = 1_000;
        for (const each of acts) {
          id++;
          const own = id;
          if (each.do === "tell") {
            told.push({ id, topic: each.topic, merge: each.merge });
            const both = each.merge ? (older: Input, newer: Input) => ({ ...newer, sum: (older.sum ?? 0) + (newer.sum ?? 0) }) : undefined;
            calls.tell({ kind: "news", id, sum: 1, ...(each.topic === undefined ? {} : { topic: each.topic }) }, each.topic, both);
          } else if (each.do === "ask")
            questions.push(
              calls
                .ask((call) => ({ kind: "question", id: call }))
                .then(
                  () => "answered",
                  (error: { failure: { reason: string } }) => error.failure.reason,
                ),
            );
          else if (each.do === "offer") offers.push(Promise.resolve(calls.offer({ kind: "frame", id })).then(() => own));
          else if (each.do === "commit") await commit();
          else {
            if (corked) driver.uncork();
            else driver.cork();
            corked = !corked;
          }
        }
        if (corked) driver.uncork();
        for (let idle = 0; idle < 3; ) idle = (await commit()) ? 0 : idle + 1;

        for (const outcome of await Promise.all(questions)) expect(["answered", "OVERLOADED"]).toContain(outcome);
        const frames = core.seen.filter(({ kind }) => kind === "frame").map((input) => input.id);
        expect([...(await Promise.all(offers))].sort(), "every offer got in, once").toEqual([...frames].sort());
        const news = core.seen.filter(({ kind }) => kind === "news");
        const free = told.filter(({ topic }) => topic === undefined).map((each) => each.id);
        expect(news.filter(({ topic }) => topic === undefined).map((each) => each.id)).toEqual(free);
        for (const topic of ["x", "y"]) {
          const seen = news.filter((each) => each.topic === topic).map((each) => each.id);
          expect(seen, "news of one topic come in order").toEqual([...seen].sort());
          expect(seen.at(-1), "the newest of a topic came").toBe(told.findLast((each) => each.topic === topic)?.id);
        }
        expect(
          news.map((each) => each.id),
          "and all news in order",
        ).toEqual(news.map((each) => each.id).sort());
      }),
    );
  });

  test("F-13 CL3 what is merged loses nothing, and costs the memory of one", async () => {
    const { core, calls, driver, commit } = stage();
    driver.cork();
    const both = (older: Input, newer: Input) => ({ ...newer, sum: (older.sum ?? 0) + (newer.sum ?? 0) });
    for (let id = 1; id <= 1_000; id++) calls.tell({ kind: "news", id, sum: 1 }, "credit", both);
    driver.uncork();
    while (await commit());
    expect(core.seen.length, "one in the mailbox, one beyond it").toBe(2);
    expect(core.seen.reduce((sum, input) => sum + (input.sum ?? 0), 0)).toBe(1_000);
  });

  test("CL2 an offer costs no promise when there is room", () => {
    const { calls } = stage({ mailboxCapacity: 2, maxWaiting: 100 });
    expect(calls.offer({ kind: "frame", id: 1 })).toBe(undefined);
  });

  test("CL1 CL2 the stop ends what waits and refuses what comes, and what is told still arrives", async () => {
    const { core, calls, driver, commit } = stage({ mailboxCapacity: 2, maxWaiting: 100 });
    const asked = failureOfCall(calls.ask((call) => ({ kind: "question", id: call })));
    driver.cork();
    calls.tell({ kind: "news", id: 1 });
    calls.tell({ kind: "news", id: 2 });
    const offered = failureOfCall(calls.offer({ kind: "frame", id: 3 }) as Promise<void>);
    calls.end({ reason: "SHUTTING_DOWN", message: "the hub is stopping" });
    expect((await asked).reason).toBe("SHUTTING_DOWN");
    expect((await failureOfCall(calls.ask((call) => ({ kind: "question", id: call })))).reason).toBe("SHUTTING_DOWN");
    calls.tell({ kind: "news", id: 4 });
    driver.uncork();
    while (await commit());
    expect((await offered).reason).toBe("SHUTTING_DOWN");
    expect(core.seen.filter(({ kind }) => kind === "news").map(({ id }) => id)).toEqual([1, 2, 4]);
  });
});
