import { X509Certificate } from "node:crypto";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { encodeInvite } from "../../services/introduction/index.ts";
import type { Io } from "../io.ts";
import { init } from "../own/hub-init.ts";
import { accept, invite } from "../own/introduction.ts";
import { add, list, trust } from "../own/peer.ts";
import { run } from "./doctor.ts";
import type { Finding } from "./ledger.ts";
import { Ledger } from "./ledger.ts";
import { lookAtDisk, readDisk } from "./machine.ts";

const DAY_MS = 86_400_000;
let root: string;
let cases = 0;

interface Told extends Io {
  readonly told: string[];
}

/** ioAt is an Io that collects what is told; the wall clock may be off. */
function ioAt(cwd: string, offMs = 0): Told {
  const told: string[] = [];
  return {
    told,
    out: async (text) => void told.push(text),
    note: () => undefined,
    error: () => undefined,
    ask: async () => undefined,
    style: (_format, text) => text,
    columns: undefined,
    env: {},
    cwd,
    clock: { ...systemClock, wall: () => systemClock.wall() + offMs },
    stopped: new AbortController().signal,
    onHangup: () => undefined,
  };
}

interface Examined {
  readonly code: number | undefined;
  readonly findings: readonly Finding[];
  readonly looked_at: number;
}

async function examine(folder: string, offMs = 0): Promise<Examined> {
  const io = ioAt(folder, offMs);
  const code = await run(io, [], { json: true });
  return { code, ...(JSON.parse(io.told.join("")) as Omit<Examined, "code">) };
}

/** Nothing listens on these ports of loopback: they are for root, and no hub of a test takes them. */
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "foedus-doctor-"));
  await init(ioAt(root), ["a"], { port: "3", quiet: true });
  await init(ioAt(root), ["b"], { port: "23", quiet: true });
}, 60_000);
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A folder of its own with the hub a in it, which a case may spoil. */
function folderOf(spoil: (path: (name: string) => string) => void): string {
  const folder = join(root, `case-${++cases}`);
  cpSync(join(root, "a"), folder, { recursive: true });
  spoil((name) => join(folder, name));
  return folder;
}

type Tree = Record<string, unknown>;

function edit(file: string, change: (tree: Tree) => void): void {
  const tree = JSON.parse(readFileSync(file, "utf8")) as Tree;
  change(tree);
  writeFileSync(file, JSON.stringify(tree));
}

const NOT_STARTED = { severity: "warning", check: "hub", subject: "a" };

const peer = (more: Tree = {}): Tree => ({ hub_id: "b", ca: "../b/pki/ca.pem", share: "full", ...more });
const peers =
  (...list: Tree[]) =>
  (path: (name: string) => string) =>
    writeFileSync(path("federation.json"), JSON.stringify({ peers: list }));
const config =
  (change: (tree: Tree) => void, ...list: Tree[]) =>
  (path: (name: string) => string) => {
    edit(path("hub.json"), change);
    peers(...list)(path);
  };

