// A hub with a second installation that stands by, as real processes over real mutual TLS.

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import {
  ChangeValueRequestSchema,
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  type GetFederationResponse,
  JoinFederationRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { ListRolesRequestSchema, SetEndpointsRequestSchema } from "#gen/foedus/coordination/v1alpha1/roles_pb.ts";
import { SERVICES } from "../../services/hub/index.ts";
import { attach, execute, get, isOperational, lamp, number, peer, register, stateOf, text, update } from "../support/acts.ts";
import { type Clients, Federation, HubProcess, until } from "../support/federation.ts";

const HUBS = ["home", "factory", "lab"] as const;
const others = (id: string) => HUBS.filter((hub) => hub !== id).map((hub) => ({ hub }));
const config = {
  coordination: { liveness_ms: 200 },
  discovery: { backoff_base_ms: 100, backoff_max_ms: 1_000 },
  standby: { ask_ms: 200 },
};

const status = ({ coordination }: Clients): Promise<GetFederationResponse> =>
  coordination.getFederation(create(GetFederationRequestSchema));
const refusal = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "",
    (error: Error) => error.message,
  );

const data = (hub: HubProcess): string => join(hub.dir, "data");

/** What the services of an installation in split mode are configured with, at its own ports. */
function servicesOf(hub: HubProcess, services: Readonly<Record<string, object>>): Readonly<Record<string, object>> {
  return Object.fromEntries(SERVICES.map((name, index) => [name, { ...services[name], port: hub.basePort + index }]));
}

/** Makes the second installation: the same hub, certificates and peers, at another port, with a data folder of its own. */
function secondOf(hub: HubProcess): HubProcess {
  const spec = { ...hub.spec, id: hub.id };
  const second = new HubProcess(spec, `${hub.dir}-standby`, hub.pkiDir, hub.host, hub.basePort + 40, hub.entry);
  const first = JSON.parse(readFileSync(join(hub.dir, "hub.json"), "utf8"));
  mkdirSync(second.dir, { recursive: true });
  cpSync(join(hub.dir, "federation.json"), join(second.dir, "federation.json"));
  const own = {
    ...first,
    listen: { host: second.host, port: second.basePort },
    ops: { ...first.ops, port: second.basePort + 10 },
    standby: { ...config.standby, enabled: true },
    ...(first.services === undefined ? {} : { services: servicesOf(second, first.services) }),
  };
  writeFileSync(join(second.dir, "hub.json"), JSON.stringify(own));
  return second;
}

/** waits resolves with why an installation does not act, once that matches and none of its processes acts. */
async function waits(hub: HubProcess, why: RegExp): Promise<string> {
  const saying = (process: string) =>
    until(
      `${process} of ${hub.dir} saying ${why.source}`,
      async () => {
        const said = await hub.ops("/readyz", process);
        if (!why.test(said)) throw new Error(said);
        return said;
      },
      30_000,
    );
  const [said = ""] = await Promise.all(hub.processes.map(saying));
  return said;
}

/** Whether all processes of an installation say of themselves that it is in a state. */
async function isAll(hub: HubProcess, state: string): Promise<boolean> {
  const said = await Promise.all(
    hub.processes.map(async (process) => (await hub.ops("/metrics", process)).includes(`foedus_installation{state="${state}"} 1`)),
  );
  return said.every((is) => is);
}

async function endpointOfLab(by: Clients) {
  const { endpoints } = await by.coordination.listRoles(create(ListRolesRequestSchema, { local: true }));
  return endpoints.find(({ hubId }) => hubId === "lab");
}

/** What the log says of its voters when no change of them is under way. */
const OVER = /^voters=factory\/\d+,home\/\d+,lab\/\d+\n(?!pending)/m;

/** votes resolves when an installation of the lab takes part in the log again: with a replica of its own, a vote, and not as failed. */
function votes(by: Clients): Promise<boolean> {
  return until(
    "the lab deciding again",
    async () => {
      const { state, canDecide, members } = await status(by);
      const own = members.find(({ hubId }) => hubId === "lab");
      return state === FederationState.MEMBER && canDecide && own?.voter === true && !own.failed;
    },
    60_000,
  );
}

