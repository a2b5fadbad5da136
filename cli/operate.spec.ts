// From empty folders to a federation, with the commands that an operator types; then things break, and doctor says what.

import { X509Certificate } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { issue, loadAuthority } from "../certs/authority.ts";
import { loadHubConfig, SERVICES } from "../services/hub/index.ts";
import { type Finished, type Running, start } from "../test/cli/fixture.ts";
import { until } from "../test/support/federation.ts";
import type { Finding } from "./doctor/ledger.ts";

const DAY_MS = 86_400_000;
/** Ports below the ephemeral ones, apart from those of other specs. */
const PORT = 30_000 + (process.pid % 50) * 40;
const PORTS = { a: PORT, b: PORT + 20 } as const;

let root: string;
const running = new Map<string, Running>();

const foedus = (cwd: string, ...args: readonly string[]): Promise<Finished> => start(args, { cwd: join(root, cwd) }).done;

async function startHub(id: "a" | "b"): Promise<void> {
  const hub = start(["hub", "--config", "hub.json", "--json"], { cwd: join(root, id) });
  running.set(id, hub);
  await hub.printed("ops_port");
}

async function stopHub(id: string): Promise<void> {
  running.get(id)?.child.kill("SIGTERM");
  expect((await running.get(id)?.done)?.code).toBe(0);
  running.delete(id);
}

interface Examined {
  readonly code: number | null;
  readonly findings: readonly Finding[];
  readonly not_looked_at: readonly string[];
}

async function doctor(id: string): Promise<Examined> {
  const { code, out, err } = await foedus(id, "doctor", "--json");
  expect(err).toBe("");
  return { code, ...(JSON.parse(out) as Omit<Examined, "code">) };
}

interface Change {
  readonly changed: boolean;
  readonly running: boolean;
  readonly link: { readonly state: string; readonly max_trust: string; readonly share: string } | null;
}

async function peer(id: string, ...args: readonly string[]): Promise<Change> {
  const { out, err, code } = await foedus(id, "peer", ...args, "--json");
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return JSON.parse(out) as Change;
}

const linkOf = async (id: string): Promise<string | undefined> => (await foedus(id, "peers", id === "a" ? "b" : "a", "-q")).out.trim();
const operational = (id: string): Promise<unknown> => until(`the link of ${id}`, async () => (await linkOf(id)) === "operational", 30_000);

const fingerprints = new Map<string, string>();

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "foedus-operate-"));
});
afterAll(async () => {
  for (const { child, done } of running.values()) {
    child.kill("SIGKILL");
    await done;
  }
  rmSync(root, { recursive: true, force: true });
});

/** portsIn are all the ports of a hub's configuration, of both modes. */
function portsIn(id: string): number[] {
  const { listen, ops, services } = loadHubConfig({ file: join(root, id, "hub.json") }).config;
  expect(ops).not.toHaveProperty("port");
  return [listen.port, ...SERVICES.flatMap((name) => [services[name].port, services[name].ops_port, services[name].metrics_port])];
}

