// A hub that cannot start says what is wrong and what to do, in one sentence, with an exit code, and never with a stack.

import { type ChildProcess, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { RELEASED_AT_WALL } from "#runtime/clock.ts";
import { type Finished, type Running, start } from "../cli/fixture.ts";
import { ROOT } from "../support/federation.ts";
import { isRunning } from "../support/processes.ts";
import { SHIFT_VARIABLE } from "../support/shifted-clock.ts";
import { GivenUp, until } from "../support/until.ts";
import { type Credential, type TestHub, testHub } from "../testca/index.ts";

const HOST = `127.${1 + (process.pid % 250)}.${1 + (Math.floor(process.pid / 250) % 250)}.200`;
const OPS_PORT = 18_810;

let hub: TestHub;
let folder: string;
const running: Running[] = [];
const servers: Server[] = [];

beforeAll(async () => {
  hub = await testHub("home");
});

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-startup-"));
  put(hub.service("hub", { ips: [HOST] }));
  config({});
});

afterEach(async () => {
  for (const { child, done } of running.splice(0)) {
    if (isRunning(child)) child.kill("SIGKILL");
    await done;
  }
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
  rmSync(folder, { recursive: true, force: true });
});

/** put writes a credential where the configuration looks for it. */
function put(credential: Credential): void {
  writeFileSync(join(folder, "ca.pem"), credential.caPem);
  writeFileSync(join(folder, "hub.pem"), credential.certificatePem);
  writeFileSync(join(folder, "hub.key"), credential.keyPem, { mode: 0o600 });
}

/** config writes the configuration; `over` replaces whole sections of one that works. */
function config(over: Readonly<Record<string, unknown>>): void {
  const good = {
    hub_id: "home",
    data_dir: "data",
    listen: { host: HOST, port: 0 },
    ops: { host: HOST, port: OPS_PORT },
    tls: { ca: "ca.pem", cert: "hub.pem", key: "hub.key", reload_ms: 100 },
    log: { destination: "hub.log" },
  };
  writeFileSync(join(folder, "hub.json"), JSON.stringify({ ...good, ...over }));
}

/** launch starts the hub as an operator does. */
function launch(env: Readonly<Record<string, string>> = {}, ...more: readonly string[]): Running {
  const started = start(["hub", "--config", join(folder, "hub.json"), ...more], { cwd: folder, env });
  running.push(started);
  return started;
}

