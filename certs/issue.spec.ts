import { createPublicKey, X509Certificate } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SERVICES } from "../services/hub/services.ts";
import { DEV_LEAVES, writeDevPki } from "./dev.ts";
import { type PkiReport, renewalDueAt, writeKey, writePki } from "./issue.ts";
import type { IssueRequest } from "./profiles.ts";

const NOW = new Date("2027-03-01T12:00:00Z");
const DAY_MS = 86_400_000;
const LEAVES: readonly IssueRequest[] = [
  { profile: "service", name: "hub" },
  { profile: "operator", name: "ada", role: "viewer" },
];

let root: string;
let count = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "foedus-pki-"));
});

afterAll(() => rm(root, { recursive: true }));

const freshDir = (): string => join(root, String(count++), "deep", "home");
const later = (days: number): Date => new Date(NOW.getTime() + days * DAY_MS);
const read = (dir: string, file: string): Promise<string> => readFile(join(dir, file), "utf8");
const actions = (report: PkiReport): string[] =>
  [report.authority, ...report.leaves].map((entry) => (entry.reason === "" ? entry.action : `${entry.action}: ${entry.reason}`));

async function contents(dir: string): Promise<Record<string, string>> {
  const names = (await readdir(dir)).sort();
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await read(dir, name)] as const)));
}

