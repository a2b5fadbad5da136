import { expect, test } from "vitest";
import { isTest, read, sources } from "./files.ts";

const HOME = "services/runtime/events.ts";

test("each kind of event is reported by some service", () => {
  const kinds = [...(/type EventKind =([^;]*);/.exec(read(HOME))?.[1] ?? "").matchAll(/"([A-Z_]+)"/g)].map(([, kind]) => kind!);
  expect(kinds.length).toBeGreaterThan(10);
  const text = sources()
    .filter((path) => path.startsWith("services/") && path !== HOME && !isTest(path))
    .map(read)
    .join("\n");
  expect(kinds.filter((kind) => !text.includes(`"${kind}"`))).toEqual([]);
});
