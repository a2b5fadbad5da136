// Simulated devices and new nodes as people use them: the command as a process of its own, against real hubs.
import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Finished, Running, start } from "../../test/cli/fixture.ts";
import { execute, get, number, lamp as realLamp, register, stateOf, text } from "../../test/support/acts.ts";
import { type Clients, Federation, type HubProcess, ROOT, until } from "../../test/support/federation.ts";

/** How long a device may take to be back: it waits at most 10 s between two attempts. */
const BACK_MS = 30_000;

let federation: Federation;
let home: HubProcess;
let operator: Clients;
let factory: Clients;
const running: Running[] = [];

beforeAll(async () => {
  federation = await Federation.start({
    hubs: [
      { id: "home", peers: [{ hub: "factory", maxTrust: "full" }] },
      { id: "factory", peers: [{ hub: "home", maxTrust: "full" }] },
    ],
  });
  await federation.operational();
  home = federation.hub("home");
  operator = home.clients();
  factory = federation.hub("factory").clients();
}, 120_000);
afterEach(async () => {
  for (const { child } of running) child.kill("SIGKILL");
  await Promise.all(running.splice(0).map(({ done }) => done));
});
afterAll(() => federation?.stop());

/** begin starts a command in the folder of the hub home, which has hub.json and no context. */
function begin(args: readonly string[], cwd = home.dir): Running {
  const one = start(args, { cwd });
  running.push(one);
  return one;
}

const foedus = (...args: readonly string[]): Promise<Finished> => begin(args).done;

/** connected starts a simulation and waits until the hub gives it commands. */
async function connected(...args: readonly string[]): Promise<Running> {
  const one = begin(["device", "simulate", ...args]);
  await one.printed("connected");
  return one;
}

/** refusal is the reason for which a command is not done. */
const refusal = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "none",
    (error: { readonly failure?: { readonly reason?: string } }) => error.failure?.reason ?? String(error),
  );

