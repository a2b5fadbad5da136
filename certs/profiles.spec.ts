import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  canonicalIp,
  checkHubId,
  checkName,
  checkRequest,
  type IssueRequest,
  MAX_PREFIX_LENGTH,
  MAX_PREFIXES,
  PkiError,
  PROFILES,
  sansOf,
} from "./profiles.ts";

const DAY_MS = 86_400_000;

function fieldOf(request: unknown): string | undefined {
  try {
    checkRequest(request as IssueRequest);
    return undefined;
  } catch (error) {
    if (error instanceof PkiError) return error.field;
    throw error;
  }
}

describe("names", () => {
  it.each(["a", "home", "hub-7", "0", "x".repeat(63)])("takes hub id %j", (hubId) => {
    expect(() => checkHubId(hubId)).not.toThrow();
  });

  it.each(["", "-a", "a-", "Home", "a.b", "a_b", "x".repeat(64), "a/b", "a\n", "ä", "*"])("refuses hub id %j", (hubId) => {
    expect(() => checkHubId(hubId)).toThrow(/is not a DNS label/);
  });

  it.each(["0x00158d0001a2b3c4", "node-1", "a.b_c-D", "n".repeat(63)])("takes node id %j", (name) => {
    expect(() => checkName("node", name)).not.toThrow();
  });

  it.each(["", ".", "..", "-x", "_x", "a/b", "a b", "a\n", "é", "n".repeat(64), "a:b", "a%2fb"])("refuses node id %j", (name) => {
    expect(() => checkName("node", name)).toThrow(PkiError);
  });

  it("refuses a service name that is not a host label", () => {
    expect(() => checkName("service", "Registry_Sync")).toThrow(/DNS label/);
  });
});

describe("requests", () => {
  it("takes a full one of every profile", () => {
    const requests: IssueRequest[] = [
      { profile: "service", name: "hub", dnsNames: ["hub.example.org"], ips: ["10.0.0.1", "fe80::1"], lifetimeMs: DAY_MS },
      { profile: "node", name: "lamp" },
      { profile: "gateway", name: "zigbee", prefixes: ["zigbee-", "0x"] },
      { profile: "operator", name: "ada", role: "admin" },
    ];
    for (const request of requests) expect(fieldOf(request)).toBeUndefined();
  });

  it.each([
    ["profile", { profile: "ca", name: "x" }],
    ["name", { profile: "node", name: "a/../b" }],
    ["role", { profile: "operator", name: "ada" }],
    ["role", { profile: "operator", name: "ada", role: "root" }],
    ["role", { profile: "node", name: "lamp", role: "admin" }],
    ["prefixes", { profile: "service", name: "hub", prefixes: ["a"] }],
    ["prefixes", { profile: "gateway", name: "g", prefixes: [""] }],
    ["prefixes", { profile: "gateway", name: "g", prefixes: ["a b"] }],
    ["prefixes", { profile: "gateway", name: "g", prefixes: ["p".repeat(MAX_PREFIX_LENGTH + 1)] }],
    ["prefixes", { profile: "gateway", name: "g", prefixes: Array.from({ length: MAX_PREFIXES + 1 }, (_, i) => `p${i}`) }],
    ["dnsNames", { profile: "node", name: "lamp", dnsNames: ["a"] }],
    ["dnsNames", { profile: "service", name: "hub", dnsNames: ["*.example.org"] }],
    ["dnsNames", { profile: "service", name: "hub", dnsNames: ["10.0.0.1"] }],
    ["ips", { profile: "service", name: "hub", ips: ["fe80::1%eth0"] }],
    ["ips", { profile: "service", name: "hub", ips: ["localhost"] }],
    ["lifetimeMs", { profile: "service", name: "hub", lifetimeMs: 91 * DAY_MS }],
    ["lifetimeMs", { profile: "service", name: "hub", lifetimeMs: 0 }],
    ["lifetimeMs", { profile: "service", name: "hub", lifetimeMs: Number.NaN }],
  ])("refuses a bad %s: %j", (field, request) => {
    expect(fieldOf(request)).toBe(field);
  });

  it("gives services their names once and other kinds only a URI", () => {
    expect(sansOf("home", { profile: "service", name: "hub", dnsNames: ["home", "x.org"], ips: ["127.0.0.1", "0:0::1"] })).toEqual({
      uris: ["spiffe://home/service/hub"],
      dnsNames: ["localhost", "home", "hub.home", "x.org"],
      ips: ["127.0.0.1", "::1"],
    });
    expect(sansOf("home", { profile: "node", name: "lamp" })).toEqual({ uris: ["spiffe://home/node/lamp"], dnsNames: [], ips: [] });
  });

  it("spells an address one way", () => {
    expect(canonicalIp("2001:DB8:0::0001")).toBe("2001:db8::1");
  });
});

describe("README", () => {
  it("shows the profiles as they are", () => {
    const readme = readFileSync(join(import.meta.dirname, "README.md"), "utf8");
    for (const [name, profile] of Object.entries(PROFILES)) {
      const row = readme.split("\n").find((line) => line.split("|")[1]?.trim() === `\`${name}\``);
      const cells = row?.split("|").map((cell) => cell.trim());
      expect(cells?.[2], `lifetime of ${name}`).toBe(`${profile.lifetimeMs / DAY_MS} d`);
      expect(cells?.[3], `usages of ${name}`).toBe([...profile.keyUsage, ...profile.extKeyUsage].join(", "));
    }
  });
});
