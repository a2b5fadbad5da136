import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { ConfigError } from "#runtime/config/load.ts";
import { hostileCa } from "../../../test/support/hostile-certs.ts";
import { type TestHub, testHub } from "../../../test/testca/index.ts";
import { discoveryConfigOf } from "../config.ts";
import { type FederationOptions, loadFederation, parseFederation, parseSeeds } from "./federation.ts";

let b: TestHub;
beforeAll(async () => {
  b = await testHub("b");
});

const parse = (file: unknown, more: Partial<FederationOptions> = {}) =>
  parseFederation(typeof file === "string" ? file : JSON.stringify(file), { hubId: "a", ...more });

function problemsOf(file: unknown): string[] {
  try {
    parse(file);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ path, message }) => `${path}: ${message}`);
    throw error;
  }
  throw new Error("should have been refused");
}

describe("federation file", () => {
  test("S0-2 S0-3 defaults: port 18800, 30 s, ceiling limited, share of that name", () => {
    const { peers, syncIntervalMs } = parse({ peers: [{ hub_id: "b", host: "b.example", ca: b.caPem }] });
    expect(syncIntervalMs).toBe(30_000);
    expect(peers).toMatchObject([{ hubId: "b", addresses: [{ host: "b.example", port: 18_800 }], maxTrust: 2, share: "limited" }]);
    expect(peers[0]!.cas).toHaveLength(1);
    expect(parse({}).peers).toEqual([]);
  });

  test("S-16 words that every object knows are no trust levels and no pinned hubs", () => {
    for (const word of Object.getOwnPropertyNames(Object.prototype))
      expect(problemsOf({ peers: [{ hub_id: "b", host: "b.example", ca: b.caPem, max_trust: word }] }), word).toEqual([
        "peers[0].max_trust: must be one of minimal, limited, full",
      ]);
    expect(problemsOf({ peers: [{ hub_id: "constructor" }] })[0]).toContain("the CA of constructor is not pinned");
  });

  test("S-1 a CA whose key would be costly to verify with is not pinned", () => {
    const ca = hostileCa({ bits: 3072, exponentBits: 3072 }).toString("base64");
    const pem = `-----BEGIN CERTIFICATE-----\n${ca}\n-----END CERTIFICATE-----\n`;
    expect(problemsOf({ peers: [{ hub_id: "b", host: "b.example", ca: pem }] })).toEqual([
      "peers[0].ca: it holds a certificate that has an RSA key with a public exponent of more than 32 bits",
    ]);
  });

  test("S0-2 the three-field form is enough when the CA is pinned elsewhere", () => {
    const { peers } = parse({ peers: [{ hub_id: "b", host: "10.0.0.2", port: 9 }], sync_interval: 5 }, { bundles: { b: b.caPem } });
    expect(peers).toMatchObject([{ addresses: [{ host: "10.0.0.2", port: 9 }] }]);
    expect(problemsOf({ peers: [{ hub_id: "b", host: "x", port: 9 }] })).toEqual([
      expect.stringContaining("peers[0].ca: the CA of b is not pinned"),
    ]);
  });

  test("a peer without host can only dial us; max_trust and share are kept", () => {
    expect(parse({ peers: [{ hub_id: "b", ca: b.caPem, max_trust: "full", share: "neighbours" }] }).peers).toMatchObject([
      { addresses: [], maxTrust: 3, share: "neighbours" },
    ]);
    expect(parse({ peers: [{ hub_id: "b", ca: b.caPem, max_trust: "minimal" }] }).peers).toMatchObject([{ maxTrust: 1, share: "" }]);
  });

  test("D-15 revoked leaves are fingerprints with or without colons; anything else is refused with its place", () => {
    const leaf = new X509Certificate(b.service().certificatePem);
    const bare = leaf.fingerprint256.replaceAll(":", "").toLowerCase();
    const { peers } = parse({ peers: [{ hub_id: "b", ca: b.caPem, revoked: [leaf.fingerprint256, bare] }] });
    expect(peers[0]?.revoked).toEqual([
      { digest: bare, thumbprint: thumbprintOf(leaf) },
      { digest: bare, thumbprint: thumbprintOf(leaf) },
    ]);
    expect(problemsOf({ peers: [{ hub_id: "b", ca: b.caPem, revoked: [bare, bare.slice(1), 7] }] })).toEqual([
      expect.stringMatching(/^peers\[0\]\.revoked\[1\]: must be the SHA-256/),
      expect.stringMatching(/^peers\[0\]\.revoked\[2\]: must be the SHA-256/),
    ]);
    expect(problemsOf({ peers: [{ hub_id: "b", ca: b.caPem, revoked: bare }] })).toEqual([expect.stringContaining("must be a list")]);
  });

  test("S-18 a file of any length costs a sentence: more peers than a hub can have, more problems than anybody reads", () => {
    const peers = (count: number) => Array.from({ length: count }, (_, i) => ({ hub_id: `Not-${i}`, ca: 7 }));
    expect(problemsOf({ peers: peers(100_000) })).toEqual(["peers: must be a list of at most 1024 peers"]);
    expect(problemsOf({ peers: peers(1_024) })).toHaveLength(21);
  });

  test("S-18 as many peers as a hub can have fit into a file, each with two long CAs in it", () => {
    const folder = mkdtempSync(join(tmpdir(), "foedus-federation-"));
    // As long as two CAs with RSA keys of 4,096 bits.
    const ca = `${b.caPem}${"#".repeat(3_900 - b.caPem.length)}`;
    const peers = Array.from({ length: 1_024 }, (_, i) => ({ hub_id: `hub-${i}`, host: `hub-${i}.example.org`, ca, max_trust: "limited" }));
    writeFileSync(join(folder, "federation.json"), JSON.stringify({ peers }, undefined, 2));
    expect(loadFederation(join(folder, "federation.json"), { hubId: "a" }).count).toBe(1_024);
    writeFileSync(join(folder, "federation.json"), `{"peers":[],"sync_interval":${" ".repeat(9 << 20)}30}`);
    expect(() => loadFederation(join(folder, "federation.json"), { hubId: "a" })).toThrow(/holds more than 8388608 bytes/);
    rmSync(folder, { recursive: true });
  });

  test("S0-10 load reads the file, with paths relative to it, and answers the count", () => {
    const folder = mkdtempSync(join(tmpdir(), "foedus-federation-"));
    writeFileSync(join(folder, "b.pem"), b.caPem);
    writeFileSync(join(folder, "federation.json"), JSON.stringify({ peers: [{ hub_id: "b", host: "b", ca: "b.pem" }] }));
    expect(loadFederation(join(folder, "federation.json"), { hubId: "a" })).toMatchObject({
      count: 1,
      federation: { peers: [{ hubId: "b" }] },
    });
    rmSync(folder, { recursive: true });
    expect(() => loadFederation(join(folder, "federation.json"), { hubId: "a" })).toThrow(
      `there is no such federation file; write {"peers": []} into it, or correct federation_config_path (file ${join(folder, "federation.json")})`,
    );
  });

  test("every problem is listed with its path; unknown keys name the nearest", () => {
    const leaf = b.service().certificatePem;
    const peers = [
      { hub_id: "a", ca: b.caPem },
      { hub_id: "B", ca: b.caPem, hosts: "x" },
      { hub_id: "b", ca: leaf, port: 0, max_trust: "all" },
      { hub_id: "c", ca: "missing.pem", host: "http://c" },
      { hub_id: "d", ca: b.caPem },
      { hub_id: "d", ca: b.caPem },
      "e",
    ];
    const problems = problemsOf({ peers, sync_intervall: 3, sync_interval: 0 });
    expect(problems).toEqual([
      "sync_intervall: is not known; did you mean sync_interval?",
      "sync_interval: must be seconds from 1 to 86400",
      "peers[0].hub_id: is this hub itself",
      "peers[1].hosts: is not known; did you mean host?",
      "peers[1].hub_id: hub id has upper case letters; use lower case only",
      "peers[2].port: must be a port from 1 to 65535",
      "peers[2].max_trust: must be one of minimal, limited, full",
      "peers[2].ca: it holds a certificate that is not a CA; pin the hub's CA, not a leaf",
      "peers[3].host: must be a host name or address, without scheme or path; leave it out if the peer can only dial us",
      expect.stringContaining("peers[3].ca: ENOENT"),
      'peers[5].hub_id: "d" is listed twice',
      "peers[6]: must be an object with `hub_id`",
    ]);
    expect(problemsOf("{")).toEqual([expect.stringContaining("it is not JSON")]);
    expect(problemsOf([])).toEqual([expect.stringContaining("must be an object")]);
  });

  test("S2-15 seeds: empty items are dropped, schemes tolerated, addresses tried after the configured one", () => {
    const seeds = parseSeeds(" one:1,, grpcs://two/ ,[::1]:3,");
    expect(seeds).toEqual([
      { host: "one", port: 1 },
      { host: "two", port: 18_800 },
      { host: "::1", port: 3 },
    ]);
    expect(parse({ peers: [{ hub_id: "b", host: "b", ca: b.caPem }] }, { seeds }).peers[0]!.addresses.map(({ host }) => host)).toEqual([
      "b",
      "one",
      "two",
      "::1",
    ]);
    expect(() => parseSeeds(["a b", "x:99999"])).toThrow('seeds[1]: "x:99999" is not an address');
    expect(parseSeeds("")).toEqual([]);
  });

  test("S0-7 S0-8 S4-3 the service's own defaults", () => {
    expect(discoveryConfigOf([]).parse(undefined)).toMatchObject({
      minimum_evidence: 2,
      verification_period_ms: 86_400_000,
      hello_timeout_ms: 10_000,
      backoff_base_ms: 2_000,
      backoff_max_ms: 60_000,
      token_ttl_ms: 3_600_000,
    });
  });

  test.each([
    ["127.0.0.1:28800", /without a port: write 127\.0\.0\.1 here, and 28800 into `port`/],
    ["[::1]:18800", /without a port: write \[::1\] here/],
    ["a:b:c", /is no host name, IPv4 or IPv6 address/],
    ["a,b", /must be one host/],
    ["https://a", /without scheme or path/],
    ["a@b", /host name or address/],
  ])("F-27 host %s is refused with what to do", (host, words) => {
    expect(() => parse({ peers: [{ hub_id: "b", host, ca: b.caPem }] })).toThrow(words);
  });

  test.each(["10.1.2.3", "::1", "[fe80::1]", "hub.example.org", "hub_1"])("F-27 host %s is taken", (host) => {
    const { peers } = parse({ peers: [{ hub_id: "b", host, ca: b.caPem }] });
    expect(peers[0]?.addresses[0]?.host).toBe(host.replace(/^\[|\]$/g, ""));
  });
});