describe("writePki", () => {
  it("writes the layout: leaf alone, key mode 0600, folder mode 0700, nothing left over", async () => {
    const dir = freshDir();
    const report = await writePki(dir, "home", { now: NOW, leaves: LEAVES });
    expect(actions(report)).toEqual(["created: missing", "created: missing", "created: missing"]);
    expect((await readdir(dir)).sort()).toEqual([
      "ca.key",
      "ca.pem",
      "operator-ada.key",
      "operator-ada.pem",
      "service-hub.key",
      "service-hub.pem",
    ]);
    expect((await stat(dir)).mode & 0o777).toBe(0o700);
    const ca = new X509Certificate(await read(dir, "ca.pem"));
    for (const stem of ["ca", "operator-ada", "service-hub"]) {
      expect((await stat(join(dir, `${stem}.key`))).mode & 0o777, `${stem}.key`).toBe(0o600);
      const pem = await read(dir, `${stem}.pem`);
      expect(pem.match(/-----BEGIN/g), stem).toHaveLength(1);
      expect(pem.endsWith("-----END CERTIFICATE-----\n"), stem).toBe(true);
      const x509 = new X509Certificate(pem);
      expect(x509.verify(ca.publicKey), stem).toBe(true);
      expect(x509.publicKey.equals(createPublicKey(await read(dir, `${stem}.key`))), stem).toBe(true);
    }
  });

  it("keeps what is good: a second run changes no byte", async () => {
    const dir = freshDir();
    await writePki(dir, "home", { now: NOW, leaves: LEAVES });
    const before = await contents(dir);
    expect(actions(await writePki(dir, "home", { now: later(1), leaves: LEAVES }))).toEqual(["kept", "kept", "kept"]);
    expect(await contents(dir)).toEqual(before);
  });

  it("renews at two thirds of a life, for the key on disk", async () => {
    const dir = freshDir();
    const leaves = LEAVES.slice(0, 1);
    await writePki(dir, "home", { now: NOW, leaves });
    const before = await contents(dir);
    const due = renewalDueAt(new X509Certificate(before["service-hub.pem"] ?? ""));
    expect(Math.abs(due.getTime() - later(60).getTime())).toBeLessThan(DAY_MS / 24);
    expect(actions(await writePki(dir, "home", { now: new Date(due.getTime() - 1000), leaves }))).toEqual(["kept", "kept"]);
    const report = await writePki(dir, "home", { now: due, leaves });
    expect(actions(report)).toEqual(["kept", "renewed: near its end"]);
    const after = await contents(dir);
    expect(after["service-hub.pem"]).not.toBe(before["service-hub.pem"]);
    expect({ ...after, "service-hub.pem": "" }).toEqual({ ...before, "service-hub.pem": "" });
    expect(report.leaves[0]?.notAfter).toEqual(new Date(due.getTime() + 90 * DAY_MS));
  });

  it("renews when names, role or the pair on disk are not what is asked for", async () => {
    const dir = freshDir();
    await writePki(dir, "home", { now: NOW, leaves: LEAVES });
    const changed: readonly IssueRequest[] = [
      { profile: "service", name: "hub", ips: ["10.0.0.9"] },
      { profile: "operator", name: "ada", role: "admin" },
    ];
    expect(actions(await writePki(dir, "home", { now: NOW, leaves: changed }))).toEqual([
      "kept",
      "renewed: names or rights changed",
      "renewed: names or rights changed",
    ]);
    await writeFile(join(dir, "operator-ada.pem"), await read(dir, "service-hub.pem"));
    await unlink(join(dir, "service-hub.pem"));
    expect(actions(await writePki(dir, "home", { now: NOW, leaves: changed }))).toEqual([
      "kept",
      "renewed: missing",
      "renewed: belongs to another key",
    ]);
    await writeFile(join(dir, "service-hub.pem"), "half a certifi");
    expect(actions(await writePki(dir, "home", { now: NOW, leaves: changed }))).toEqual(["kept", "renewed: unreadable", "kept"]);
  });

  it("replaces keys of leaves only with force, and never the CA's", async () => {
    const dir = freshDir();
    const first = LEAVES.slice(0, 1);
    await writePki(dir, "home", { now: NOW, leaves: first });
    const before = await contents(dir);
    await expect(writeKey(join(dir, "service-hub.key"), "other")).rejects.toThrow(/exists already and is not overwritten without force/);
    expect(await contents(dir)).toEqual(before);
    expect(actions(await writePki(dir, "home", { now: NOW, leaves: first, force: true }))).toEqual(["kept", "created: forced"]);
    const after = await contents(dir);
    expect(after["service-hub.key"]).not.toBe(before["service-hub.key"]);
    expect(after["ca.key"]).toBe(before["ca.key"]);
    expect((await stat(join(dir, "service-hub.key"))).mode & 0o777).toBe(0o600);
  });

  it("makes a new authority only when told, and then leaves for it", async () => {
    const dir = freshDir();
    const first = LEAVES.slice(0, 1);
    await writePki(dir, "home", { now: NOW, leaves: first });
    const before = await contents(dir);
    expect(actions(await writePki(dir, "home", { now: NOW, leaves: first, newAuthority: true }))).toEqual([
      "created: new authority",
      "renewed: issued by another authority",
    ]);
    const after = await contents(dir);
    expect(after["ca.key"]).not.toBe(before["ca.key"]);
    expect(new X509Certificate(after["service-hub.pem"] ?? "").verify(new X509Certificate(after["ca.pem"] ?? "").publicKey)).toBe(true);
  });

  it("finishes a run that was cut off after the CA's key", async () => {
    const dir = freshDir();
    await writePki(dir, "home", { now: NOW, leaves: [] });
    const key = await read(dir, "ca.key");
    await unlink(join(dir, "ca.pem"));
    expect(actions(await writePki(dir, "home", { now: NOW, leaves: [] }))).toEqual(["renewed: missing"]);
    expect(await read(dir, "ca.key")).toBe(key);
  });

  it("refuses another hub's folder, a lost CA key, a damaged key and a request given twice", async () => {
    const dir = freshDir();
    await writePki(dir, "home", { now: NOW, leaves: LEAVES.slice(0, 1) });
    await expect(writePki(dir, "factory", { now: NOW, leaves: [] })).rejects.toThrow(/is the authority of hub home, not of factory/);
    await expect(writePki(dir, "home", { now: NOW, leaves: [...LEAVES, ...LEAVES] })).rejects.toThrow(/service-hub is asked for twice/);
    await writeFile(join(dir, "service-hub.key"), "damaged");
    await expect(writePki(dir, "home", { now: NOW, leaves: LEAVES })).rejects.toThrow(/service-hub\.key: private key cannot be read/);
    await unlink(join(dir, "ca.key"));
    await expect(writePki(dir, "home", { now: NOW, leaves: [] })).rejects.toThrow(/has no ca\.key beside it/);
  });

  it("lets exactly one of two writers have a key's name", async () => {
    const file = join(root, "race.key");
    const outcomes = await Promise.allSettled(["one", "two", "three"].map((text) => writeKey(file, text)));
    expect(outcomes.filter((outcome) => outcome.status === "fulfilled")).toHaveLength(1);
    expect((await readdir(root)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

describe("development certificates", () => {
  it("makes a folder per hub with every certificate that the demo needs", async () => {
    const out = join(root, "dev");
    const reports = await writeDevPki(out, ["home", "lab"], NOW);
    expect(reports.map((report) => report.hubId)).toEqual(["home", "lab"]);
    for (const hubId of ["home", "lab"]) {
      const certificates = (await readdir(join(out, hubId))).filter((name) => name.endsWith(".pem")).sort();
      expect(certificates).toEqual([
        "ca.pem",
        "gateway-agents.pem",
        "gateway-zigbee.pem",
        "node-node-1.pem",
        "operator-admin.pem",
        "operator-viewer.pem",
        ...["hub", ...SERVICES].map((name) => `service-${name}.pem`).sort(),
      ]);
    }
    const again = await writeDevPki(out, ["home"], NOW);
    expect(again.flatMap(actions)).toEqual(Array.from({ length: DEV_LEAVES.length + 1 }, () => "kept"));
  });
});
