// Hubs that lend each other, as real processes over real mutual TLS, by the command line and by RPC.
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  JoinFederationRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { CheckFenceRequestSchema, ListAllocationsRequestSchema } from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import { type Clients, Federation, ROOT, until } from "../support/federation.ts";
import { type Exited, run } from "../support/grpcurl.ts";

const HUBS = ["home", "factory", "lab"] as const;
type Id = (typeof HUBS)[number];

describe("three hubs that lend each other", () => {
  let federation: Federation;
  let clients: Readonly<Record<Id, Clients>>;

  beforeAll(async () => {
    const peersOf = (id: string) => HUBS.filter((hub) => hub !== id).map((hub) => ({ hub }));
    federation = await Federation.start({ hubs: HUBS.map((id) => ({ id, mode: "single", peers: peersOf(id) })) });
    await federation.operational(60_000);
    clients = Object.fromEntries(HUBS.map((id) => [id, federation.hub(id).clients()])) as typeof clients;
    const status = (id: Id) => clients[id].coordination.getFederation(create(GetFederationRequestSchema));
    const request = create(FoundFederationRequestSchema, { federationId: "street", founders: ["factory", "lab"] });
    await until(
      "founding",
      async () => (await clients.home.coordination.foundFederation(request)).state === FederationState.FOUNDING,
      10_000,
    );
    for (const id of ["factory", "lab"] as const) {
      await until("the invitation", async () => (await status(id)).invitations.length === 1, 10_000);
      await clients[id].coordination.joinFederation(create(JoinFederationRequestSchema, { federationId: "street" }));
    }
    for (const id of HUBS) await until(`${id} deciding`, async () => (await status(id)).canDecide, 10_000);
  }, 120_000);

  afterAll(() => federation?.stop());

  const foedus = (id: Id, ...args: readonly string[]): Promise<Exited> => {
    const hub = federation.hub(id);
    const { ca, cert, key } = hub.pki("operator-admin");
    const where = ["--address", hub.address("coordination"), "--ca", ca, "--cert", cert, "--key", key];
    return run(process.execPath, [join(ROOT, "cli/main.ts"), ...args, ...where]);
  };

  test("S1-2 S1-3 S1-4 offered, borrowed, acted under, renewed, released and audited by the command line", async () => {
    const offered = await foedus(
      "home",
      "resources",
      "offer",
      "coders",
      "agents:coder",
      ...["ada", "bob", "cy"].flatMap((name) => ["--with", name]),
    );
    expect(offered).toMatchObject({ code: 0, stdout: "coders is offered\n" });
    await until(
      "the offer at factory",
      async () => (await foedus("factory", "resources", "offers", "-q")).stdout === "home/coders\n",
      20_000,
    );
    expect(await foedus("factory", "resources", "request", "agents:coder", "agents=1", "--of", "hmoe")).toMatchObject({
      code: 5,
      stderr: "foedus: nobody offers agents:coder at hmoe. Did you mean home?\n",
    });
    expect(await foedus("home", "resources", "quota", "coder", "lab", "--nominal", "agents=1")).toMatchObject({
      code: 5,
      stderr: "foedus: there is no offer home/coder. Did you mean home/coders?\n",
    });
    const borrowed = await foedus("factory", "resources", "request", "agents:coder", "agents=2", "--for", "1m", "--json");
    expect(borrowed.stderr).toBe("");
    const { allocation } = JSON.parse(borrowed.stdout) as { allocation: { lease: { lease: string; fence: string; agents: string[] } } };
    const [lease, fence] = [BigInt(allocation.lease.lease), BigInt(allocation.lease.fence)];
    expect(allocation.lease.agents).toEqual(["ada", "bob"]);
    const check = (of: bigint) => clients.home.coordination.checkFence(create(CheckFenceRequestSchema, { lease, fence: of }));
    expect(await check(fence)).toMatchObject({ agents: ["ada", "bob"], validMs: 5_000n });
    await expect(check(fence - 1n)).rejects.toThrow("the fence is not the one in force");
    expect(await foedus("factory", "resources", "request", "agents:coder", "agents=1")).toMatchObject({
      code: expect.any(Number),
      stderr: expect.stringContaining("all that is offered is lent"),
    });
    expect(await foedus("factory", "resources", "renew", String(lease), "2m")).toMatchObject({ code: 0 });
    expect((await foedus("lab", "resources", "allocations")).stdout).toContain("home/coders");
    expect((await foedus("lab", "federation", "shared", "resources")).stdout).toContain("home/coders");
    const stolen = await foedus("lab", "resources", "release", String(lease));
    expect(stolen).toMatchObject({ code: expect.any(Number), stderr: expect.stringContaining("another hub's") });
    expect(await foedus("factory", "resources", "release", String(lease))).toMatchObject({
      code: 0,
      stdout: `allocation ${lease} is given back\n`,
    });
    const lent = async () => (await clients.home.coordination.listAllocations(create(ListAllocationsRequestSchema))).allocations.length;
    await until("the units being back", async () => (await lent()) === 0, 20_000);
    await expect(check(fence)).rejects.toThrow("the fence is not the one in force");
    expect(await foedus("lab", "resources", "audit")).toMatchObject({
      code: 0,
      stdout: "nothing contradicts itself at factory, home, lab\n",
    });
  }, 90_000);

  test("RE2 S1-17 the owner is killed while it lends: it comes back, knows its fence, and the audit finds nothing", async () => {
    const borrowed = await foedus("factory", "resources", "request", "agents:coder", "agents=1", "--for", "5m", "--keep", "--json");
    const { lease } = (JSON.parse(borrowed.stdout) as { allocation: { lease: { lease: string; fence: string } } }).allocation;
    const request = create(CheckFenceRequestSchema, { lease: BigInt(lease.lease), fence: BigInt(lease.fence) });
    await clients.home.coordination.checkFence(request);
    await federation.hub("home").end("SIGKILL");
    await federation.hub("home").start();
    const may = async () => {
      try {
        return (await clients.home.coordination.checkFence(request)).validMs > 0n;
      } catch {
        return false;
      }
    };
    await until("the owner letting it act again", may, 30_000);
    expect(await foedus("factory", "resources", "audit")).toMatchObject({ code: 0 });
  }, 90_000);
});