describe("from empty folders to a federation", () => {
  test("hub init makes two hubs, says what to type next, and does not do it twice", async () => {
    expect(await foedus(".", "hub", "init", "new")).toMatchObject({ code: 0 });
    for (const id of ["a", "b"] as const) {
      const { code, out, err } = await foedus(".", "hub", "init", id, "--port", String(PORTS[id]));
      expect({ code, err }).toEqual({ code: 0, err: "" });
      expect(portsIn(id)).toEqual(portsIn("new").map((port) => port - 18_800 + PORTS[id]));
      expect(out).toMatch(
        new RegExp(
          `Next, in ${id}/:\n {2}foedus hub --config hub.json\n {2}foedus status --hub ${id}\n {2}foedus device simulate\n {2}foedus peer invite\n`,
        ),
      );
      fingerprints.set(id, /\n {2}([0-9a-f]{64})\n/.exec(out)?.[1] ?? "");
      const shown = JSON.parse((await foedus(id, "pki", "show", "pki/ca.pem", "--json")).out) as { files: { sha256: string }[] };
      expect(shown.files[0]?.sha256).toBe(fingerprints.get(id));
    }
    const before = readFileSync(join(root, "a/hub.json"), "utf8");
    expect(await foedus(".", "hub", "init", "a")).toMatchObject({
      code: 1,
      err: expect.stringContaining("existing files are not overwritten"),
    });
    expect(await foedus(".", "hub", "init", "c", "--dir", "a")).toMatchObject({ code: 1 });
    expect(readFileSync(join(root, "a/hub.json"), "utf8")).toBe(before);
    for (const wrong of [["A!"], ["c", "--port", "0"], ["c", "--port", "65519"], ["c", "--advertise", "https://c"]])
      expect(await foedus(".", "hub", "init", ...wrong)).toMatchObject({ code: 2 });
  }, 60_000);

  test("peers are added by file before and after the start; the link becomes operational and doctor finds nothing", async () => {
    const added = await peer(
      "a",
      "add",
      "b",
      "--ca",
      "../b/pki/ca.pem",
      "--host",
      "127.0.0.1",
      "--port",
      String(PORTS.b),
      "--share",
      "full",
    );
    expect(added).toMatchObject({ changed: true, running: false, link: null });
    await Promise.all([startHub("a"), startHub("b")]);
    expect(await foedus("a", "status", "--hub", "a")).toMatchObject({ code: 0, err: "" });

    // One side is not enough: b does not know a.
    const half = await doctor("a");
    expect(half.findings).toEqual([
      expect.objectContaining({
        severity: "error",
        check: "reach",
        subject: "b",
        fix: expect.stringMatching(
          /pki\/ca\.pem \(SHA-256 [0-9a-f]{64}\).*foedus peer add a --ca <file>`; or, if it has ended the partnership: `foedus peer remove b`\.$/,
        ),
      }),
    ]);
    expect(half.findings[0]?.fix).toContain(fingerprints.get("a"));
    expect(half.code).toBe(1);

    const args = ["add", "a", "--ca", "../a/pki/ca.pem", "--host", "127.0.0.1", "--port", String(PORTS.a), "--share", "full"];
    const wrong = await foedus("b", "peer", ...args, "--fingerprint", fingerprints.get("b") ?? "");
    expect(wrong).toMatchObject({ code: 4, err: expect.stringContaining("Do not pin it") });
    const right = await peer("b", ...args, "--fingerprint", (fingerprints.get("a") ?? "").toUpperCase());
    expect(right).toMatchObject({ changed: true, running: true, link: { share: "full" } });
    await Promise.all([operational("a"), operational("b")]);
    expect(await peer("b", ...args)).toMatchObject({ changed: false, running: true, link: { state: "LINK_STATE_OPERATIONAL" } });
    for (const id of ["a", "b"]) expect(await doctor(id)).toMatchObject({ code: 0, findings: [], not_looked_at: [] });
    expect((await foedus("a", "peer", "list")).out).toMatch(/^b +127\.0\.0\.1:\d+ +limited +full +[0-9a-f]{16}… +operational$/m);
  }, 90_000);

  test("trust changes at run time, without widening the share", async () => {
    expect(await peer("a", "trust", "b", "full")).toMatchObject({ changed: true, link: { max_trust: "TRUST_LEVEL_FULL", share: "full" } });
    expect(await peer("a", "trust", "b", "full")).toMatchObject({ changed: false });
    expect(await peer("a", "trust", "b", "limited")).toMatchObject({
      changed: true,
      link: { max_trust: "TRUST_LEVEL_LIMITED", share: "full" },
    });
    expect(await foedus("a", "peer", "trust", "b", "blindly")).toMatchObject({ code: 2 });
    expect(await foedus("a", "peer", "trust", "mars", "full")).toMatchObject({ code: 5 });
  }, 60_000);
});

describe("when things break, doctor says what", () => {
  const finding = async (id: string, check: string, subject: string): Promise<Finding | undefined> =>
    (await doctor(id)).findings.find((found) => found.check === check && found.subject === subject);

  test("a peer that was stopped", async () => {
    await stopHub("b");
    expect(await finding("a", "reach", "b")).toMatchObject({
      severity: "error",
      message: expect.stringMatching(/nothing listens at 127\.0\.0\.1:/),
    });
    await startHub("b");
    await Promise.all([operational("a"), operational("b")]);
    expect(await doctor("a")).toMatchObject({ code: 0, findings: [] });
  }, 90_000);

  test("a partner that cuts this hub off: send, nodes and doctor say who did it and whom to ask", async () => {
    expect((await foedus("b", "send", "a/lamp", "state", "on")).err).toBe(
      "foedus: there is no node a/lamp. List the nodes with `foedus nodes --hub-id a`.\n",
    );
    await peer("a", "trust", "b", "minimal");
    const there = async (): Promise<string> => (await foedus("b", "peers", "a")).out;
    await until("b hearing of it", async () => (await there()).includes("a trusts this hub only minimally"));
    const ask = "Ask the operator of a to open it, there: `foedus peer trust b limited`.";
    expect(await foedus("b", "send", "a/lamp", "state", "on", "--type", "bool")).toMatchObject({
      code: 1,
      err: `foedus: no session with a: a trusts this hub only minimally. ${ask}\n`,
    });
    expect((await foedus("b", "nodes", "--hub-id", "a")).err).toContain(
      `a is a peer, but shows this hub no nodes, because a trusts this hub only minimally. ${ask}\n`,
    );
    expect(await finding("b", "link", "a")).toMatchObject({
      severity: "warning",
      message: "a trusts this hub only minimally",
      fix: ask,
    });
    // What our own operator decided is no finding.
    expect((await doctor("a")).findings).toEqual([]);
    await peer("a", "trust", "b", "limited");
    await Promise.all([operational("a"), operational("b")]);

    expect(await foedus("a", "peers", "disable", "b")).toMatchObject({ code: 0 });
    await until("the end of the link", async () => (await linkOf("b")) !== "operational");
    expect(await finding("b", "reach", "a")).toMatchObject({
      message: expect.stringContaining("or its operator has ended the link (`peers disable`)"),
      fix: expect.stringContaining("there: `foedus peers enable b`"),
    });
    expect((await foedus("b", "send", "a/lamp", "state", "on", "--type", "bool")).err).toMatch(
      /^foedus: no session with a: .*foedus doctor/,
    );
    expect(await finding("a", "link", "b")).toMatchObject({ fix: "Bring it back with `foedus peers enable b`." });
    expect((await foedus("a", "send", "b/lamp", "state", "on", "--type", "bool")).err).toMatch(
      /the link to b was ended here\. Bring it back with `foedus peers enable b`/,
    );
    expect(await foedus("a", "peers", "enable", "b")).toMatchObject({ code: 0 });
    await Promise.all([operational("a"), operational("b")]);
  }, 120_000);

  test("the wrong CA: pinned only when it is named, then told apart from a hub that is away, and mended the same way", async () => {
    await foedus("b", "pki", "init", "a", "--dir", "fake");
    const fake = JSON.parse((await foedus("b", "pki", "show", "fake/ca.pem", "--json")).out) as { files: { sha256: string }[] };
    const pin = (...more: readonly string[]): Promise<Finished> => foedus("b", "peer", "add", "a", "--ca", "fake/ca.pem", "-q", ...more);
    expect(await pin()).toMatchObject({
      code: 4,
      err: expect.stringContaining(`a different CA is already pinned for a (SHA-256 ${fingerprints.get("a")})`),
    });
    // A running hub no longer trusts the CA that it came up with: what rests on that ends when the command says that it is done.
    expect(await pin("--fingerprint", fake.files[0]?.sha256 ?? "")).toMatchObject({ code: 0 });
    expect(await linkOf("b")).not.toBe("operational");
    expect((await foedus("b", "peers", "a", "--json")).out).toContain(fake.files[0]?.sha256);
    await until("the link of a going down too", async () => (await linkOf("a")) !== "operational");
    expect(await finding("b", "reach", "a")).toMatchObject({
      severity: "error",
      message: expect.stringContaining("is not signed by a CA of a"),
    });
    // The hub follows another file than the one that this changes: the change is not reported as done.
    mkdirSync(join(root, "b/other"));
    const config = JSON.parse(readFileSync(join(root, "b/hub.json"), "utf8")) as object;
    writeFileSync(join(root, "b/other.json"), JSON.stringify({ ...config, federation_config_path: "other/federation.json" }));
    writeFileSync(join(root, "b/other/federation.json"), readFileSync(join(root, "b/federation.json")));
    const elsewhere = [
      "--config",
      "other.json",
      "--ca",
      "../a/pki/ca.pem",
      "--fingerprint",
      fingerprints.get("a") ?? "",
      "--timeout",
      "2s",
    ];
    expect(await foedus("b", "peer", "add", "a", ...elsewhere)).toMatchObject({
      code: 1,
      err: expect.stringContaining("the hub does not show the change of a"),
    });
    const back = await peer("b", "add", "a", "--ca", "../a/pki/ca.pem", "--fingerprint", fingerprints.get("a") ?? "");
    expect(back.changed).toBe(true);
    await Promise.all([operational("a"), operational("b")]);
    expect(await doctor("b")).toMatchObject({ code: 0, findings: [] });
  }, 90_000);

  test("a certificate of a peer that is revoked, by its file or its fingerprint, and taken back in the file", async () => {
    const before = readFileSync(join(root, "b/federation.json"), "utf8");
    expect(await foedus("b", "peer", "revoke", "a", "--certificate", "../a/pki/ca.pem")).toMatchObject({ code: 2 });
    expect(await foedus("b", "peer", "revoke", "a", "--certificate", "pki/service-hub.pem")).toMatchObject({ code: 4 });
    expect(await foedus("b", "peer", "revoke", "a", "--fingerprint", "0a0b")).toMatchObject({ code: 2 });
    expect(await foedus("b", "peer", "revoke", "mars", "--fingerprint", "0a".repeat(32))).toMatchObject({ code: 5 });
    expect(readFileSync(join(root, "b/federation.json"), "utf8")).toBe(before);
    const leaf = new X509Certificate(readFileSync(join(root, "a/pki/service-hub.pem")));
    const revoked = await peer("b", "revoke", "a", "--certificate", "../a/pki/service-hub.pem");
    expect(revoked).toMatchObject({ changed: true, running: true });
    await until("the end of the link", async () => (await linkOf("b")) !== "operational" && (await linkOf("a")) !== "operational");
    expect(await peer("b", "revoke", "a", "--fingerprint", leaf.fingerprint256)).toMatchObject({ changed: false });
    writeFileSync(join(root, "b/federation.json"), before);
    await Promise.all([operational("a"), operational("b")]);
  }, 90_000);

  test("a certificate that has ended, until it is renewed", async () => {
    const authority = await loadAuthority(join(root, "a/pki"));
    const notBefore = new Date(systemClock.wall() - 3 * DAY_MS);
    const keyPem = readFileSync(join(root, "a/pki/service-hub.key"), "utf8");
    const old = await issue(authority, { profile: "service", name: "hub", notBefore, lifetimeMs: DAY_MS }, new Date(systemClock.wall()), {
      keyPem,
    });
    writeFileSync(join(root, "a/pki/service-hub.pem"), old.certificatePem);
    const { code, findings } = await doctor("a");
    expect(findings).toEqual([
      expect.objectContaining({
        severity: "error",
        check: "certificate",
        subject: "pki/service-hub.pem",
        message: expect.stringMatching(/^it ended \d+ (h|d) ago$/),
        fix: expect.stringContaining("`foedus pki renew --dir pki`"),
      }),
    ]);
    expect(code).toBe(1);
    expect(await foedus("a", "pki", "renew", "--dir", "pki")).toMatchObject({ code: 0 });
    await until("a clean bill", async () => (await doctor("a")).code === 0);
  }, 60_000);

  test("peer remove says what goes and what stays, and the hub follows", async () => {
    const said = await foedus("a", "peer", "remove", "b", "--dry-run");
    expect(said.out).toMatch(/^delete {2}the entry of b in .*\n(?:delete .*\n)+(?:keep .*\n)+$/);
    expect((await foedus("a", "peers", "-q")).out).toBe("b\n");
    expect(await foedus("a", "peer", "remove", "b")).toMatchObject({ code: 0, out: expect.stringContaining("the hub has ended the link") });
    expect((await foedus("a", "peers", "-q")).out).toBe("");
    expect(await foedus("a", "peer", "remove", "b")).toMatchObject({ code: 0, err: "b is not a peer; nothing to do\n" });
    expect(await doctor("a")).toMatchObject({ code: 0, findings: [] });
    for (const id of ["a", "b"]) await stopHub(id);
  }, 60_000);
});
