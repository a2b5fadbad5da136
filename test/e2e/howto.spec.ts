// The commands of the how-to pages are run here, as they stand there, by hubs that are made for it.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ROOT, until } from "../support/federation.ts";
import { OwnHubs } from "../support/own-hubs.ts";
import { page, Started, sectionsOf } from "../support/pages.ts";
import { tool } from "../support/tools.ts";

/** commandsOf lists the commands of a page, section by section. */
const commandsOf = (name: string): string[] => [...sectionsOf(page(name)).values()].flatMap(({ commands }) => commands);

describe("share with a neighbour", () => {
  const PAGE = page("docs/howto/share.md");
  const hubs = new OwnHubs();
  afterAll(() => hubs.stop());

  test("an invite, a rule, and one lamp is the neighbour's to switch; without the rule it is gone", async () => {
    const commands = commandsOf("docs/howto/share.md");
    expect(commands.length).toBe(7);
    const [invite, given, accept, doctor, look, nodes, send] = commands as [string, string, string, string, string, string, string];
    // README: as there.
    hubs.init("foedus hub init home", "home");
    const [, inline = ""] = /`(foedus hub init neighbour [^`]+)`/.exec(PAGE) ?? [];
    hubs.init(inline, "neighbour");
    const running = [hubs.begin("foedus hub", "home"), hubs.begin("foedus hub", "neighbour")];
    for (const hub of running) await hub.prints("on port");
    const waiting = hubs.begin(invite, "home");
    await waiting.prints("waiting at");
    const [text = ""] = /foedus-invite:\S+/.exec(waiting.text) ?? [];
    const [, pin = ""] = /^ {2}(\d{3} \d{3})$/m.exec(waiting.text) ?? [];
    const accepted = hubs.run(`${given.replace("foedus-invite:...", text)}\n${accept}`, "neighbour", `${pin}\n`);
    expect(accepted).toContain("home is a peer now");
    expect(await waiting.ended).toBe(0);
    expect(hubs.run(doctor, "home")).toMatch(/^warning +share limited: it has no rules[\s\S]*^home \(hub\.json\): 0 errors, 1 warning;/m);
    await hubs.begin("foedus device simulate hall-lamp", "home").prints("connected to home");
    expect(hubs.run(nodes, "neighbour")).not.toContain("hall-lamp");
    const [member = ""] = sectionsOf(PAGE).get("3. Choose what they see")!.blocks("json");
    const undo = hubs.edit("home", member);
    await until("the lamp being shown", () => hubs.run(nodes, "neighbour").includes("hall-lamp"), 30_000);
    expect(hubs.run(look, "home")).toMatch(/^hall-lamp +all +state +rule 1: hall-\*$/m);
    expect(hubs.run(send, "neighbour")).toMatch(/done/);
    undo();
    await until("the lamp being hidden again", () => !hubs.run(nodes, "neighbour").includes("hall-lamp"), 30_000);
    // The same without an invite, and the words for more and less.
    copyFileSync(join(hubs.in("neighbour"), "pki/ca.pem"), join(hubs.in("home"), "neighbour-ca.pem"));
    const [, add = ""] = /`(foedus peer add neighbour --ca [^`]+)`/.exec(PAGE) ?? [];
    expect(hubs.run(add, "home")).toMatch(/^neighbour was changed \(federation\.json\); the link is /);
    for (const line of ["foedus peer trust neighbour minimal", "foedus peers disable neighbour", "foedus peer remove neighbour"]) {
      expect(PAGE).toContain(`\`${line}\``);
      hubs.run(line, "home");
    }
    expect(hubs.run("foedus peer list -q", "home")).toBe("");
  }, 240_000);
});