describe("foedus doctor on prepared folders", () => {
  test("a new hub: the only remark is that it was not started; all its files were looked at", async () => {
    const { code, findings, looked_at } = await examine(folderOf(() => undefined));
    expect(findings).toEqual([expect.objectContaining(NOT_STARTED)]);
    expect(code).toBe(0);
    // Nine certificates with keys, the CA, the configuration and the machine.
    expect(looked_at).toBeGreaterThan(45);
  });

  type Case = readonly [
    name: string,
    spoil: (path: (name: string) => string) => void,
    expected: Partial<Finding>,
    says: RegExp,
    fix: RegExp,
    offMs?: number,
  ];
  const at = (severity: Finding["severity"], check: Finding["check"], subject: string): Partial<Finding> => ({ severity, check, subject });

  const revokedList = (path: (name: string) => string, name: string, reason: string): void => {
    const sha256 = new X509Certificate(readFileSync(path(name))).fingerprint256.replaceAll(":", "").toLowerCase();
    writeFileSync(path("revoked.json"), JSON.stringify({ revoked: [{ sha256, reason }] }));
  };

  const table: readonly Case[] = [
    [
      "a certificate that the hub shows and refuses",
      (path) => revokedList(path, "pki/service-hub.pem", "laptop stolen"),
      at("error", "revoked", "pki/service-hub.pem"),
      /^this hub shows it, and it is revoked \(laptop stolen\)$/,
      /^`foedus pki issue service hub --force --dir pki` issues another one with a new key\. /,
    ],
    [
      "a revoked certificate that still lies there",
      (path) => revokedList(path, "pki/operator-admin.pem", "left"),
      at("warning", "revoked", "pki/operator-admin.pem"),
      /^it is revoked \(left\), and whoever has it is refused$/,
      /^`foedus pki issue operator admin --role admin --force --dir pki` issues .* remove the file/,
    ],
    [
      "a list of revoked certificates that cannot be read",
      (path) => writeFileSync(path("revoked.json"), "{"),
      at("error", "revoked", "revoked.json"),
      /is not valid: it is not JSON/,
      /does not start/,
    ],
    [
      "A6 a list of revoked certificates that is gone",
      (path) => {
        mkdirSync(path("data"), { recursive: true });
        writeFileSync(path("data/hub.revoked.json"), JSON.stringify({ revoked: [{ sha256: "a".repeat(64) }] }));
      },
      at("error", "revoked", "revoked.json"),
      /is missing and was not empty/,
      /Restore it/,
    ],
    [
      "a certificate that has ended",
      () => undefined,
      at("error", "certificate", "pki/service-hub.pem"),
      /^it ended 1 d ago$/,
      /pki renew --dir pki/,
      91.5 * DAY_MS,
    ],
    [
      "less than a third of a life left",
      () => undefined,
      at("warning", "certificate", "pki/operator-admin.pem"),
      /ends in 8 d, with less than a third/,
      /pki renew/,
      21.5 * DAY_MS,
    ],
    [
      "a CA near its end",
      () => undefined,
      at("warning", "certificate", "pki/ca.pem"),
      /less than a third/,
      /each of them has to pin it/,
      2_500 * DAY_MS,
    ],
    ["a clock that is behind", () => undefined, at("error", "certificate", "pki/service-hub.pem"), /not valid before/, /clock/, -DAY_MS],
    [
      "a clock that was never set",
      () => undefined,
      at("error", "clock", "this machine"),
      /is not set.*1970/,
      /time service/,
      -systemClock.wall(),
    ],
    [
      "a key that others may read",
      (path) => chmodSync(path("pki/service-hub.key"), 0o640),
      at("error", "key-file", "pki/service-hub.key"),
      /mode 0640/,
      /^`chmod 600 pki\/service-hub.key`; if others had access, issue it with a new key: `foedus pki issue service hub --force --dir pki`\.$/,
    ],
    [
      "the key of a gateway that others may read: the command issues the same rights again",
      (path) => chmodSync(path("pki/gateway-devices.key"), 0o644),
      at("error", "key-file", "pki/gateway-devices.key"),
      /mode 0644/,
      /`foedus pki issue gateway devices --force --dir pki`\.$/,
    ],
    [
      "the CA's key that others may read",
      (path) => chmodSync(path("pki/ca.key"), 0o644),
      at("error", "key-file", "pki/ca.key"),
      /mode 0644/,
      /^`chmod 600 pki\/ca.key`; whoever has read it can issue any certificate of this hub\. .*`foedus pki init a --new-authority --dir pki`.*every partner has to pin that one: docs\/RUNBOOK\.md, "A stolen key"\.$/,
    ],
    [
      "a key that is gone",
      (path) => rmSync(path("pki/service-hub.key")),
      at("error", "key-file", "pki/service-hub.key"),
      /does not exist/,
      /`foedus pki issue service hub --force --dir pki`/,
    ],
    [
      "another's key",
      (path) => cpSync(path("pki/gateway-devices.key"), path("pki/service-hub.key")),
      at("error", "certificate", "pki/service-hub.pem"),
      /do not belong together/,
      /`foedus pki issue service hub --dir pki`/,
    ],
    [
      "a leaf for a CA",
      (path) => cpSync(path("pki/service-hub.pem"), path("pki/ca.pem")),
      at("error", "certificate", "pki/ca.pem"),
      /holds a leaf \(spiffe:\/\/a\/service\/hub\), not a CA/,
      /tls.ca/,
    ],
    [
      "the CA of another hub",
      (path) => cpSync(join(root, "b/pki/ca.pem"), path("pki/ca.pem")),
      at("error", "certificate", "pki/service-hub.pem"),
      /not signed by the CA in pki\/ca.pem/,
      /renew/,
    ],
    [
      "a certificate of another kind",
      (path) =>
        edit(path("hub.json"), (tree) =>
          Object.assign(tree["tls"] as Tree, { cert: "pki/gateway-devices.pem", key: "pki/gateway-devices.key" }),
        ),
      at("error", "certificate", "pki/gateway-devices.pem"),
      /not for a service of a/,
      /tls|path/,
    ],
    [
      "a half-written certificate",
      (path) => writeFileSync(path("pki/service-hub.pem"), "-----BEGIN CERTIFICATE-----\nMIIB"),
      at("error", "certificate", "pki/service-hub.pem"),
      /no certificate|cannot be read/,
      /`foedus pki issue service hub --dir pki`/,
    ],
    [
      "a configuration with mistakes",
      (path) => edit(path("hub.json"), (tree) => Object.assign(tree, { listn: {} })),
      at("error", "configuration", "listn"),
      /hub\.json/,
      /CONFIG\.md/,
    ],
    [
      "a federation file that is gone",
      (path) => rmSync(path("federation.json")),
      at("error", "federation-file", "federation.json"),
      /cannot be read/,
      /peers/,
    ],
    [
      "a federation file that is no JSON",
      (path) => writeFileSync(path("federation.json"), "{"),
      at("error", "federation-file", "federation.json"),
      /not JSON/,
      /last good/,
    ],
    [
      "a peer without CA",
      peers({ hub_id: "b", host: "127.0.0.1" }),
      at("error", "federation-file", "peers[0].ca"),
      /not pinned/,
      /foedus peer add/,
    ],
    [
      "a leaf pinned for a CA",
      peers(peer({ ca: "../b/pki/service-hub.pem" })),
      at("error", "federation-file", "peers[0].ca"),
      /not a CA/,
      /foedus peer add/,
    ],
    [
      "the CA of another hub pinned",
      peers(peer({ ca: "../a/pki/ca.pem" })),
      at("error", "certificate", "b"),
      /that of a$/,
      /foedus peer add b/,
    ],
    [
      "a peer that does not run",
      peers(peer({ host: "127.0.0.1", port: 23 })),
      at("error", "reach", "b"),
      /nothing listens at 127\.0\.0\.1:23/,
      /foedus peer add b --host/,
    ],
    [
      "a peer whose name is not known",
      peers(peer({ host: "b.invalid" })),
      at("error", "reach", "b"),
      /host name of b\.invalid:18800 is not known/,
      /name service/,
    ],
    [
      "nobody who could dial",
      config((tree) => delete tree["advertise_host"], peer()),
      at("error", "setting", "b"),
      /neither dials/,
      /--host/,
    ],
    [
      "loopback told to a peer elsewhere",
      peers(peer({ host: "b.invalid" })),
      at("warning", "setting", "advertise_host"),
      /b is elsewhere/,
      /advertise_host/,
    ],
    [
      "listening on loopback only",
      config((tree) => Object.assign(tree, { advertise_host: "a.example" })),
      at("warning", "setting", "listen.host"),
      /127\.0\.0\.1 only/,
      /0\.0\.0\.0/,
    ],
    [
      "a share that hub.json does not define, written by hand",
      peers(peer({ host: "127.0.0.1", share: "fulll" })),
      at("error", "setting", "share fulll"),
      /no share "fulll", so b sees nothing of this hub; did you mean full\?/,
      /registry_sync\.shares.*foedus peer add b --share full/,
    ],
    [
      "the share that goes with a ceiling, where hub.json defines others only",
      config((tree) => Object.assign(tree, { registry_sync: { shares: { guests: { nodes: ["*"] } } } }), peer({ share: undefined })),
      at("error", "setting", "share limited"),
      /no share "limited", so b sees nothing/,
      /foedus peer add b --share guests`/,
    ],
    [
      "ports that were changed after the context was made",
      config((tree) => Object.assign(tree, { listen: { port: 5 } })),
      at("warning", "context", ".foedus/contexts.json"),
      /^the context a says 127\.0\.0\.1:3, the configuration says port 5$/,
      /`foedus contexts add a --address 127\.0\.0\.1:5`/,
    ],
    [
      "a share without rules",
      peers(peer({ host: "127.0.0.1", share: "limited" })),
      at("warning", "setting", "share limited"),
      /b sees no node/,
      /--share full/,
    ],
    [
      "full trust for all",
      peers(peer({ max_trust: "full" }), peer({ hub_id: "c", max_trust: "full" })),
      at("warning", "setting", "max_trust"),
      /all 2 peers/,
      /peer trust/,
    ],
    [
      "durability process",
      config((tree) => Object.assign(tree, { durability: "process" })),
      at("warning", "setting", "durability"),
      /loss of power/,
      /full/,
    ],
    [
      "health in the open",
      config((tree) => Object.assign(tree, { ops: { host: "0.0.0.0", port: 13 } })),
      at("warning", "setting", "ops.host"),
      /without TLS/,
      /127\.0\.0\.1/,
    ],
  ];

  // The offset of the clock is for few of them.
  test.each(table.map(([name, spoil, expected, says, fix, offMs = 0]) => [name, spoil, expected, says, fix, offMs] as const))(
    "%s",
    async (_name, spoil, expected, says, fix, offMs) => {
      const { code, findings } = await examine(folderOf(spoil), offMs);
      expect(findings).toContainEqual({ ...expected, message: expect.stringMatching(says), fix: expect.stringMatching(fix) });
      expect(code).toBe(findings.some(({ severity }) => severity === "error") ? 1 : 0);
    },
  );

  test("a CA that was deleted is one error with the way back, and the certificates that it signed are not blamed", async () => {
    const { findings } = await examine(folderOf((path) => rmSync(path("pki/ca.pem"))));
    expect(findings).toEqual([
      {
        ...at("error", "certificate", "pki/ca.pem"),
        message: "it does not exist",
        fix: expect.stringMatching(/again from the ca\.key beside it: `foedus pki init a --dir pki`/),
      },
    ]);
    const both = folderOf((path) => {
      for (const name of ["ca.pem", "ca.key"]) rmSync(path(`pki/${name}`));
    });
    expect((await examine(both)).findings[0]?.fix).toMatch(/from a peer that has pinned it/);
  });

  test("what is wrong with a variable of the environment is said of the variable, not of the file", async () => {
    const io = { ...ioAt(folderOf(() => undefined)), env: { FOEDUS_LOG_LEVLE: "info", FOEDUS_LISTEN_PORT: "many" } };
    expect(await run(io, [], { json: true })).toBe(1);
    const { findings } = JSON.parse(io.told.join("")) as Examined;
    expect(findings.map(({ subject, message }) => `${subject}: ${message}`)).toEqual([
      "env FOEDUS_LOG_LEVLE: unknown variable; did you mean FOEDUS_LOG_LEVEL, or unset it",
      "listen.port: must be a number (env FOEDUS_LISTEN_PORT)",
    ]);
  });

  test("from elsewhere it looks at the hub that --hub names, and says which file that is", async () => {
    const folder = folderOf(() => undefined);
    const io = { ...ioAt(root), env: { FOEDUS_CONTEXTS: join(folder, ".foedus/contexts.json") } };
    expect(await run(io, [], { hub: "a" })).toBe(0);
    const [file, summary] = io.told.at(-1)!.split("): ");
    expect(file).toBe(`a (${relative(root, join(folder, "hub.json"))}`);
    expect(summary).toMatch(/^0 errors, 1 warning; \d+ things looked at\n$/);
    await expect(run(ioAt(root), [], {})).rejects.toThrow("there is no configuration file");
  });

  test("from elsewhere every command of a fix names the hub that was looked at, as it is reached from there", async () => {
    const folder = folderOf((path) => {
      peers(peer({ host: "127.0.0.1", port: 23, share: "limited" }))(path);
      chmodSync(path("pki/service-hub.key"), 0o644);
      revokedList(path, "pki/operator-viewer.pem", "left");
    });
    const near = relative(root, folder);
    const fixes = async (flags: object, env: Readonly<Record<string, string>> = {}): Promise<string[]> => {
      const io = { ...ioAt(root), env };
      await run(io, [], { json: true, ...flags });
      const { findings } = JSON.parse(io.told.join("")) as Examined;
      return findings.flatMap(({ fix }) => [...fix.matchAll(/`((?:foedus|chmod) [^`]+)`/g)].map(([, command = ""]) => command)).sort();
    };
    const shared = [
      `chmod 600 ${near}/pki/service-hub.key`,
      `foedus hub --config ${near}/hub.json`,
      `foedus pki issue operator viewer --role viewer --force --dir ${near}/pki`,
      `foedus pki issue service hub --force --dir ${near}/pki`,
    ];
    const own = (options: string): string[] =>
      [
        ...shared,
        `foedus peer add b --host <host> --port <port>${options}`,
        `foedus peer add b --share full${options}`,
        `foedus pki list${options}`,
      ].sort();
    expect(await fixes({ config: `${near}/hub.json` })).toEqual(own(` --config ${near}/hub.json`));
    const contexts = join(folder, ".foedus/contexts.json");
    expect(await fixes({ hub: "a" }, { FOEDUS_CONTEXTS: contexts })).toEqual(own(" --hub a"));
    expect(await fixes({ hub: "a", contexts })).toEqual(own(` --hub a --contexts ${near}/.foedus/contexts.json`));
  });

  test("S-18 the disk: little room is a warning, hardly any an error, and a folder of somebody else is one", () => {
    const found = (freeBytes: number, writable = true, open = false): string[] => {
      const ledger = new Ledger();
      lookAtDisk(ledger, "data", { freeBytes, writable, open });
      expect(ledger.looked).toBe(3);
      return ledger.findings.map(({ severity, message }) => `${severity} ${message}`);
    };
    expect(found(2 ** 30)).toEqual([]);
    expect(found(2 ** 28)).toEqual(["warning only 256 MiB are free there"]);
    expect(found(2 ** 20)).toEqual(["error only 1.0 MiB are free there"]);
    expect(found(2 ** 30, false)).toEqual(["error this user may not write there"]);
    expect(found(2 ** 30, true, true)).toEqual([
      "error other users of this machine may read what is in it, and the keys of tokens and feeds are",
    ]);
    const folder = mkdtempSync(join(tmpdir(), "foedus-open-"));
    for (const [mode, open] of [
      [0o700, false],
      [0o750, false],
      [0o755, true],
    ] as const) {
      chmodSync(folder, mode);
      expect(readDisk(folder).open).toBe(open);
    }
    expect(readDisk(join(folder, "absent")).open).toBe(false);
    rmSync(folder, { recursive: true });
  });

  test("for people: errors first, each with what to do, and a sum", async () => {
    const folder = folderOf((path) => chmodSync(path("pki/service-hub.key"), 0o644));
    const io = ioAt(folder);
    expect(await run(io, [], {})).toBe(1);
    expect(io.told.join("")).toMatch(
      /^error {4}pki\/service-hub\.key: others .*\n {9}`chmod 600 .*\nwarning {2}a: it is not running.*\n.*\na \(hub\.json\): 1 error, 1 warning; \d+ things looked at\n$/,
    );
  });
});

describe("foedus peer on files alone", () => {
  const adding = (folder: string, more: object): Promise<unknown> =>
    add(ioAt(folder), ["b"], { ca: "../b/pki/ca.pem", quiet: true, ...more });
  const CA = (): string => readFileSync(join(root, "b/pki/ca.pem"), "utf8");

  test("copies the CA and nothing else of the file, and is idempotent", async () => {
    const folder = folderOf((path) => writeFileSync(path("both.pem"), readFileSync(path("pki/ca.key"), "utf8") + CA()));
    await adding(folder, { ca: "both.pem", host: "127.0.0.1" });
    expect(readFileSync(join(folder, "peers/b.pem"), "utf8").trim()).toBe(CA().trim());
    const text = readFileSync(join(folder, "federation.json"), "utf8");
    expect(JSON.parse(text)).toEqual({ peers: [{ hub_id: "b", host: "127.0.0.1", ca: "peers/b.pem" }] });
    await adding(folder, {});
    expect(readFileSync(join(folder, "federation.json"), "utf8")).toBe(text);
  });

  test.each([
    ["the CA of another hub", { ca: "pki/ca.pem" }, /is the CA of a, not of b/, 4],
    ["a leaf", { ca: "../b/pki/service-hub.pem" }, /holds a leaf/, 2],
    ["a key", { ca: "../b/pki/ca.key" }, /no certificate/, 2],
    ["no file", { ca: "nowhere.pem" }, /cannot be read/, 5],
    ["another digest than expected", { fingerprint: ["00".repeat(32)] }, /not the one you expect/, 4],
    ["a bad host", { host: "http://b" }, /without scheme/, undefined],
    ["a share that hub.json does not define", { share: "ful" }, /no share "ful"; shares are full, limited/, 2],
    ["a bad port", { port: "99999" }, /not a port/, 2],
    ["no CA at all", { ca: undefined }, /CA of b is needed/, 2],
  ])("refuses %s and writes nothing", async (_name, more, says, exitCode) => {
    const folder = folderOf(() => undefined);
    const before = readFileSync(join(folder, "federation.json"), "utf8");
    const error = await adding(folder, more).then(
      () => undefined,
      (thrown: unknown) => thrown as { message: string; exitCode?: number },
    );
    expect(error?.message).toMatch(says);
    expect(error?.exitCode).toBe(exitCode);
    expect(readFileSync(join(folder, "federation.json"), "utf8")).toBe(before);
    expect(() => readFileSync(join(folder, "peers/b.pem"))).toThrow();
  });

  test("a hub is not its own peer, and an empty list says how to get one", async () => {
    const folder = folderOf(() => undefined);
    await expect(add(ioAt(folder), ["a"], { ca: "pki/ca.pem" })).rejects.toThrow("a cannot be its own peer");
    const notes: string[] = [];
    await list({ ...ioAt(folder), note: (text) => void notes.push(text) }, [], {});
    expect(notes[0]).toBe("no peers yet in federation.json: `foedus peer invite` invites one, and `foedus peer accept` takes an invite\n");
  });

  test("trust never widens the share by the way", async () => {
    const folder = folderOf(peers(peer({ share: undefined })));
    await trust(ioAt(folder), ["b", "full"], { quiet: true });
    const entry = (): unknown => (JSON.parse(readFileSync(join(folder, "federation.json"), "utf8")) as { peers: unknown[] }).peers[0];
    expect(entry()).toEqual({ hub_id: "b", ca: "../b/pki/ca.pem", max_trust: "full", share: "limited" });
    await trust(ioAt(folder), ["b", "minimal"], { quiet: true });
    expect(entry()).toEqual({ hub_id: "b", ca: "../b/pki/ca.pem", max_trust: "minimal", share: "limited" });
  });

  test("without --share, a peer is not given a share that hub.json does not define; nothing is written", async () => {
    const folder = folderOf(config((tree) => Object.assign(tree, { registry_sync: { shares: { guests: { nodes: ["*"] } } } })));
    const before = readFileSync(join(folder, "federation.json"), "utf8");
    const refusal = {
      message: 'there is no share "limited", which is the default for this trust ceiling; shares are full, guests',
      exitCode: 2,
    };
    const choose = { ...refusal, remedy: "Choose one with --share, or define it in hub.json first." };
    const guest = encodeInvite({ hubId: "b", host: "127.0.0.1", port: 3, secret: Buffer.alloc(16), caDigest: Buffer.alloc(32) });
    await expect(adding(folder, {})).rejects.toMatchObject(choose);
    await expect(invite(ioAt(folder), [], {})).rejects.toMatchObject(choose);
    await expect(accept(ioAt(folder), [guest], { pin: "123456" })).rejects.toMatchObject(choose);
    expect(readFileSync(join(folder, "federation.json"), "utf8")).toBe(before);
    await adding(folder, { maxTrust: "full" });
    // A ceiling that would bring the share is refused as well; what an entry has already is not in the way of another change.
    const later = { ...refusal, remedy: expect.stringContaining("`foedus peer add b --share <share>`") };
    await expect(trust(ioAt(folder), ["b", "limited"], { quiet: true })).rejects.toMatchObject(later);
    peers(peer({ share: undefined }))((name) => join(folder, name));
    await adding(folder, { host: "127.0.0.1" });
  });
});

test("hub init says that the port is in use now, names another, and makes the hub all the same", async () => {
  const server = createServer();
  const port = await new Promise<number>((done) => server.listen(0, "127.0.0.1", () => done((server.address() as { port: number }).port)));
  const notes: string[] = [];
  await init({ ...ioAt(root), note: (text) => void notes.push(text) }, ["taken"], { port: String(port) });
  server.close();
  expect(notes.join("")).toMatch(
    new RegExp(
      `^port ${port} is already in use on this machine: stop what listens there, or remove \\S+ and make the hub again with --port \\d+\n$`,
    ),
  );
  expect(readFileSync(join(root, "taken/hub.json"), "utf8")).toContain(`"port": ${port}`);
});
