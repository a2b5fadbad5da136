import { expect, test } from "vitest";
import { coalesced } from "./coalesce.ts";

/** gated counts runs, each of which lasts until its gate is opened. */
function gated(): { readonly gates: PromiseWithResolvers<void>[]; readonly call: () => Promise<void> } {
  const gates: PromiseWithResolvers<void>[] = [];
  const call = coalesced(() => {
    const gate = Promise.withResolvers<void>();
    gates.push(gate);
    return gate.promise;
  });
  return { gates, call };
}

test("a flood of calls costs one run under way and one that follows", async () => {
  const { gates, call } = gated();
  const first = call();
  const flood = Array.from({ length: 10_000 }, call);
  expect(gates).toHaveLength(1);
  gates[0]!.resolve();
  await first;
  await expect.poll(() => gates.length).toBe(2);
  gates[1]!.resolve();
  await Promise.all(flood);
  expect(gates).toHaveLength(2);
});

test("a call between two runs begins no third one beside the second", async () => {
  const { gates, call } = gated();
  const [first, second] = [call(), call()];
  gates[0]!.resolve();
  await first;
  const late = call();
  await expect.poll(() => gates.length).toBe(2);
  gates[1]!.resolve();
  await Promise.all([second, late].map((one) => Promise.race([one, second])));
  expect(gates.length).toBeLessThanOrEqual(3);
  gates[2]?.resolve();
  await late;
});

test("a run that fails fails its callers, and the next one is made", async () => {
  const { gates, call } = gated();
  const [first, second] = [call(), call()];
  gates[0]!.reject(new Error("torn file"));
  await expect(first).rejects.toThrow("torn file");
  await expect.poll(() => gates.length).toBe(2);
  gates[1]!.resolve();
  await second;
  const third = call();
  gates[2]!.resolve();
  await third;
});
