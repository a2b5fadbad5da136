import { generateKeyPairSync } from "node:crypto";
import { get, request as httpRequest } from "node:http";
import { type RequestOptions, get as tlsGet } from "node:https";
import { connect, Server, type Socket } from "node:net";
import forge from "node-forge";
import { Registry } from "prom-client";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { silentLogger } from "../log/log.ts";
import { counter } from "../metrics/declare.ts";
import { type OpsOptions, type OpsServer, startOps } from "./server.ts";

interface Pem {
  readonly cert: string;
  readonly key: string;
}

/** issue makes a certificate, self-signed without an issuer. */
function issue(name: string, serial: string, issuer?: Pem): Pem {
  const pair = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const cert = forge.pki.createCertificate();
  cert.publicKey = forge.pki.publicKeyFromPem(pair.publicKey);
  cert.serialNumber = serial;
  cert.validity.notBefore = new Date("2020-01-01");
  cert.validity.notAfter = new Date("2049-01-01");
  cert.setSubject([{ name: "commonName", value: name }]);
  cert.setIssuer(issuer === undefined ? cert.subject.attributes : forge.pki.certificateFromPem(issuer.cert).subject.attributes);
  cert.setExtensions(
    issuer === undefined
      ? [{ name: "basicConstraints", cA: true, critical: true }]
      : [{ name: "subjectAltName", altNames: [{ type: 2, value: "localhost" }] }],
  );
  cert.sign(forge.pki.privateKeyFromPem(issuer?.key ?? pair.privateKey), forge.md.sha256.create());
  return { cert: forge.pki.certificateToPem(cert), key: pair.privateKey };
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

function fetchFrom(port: number, path: string, options?: RequestOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const take = (response: import("node:http").IncomingMessage): void => {
      let body = "";
      response.setEncoding("utf8").on("data", (part: string) => (body += part));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, type: response.headers["content-type"] ?? "", body }));
    };
    const common = { host: "127.0.0.1", port, path, agent: false };
    const call = options === undefined ? get(common, take) : tlsGet({ ...common, servername: "localhost", ...options }, take);
    call.on("error", reject);
  });
}

describe("ops server", () => {
  const running: OpsServer[] = [];
  afterEach(async () => void (await Promise.all(running.splice(0).map((server) => server.stop()))));

  const registry = new Registry();
  counter(registry, { name: "foedus_ops_test_total", help: "test" }).inc(4);
  let ready = true;
  const start = async (more: Partial<OpsOptions> = {}): Promise<OpsServer> => {
    const readiness = () => ({ ready, modules: [{ name: "discovery", reason: "starting" }] });
    const server = await startOps({
      health: { host: "127.0.0.1", port: 0, setting: "ops.port" },
      registry,
      readiness,
      describe: () => "all is well\n",
      log: silentLogger,
      ...more,
    });
    running.push(server);
    return server;
  };

  test("on loopback one plain port answers everything", async () => {
    const { healthPort, metricsPort } = await start();
    expect(metricsPort).toBe(healthPort);
    expect(await fetchFrom(healthPort, "/healthz")).toMatchObject({ status: 200, body: "ok\n" });
    expect(await fetchFrom(healthPort, "/statusz?x=1")).toMatchObject({ status: 200, body: "all is well\n" });
    const metrics = await fetchFrom(healthPort, "/metrics");
    expect(metrics.body).toContain("foedus_ops_test_total 4");
    expect(metrics.type).toContain("text/plain; version=0.0.4");
    expect((await fetchFrom(healthPort, "/nothing")).status).toBe(404);
    const posted = await new Promise<number>((resolve) =>
      httpRequest({ port: healthPort, host: "127.0.0.1", path: "/healthz", method: "POST", agent: false }, (r) =>
        resolve(r.resume().statusCode ?? 0),
      ).end(),
    );
    expect(posted).toBe(405);
  });

  test("S-1 connections that cannot be accepted end nothing, however often", async () => {
    const listens = vi.spyOn(Server.prototype, "listen");
    const told: string[] = [];
    const { healthPort } = await start({ log: { ...silentLogger, warn: (_fields: object, message: string) => void told.push(message) } });
    const [server] = listens.mock.contexts as Server[];
    listens.mockRestore();
    // As Node tells of them when the kernel has no memory or descriptors left.
    for (let i = 0; i < 3; i++) server?.emit("error", Object.assign(new Error("accept ENOBUFS"), { code: "ENOBUFS" }));
    expect((await fetchFrom(healthPort, "/healthz")).status).toBe(200);
    expect(told).toEqual(["listener failed"]);
  });

  test("D-6 readiness answers 503 with reasons as JSON", async () => {
    const { healthPort } = await start();
    ready = false;
    const answer = await fetchFrom(healthPort, "/readyz");
    ready = true;
    expect(answer.status).toBe(503);
    expect(JSON.parse(answer.body)).toEqual({ ready: false, modules: [{ name: "discovery", reason: "starting" }] });
    expect((await fetchFrom(healthPort, "/readyz")).status).toBe(200);
  });

  test("a registry in OpenMetrics format is served as such", async () => {
    const open = new Registry();
    open.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never);
    const { healthPort } = await start({ registry: open });
    const answer = await fetchFrom(healthPort, "/metrics");
    expect(answer.type).toContain("openmetrics");
    expect(answer.body.trim()).toBe("# EOF");
  });

  test("on other addresses the plain port only answers probes", async () => {
    const { healthPort, metricsPort } = await start({ health: { host: "0.0.0.0", port: 0, setting: "ops.port" } });
    expect(metricsPort).toBeUndefined();
    expect((await fetchFrom(healthPort, "/healthz")).status).toBe(200);
    expect((await fetchFrom(healthPort, "/readyz")).status).toBe(200);
    const { status, body } = await fetchFrom(healthPort, "/metrics");
    const words = "not served here: /healthz, /readyz are; the others are served at a loopback address, or with ops.metrics_host\n";
    expect([status, body]).toEqual([404, words]);
    expect((await fetchFrom(healthPort, "/statusz")).status).toBe(404);
  });

  test("metrics in the open without TLS, and taken ports, are refused with the remedy", async () => {
    await expect(start({ metrics: { host: "0.0.0.0", port: 0, setting: "ops.port" } })).rejects.toThrow("metrics on 0.0.0.0 need TLS");
    const { healthPort } = await start();
    await expect(start({ health: { host: "127.0.0.1", port: healthPort, setting: "services.discovery.ops_port" } })).rejects.toThrow(
      `ops port ${healthPort} on 127.0.0.1 is taken; stop the other program or choose another port with services.discovery.ops_port`,
    );
  });

  describe("mutual TLS", () => {
    let own: Pem, other: Pem, server: Pem, operator: Pem, node: Pem, stranger: Pem, renewed: Pem;
    beforeAll(() => {
      own = issue("own ca", "01");
      other = issue("other ca", "01");
      server = issue("server", "02", own);
      operator = issue("operator", "03", own);
      node = issue("node", "04", own);
      stranger = issue("operator", "03", other);
      renewed = issue("renewed", "05", own);
    });

    test("metrics demand a certificate of the own CA that is admitted, and rotate without a restart", async () => {
      const ops = await start({
        health: { host: "0.0.0.0", port: 0, setting: "ops.port" },
        metrics: { host: "0.0.0.0", port: 0, setting: "ops.port" },
        tls: { ...server, ca: own.cert },
        admit: (certificate) => certificate.subject === "CN=operator",
      });
      const port = ops.metricsPort ?? 0;
      const by = (who: Partial<Pem>): Promise<Answer> => fetchFrom(port, "/metrics", { ...who, ca: own.cert });
      expect((await by(operator)).body).toContain("foedus_ops_test_total 4");
      expect((await by(node)).status).toBe(403);
      await expect(by(stranger)).rejects.toThrow();
      await expect(by({})).rejects.toThrow();
      await expect(fetchFrom(port, "/metrics")).rejects.toThrow();
      expect((await fetchFrom(ops.healthPort, "/metrics")).status).toBe(404);

      const seen: string[] = [];
      const watch: RequestOptions = {
        ...operator,
        ca: own.cert,
        checkServerIdentity: (_, certificate) => void seen.push(certificate.subject.CN as string),
      };
      await fetchFrom(port, "/statusz", watch);
      ops.rotate({ ...renewed, ca: own.cert });
      await fetchFrom(port, "/statusz", watch);
      expect(() => ops.rotate({ cert: "broken", key: "broken" })).toThrow();
      await fetchFrom(port, "/statusz", watch);
      expect(seen).toEqual(["server", "renewed", "renewed"]);
      await expect(by({})).rejects.toThrow();
    });
  });
});

