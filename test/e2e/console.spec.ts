// The console's port of a real hub: who gets in, what a page of another site can do, and what a session may.
import { readFileSync, writeFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import { join } from "node:path";
import { Script } from "node:vm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FILES } from "../../services/hub/console/page.ts";
import { CONSOLE_PORT } from "../../services/hub/services.ts";
import { type Finished, start } from "../cli/fixture.ts";
import { Federation, type HubProcess, until } from "../support/federation.ts";

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

let federation: Federation;
let home: HubProcess;
let origin: string;
const agents = new Map<string, Agent>();

/** ask is a request as a browser makes it, with the certificate of an operator if one is named. */
function ask(
  path: string,
  { method = "POST", headers = {}, body, as }: { method?: string; headers?: object; body?: object; as?: string } = {},
): Promise<Answer> {
  const files = as === undefined ? undefined : home.pki(as);
  const shown = files === undefined ? {} : { cert: readFileSync(files.cert), key: readFileSync(files.key) };
  // Who makes many connections is shut out for a while.
  const agent = agents.get(as ?? "") ?? new Agent({ keepAlive: true, maxSockets: 1, ca: readFileSync(home.pki("ca").ca), ...shown });
  agents.set(as ?? "", agent);
  return new Promise((resolve, reject) => {
    const request = httpsRequest(`${origin}${path}`, { method, agent, headers: headers as Record<string, string> }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece: string) => (text += piece));
      response.once("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
    request.once("error", reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** fromPage are the headers of a request that the page itself makes. */
const fromPage = (cookie?: string): object => ({
  origin,
  "content-type": "application/json",
  "x-foedus-console": "1",
  ...(cookie === undefined ? {} : { cookie }),
});
const STATUS = "/foedus.hub.v1alpha1.HubService/GetStatus";
const ENABLE = "/foedus.discovery.v1alpha1.DiscoveryService/SetPeerEnabled";

const foedus = (who: string, ...args: readonly string[]): Promise<Finished> => {
  const files = home.pki(`operator-${who}`);
  const flags = ["--address", home.address("discovery"), "--ca", files.ca, "--cert", files.cert, "--key", files.key];
  return start([...args, ...flags], { cwd: home.dir }).done;
};

/** linkFor has an operator print a link, and gives its secret. */
async function linkFor(who: string): Promise<string> {
  const { code, out, err } = await foedus(who, "console");
  expect([code, err]).toEqual([0, expect.stringContaining("within a minute")]);
  const [, at, link] = /^(https:\/\/[^/]+)\/#login=([\w-]{43})\n$/.exec(out)!;
  expect(at).toBe(origin);
  return link!;
}

/** sessionOf logs in, and gives the cookie. */
async function sessionOf(link: string): Promise<string> {
  const { status, headers } = await ask("/login", { headers: fromPage(), body: { link } });
  expect(status).toBe(200);
  const [cookie] = headers["set-cookie"] as string[];
  expect(cookie).toMatch(/^__Host-foedus-console=[\w-]{43}; Path=\/; Secure; HttpOnly; SameSite=Strict; Max-Age=43200$/);
  return cookie!.split(";")[0]!;
}

beforeAll(async () => {
  federation = await Federation.prepare({ hubs: [{ id: "home", peers: [] }] });
  home = federation.hub("home");
  const file = join(home.dir, "hub.json");
  const config = JSON.parse(readFileSync(file, "utf8")) as object;
  writeFileSync(file, JSON.stringify({ ...config, console: { enabled: true, host: home.host } }));
  origin = `https://${home.host}:${CONSOLE_PORT}`;
  await home.start();
}, 60_000);
afterAll(async () => {
  for (const agent of agents.values()) agent.destroy();
  await federation?.stop();
});

describe("the console", () => {
  test("DP1 who is not logged in gets the page, and nothing of the hub", async () => {
    const page = await ask("/", { method: "GET" });
    expect([page.status, page.headers["content-type"]]).toEqual([200, "text/html; charset=utf-8"]);
    expect(page.headers["content-security-policy"]).toMatch(/default-src 'none'; script-src 'self'; .*frame-ancestors 'none'/);
    expect(page.headers).toMatchObject({ "x-frame-options": "DENY", "referrer-policy": "no-referrer", "cache-control": "no-store" });
    for (const path of ["/", "/app.js", "/style.css"]) {
      const { body } = await ask(path, { method: "GET" });
      expect(body).not.toMatch(/home|unsafe|innerHTML|https?:\/\//);
      expect(body).not.toMatch(/<script>|style=| on\w+=/);
    }
    expect((await ask("/etc/passwd", { method: "GET" })).status).toBe(404);
    for (const path of [STATUS, ENABLE, "/link", "/logout"])
      expect([path, (await ask(path, { headers: fromPage(), body: {} })).status]).toEqual([path, 401]);
    for (const link of ["", "x".repeat(43), "x".repeat(2_000)])
      expect((await ask("/login", { headers: fromPage(), body: { link } })).status).toBe(401);
  });

  test("CZ1 DP3 a link logs in once, and then the page calls as the operator who asked for it", async () => {
    const link = await linkFor("admin");
    const cookie = await sessionOf(link);
    expect((await ask("/login", { headers: fromPage(), body: { link } })).status).toBe(401);
    const status = await ask(STATUS, { headers: fromPage(cookie), body: {} });
    expect([status.status, JSON.parse(status.body)]).toMatchObject([200, { hubId: "home" }]);
    // May, and is told what is wrong with the request itself.
    expect(JSON.parse((await ask(ENABLE, { headers: fromPage(cookie), body: { hubId: "nobody" } })).body).code).toBe("not_found");
    const secret = cookie.split("=")[1]!;
    for (const text of [home.log("hub"), await home.ops("/statusz"), await home.ops("/metrics")])
      for (const each of [link, secret]) expect(text).not.toContain(each);
    expect((await ask("/logout", { headers: fromPage(cookie), body: {} })).status).toBe(200);
    expect((await ask(STATUS, { headers: fromPage(cookie), body: {} })).status).toBe(401);
  }, 30_000);

  test("DP4 a stream of events ends when its session does", async () => {
    const cookie = await sessionOf(await linkFor("admin"));
    const headers = { ...(fromPage(cookie) as Record<string, string>), "content-type": "application/connect+json" };
    const path = "/foedus.telemetry.v1alpha1.TelemetryService/WatchEvents";
    const ended = new Promise((resolve) => {
      const options = { method: "POST", agent: false, ca: readFileSync(home.pki("ca").ca), headers } as const;
      const request = httpsRequest(`${origin}${path}`, options, (response) => {
        response.once("data", () => void ask("/logout", { headers: fromPage(cookie), body: {} }));
        response.once("close", () => resolve("ended"));
        response.on("error", () => undefined);
      });
      request.end(Buffer.concat([Buffer.from([0, 0, 0, 0, 15]), Buffer.from('{"fromSeq":"1"}')]));
    });
    expect(await ended).toBe("ended");
    await until("nobody watching", async () => /watchers=0/.test(await home.ops("/statusz")));
  }, 30_000);

  test("DP3 a viewer looks, and changes nothing", async () => {
    const cookie = await sessionOf(await linkFor("viewer"));
    expect((await ask(STATUS, { headers: fromPage(cookie), body: {} })).status).toBe(200);
    const denied = await ask(ENABLE, { headers: fromPage(cookie), body: { hubId: "nobody" } });
    expect([denied.status, JSON.parse(denied.body).details[0].debug.reason]).toEqual([403, "ACCESS_DENIED"]);
    // Nor does it make itself another one.
    expect((await ask("/link", { headers: fromPage(cookie), body: {} })).status).toBe(403);
  }, 30_000);

  test("DP2 what another site's page, a form, or a link has a browser send is refused, cookie or certificate notwithstanding", async () => {
    const cookie = await sessionOf(await linkFor("admin"));
    const good = fromPage(cookie) as Record<string, string>;
    const { origin: _origin, ...noOrigin } = good;
    const { "x-foedus-console": _header, ...noHeader } = good;
    const cases: readonly Record<string, string>[] = [
      { ...good, origin: "https://evil.example" },
      { ...good, origin: "null" },
      { ...good, origin: `http://${home.host}:${CONSOLE_PORT}` },
      { ...good, "sec-fetch-site": "cross-site" },
      { ...good, "sec-fetch-site": "same-site" },
      noOrigin,
      noHeader,
    ];
    for (const headers of cases) expect([headers, (await ask(STATUS, { headers, body: {} })).status]).toEqual([headers, 403]);
    for (const headers of [cases[0]!, noHeader]) expect((await ask(STATUS, { headers, body: {}, as: "operator-admin" })).status).toBe(403);
    expect((await ask(`${STATUS}?encoding=json&message={}`, { method: "GET", headers: { cookie } })).status).toBe(404);
    expect((await ask(STATUS, { headers: good, body: {} })).status).toBe(200);
  }, 30_000);

  test("an operator's certificate logs in by itself; that of a device or a service does not", async () => {
    expect((await ask(STATUS, { headers: fromPage(), body: {}, as: "operator-viewer" })).status).toBe(200);
    for (const as of ["gateway-zigbee", "service-hub"]) expect((await ask(STATUS, { headers: fromPage(), body: {}, as })).status).toBe(401);
  });

  test("CZ2 a session ends with the certificate that it is of", async () => {
    const cookie = await sessionOf(await linkFor("viewer"));
    const done = await start(["pki", "revoke", home.pki("operator-viewer").cert, "--config", "hub.json"], { cwd: home.dir }).done;
    expect([done.code, done.err]).toEqual([0, expect.any(String)]);
    await until("the session being refused", async () => (await ask(STATUS, { headers: fromPage(cookie), body: {} })).status === 401);
    expect((await foedus("viewer", "console")).code).not.toBe(0);
  }, 30_000);

  test("a hub without a console says how to get one", async () => {
    await home.end();
    const file = join(home.dir, "hub.json");
    const { console: _console, ...config } = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
    writeFileSync(file, JSON.stringify(config));
    await home.start();
    expect(await foedus("admin", "console")).toMatchObject({ code: 1, err: expect.stringContaining('"console": { "enabled": true }') });
  }, 60_000);
});

test("the page's script can be read", () => {
  expect(() => new Script(`(async () => {${FILES.get("/app.js")!.body}})`)).not.toThrow();
});
