import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { NodeKind } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { GetPeerResponseSchema, ListPeersResponseSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState, PeerSchema } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { GetConfigResponseSchema } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import {
  GetNodeResponseSchema,
  ListNodesResponseSchema,
  type NodeRecord,
  NodeRecordSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { explainShare, registrySyncConfig, sharesOf } from "../../../services/hub/index.ts";
import { type FixedHub, fixedHub } from "../../../test/cli/fixture.ts";
import { runHere } from "../../../test/cli/here.ts";
import type { Io } from "../../io.ts";
import { displayWidth } from "../../print/text.ts";
import { importText, type Judged, type JudgedNode, listText, nodeChain, remarks } from "./share-text.ts";

const record = (hubId: string, nodeId: string, type: string, capabilities: readonly string[]): NodeRecord =>
  create(NodeRecordSchema, {
    name: { hubId, nodeId },
    node: {
      nodeId,
      type,
      kind: NodeKind.DEVICE,
      labels: { room: "hall" },
      capabilities: capabilities.map((text) => ({
        name: text.replace("!", ""),
        type: ValueType.BOOL,
        readable: true,
        invocable: text.endsWith("!"),
      })),
    },
  });

const OWN = [
  record("home", "desk-lamp", "light", ["state!", "brightness!", "power"]),
  record("home", "front-door", "lock", ["locked!"]),
  record("home", "oven", "oven", ["state!"]),
];
const THEIRS = [record("factory", "press-1", "press", ["state"])];

const SHARES = {
  limited: {
    nodes: [
      { types: ["lock"], allow: false },
      { ids: ["desk-*"], keys: ["state", "power"], invoke: ["state"] },
    ],
  },
  empty: { nodes: [] },
};
const IMPORTS = { nodes: [{ types: ["camera"], allow: false }, "*"] };

const PEER = create(PeerSchema, {
  hubId: "factory",
  level: TrustLevel.LIMITED,
  maxTrust: TrustLevel.LIMITED,
  levelThere: TrustLevel.LIMITED,
  state: LinkState.OPERATIONAL,
  share: "limited",
});
/** What the hub answers; a test may put others here. */
let peer = PEER;
let config: string;
let problem: string;

let home: FixedHub;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-share-test-"));
  home = await fixedHub({
    hub: { getConfig: () => create(GetConfigResponseSchema, { json: config, problem }) },
    discovery: {
      listPeers: () => create(ListPeersResponseSchema, { peers: [peer] }),
      getPeer: ({ hubId }) => {
        if (hubId !== peer.hubId) throw fail("PEER_NOT_FOUND", `no peer ${hubId}`);
        return create(GetPeerResponseSchema, { peer });
      },
    },
    registry: {
      listNodes: ({ filter, pageToken }) => {
        const all = [...OWN, ...THEIRS].filter(({ name }) => filter?.hubIds.includes(name!.hubId) !== false);
        const at = Number(pageToken || "0");
        const nextPageToken = at + 2 < all.length ? String(at + 2) : "";
        return create(ListNodesResponseSchema, {
          records: all.slice(at, at + 2),
          nextPageToken,
          hubs: [{ hubId: "home" }, { hubId: "factory" }],
          total: all.length,
        });
      },
      getNode: ({ name }) => {
        const found = [...OWN, ...THEIRS].find((node) => node.name?.hubId === name?.hubId && node.name?.nodeId === name?.nodeId);
        if (found === undefined) throw fail("NODE_NOT_FOUND", `no node ${name?.hubId}/${name?.nodeId}`);
        return create(GetNodeResponseSchema, { record: found });
      },
    },
  });
}, 60_000);

afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await home?.close();
});

beforeEach(() => {
  peer = PEER;
  problem = "";
  config = JSON.stringify({ hub_id: "home", registry_sync: { shares: SHARES, imports: IMPORTS, of_a_later_version: 1 } });
});

const share = (...args: readonly string[]) =>
  runHere(["share", "test", ...args], { cwd: home.folder, env: { FOEDUS_CONTEXTS: join(home.folder, "contexts.json") } });

