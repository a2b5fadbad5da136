import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { DialledMemberSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { wordOf } from "./ask.ts";

const said = (more: object) =>
  create(DialledMemberSchema, { hubId: "lab", host: "lab.example", port: 18_800, fence: 4n, incarnation: 1n, ...more });

describe("what a hub says of who acts", () => {
  test("LF1 is read", () => {
    expect(wordOf(said({}), "lab")).toEqual({ endpoint: { host: "lab.example", port: 18_800 }, fence: 4, incarnation: 1 });
    expect(wordOf(said({ host: "fd00::1", fence: 2n ** 48n }), "lab")).toMatchObject({ endpoint: { host: "fd00::1" }, fence: 2 ** 48 });
    expect(wordOf(undefined, "lab")).toBeUndefined();
  });

  test("LF1 is nothing if it is about another hub, or names no place or no fence that can be", () => {
    const nonsense = [
      { hubId: "home" },
      { hubId: "" },
      { host: "" },
      { host: "x".repeat(254) },
      { host: "lab.example\n\u001b[31mrun this" },
      { host: "lab example" },
      { port: 0 },
      { port: 65_536 },
      { fence: 0n },
      { fence: 2n ** 48n + 1n },
      { fence: 2n ** 64n - 1n },
      { incarnation: 0n },
      { incarnation: 2n ** 53n },
    ];
    for (const more of nonsense) expect(() => wordOf(said(more), "lab")).toThrow(/about another one, or names no place/);
  });
});
