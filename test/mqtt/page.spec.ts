// The configurations and commands of docs/MQTT.md, as they stand there.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { mqttConfig } from "../../adapters/mqtt/config.ts";
import { start } from "../cli/fixture.ts";
import { ROOT, until } from "../support/federation.ts";
import { Bridge, LAMP } from "./bridge.ts";
import { freePort, Mosquitto, NO_BROKER } from "./mosquitto.ts";

const PAGE = readFileSync(join(ROOT, "docs/MQTT.md"), "utf8");
const blocks = (kind: string): string[] =>
  [...PAGE.matchAll(new RegExp(`\`\`\`${kind}\\n([\\s\\S]*?)\`\`\``, "g"))].map(([, text = ""]) => text);

let folder: string;
let broker: Mosquitto;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-mqtt-page-"));
  broker = await Mosquitto.start();
});
afterAll(async () => {
  await broker?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test.skipIf(NO_BROKER)("every configuration on the page is valid", () => {
  const found = blocks("json");
  expect(found.length).toBe(4);
  for (const text of found) {
    const read = JSON.parse(text.startsWith("{") ? text : `{${text}}`) as {
      readonly adapters?: { readonly mqtt: object };
      readonly mqtt?: object;
    };
    expect(mqttConfig.safeParse(read.adapters?.mqtt ?? read.mqtt).error).toBeUndefined();
  }
  expect(mqttConfig.safeParse({ broker: "mqtt://localhost:1883" }).error?.message).toContain("must be true for a broker without TLS");
  expect(mqttConfig.safeParse({ broker: "mqtt://192.0.2.1:1883", plaintext: true }).success).toBe(false);
  for (const name of PAGE.matchAll(/`((?:zigbee2mqtt|homeassistant)\.\w+)`/g))
    expect(readFileSync(join(ROOT, "docs/CONFIG.md"), "utf8")).toContain(`adapters.mqtt.${name[1]}`);
});

test.skipIf(NO_BROKER)("the commands on the page connect a lamp and switch it, while the hub runs", { timeout: 120_000 }, async () => {
  const foedus = (line: string) => start(line.split(" "), { cwd: folder }).done;
  const commands = blocks("sh")
    .flatMap((text) => text.trim().split("\n"))
    .map((line) => line.replace(/^foedus /, ""));
  expect(commands.length).toBe(4);
  const port = await freePort();
  expect(await foedus(`hub init my-hub --port ${port}`)).toMatchObject({ code: 0 });
  expect(await foedus(commands[0]!)).toMatchObject({ code: 0 });
  const opsPort = await freePort();
  const hub = start(["hub", "--config", "my-hub/hub.json", "--set", `ops.port=${opsPort}`], { cwd: folder });
  try {
    await until("the hub", async () => (await fetch(`http://127.0.0.1:${opsPort}/readyz`)).ok, 60_000);
    const file = join(folder, "my-hub/hub.json");
    const config = JSON.parse(readFileSync(file, "utf8")) as object;
    const added = JSON.parse(`{${blocks("json")[1]!}}`.replace("mqtt://localhost:1883", broker.url)) as object;
    writeFileSync(file, JSON.stringify({ ...config, ...added }));
    await new Bridge(await broker.client()).start([LAMP]);
    const contexts = `--contexts ${join(folder, ".foedus/contexts.json")}`;
    const at = execFileSync("find", [folder, "-name", "contexts.json"], { encoding: "utf8" }).trim().split("\n")[0] ?? "";
    const ask = (line: string) => foedus(`${line} ${contexts.replace(join(folder, ".foedus/contexts.json"), at)}`);
    await until("the lamp in the list", async () => (await ask(commands[1]!)).out.includes("lamp"), 60_000);
    expect((await ask(commands[2]!)).out).toContain("source:freshness");
    const sent = await ask(commands[3]!);
    expect(sent).toMatchObject({ code: 0, out: expect.stringContaining("ON") });
  } finally {
    hub.child.kill("SIGTERM");
    await hub.done;
  }
});
