import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createServer } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ExecuteResponseSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type Command, Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { NodeKind } from "#gen/foedus/common/v1/node_pb.ts";
import { Freshness, ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import {
  GetPeerResponseSchema,
  ListPeersResponseSchema,
  SetPeerEnabledResponseSchema,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState, PeerSchema } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { GetConfigResponseSchema, GetStatusResponseSchema } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import {
  GetNodeResponseSchema,
  ListFeedsResponseSchema,
  type ListNodesRequest,
  ListNodesResponseSchema,
  type NodeRecord,
  NodeRecordSchema,
  WatchResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  EventKind,
  ListEventsResponseSchema,
  ListLinkCountersResponseSchema,
  Severity,
  WatchEventsResponseSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { type FixedHub, fixedHub } from "../test/cli/fixture.ts";
import { testHub } from "../test/testca/index.ts";

const lamp = create(NodeRecordSchema, {
  name: { hubId: "home", nodeId: "lamp" },
  node: {
    nodeId: "lamp",
    kind: NodeKind.DEVICE,
    type: "light",
    name: "Desk \u001b[31mlamp",
    capabilities: [
      { name: "state", type: ValueType.BOOL, readable: true, invocable: true, idempotent: true },
      { name: "brightness", type: ValueType.SINT64, readable: true, invocable: true, min: 0, max: 254, unit: "lvl" },
      { name: "mode", type: ValueType.STRING, invocable: true, allowed: ["day", "night"] },
    ],
  },
  state: [{ key: "brightness", value: { kind: { case: "intValue", value: 200n } } }],
  online: true,
  freshness: Freshness.FRESH,
});

const press = create(NodeRecordSchema, {
  name: { hubId: "factory", nodeId: "press-1" },
  node: { nodeId: "press-1", kind: NodeKind.DEVICE, type: "press" },
  freshness: Freshness.UNKNOWN,
  ageMs: 150_000n,
});

const factory = create(PeerSchema, {
  hubId: "factory",
  level: TrustLevel.LIMITED,
  maxTrust: TrustLevel.FULL,
  state: LinkState.RECOVERING,
  stateAgeMs: 7_000n,
  share: "limited",
  decision: "two methods hold",
  evidence: [{ method: "certificate", valid: true, detail: "chain ends in the pinned CA" }],
  sessions: [{ service: "registry-sync", state: LinkState.RECOVERING, synced: true }],
  failure: { message: "nothing listens at the address" },
  retryInMs: 4_000n,
});

/** What the hub says of its peer; a test may put another one here. */
let peer = factory;

const filters: ListNodesRequest[] = [];
const commands: Command[] = [];
const enabled: [string, boolean][] = [];
let watches = 0;

function page(request: ListNodesRequest): readonly [NodeRecord[], string] {
  filters.push(request);
  if (request.filter?.type === "lihgt" || request.filter?.hubIds.includes("factroy") === true) return [[], ""];
  return request.pageToken === "" ? [[press], "next"] : [[lamp], ""];
}

/** execute answers as a hub does: DONE in the response, all else as an error (see the schema). */
function execute(command: Command | undefined): ReturnType<typeof create<typeof ExecuteResponseSchema>> {
  if (command === undefined) throw fail("INVALID_FIELD", "no command");
  commands.push(command);
  if (command.capability === "brightness") throw fail("VALUE_OUT_OF_RANGE", "999 is above 254", { field: "command.value" });
  if (command.capability === "mode") throw fail("OUTCOME_UNKNOWN", "the executor went away while it ran");
  return create(ExecuteResponseSchema, {
    result: { outcome: Outcome.DONE, durationMs: 12.4, value: { kind: { case: "boolValue", value: true } } },
  });
}

let home: FixedHub;

beforeAll(async () => {
  home = await fixedHub({
    hub: {
      getStatus: () =>
        create(GetStatusResponseSchema, {
          hubId: "home",
          software: "0.1.0",
          mode: "single",
          uptimeMs: 3_700_000n,
          durability: "full",
          wallMs: BigInt(Math.round(systemClock.wall())),
          certificateExpiresMs: BigInt(Math.round(systemClock.wall())) + 40n * 86_400_000n,
          modules: [
            { name: "discovery", ready: true },
            { name: "telemetry", ready: false, reason: "its store failed" },
          ],
        }),
      getConfig: () => create(GetConfigResponseSchema, { json: '{"hub_id":"home","listen":{"port":18800}}' }),
    },
    discovery: {
      listPeers: () => create(ListPeersResponseSchema, { peers: [peer] }),
      getPeer: ({ hubId }) => {
        if (hubId !== peer.hubId) throw fail("PEER_NOT_FOUND", `no peer ${hubId}`);
        return create(GetPeerResponseSchema, { peer });
      },
      setPeerEnabled: ({ hubId, enabled: on }) => {
        if (hubId !== "factory") throw fail("PEER_NOT_FOUND", `no peer ${hubId}`);
        enabled.push([hubId, on]);
        return create(SetPeerEnabledResponseSchema, { peer: { ...factory, state: on ? LinkState.INIT : LinkState.TERMINATED } });
      },
    },
    registry: {
      listNodes: (request) => {
        const [records, nextPageToken] = page(request);
        const hubs = [
          { hubId: "factory", freshness: Freshness.UNKNOWN, ageMs: 150_000n, nodes: 1 },
          { hubId: "home", freshness: Freshness.FRESH, nodes: 1 },
          { hubId: "attic", freshness: Freshness.UNKNOWN, ageMs: BigInt(Number.MAX_SAFE_INTEGER), nodes: 0 },
        ];
        return create(ListNodesResponseSchema, { records, nextPageToken, hubs, total: records.length === 0 ? 0 : 2 });
      },
      getNode: ({ name }) => {
        if (name?.nodeId !== "lamp") throw fail("NODE_NOT_FOUND", `no node ${name?.hubId}/${name?.nodeId}`);
        return create(GetNodeResponseSchema, { record: lamp });
      },
      listFeeds: () =>
        create(ListFeedsResponseSchema, {
          feeds: [
            {
              head: { hubId: "home", share: "full", epoch: 2n, seq: 41n },
              own: true,
              freshness: Freshness.FRESH,
              nodes: 1,
              entries: 1_234n,
              cursors: [{ hubId: "factory", acked: { hubId: "home", share: "full", epoch: 2n, seq: 40n }, lag: 1n }],
            },
          ],
        }),
      watch: async (_request, out, context) => {
        watches++;
        const name = { hubId: "home", nodeId: "lamp" };
        const state = (value: bigint) => ({
          case: "state" as const,
          value: { key: "brightness", value: { kind: { case: "intValue" as const, value } } },
        });
        out.send(create(WatchResponseSchema, { push: { case: "events", value: { events: [{ name, change: state(1n) }] } } }));
        out.send(
          create(WatchResponseSchema, {
            push: { case: "bookmark", value: { positions: [{ hubId: "home", share: "full", epoch: 2n, seq: 41n }] } },
          }),
        );
        const events = [
          { name, change: state(2n) },
          { name: { hubId: "home", nodeId: "lamp2" }, change: state(9n) },
          { name, change: { case: "online" as const, value: false } },
        ];
        out.send(create(WatchResponseSchema, { push: { case: "events", value: { events } } }));
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve, { once: true }));
      },
    },
    commands: { execute: ({ command }) => execute(command) },
    telemetry: {
      listEvents: ({ filter }) => {
        const wallMs = BigInt(Math.round(systemClock.wall())) - 90_000n;
        const events = [
          {
            seq: 8n,
            wallMs,
            kind: EventKind.FEED,
            severity: Severity.WARNING,
            service: "registry-sync",
            peer: "factory",
            text: "snapshot was refused",
          },
          {
            seq: 7n,
            wallMs,
            kind: EventKind.LINK_STATE,
            severity: Severity.INFO,
            service: "discovery",
            peer: "factory",
            text: "recovering",
          },
        ];
        return create(ListEventsResponseSchema, { events: events.filter(({ severity }) => severity >= (filter?.minSeverity ?? 0)) });
      },
      watchEvents: async ({ fromSeq }, out, context) => {
        out.send(
          create(WatchEventsResponseSchema, {
            events: [{ seq: fromSeq, wallMs: 0n, kind: EventKind.NODE, node: "home/lamp", text: `from ${fromSeq}` }],
            nextSeq: fromSeq + 1n,
          }),
        );
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve, { once: true }));
      },
      listLinkCounters: () =>
        create(ListLinkCountersResponseSchema, {
          links: [
            { peer: "factory", service: "registry-sync", mount: "mirror", bytesIn: 2_048n, framesIn: 12n, fatal: 1n, lastEvent: "lost" },
          ],
        }),
    },
  });
});

