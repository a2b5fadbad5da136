import { join } from "node:path";
import { expect, test } from "vitest";
import { checkTranscript } from "./index.ts";

test("a transcript's command has words, arguments and a body of lines, and may print nothing", async () => {
  const count = await checkTranscript(join(import.meta.dirname, "testdata/form.txt"), ({ words, args, body }) => {
    if (words[0] === "quiet") return "";
    const pairs = Object.entries(args).map(([name, value]) => `, ${name}=${value}`);
    return [`words: ${words.join(" ")}${pairs.join("")}, body: ${body.length}`, ...body].join("\n");
  });
  expect(count).toBe(3);
});
