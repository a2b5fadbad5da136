import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ListAllocationsResponseSchema, ListRequestsResponseSchema } from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import { NAME_LENGTH, RULES } from "../../services/coordination/resources/rules.ts";
import { type FixedHub, fixedHub } from "../../test/cli/fixture.ts";

const name = (i: number): string => String(i).padEnd(NAME_LENGTH, "x");

let home: FixedHub;

beforeAll(async () => {
  home = await fixedHub({
    coordination: {
      listRequests: () => {
        const requests = Array.from({ length: 2 * RULES.requestsMax }, (_, i) => ({
          ...{ borrower: name(i), id: name(i), owner: name(i), name: name(i), why: "it was not confirmed in time" },
        }));
        return create(ListRequestsResponseSchema, { requests });
      },
      listAllocations: () => {
        const allocations = Array.from({ length: 2 * RULES.leasesMax }, (_, i) => ({
          lease: { lease: BigInt(i + 1), fence: BigInt(i + 1), owner: name(i), borrower: name(i), name: name(i), id: name(i) },
        }));
        return create(ListAllocationsResponseSchema, { allocations });
      },
    },
  });
});
afterAll(() => home.close());

test.each([
  ["requests", 2 * RULES.requestsMax],
  ["allocations", 2 * RULES.leasesMax],
])("S4-21 members that fill the book hide nothing from the operator: all %s are listed", async (verb, count) => {
  const { code, out, err } = await home.foedus("resources", verb, "--quiet");
  expect(err).toBe("");
  expect([code, out.trimEnd().split("\n").length]).toEqual([0, count]);
});
