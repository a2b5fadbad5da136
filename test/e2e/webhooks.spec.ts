import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { EventKind, ReportEventsRequestSchema, Severity } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { metric } from "../support/acts.ts";
import { Federation, type HubProcess, until } from "../support/federation.ts";
import { type Receiver, startReceiver } from "../support/webhook-receiver.ts";
import { type TestHub, testHub } from "../testca/index.ts";

const SECRET = Buffer.alloc(32, 0x5a);
const WORD = `whsec_${SECRET.toString("base64")}`;
/** A part of the URL that only its receiver knows, as those of chat services have. */
const PATH = "/hooks/T0KEN-9f3a77";

let receiverCa: TestHub;
let federation: Federation;
let home: HubProcess;
let receiver: Receiver;
let number = 0;

const sink = (more: object = {}) => ({
  url: `https://localhost:${receiver.port}${PATH}`,
  secret_file: "webhook.secret",
  ca: "receiver-ca.pem",
  kinds: ["NODE"],
  retry_max_ms: 1_000,
  ...more,
});

/** prepare writes what the hub of this test needs, and does not start it. */
async function prepare(webhooks: Readonly<Record<string, object>>, more: object = {}, mode: "single" | "split" = "single"): Promise<void> {
  federation = await Federation.prepare({ hubs: [{ id: "home", peers: [], mode, config: { webhooks, ...more } }], logLevel: "debug" });
  home = federation.hub("home");
  writeFileSync(join(home.dir, "webhook.secret"), `${WORD}\n`, { mode: 0o600 });
  writeFileSync(join(home.dir, "receiver-ca.pem"), receiverCa.caPem);
}

/** report has so many events happen, as the hub's own services report them, and gives their texts. */
async function report(count: number, severity: Severity = Severity.INFO): Promise<string[]> {
  const texts = Array.from({ length: count }, () => `event ${++number}`);
  const clients = home.clients("service-hub");
  const wallMs = BigInt(Math.round(systemClock.wall()));
  for (let from = 0; from < count; from += 500) {
    const events = texts.slice(from, from + 500).map((text) => ({ kind: EventKind.NODE, severity, text, wallMs }));
    await clients.telemetry.reportEvents(create(ReportEventsRequestSchema, { service: "registry-sync", events }));
  }
  clients.close();
  return texts;
}

const texts = (received: Receiver["all"]): unknown[] => received.map(({ data }) => data["text"]);
const posted = (what: readonly string[]) =>
  until(`${what.length} events being posted`, () => texts(receiver.taken).includes(what.at(-1)), 30_000);

beforeAll(async () => {
  receiverCa = await testHub("receiver");
});
beforeEach(async () => {
  await receiver?.close();
  receiver = await startReceiver(receiverCa.service(), SECRET);
  return async () => {
    await federation?.stop("SIGKILL");
  };
});
afterAll(() => receiver?.close());

