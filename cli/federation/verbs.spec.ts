// Verbs of a federation as its operators give them, on real hubs: what they say is so, and what they advise helps.
import { afterAll, beforeAll, expect, test } from "vitest";
import { runHere } from "../../test/cli/here.ts";
import { Federation, until } from "../../test/support/federation.ts";

let federation: Federation;

/** say gives a command as the operator of a hub does. */
function say(hubId: "home" | "partner", ...args: string[]): ReturnType<typeof runHere> {
  const hub = federation.hub(hubId);
  const { ca, cert, key } = hub.pki("operator-admin");
  const env = { FOEDUS_ADDRESS: hub.address("coordination"), FOEDUS_CA: ca, FOEDUS_CERT: cert, FOEDUS_KEY: key };
  return runHere(["federation", ...args], { cwd: hub.dir, env });
}

beforeAll(async () => {
  federation = await Federation.start({
    hubs: [
      { id: "home", peers: [{ hub: "partner" }] },
      { id: "partner", peers: [{ hub: "home" }] },
    ],
  });
  await federation.operational(60_000);
  expect(await say("home", "found", "street")).toMatchObject({ code: 0 });
  await until("a federation that can decide", async () => (await say("home", "status")).code === 0, 10_000);
}, 120_000);

afterAll(() => federation?.stop());

interface Policy {
  readonly key: string;
  readonly value: { readonly int?: { readonly value: string } };
  readonly version: string;
  readonly default_value: { readonly int?: { readonly value: string } };
}

async function policy(key: string): Promise<Policy | undefined> {
  const { out } = await say("home", "policies", "--json");
  return (JSON.parse(out) as { readonly policies: readonly Policy[] }).policies.find((one) => one.key === key);
}

test("S4-14 a policy is changed again and again: each change is based on the version that holds, which is told with value and default", async () => {
  expect(await policy("ballot_ms")).toMatchObject({ value: { int: { value: "60000" } }, version: "0" });
  for (const [i, value] of ["600000", "700000", "800000"].entries()) {
    const proposed = await say("home", "propose", "policy", "ballot_ms", value);
    expect(proposed, proposed.err).toMatchObject({ code: 0 });
    await until("the change", async () => (await policy("ballot_ms"))?.version === String(i + 1), 10_000);
    expect(await policy("ballot_ms")).toMatchObject({ value: { int: { value } }, default_value: { int: { value: "60000" } } });
  }
  const { out } = await say("home", "policies");
  expect(out).toMatch(/^POLICY +VALUE +VERSION +DEFAULT\n/);
  expect(out).toMatch(/^ballot_ms +800000 +3 +60000$/m);
  expect(out).toMatch(/^strict_majority +2\/3 +0 +2\/3$/m);
  expect(out).toMatch(/^allowed_types +researcher coder +0 +researcher coder$/m);
});
