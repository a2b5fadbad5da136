import { describe, expect, test } from "vitest";
import { clipText, copyOf } from "./bytes.ts";

describe("copyOf", () => {
  test.each([
    ["an array", (text: string): Uint8Array => new TextEncoder().encode(text)],
    ["a Buffer, as everything from the network is", (text: string): Uint8Array => Buffer.from(text)],
  ])("of %s has memory of its own", (_what, make) => {
    const bytes = make("one two");
    const [all, part] = [copyOf(bytes), copyOf(bytes, 4, 7)];
    bytes.fill(0);
    expect(Buffer.from(all).toString()).toBe("one two");
    expect(Buffer.from(part).toString()).toBe("two");
    expect(part.buffer.byteLength).toBe(3);
    expect(part.constructor).toBe(Uint8Array);
  });
});

test("clipText fits, is a beginning, and cuts no character", () => {
  expect(clipText("ab\u6f22\u{1f6a8}c", 4)).toBe("ab");
  expect(clipText("ab\u6f22\u{1f6a8}c", 5)).toBe("ab\u6f22");
  expect(clipText("ab\u6f22\u{1f6a8}c", 8)).toBe("ab\u6f22");
  expect(clipText("ab\u6f22\u{1f6a8}c", 9)).toBe("ab\u6f22\u{1f6a8}");
  expect(clipText("ab\u6f22\u{1f6a8}c", 10)).toBe("ab\u6f22\u{1f6a8}c");
});
