import { expect, test } from "vitest";
import { addressProblem } from "./addresses.ts";
import { webhooksConfig } from "./config.ts";

const open = { plain: false, allowed: [] };

test.each([
  ...["169.254.169.254", "169.254.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "100.100.100.200", "168.63.129.16"],
  ...["::", "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe"],
  ...["2002:a9fe:a9fe::1", "not-an-address", ""],
])("nothing is posted to %s", (address) => {
  expect(addressProblem(address, open)).toBeDefined();
});

test.each(["93.184.216.34", "10.0.0.1", "192.168.1.1", "127.0.0.1", "::1", "2606:2800:220:1::1", "fd12::1"])(
  "%s may be posted to",
  (address) => {
    expect(addressProblem(address, open)).toBeUndefined();
  },
);

test("what is named may be posted to, and only that", () => {
  const allowed = ["169.254.10.1", "fe80::5"];
  expect(addressProblem("169.254.10.1", { plain: false, allowed })).toBeUndefined();
  expect(addressProblem("fe80::5%eth0", { plain: false, allowed })).toBeUndefined();
  expect(addressProblem("169.254.10.2", { plain: false, allowed })).toBeDefined();
});

test("what is not encrypted stays on this machine, whatever a name resolves to", () => {
  for (const address of ["127.0.0.1", "127.8.8.8", "::1"]) expect(addressProblem(address, { plain: true, allowed: [] })).toBeUndefined();
  for (const address of ["10.0.0.1", "8.8.8.8", "::ffff:8.8.8.8"])
    expect(addressProblem(address, { plain: true, allowed: [address] })).toBeDefined();
});

const valid = (url: string) => webhooksConfig.safeParse({ sink: { url, secret_file: "x" } }).success;

test.each(["https://example.org/hook?x=1", "https://10.0.0.1:8443/", "http://127.0.0.1:9000/", "http://localhost/", "http://[::1]:1/"])(
  "%s is a URL of a sink",
  (url) => {
    expect(valid(url)).toBe(true);
  },
);

test.each([
  ...["http://example.org/", "http://10.0.0.1/", "ftp://example.org/", "file:///etc/passwd", "https://user:pw@example.org/"],
  ...["https://example.org/#x", "example.org", "", "http://127.0.0.1.example.org/", "gopher://127.0.0.1/", "http://2130706434.example/"],
])("%s is none", (url) => {
  expect(valid(url)).toBe(false);
});

test("a hub has eight sinks at most, and their names are plain", () => {
  const sink = { url: "https://example.org/", secret_file: "x" };
  const named = (names: readonly string[]) => webhooksConfig.safeParse(Object.fromEntries(names.map((name) => [name, sink]))).success;
  expect(named(Array.from({ length: 8 }, (_, i) => `s${i}`))).toBe(true);
  expect(named(Array.from({ length: 9 }, (_, i) => `s${i}`))).toBe(false);
  for (const name of ["", "A", "a/b", "../x", "a b"]) expect([name, named([name])]).toEqual([name, false]);
});
