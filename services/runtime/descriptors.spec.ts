import { expect, test } from "vitest";
import { connectionsFor, descriptorLimit } from "./descriptors.ts";

test("S-1 connections stay below the descriptors of the process", () => {
  expect(connectionsFor(400)).toBe(272);
  expect(connectionsFor(1_024)).toBe(768);
  expect(connectionsFor(64)).toBe(32);
  expect(connectionsFor(1_048_576)).toBe(16_384);
  expect(connectionsFor(undefined)).toBe(16_384);
});

test("S-1 the limit is read as the system says it", () => {
  expect(
    descriptorLimit(
      () => "Limit  Soft Limit  Hard Limit  Units\nMax open files            400                  524288               files\n",
    ),
  ).toBe(400);
  expect(descriptorLimit(() => "Max open files  unlimited unlimited files\n")).toBeUndefined();
  expect(
    descriptorLimit(() => {
      throw new Error("no such file");
    }),
  ).toBeUndefined();
});
