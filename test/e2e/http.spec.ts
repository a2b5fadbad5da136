// The services of real hubs over HTTP: what each principal is answered there, and what happens when something changes meanwhile.
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { create, type DescMethodUnary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { EventKind, ReportEventsRequestSchema, Severity, TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { FoedusError } from "#kernel/error.ts";
import { HTTP_PORT, TABLE } from "../../services/hub/services.ts";
import { connectClient, toldBy } from "../rpc/connect-fixture.ts";
import { metric } from "../support/acts.ts";
import { Federation, type HubProcess, type Principal, until } from "../support/federation.ts";

const SERVICES = [...Object.values(TABLE).map(({ rpc }) => rpc), HubService];
const PRINCIPALS: readonly Principal[] = ["operator-admin", "operator-viewer", "gateway-zigbee", "service-hub"];

/** Calls are the unary RPCs of a client. */
type Calls = Readonly<Record<string, (request: unknown) => Promise<{ readonly $typeName: string }>>>;

const httpOf = (host: string): object => ({ http: { enabled: true, host } });

/** Federation.prepare chooses the host, so the member of the configuration is added afterwards. */
function withHttp(hub: HubProcess, more: object = {}): void {
  const file = join(hub.dir, "hub.json");
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, "utf8")) as object), ...httpOf(hub.host), ...more }));
}

function filesOf(hub: HubProcess, principal: string): { readonly certificatePem: string; readonly keyPem: string; readonly caPem: string } {
  const [ca, cert, key] = Object.values(hub.pki(principal)).map((file) => readFileSync(file, "utf8"));
  return { caPem: ca!, certificatePem: cert!, keyPem: key! };
}

