import { getOption } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { ErrorReasonSchema, rule } from "#gen/foedus/common/v1/error_pb.ts";
import { REASONS } from "#kernel/error.ts";
import { isTest, read, sources } from "./files.ts";

describe("reasons of errors", () => {
  const values = ErrorReasonSchema.values.filter((value) => value.number !== 0);

  test("the kernel's list is the schema's list", () => {
    expect([...REASONS]).toEqual(values.map((value) => value.name.replace("ERROR_REASON_", "")));
  });

  test("each has a gRPC code and says what to do", () => {
    const bad = values.filter((value) => {
      const { code, remedy } = getOption(value, rule);
      return code < 1 || code > 16 || !/^[A-Z].*\.$/.test(remedy);
    });
    expect(bad.map((value) => value.name)).toEqual([]);
  });

  test("each reason is given by some code that ships", () => {
    const text = sources()
      .filter((path) => !isTest(path) && path !== "services/kernel/error.ts")
      .map(read)
      .join("\n");
    expect(REASONS.filter((reason) => !text.includes(`"${reason}"`))).toEqual([]);
  });
});
