import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Finished, type Running, start } from "../cli/fixture.ts";
import { until } from "../support/until.ts";

describe("revoking a certificate of one's own hub", () => {
  let folder: string;
  let hub: Running;
  let address: string;
  const foedus = (...args: readonly string[]): Promise<Finished> => start(args, { cwd: folder }).done;
  const as = (who: string): readonly string[] => [
    ...["--address", address, "--ca", "pki/ca.pem"],
    ...["--cert", `pki/operator-${who}.pem`, "--key", `pki/operator-${who}.key`],
  ];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "foedus-revoke-"));
    expect(await foedus("pki", "init", "home")).toMatchObject({ code: 0 });
    expect(await foedus("pki", "issue", "operator", "thief", "--role", "viewer")).toMatchObject({ code: 0 });
    const tls = { ca: "pki/ca.pem", cert: "pki/service-hub.pem", key: "pki/service-hub.key" };
    writeFileSync(join(folder, "hub.json"), JSON.stringify({ hub_id: "home", listen: { port: 0 }, ops: { port: 0 }, tls }));
    hub = start(["hub", "--config", "hub.json", "--json"], { cwd: folder });
    await hub.printed("ops_port");
    address = `127.0.0.1:${(JSON.parse(hub.out) as { port: number }).port}`;
  }, 60_000);
  afterAll(async () => {
    hub?.child.kill("SIGTERM");
    // Well before the minute after which a refusal may be told again.
    expect((await hub?.done)?.code).toBe(0);
    rmSync(folder, { recursive: true, force: true });
  });

  test("S-13 what it has open ends, new calls are refused, others go on, and it can be taken back", async () => {
    const watch = start(["watch", ...as("thief")], { cwd: folder });
    await watch.printed("watching for changes", "err");
    const asked = await foedus("status", ...as("thief"));
    expect(asked.code).toBe(0);

    const done = await foedus("pki", "revoke", "pki/operator-thief.pem", "--reason", "laptop lost");
    expect([done.code, done.out]).toEqual([0, expect.stringContaining("revoked  spiffe://home/operator/thief")]);
    const refused = await until("the hub refusing it", async () => {
      // One that is cut half-way, between its calls, ends in another way.
      const answer = await foedus("status", ...as("thief"));
      return answer.code === 4 ? answer : undefined;
    });
    expect(refused.err).toContain("was revoked");
    // The stream that was open is cut, and what dials again is told why.
    expect((await watch.done).code).toBe(4);

    expect((await foedus("status", ...as("admin"))).code).toBe(0);
    const events = await foedus("events", "--kind", "credential", ...as("admin"));
    expect(events.out).toContain("spiffe://home/operator/thief");
    expect(events.out).toContain("laptop lost");
    expect((await foedus("pki", "list")).out).toMatch(/operator\/thief +revoked: laptop lost/);

    expect((await foedus("pki", "revoke", "pki/operator-thief.pem", "--undo")).code).toBe(0);
    await until("the hub taking it again", async () => (await foedus("status", ...as("thief"))).code === 0);
  }, 90_000);

  test("S-13 what cannot be meant is refused, and a damaged list changes nothing", async () => {
    expect(await foedus("pki", "revoke", "pki/service-hub.pem")).toMatchObject({
      code: 4,
      err: expect.stringContaining("refuse its own connections"),
    });
    expect(await foedus("pki", "revoke", "pki/ca.pem")).toMatchObject({ code: 2 });
    expect(await foedus("pki", "revoke")).toMatchObject({ code: 2 });
    expect(await foedus("pki", "revoke", "--fingerprint", "beef")).toMatchObject({ code: 2 });
    const log = (): string => hub.err;
    writeFileSync(join(folder, "revoked.json"), "{");
    await until("the hub saying so", () => log().includes("list of revoked certificates is not valid"));
    expect((await foedus("status", ...as("admin"))).code).toBe(0);
    rmSync(join(folder, "revoked.json"));
    expect(readFileSync(join(folder, "hub.json"), "utf8")).toContain("home");
  }, 60_000);

  test("A6 a list that is gone takes no revocation back, neither from the hub nor with the next one that is added", async () => {
    const list = join(folder, "revoked.json");
    expect(await foedus("pki", "revoke", "pki/operator-thief.pem")).toMatchObject({ code: 0 });
    await until("the hub refusing it", async () => (await foedus("status", ...as("thief"))).code === 4);
    rmSync(list);
    await until("the hub saying so", () => hub.err.includes("is missing and was not empty"));
    expect((await foedus("status", ...as("thief"))).code).toBe(4);
    expect(await foedus("pki", "revoke", "--fingerprint", "b".repeat(64))).toMatchObject({
      code: 0,
      err: expect.stringContaining("is missing; the hub continues with the copy that it kept"),
    });
    const { revoked } = JSON.parse(readFileSync(list, "utf8")) as { revoked: { sha256: string; spiffe_id?: string }[] };
    expect(revoked.map(({ spiffe_id: id, sha256 }) => id ?? sha256)).toEqual(["spiffe://home/operator/thief", "b".repeat(64)]);
  }, 60_000);
});
