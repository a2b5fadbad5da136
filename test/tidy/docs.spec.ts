import { describe, expect, test } from "vitest";
import { pages } from "./docs.ts";
import { isTest, read, sources } from "./files.ts";

const wanted = await pages();

describe("generated pages", () => {
  test.each([...wanted.keys()])("S0-28 %s is what the code says (make generate)", (path) => {
    expect(read(path)).toBe(wanted.get(path));
  });

  test("every metric that is declared anywhere in the services is in docs/METRICS.md", () => {
    const names = sources()
      .filter((path) => path.startsWith("services/") && !isTest(path))
      .flatMap((path) => [...read(path).matchAll(/name: "((?:foedus|grpc)_\w+)"/g)].map((match) => match[1]!));
    expect(names.length).toBeGreaterThan(30);
    expect(names.filter((name) => !wanted.get("docs/METRICS.md")!.includes(`| \`${name}\` |`))).toEqual([]);
  });
});