describe("device simulate", () => {
  test("a peer sees the lamp, switches it, and the lamp says who did; ctrl-c takes it out of the registry", async () => {
    const lamp = await connected("lamp");
    await until("the lamp at the factory", async () => stateOf(await get(factory, "home", "lamp"), "state") === "OFF");
    expect((await execute(factory, "home", "lamp", "state", text("ON"))).result?.value?.kind.value).toBe("ON");
    await until("the state at the factory", async () => stateOf(await get(factory, "home", "lamp"), "state") === "ON");
    expect(await refusal(execute(operator, "home", "lamp", "brightness", number(400)))).toBe("VALUE_OUT_OF_RANGE");
    await execute(operator, "home", "lamp", "brightness", number(40));
    await lamp.printed("brightness");
    lamp.child.kill("SIGINT");
    const { code, out, err } = await lamp.done;
    expect(out.replace(/^\d\d:\d\d:\d\d {2}/gm, "")).toBe(
      "connected to home\nstate OFF -> ON  by factory\nbrightness 100 % -> 40 %  by home, its own hub\n",
    );
    expect(err).toMatch(
      /^home\/lamp is a simulated lamp\. [\s\S]*foedus send home\/lamp state ON\n[\s\S]*takes it out of the registry\.\n/,
    );
    expect(err).toMatch(/\nhome\/lamp ends: it answered 2 commands in [^;]+; home no longer has it\n$/);
    expect(code).toBe(0);
    expect(await refusal(get(operator, "home", "lamp"))).toBe("NODE_NOT_FOUND");
    // A key that only its owner reads.
    expect(statSync(home.pki("node-lamp").key).mode & 0o777).toBe(0o600);
  }, 60_000);

  test("it comes back by itself after the hub was killed, and after the hub lost its store", async () => {
    const plug = await connected("plug", "--type", "plug");
    await execute(operator, "home", "plug", "state", text("ON"));
    for (const loses of [false, true]) {
      await home.end("SIGKILL");
      await plug.printed("home is away", "err");
      if (loses) rmSync(join(home.dir, "data"), { recursive: true });
      await home.start();
      const value = loses ? "TOGGLE" : "OFF";
      await until(
        "a command that is answered",
        async () => (await refusal(execute(operator, "home", "plug", "state", text(value)))) === "none",
        BACK_MS,
      );
    }
    expect(stateOf(await get(operator, "home", "plug"), "state")).toBe("ON");
    expect(plug.out.match(/connected to home/g)).toHaveLength(3);
    plug.child.kill("SIGTERM");
    expect((await plug.done).code).toBe(0);
    await federation.operational();
  }, 150_000);

  test("it waits for a hub that does not run, says what to do, and can be stopped meanwhile", async () => {
    const folder = mkdtempSync(join(tmpdir(), "foedus-simulate-"));
    try {
      const here = (...args: string[]): Promise<Finished> => start(args, { cwd: folder }).done;
      expect(await here("hub", "init", "lone", "--dir", ".", "--port", "40")).toMatchObject({ code: 0 });
      const lamp = begin(["device", "simulate"], folder);
      await lamp.printed("If the hub does not run, start it: `foedus hub` in its folder.", "err");
      lamp.child.kill("SIGINT");
      const { code, out, err } = await lamp.done;
      expect([code, out]).toEqual([0, ""]);
      expect(err).toMatch(
        /^foedus: nothing listens at 127\.0\.0\.1:40; trying until it answers\. [^\n]+\nlone\/lamp ends; it was not registered\n$/,
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }, 60_000);

  test("it does not take the place of a real device, and says so if another one takes its own", async () => {
    await register(home.clients("gateway-zigbee"), realLamp("hall"));
    expect(await foedus("device", "simulate", "hall")).toMatchObject({
      code: 1,
      out: "",
      err: "foedus: home has a node hall that is not a simulated one. Give another name: `foedus device simulate <name>`.\n",
    });
    const first = await connected("twin");
    const second = await connected("twin");
    const { code, err } = await first.done;
    expect(code).toBe(1);
    expect(err.split("\n").at(-2)).toMatch(/^foedus: \S.*\.$/);
    await execute(operator, "home", "twin", "state", text("ON"));
    await second.printed("OFF -> ON");
  }, 60_000);

  test("--keep leaves it as offline, with its state; the same name may be simulated again", async () => {
    const one = await connected("kept", "--keep");
    await execute(operator, "home", "kept", "state", text("ON"));
    one.child.kill("SIGINT");
    expect((await one.done).err).toContain("home keeps it, as offline, with its last state");
    await until("it being offline", async () => (await get(operator, "home", "kept"))?.online === false);
    expect(stateOf(await get(operator, "home", "kept"), "state")).toBe("ON");
    (await connected("kept")).child.kill("SIGINT");
  }, 60_000);

  test("--json has a line for each thing, and -q the values", async () => {
    const [one, other] = [await connected("told", "--json"), begin(["device", "simulate", "quiet", "-q"])];
    await execute(factory, "home", "told", "state", text("ON"));
    await refusal(execute(operator, "home", "told", "state", text("DIM")));
    await until("the quiet one", async () => (await refusal(execute(operator, "home", "quiet", "state", text("ON")))) === "none");
    await other.printed("state=ON\n");
    for (const { child } of [one, other]) child.kill("SIGINT");
    const { out, err } = await one.done;
    const lines = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { event: string });
    expect(lines.map(({ event }) => event)).toEqual(["started", "connected", "command", "state", "ended"]);
    expect(lines[2]).toMatchObject({ capability: "state", value: "ON", by: "factory", outcome: "DONE" });
    expect(lines[3]).toMatchObject({ key: "state", value: "ON" });
    expect(err).toBe("");
    expect(await other.done).toMatchObject({ code: 0, out: "state=ON\n", err: "" });
  }, 60_000);

  test("a flood of commands is done, and printed as 20 lines a second and a count", async () => {
    const lamp = await connected("flooded");
    const clients = home.clients();
    await Promise.all(Array.from({ length: 200 }, (_, i) => execute(clients, "home", "flooded", "brightness", number(i % 100))));
    await lamp.printed("more lines)");
    lamp.child.kill("SIGINT");
    const { out, err } = await lamp.done;
    expect(err).toContain("answered 200 commands");
    const lines = out.split("\n");
    expect(lines.length).toBeLessThan(150);
    const told = lines.filter((line) => / by home/.test(line)).length;
    const untold = [...out.matchAll(/\(and (\d+) more line/g)].reduce((sum, [, count]) => sum + Number(count), 0);
    // A brightness may switch the lamp as well, which is a line of its own.
    expect(told + untold).toBeGreaterThanOrEqual(200);
  }, 60_000);
});

describe("on a terminal", () => {
  /** onTerminal runs a command in a terminal of 80 columns that `script` makes. */
  function onTerminal(line: string, env: Readonly<Record<string, string>>): Running {
    const { PATH = "", HOME = "" } = process.env;
    const command = `stty cols 80 rows 24; exec ${process.execPath} ${join(ROOT, "cli/main.ts")} ${line}`;
    const child = spawn("script", ["-qefc", command, "/dev/null"], {
      cwd: home.dir,
      env: { PATH, HOME, ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const one = new Running(child);
    running.push(one);
    return one;
  }

  /** played runs a lamp there, has it switched, and ends it with ctrl-c. */
  async function played(name: string, env: Readonly<Record<string, string>>): Promise<string> {
    const lamp = onTerminal(`device simulate ${name}`, env);
    await lamp.printed("connected");
    await execute(factory, "home", name, "state", text("ON"));
    await lamp.printed("by factory");
    await until("the state", async () => stateOf(await get(operator, "home", name), "state") === "ON");
    lamp.child.stdin?.write("\u0003");
    const { code, out } = await lamp.done;
    expect([code, out]).toEqual([0, expect.stringContaining("home no longer has it")]);
    return out;
  }

  test("its last line shows the lamp as it is, in colours, and is gone at the end", async () => {
    const out = await played("tty-lamp", { TERM: "xterm" });
    expect(out).toContain("\u001b[33m(*)");
    expect(stripVTControlCharacters(out)).toContain("(*) home/tty-lamp   state ON   brightness 100 %   connected   last by factory");
    // After its last picture the line is cleared, and what follows is written in its place.
    expect(out.split("\r\u001b[K").at(-1)).toMatch(/^home\/tty-lamp ends: [^\n]+\r\n$/);
  }, 60_000);

  test("with NO_COLOR there are no colours", async () => {
    const out = await played("plain-lamp", { TERM: "xterm", NO_COLOR: "1" });
    expect(out.split("\u001b").filter((rest) => /^\[[0-9;]*m/.test(rest))).toEqual([]);
    expect(out).toContain("(*) home/plain-lamp");
  }, 60_000);

  test("with TERM=dumb it writes lines and nothing else", async () => {
    const out = await played("dumb-lamp", { TERM: "dumb" });
    expect(out).not.toContain("\u001b");
    expect(out).not.toContain("(*)");
    expect(out).toMatch(/state OFF -> ON {2}by factory/);
  }, 60_000);
});

describe("whose certificate it is", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "foedus-node-"));
    copyFileSync(home.pki("x").ca, join(folder, "ca.pem"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("without the CA's key the certificate is given, or lies beside ca.pem; else it says where to issue one", async () => {
    const there = ["--address", home.address("discovery"), "--ca", "ca.pem"];
    const none = await begin(["device", "simulate", "far", ...there], folder).done;
    expect(none).toMatchObject({ code: 5, out: "" });
    expect(none.err).toMatch(
      /^foedus: \. has no CA that could issue a certificate for far, [^\n]*`foedus pki issue node far`[^\n]*--cert and --key\.\n$/,
    );
    expect(await foedus("pki", "issue", "node", "far")).toMatchObject({ code: 0 });
    const { cert, key } = home.pki("node-far");
    const given = begin(["device", "simulate", "far", ...there, "--cert", cert, "--key", key], folder);
    await given.printed("connected");
    given.child.kill("SIGINT");
    expect((await given.done).code).toBe(0);
    copyFileSync(cert, join(folder, "node-far.pem"));
    copyFileSync(key, join(folder, "node-far.key"));
    const beside = begin(["device", "simulate", "far", ...there], folder);
    await beside.printed("connected");
    beside.child.kill("SIGINT");
    expect((await beside.done).code).toBe(0);
  }, 60_000);

  test("a certificate of another node is refused, and it ends", async () => {
    const { cert, key } = home.pki("node-far");
    const { code, err } = await foedus("device", "simulate", "other", "--cert", cert, "--key", key);
    expect([code, err]).toEqual([4, expect.stringMatching(/\nfoedus: other was refused: [^\n]+\.\n$/)]);
    expect(await foedus("device", "simulate", "other", "--cert", cert)).toMatchObject({ code: 2 });
    expect(await foedus("device", "simulate", "home/other")).toMatchObject({ code: 2, err: expect.stringContaining("node only: other") });
  }, 60_000);

  test("what cannot be reached or read is said with what to do, and nothing is started", async () => {
    const at = ["--address", "127.0.0.1:1"];
    for (const [args, said] of [
      [["--address", "nonsense", "--ca", "ca.pem"], '"nonsense" is not an address. Write host:port'],
      [at, "an address needs --ca. Give the hub's CA"],
      [[...at, "--ca", "none.pem", "--cert", "x.pem", "--key", "x.key"], "none.pem cannot be read. Check the path"],
      [["--hub", "home", ...at], "--hub and --address cannot be used together."],
      [["--type", "fridge"], "Allowed choices are lamp, thermostat, sensor, plug"],
      [["--config", "none.json"], "there is no configuration file"],
    ] as const) {
      const { code, out, err } = await foedus("device", "simulate", ...args);
      expect([args, out, err]).toEqual([args, "", expect.stringContaining(said)]);
      expect([args, code]).toEqual([args, said.startsWith("there is no conf") ? 5 : 2]);
    }
  }, 90_000);

  test("one that was revoked is not used again", async () => {
    expect(await foedus("pki", "issue", "node", "stolen")).toMatchObject({ code: 0 });
    expect((await foedus("pki", "revoke", "node/stolen")).code).toBe(0);
    expect(await foedus("device", "simulate", "stolen")).toMatchObject({ code: 4, err: expect.stringContaining("is revoked") });
  }, 60_000);
});

describe("node add", () => {
  test("prints a program that registers the node and does what it is told; a certificate that is good is kept", async () => {
    const added = await foedus("node", "add", "desk");
    expect(added).toMatchObject({ code: 0, err: expect.stringContaining("was created: pki/node-desk.pem") });
    expect(added.err).toContain("foedus send home/desk state ON\n");
    expect(added.out.trim().split("\n").length).toBeLessThanOrEqual(15);
    const file = join(home.dir, "desk.mjs");
    writeFileSync(file, added.out);
    const program = new Running(spawn(process.execPath, [file], { cwd: home.dir, stdio: ["ignore", "pipe", "pipe"] }));
    running.push(program);
    await until("the desk lamp", async () => (await refusal(execute(factory, "home", "desk", "state", text("ON")))) === "none", BACK_MS);
    await program.printed("ON, by factory");
    await until("its state", async () => stateOf(await get(factory, "home", "desk"), "state") === "ON");
    const again = await foedus("node", "add", "desk", "--json");
    expect(JSON.parse(again.out)).toMatchObject({ hub_id: "home", node_id: "desk", program: added.out });
    expect((await foedus("node", "add", "desk", "-q")).err).toBe("");
    expect(program.err).toBe("");
  }, 90_000);

  test("in Python as well, with each name as one text of the language", async () => {
    const { code, out, err } = await foedus("node", "add", "desk.2", "--language", "python");
    expect([code, err]).toEqual([0, expect.stringMatching(/make -C \S+ packages\n {2}pip install \S+\.whl\n {2}python3 desk\.2\.py\n/)]);
    execFileSync("python3", ["-c", "import ast, sys; ast.parse(sys.stdin.read())"], { input: out });
    expect(out.trim().split("\n").length).toBeLessThanOrEqual(15);
    expect(out).toContain('node_id="desk.2"');
  }, 60_000);

  test("what is no node, or no language, is refused before anything is issued", async () => {
    for (const args of [["a b"], ["home/x"], ["x", "--language", "cobol"], ["../x"]])
      expect([args, await foedus("node", "add", ...args)]).toEqual([args, expect.objectContaining({ code: 2, out: "" })]);
    expect(await foedus("node", "add")).toMatchObject({ code: 2 });
    // The verb that it belongs to is what it was.
    expect(await foedus("node", "add", "--help")).toMatchObject({ code: 0, out: expect.stringContaining("print a program to begin with") });
  }, 60_000);
});

describe("bin/foedus", () => {
  const folder = mkdtempSync(join(tmpdir(), "foedus-bin-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const command = join(ROOT, "bin/foedus");
  const ran = (file: string, env: Readonly<Record<string, string>>): Promise<Finished> =>
    new Running(spawn(file, ["version", "-q"], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] })).done;
  const PATH = "/usr/local/bin:/usr/bin:/bin";

  test("runs from any folder and through symbolic links, also with blanks in their names", async () => {
    const linked = join(folder, "a link");
    execFileSync("ln", ["-s", command, linked]);
    execFileSync("ln", ["-s", "a link", join(folder, "another")]);
    for (const file of [command, linked, join(folder, "another")]) expect(await ran(file, { PATH })).toMatchObject({ code: 0, err: "" });
  });

  test("says what to do where nothing is installed, and where Node is too old or missing", async () => {
    const bare = join(folder, "bare checkout");
    mkdirSync(join(bare, "bin"), { recursive: true });
    copyFileSync(command, join(bare, "bin/foedus"));
    expect(await ran(join(bare, "bin/foedus"), { PATH })).toEqual({
      code: 1,
      out: "",
      err: `foedus: the packages of this checkout are not installed; run \`make setup\` in ${bare}\n`,
    });
    mkdirSync(join(bare, "node_modules/commander"), { recursive: true });
    writeFileSync(join(bare, "node_modules/commander/package.json"), "{}");
    const old = join(folder, "old");
    mkdirSync(old);
    writeFileSync(join(old, "node"), '#!/bin/sh\n[ "$1" = --version ] && echo v18.20.4\nexit 1\n', { mode: 0o755 });
    const tools = join(folder, "tools");
    mkdirSync(tools);
    for (const name of ["sh", "dirname", "readlink"])
      execFileSync("ln", ["-s", execFileSync("which", [name], { encoding: "utf8" }).trim(), join(tools, name)]);
    const needs = (found: string): Finished => ({
      code: 1,
      out: "",
      err: `foedus: it needs Node 24 or newer, and finds ${found}; run \`make setup\` in ${bare}, or install Node 24\n`,
    });
    expect(await ran(join(bare, "bin/foedus"), { PATH: `${old}:${tools}` })).toEqual(needs("Node v18.20.4"));
    expect(await ran(join(bare, "bin/foedus"), { PATH: tools })).toEqual(needs("none"));
    // A new one of the machine is used where none comes with the project.
    mkdirSync(join(bare, "cli"));
    writeFileSync(join(bare, "cli/main.ts"), "console.log(process.argv[2]);");
    expect(await ran(join(bare, "bin/foedus"), { PATH: `${join(ROOT, "node_modules/.bin")}:${tools}` })).toMatchObject({
      code: 0,
      out: "version\n",
    });
    expect(readFileSync(command, "utf8").startsWith("#!/bin/sh\n")).toBe(true);
  });
});
