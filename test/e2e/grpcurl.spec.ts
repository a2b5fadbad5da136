// Every public RPC from the command line, with the real grpcurl: by reflection and from a descriptor set alone.

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create, createFileRegistry, fromBinary, getOption } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { access, Principal as Kind, TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { ListLinkCountersRequestSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { writePki } from "../../certs/issue.ts";
import { Federation, type HubProcess, ROOT, until } from "../support/federation.ts";
import { type Answer, ask, call, type Door, detail, run } from "../support/grpcurl.ts";
import { tool } from "../support/tools.ts";

const grpcurl = tool("grpcurl");

/** gRPC codes by number. */
const OK = 0;
const INVALID_ARGUMENT = 3;
const NOT_FOUND = 5;
const PERMISSION_DENIED = 7;
const ABORTED = 10;
const UNAUTHENTICATED = 16;

/** Codes that say that the server is at fault or that there is no such RPC: UNKNOWN, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. */
const BROKEN = [2, 12, 13, 14, 15];

/** How long a stream that nothing is known of is listened to, s; and how long any other call may take. */
const LISTEN_S = 2;
const PATIENCE_S = 30;

/** The certificates with which each kind of caller is tried. */
const FILES: Readonly<Record<string, string>> = {
  PRINCIPAL_NODE: "node-lamp-9",
  PRINCIPAL_GATEWAY: "gateway-zigbee",
  PRINCIPAL_OPERATOR: "operator-admin",
  PRINCIPAL_SERVICE: "service-hub",
  PRINCIPAL_PEER: "peer",
};

/** Method is an RPC as `grpcurl describe` shows it. */
interface Method {
  /** `package.Service/Method`. */
  readonly path: string;
  readonly clientStreams: boolean;
  readonly serverStreams: boolean;
  /** Kinds of caller that its rule names; none for protocols that are not ours. */
  readonly principals: readonly string[];
  readonly admin: boolean;
}

/** methodsOf reads the RPCs out of what `grpcurl describe <service>` prints. */
function methodsOf(service: string, lines: readonly string[]): Method[] {
  const found = lines
    .join("\n")
    .split(/^ {2}rpc /m)
    .slice(1);
  return found.map((text) => {
    const [, name, input, output] = /^(\w+) \( (stream )?[^)]*\) returns \( (stream )?/.exec(text)!;
    return {
      path: `${service}/${name}`,
      clientStreams: input !== undefined,
      serverStreams: output !== undefined,
      principals: text.match(/PRINCIPAL_[A-Z]+/g) ?? [],
      admin: text.includes("OPERATOR_ROLE_ADMIN"),
    };
  });
}

/** importsFirst orders files so that each comes after what it imports. */
function importsFirst(files: readonly FileDescriptorProto[]): FileDescriptorProto[] {
  const ordered = new Map<string, FileDescriptorProto>();
  const add = (file: FileDescriptorProto): void => {
    for (const name of file.dependency) add(files.find((candidate) => candidate.name === name)!);
    ordered.set(file.name, file);
  };
  for (const file of files) if (!ordered.has(file.name)) add(file);
  return [...ordered.values()];
}

const PACKAGES = ["foedus.discovery.v1alpha1", "foedus.registry_sync.v1alpha1", "foedus.command_forwarding.v1alpha1"];
const open = { frame: { control: { open: { hub_id: "lab", incarnation: 1, n: 1, packages: PACKAGES, credit: 65_536 } } } };
const lampNode = { node_id: "lamp-9", type: "light", capabilities: [{ name: "state", type: "VALUE_TYPE_STRING", readable: true }] };
const name = { hub_id: "home", node_id: "lamp-9" };

/** Expected is the least that shows an RPC at work: requests, and how the call has to end. */
interface Expected {
  readonly requests: readonly unknown[];
  /** True if the caller ends its side of the stream only after the first answer. */
  readonly stays?: boolean;
  /** True for a stream that has no end of its own: the caller goes when it was shown what it came for. */
  readonly endless?: boolean;
  readonly code: number;
  readonly shows?: RegExp;
}

/** What the known RPCs are asked and how they answer; one that is not here is asked with an empty request. In the order of the calls. */
const EXPECTED: Readonly<Record<string, Expected>> = {
  "grpc.health.v1.Health/Check": { requests: [{}], code: OK, shows: /SERVING/ },
  "grpc.health.v1.Health/List": { requests: [{}], code: OK, shows: /RegistrySyncService/ },
  "grpc.health.v1.Health/Watch": { requests: [{}], endless: true, code: OK, shows: /SERVING/ },
  "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": { requests: [{ list_services: "" }], code: OK, shows: /HubService/ },
  "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": { requests: [{ list_services: "" }], code: OK, shows: /HubService/ },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/RegisterNode": { requests: [{ node: lampNode }], code: OK },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/RegisterNodes": { requests: [{ nodes: [lampNode] }], code: OK, shows: /lamp-9/ },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/UpdateState": {
    requests: [{ named: { seq: 1, updates: [{ node_id: "lamp-9", key: "state", value: { string_value: "ON" } }] } }],
    code: OK,
    shows: /"ack"/,
  },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/GetNode": { requests: [{ name }], code: OK, shows: /lamp-9/ },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/ListNodes": { requests: [{}], code: OK, shows: /lamp-9/ },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/ListFeeds": { requests: [{}], code: OK, shows: /"hubId": "home"/ },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/Watch": { requests: [{}], endless: true, code: OK, shows: /"bookmark"/ },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/ReportPresence": { requests: [{}], code: OK },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/Session": { requests: [open], code: OK, shows: /"open"/ },
  "foedus.command_forwarding.v1alpha1.CommandForwardingService/Execute": {
    requests: [{ command: { target: { node_id: "no-such" }, capability: "state" } }],
    code: NOT_FOUND,
  },
  "foedus.command_forwarding.v1alpha1.CommandForwardingService/ExecuteStream": {
    requests: [{ commands: [{ corr: 7, command: { target: { node_id: "no-such" }, capability: "state" } }] }],
    code: OK,
    shows: /"corr": "7"[\s\S]*OUTCOME_REJECTED/,
  },
  "foedus.command_forwarding.v1alpha1.CommandForwardingService/AttachExecutor": {
    requests: [{ attach: { node_ids: ["lamp-9"] } }],
    stays: true,
    code: OK,
    shows: /"attached"/,
  },
  "foedus.command_forwarding.v1alpha1.CommandForwardingService/GetCommand": {
    requests: [{ name: { hub_id: "home", epoch: 1, seq: 1 } }],
    code: ABORTED,
  },
  "foedus.command_forwarding.v1alpha1.CommandForwardingService/Session": { requests: [open], code: OK, shows: /"open"/ },
  "foedus.discovery.v1alpha1.DiscoveryService/Hello": { requests: [{ hub_id: "lab", packages: PACKAGES }], code: OK, shows: /"level"/ },
  "foedus.discovery.v1alpha1.DiscoveryService/Refresh": { requests: [{}], code: OK },
  "foedus.discovery.v1alpha1.DiscoveryService/GetKeySet": { requests: [{}], code: OK, shows: /jwks/ },
  "foedus.discovery.v1alpha1.DiscoveryService/ListPeers": { requests: [{}], code: OK, shows: /factory[\s\S]*lab/ },
  "foedus.discovery.v1alpha1.DiscoveryService/GetPeer": { requests: [{ hub_id: "factory" }], code: OK, shows: /"factory"/ },
  "foedus.discovery.v1alpha1.DiscoveryService/WatchPeers": {
    requests: [{ service: "telemetry" }],
    endless: true,
    code: OK,
    shows: /"synced": true/,
  },
  "foedus.discovery.v1alpha1.DiscoveryService/ReportSessions": { requests: [{ service: "telemetry" }], code: OK },
  "foedus.discovery.v1alpha1.DiscoveryService/SetPeerEnabled": { requests: [{ hub_id: "lab", enabled: true }], code: OK },
  "foedus.discovery.v1alpha1.DiscoveryService/Session": { requests: [open], code: OK, shows: /"open"/ },
  "foedus.telemetry.v1alpha1.TelemetryService/ReportEvents": { requests: [{ service: "telemetry" }], code: OK },
  "foedus.telemetry.v1alpha1.TelemetryService/ListEvents": { requests: [{}], code: OK, shows: /"events"/ },
  "foedus.telemetry.v1alpha1.TelemetryService/WatchEvents": { requests: [{ from_seq: 1 }], endless: true, code: OK, shows: /"event/ },
  "foedus.telemetry.v1alpha1.TelemetryService/ListLinkCounters": { requests: [{}], code: OK, shows: /factory/ },
  "foedus.hub.v1alpha1.HubService/GetStatus": { requests: [{}], code: OK, shows: /"hubId": "home"/ },
  "foedus.hub.v1alpha1.HubService/GetConfig": { requests: [{}], code: OK, shows: /hub_id/ },
  "foedus.registry_sync.v1alpha1.RegistrySyncService/DeregisterNode": {
    requests: [{ node_id: "lamp-9" }],
    code: OK,
    shows: /"existed": true/,
  },
};

describe.skipIf(grpcurl.reason !== undefined)("grpcurl", () => {
  let federation: Federation;
  let home: HubProcess;
  let lab: HubProcess;
  let protoset: string;
  const methods: Method[] = [];
  const tokens: string[] = [];

  /** door is the way into home for a certificate; "peer" is the hub lab, which is configured at home and does not run. */
  const door = (file: string, more: Partial<Door> = {}): Door => {
    const { cert, key } = file === "peer" ? lab.pki("service-hub") : home.pki(file);
    const headers = file === "peer" ? tokens.map((token) => `authorization: Bearer ${token}`) : [];
    return {
      grpcurl: grpcurl.path,
      address: home.address("discovery"),
      ca: home.pki("ca").ca,
      cert,
      key,
      headers,
      ...more,
    };
  };
  const enumerate = async (from: Door): Promise<Method[]> => {
    const services = await ask(from, "list");
    return (await Promise.all(services.map(async (service) => methodsOf(service, await ask(from, "describe", service))))).flat();
  };

  beforeAll(async () => {
    federation = await Federation.prepare({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }, { hub: "lab" }] },
        { id: "factory", peers: [{ hub: "home" }] },
        { id: "lab", peers: [{ hub: "home" }], reachable: false },
      ],
    });
    home = federation.hub("home");
    lab = federation.hub("lab");
    await writePki(home.pkiDir, "home", { now: new Date(systemClock.wall()), leaves: [{ profile: "node", name: "lamp-9" }] });
    await Promise.all([home.start(), federation.hub("factory").start()]);
    await federation.operational();
    const { telemetry } = home.clients();
    // Services report the counters of their links to telemetry in their own time.
    await until("counters of the link", async () => {
      const { links } = await telemetry.listLinkCounters(create(ListLinkCountersRequestSchema));
      if (links.some((link) => link.peer === "factory")) return true;
      throw new Error(`${links.length} links: ${links.map(({ peer, service }) => `${peer} ${service}`).join()}`);
    });
    protoset = join(federation.dir, "foedus.binpb");
    const built = await run("buf", ["build", "--as-file-descriptor-set", "-o", protoset], { cwd: ROOT });
    expect(built).toMatchObject({ code: 0, stderr: "" });
  }, 120_000);
  afterAll(() => federation?.stop(), 60_000);

  test("lists by reflection what the descriptor set has, with the access rule of every RPC of ours", async () => {
    methods.push(...(await enumerate(door("operator-viewer"))));
    const fromSet = await enumerate(door("operator-viewer", { protoset }));
    expect(methods.length).toBeGreaterThan(30);
    const served = new Set(methods.map(({ path }) => path));
    expect(fromSet.filter(({ path }) => served.has(path))).toEqual(methods);
    // What this port does not serve is for strangers, who have a door of their own that shows nothing.
    const elsewhere = fromSet.filter(({ path }) => !served.has(path));
    expect(elsewhere.filter(({ principals }) => principals.join() !== "PRINCIPAL_STRANGER")).toEqual([]);
    const ours = methods.filter(({ path }) => path.startsWith("foedus."));
    expect(ours.filter(({ principals }) => principals.length === 0)).toEqual([]);
    // The schema that tests compile against has no RPC that this misses.
    const known = Object.keys(EXPECTED).filter((path) => !methods.some((method) => method.path === path));
    expect(known).toEqual([]);
  }, 60_000);

  test.each(["v1", "v1alpha"])("reflection %s tells custom options, comments of access and the types of error details", async (version) => {
    const answer = await call(
      door("operator-viewer", { protoset }),
      `grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
      [
        { file_containing_symbol: "foedus.command_forwarding.v1alpha1.CommandForwardingService" },
        { file_containing_symbol: "google.rpc.ErrorInfo" },
      ],
      { maxTimeS: PATIENCE_S },
    );
    expect(answer.code).toBe(OK);
    const files = [...answer.stdout.matchAll(/"([A-Za-z0-9+/=]{200,})"/g)].map(([, base64]) =>
      fromBinary(FileDescriptorProtoSchema, Buffer.from(base64!, "base64")),
    );
    const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: importsFirst(files) }));
    const service = registry.getService("foedus.command_forwarding.v1alpha1.CommandForwardingService")!;
    const rule = getOption(service.methods.find((method) => method.name === "Session")!, access);
    expect(rule).toMatchObject({ principals: [Kind.PEER], minTrust: TrustLevel.LIMITED, longLived: true });
    expect(files.some((file) => file.messageType.some((message) => message.name === "ErrorInfo"))).toBe(true);
  });

  /** asRule picks the certificate of a caller whom the method's rule names. */
  const asRule = ({ principals }: Method): string => FILES[principals[0] ?? "PRINCIPAL_OPERATOR"]!;

  /** tokenForLab says Hello as the hub lab; what follows as a peer carries the token. */
  async function tokenForLab(): Promise<void> {
    tokens.length = 0;
    const leaf = new X509Certificate(readFileSync(lab.pki("service-hub").cert)).raw.toString("base64");
    const hello = { hub_id: "lab", incarnation: 1, packages: PACKAGES, leaves: [leaf] };
    const answer = await call(door("peer"), "foedus.discovery.v1alpha1.DiscoveryService/Hello", [hello], { maxTimeS: PATIENCE_S });
    expect(answer).toMatchObject({ code: OK });
    tokens.push((JSON.parse(answer.stdout) as { tokens: { jwt: string }[] }).tokens[0]!.jwt);
  }

  /** problemOf compares an answer with what the RPC is to answer; undefined if all is well. */
  function problemOf({ path }: Method, answer: Answer): string | undefined {
    const expected = EXPECTED[path];
    const said = `${path} ended with ${answer.code} ${answer.message} ${JSON.stringify(answer.details)} ${answer.stdout.slice(0, 200)}`;
    if (BROKEN.includes(answer.code)) return said;
    if (expected === undefined) return undefined;
    if (answer.code !== expected.code || (expected.shows !== undefined && !expected.shows.test(answer.stdout))) return said;
    if (answer.details.some((found) => "@error" in found)) return `${said}: a detail was not decoded`;
    return undefined;
  }

  async function callAll(more: Partial<Door>): Promise<string[]> {
    await tokenForLab();
    // In the table's order, as registering comes before reading; what the table does not know comes last.
    const rank = ({ path }: Method): number => Object.keys(EXPECTED).indexOf(path) + 1 || 1_000;
    const problems: string[] = [];
    for (const method of methods.toSorted((a, b) => rank(a) - rank(b))) {
      const expected = EXPECTED[method.path];
      // A stream that nothing is known of is listened to for a moment; running into the deadline is then right.
      const maxTimeS = expected === undefined && method.serverStreams ? LISTEN_S : PATIENCE_S;
      const options = { maxTimeS, stays: expected?.stays, enough: expected?.endless ? expected.shows : undefined };
      const answer = await call(door(asRule(method), more), method.path, expected?.requests ?? [{}], options);
      problems.push(...[problemOf(method, answer)].filter((problem) => problem !== undefined));
    }
    return problems;
  }

  test("every RPC answers a caller whom its rule names, by reflection", async () => {
    const problems = await callAll({});
    expect(problems, problems.join("\n")).toEqual([]);
  }, 180_000);

  test("every RPC answers from the descriptor set alone", async () => {
    const problems = await callAll({ protoset });
    expect(problems, problems.join("\n")).toEqual([]);
  }, 180_000);

  test("every RPC of ours refuses a caller whom its rule does not name, and says why", async () => {
    await tokenForLab();
    const problems: string[] = [];
    for (const method of methods.filter(({ principals }) => principals.length > 0)) {
      const stranger = Object.keys(FILES).find((kind) => !method.principals.includes(kind))!;
      const answer = await call(door(FILES[stranger]!), method.path, EXPECTED[method.path]?.requests ?? [{}], { maxTimeS: PATIENCE_S });
      if (answer.code !== PERMISSION_DENIED || detail(answer, "ErrorInfo")?.["reason"] !== "ACCESS_DENIED")
        problems.push(`${method.path} as ${stranger}: ${JSON.stringify(answer)}`);
    }
    expect(problems, problems.join("\n")).toEqual([]);
  }, 180_000);

  test("what needs an operator with the role admin refuses a viewer", async () => {
    const admin = methods.filter((method) => method.admin && method.principals.includes("PRINCIPAL_OPERATOR"));
    expect(admin.length).toBeGreaterThanOrEqual(3);
    for (const { path } of admin) {
      const answer = await call(door("operator-viewer"), path, EXPECTED[path]?.requests ?? [{}], { maxTimeS: PATIENCE_S });
      expect(answer).toMatchObject({ code: PERMISSION_DENIED, message: expect.stringContaining("role admin") });
    }
  }, 60_000);

  test("a peer without a token is told to say Hello", async () => {
    tokens.length = 0;
    const answer = await call(door("peer"), "foedus.discovery.v1alpha1.DiscoveryService/Refresh", [{}], { maxTimeS: PATIENCE_S });
    expect(answer).toMatchObject({ code: UNAUTHENTICATED, message: expect.stringContaining("say Hello") });
    expect(detail(answer, "ErrorInfo")).toMatchObject({ reason: "TOKEN_INVALID", domain: "foedus" });
  });

  test("a mistake is answered with decoded details: the field, the reason and when to come again", async () => {
    const path = "foedus.registry_sync.v1alpha1.RegistrySyncService/RegisterNode";
    const bad = await call(door("gateway-zigbee"), path, [{ node: { node_id: "not a node id" } }], { maxTimeS: PATIENCE_S });
    expect(bad.code).toBe(INVALID_ARGUMENT);
    expect(detail(bad, "ErrorInfo")).toMatchObject({ reason: "INVALID_FIELD", domain: "foedus" });
    expect(detail(bad, "BadRequest")).toMatchObject({ fieldViolations: [{ field: "node.node_id" }] });
    const command = { target: name, capability: "state", value: { string_value: "ON" } };
    await call(
      door("gateway-zigbee"),
      path,
      [{ node: { ...lampNode, capabilities: [{ ...lampNode.capabilities[0], invocable: true }] } }],
      { maxTimeS: PATIENCE_S },
    );
    const execute = "foedus.command_forwarding.v1alpha1.CommandForwardingService/Execute";
    // Commands hear of a changed node a moment later.
    const later = await until("a refusal for want of an executor", async () => {
      const answer = await call(door("operator-admin"), execute, [{ command }], { maxTimeS: PATIENCE_S });
      return /^(NO_EXECUTOR|NODE_OFFLINE)$/.test(String(detail(answer, "ErrorInfo")?.["reason"])) && answer;
    });
    expect(detail(later, "RetryInfo")).toMatchObject({ retryDelay: expect.stringMatching(/^[0-9.]+s$/) });
  }, 60_000);
});

describe.skipIf(grpcurl.reason !== undefined)("grpcurl with a split hub", () => {
  test("each port lists its own service, the hub's and those of gRPC", async () => {
    const federation = await Federation.start({ hubs: [{ id: "home", peers: [], mode: "split" }] });
    try {
      const home = federation.hub("home");
      const { ca, cert, key } = home.pki("operator-viewer");
      const listed = await Promise.all(
        (["discovery", "registry-sync", "command-forwarding", "telemetry"] as const).map(async (service) =>
          (await ask({ grpcurl: grpcurl.path, address: home.address(service), ca, cert, key }, "list")).filter(
            (found) => !found.startsWith("grpc."),
          ),
        ),
      );
      const hub = "foedus.hub.v1alpha1.HubService";
      expect(listed).toEqual([
        ["foedus.discovery.v1alpha1.DiscoveryService", hub],
        [hub, "foedus.registry_sync.v1alpha1.RegistrySyncService"],
        ["foedus.command_forwarding.v1alpha1.CommandForwardingService", hub],
        [hub, "foedus.telemetry.v1alpha1.TelemetryService"],
      ]);
    } finally {
      await federation.stop();
    }
  }, 120_000);
});
