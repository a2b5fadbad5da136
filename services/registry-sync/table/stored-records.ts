import { LIMITS } from "#kernel/bounds/limits.ts";
import { own } from "#kernel/own.ts";
import { absentOr, fields, flag, list, readStored, type Shape, text, whole } from "#kernel/wire/stored-json.ts";
import type { StoreReader } from "../ports.ts";

const MOST = Number.MAX_SAFE_INTEGER;
/** Parts that a snapshot may have; far more than its manifest can name. */
const PARTS_MAX = 65_536;
/** What a number of a node may be in a feed of a peer (PROTOCOL B2), and the one after it. */
const REF_MAX = 2 ** 32;
const HEX32 = text(64, /^[0-9a-f]{64}$/);
const SHARE = text(LIMITS.idLength);
const hlc = fields({ wallMs: whole(0, MOST), logical: whole(0, MOST) });

const table = fields({
  share: SHARE,
  epoch: whole(0, MOST),
  seq: whole(0, MOST),
  digest: HEX32,
  hlc,
  gen: whole(0, MOST),
  nextRef: whole(1, REF_MAX),
  skipped: list(whole(0, REF_MAX), REF_MAX),
  skippedIds: absentOr(list(text(LIMITS.idLength), REF_MAX)),
  rules: absentOr(text(64)),
});

/** SHAPES are the kinds of records in the space `meta`, by the first part of their keys. */
const SHAPES: Readonly<Record<string, Shape>> = {
  table,
  boot: fields({ bootId: text(1_024), clean: flag, durability: absentOr(text(16, /^(full|process)$/)) }),
  feed: fields({ epoch: whole(0, MOST), rules: text(16 * 1024 * 1024), active: flag }),
  frozen: fields({ share: SHARE, epoch: whole(0, MOST) }),
  stage: fields({ gen: whole(0, MOST), share: absentOr(SHARE), parts: list(HEX32, PARTS_MAX) }),
};

/** Longest list of shares that one peer may hold something of: those of now, and of before. */
const HELD_SHARES = 4_096;

/** readMeta reads what `putMeta` wrote; StoredError if it is not that. Undefined if there is nothing. */
export function readMeta<T>(reader: Pick<StoreReader, "get">, key: string): T | undefined {
  const bytes = reader.get("meta", key);
  const [kind = ""] = key.split("/");
  return bytes === undefined ? undefined : readStored<T>(`meta/${key}`, bytes, own(SHAPES, kind) ?? fields({}));
}

/** readHolds reads the shares of which a peer may hold something. */
export function readHolds(key: string, bytes: Uint8Array): readonly string[] {
  return readStored<readonly string[]>(`holds/${key}`, bytes, list(SHARE, HELD_SHARES));
}