afterAll(() => home.close());

describe("verbs against a hub", () => {
  test("status shows modules, peers and hubs, and fails when a module is not ready", async () => {
    const { code, out, err } = await home.foedus("status");
    expect(err).toBe("");
    expect(out).toMatch(/hub +home/);
    expect(out).toMatch(/running for +1 h/);
    expect(out).toMatch(/certificate +ends in \d+ d/);
    expect(out).toMatch(/telemetry +not ready +its store failed/);
    expect(out).toMatch(/factory +recovering +7 s +limited/);
    expect(out).toMatch(/factory +1 +unknown +2 min ago/);
    expect(code).toBe(1);
  });

  test("status of a hub in split mode says once what its processes say alike, and of each module whose it is", async () => {
    const split = ["discovery", "registry-sync", "command-forwarding", "telemetry"].flatMap((name) => [
      "--address",
      `${name}=127.0.0.1:${home.fixture.port}`,
    ]);
    const [, , ...credentials] = await home.flags("split", home.hub.operator("admin", "admin"));
    const { out, err } = await home.foedus("status", ...split, ...credentials);
    expect(err).toBe("");
    for (const fact of ["hub", "software", "mode", "running for", "durability", "certificate"])
      expect(out.match(new RegExp(`^${fact} {2,}`, "gm")), fact).toHaveLength(1);
    expect(out).toMatch(/^registry-sync +telemetry +not ready +its store failed$/m);
  });

  test("peers lists the problem and the next attempt; one peer shows its evidence", async () => {
    const list = await home.foedus("peers");
    expect(list).toMatchObject({ code: 0, err: "" });
    expect(list.out).toMatch(/factory +recovering +7 s +limited +limited +- +yes +nothing listens at the address; next attempt in 4 s/);
    const one = await home.foedus("peers", "factory");
    expect(one.out).toMatch(/trust +limited \(ceiling full, it grants us none\)/);
    expect(one.out).toMatch(/certificate +yes +never +chain ends in the pinned CA/);
  });

  test.each([
    ["trusts this hub", TrustLevel.FULL, TrustLevel.MINIMAL, "factory trusts this hub only minimally"],
    ["is trusted", TrustLevel.MINIMAL, TrustLevel.FULL, "this hub trusts factory only minimally"],
  ])("a peer that %s minimally has nothing that is waited for: its other services are closed", async (_who, level, levelThere, why) => {
    const state = LinkState.OPERATIONAL;
    const sessions = [
      { service: "discovery", state, synced: true },
      { service: "registry-sync", state: LinkState.DISCOVERING },
    ];
    peer = create(PeerSchema, { hubId: "factory", level, levelThere, state, stateAgeMs: 7_000n, sessions });
    try {
      const list = await home.foedus("peers");
      expect(list.out).toMatch(/factory +operational +7 s +(full|minimal) +- +- +yes\n/);
      expect(list.err).toBe(`factory: only discovery is open, because ${why}\n`);
      const one = await home.foedus("peers", "factory");
      expect(one.out).toMatch(new RegExp(`registry-sync +closed +- +- +- +${why}`));
    } finally {
      peer = factory;
    }
  });

  test("D-4 peers disable and enable say what became of the link; options may stand before or after", async () => {
    const off = await home.foedus("peers", "disable", "factory");
    expect(off).toEqual({ code: 0, out: "factory is disabled; the link is terminated\n", err: "" });
    const on = await home.foedus("peers", "--json", "enable", "factory");
    expect(JSON.parse(on.out)).toMatchObject({ peer: { hub_id: "factory", state: "LINK_STATE_INIT" } });
    expect(enabled).toEqual([
      ["factory", false],
      ["factory", true],
    ]);
  });

  test("S0-21 nodes reads all pages, sends the filter, and D-7 says which hub is unknown", async () => {
    filters.length = 0;
    const { code, out, err } = await home.foedus(
      "nodes",
      "--hub-id",
      "home",
      "--hub-id",
      "factory",
      "--kind",
      "device",
      "--label",
      "room=hall",
      "--online",
      "--prefix",
      "p",
    );
    expect(code).toBe(0);
    expect(out.split("\n").slice(1, 3)).toEqual([
      expect.stringMatching(/^factory\/press-1 +device +press/),
      expect.stringMatching(/^home\/lamp +device +light/),
    ]);
    expect(err).toContain("2 nodes\n");
    expect(err).toContain("factory is unknown: last confirmed 2 min ago\n");
    expect(err).toContain("attic is unknown: never confirmed since this hub started\n");
    expect(filters.map(({ pageToken }) => pageToken)).toEqual(["", "next"]);
    expect(filters[0]?.filter).toMatchObject({
      hubIds: ["home", "factory"],
      kind: NodeKind.DEVICE,
      labels: { room: "hall" },
      onlineOnly: true,
      nodeIdPrefix: "p",
    });
  });

  test("what was mistyped is answered with what was probably meant: nodes, hubs, peers, capabilities, contexts", async () => {
    const said = async (...args: readonly string[]): Promise<string> => {
      const { code, err } = await home.foedus(...args);
      expect([code, err.split("\n").length], args.join(" ")).toEqual([5, 2]);
      return err.trim();
    };
    const [node, hub, bare, far, peer, off, capability, context] = await Promise.all([
      said("node", "home/lmap"),
      said("node", "factroy/press-1"),
      said("send", "press-2", "state", "on"),
      said("node", "home/something-else"),
      said("peers", "factroy"),
      said("peers", "disable", "nobody-like-it"),
      said("send", "lamp", "sate", "on"),
      said("contexts", "use", "hoem"),
    ]);
    expect(await said("nodes", "--hub-id", "factroy")).toBe("foedus: no hub named factroy is known here. Did you mean factory?");
    expect(node).toBe("foedus: there is no node home/lmap. Did you mean home/lamp?");
    expect(hub).toBe("foedus: there is no node factroy/press-1: no hub named factroy is known here. Did you mean factory?");
    expect(bare).toBe("foedus: there is no node press-2. Did you mean factory/press-1?");
    expect(far).toBe("foedus: there is no node home/something-else. List the nodes with `foedus nodes --hub-id home`.");
    expect(peer).toBe("foedus: there is no peer factroy. Did you mean factory?");
    expect(off).toBe("foedus: there is no peer nobody-like-it. Known is factory.");
    expect(capability).toBe('foedus: home/lamp has no capability "sate". Did you mean state?');
    expect(context).toMatch(/has no context "hoem"\. Did you mean home\?$/);
    const json = await home.foedus("node", "home/lmap", "--json");
    expect(JSON.parse(json.err)).toMatchObject({ error: { reason: "NODE_NOT_FOUND", exit_code: 5 } });
  });

  test("a known peer that shows nothing is not called unknown: who decides is said, and whom to ask", async () => {
    const lab = (more: object): void => {
      peer = create(PeerSchema, {
        hubId: "lab",
        level: TrustLevel.LIMITED,
        levelThere: TrustLevel.LIMITED,
        state: LinkState.OPERATIONAL,
        ...more,
      });
    };
    try {
      lab({});
      const share =
        "the share that it gives this hub selects none. Ask its operator; there, `foedus share test home` says what the share shows";
      expect(await home.foedus("send", "lab/demo-lamp", "state", "ON")).toMatchObject({
        code: 5,
        err: expect.stringContaining(`there is no node lab/demo-lamp: lab is a peer, but shows this hub no nodes: ${share}`),
      });
      expect((await home.foedus("nodes", "--hub-id", "lab", "--type", "lihgt")).err).toContain("nothing matches");
      lab({ levelThere: TrustLevel.MINIMAL });
      expect((await home.foedus("node", "lab/demo-lamp")).err).toContain(
        "shows this hub no nodes, because lab trusts this hub only minimally. Ask the operator of lab to open it, there: `foedus peer trust home limited`.",
      );
      lab({ level: TrustLevel.MINIMAL });
      expect((await home.foedus("node", "lab/demo-lamp")).err).toContain(
        "because this hub trusts lab only minimally. To open it: `foedus peer trust lab limited`",
      );
      lab({ level: TrustLevel.MINIMAL, maxTrust: TrustLevel.FULL });
      expect((await home.foedus("node", "lab/demo-lamp")).err).toContain(
        "Its ceiling is higher, but its evidence is not enough: `foedus peers lab`",
      );
      lab({ state: LinkState.RECOVERING, failure: { message: "nothing listens at 1.2.3.4:5" } });
      expect((await home.foedus("node", "lab/demo-lamp")).err).toContain(
        "because nothing listens at 1.2.3.4:5. Details: `foedus peers lab`",
      );
    } finally {
      peer = factory;
    }
  });

  test("an empty list says what to do about it", async () => {
    expect((await home.foedus("nodes", "--type", "lihgt")).err).toContain("nothing matches; `foedus nodes` without options lists all\n");
  });

  test("nodes --limit stops early, --quiet gives names, --json one document", async () => {
    filters.length = 0;
    expect(await home.foedus("nodes", "--limit", "1", "-q")).toEqual({ code: 0, out: "factory/press-1\n", err: "" });
    expect(filters).toHaveLength(1);
    const { out } = await home.foedus("nodes", "--json");
    const document = JSON.parse(out) as { nodes: object[] };
    expect(document).toMatchObject({ total: 2, hubs: [{ hub_id: "factory", age_ms: "150000" }, {}, {}] });
    expect(document.nodes).toHaveLength(2);
  });

  test("control characters in names of others do not reach the terminal", async () => {
    const { out } = await home.foedus("nodes");
    expect(out).toContain("Desk \\u{1b}[31mlamp");
    expect(out).not.toContain("\u001b");
  });

  test("node shows capabilities with type, range, access and state", async () => {
    const { code, out } = await home.foedus("node", "home/lamp");
    expect(code).toBe(0);
    expect(out).toMatch(/brightness +sint64 +lvl +0 to 254 +read, invoke +200 lvl/);
    expect(out).toMatch(/mode +string +day \| night +invoke/);
    expect(out).toMatch(/freshness +fresh/);
  });

  test("S0-15 send reads the value by the capability's type and prints outcome, time and value", async () => {
    commands.length = 0;
    const { code, out } = await home.foedus("send", "lamp", "state", "on", "--timeout", "3s", "--idempotency-key", "k1");
    expect(out).toBe("home/lamp state: done in 12 ms, value true\n");
    expect(code).toBe(0);
    expect(commands[0]).toMatchObject({
      target: { hubId: "home", nodeId: "lamp" },
      capability: "state",
      value: { kind: { case: "boolValue", value: true } },
      timeoutMs: 3_000,
      idempotencyKey: "k1",
    });
  });

  test("send refuses a value of another type, a capability that is not there, and passes on the owner's verdict", async () => {
    const wrong = await home.foedus("send", "lamp", "state", "perhaps");
    expect(wrong).toEqual({ code: 2, out: "", err: 'foedus: "perhaps" is not a value of lamp state. Give true or false.\n' });
    const needs = async (capability: string): Promise<string> => {
      const { code, err } = await home.foedus("send", "lamp", capability);
      expect(code).toBe(2);
      return err;
    };
    expect(await needs("mode")).toBe("foedus: lamp mode needs a value. Give one of day, night.\n");
    expect(await needs("brightness")).toBe("foedus: lamp brightness needs a value. Give a whole number, 0 to 254 lvl.\n");
    const missing = await home.foedus("send", "lamp", "colour", "red");
    expect(missing).toEqual({
      code: 5,
      out: "",
      err: 'foedus: home/lamp has no capability "colour". It can do: state, brightness, mode.\n',
    });
    const range = await home.foedus("send", "lamp", "brightness", "999", "--json");
    expect(range.code).toBe(2);
    expect(JSON.parse(range.err)).toMatchObject({ error: { reason: "VALUE_OUT_OF_RANGE", field: "command.value", exit_code: 2 } });
    const unknown = await home.foedus("send", "lamp", "mode", "day");
    expect(unknown.code).toBe(1);
    expect(unknown.err).toContain("Read the state of the node before you decide");
  });

  test("watch of one node says what it is like, prints its changes, and SIGINT ends it with 0", async () => {
    const watch = home.start("watch", "home/lamp");
    await watch.printed("offline");
    watch.child.kill("SIGINT");
    const { code, out, err } = await watch.done;
    const lines = out.trim().split("\n");
    expect(lines).toEqual([
      expect.stringMatching(/^\d\d:\d\d:\d\d {2}home\/lamp {2}brightness = 2$/),
      expect.stringMatching(/home\/lamp {2}offline$/),
    ]);
    // What was there before is no change: a script that reads the changes does not meet it.
    expect(err).toBe("now       home/lamp  brightness = 1\nwatching for changes; press Ctrl-C to end\n");
    expect(code).toBe(0);
    expect(watches).toBe(1);
  });

  test("watch --json --snapshot prints one document per line, with what was there", async () => {
    const watch = home.start("watch", "--json", "--snapshot");
    await watch.printed('"online":false');
    watch.child.kill("SIGTERM");
    const { code, out } = await watch.done;
    const events = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
    expect(events).toHaveLength(4);
    expect(events[0]).toMatchObject({ name: { hub_id: "home", node_id: "lamp" }, state: { key: "brightness", value: { int_value: "1" } } });
    expect(code).toBe(0);
  });

  test("events are listed oldest first with their age, filtered by severity", async () => {
    const { out } = await home.foedus("events");
    expect(out.split("\n").slice(1, 3)).toEqual([
      expect.stringMatching(/^1 min ago +info +link-state +discovery +factory +recovering/),
      expect.stringMatching(/^1 min ago +warning +feed/),
    ]);
    const { out: grave } = await home.foedus("events", "--severity", "warning", "--json");
    expect(JSON.parse(grave)).toMatchObject({ events: [{ seq: "8", severity: "SEVERITY_WARNING" }] });
    expect((await home.foedus("events", "--kind", "weather")).err).toContain("Kinds are link-state, trust-decided,");
  });

  test("events --follow goes on where the list ended", async () => {
    const events = home.start("events", "--follow");
    await events.printed("from 9");
    events.child.kill("SIGINT");
    const { code, out } = await events.done;
    expect(out).toMatch(/snapshot was refused\n.* info +node {2}home\/lamp {2}from 9\n/);
    expect(code).toBe(0);
  });

  test("S3-22 links and feeds", async () => {
    expect((await home.foedus("links")).out).toMatch(/factory +mirror +2\.0 KiB +0 B +12 +0 +0 +1 +0 +now +lost/);
    const { out } = await home.foedus("feeds");
    expect(out).toMatch(/home\/full +this hub +2:41 +1 +1,234 +0 +fresh +now/);
    expect(out).toMatch(/home\/full +factory +2:40 +1\n/);
  });

  test("config prints what the running hub gives", async () => {
    expect(JSON.parse((await home.foedus("config")).out)).toEqual({ hub_id: "home", listen: { port: 18800 } });
  });
});