/** refused runs a hub that must not come up, and checks what all such ends have in common. */
async function refused(env: Readonly<Record<string, string>> = {}): Promise<Finished> {
  const end = await launch(env).done;
  expect(end.out).toBe("");
  expect(end.err).toMatch(/^foedus: /);
  expect(end.err).not.toMatch(/^\s+at /m);
  expect(end.err).not.toMatch(/unexpected error|internal error|\[object/);
  return end;
}

/** taken occupies a port, and answers which. */
async function taken(): Promise<number> {
  const server = createServer();
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** answering waits until a hub of this folder answers at its ops port, and fails at once when it ends. */
function answering(started: Running, page: string, holds: (answer: Response) => boolean): Promise<Response> {
  return until(
    `the hub answering ${page}`,
    async () => {
      if (!isRunning(started.child)) throw new GivenUp(`the hub ended: ${(await started.done).err}`);
      const answer = await fetch(`http://${HOST}:${OPS_PORT}${page}`);
      return holds(answer) && answer;
    },
    60_000,
  );
}

/** up waits until a hub of this folder is ready. */
async function up(started: Running): Promise<void> {
  await answering(started, "/readyz", ({ ok }) => ok);
}

async function stop(child: ChildProcess, done: Promise<Finished>): Promise<Finished> {
  child.kill("SIGTERM");
  return done;
}

describe("a configuration that is wrong", () => {
  test("lists every problem at once: an unknown key with the nearest known one, a wrong type, a value out of bounds, a bad name", async () => {
    config({ hub_id: "Home Hub", listen: { host: HOST, port: 70_000 }, data_dirr: "x", tls: { ca: "ca.pem", cert: "hub.pem", key: 7 } });
    const { code, err } = await refused({ FOEDUS_STOP_GRACE_MS: "soon" });
    expect(code).toBe(2);
    expect(err).toContain("configuration is not valid");
    expect(err).toMatch(/data_dirr: unknown key; did you mean data_dir\? \(file .*hub\.json\)/);
    expect(err).toMatch(/hub_id: must be a DNS label.*\(file /);
    expect(err).toMatch(/listen\.port: .*65535.*\(file /);
    expect(err).toMatch(/tls\.key: must be a text \(file /);
    expect(err).toMatch(/stop_grace_ms: .*number.*\(env FOEDUS_STOP_GRACE_MS\)/);
  });

  test.each([
    ["not JSON", "{ hub_id: home }", /it is not JSON: .*line 1, column 3/],
    ["not an object", "[]", /it must hold one JSON object/],
    ["empty", "", /it is empty and must hold JSON/],
  ])("%s", async (_name, content, message) => {
    writeFileSync(join(folder, "hub.json"), content);
    const { code, err } = await refused();
    expect(err).toMatch(message);
    expect(err).toContain("hub.json");
    // Nothing is said of fields that could not be read.
    expect(err).not.toContain("hub_id");
    expect(code).toBe(2);
  });

  test("a configuration file that is not there", async () => {
    rmSync(join(folder, "hub.json"));
    const { code, err } = await refused();
    expect(err).toMatch(/^foedus: there is no configuration file \S+hub\.json\. Go to the hub's folder, [^\n]+\n$/);
    expect(code).toBe(2);
  });

  test("D-12 a federation file with mistakes names them all", async () => {
    config({ federation_config_path: "federation.json" });
    writeFileSync(
      join(folder, "federation.json"),
      JSON.stringify({
        peers: [
          { hub_id: "home", ca: "ca.pem" },
          { hub_id: "lab", ca: "nowhere.pem", prt: 1 },
        ],
      }),
    );
    const { code, err } = await refused();
    expect(err).toMatch(/peers\[1\]\.prt: is not known; did you mean port\?/);
    expect(err).toMatch(/peers\[1\]\.ca: .*no such file.*nowhere\.pem/);
    expect(err).toMatch(/peers\[0\]\.hub_id: is this hub itself \(file .*federation\.json\)/);
    expect(code).toBe(2);
  });
});

describe("ports that are taken", () => {
  test("the gRPC port", async () => {
    const port = await taken();
    config({ listen: { host: HOST, port } });
    const { code, err } = await refused();
    expect(err).toContain(`port ${port} on ${HOST} is already in use; stop the other program or choose another port with listen.port`);
    expect(code).toBe(1);
  });

  test("the ops port", async () => {
    const port = await taken();
    config({ ops: { host: HOST, port } });
    const { code, err } = await refused();
    expect(err).toContain(`ops port ${port} on ${HOST} is taken; stop the other program or choose another port`);
    expect(code).toBe(1);
  });

  test("both ports: each is named, with its field", async () => {
    const [port, ops] = [await taken(), await taken()];
    config({ listen: { host: HOST, port }, ops: { host: HOST, port: ops } });
    const { code, err } = await refused();
    expect(err).toMatch(
      new RegExp(`^foedus: port ${port} on .* another port with listen\\.port\\. Its ops port ${ops} .* with ops\\.port`),
    );
    expect(code).toBe(1);
  });

  test("an address that this machine does not have", async () => {
    config({ listen: { host: "192.0.2.1", port: 0 } });
    const { err, code } = await refused();
    expect(err).toMatch(/192\.0\.2\.1 is not an address of this machine/);
    expect(code).not.toBe(0);
  });
});

describe("certificates and keys that are no good", () => {
  const broken: readonly (readonly [string, () => void | Promise<void>, RegExp])[] = [
    ["no key file", () => rmSync(join(folder, "hub.key")), /private key .*hub\.key: it does not exist; create it/],
    ["no certificate file", () => rmSync(join(folder, "hub.pem")), /certificate .*hub\.pem: it does not exist; create it/],
    [
      "a folder where the key should be",
      () => {
        rmSync(join(folder, "hub.key"));
        mkdirSync(join(folder, "hub.key"));
      },
      /hub\.key: it is a folder and not a file; correct the path/,
    ],
    [
      "a key that is none",
      () => writeFileSync(join(folder, "hub.key"), "hello"),
      /private key cannot be read; it must be unencrypted PEM .*hub\.key/,
    ],
    ["a certificate that is none", () => writeFileSync(join(folder, "hub.pem"), "hello"), /no certificate in the PEM.*hub\.pem/],
    [
      "the key of another certificate",
      async () => writeFileSync(join(folder, "hub.key"), (await hub.otherAuthority()).authority.keyPem, { mode: 0o600 }),
      /certificate and the private key do not belong together .*hub\.pem.*hub\.key/,
    ],
    ["an expired certificate", () => put(hub.expired()), /certificate expired at .*; renew it .*hub\.pem/],
    ["a certificate of next week", () => put(hub.notYetValid()), /certificate is not valid before .*; check the clock/],
    ["a certificate with two URI names", () => put(hub.twoUris()), /no single URI of the form spiffe:\/\/<hub>\/<kind>\/<name>/],
    ["no CA file", () => rmSync(join(folder, "ca.pem")), /cannot read the CA certificates .*ca\.pem; correct tls\.ca/],
    [
      "a CA file without a certificate",
      () => writeFileSync(join(folder, "ca.pem"), "hello"),
      /ca\.pem holds no certificate; tls\.ca must name/,
    ],
    [
      "a CA file with garbage in it",
      () => writeFileSync(join(folder, "ca.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
      /ca\.pem.*(cannot be read|PEM)/,
    ],
    ["a certificate of another hub", async () => put((await testHub("lab")).service("hub")), /spiffe:\/\/lab\/service\/hub.*home/],
    ["a certificate of a gateway", () => put(hub.gateway()), /spiffe:\/\/home\/gateway\/gateway-1.*service/],
    [
      "a certificate of another CA",
      async () => writeFileSync(join(folder, "ca.pem"), (await hub.otherAuthority()).caPem),
      /not signed by.*ca\.pem/,
    ],
  ];

  test.each(broken)("%s", async (_name, breakIt, message) => {
    await breakIt();
    const { code, err } = await refused();
    expect(err).toMatch(message);
    expect(code).toBe(1);
  });

  const nobody = unprivileged();
  test.skipIf(nobody === undefined)("a key that this user may not read (skipped where files cannot be kept from this user)", async () => {
    chmodSync(folder, 0o755);
    chmodSync(join(folder, "hub.key"), 0o000);
    config({ log: { destination: "stderr" } });
    const end = spawnSync(process.execPath, [join(ROOT, "cli/main.ts"), "hub", "--config", join(folder, "hub.json")], {
      ...nobody,
      encoding: "utf8",
      env: {},
    });
    expect(end.stderr).toMatch(/hub\.key: this user may not read it; give it to the user that runs the hub \(chown\) with mode 0600/);
    expect(end.status).toBe(1);
  });
});

/** unprivileged gives spawn options of a user from whom files can be kept; undefined where root cannot run the project as somebody else. */
function unprivileged(): { readonly uid?: number; readonly gid?: number } | undefined {
  if (process.getuid?.() !== 0) return {};
  const somebody = { uid: 65_534, gid: 65_534 };
  const probe = spawnSync(process.execPath, [join(ROOT, "cli/main.ts"), "version"], { ...somebody, env: {} });
  return probe.status === 0 ? somebody : undefined;
}

describe("a data folder that is no good", () => {
  test("in use by another hub", async () => {
    config({ listen: { host: HOST, port: 0 } });
    const first = launch();
    await up(first);
    config({ listen: { host: HOST, port: 0 }, ops: { host: HOST, port: 0 } });
    const { code, err } = await refused();
    expect(err).toMatch(
      /another process uses .*data\/[a-z-]+\.sqlite: this hub runs already, or .*; stop it, or give this hub its own data folder/,
    );
    expect(code).toBe(1);
    // With the same ports as well, as by a second `foedus hub`: it is not sent to look for another port.
    config({ listen: { host: HOST, port: 0 } });
    const twice = await refused();
    expect(twice.err).toMatch(/^foedus: home runs already: another process uses its data folder \S+ and has ops port \d+/);
    expect(twice.code).toBe(1);
    expect((await fetch(`http://${HOST}:${OPS_PORT}/readyz`)).ok).toBe(true);
    expect(await stop(first.child, first.done)).toMatchObject({ code: 0 });
  });

  test("that cannot be written", async () => {
    writeFileSync(join(folder, "data"), "a file, not a folder");
    const { code, err } = await refused();
    expect(err).toMatch(/cannot (?:read|write) .*data\/hub\.incarnation/);
    expect(err).toMatch(/data_dir|give it to the user/);
    expect(code).toBe(1);
  });

  const stores = ["registry-sync", "command-forwarding", "discovery", "telemetry"] as const;

  test.each(stores)("a store of %s that newer software wrote", async (name) => {
    await filled();
    const db = new DatabaseSync(join(folder, `data/${name}.sqlite`));
    db.exec("PRAGMA user_version = 999");
    db.close();
    const { code, err } = await refused();
    expect(err).toMatch(
      new RegExp(
        `data/${name}\\.sqlite was written by newer software \\(format 999, this one knows \\d+\\); run that version or restore a backup`,
      ),
    );
    expect(code).toBe(1);
  });

  test.each(stores)("a store of %s that is damaged", async (name) => {
    await filled();
    writeFileSync(join(folder, `data/${name}.sqlite`), Buffer.alloc(8_192, "not a database "));
    const { code, err } = await refused();
    expect(err).toMatch(new RegExp(`data/${name}\\.sqlite is damaged or not a store; restore a backup or move it away`));
    expect(code).toBe(1);
  });

  test("a feed key that is damaged", async () => {
    await filled();
    writeFileSync(join(folder, "data/feed-key.json"), "{}");
    const { code, err } = await refused();
    expect(err).toMatch(/feed key file .*feed-key\.json is damaged; restore it from a backup/);
    expect(code).toBe(1);
  });

  let kept: string;
  beforeAll(() => {
    kept = mkdtempSync(join(tmpdir(), "foedus-startup-kept-"));
  });
  afterAll(() => rmSync(kept, { recursive: true, force: true }));

  /** filled gives the folder the data of a hub that ran before; the first call runs one. */
  async function filled(): Promise<void> {
    const files = readdirSync(kept);
    if (files.length === 0) {
      const first = launch();
      await up(first);
      expect(await stop(first.child, first.done)).toMatchObject({ code: 0 });
      for (const file of readdirSync(join(folder, "data"))) writeFileSync(join(kept, file), readFileSync(join(folder, "data", file)));
      return;
    }
    mkdirSync(join(folder, "data"));
    for (const file of files) writeFileSync(join(folder, "data", file), readFileSync(join(kept, file)), { mode: 0o600 });
  }
});

describe("a clock that is not set", () => {
  test("in 1970 the hub lives, says so, serves nobody, and comes up by itself when the clock is right", async () => {
    const shift = join(folder, "shift.json");
    const from1970 = (wallMs: number): void => writeFileSync(shift, JSON.stringify({ wallMs }));
    from1970(-systemClock.wall());
    config({ log: { destination: "stderr" } });
    const started = launch({ [SHIFT_VARIABLE]: shift, NODE_OPTIONS: `--import=${join(ROOT, "test/support/shifted-clock.ts")}` });
    const answer = await answering(started, "/healthz", () => true);
    expect(answer.status).toBe(200);
    const ready = await fetch(`http://${HOST}:${OPS_PORT}/readyz`);
    expect(ready.status).toBe(503);
    expect(await ready.text()).toContain("the clock of this machine is not set");
    await until("the error in the log", () => started.err.includes("clock is not set; waiting for it"));
    expect(started.err).toContain('"level":"error"');
    expect(started.err).toContain("CLOCK_NOT_SET");
    expect(started.out).toBe("");
    expect(existsSync(join(folder, "data"))).toBe(false);
    // A little after the release is enough: what is plausible does not depend on an exact clock, the certificates do.
    expect(systemClock.wall()).toBeGreaterThan(RELEASED_AT_WALL);
    from1970(0);
    await up(started);
    expect(await stop(started.child, started.done)).toMatchObject({ code: 0 });
  }, 60_000);

  test("stopping while it waits is a clean stop", async () => {
    const shift = join(folder, "shift.json");
    writeFileSync(shift, JSON.stringify({ wallMs: -systemClock.wall() }));
    const started = launch({ [SHIFT_VARIABLE]: shift, NODE_OPTIONS: `--import=${join(ROOT, "test/support/shifted-clock.ts")}` });
    await answering(started, "/healthz", () => true);
    expect(await stop(started.child, started.done)).toMatchObject({ code: 0, out: "" });
  }, 60_000);
});
