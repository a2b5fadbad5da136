import { expect, test } from "vitest";
import { Federation } from "./federation.ts";

test("a hub that ends instead of getting ready is told at once, with the end of its log", { timeout: 90_000 }, async () => {
  // An address that no machine has: the hub says so and ends.
  const started = Federation.start({ hubs: [{ id: "home", peers: [], config: { listen: { host: "192.0.2.1", port: 0 } } }] });
  await expect(started).rejects.toThrow(/^home hub ended \(\d+\); its log ends:\n[\s\S]*192\.0\.2\.1 is not an address of this machine/);
});