describe("a hub that serves HTTP", () => {
  let federation: Federation;
  let home: HubProcess;
  const http = <S extends (typeof SERVICES)[number]>(service: S, principal: string) => {
    const files = filesOf(home, principal);
    return connectClient(service, `${home.host}:${HTTP_PORT}`, files, files.caPem);
  };

  beforeAll(async () => {
    federation = await Federation.prepare({ hubs: [{ id: "home", peers: [] }] });
    home = federation.hub("home");
    withHttp(home);
    await home.start();
  }, 60_000);
  afterAll(() => federation?.stop());

  describe.each(PRINCIPALS)("answers %s as over gRPC, or refuses for the same reason", (principal) => {
    test.each(SERVICES.map((service) => [service.name, service] as const))(
      "%s, each unary RPC with an empty request",
      async (_, service) => {
        const client = home.client(service, principal);
        const grpc = client as unknown as Calls;
        const json = http(service, principal) as unknown as Calls;
        const unary = service.methods.filter(({ methodKind }) => methodKind === "unary") as DescMethodUnary[];
        expect(unary.length).toBeGreaterThan(1);
        const byGrpc: unknown[] = [];
        const byHttp: unknown[] = [];
        for (const { localName, input } of unary) {
          const ask = async (
            call: (request: unknown) => Promise<{ $typeName: string }>,
            told: (error: unknown) => unknown,
          ): Promise<unknown[]> => [localName, await call(create(input)).then(({ $typeName }) => $typeName, told)];
          byGrpc.push(await ask(grpc[localName]!, (error) => [(error as FoedusError).reason, (error as FoedusError).failure.field]));
          byHttp.push(await ask(json[localName]!, (error) => [toldBy(error).reason, toldBy(error).fields[0]]));
        }
        client.close();
        expect(byHttp).toEqual(byGrpc);
      },
    );
  });

  test("events flow over a stream, in order, and one that its caller leaves leaves nothing", async () => {
    const open = await metric(home, "foedus_connections");
    const reporter = home.clients("service-hub");
    const controller = new AbortController();
    const texts: string[] = [];
    const watch = (async () => {
      for await (const { events } of http(TelemetryService, "operator-viewer").watchEvents(
        { filter: { kinds: [EventKind.NODE] }, fromSeq: 1n },
        { signal: controller.signal },
      ))
        texts.push(...events.map(({ text }) => text));
    })().catch((error: unknown) => error);
    const wanted = Array.from({ length: 1_000 }, (_, i) => `change ${i}`);
    for (let from = 0; from < wanted.length; from += 100) {
      const events = wanted.slice(from, from + 100).map((text) => ({ kind: EventKind.NODE, severity: Severity.INFO, text, wallMs: 1n }));
      await reporter.telemetry.reportEvents(create(ReportEventsRequestSchema, { service: "registry-sync", events }));
    }
    await until("all events", () => texts.length >= wanted.length);
    expect(texts).toEqual(wanted);
    controller.abort();
    expect(await watch).toBeInstanceOf(ConnectError);
    await until("the stream being closed at the hub", async () => /watchers=0/.test(await home.ops("/statusz")));
    reporter.close();
    expect(await metric(home, "foedus_connections")).toBeLessThanOrEqual(open + 2);
  }, 30_000);

  test("a certificate that is revoked loses its stream, and what it calls next is refused", async () => {
    const events = http(TelemetryService, "operator-viewer").watchEvents({ fromSeq: 1n })[Symbol.asyncIterator]();
    await events.next();
    const { fingerprint256 } = new X509Certificate(filesOf(home, "operator-viewer").certificatePem);
    const sha256 = fingerprint256.replaceAll(":", "").toLowerCase();
    writeFileSync(join(home.dir, "revoked.json"), JSON.stringify({ revoked: [{ sha256 }] }));
    const ended = await (async () => {
      for (;;) if ((await events.next()).done === true) return "ended";
    })().catch((error: unknown) => error);
    expect(ended).toBeInstanceOf(ConnectError);
    const next = await http(HubService, "operator-viewer")
      .getStatus({})
      .catch((error: unknown) => toldBy(error));
    expect(next).toMatchObject({ code: "Unauthenticated" });
    await expect(http(HubService, "operator-admin").getStatus({})).resolves.toMatchObject({ hubId: "home" });
  }, 30_000);

  test("a stream that runs when the hub stops has an end, and the hub ends cleanly and at once", async () => {
    const events = http(TelemetryService, "operator-admin").watchEvents({ fromSeq: 1n })[Symbol.asyncIterator]();
    await events.next();
    const ended = (async () => {
      for (;;) if ((await events.next()).done === true) return "ended";
    })().catch((error: unknown) => toldBy(error));
    expect([...(await home.end()).values()]).toEqual([0]);
    // As over gRPC: this one is not asked to go on.
    expect(await ended).toBe("ended");
    expect(home.log("hub")).not.toContain("calls cut at the end of the grace time");
  }, 30_000);
});

describe("where HTTP is not served", () => {
  let federation: Federation;
  let home: HubProcess;
  afterAll(() => federation?.stop());

  const dialled = (host: string): Promise<unknown> =>
    fetch(`https://${host}:${HTTP_PORT}/`).catch((error: unknown) => (error as { cause?: { code?: string } }).cause?.code);

  test("it is off unless it is switched on", async () => {
    federation = await Federation.start({ hubs: [{ id: "home", peers: [] }] });
    home = federation.hub("home");
    expect(await dialled(home.host)).toBe("ECONNREFUSED");
    await home.end();
  }, 60_000);

  test("a port that is taken ends the start with what to do", async () => {
    withHttp(home);
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(HTTP_PORT, home.host, resolve));
    home.spawn();
    await until("the hub ending", () => home.pids.size === 0);
    expect(home.log("hub")).toContain(
      `port ${HTTP_PORT} on ${home.host} is already in use; stop the other program or choose another port with http.port`,
    );
    await new Promise((resolve) => other.close(resolve));
  }, 60_000);

  test("a hub with one process per service says that it does not", async () => {
    await federation.stop();
    federation = await Federation.prepare({ hubs: [{ id: "home", peers: [], mode: "split" }] });
    home = federation.hub("home");
    withHttp(home);
    await home.start();
    expect(await dialled(home.host)).toBe("ECONNREFUSED");
    expect(home.log("discovery")).toContain("http is served by a hub in one process only");
  }, 90_000);
});
