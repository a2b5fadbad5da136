import fc from "fast-check";
import { expect, test } from "vitest";
import { BoundedQueue } from "./bounded-queue.ts";

test("DC3 a bounded queue behaves like an array with a bound", () => {
  const op = fc.oneof(
    fc.integer().map((value) => ({ push: value })),
    fc.constant("take" as const),
    fc.constant("clear" as const),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.array(op, { maxLength: 200 }), (capacity, ops) => {
      const queue = new BoundedQueue<number>(capacity);
      const model: number[] = [];
      for (const o of ops) {
        if (o === "take") expect(queue.take()).toBe(model.shift());
        else if (o === "clear") {
          queue.clear();
          model.length = 0;
        } else {
          expect(queue.push(o.push)).toBe(model.length < capacity);
          if (model.length < capacity) model.push(o.push);
        }
        expect(queue.size).toBe(model.length);
        expect(queue.peek()).toBe(model[0]);
      }
    }),
  );
});