describe("connections that say nothing", () => {
  const issuer = issue("ca", "01");
  const leaf = issue("localhost", "02", issuer);
  const options = (more: Partial<OpsOptions> = {}): OpsOptions => ({
    health: { host: "127.0.0.1", port: 0, setting: "ops.port" },
    metrics: { host: "127.0.0.1", port: 0, setting: "ops.metrics_port" },
    tls: { cert: leaf.cert, key: leaf.key, ca: issuer.cert },
    registry: new Registry(),
    readiness: () => ({ ready: true }),
    describe: () => "",
    log: silentLogger,
    ...more,
  });
  const silent = (port: number, count: number): Promise<Socket[]> =>
    Promise.all(
      Array.from(
        { length: count },
        () =>
          new Promise<Socket>((resolve) => {
            const socket = connect({ port, host: "127.0.0.1" }, () => resolve(socket));
            socket.on("error", () => undefined);
          }),
      ),
    );

  test("S-10 200 of them on both ports: probes and metrics answer at once", async () => {
    const server = await startOps(options());
    const sockets = [...(await silent(server.healthPort, 200)), ...(await silent(server.metricsPort!, 200))];
    const started = performance.now();
    expect((await fetchFrom(server.healthPort, "/readyz")).status).toBe(200);
    const scraped = await fetchFrom(server.metricsPort!, "/metrics", { ca: issuer.cert, cert: leaf.cert, key: leaf.key });
    expect(scraped.status).toBe(200);
    expect(performance.now() - started).toBeLessThan(2_000);
    for (const socket of sockets) socket.destroy();
    await server.stop();
  });

  test("S-10 requests behind one that is not answered yet make no pages, and keep nobody else waiting", async () => {
    let pages = 0;
    const { metrics: _, ...one } = options({ describe: () => `page ${++pages}` });
    const server = await startOps(one);
    const greedy = await silent(server.healthPort, 40);
    const closed = greedy.map((socket) => new Promise((resolve) => socket.once("close", resolve)));
    for (const socket of greedy) socket.write("GET /statusz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50));
    expect((await fetchFrom(server.healthPort, "/readyz")).status).toBe(200);
    await Promise.all(closed);
    expect(pages).toBeLessThanOrEqual(greedy.length);
    expect((await fetchFrom(server.healthPort, "/statusz")).body).toMatch(/^page /);
    await server.stop();
  });

  test("S-10 one that says nothing is closed within seconds, on both ports", async () => {
    const server = await startOps(options());
    const sockets = [...(await silent(server.healthPort, 1)), ...(await silent(server.metricsPort!, 1))];
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve).resume())));
    await server.stop();
  }, 15_000);
});