describe("exit codes", () => {
  test("5 for what does not exist, with what to do and without a stack", async () => {
    const { code, err } = await home.foedus("node", "home/nothing");
    expect(code).toBe(5);
    expect(err).toBe("foedus: there is no node home/nothing. List the nodes with `foedus nodes --hub-id home`.\n");
    expect((await home.foedus("peers", "mars")).code).toBe(5);
    expect(await home.foedus("status", "--hub", "mars")).toMatchObject({ code: 5, err: expect.stringContaining('no context "mars"') });
  });

  test("4 for a caller without the right: a viewer cannot send (ACCESS_DENIED)", async () => {
    const flags = await home.flags("viewer", home.hub.operator("viewer", "viewer"));
    const { code, err } = await home.foedus("send", "lamp", "state", "on", ...flags);
    expect(err).toBe(
      "foedus: this needs an operator with the role admin. Use an operator's certificate with that right: pki/operator-admin.pem in the hub's folder, or one that `foedus pki issue operator <name> --role admin` makes there.\n",
    );
    expect(code).toBe(4);
  });

  test("a certificate that has expired: whose it is, and who renews it", async () => {
    const ours = await home.flags("old", home.hub.expired({ profile: "operator", name: "old", role: "admin" }));
    expect(await home.foedus("nodes", ...ours)).toMatchObject({
      code: 4,
      err: "foedus: the operator's certificate ended 1 h ago. Renew it in the hub's folder: `foedus pki renew`.\n",
    });
    const { certificatePem: cert, keyPem: key } = home.hub.expired();
    const server = createServer({ cert, key, ca: home.hub.caPem, requestCert: true, minVersion: "TLSv1.3", ALPNProtocols: ["h2"] });
    server.on("secureConnection", (socket) => socket.on("error", () => undefined)).on("tlsClientError", () => undefined);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const flags = await home.flags("admin-2", home.hub.operator());
    expect(await home.foedus("nodes", ...flags.with(1, address))).toMatchObject({
      code: 4,
      err: `foedus: the certificate of the hub at ${address} has expired, or one of the clocks is wrong. Renew it in the hub's folder: \`foedus pki renew\`; a running hub loads it automatically.\n`,
    });
    server.close();
  });

  test("2 for a key that belongs to another certificate: the options, or the context, are named", async () => {
    const flags = await home.flags("mixed", home.hub.operator("one"));
    await home.flags("other", home.hub.operator("two"));
    const mixed = flags.map((flag) => flag.replace("mixed.key", "other.key"));
    expect(await home.foedus("nodes", ...mixed)).toMatchObject({
      code: 2,
      err: expect.stringMatching(/the certificate and the private key do not belong together\. Give --cert and --key of one pair/),
    });
    const context = ["--contexts", join(home.folder, "mixed.json")];
    await home.foedus("contexts", "add", "home", ...mixed, ...context);
    expect((await home.foedus("nodes", ...context)).err).toMatch(
      /Correct ca, cert and key of the context home: `foedus contexts add home --cert/,
    );
  });

  test("4 for a server that is another hub: its certificate is checked by name and CA", async () => {
    const other = await testHub("home");
    const flags = await home.flags("stranger", other.operator());
    const { code, err } = await home.foedus("nodes", ...flags);
    expect(err).toMatch(/^foedus: .*CA/);
    expect(code).toBe(4);
  });

  test("4 for a certificate of another CA: the hub refuses it in the handshake", async () => {
    const stranger = (await testHub("home")).operator();
    const flags = await home.flags("forged", { ...stranger, caPem: home.hub.caPem });
    const { code, err } = await home.foedus("nodes", ...flags);
    expect(err).toMatch(/^foedus: .*certificate/);
    expect(code).toBe(4);
  });

  test("2 for what was typed wrongly", async () => {
    for (const args of [["nodes", "--kind", "ghost"], ["node"], ["fly"], ["node", "a/b/c"], ["nodes", "--limit", "0"]])
      expect(await home.foedus(...args), args.join(" ")).toMatchObject({
        code: 2,
        out: "",
        err: expect.stringMatching(/^foedus: [^\n]+\n$/),
      });
  });
});
