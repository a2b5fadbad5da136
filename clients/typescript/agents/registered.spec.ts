import { expect, test } from "vitest";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { Registered } from "./registered.ts";

/** Registry answers only when a test says so, and remembers what was asked. */
class Registry {
  readonly asked: string[] = [];
  readonly #answers: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];

  register = ({ nodeId }: { readonly nodeId?: string }): Promise<void> => this.#ask(`in ${nodeId}`);
  deregister = (nodeId: string): Promise<void> => this.#ask(`out ${nodeId}`);

  async answer(error?: Error): Promise<void> {
    const { resolve, reject } = this.#answers.shift()!;
    if (error === undefined) resolve();
    else reject(error);
    for (let at = 0; at < 8; at++) await Promise.resolve();
  }

  async #ask(what: string): Promise<void> {
    this.asked.push(what);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#answers.push({ resolve, reject });
    return promise;
  }
}

const NODE = { nodeId: "counter" };
const turn = async (): Promise<void> => {
  for (let at = 0; at < 8; at++) await Promise.resolve();
};

test("AI1 of one agent one thing is asked at a time, and the last thing that was wanted comes last", async () => {
  const registry = new Registry();
  const registered = new Registered(registry, new ManualClock(), () => undefined);
  void registered.want("counter", NODE);
  void registered.want("counter", undefined);
  const last = registered.want("counter", NODE);
  await turn();
  expect(registry.asked).toEqual(["in counter"]);
  await registry.answer();
  await registry.answer().catch(() => undefined);
  await last;
  expect(registry.asked.at(-1)).toBe("in counter");
});

test("AI2 what fails is tried again until it is done, and no more when it is closed", async () => {
  const registry = new Registry();
  const clock = new ManualClock();
  const errors: unknown[] = [];
  const registered = new Registered(registry, clock, (error) => errors.push(error));
  const first = registered.want("counter", undefined);
  await turn();
  await registry.answer(new Error("away"));
  await first;
  expect([registry.asked.length, errors.length]).toEqual([1, 1]);
  clock.advance(1_000);
  await turn();
  expect(registry.asked).toEqual(["out counter", "out counter"]);
  await registry.answer();
  clock.advance(60_000);
  await turn();
  expect(registry.asked.length).toBe(2);
  void registered.want("counter", NODE);
  await turn();
  await registry.answer(new Error("away"));
  registered.close();
  clock.advance(60_000);
  await turn();
  expect(registry.asked.length).toBe(3);
});
