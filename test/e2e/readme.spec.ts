// Every command of the README is run here, as it stands there, against `make up` without a terminal.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT, SERVICES, until } from "../support/federation.ts";
import { tool } from "../support/tools.ts";
import { GivenUp } from "../support/until.ts";

const README = readFileSync(join(ROOT, "README.md"), "utf8");

interface Section {
  readonly title: string;
  readonly commands: readonly string[];
  readonly json: readonly string[];
}

/** sections takes the README apart: the commands of its sh blocks, continued lines joined and comments left out, and its JSON. */
function sections(): ReadonlyMap<string, Section> {
  const found = README.split(/^## /m)
    .slice(1)
    .map((text): Section => {
      const blocks = [...text.matchAll(/^```(sh|json)\n([\s\S]*?)^```/gm)];
      const lines = blocks
        .filter(([, language]) => language === "sh")
        .flatMap(([, , body]) => body!.replaceAll("\\\n", " ").split("\n"))
        .map((line) => line.replace(/\s+# .*$/, "").trim());
      return {
        title: text.slice(0, text.indexOf("\n")),
        commands: lines.filter((line) => line !== ""),
        json: blocks.flatMap(([, language, body]) => (language === "json" ? [body!] : [])),
      };
    });
  return new Map(found.map((section) => [section.title, section]));
}

const SECTIONS = sections();
const TWO = SECTIONS.get("Two commands")!;
const FIVE = SECTIONS.get("Five minutes to a first federated command")!;
const DEVICE = SECTIONS.get("Connect a device")!;
const OWN = SECTIONS.get("Run a hub of your own")!;
const WATCH = SECTIONS.get("Watch it")!;
const ALIAS = FIVE.commands[0]!;
/** The program of a device. */
const [, LAMP = ""] = /^```ts\n([\s\S]*?)^```/m.exec(README) ?? [];

/** Started is a command that runs, with its output so far. */
class Started {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  text = "";
  /** True when it has ended and all that it printed is in `text`. */
  #closed = false;

  constructor(command: string, args: readonly string[], options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv }) {
    this.child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout!, this.child.stderr!])
      stream.setEncoding("utf8").on("data", (text: string) => (this.text += text));
    this.ended = new Promise((resolve) =>
      this.child.once("close", (code) => {
        this.#closed = true;
        resolve(code);
      }),
    );
  }

  async prints(words: string, timeoutMs = 20_000): Promise<void> {
    const here = (): boolean => {
      if (this.text.includes(words)) return true;
      if (this.#closed) throw new GivenUp(`it ended with ${this.child.exitCode ?? this.child.signalCode}`);
      return false;
    };
    await until(`"${words}" being printed`, here, timeoutMs).catch((error: unknown) => {
      throw new Error(`${String(error)}; it printed:\n${this.text.slice(-2_000)}`, { cause: error });
    });
  }
}

/** aliased runs a line as a person's shell would after the README's alias, which is defined in the project's folder. */
function aliased(line: string): string[] {
  return ["-c", `cd '${ROOT}'\nshopt -s expand_aliases\n${ALIAS}\ncd "$OLDPWD"\n${line}`];
}

/** Without `exec`, a signal would end the shell and not the command. */
const replaced = (line: string): string => line.replace(/^foedus /, `exec ${ROOT}/node_modules/.bin/node ${ROOT}/cli/main.ts `);

describe("the README", () => {
  test("has commands in these sections and nowhere else, so that none is left out here", () => {
    const with_ = [...SECTIONS.values()].filter(({ commands }) => commands.length > 0).map(({ title }) => title);
    // test/chart/cluster.spec.ts runs those of the last one, against an API server.
    expect(with_).toEqual([TWO.title, FIVE.title, DEVICE.title, OWN.title, WATCH.title, "Deploy"]);
    expect([TWO, FIVE, DEVICE, OWN, WATCH].map(({ commands }) => commands.length)).toEqual([2, 12, 4, 22, 5]);
  });

  test("names only files that exist", () => {
    const links = [...README.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1]!);
    expect(links.length).toBeGreaterThan(5);
    const missing = links.filter((link) => spawnSync("test", ["-e", join(ROOT, link)]).status !== 0);
    expect(missing).toEqual([]);
  });

  test("names only targets that `make` lists, and they run what is tested here", () => {
    const help = execFileSync("make", [], { cwd: ROOT, encoding: "utf8" });
    const named = [...README.matchAll(/(?:^|`)make ([a-z-]+)/gm)].map((match) => match[1]!);
    expect(named).toEqual(expect.arrayContaining(["up", "test", "down"]));
    expect(named.filter((target) => !help.includes(`  make ${target} `))).toEqual([]);
    const plan = (target: string): string => execFileSync("make", ["-n", target], { cwd: ROOT, encoding: "utf8" }).trim();
    expect([plan("up"), plan("down"), plan("test")].map((text) => text.split("\n").at(-1))).toEqual([
      "node test/demo/up.ts",
      "node test/demo/down.ts",
      "node test/run.ts",
    ]);
  });
});

describe("`make up` without a terminal", () => {
  const dir = mkdtempSync(join(tmpdir(), "foedus-demo-"));
  // Ports below the ephemeral ones, apart from those of other specs.
  const port = 24_100 + (process.pid % 80) * 64;
  const env = { ...process.env, FOEDUS_DEMO_DIR: dir, FOEDUS_DEMO_PORT: String(port), FOEDUS_CONTEXTS: join(dir, "contexts.json") };
  let up: Started;

  const run = (line: string): string => execFileSync("bash", aliased(line), { cwd: ROOT, env, encoding: "utf8", timeout: 20_000 });

  beforeAll(async () => {
    up = new Started(process.execPath, ["test/demo/up.ts"], { cwd: ROOT, env });
    await up.prints("it stays up", 150_000);
  }, 160_000);
  afterAll(async () => {
    try {
      // Killed alone, it would leave its hubs behind. After the last test there is nothing to stop.
      execFileSync(process.execPath, ["test/demo/down.ts"], { cwd: ROOT, env, timeout: 60_000 });
    } finally {
      up.child.kill("SIGKILL");
      await up.ended;
      rmSync(dir, { recursive: true, force: true });
    }
  }, 90_000);

  test("prints the tour in words and then what to type", () => {
    for (const words of [
      "OPERATIONAL",
      "4516 published device definitions",
      "DONE in",
      "the lab saw the state change",
      "LIMITED",
      "founded the federation street",
      "verified offline, and with one bit changed refused",
      "an audit of all hubs finds nothing",
      "SIGKILL",
      "the tour is over",
    ])
      expect(up.text).toContain(words);
    const [, sent, counted] = /it was sent (\d+) commands and counted (\d+)\n/.exec(up.text) ?? [];
    expect(Number(sent)).toBeGreaterThan(200);
    expect(counted).toBe(sent);
    expect(up.text).toContain("foedus send factory/demo-lamp state ON --hub home");
    // What is printed is there: `make tools` may not have been run.
    expect(up.text.includes(`localhost:${port} list`)).toBe(existsSync(join(ROOT, ".tools/bin/grpcurl")));
    for (const [, program = ""] of up.text.matchAll(/^ +(\S*\/\S+) .*-cert/gm)) expect(existsSync(join(ROOT, program)), program).toBe(true);
  });

  test("a second one says that the first runs, and leaves it alone; taken ports are told without a log of some other time", () => {
    const second = spawnSync(process.execPath, ["test/demo/up.ts"], { cwd: ROOT, env, encoding: "utf8", timeout: 30_000 });
    expect(second).toMatchObject({ status: 1, stdout: "" });
    expect(second.stderr).toMatch(/^make up failed: it runs here already, as process \d+: .* `make down` first\n$/);
    expect(up.child.exitCode).toBeNull();
    const elsewhere = { ...env, FOEDUS_DEMO_DIR: join(dir, "other") };
    const taken = spawnSync(process.execPath, ["test/demo/up.ts"], { cwd: ROOT, env: elsewhere, encoding: "utf8", timeout: 30_000 });
    expect(taken).toMatchObject({ status: 1, stdout: "" });
    expect(taken.stderr).toMatch(/^make up failed: ports [\d, ]+ on this machine are in use; .*\n$/);
  });

  const shown: Readonly<Record<string, RegExp>> = {
    "foedus peers --hub home": /factory +operational[\s\S]*lab +operational/,
    "foedus nodes --hub home --hub-id factory --type light": /demo-lamp/,
    "foedus node factory/demo-lamp --hub home": /brightness/,
    "foedus send factory/demo-lamp state ON --hub home": /DONE/i,
    "foedus events --hub factory": /link to home/,
    "foedus federation members --hub lab": /factory +(leader|voter)[\s\S]*home +(leader|voter)[\s\S]*lab +(leader|voter)/,
    "foedus agents list --hub home": /counter +factory/,
    "foedus doctor --hub home": /^home \(\S+\/home\/hub\.json\): 0 errors/m,
  };
  const plain = FIVE.commands.filter((line) => line.startsWith("foedus ") && !line.startsWith("foedus watch"));

  test.each(plain)("%s", (line) => {
    expect(shown[line]).toBeDefined();
    expect(run(line)).toMatch(shown[line]!);
  });

  test("foedus watch shows the change until ctrl-c", async () => {
    const [line] = FIVE.commands.filter((command) => command.startsWith("foedus watch"));
    const watch = new Started("bash", aliased(replaced(line!)), { cwd: ROOT, env });
    await watch.prints("watching for changes");
    const before = watch.text.length;
    run("foedus send factory/demo-lamp brightness 17 --hub home");
    await until("the change", () => watch.text.slice(before).includes("17"));
    watch.child.kill("SIGINT");
    expect(await watch.ended).toBe(0);
  }, 40_000);

  /** withPki runs a line after the one that says where the certificates are: here below the demo's folder, and the hub at our port. */
  const [pki, curl] = FIVE.commands.slice(-2) as [string, string];
  const withPki = (line: string): string => {
    const script = `${pki.replace("certs/dev", `'${dir}'/certs`)}\n${line.replaceAll("18800", String(port))}`;
    return execFileSync("bash", ["-c", script], { cwd: ROOT, encoding: "utf8", timeout: 30_000 });
  };

  test("buf curl, with the certificates that the demo issued", () => {
    expect([pki, curl.split(" ").slice(0, 2).join(" ")]).toEqual(["pki=certs/dev/home", "node_modules/.bin/buf curl"]);
    expect(JSON.parse(withPki(curl))).toMatchObject({ result: { outcome: "OUTCOME_DONE", value: { stringValue: "OFF" } } });
  }, 40_000);

  const grpcurl = tool("grpcurl");
  test.skipIf(grpcurl.reason !== undefined)("grpcurl lists the services", () => {
    const [, line = ""] = /`(\.tools\/bin\/grpcurl [^`]+)`/.exec(README) ?? [];
    expect(withPki(line.replace(".tools/bin/grpcurl", grpcurl.path))).toContain("foedus.registry_sync.v1alpha1.RegistrySyncService");
  });

  test("a device of one's own: sixteen lines, a certificate, and it does what it is told", async () => {
    expect(LAMP.trim().split("\n").length).toBeLessThanOrEqual(16);
    const [issue, start, send, show] = DEVICE.commands as [string, string, string, string];
    expect(start).toBe("node_modules/.bin/node lamp.ts");
    const here = (text: string): string => text.replace("certs/dev", `${dir}/certs`).replace("18800", String(port));
    run(here(issue));
    // As a file in the project's folder would be, without one: its imports are looked up from where it is started.
    const begin = (text: string): Started =>
      new Started(process.execPath, ["--input-type=module-typescript", "-e", text], { cwd: ROOT, env });
    // README: it waits for a hub. Where none runs it says so, in a sentence and without a stack.
    const lost = begin(here(LAMP).replace(String(port), "1"));
    await lost.prints("nothing listens at localhost:1 (trying again)");
    lost.child.kill("SIGINT");
    await lost.ended;
    expect(lost.text).not.toMatch(/^ +at /m);
    const lamp = begin(here(LAMP));
    try {
      await until("the lamp being there", () => {
        if (lamp.child.exitCode !== null) throw new GivenUp(lamp.text);
        return spawnSync("bash", aliased(send), { cwd: ROOT, env, timeout: 20_000 }).status === 0;
      });
      await lamp.prints("now ON");
      expect(lamp.text.split("\n")).toEqual(["connected", "now ON", ""]);
      await until("its state", () => /state +string .* ON/.test(run(show)));
      // README: a second one takes its place, and it does not stay, deaf.
      const second = begin(here(LAMP));
      try {
        await second.prints("connected");
        expect(await lamp.ended).toBe(1);
        expect(lamp.text).toMatch(/^connected\nnow ON\n[^\n]+ \(giving up\)\n$/);
      } finally {
        second.child.kill("SIGINT");
        await second.ended;
      }
    } finally {
      lamp.child.kill("SIGINT");
      await lamp.ended;
    }
  }, 60_000);

  test("metrics, readiness and status are at the addresses that it prints", async () => {
    for (const [page, words] of [
      ["readyz", "ready"],
      ["metrics", "grpc_server_handled_total"],
      ["statusz", "hub=home"],
    ])
      expect(await (await fetch(`http://127.0.0.1:${port + 10}/${page}`)).text()).toContain(words);
  });

  test("it stays up until `make down`, which stops every hub", async () => {
    expect(up.child.exitCode).toBeNull();
    const down = execFileSync(process.execPath, ["test/demo/down.ts"], { cwd: ROOT, env, encoding: "utf8", timeout: 30_000 });
    expect(down).toBe("all hubs stopped\n");
    expect(await up.ended).toBe(0);
    for (const offset of [10, 30, 50]) await expect(fetch(`http://127.0.0.1:${port + offset}/readyz`)).rejects.toThrow();
  }, 40_000);
});

describe("a hub of one's own", () => {
  const dir = mkdtempSync(join(tmpdir(), "foedus-own-"));
  // An address of our own, so that the README's ports are free.
  const host = `127.${1 + (process.pid % 250)}.${1 + (Math.floor(process.pid / 250) % 250)}.201`;
  const everyService = SERVICES.map((name) => [`FOEDUS_SERVICES_${name.replace("-", "_").toUpperCase()}_HOST`, host]);
  const env = { ...process.env, ...Object.fromEntries(everyService), FOEDUS_OPS_HOST: host };
  const own = join(dir, "my-hub");
  const partner = join(dir, "partner");
  const run = (line: string, cwd: string): string => execFileSync("bash", aliased(line), { cwd, env, encoding: "utf8", timeout: 60_000 });
  /** What `hub init` wrote for this machine is for our address of it; a hub that is told to others by a name stays at that name. */
  const atOurAddress = (folder: string): void => {
    for (const file of ["hub.json", ".foedus/contexts.json"].map((name) => join(folder, name)))
      writeFileSync(file, readFileSync(file, "utf8").replaceAll("127.0.0.1", host));
  };

  /** Terminals of the section: each after the first begins with the alias, and stays in the folder that it goes to. */
  const [first, second, third, fourth, fifth] = OWN.commands
    .join("\n")
    .split(`\n${ALIAS}\n`)
    .map((text) => text.split("\n")) as [string[], string[], string[], string[], string[]];
  const [down, init, cd, hub] = first as [string, string, string, string];
  const [cdForInvite, status, invite] = second as [string, string, string];
  const [partnerInit, cdPartner, partnerHub] = third as [string, string, string];
  const [cdForAccept, given, accept, doctor] = fourth as [string, string, string, string];
  const [issue, lamp, nodes, send] = fifth as [string, string, string, string];

  test("is set up in one terminal after `make down`, and each other one gets the alias and goes to its folder", () => {
    expect([first, second, third, fourth, fifth].map(({ length }) => length)).toEqual([4, 3, 3, 4, 4]);
    expect(down).toBe("make down");
    expect([cd, cdForInvite, cdPartner, cdForAccept]).toEqual(["cd my-hub", "cd my-hub", "cd partner", "cd partner"]);
  });

  beforeAll(() => {
    run(init, dir);
    atOurAddress(own);
  }, 120_000);
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  /** shareLamp: README: a device of ours, a rule for it in a file, and the partner sees and switches it; without the rule it is gone. */
  async function shareLamp(begin: (line: string, cwd: string) => Started): Promise<void> {
    run(issue, dir);
    const [, args = ""] = /^node_modules\/\.bin\/node lamp\.ts (.*)$/.exec(lamp) ?? [];
    const program = join(dir, "program.ts");
    // As a file in the project's folder would be, without one there.
    writeFileSync(program, LAMP.replace("localhost", host));
    const line = `cd '${ROOT}' && exec node_modules/.bin/node --input-type=module-typescript - ${args.replace("my-hub/pki", join(own, "pki"))} <'${program}'`;
    await begin(line, dir).prints("connected");
    const file = join(own, "hub.json");
    const before = readFileSync(file, "utf8");
    writeFileSync(file, before.replace("{", `{ ${OWN.json[0]},`));
    await until("the lamp being shown to the partner", () => run(nodes, partner).includes("my-lamp"));
    const [, why = ""] = /`(foedus share test [^`]+)`/.exec(README) ?? [];
    expect(run(why, own)).toMatch(/^my-lamp +all +state +rule 1: my-\*$/m);
    expect(run(send, partner)).toMatch(/DONE/i);
    writeFileSync(file, before);
    await until("the lamp being hidden again", () => !run(nodes, partner).includes("my-lamp"));
  }

  test("two hubs of one's own federate by invite and PIN, and the other words for a peer", async () => {
    const started: Started[] = [];
    const begin = (line: string, cwd: string): Started => {
      const process = new Started("bash", ["-c", replaced(line)], { cwd, env });
      started.push(process);
      return process;
    };
    try {
      await begin(hub, own).prints("on port");
      expect(run(status, own)).toMatch(/hub +my-hub[\s\S]*discovery +ready/);
      const waiting = begin(invite, own);
      await waiting.prints("waiting at");
      run(partnerInit, dir);
      atOurAddress(partner);
      await begin(partnerHub, partner).prints("on port");
      expect(given).toBe("INVITE='foedus-invite:...'");
      // README: or the whole line that it came in.
      const [whole = ""] = /foedus peer accept foedus-invite:\S+/.exec(waiting.text) ?? [];
      const [, pin = ""] = /^ {2}(\d{3} \d{3})$/m.exec(waiting.text) ?? [];
      const accepted = execFileSync("bash", aliased(`${given.replace("foedus-invite:...", whole)}\n${accept}`), {
        cwd: partner,
        env,
        input: `${pin}\n`,
        encoding: "utf8",
        timeout: 100_000,
      });
      expect(accepted).toBe("my-hub is a peer now (federation.json); the link is operational\n");
      expect(await waiting.ended).toBe(0);
      expect(waiting.text).toContain("partner is a peer now (federation.json); the link is operational");
      const { stdout } = spawnSync("bash", aliased(doctor), { cwd: partner, env, encoding: "utf8", timeout: 60_000 });
      // README: limited shows nothing until it gets rules.
      expect(stdout).toMatch(/^warning +share limited: it has no rules[\s\S]*^partner \(hub\.json\): 0 errors, 1 warning;/m);
      await shareLamp(begin);
      // README: the same without an invite, and the ceiling.
      copyFileSync(join(partner, "pki/ca.pem"), join(own, "partner-ca.pem"));
      const [, add = ""] = /`(foedus peer add [^`]+)`/.exec(README) ?? [];
      expect(run(add, own)).toMatch(/^partner was changed \(federation\.json\); the link is /);
      expect(run("foedus peer trust partner minimal", own)).toContain("partner is trusted up to minimal now");
    } finally {
      for (const { child } of started) child.kill("SIGTERM");
    }
    // Two hubs and the invite; the lamp has no end of its own.
    expect((await Promise.all(started.map(({ ended }) => ended))).slice(0, 3)).toEqual([0, 0, 0]);
  }, 240_000);

  const [, serve = ""] = /`(foedus serve [^`]+)`/.exec(README) ?? [];
  test.each([hub, serve])(
    "%s",
    async (line) => {
      expect(line).toMatch(/^foedus (hub|serve discovery) --config hub\.json$/);
      const started = new Started("bash", ["-c", replaced(line)], { cwd: own, env });
      try {
        await started.prints("on port");
        // README: health and metrics at these paths of the ops port.
        for (const page of ["readyz", "metrics", "statusz"]) {
          const answer = await fetch(`http://${host}:18810/${page}`);
          expect([page, answer.status]).toEqual([page, 200]);
        }
      } finally {
        started.child.kill("SIGTERM");
      }
      expect(await started.ended).toBe(0);
    },
    60_000,
  );

  const prometheus = tool("prometheus");
  test.skipIf(prometheus.reason !== undefined)(
    "a Prometheus that reads it",
    async () => {
      const [issue, copy, hubLine, , watch] = WATCH.commands as [string, string, string, string, string];
      // A port of our own: the README's may be in use on this machine. It is below those that systems give to clients.
      const port = 10_000 + (process.pid % 10_000);
      run(issue, own);
      execFileSync("bash", ["-c", copy.replaceAll("../ops", `${ROOT}/ops`)], { cwd: own });
      const file = join(own, "prometheus.yml");
      expect(readFileSync(file, "utf8")).toContain('["127.0.0.1:18811"]');
      writeFileSync(file, readFileSync(file, "utf8").replace("127.0.0.1:18811", `127.0.0.1:${port}`).replaceAll("15s", "1s"));
      const hubProcess = new Started("bash", ["-c", `${replaced(hubLine)} --set ops.metrics_port=${port}`], { cwd: own, env });
      try {
        await hubProcess.prints("on port");
        const flags = `--web.listen-address=${host}:9090`;
        const line = `exec ${watch.replace(/^prometheus/, prometheus.path)} ${flags}`;
        const reader = new Started("bash", ["-c", line], { cwd: own, env });
        try {
          await until(
            "the hub being read",
            async () => {
              const answer = await fetch(
                `http://${host}:9090/api/v1/query?query=${encodeURIComponent("foedus_build_info and on (instance) up == 1")}`,
              );
              return (await answer.text()).includes('"hub":"my-hub"');
            },
            40_000,
          ).catch((error: unknown) => {
            throw new Error(`${String(error)}; Prometheus wrote:\n${reader.text.slice(-2_000)}`, { cause: error });
          });
          expect((await fetch(`http://${host}:9090/`)).status).toBe(200);
        } finally {
          reader.child.kill("SIGKILL");
          await reader.ended;
        }
      } finally {
        hubProcess.child.kill("SIGTERM");
      }
      expect(await hubProcess.ended).toBe(0);
    },
    120_000,
  );
});
