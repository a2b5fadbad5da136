import { printable } from "#kernel/printable.ts";
import { WireError } from "#kernel/wire/proto-reader.ts";

/** Characters of a value that are shown. */
const SHOWN = 256;

const decoder = new TextDecoder();

/**
 * shownValue is an encoded `foedus.common.v1.Value`, or its beginning, as text on one line: `true`, `21.5`, `"ON"`, `0x00ff`, or JSON as it is.
 * Nothing of it can pass for anything but text. `cut` says that there was more of it.
 */
export function shownValue(bytes: Uint8Array, cut: boolean): string {
  const text = textOf(bytes);
  const more = cut || text.length > SHOWN;
  return printable(text.slice(0, SHOWN)) + (more ? "…" : "");
}

function textOf(bytes: Uint8Array): string {
  const tag = bytes[0];
  if (tag === undefined) return "";
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    switch (tag) {
      case 0x08:
        return (bytes[1] ?? 0) === 0 ? "false" : "true";
      case 0x10:
        return String(zigzag(bytes));
      case 0x19:
        return bytes.length < 9 ? "" : String(view.getFloat64(1, true));
      case 0x22:
        return JSON.stringify(decoder.decode(content(bytes)));
      case 0x2a:
        return `0x${Buffer.from(content(bytes)).toString("hex")}`;
      case 0x32:
        return decoder.decode(content(bytes));
      default:
        return "";
    }
  } catch (error) {
    if (error instanceof WireError) return "";
    throw error;
  }
}

function zigzag(bytes: Uint8Array): bigint {
  let raw = 0n;
  for (let i = 1; i < bytes.length && i <= 10; i++) {
    raw |= BigInt((bytes[i] as number) & 0x7f) << BigInt(7 * (i - 1));
    if ((bytes[i] as number) < 0x80) break;
  }
  raw = BigInt.asUintN(64, raw);
  return (raw >> 1n) ^ -(raw & 1n);
}

/** content is what follows a length, or as much of it as is there. */
function content(bytes: Uint8Array): Uint8Array {
  let at = 1;
  while (((bytes[at] ?? 0) & 0x80) !== 0) if (++at > 6) throw new WireError("a length is too long");
  return bytes.subarray(at + 1);
}