describe("share test", () => {
  test("shows what a peer sees and may invoke, and which rule decides", async () => {
    expect(await share("factory")).toEqual({
      code: 0,
      out: [
        "peer     factory",
        "link     operational",
        "trust    limited (ceiling limited); sharing starts at limited",
        "share    limited: 2 rules of the running hub",
        "we take  what 2 import rules allow: 1 node now",
        "",
        "NODE        SEES          INVOKES  WHY",
        "desk-lamp   state, power  state    rule 2: desk-*",
        "front-door  no            -        rule 1 hides it: type lock",
        "oven        no            -        no rule selects it",
        "",
      ].join("\n"),
      err: "factory sees 1 of 3 nodes and may invoke 1\n",
    });
    expect(await share("factory", "-q")).toEqual({ code: 0, out: "home/desk-lamp\n", err: "" });
  });

  test("as JSON, with the numbers of rules as people count them", async () => {
    const { code, out, err } = await share("factory", "--json");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(JSON.parse(out)).toMatchObject({
      hub_id: "home",
      peer: "factory",
      source: "running",
      share: "limited",
      share_defined: true,
      rules: 2,
      trust: "limited",
      link: "operational",
      shown: 1,
      total: 3,
      imports: { rules: 2, held: 1, taken: 1 },
      nodes: [
        {
          node_id: "desk-lamp",
          shown: true,
          because: "rule",
          rule: 2,
          capabilities: [
            { name: "state", right: "invoke", invocable: true },
            { name: "brightness", right: "none", invocable: true },
            { name: "power", right: "see", invocable: false },
          ],
        },
        { node_id: "front-door", shown: false, because: "rule", rule: 1, selects: "type lock" },
        { node_id: "oven", shown: false, because: "no-rule", rule: null },
      ],
    });
  });

  test("F-27 says that the hub goes on by the rules of before while its changed configuration is not valid, beside JSON too", async () => {
    problem = "registry_sync.shares.limited.nodes: must be a list (file hub.json)\u001b[2J";
    const warning =
      "warning: the hub's changed configuration is not valid, so the hub still uses the one before, and this answer is by that: " +
      "registry_sync.shares.limited.nodes: must be a list (file hub.json)\\u{1b}[2J. Correct it; the running hub then reads it by itself\n";
    const json = await share("factory", "--json");
    expect([json.code, json.err, JSON.parse(json.out)]).toEqual([0, warning, expect.objectContaining({ shown: 1, source: "running" })]);
    expect(await share("factory")).toMatchObject({ code: 0, err: `${warning}factory sees 1 of 3 nodes and may invoke 1\n` });
    for (const node of ["home/desk-lamp", "factory/press-1"]) expect((await share("factory", "--node", node)).err).toBe(warning);
    expect(await share("factory", "-q")).toEqual({ code: 0, out: "home/desk-lamp\n", err: "" });
    const shown = await runHere(["config"], { cwd: home.folder, env: { FOEDUS_CONTEXTS: join(home.folder, "contexts.json") } });
    expect([shown.code, shown.err, JSON.parse(shown.out)]).toEqual([0, warning, JSON.parse(config)]);
  });

  test("numbers of nodes are written alike, however many there are", () => {
    const shown = { access: { shown: true, capabilities: [] } } as unknown as JudgedNode;
    const tested = { peer: PEER, level: 3, share: "full", shares: [], rules: undefined, self: "home", tried: {} } as unknown as Judged;
    expect(remarks(tested, Array(1_510).fill(shown))).toMatch(/^factory sees 1,510 of 1,510 nodes and may invoke 0\n/);
  });

  test("--node explains one node, rule by rule", async () => {
    expect(await share("factory", "--node", "desk-lamp")).toEqual({
      code: 0,
      out: [
        "node    home/desk-lamp",
        "peer    factory",
        "link    operational",
        "trust   limited (ceiling limited); sharing starts at limited",
        "share   limited: 2 rules of the running hub",
        "result  factory sees it and may invoke state",
        "",
        "RULE  SELECTS    RESULT",
        "   1  type lock  its type light does not match",
        "   2  desk-*     decides: shows it",
        "",
        "CAPABILITY  SEES  INVOKES  WHY",
        "state       yes   yes      invoke: state",
        "brightness  no    no       not among the keys: state, power",
        "power       yes   no       the node takes no commands for it",
        "",
      ].join("\n"),
      err: "",
    });
    const hidden = await share("factory", "--node", "home/front-door");
    expect(hidden.out).toContain(
      "result    factory does not see it: rule 1 hides it: type lock\nnot read  1 rule after the one that decides\n",
    );
    expect((await share("factory", "--node", "oven", "-q")).out).toBe("none\n");
    expect((await share("factory", "--node", "desk-lamp", "-q")).out).toBe("invoke\n");
    expect(JSON.parse((await share("factory", "--node", "oven", "--json")).out)).toMatchObject({
      nodes: [
        {
          node_id: "oven",
          shown: false,
          steps: [
            { rule: 1, missed: "types" },
            { rule: 2, selects: "desk-*", missed: "ids" },
          ],
        },
      ],
    });
  });

  test("--node with a node of the peer explains what import rules do with it", async () => {
    const { code, out } = await share("factory", "--node", "factory/press-1");
    expect({ code, out }).toEqual({
      code: 0,
      out: [
        "node     factory/press-1",
        "imports  2 rules of the running hub",
        "result   taken in: rule 2 decides",
        "",
        "RULE  SELECTS      RESULT",
        "   1  type camera  its type press does not match",
        "   2  *            decides: takes it in",
        "",
      ].join("\n"),
    });
    expect(await share("factory", "--node", "factory/spy")).toMatchObject({
      code: 5,
      err: expect.stringContaining("the 2 import rules of this hub may keep it out; there, `foedus share test home --node spy` says"),
    });
  });

  test("--share, --trust and --config try what is not in force, and say so", async () => {
    const full = await share("factory", "--share", "full");
    expect(full.out).toContain("share    full: everything, tried instead of limited\n");
    expect(full.err).toBe("factory sees 3 of 3 nodes and may invoke 3\n");
    const trust = await share("factory", "--trust", "minimal");
    expect(trust.out).toContain("trust    minimal (ceiling limited), tried instead of limited; sharing starts at limited\n");
    expect(trust.out).toMatch(/^oven +no +- +its trust is minimal$/m);
    const file = join(folder, "edited.json");
    const write = (hubId: string, registry_sync: object): void =>
      writeFileSync(file, JSON.stringify({ hub_id: hubId, tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" }, registry_sync }));
    write("home", { shares: { limited: { nodes: ["*"] } }, imports: { nodes: [{ types: ["press"], allow: false }] } });
    const edited = await share("factory", "--config", file);
    expect(edited.out).toContain(`share    limited: 1 rule of ${file}, not in force\n`);
    expect(edited.out).toContain("we take  what 1 import rule allows: 1 node now; 1 of them would be kept out\n");
    expect(edited.err).toBe("factory sees 3 of 3 nodes and may invoke 0\n");
    const imported = await share("factory", "--config", file, "--node", "factory/press-1");
    expect(imported.out).toContain("result   kept out after the next start: rule 1 decides\n");
    write("lab", {});
    expect(await share("factory", "--config", file)).toMatchObject({
      code: 2,
      err: expect.stringContaining("is the configuration of lab, not of home"),
    });
    write("home", { shares: { limited: { nods: [] } } });
    expect(await share("factory", "--config", file)).toMatchObject({ code: 2, err: expect.stringContaining("nods") });
    expect(await share("factory", "--config", join(folder, "gone.json"))).toMatchObject({ code: 5 });
  });

  test("what keeps a peer from seeing anything is said, with the command that changes it", async () => {
    peer = create(PeerSchema, { ...PEER, level: TrustLevel.MINIMAL, maxTrust: TrustLevel.MINIMAL, share: "" });
    expect((await share("factory")).err).toContain("`foedus peer trust factory limited` raises the ceiling; try it with --trust limited\n");
    expect((await share("factory", "--trust", "limited")).err).toContain("give it one: `foedus peer add factory --share limited`\n");
    peer = create(PeerSchema, { ...PEER, level: TrustLevel.UNSPECIFIED, state: LinkState.INIT });
    const early = await share("factory");
    expect(early.out).toMatch(/^oven +no +- +its trust is not decided yet$/m);
    expect(early.err).toContain("`foedus peers factory` says what its trust is based on");
    peer = create(PeerSchema, { ...PEER, share: "gone" });
    const gone = await share("factory");
    expect(gone.out).toContain("share    gone: not defined in the configuration of the running hub\n");
    expect(gone.err).toContain("shares are full, empty, limited: `foedus peer add factory --share <share>`\n");
    peer = create(PeerSchema, { ...PEER, share: "empty" });
    expect((await share("factory")).err).toContain("give share empty rules in the configuration; docs/SHARING.md has recipes\n");
    peer = create(PeerSchema, { ...PEER, levelThere: TrustLevel.MINIMAL });
    expect((await share("factory")).err).toContain(
      "factory trusts this hub only minimally, so it takes no nodes from it; there: `foedus peer trust home limited`\n",
    );
    peer = create(PeerSchema, { ...PEER, state: LinkState.RECOVERING });
    expect((await share("factory")).err).toContain("the link is recovering: see `foedus peers factory`\n");
  });

  test("names that are wrong are refused with those that are right", async () => {
    expect(await share("factroy")).toMatchObject({
      code: 5,
      err: expect.stringContaining("there is no peer factroy. Did you mean factory?"),
    });
    expect(await share("zoo")).toMatchObject({ code: 5, err: expect.stringContaining("Known is factory.") });
    expect(await share("factory", "--share", "limted")).toMatchObject({
      code: 2,
      err: 'foedus: there is no share "limted". Did you mean limited?\n',
    });
    expect(await share("factory", "--node", "desk-lmap")).toMatchObject({
      code: 5,
      err: expect.stringContaining("Did you mean home/desk-lamp?"),
    });
    expect(await share("factory", "--node", "lab/x")).toMatchObject({
      code: 2,
      err: expect.stringContaining("lab/x is a node of neither home nor factory"),
    });
    expect(await share("factory", "--trust", "much")).toMatchObject({ code: 2 });
    expect(await home.foedus("share", "tset", "factory", "-q")).toMatchObject({ code: 2 });
    config = '{"registry_sync":{"shares":7}}';
    expect(await share("factory")).toMatchObject({
      code: 1,
      err: expect.stringContaining("the rules of the running hub cannot be read by this command"),
    });
  });
});

test.each([20, 30, 45, 80])("no line is wider than %d columns", (columns) => {
  const io = { columns, style: (_style: string, text: string) => text } as unknown as Io;
  const shares = sharesOf(registrySyncConfig.parse({ shares: SHARES }));
  const tested: Judged = {
    self: "home",
    peer: PEER,
    level: 2,
    share: "limited",
    shares,
    rules: shares.find(({ name }) => name === "limited")!.rules,
    source: undefined,
    tried: { share: false, trust: false },
  };
  const nodes = OWN.map(({ node }) => {
    const { nodeId, type, kind, name, labels, capabilities } = node!;
    const offered = { info: { nodeId, type, kind, name, labels }, capabilities, keys: [] };
    return { offered, access: explainShare(tested, shares, offered) };
  });
  const [lamp] = nodes;
  const decision = { taken: false, at: 1, missed: ["types" as const] };
  const texts = [
    listText(io, tested, nodes, { rules: 2, held: 3, taken: 1 }),
    nodeChain(io, tested, lamp!.offered, lamp!.access),
    importText(io, { peer: PEER, source: "edited.json", imports: tested.rules, info: lamp!.offered.info, decision }),
  ];
  expect(
    texts
      // Below 30 columns names and values are left to the terminal to break, as in all commands; tables fit.
      .flatMap((text) => text.split("\n\n").slice(columns < 30 ? 1 : 0))
      .flatMap((text) => text.split("\n"))
      .filter((line) => displayWidth(line) > columns),
  ).toEqual([]);
  expect(remarks(tested, nodes)).toMatch(/^factory sees 1 of 3/);
});
