// The short form of the hostile network: two real hubs in network namespaces, with the buffers that small machines have.
import { once } from "node:events";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { Told } from "./main.ts";
import { startInside, whyNot } from "./net.ts";
import { SCENARIOS } from "./scenarios.ts";

const reason = whyNot();
if (reason !== undefined) process.stderr.write(`skipped: two hubs on a hostile network: ${reason}\n`);

describe.skipIf(reason !== undefined)("two hubs on a hostile network", () => {
  const told = new Map<string, Told>();

  beforeAll(async () => {
    const child = startInside([join(import.meta.dirname, "main.ts"), "--short", "--json"], "pipe");
    let output = "";
    child.stdout?.on("data", (bytes: Buffer) => {
      output += bytes.toString();
    });
    await once(child, "close");
    for (const line of output.split("\n").filter((text) => text.startsWith("{"))) {
      const one = JSON.parse(line) as Told;
      told.set(one.name, one);
      process.stdout.write(`${one.name}: ${one.text}\n`);
    }
  }, 300_000);

  test.each(SCENARIOS.filter(({ short }) => short).map(({ name }) => name))("%s", (name) => {
    expect(told.get(name)).toMatchObject({ ok: true });
  });
});
