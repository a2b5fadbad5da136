import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  ChangeValuesRequestSchema,
  type ChangeValuesResponse,
  GetValueRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { VALUE_CHANGES_MOST, ValueStream } from "../../../clients/typescript/values/value-stream.ts";
import { LoneCoordinator } from "../../../test/support/lone-coordinator.ts";
import { until } from "../../../test/support/until.ts";

const VALUE = new Uint8Array([1, 2, 3]);
const GROUP = new TextEncoder().encode("the group");

describe("ChangeValues", () => {
  let folder: string;
  let hub: LoneCoordinator;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "foedus-values-"));
    hub = new LoneCoordinator(folder);
    await hub.begin();
  });
  afterEach(async () => {
    await hub.module.stop(100).catch(() => undefined);
    rmSync(folder, { recursive: true });
    expect(hub.fatal).toEqual([]);
  });

  const change = (corr: number, key: string) =>
    ({ corr: BigInt(corr), change: { change: { case: "put", value: { key, value: VALUE } } } }) as const;
  const request = (...changes: readonly ReturnType<typeof change>[]) => create(ChangeValuesRequestSchema, { changes: [...changes] });
  const versionOf = async (key: string) => Number((await hub.client.getValue(create(GetValueRequestSchema, { key }))).value?.version ?? 0n);

  /** endOf reads a stream to its end: the numbers that were answered, and why it ended. */
  async function endOf(stream: { readonly responses: AsyncIterable<ChangeValuesResponse> }) {
    const answered: number[] = [];
    try {
      for await (const { results } of stream.responses) answered.push(...results.map(({ corr }) => Number(corr)));
      return { answered, why: "ended" };
    } catch (error) {
      return { answered, why: error instanceof FoedusError ? error.failure.reason : String(error) };
    }
  }

  test("VS1 VA1 S1-8 each change resolves with the version that the value then has; a refused one is refused alone", async () => {
    const values = new ValueStream(hub.client);
    const versions = await Promise.all(Array.from({ length: 200 }, (_, i) => values.put(`k-${i}`, VALUE)));
    expect(new Set(versions).size).toBe(200);
    expect(await versionOf("k-7")).toBe(versions[7]);
    const [stale, fresh, gone, made] = await Promise.allSettled([
      values.put("k-1", VALUE, { expect: 1 }),
      values.put("k-2", VALUE, { expect: versions[2]! }),
      values.delete("no-such"),
      values.put("k-new", VALUE, { expect: 0 }),
    ]);
    expect(stale).toMatchObject({ status: "rejected", reason: { failure: { reason: "VERSION_CONFLICT" } } });
    expect(gone).toMatchObject({ status: "rejected", reason: { failure: { reason: "VALUE_NOT_FOUND" } } });
    expect(fresh).toMatchObject({ status: "fulfilled" });
    expect(made).toMatchObject({ status: "fulfilled" });
    values.close();
    await expect(values.put("k", VALUE)).rejects.toMatchObject({ failure: { reason: "CANCELLED" } });
  });

  test("VS1 the stream ends when all that was read is answered", async () => {
    const stream = hub.client.changeValues();
    stream.send(request(change(1, "a"), change(2, "b")));
    stream.send(request(change(3, "c")));
    stream.end();
    const { answered, why } = await endOf(stream);
    expect(why).toBe("ended");
    expect(answered.sort()).toEqual([1, 2, 3]);
  });

  test("VS1 a number that is used by an open change ends the stream", async () => {
    const stream = hub.client.changeValues();
    stream.send(request(change(1, "a"), change(1, "b")));
    expect((await endOf(stream)).why).toBe("INVALID_FIELD");
  });

  test.each([
    ["no change", { corr: 1n }],
    ["an empty change", { corr: 1n, change: {} }],
    ["a bad key", { corr: 1n, change: { change: { case: "put", value: { key: "a b", value: VALUE } } } }],
    ["too long a value", { corr: 1n, change: { change: { case: "put", value: { key: "a", value: new Uint8Array(4_097) } } } }],
  ] as const)("%s is refused, and the hub goes on", async (_what, bad) => {
    const stream = hub.client.changeValues();
    stream.send(create(ChangeValuesRequestSchema, { changes: [bad as never] }));
    stream.end();
    const { answered, why } = await endOf(stream);
    expect([answered, why]).toEqual([[], "INVALID_FIELD"]);
    await hub.put("after");
  });

  test("VS2 more than may wait are read as others are decided, and all are answered", async () => {
    const stream = hub.client.changeValues();
    for (let message = 0; message < 4; message++)
      stream.send(request(...Array.from({ length: 1_024 }, (_, i) => change(message * 1_024 + i, `k-${i % 10}`))));
    stream.end();
    const { answered, why } = await endOf(stream);
    expect(why).toBe("ended");
    expect(new Set(answered).size).toBe(4_096);
  });

  test("VS3 F-28 a newer stream of the group ends the older one, of which nothing more is changed", async () => {
    const older = hub.client.changeValues();
    older.send(create(ChangeValuesRequestSchema, { changes: [change(1, "a")], stream: { group: GROUP, incarnation: 1n, n: 1n } }));
    const over = endOf(older);
    await until("the first change", async () => (await versionOf("a")) > 0, 5_000);
    const newer = hub.client.changeValues();
    newer.send(create(ChangeValuesRequestSchema, { changes: [change(1, "b")], stream: { group: GROUP, incarnation: 1n, n: 2n } }));
    expect((await over).why).toBe("SESSION_REPLACED");
    older.send(request(change(2, "late")));
    const again = hub.client.changeValues();
    again.send(create(ChangeValuesRequestSchema, { changes: [change(1, "late")], stream: { group: GROUP, incarnation: 1n, n: 1n } }));
    expect((await endOf(again)).why).toBe("SESSION_REPLACED");
    newer.end();
    expect(await endOf(newer)).toEqual({ answered: [1], why: "ended" });
    expect(await versionOf("late")).toBe(0);
  });

  test("VA2 what was sent when the stream was cut may be decided, and is said to be unknown; the next change goes on a new stream", async () => {
    let cut = (): void => undefined;
    const client = {
      changeValues: () => {
        const stream = hub.client.changeValues();
        cut = () => stream.cancel();
        return stream;
      },
    };
    const values = new ValueStream(client, { backoff: { baseMs: 1, maxMs: 1, factor: 1, jitter: 0 } });
    await values.put("a", VALUE);
    const open = values.put("b", VALUE);
    queueMicrotask(() => cut());
    await expect(open).rejects.toMatchObject({ failure: { reason: "OUTCOME_UNKNOWN" } });
    expect(await values.put("c", VALUE)).toBeGreaterThan(0);
    values.close();
  });

  test("VA1 more than may wait are refused before they are sent", async () => {
    const values = new ValueStream(hub.client);
    const all = Array.from({ length: VALUE_CHANGES_MOST + 1 }, (_, i) => values.put(`k-${i % 5}`, VALUE));
    await expect(all.pop()).rejects.toMatchObject({ failure: { reason: "OVERLOADED" } });
    expect(new Set(await Promise.all(all)).size).toBe(VALUE_CHANGES_MOST);
    values.close();
  });

  test("CL1 who hangs up is waited for no longer: nothing of the call is kept", async () => {
    hub.store.failNext("full");
    const controller = new AbortController();
    const asked = hub.client.getValue(create(GetValueRequestSchema, { key: "a" }), { signal: controller.signal });
    controller.abort();
    await expect(asked).rejects.toMatchObject({ failure: { reason: "CANCELLED" } });
    await hub.put("after");
  });
});
