// What released versions wrote is read by the present one: stores of every service, the signed bytes of the wire, and the command journal.
// testdata/ is made by record.ts and never changed afterwards.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { SegmentHeaderSchema, SegmentPayloadSchema, SegmentSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { MIGRATIONS } from "#runtime/store/migrations/index.ts";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { Hub, OUTCOME, valueOfPlain } from "../../clients/typescript/index.ts";
import { valueBytes } from "../../services/command-forwarding/codec/codec.ts";
import { LOG } from "../../services/command-forwarding/journal/journal.ts";
import { META_KEY, META_SPACE } from "../../services/command-forwarding/journal/restore.ts";
import { concat } from "../../services/registry-sync/codec/wire.ts";
import { SEGMENT_DOMAIN, ZERO_DIGEST } from "../../services/registry-sync/feed/segment.ts";
import { loadFeedKey } from "../../services/registry-sync/shell/key.ts";
import { MemoryHub } from "../commands/world.ts";
import { execute, get, isOperational, lamp, metric, number, register, stateOf, text, update } from "../support/acts.ts";
import { Federation, type HubProcess, SERVICES, until } from "../support/federation.ts";
import { COMMANDED, type Expected, HUBS, KEYED, type Known, known, RECORDED } from "./golden.ts";
import { forgetNewFields, previous } from "./previous.ts";
import { formatOf, setFormat, storesOf } from "./stores.ts";

const TESTDATA = join(import.meta.dirname, "testdata");
const VERSIONS = readdirSync(TESTDATA).sort();
const NEWEST = MIGRATIONS.at(-1)!.version;

const expectedOf = (version: string): Expected => JSON.parse(readFileSync(join(TESTDATA, version, "expected.json"), "utf8")) as Expected;
const dataOf = (hub: HubProcess): string => join(hub.dir, "data");

/** prepare makes the recorded federation anew, with the recorded data folders and certificates of today. */
async function prepare(version: string, folders: Readonly<Record<string, string>>, entry?: readonly string[]): Promise<Federation> {
  const federation = await Federation.prepare({ hubs: HUBS, ...(entry === undefined ? {} : { entry }) });
  for (const [hub, folder] of Object.entries(folders))
    cpSync(join(TESTDATA, version, folder), dataOf(federation.hub(hub)), { recursive: true });
  return federation;
}

/** refused starts a hub that must not start, and gives what it says. */
async function refused(hub: HubProcess): Promise<string> {
  hub.startProcess("hub");
  await until(`${hub.id} ending`, () => hub.pids.size === 0, 60_000);
  expect([...(await hub.end()).values()]).toEqual([1]);
  return hub.log("hub");
}

/** held leaves out what happened since. */
function held(now: Known, then: Known): Known {
  const recent = now.events.length - then.events.length;
  return { ...now, events: now.events.slice(Math.max(0, recent)) };
}

describe("recorded versions", () => {
  test("are there, each with every store of both hubs", () => {
    expect(VERSIONS.length).toBeGreaterThan(0);
    for (const version of VERSIONS)
      for (const hub of [...RECORDED, "home-killed"]) {
        const stores = storesOf(join(TESTDATA, version, hub)).map((path) => path.split("/").at(-1));
        expect(stores).toEqual(["command-forwarding.sqlite", "discovery.sqlite", "registry-sync.sqlite", "telemetry.sqlite"]);
      }
  });
});

describe.each(VERSIONS)("stores of %s, opened by the present version", (version) => {
  const expected = expectedOf(version);
  let federation: Federation;

  beforeAll(async () => {
    federation = await prepare(version, { home: "home", factory: "factory" });
    for (const id of RECORDED)
      for (const store of storesOf(dataOf(federation.hub(id)))) expect(formatOf(store), store).toBe(expected.format);
    await Promise.all(RECORDED.map((id) => federation.hub(id).start()));
  }, 120_000);

  afterAll(() => federation?.stop(), 60_000);

  test.each(RECORDED)(
    "%s serves what it held: own nodes, those of its peer, terminated links, events",
    async (id) => {
      const clients = federation.hub(id).clients();
      const then = expected.hubs[id]!;
      await until(`${id} knowing it all`, async () => (await known(clients)).events.length > then.events.length, 30_000);
      expect(held(await known(clients), then)).toEqual(then);
    },
    60_000,
  );

  test("the link comes up again and the feeds resume without a snapshot; changes and commands go on", async () => {
    const home = federation.hub("home").clients();
    const gateway = federation.hub("factory").clients("gateway-zigbee");
    await until("the link", () => isOperational(home, "factory"), 60_000);
    await update(gateway, "lamp-1", { power: number(99) });
    await until("the change at home", async () => stateOf(await get(home, "factory", "lamp-1"), "power") === 99, 30_000);
    expect(await metric(federation.hub("home"), "foedus_registry_sync_snapshots_total", { peer: "factory" })).toBe(0);
    const executor = Hub.over(gateway).serve({ nodeIds: ["lamp-1"], run: ({ value }) => ({ value }) });
    try {
      const sent = () => execute(home, "factory", "lamp-1", "state", text("OFF"));
      await until("a command", async () => (await sent()).result?.outcome === Outcome.DONE, 30_000);
    } finally {
      executor.close();
    }
  }, 120_000);

  test("every store is of the present format afterwards", async () => {
    for (const id of RECORDED) {
      const hub = federation.hub(id);
      hub.closeClients();
      expect([...(await hub.end()).values()]).toEqual([0]);
      const formats = storesOf(dataOf(hub)).map(formatOf);
      expect(formats).toEqual(SERVICES.map(() => NEWEST));
    }
  }, 60_000);

  const old = previous(expected);
  const given = old.reason === undefined ? "" : ` (skipped: ${old.reason})`;
  if (NEWEST > expected.format)
    test.skipIf(old.reason !== undefined)(
      `${version} itself refuses them then, with words${given}`,
      async () => {
        const hub = federation.hub("factory");
        hub.entry = [old.entry!];
        forgetNewFields(join(hub.dir, "hub.json"), hub.entry);
        expect(await refused(hub)).toContain(`was written by newer software (format ${NEWEST}, this one knows ${expected.format})`);
      },
      60_000,
    );
});