describe("one hub", () => {
  const hubs = new OwnHubs();
  const home = hubs.in("home");
  afterAll(() => hubs.stop());

  test("is backed up while it is stopped, and restored elsewhere with its CA, its peers and what it acknowledged", async () => {
    const [show, pack, unpack, go, doctor, hub] = commandsOf("docs/howto/backup.md") as [string, string, string, string, string, string];
    hubs.init("foedus hub init home", "home");
    const first = hubs.begin("foedus hub", "home");
    await first.prints("on port");
    const lamp = hubs.begin("foedus device simulate kept --keep", "home");
    await lamp.prints("connected");
    expect(hubs.run("foedus send home/kept state ON", "home")).toContain("done");
    for (const started of [lamp, first]) {
      started.child.kill("SIGINT");
      expect(await started.ended).toBe(0);
    }
    const sha256 = /sha256 +([0-9a-f]{64})/.exec(hubs.run(show, "home"))?.[1];
    hubs.run(pack, "home");
    const archive = join(hubs.dir, "home-backup.tar.gz");
    expect(statSync(archive).size).toBeGreaterThan(1_000);
    // The new machine: a folder of its own, into which the archive was brought.
    mkdirSync(hubs.in("machine"));
    renameSync(archive, join(hubs.in("machine"), "home-backup.tar.gz"));
    hubs.run(unpack, "machine");
    expect(go).toBe("cd home");
    expect(readdirSync(hubs.in("machine/home")).sort()).toEqual(["data", "federation.json", "hub.json", "pki"]);
    expect(statSync(hubs.in("machine/home/pki/ca.key")).mode & 0o777).toBe(0o600);
    expect(hubs.run(doctor, "machine/home")).toMatch(/0 errors/);
    const restored = hubs.begin(hub, "machine/home");
    await restored.prints("on port");
    expect(/sha256 +([0-9a-f]{64})/.exec(hubs.run(show, "machine/home"))?.[1]).toBe(sha256);
    const there = `--address ${hubs.host}:18800 --ca pki/ca.pem --cert pki/operator-admin.pem --key pki/operator-admin.key`;
    expect(hubs.run(`foedus node home/kept ${there}`, "machine/home")).toMatch(/state +string .* ON/);
    restored.child.kill("SIGINT");
    expect(await restored.ended).toBe(0);
  }, 180_000);

  test("its certificates are listed, renewed and replaced, as the page says", () => {
    const commands = commandsOf("docs/howto/rotate.md");
    expect(commands).toEqual(["foedus pki list", "foedus pki renew", "foedus pki renew --force"]);
    const [list, renew, force] = commands as [string, string, string];
    expect(hubs.run(list, "home")).toContain("service/hub");
    const before = readFileSync(join(home, "pki/service-hub.pem"), "utf8");
    expect(hubs.run(renew, "home")).toMatch(/service-hub\.pem +kept/);
    expect(hubs.run(force, "home")).toMatch(/service-hub\.pem +created/);
    expect(readFileSync(join(home, "pki/service-hub.pem"), "utf8")).not.toBe(before);
    // Words of the table.
    hubs.run("foedus pki issue node my-lamp", "home");
    const [, revoke = "", again = ""] =
      /`(foedus pki revoke node\/my-lamp [^`]+)`, then `([^`]+)`/.exec(page("docs/howto/rotate.md")) ?? [];
    hubs.run(revoke, "home");
    expect(hubs.run(again, "home")).toMatch(/node-my-lamp\.pem +created/);
    const [, next = ""] = /`(foedus pki init home --dir pki-next)`/.exec(page("docs/howto/rotate.md")) ?? [];
    expect(hubs.run(next, "home")).toMatch(/pki-next\/ca\.pem +created/);
  }, 90_000);

  const [, serve = ""] = /`(foedus serve [^`]+)`/.exec(page("docs/INSTALL.md")) ?? [];
  test.each(["foedus hub --config hub.json", serve])(
    "%s",
    async (line) => {
      expect(line).toMatch(/^foedus (hub|serve discovery) --config hub\.json$/);
      const started = hubs.begin(line, "home");
      await started.prints("on port");
      // docs/howto/monitor.md: health and metrics at these paths of the ops port.
      for (const name of ["readyz", "metrics", "statusz"]) {
        const answer = await fetch(`http://${hubs.host}:18810/${name}`);
        expect([name, answer.status]).toEqual([name, 200]);
      }
      started.child.kill("SIGTERM");
      expect(await started.ended).toBe(0);
    },
    60_000,
  );

  const monitor = { commands: commandsOf("docs/howto/monitor.md") };
  const prometheus = tool("prometheus");
  test.skipIf(prometheus.reason !== undefined)(
    "a Prometheus that reads it",
    async () => {
      const [issue, copy, hubLine, , watch] = monitor.commands as [string, string, string, string, string];
      // A port of our own: the README's may be in use on this machine. It is below those that systems give to clients.
      const port = 10_000 + (process.pid % 10_000);
      hubs.run(issue, "home");
      execFileSync("bash", ["-c", copy.replaceAll("../ops", `${ROOT}/ops`)], { cwd: home });
      const file = join(home, "prometheus.yml");
      expect(readFileSync(file, "utf8")).toContain('["127.0.0.1:18811"]');
      writeFileSync(file, readFileSync(file, "utf8").replace("127.0.0.1:18811", `127.0.0.1:${port}`).replaceAll("15s", "1s"));
      const hubProcess = hubs.begin(`${hubLine} --set ops.metrics_port=${port}`, "home");
      try {
        await hubProcess.prints("on port");
        const flags = `--web.listen-address=${hubs.host}:9090`;
        const line = `exec ${watch.replace(/^prometheus/, prometheus.path)} ${flags}`;
        const reader = new Started("bash", ["-c", line], { cwd: home, env: hubs.env });
        try {
          await until(
            "the hub being read",
            async () => {
              const answer = await fetch(
                `http://${hubs.host}:9090/api/v1/query?query=${encodeURIComponent("foedus_build_info and on (instance) up == 1")}`,
              );
              return (await answer.text()).includes('"hub":"home"');
            },
            40_000,
          ).catch((error: unknown) => {
            throw new Error(`${String(error)}; Prometheus wrote:\n${reader.text.slice(-2_000)}`, { cause: error });
          });
          expect((await fetch(`http://${hubs.host}:9090/`)).status).toBe(200);
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

const helm = tool("helm");
describe.skipIf(helm.reason !== undefined)(
  `add a peer on Kubernetes${helm.reason === undefined ? "" : ` (skipped: ${helm.reason})`}`,
  () => {
    test("the values of the page are a peer and a share in the hub's configuration", () => {
      const [peers = "", shares = ""] = [...sectionsOf(page("docs/howto/kubernetes-peer.md")).values()].flatMap((section) =>
        section.blocks("yaml"),
      );
      const dir = mkdtempSync(join(tmpdir(), "foedus-values-"));
      try {
        writeFileSync(join(dir, "peers.yaml"), peers);
        writeFileSync(join(dir, "shares.yaml"), shares);
        const values = ["--values", join(dir, "peers.yaml"), "--values", join(dir, "shares.yaml")];
        const set = ["--set", "hubId=factory", "--set", "image.repository=registry.example.org/foedus"];
        const out = execFileSync(helm.path, ["template", "factory", join(ROOT, "helm/foedus"), ...set, ...values], { encoding: "utf8" });
        expect(out).toMatch(/"hub_id": "home"/);
        expect(out).toMatch(/"shares": \{\s*"limited": \{\s*"nodes": \[\s*"line-1-\*"/);
      } finally {
        rmSync(dir, { recursive: true, force: true });
      }
    }, 60_000);
  },
);