describe.each(["single", "split"] as const)("a hub with a standby in %s mode", (mode) => {
  let federation: Federation;
  let clients: Readonly<Record<(typeof HUBS)[number], Clients>>;
  /** The second installation of the lab. */
  let standby: HubProcess;
  let standing: Clients;

  beforeAll(async () => {
    federation = await Federation.start({ hubs: HUBS.map((id) => ({ id, peers: others(id), config, ...(id === "lab" ? { mode } : {}) })) });
    await federation.operational(60_000);
    clients = Object.fromEntries(HUBS.map((id) => [id, federation.hub(id).clients()])) as typeof clients;
    await clients.home.coordination.foundFederation(
      create(FoundFederationRequestSchema, { federationId: "street", founders: ["factory", "lab"] }),
    );
    for (const id of ["factory", "lab"] as const) {
      await until("the invitation", async () => (await status(clients[id])).invitations.length === 1, 10_000);
      await clients[id].coordination.joinFederation(create(JoinFederationRequestSchema, { federationId: "street" }));
    }
    for (const id of HUBS) await until(`${id} deciding`, async () => (await status(clients[id])).canDecide, 10_000);
    standby = secondOf(federation.hub("lab"));
    standing = standby.clients();
  }, 120_000);

  afterAll(async () => {
    standby?.closeClients();
    await standby?.end("SIGTERM");
    await federation?.stop();
  });

  test("LF1 S1-17 with a standby declared the primary acts as before, and the standby refuses whatever it is asked", async () => {
    const lab = federation.hub("lab");
    const bench = lab.clients("gateway-zigbee");
    await register(bench, lamp("bench"));
    await update(bench, "bench", { brightness: number(7) });
    await until("the bench at home", async () => stateOf(await get(clients.home, "lab", "bench"), "brightness") === 7);
    const { fence } = await clients.lab.coordination.setEndpoints(
      create(SetEndpointsRequestSchema, { standbys: [{ host: standby.host, port: standby.basePort }] }),
    );
    expect(fence).toBeGreaterThan(0n);
    for (const by of [clients.home, clients.factory])
      await until("the standby being known", async () => (await endpointOfLab(by))?.standbys.length === 1, 10_000);

    standby.spawn();
    const why = await waits(standby, /dialled at .* stands by and does nothing/);
    expect(why).toContain(`:${lab.basePort} with fence ${fence}`);
    expect(await isAll(standby, "stands_by")).toBe(true);
    expect(await refusal(status(standing))).toMatch(/stands by and does nothing.*foedus federation standby set/);
    expect(await refusal(execute(standing, "lab", "bench", "state", text("ON")))).toMatch(/stands by and does nothing/);
    for (const process of lab.processes) expect(await lab.ops("/readyz", process)).toContain('"ready":true');
    for (const by of [clients.home, clients.factory]) await until("the link to the primary", () => isOperational(by, "lab"), 30_000);
  }, 120_000);

  test("D-19 S1-16 S1-17 LF2 the primary is killed: a majority confirms it, the others dial the standby, and without data it refuses to serve", async () => {
    await federation.hub("lab").end("SIGKILL");
    for (const by of [clients.home, clients.factory])
      await until("the standby being dialled", async () => (await endpointOfLab(by))?.dialled === 1, 60_000);
    await waits(standby, /has no data of lab.*restore a backup/);
    expect(await isAll(standby, "waits")).toBe(true);
    await until("home hearing why", async () => /no data of lab/.test((await peer(clients.home, "lab")).failure?.message ?? ""), 20_000);
  }, 120_000);

  test("S1-17 with the data it serves: links, feeds, commands and decisions go through it", async () => {
    cpSync(data(federation.hub("lab")), data(standby), { recursive: true });
    await standby.ready();
    for (const by of [clients.home, clients.factory]) await until("the link to the standby", () => isOperational(by, "lab"), 30_000);
    expect(await isAll(standby, "acts")).toBe(true);
    const bench = standby.clients("gateway-zigbee");
    await register(bench, lamp("late"));
    await until("what is new there being seen at home", () => get(clients.home, "lab", "late"), 20_000);
    expect(stateOf(await get(clients.home, "lab", "bench"), "brightness")).toBe(7);
    const executor = attach(bench, ["bench"]);
    const { result } = await until("the executor", () => execute(clients.home, "lab", "bench", "state", text("ON")), 20_000);
    expect(result?.outcome).toBe(Outcome.DONE);
    expect(executor.ran).toEqual(["bench.state=ON"]);
    executor.stop();
    await votes(standing);
  }, 120_000);

  if (mode === "split")
    test("SI6 discovery alone is started again: it acts as those do that went on, and none of them ends", async () => {
      const before = new Map(standby.pids);
      await standby.end("SIGKILL", "discovery");
      standby.startProcess("discovery");
      await standby.ready();
      for (const by of [clients.home, clients.factory]) await until("the link to the standby", () => isOperational(by, "lab"), 30_000);
      for (const [name, pid] of standby.pids) expect([name, pid === before.get(name)]).toEqual([name, name !== "discovery"]);
      expect(standby.pids.size).toBe(before.size);
    }, 60_000);

  test("LF1 DM3 the old primary comes back, and knows of no other: its peers refuse its fence, by which it learns why, and stands by", async () => {
    const lab = federation.hub("lab");
    // As from a backup of before the hub had a standby.
    for (const process of lab.processes) rmSync(join(data(lab), `${process}.seat.json`), { force: true });
    lab.spawn();
    await waits(lab, /dialled at .*stands by and does nothing/);
    expect(await refusal(status(clients.lab))).toMatch(/stands by and does nothing.*--primary/);
    expect(await refusal(execute(clients.lab, "lab", "bench", "state", text("OFF")))).toMatch(/stands by and does nothing/);
    expect(lab.log(lab.processOf("discovery"))).toMatch(/Hello to \w+ .*acts for it with fence \d+, and this one has none/);
    expect(await isOperational(clients.home, "lab")).toBe(true);
  }, 60_000);

  test("SI2 SI5 LF2 moved back, the standby stands down while it runs; the primary acts once it has the data from there", async () => {
    const lab = federation.hub("lab");
    const place = ({ host, basePort }: HubProcess) => ({ host, port: basePort });
    const back = create(SetEndpointsRequestSchema, { primary: place(lab), standbys: [place(standby)] });
    // Who answers may stand down before its answer is out.
    await standing.coordination.setEndpoints(back).catch(() => undefined);
    await waits(standby, /stands by and does nothing/);
    await waits(lab, /another installation went on with replica/);
    rmSync(data(lab), { recursive: true });
    cpSync(data(standby), data(lab), { recursive: true });
    await lab.ready();
    for (const by of [clients.home, clients.factory]) await until("the link to the primary", () => isOperational(by, "lab"), 30_000);
    await until("what was new at the standby", () => get(clients.home, "lab", "late"), 20_000);
    expect((await endpointOfLab(clients.home))?.dialled).toBe(0);
    await votes(clients.lab);
  }, 120_000);

  test("SI3 SI4 DM4 S1-18 after a power cut, with one hub gone, the primary acts by the word of a hub that cannot decide without it", async () => {
    const [home, lab] = [federation.hub("home"), federation.hub("lab")];
    // While the change that gave the lab its vote again is under way, both majorities are needed: the old one is home and the factory.
    for (const hub of [home, lab])
      await until("the change being over", async () => OVER.test(await hub.ops("/statusz", hub.processOf("coordination"))), 20_000);
    // What is decided after it has both write down that it is.
    const put = { key: "night", value: new TextEncoder().encode("dark") };
    await clients.home.coordination.changeValue(create(ChangeValueRequestSchema, { change: { change: { case: "put", value: put } } }));
    const { applied } = await status(clients.home);
    await until("the lab having it", async () => (await status(clients.lab)).applied >= applied, 20_000);
    for (const hub of [federation.hub("factory"), home, lab]) await hub.end("SIGKILL");
    const own = JSON.parse(readFileSync(join(lab.dir, "hub.json"), "utf8"));
    writeFileSync(join(lab.dir, "hub.json"), JSON.stringify({ ...own, standby: { ...config.standby, hubs: ["home"] } }));
    lab.spawn();
    await waits(lab, /1 of home have to say that lab is dialled at .*; home did not answer yet/);
    home.spawn();
    await lab.ready();
    const decides = async (): Promise<boolean> => {
      const { canDecide, problem } = await status(clients.home);
      if (!canDecide) throw new Error(`${problem}; ${(await peer(clients.home, "lab")).failure?.message}`);
      return canDecide;
    };
    await until("home and the lab deciding", decides, 60_000);
    await until("home knowing", async () => (await endpointOfLab(clients.home))?.dialled === 0, 20_000);
    await waits(standby, /factory did not answer yet/);
  }, 120_000);
});