describe.each(VERSIONS)("a hub of %s that was killed", (version) => {
  test("what it had acknowledged is in its write-ahead files, and is served", async () => {
    const federation = await prepare(version, { home: "home-killed" });
    try {
      const hub = federation.hub("home");
      await hub.start();
      expect(stateOf(await get(hub.clients(), "home", "attic-lamp"), "power")).toBe(20);
      await register(hub.clients("gateway-zigbee"), lamp("attic-lamp-2"));
    } finally {
      await federation.stop();
    }
  }, 120_000);
});

describe.each(VERSIONS)("bytes of %s", (version) => {
  const folder = mkdtempSync(join(tmpdir(), "foedus-golden-"));
  beforeAll(() => cpSync(join(TESTDATA, version), folder, { recursive: true }));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("segments as they were sent and stored: signed by the feed key, chained without a gap, every block known", () => {
    const { key } = loadFeedKey(join(folder, "factory", "feed-key.json"));
    const crypto = createCrypto(key);
    const store = openSqliteStore({ path: join(folder, "factory", "registry-sync.sqlite"), durability: "full", reserveBytes: 0 });
    const kinds = new Set<string>();
    let prev: Uint8Array = ZERO_DIGEST;
    let seq = 0;
    for (const blob of store.read("own/full/1", 0)) {
      const { header, signature, payload } = fromBinary(SegmentSchema, blob.bytes);
      expect(crypto.verify(key.publicKey, concat([SEGMENT_DOMAIN, header]), signature)).toBe(true);
      const fields = fromBinary(SegmentHeaderSchema, header);
      expect([fields.hubId, fields.share, Number(fields.seq)]).toEqual(["factory", "full", ++seq]);
      expect(Buffer.from(fields.prev).equals(prev)).toBe(true);
      expect(Buffer.from(fields.payloadDigest).equals(crypto.hash(payload))).toBe(true);
      for (const { kind, $unknown } of fromBinary(SegmentPayloadSchema, payload).blocks) {
        expect($unknown).toBeUndefined();
        kinds.add(kind.case ?? "none");
      }
      prev = crypto.hash(header);
    }
    store.close();
    expect(seq).toBeGreaterThan(20);
    expect([...kinds].sort()).toEqual(["epochOpen", "keyDef", "nodeDel", "nodePut", "presence", "state"]);
  });

  test("the command journal: a command that is sent again under its key gets its old outcome and does not run, within the key's life", () => {
    const store = openSqliteStore({ path: join(folder, "home", "command-forwarding.sqlite"), durability: "full", reserveBytes: 0 });
    const hub = new MemoryHub("home", () => ({ mono: 1_000, wall: expectedOf(version).wallMs }));
    for (const { seq, bytes } of store.read(LOG, 0)) hub.disk.blobs.set(seq, bytes);
    hub.disk.meta = store.get(META_SPACE, META_KEY);
    store.close();
    hub.restart();
    const sent = Object.entries(KEYED).map(([key, value], corr) => {
      const command = { ...COMMANDED, corr, value: valueBytes(valueOfPlain(value)), timeoutMs: 5_000, key, hops: [] };
      return hub.give({ kind: "execute", client: 1, principal: "spiffe://home/operator/admin", commands: [command] });
    });
    const replies = sent.flat().flatMap((effect) => (effect.kind === "reply" ? [effect] : []));
    expect(replies.map(({ replayed, result }) => [replayed, result.outcome])).toEqual([
      [true, OUTCOME.DONE],
      [true, OUTCOME.FAILED],
    ]);
    expect(sent.flat().filter(({ kind }) => kind === "tasks" || kind === "invoke")).toEqual([]);
  });
});

describe("a store of a version that is newer than the software", () => {
  test.each(["command-forwarding", "discovery", "registry-sync", "telemetry"])(
    "%s: the hub does not start, says so in one sentence, and leaves the file alone",
    async (service) => {
      const federation = await prepare(VERSIONS[0]!, { home: "home" });
      try {
        const hub = federation.hub("home");
        const path = join(dataOf(hub), `${service}.sqlite`);
        setFormat(path, NEWEST + 1);
        const before = readFileSync(path);
        const said = await refused(hub);
        expect(said).toContain(`${service}.sqlite was written by newer software (format ${NEWEST + 1}, this one knows ${NEWEST})`);
        expect(said).toContain("run that version or restore a backup");
        expect(readFileSync(path).equals(before)).toBe(true);
      } finally {
        await federation.stop();
      }
    },
    120_000,
  );
});
