// etcd as the log that ours is compared with: three members that sync to disk, and both kinds of client.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tool } from "../support/tools.ts";
import { Etcd, etcdVersion } from "./etcd.ts";
import { type LogEndpoint, putters } from "./log-load.ts";

const peer = tool("etcd-peer");
const START_MS = 60_000;

describe.skipIf(peer.reason !== undefined)("etcd to compare with", () => {
  const dir = mkdtempSync(join(tmpdir(), "foedus-etcd-"));
  const etcd = new Etcd();
  let endpoints: readonly LogEndpoint[] = [];
  beforeAll(async () => {
    endpoints = await etcd.start(dir);
  }, START_MS);
  afterAll(async () => {
    await etcd.stop();
    rmSync(dir, { recursive: true, force: true });
  }, START_MS);

  test("a put is answered by each member over mutual TLS, and each put of one client is synced to disk by itself", async () => {
    const before = await etcd.syncs();
    for (const [i, endpoint] of endpoints.entries()) {
      const putter = etcd.open(endpoint, i);
      try {
        for (let n = 0; n < 5; n++) await putter.put(Buffer.from(`value ${n}`));
      } finally {
        putter.close();
      }
    }
    expect(endpoints).toHaveLength(3);
    expect((await etcd.syncs()) - before).toBeGreaterThanOrEqual(15);
  });

  test("our client and etcd's own both measure it", async () => {
    const ours = await (await putters({ log: "etcd", endpoint: endpoints[0]!, clients: 4 }))({ seconds: 0.2, bytes: 128 });
    const own = await etcd.load(endpoints[0]!, 4, 0.2, 128);
    for (const [puts, p50, p99, max] of [
      [ours.puts, ours.p50Ms, ours.p99Ms, ours.maxMs],
      [own.puts, own.p50, own.p99, own.max],
    ] as const) {
      expect(puts).toBeGreaterThan(4);
      expect(p50).toBeGreaterThan(0);
      expect(p99).toBeGreaterThanOrEqual(p50);
      expect(max).toBeGreaterThanOrEqual(p99);
    }
  });

  test("a client of another authority is refused", async () => {
    const other = new Etcd();
    const stray = mkdtempSync(join(tmpdir(), "foedus-etcd-"));
    try {
      const [mine] = endpoints;
      const foreign = await other.pkiIn(stray);
      const putter = etcd.open({ hub: mine!.hub, address: mine!.address, pki: { ...foreign, ca: mine!.pki.ca } }, 0);
      try {
        await expect(putter.put(Buffer.from("value"))).rejects.toThrow("does not know the CA of this certificate");
      } finally {
        putter.close();
      }
    } finally {
      rmSync(stray, { recursive: true, force: true });
    }
  });

  test("its version is that of the module that is built", () => {
    expect(etcdVersion()).toMatch(/^3\.\d+\.\d+$/);
  });
});
