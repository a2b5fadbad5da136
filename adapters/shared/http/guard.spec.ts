import { describe, expect, test } from "vitest";
import { type Head, hostNameOf, isLoopback, refusalOf } from "./guard.ts";

describe("who may speak HTTP with it", () => {
  const token = "t".repeat(43);
  const options = { hosts: ["127.0.0.1", "localhost"], origins: ["https://ok.example"], loopbackOrigins: true, token };
  const head: Head = { host: "127.0.0.1:80", origin: undefined, authorization: `Bearer ${token}` };

  test.each<[Partial<Head>, number | undefined]>([
    [{}, undefined],
    [{ authorization: `bearer ${token}` }, undefined],
    [{ host: "LOCALHOST" }, undefined],
    [{ origin: "https://ok.example" }, undefined],
    [{ origin: "https://ok.example.evil" }, 403],
    [{ origin: "http://localhost:5173" }, undefined],
    [{ origin: "http://[::1]:80" }, undefined],
    [{ origin: "http://127.0.0.1.evil.example" }, 403],
    [{ origin: "null" }, 403],
    [{ host: undefined }, 421],
    [{ host: "127.0.0.1.evil.example" }, 421],
    [{ host: "127.0.0.1@evil" }, 421],
    [{ authorization: undefined }, 401],
    [{ authorization: `Bearer ${token}x` }, 401],
    [{ authorization: "Bearer" }, 401],
    [{ authorization: `Basic ${token}` }, 401],
  ])("%j: %s", (change, status) => {
    expect(refusalOf({ ...head, ...change }, options)?.status).toBe(status);
  });

  test("names and addresses are read strictly", () => {
    expect([hostNameOf("[::1]:80"), hostNameOf("a:b"), hostNameOf("a b"), hostNameOf("")]).toEqual([
      "::1",
      undefined,
      undefined,
      undefined,
    ]);
    expect(["127.0.0.1", "127.9.9.9", "::1", "localhost"].every(isLoopback)).toBe(true);
    expect(["127.0.0.1.evil", "0.0.0.0", "::", "10.0.0.1"].some(isLoopback)).toBe(false);
  });
});
