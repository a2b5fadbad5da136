import fc from "fast-check";
import { expect, test } from "vitest";
import { Growable } from "./growable.ts";

test("growable arrays hold what was pushed, appended and set", () => {
  const op = fc.oneof(
    fc.record({ push: fc.nat(1e9) }),
    fc.record({ append: fc.array(fc.nat(1e9), { maxLength: 40 }) }),
    fc.record({ set: fc.nat(80), value: fc.nat(1e9) }),
  );
  fc.assert(
    fc.property(fc.array(op, { maxLength: 40 }), (ops) => {
      const grown = new Growable(Uint32Array, 1);
      const model: number[] = [];
      for (const o of ops) {
        if ("push" in o) {
          grown.push(o.push);
          model.push(o.push);
        } else if ("append" in o) {
          grown.append(Uint32Array.from(o.append));
          model.push(...o.append);
        } else {
          grown.set(o.set, o.value);
          while (model.length <= o.set) model.push(0);
          model[o.set] = o.value;
        }
        expect([...grown.view()]).toEqual(model);
      }
    }),
  );
});

test("after clear, set fills gaps with zero and not with what was there before", () => {
  const grown = new Growable(Float64Array);
  for (let i = 1; i <= 5; i++) grown.push(i);
  grown.clear();
  grown.set(3, 9);
  expect([...grown.view()]).toEqual([0, 0, 0, 9]);
  expect(() => grown.at(4)).toThrow("out of range");
});

test("growing beyond the bound is a bug", () => {
  const grown = new Growable(Uint8Array, 1, 4);
  for (let i = 0; i < 4; i++) grown.push(i);
  expect(() => grown.push(4)).toThrow("beyond its bound");
});
