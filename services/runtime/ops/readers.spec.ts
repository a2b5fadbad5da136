import { X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { testHub } from "../../../test/testca/index.ts";
import { admitReader } from "./readers.ts";

test("S-19 metrics are for readers of this hub, by name and not by CA alone", async () => {
  const [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  const may = ({ certificatePem }: { readonly certificatePem: string }) =>
    admitReader("alpha", new X509Certificate(certificatePem), "/metrics");
  expect(may(alpha.operator())).toBe(true);
  expect(may(alpha.service("telemetry"))).toBe(true);
  expect(may(alpha.node())).toBe(false);
  expect(may(beta.operator())).toBe(false);
  expect(may(alpha.impersonating("beta", "operator", "root"))).toBe(false);
});
