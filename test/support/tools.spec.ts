import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { anyMissing, tool } from "./tools.ts";

describe("programs of other people", () => {
  test("one that is there has a path, one that is not has the reason to skip", () => {
    const bash = tool("bash");
    expect(existsSync(bash.path)).toBe(true);
    expect(bash.reason).toBeUndefined();
    const none = tool("no-such-program");
    expect(none).toEqual({ path: "no-such-program", reason: "no-such-program is not on this machine; make tools gets it" });
    expect([anyMissing(bash), anyMissing(bash, none)]).toEqual([false, true]);
  });
});
