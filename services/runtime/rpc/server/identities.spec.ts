import { X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { ManualClock } from "../../../../test/fakes/manual-clock.ts";
import { TestAuthority } from "../../../../test/rpc/fixture.ts";
import { testHub } from "../../../../test/testca/index.ts";
import { admit } from "../../tls/peer-admission.ts";
import { Identities } from "./identities.ts";

test("F-12 whoever shows many certificates does not make the decision about others be taken per call", async () => {
  const alpha = await testHub("alpha");
  const clock = new ManualClock(alpha.now.getTime());
  let decided = 0;
  const identities = new Identities(
    new TestAuthority(alpha),
    clock,
    (...args) => {
      decided++;
      return admit(...args);
    },
    8,
  );
  const ask = (leaf: X509Certificate) => identities.admission(leaf, thumbprintOf(leaf));
  const leaves = Array.from({ length: 20 }, (_, i) => new X509Certificate(alpha.node(`n${i}`).certificatePem));
  for (const leaf of leaves) expect(ask(leaf)).toHaveProperty("caller");
  expect(identities.size).toBe(8);
  const late = new X509Certificate(alpha.node("late").certificatePem);
  ask(late);
  decided = 0;
  for (let i = 0; i < 5; i++) expect(ask(late)).toMatchObject({ caller: { name: "late" } });
  expect(decided).toBe(0);
});
