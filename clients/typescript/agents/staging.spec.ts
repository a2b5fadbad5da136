import { createHash, randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AgentPartSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { digestBytesOf, headOf, partsOf } from "../../../services/coordination/codec/agents.ts";
import type { Laid } from "../../../services/coordination/migration/checkpoint/checkpoint.ts";
import { ComingCheckpoint, Staged, type StagedCheckpoint } from "./staging.ts";

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();
const NONE = new Uint8Array(0);

/** laidOf cuts a checkpoint in chunks of the given bytes. */
function laidOf(memory: readonly Uint8Array[], context: readonly Uint8Array[]): Laid {
  const chunks = [...memory, ...context].map((bytes) => ({ digest: sha256(bytes).toString("hex"), bytes }));
  const size = (parts: readonly Uint8Array[]) => parts.reduce((sum, { length }) => sum + length, 0);
  return { memoryBytes: size(memory), contextBytes: size(context), progress: 750_000, dependencies: ["counting"], chunks };
}

const digestOf = (laid: Laid): Buffer => sha256(digestBytesOf(laid));

/** send carries a checkpoint to a program that has `base`, and tells how many bytes went. */
function send(laid: Laid, base?: { readonly laid: Laid; readonly staged: StagedCheckpoint }, digest: Uint8Array = digestOf(laid)) {
  const coming = new ComingCheckpoint(headOf(laid), { digest, base: base?.staged });
  let bytes = 0;
  for (const part of partsOf(laid, base?.laid)) {
    expect(coming.complete).toBe(false);
    coming.add(create(AgentPartSchema, part));
    if ("data" in part) bytes += part.data.length;
  }
  expect(coming.complete).toBe(true);
  return { came: coming.finish(), bytes };
}

const whole = (parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts);

describe("S1-14 a checkpoint that is staged", () => {
  test("AH3 is what was sent, whatever is inserted, removed, repeated or moved from one part to the other; only what is new is sent", () => {
    for (let run = 0; run < 200; run++) {
      const dice = (below: number): number => randomBytes(1)[0]! % below;
      const pool = Array.from({ length: 6 }, () => randomBytes(1 + dice(40)));
      const some = (): Uint8Array[] => Array.from({ length: dice(8) }, () => pool[dice(pool.length)]!);
      let before: { laid: Laid; staged: StagedCheckpoint } | undefined;
      for (let round = 0; round < 5; round++) {
        const [memory, context] = [some(), some()];
        const laid = laidOf(memory, context);
        const { came, bytes } = send(laid, before);
        expect(Buffer.compare(came!.checkpoint.memory, whole(memory)) || Buffer.compare(came!.checkpoint.context, whole(context))).toBe(0);
        expect(came!.checkpoint).toMatchObject({ progress: 0.75, dependencies: ["counting"] });
        const known = new Set(before?.laid.chunks.map(({ digest }) => digest));
        const fresh = laid.chunks.filter(({ digest }) => !known.has(digest)).reduce((sum, chunk) => sum + chunk.bytes.length, 0);
        expect(bytes).toBe(fresh);
        before = { laid, staged: came! };
      }
    }
  });

  test("has the very memory that was staged when nothing of it changed", () => {
    const memory = [randomBytes(50), randomBytes(60)];
    const first = laidOf(memory, [randomBytes(5)]);
    const staged = send(first).came!;
    const { came, bytes } = send(laidOf(memory, [randomBytes(6)]), { laid: first, staged });
    expect(came!.checkpoint.memory).toBe(staged.checkpoint.memory);
    expect(bytes).toBe(6);
  });

  test("PROTOCOL G10 is not taken when it is not what its digest says", () => {
    const laid = laidOf([randomBytes(50), randomBytes(60)], []);
    expect(send(laid, undefined, randomBytes(32)).came).toBeUndefined();
    const [first] = laid.chunks;
    const changed = { ...laid, chunks: [{ ...first!, bytes: randomBytes(50) }, laid.chunks[1]!] };
    expect(send(changed, undefined, digestOf(laid)).came).toBeUndefined();
  });

  test("PROTOCOL G10 no more parts are taken than a checkpoint has", () => {
    const head = headOf(laidOf([randomBytes(100_000)], []));
    const coming = new ComingCheckpoint(head, { digest: randomBytes(32), base: undefined });
    const part = create(AgentPartSchema, { data: Uint8Array.of(1) });
    expect(() => {
      for (let at = 0; at < 100_000; at++) coming.add(part);
    }).toThrow("in more than 65536 parts");
    expect(coming.complete).toBe(false);
  });

  test("PROTOCOL G10 parts that are none, too many, or the same as what is not there are refused", () => {
    const laid = laidOf([randomBytes(50), randomBytes(60)], [randomBytes(7)]);
    const staged = send(laid).came!;
    const refused = [{}, { data: randomBytes(118) }, { same: 40 }, { same: 50, from: 1 }, { same: 67, from: 50 }, { same: 8, from: 110 }];
    for (const part of refused) {
      const coming = new ComingCheckpoint(headOf(laid), { digest: digestOf(laid), base: staged });
      expect(() => coming.add(create(AgentPartSchema, part))).toThrow(/the hub s|what is the same/);
    }
    const without = new ComingCheckpoint(headOf(laid), { digest: digestOf(laid), base: undefined });
    expect(() => without.add(create(AgentPartSchema, { same: 50 }))).toThrow("there are none");
  });

  test("comes from a hub that knows no digests in parts of any length", () => {
    const laid = laidOf([randomBytes(50), randomBytes(60)], [randomBytes(7)]);
    expect(
      Buffer.compare(send(laid, undefined, NONE).came!.checkpoint.memory, whole(laid.chunks.slice(0, 2).map(({ bytes }) => bytes))),
    ).toBe(0);
  });
});

test("SC1 SC2 what is staged is bounded in bytes and in number, and is one checkpoint of one transfer of an agent", () => {
  const staged = new Staged();
  const laid = laidOf([randomBytes(50)], []);
  const one = send(laid).came!;
  for (let n = 0; n < 64; n++) {
    expect(staged.room(`agent-${n}`, 1)).toBe(true);
    staged.set(`agent-${n}`, 1n, one);
  }
  expect([staged.room("another", 1), staged.room("agent-3", 1)]).toEqual([false, true]);
  expect([staged.room("agent-3", 256 * 1024 * 1024 - 63 * 50), staged.room("agent-3", 256 * 1024 * 1024)]).toEqual([true, false]);
  expect([staged.get("agent-3", 1n, one.digest), staged.get("agent-3", 2n, one.digest)]).toEqual([one, undefined]);
  expect(staged.get("agent-3", 1n, randomBytes(32))).toBeUndefined();
  expect([staged.drop("agent-3", 2n), staged.drop("agent-3", 1n), staged.drop("agent-3")]).toEqual([false, true, false]);
});
