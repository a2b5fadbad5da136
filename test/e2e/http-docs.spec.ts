// Every line of docs/HTTP.md is run here, as it stands there, against a real federation.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { HTTP_PORT } from "../../services/hub/services.ts";
import { attach, lamp, register } from "../support/acts.ts";
import { Federation, type HubProcess, ROOT } from "../support/federation.ts";
import { run } from "../support/grpcurl.ts";

const PAGE = readFileSync(join(ROOT, "docs/HTTP.md"), "utf8");
const SETUP = "Once per shell";

/** The lines of each section that stand in a block of a language. */
const blocks = (language: string, text: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, "gm"))].flatMap(([, body]) => body!.trim().split("\n"));
const SECTIONS: ReadonlyMap<string, readonly string[]> = new Map(
  PAGE.split(/^## /m)
    .slice(1)
    .map((text) => [text.slice(0, text.indexOf("\n")), blocks("sh", text)]),
);

/** What each line prints. In the order of the page. */
const SHOWN: Readonly<Record<string, readonly RegExp[]>> = {
  Call: [/"hubId":"home"/, /^\{.*\}$/, /"nodeId":"lamp-1"/, /"events":\[\{/],
  "Run a command": [/"outcome":"OUTCOME_DONE".*"stringValue":"ON"/, /"replayed":true/],
  GET: [/"nodeId":"lamp-1"/],
  Streams: [/"nodeId":"lamp-1"[\s\S]*"bookmark"[\s\S]*"error":\{"code":"deadline_exceeded"/],
  Errors: [
    /"code":"invalid_argument".*"reason":"INVALID_FIELD".*"field":"node\.node_id"/,
    /"code":"permission_denied".*"reason":"ACCESS_DENIED"/,
  ],
};

describe("docs/HTTP.md", () => {
  let federation: Federation;
  let home: HubProcess;
  let executor: { stop(): void } | undefined;

  beforeAll(async () => {
    const [setting] = blocks("json", PAGE.split(/^## /m)[0]!);
    const { http } = JSON.parse(`{${setting}}`) as { http: object };
    federation = await Federation.prepare({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }] },
        { id: "factory", peers: [{ hub: "home" }] },
      ],
    });
    home = federation.hub("home");
    const file = join(home.dir, "hub.json");
    const config = JSON.parse(readFileSync(file, "utf8")) as object;
    writeFileSync(file, JSON.stringify({ ...config, http: { ...http, host: home.host } }));
    await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
    await writePki(home.pkiDir, "home", { now: new Date(systemClock.wall()), leaves: [{ profile: "gateway", name: "devices" }] });
    const clients = federation.hub("factory").clients("gateway-zigbee");
    await register(clients, lamp("demo-lamp"));
    executor = attach(clients, ["demo-lamp"]);
    await federation.operational();
  }, 120_000);
  afterAll(async () => {
    executor?.stop();
    await federation?.stop();
  }, 60_000);

  test("has commands in these sections and nowhere else, so that none is left out here", () => {
    const counted = [...SECTIONS].filter(([, lines]) => lines.length > 0).map(([title, lines]) => [title, lines.length]);
    expect(counted).toEqual([[SETUP, 2], ...Object.entries(SHOWN).map(([title, shown]) => [title, shown.length])]);
  });

  test.each(["HTTP", "WEBHOOKS", "CONSOLE"])("%s.md names only files that exist", (page) => {
    const links = [...readFileSync(join(ROOT, `docs/${page}.md`), "utf8").matchAll(/\]\(((?!https:)[^)#]+)(?:#[^)]*)?\)/g)].map(
      (match) => match[1]!,
    );
    expect(links.length).toBeGreaterThan(0);
    for (const link of links) expect(() => readFileSync(join(ROOT, "docs", link))).not.toThrow();
  });

  test.each(Object.keys(SHOWN))(
    "%s",
    async (title) => {
      const [as, hub] = SECTIONS.get(SETUP)! as [string, string];
      expect(hub).toContain(`localhost:${HTTP_PORT}`);
      for (const [index, line] of SECTIONS.get(title)!.entries()) {
        const typed = [as, hub.replace("localhost", home.host), line].join("\n");
        const { code, stdout, stderr } = await run("bash", ["-c", typed], { cwd: home.pkiDir });
        expect([line, code, stdout + stderr]).toEqual([line, 0, expect.stringMatching(SHOWN[title]![index]!)]);
      }
    },
    60_000,
  );
});
