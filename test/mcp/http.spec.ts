import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request as plainRequest, type RequestOptions } from "node:http";
import { request as secureRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { start } from "../cli/fixture.ts";
import { Agent, type Era, flagsOf, served, type World, world } from "./world.ts";

let here: World;
let folder: string;

beforeAll(async () => {
  here = await world();
  folder = mkdtempSync(join(tmpdir(), "foedus-mcp-"));
});
afterAll(async () => {
  await here.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Answer {
  readonly status: number | undefined;
  readonly body: string;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** ask sends one request by hand, with headers that no fetch would send. */
function ask(url: string, options: RequestOptions, body = ""): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = plainRequest(url, { method: "POST", ...options }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => (text += part));
      response.on("end", () => resolve({ status: response.statusCode, body: text, headers: response.headers }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

const LIST = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" });
const JSON_HEADERS = { "content-type": "application/json", accept: "application/json, text/event-stream" };

describe("over HTTP with a bearer token", () => {
  let server: Awaited<ReturnType<typeof served>>;
  let token: string;

  beforeAll(async () => {
    const file = join(folder, "token");
    server = await served([...flagsOf(here.home, "operator-admin"), "--token-file", file, "--allow-origin", "https://console.example.org"]);
    token = readFileSync(file, "utf8").trim();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(token.length).toBeGreaterThanOrEqual(43);
  });
  afterAll(async () => {
    expect(await server.stop()).toBe(0);
    expect(server.running.err).not.toContain(token);
  });

  test.each<Era>(["legacy", "modern"])("a client of the SDK with the token has all tools (%s protocol)", async (era) => {
    await using agent = await Agent.http(server.url, { authorization: `Bearer ${token}` }, era);
    expect((await agent.client.listTools()).tools.map(({ name }) => name)).toContain("execute");
    expect(
      await agent.data("execute", { node: "factory/press-lamp", capability: "state", value: era === "legacy" ? "ON" : "OFF" }),
    ).toMatchObject({ outcome: "DONE" });
    expect(agent.client.getProtocolEra()).toBe(era);
  });

  const bearer = (): Record<string, string> => ({ ...JSON_HEADERS, authorization: `Bearer ${token}` });

  test("nobody is served without the token, or with another one", async () => {
    const none = await ask(server.url, { headers: JSON_HEADERS }, LIST);
    expect([none.status, none.headers["www-authenticate"]]).toEqual([401, 'Bearer realm="foedus"']);
    const other = await ask(server.url, { headers: { ...JSON_HEADERS, authorization: `Bearer ${"x".repeat(43)}` } }, LIST);
    expect(other.status).toBe(401);
    await expect(Agent.http(server.url, {})).rejects.toThrow();
    expect((await ask(server.url, { headers: bearer() }, LIST)).status).toBe(200);
  });

  test("a page in a browser is told by its origin, and by a host that is not this server's", async () => {
    const evil = await ask(server.url, { headers: { ...bearer(), origin: "https://evil.example" } }, LIST);
    expect([evil.status, evil.body]).toEqual([403, expect.stringContaining("--allow-origin")]);
    expect((await ask(server.url, { headers: { ...bearer(), origin: "null" } }, LIST)).status).toBe(403);
    expect((await ask(server.url, { headers: { ...bearer(), origin: "https://console.example.org" } }, LIST)).status).toBe(200);
    expect((await ask(server.url, { headers: { ...bearer(), host: "evil.example" } }, LIST)).status).toBe(421);
  });

  test("what is too long, elsewhere or nonsense is refused, and the server goes on", async () => {
    expect((await ask(server.url, { headers: bearer() }, "x".repeat(300_000)).catch(() => ({ status: 413 }))).status).toBe(413);
    expect((await ask(server.url.replace("/mcp", "/"), { headers: bearer() }, LIST)).status).toBe(404);
    expect((await ask(server.url, { headers: bearer(), method: "PUT" }, LIST)).status).toBe(405);
    for (const body of ["", "{", "[]", "null", '{"jsonrpc":"2.0"}', `${"[".repeat(50_000)}`, '{"jsonrpc":"2.0","id":1,"method":"no/such"}'])
      expect((await ask(server.url, { headers: bearer() }, body)).status).toBeLessThan(500);
    expect((await ask(server.url, { headers: bearer() }, LIST)).status).toBe(200);
  });
});

test.each<[string, () => string[], RegExp]>([
  ["without a way to tell callers apart", () => [], /--token-file/],
  ["with a token in the clear on a network", () => ["--http", "0.0.0.0:0", "--token-file", join(folder, "t")], /in the clear/],
  ["with a token that others may read", () => ["--token-file", loose()], /others may read the token file/],
  ["with a short token", () => ["--token-file", short()], /too short/],
  ["with mutual TLS but no certificate", () => ["--mutual-tls"], /--tls-cert/],
])("it does not serve %s", async (_name, args, says) => {
  const { code, err } = await start(["mcp", "--http", "127.0.0.1:0", ...flagsOf(here.home, "operator-admin"), ...args()]).done;
  expect([code, err]).toEqual([2, expect.stringMatching(says)]);
});

test("a gateway's certificate is no operator's", async () => {
  const { code, err } = await start(["mcp", ...flagsOf(here.home, "gateway-agents")]).done;
  expect([code, err]).toEqual([2, expect.stringContaining("tools are for operators")]);
});

function loose(): string {
  const file = join(folder, "loose");
  writeFileSync(file, "x".repeat(43));
  chmodSync(file, 0o644);
  return file;
}

function short(): string {
  const file = join(folder, "short");
  writeFileSync(file, "secret", { mode: 0o600 });
  return file;
}

/** fetchAs is a fetch that shows a client's certificate. */
function fetchAs(tls: { readonly ca: string; readonly cert: string; readonly key: string } | { readonly ca: string }): typeof fetch {
  const files = Object.fromEntries(Object.entries(tls).map(([name, file]) => [name, readFileSync(file)]));
  return (input, init = {}) =>
    new Promise((resolve, reject) => {
      const headers = Object.fromEntries(new Headers(init.headers));
      const request = secureRequest(String(input), { method: init.method ?? "GET", headers, ...files }, (response) => {
        const status = response.statusCode ?? 0;
        const body = status === 202 || status === 204 ? null : (Readable.toWeb(response) as ReadableStream);
        if (body === null) response.resume();
        resolve(new Response(body, { status, headers: response.headers as Record<string, string> }));
      });
      request.on("error", reject);
      init.signal?.addEventListener("abort", () => request.destroy());
      request.end(init.body as string | undefined);
    });
}

describe("over HTTPS with mutual TLS", () => {
  let server: Awaited<ReturnType<typeof served>>;

  beforeAll(async () => {
    const own = here.home.pki("service-hub");
    server = await served([...flagsOf(here.home, "operator-admin"), "--mutual-tls", "--tls-cert", own.cert, "--tls-key", own.key]);
    expect(server.url).toMatch(/^https:/);
  });
  afterAll(async () => {
    expect(await server.stop()).toBe(0);
  });

  test("an admin runs commands; a viewer may not, although the server itself could", async () => {
    await using admin = await Agent.http(server.url, {}, "legacy", fetchAs(here.home.pki("operator-admin")));
    const order = { node: "factory/press-lamp", capability: "state", value: "ON" };
    expect(await admin.data("execute", order)).toMatchObject({ outcome: "DONE" });
    await using viewer = await Agent.http(server.url, {}, "legacy", fetchAs(here.home.pki("operator-viewer")));
    expect((await viewer.client.listTools()).tools.map(({ name }) => name)).not.toContain("execute");
    const before = here.ran.length;
    expect(await viewer.refusal("execute", order)).toMatch(/^ACCESS_DENIED: this needs an operator with the role admin/);
    expect(here.ran.length).toBe(before);
  });

  test("a gateway, another hub's operator and who shows nothing are not served", async () => {
    await expect(Agent.http(server.url, {}, "legacy", fetchAs(here.home.pki("gateway-agents")))).rejects.toThrow(/403|operator/);
    const theirs = { ...here.factory.pki("operator-admin"), ca: here.home.pki("ca").ca };
    await expect(Agent.http(server.url, {}, "legacy", fetchAs(theirs))).rejects.toThrow();
    await expect(Agent.http(server.url, {}, "legacy", fetchAs({ ca: here.home.pki("ca").ca }))).rejects.toThrow();
  });
});