describe("webhooks of a running hub", () => {
  test("events are posted in order, signed, as the filter says, and what nobody may know is in no log", async () => {
    await prepare({ all: sink(), grave: sink({ min_severity: "ERROR", url: `https://localhost:${receiver.port}/grave` }) });
    await home.start();
    await until("the sinks being there", async () => /webhook all position=[1-9]/.test(await home.ops("/statusz")));
    const plain = await report(450);
    const [bad] = await report(1, Severity.ERROR);
    const debug = await report(1, Severity.DEBUG);
    await until("both sinks having the last one", () => receiver.taken.filter(({ data }) => data["text"] === bad).length === 2, 30_000);
    const here = receiver.taken.filter(({ path }) => path === PATH);
    expect(texts(here)).toEqual([...plain, bad]);
    expect(texts(receiver.taken.filter(({ path }) => path === "/grave"))).toEqual([bad]);
    expect(texts(receiver.all)).not.toContain(debug[0]);
    expect([receiver.forged, new Set(here.map(({ id }) => id)).size]).toEqual([0, 451]);
    expect(here[0]).toMatchObject({ type: "foedus.node", hub: "home", data: { kind: "EVENT_KIND_NODE", severity: "SEVERITY_INFO" } });
    expect(await metric(home, "foedus_webhook_tries_total", { webhook: "all", outcome: "taken" })).toBe(451);
    await until("the position being written", () => existsSync(join(home.dir, "data/webhooks.json")));
    const said = home.log("hub") + (await home.ops("/statusz")) + readFileSync(join(home.dir, "data/webhooks.json"), "utf8");
    for (const secret of [WORD, SECRET.toString("base64"), "T0KEN-9f3a77"]) expect(said).not.toContain(secret);
    const shown = await home.clients().hub.getConfig({ $typeName: "foedus.hub.v1alpha1.GetConfigRequest" });
    expect(shown.json).toContain("webhook.secret");
    expect(shown.json).not.toContain("T0KEN");
  }, 60_000);

  test("what is not taken is posted again under the same id, and what comes behind waits", async () => {
    await prepare({ all: sink() });
    receiver.answer = (_, response, count) => {
      if (count === 1) response.writeHead(503, { "retry-after": "1" }).end();
      else if (count === 2) response.writeHead(302, { location: `https://localhost:${receiver.port}/elsewhere` }).end();
      else if (count === 3) response.destroy();
      else response.writeHead(200).end("x".repeat(1_000));
    };
    await home.start();
    await until("the sink being there", async () => /webhook all position=[1-9]/.test(await home.ops("/statusz")));
    const told = await report(3);
    await posted(told);
    expect(texts(receiver.all)).toEqual([told[0], told[0], told[0], ...told]);
    expect(new Set(receiver.all.slice(0, 4).map(({ id }) => id)).size).toBe(1);
    expect(receiver.all.every(({ path }) => path === PATH)).toBe(true);
  }, 60_000);

  test("after a crash each event is posted, and again only those of the last second", async () => {
    await prepare({ all: sink() });
    await home.start();
    await until("the sink being there", async () => /webhook all position=[1-9]/.test(await home.ops("/statusz")));
    const before = await report(20);
    await posted(before);
    await until("the position being written", () => existsSync(join(home.dir, "data/webhooks.json")));
    const { port } = receiver;
    const seen = [...receiver.taken];
    await receiver.close();
    const during = await report(20);
    await home.end("SIGKILL");
    await home.start();
    const after = await report(20);
    receiver = await startReceiver(receiverCa.service(), SECRET, port);
    await posted(after);
    const all = texts([...seen, ...receiver.taken]);
    expect([...new Set(all)]).toEqual([...before, ...during, ...after]);
    // Each that came twice came under the same id.
    const ids = new Map([...seen, ...receiver.taken].map(({ id, data }) => [data["text"], id]));
    for (const { id, data } of [...seen, ...receiver.taken]) expect(ids.get(data["text"])).toBe(id);
  }, 90_000);

  test("events that are no longer kept are said to be missing, with their number", async () => {
    await prepare({ all: sink() }, { telemetry: { events_kept: 100 } });
    await home.start();
    await until("the sink being there", async () => /webhook all position=[1-9]/.test(await home.ops("/statusz")));
    const first = await report(1);
    await posted(first);
    const { port } = receiver;
    await receiver.close();
    // As many as no stream has room for.
    const lost = await report(20_000);
    receiver = await startReceiver(receiverCa.service(), SECRET, port);
    await posted(lost);
    const missed = receiver.taken.filter(({ type }) => type === "foedus.events_missed");
    expect(missed.length).toBeGreaterThan(0);
    const sum = missed.reduce((all, { data }) => all + Number(data["missed"]), 0);
    const came = receiver.taken.filter(({ type }) => type === "foedus.node");
    // Positions are counted, also of events that the filter leaves out.
    expect(sum + came.length).toBeGreaterThanOrEqual(lost.length);
    expect(texts(came)).toEqual(lost.filter((text) => texts(came).includes(text)));
    expect(await metric(home, "foedus_webhook_missed_events_total", { webhook: "all" })).toBe(sum);
  }, 60_000);

  test("a receiver whose certificate is another CA's gets nothing, nor does one at an address that nobody means", async () => {
    const other = await testHub("receiver");
    await prepare({ all: sink(), cloud: sink({ url: "https://169.254.169.254/latest" }) });
    writeFileSync(join(home.dir, "receiver-ca.pem"), other.caPem);
    await home.start();
    await until("the sinks being there", async () => /webhook cloud position=[1-9]/.test(await home.ops("/statusz")));
    await report(1);
    await until("both failing", async () => (await metric(home, "foedus_webhook_failing")) === 2);
    const status = await home.ops("/statusz");
    expect(status).toMatch(/webhook all .*why="(self-signed|unable to|certificate)/);
    expect(status).toMatch(/webhook cloud .*why="169\.254\.169\.254 is link-local/);
    expect([receiver.all, receiver.forged]).toEqual([[], 0]);
    expect(await home.ops("/readyz")).toContain('"ready":true');
  }, 60_000);

  test("one that telemetry has no room for says so, and the others go on", async () => {
    await prepare({ one: sink(), two: sink() }, { telemetry: { watchers: 1 } });
    await home.start();
    const status = await until("one of them saying so", async () => {
      const page = await home.ops("/statusz");
      return /webhook \w+ position=[1-9]/.test(page) && /webhook \w+ position=0 .*why="/.test(page) ? page : undefined;
    });
    expect(status.match(/why="/g)?.length).toBe(1);
    const told = await report(2);
    await posted(told);
    expect(texts(receiver.taken)).toEqual(told);
  }, 60_000);

  test("an answer that has no end, and one that never comes, hold nothing up", async () => {
    await prepare({ all: sink({ timeout_ms: 500 }) });
    receiver.answer = (_, response, count) => {
      if (count === 1) return;
      response.writeHead(200);
      const more = (): void => {
        if (count === 2 && !response.destroyed) response.write("x".repeat(65_536), more);
      };
      if (count === 2) more();
      else response.end();
    };
    await home.start();
    await until("the sink being there", async () => /webhook all position=[1-9]/.test(await home.ops("/statusz")));
    const told = await report(3);
    await posted(told);
    expect(texts(receiver.all)).toEqual([told[0], ...told]);
  }, 60_000);
});

/** openTo writes a file that all may read. */
function openTo(file: string): void {
  writeFileSync(file, WORD);
  chmodSync(file, 0o644);
}

test("with one process per service, that of telemetry posts what happens in all of them", async () => {
  await prepare({ all: sink({ kinds: [] }) }, {}, "split");
  await home.start();
  await until("the sink being there", async () => /webhook all position=[1-9]/.test(await home.ops("/statusz", "telemetry")));
  await home.end("SIGTERM", "coordination");
  home.startProcess("coordination");
  const told = await report(3);
  await posted(told);
  expect(texts(receiver.taken).filter((text) => told.includes(String(text)))).toEqual(told);
  for (const name of ["discovery", "registry-sync"]) expect(await home.ops("/statusz", name)).not.toContain("webhook");
}, 120_000);

describe("a hub with webhooks that cannot be", () => {
  test.each([
    ["no file of secrets", () => undefined, "cannot read"],
    ["a file that others may read", openTo, "is open to other users"],
    ["a secret that is none", (file: string) => writeFileSync(file, "hunter2\n", { mode: 0o600 }), "secret 1 of"],
  ] as const)(
    "%s: it says so and does not start",
    async (_, make, says) => {
      await prepare({ all: sink({ secret_file: "other.secret" }) });
      make(join(home.dir, "other.secret"));
      home.spawn();
      await until("the hub ending", () => home.pids.size === 0);
      expect(home.log("hub")).toContain(says);
      expect(home.log("hub")).not.toContain("hunter2");
    },
    60_000,
  );
});
