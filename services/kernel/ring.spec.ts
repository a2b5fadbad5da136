import fc from "fast-check";
import { expect, test } from "vitest";
import { Ring } from "./ring.ts";

test("RI1 RI2 a ring holds the newest consecutive items within its bounds", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 100 }),
      fc.nat(1_000),
      fc.array(fc.oneof(fc.nat(40), fc.constant("trim" as const)), { maxLength: 60 }),
      (maxItems, maxBytes, start, ops) => {
        const ring = new Ring(maxItems, maxBytes, start);
        const all = new Map<number, Uint8Array>();
        for (const o of ops) {
          if (o === "trim") ring.trim(ring.first + 1);
          else {
            const item = new Uint8Array(o);
            all.set(ring.next, item);
            ring.push(ring.next, item);
          }
          let bytes = 0;
          for (let seq = ring.first; seq < ring.next; seq++) {
            expect(ring.get(seq)).toBe(all.get(seq));
            bytes += all.get(seq)?.byteLength ?? 0;
          }
          expect(ring.bytes).toBe(bytes);
          expect(ring.size).toBeLessThanOrEqual(maxItems);
          expect(bytes <= maxBytes || ring.size === 1).toBe(true);
          expect(ring.get(ring.first - 1)).toBeUndefined();
          expect(ring.get(ring.next)).toBeUndefined();
        }
      },
    ),
  );
});

test("a gap in the numbers is a bug, and reset continues elsewhere", () => {
  const ring = new Ring(4, 100, 7);
  ring.push(7, new Uint8Array(3));
  expect(() => ring.push(9, new Uint8Array(3))).toThrow("consecutive");
  ring.reset(100);
  expect([ring.first, ring.next, ring.bytes]).toEqual([100, 100, 0]);
});
