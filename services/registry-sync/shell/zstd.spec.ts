import { zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { sha256 } from "#runtime/crypto.ts";
import { CODEC } from "../ports.ts";
import { compressPart, decompressPart } from "./zstd.ts";

test("S1-25 what repeats gets smaller and comes back the same; what does not stays as it is", async () => {
  const raw = Buffer.from("temperature,21.5;".repeat(10_000));
  const part = await compressPart(raw);
  expect(part.codec).toBe(CODEC.ZSTD);
  expect(part.bytes.length).toBeLessThan(raw.length / 10);
  expect(Buffer.from((await decompressPart(part.codec, part.bytes, raw.length)) ?? []).equals(raw)).toBe(true);
  const noise = Buffer.concat(Array.from({ length: 64 }, (_, i) => Buffer.from(sha256(Buffer.of(i)))));
  const same = await compressPart(noise);
  expect(same).toEqual({ codec: CODEC.IDENTITY, bytes: noise });
  expect(await decompressPart(same.codec, same.bytes, noise.length)).toBe(noise);
});

test("data that is malformed, or not as long as was said, is not unpacked", async () => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
  expect(bomb.length).toBeLessThan(64 * 1024);
  expect(await decompressPart(CODEC.ZSTD, bomb, 1_000)).toBeUndefined();
  expect(await decompressPart(CODEC.ZSTD, zstdCompressSync(Buffer.alloc(10)), 11)).toBeUndefined();
  expect(await decompressPart(CODEC.ZSTD, Buffer.from("not zstd"), 8)).toBeUndefined();
  expect(await decompressPart(CODEC.IDENTITY, Buffer.alloc(3), 4)).toBeUndefined();
});
