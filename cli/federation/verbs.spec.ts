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

/** idIn finds the ballot that an answer names. */
const idIn = ({ out }: { readonly out: string }): string => /ballot (\S+) is/.exec(out)?.[1] ?? "";

test("a ballot that this hub's vote alone decides is said to be decided, and nobody is told to vote", async () => {
  const proposed = await say("home", "propose", "policy", "flaps", "4");
  expect(proposed.out).toMatch(/^ballot home-\w+ is approved, by this hub's vote alone: to set policy flaps to 4\n$/);
  expect(await policy("flaps")).toMatchObject({ value: { int: { value: "4" } }, version: "1" });
  const told = await say("home", "propose", "policy", "flaps", "5", "--json");
  expect(JSON.parse(told.out)).toMatchObject({ result: "approved" });
  expect(await say("partner", "join", "street", "--via", "home")).toMatchObject({ code: 0 });
  let admitted = "";
  await until("the request", async () => (admitted = (await say("home", "admit", "partner")).out) !== "", 10_000);
  expect(admitted).toMatch(/^ballot home-\w+ is approved, by this hub's vote alone: to let in hub partner\n$/);
  await until("a second voter", async () => /^partner +(voter|leader) /m.test((await say("home", "members")).out), 60_000);
  const open = await say("home", "propose", "policy", "flaps", "6");
  expect(open.out).toMatch(/^ballot \S+ is open, and this hub approves it; the others vote with: foedus federation vote \S+ approve\n$/);
  expect((await say("partner", "vote", idIn(open), "approve")).out).toContain("is approved");
}, 120_000);

test.each([
  [["propose", "remove", "parter"]],
  [["propose", "weight", "parter", "2"]],
  [["propose", "role", "planner", "home", "parter"]],
  [["propose", "loan", "home", "parter", "cpu", "1", "10m"]],
  [["remove", "parter"]],
  [["lead", "parter"]],
])("a hub that is no member is told as that, with the member that was meant: %j", async (args) => {
  const { code, err } = await say("home", ...args);
  expect([code, err]).toEqual([5, "foedus: hub parter is no member of the federation. Did you mean partner?\n"]);
});

test("a hub that is like no member is not said to be missing in the configuration", async () => {
  const { code, err } = await say("home", "propose", "remove", "xyz");
  expect([code, err]).toEqual([5, "foedus: hub xyz is no member of the federation. Known are home, partner.\n"]);
});

test("--if-version 0 sets a value only if there is none", async () => {
  expect(await say("home", "value", "set", "once", "1", "--if-version", "0")).toMatchObject({ code: 0 });
  const again = await say("home", "value", "set", "once", "2", "--if-version", "0");
  expect([again.code, again.err]).toEqual([1, expect.stringMatching(/^foedus: once has version \d+, not 0; read it again/)]);
  expect((await say("home", "value", "get", "once")).out).toBe("1\n");
  const none = await say("home", "value", "set", "never", "1", "--if-version", "99");
  expect([none.code, none.err]).toEqual([1, expect.stringContaining("there is no value never, and so none of version 99; ")]);
  expect(await say("home", "value", "set", "never", "1", "--if-version", "-1")).toMatchObject({ code: 2 });
  expect(await say("home", "value", "delete", "once", "--if-version", "0")).toMatchObject({ code: 2 });
});

test("a ballot that is not there is told as that, with the one that was meant", async () => {
  for (const args of [
    ["vote", "home-nope", "approve"],
    ["ballot", "home-nope"],
  ]) {
    const { code, err } = await say("home", ...args);
    expect([code, err]).toEqual([5, "foedus: there is no ballot home-nope. List them with `foedus federation ballot`.\n"]);
  }
  const real = idIn(await say("home", "propose", "policy", "flaps", "7"));
  const { err } = await say("home", "ballot", `${real}x`);
  expect(err).toBe(`foedus: there is no ballot ${real}x. Did you mean ${real}?\n`);
  expect((await say("partner", "vote", real, "reject")).out).toContain("is rejected");
});

test("a ballot says in a sentence what it is about", async () => {
  for (const [args, sentence] of [
    [["policy", "allowed_types", "coder", "planner"], "to set policy allowed_types to coder, planner"],
    [["policy", "strict_majority", "3/4"], "to set policy strict_majority to more than 3/4"],
    [["weight", "partner", "2"], "to give hub partner weight 2"],
    [["role", "planner", "home", "partner"], "to give role planner to hub home, then to partner"],
  ] as const) {
    const proposed = await say("home", "propose", ...args);
    const { out } = await say("home", "ballot", idIn(proposed));
    expect(out, proposed.err).toMatch(new RegExp(`^proposes +${sentence}$`, "m"));
    expect((await say("partner", "vote", idIn(proposed), "reject")).out).toContain("is rejected");
  }
});

test("a removal that is decided at once is said to be decided", async () => {
  await until("home leading", async () => (await say("home", "lead", "home")).code === 0, 20_000);
  const { out, err } = await say("home", "remove", "partner");
  expect(out, err).toMatch(/^ballot home-\w+ is approved, by this hub's vote alone: to remove hub partner\n$/);
}, 30_000);
