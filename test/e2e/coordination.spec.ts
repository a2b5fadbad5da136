// Hubs that decide together, as real processes over real mutual TLS.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ChangeValueRequestSchema,
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  type GetFederationResponse,
  GetValueRequestSchema,
  JoinFederationRequestSchema,
  ReadLogRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { type Clients, Federation, until } from "../support/federation.ts";

const HUBS = ["home", "factory", "lab"] as const;
const all = (id: string) => HUBS.filter((hub) => hub !== id).map((hub) => ({ hub }));

const put = async (clients: Clients, key: string, value: string): Promise<number> => {
  const change = { change: { case: "put", value: { key, value: new TextEncoder().encode(value) } } } as const;
  const { version } = await clients.coordination.changeValue(create(ChangeValueRequestSchema, { change }));
  return Number(version);
};
const get = async (clients: Clients, key: string, local = false): Promise<string | undefined> => {
  const { value } = await clients.coordination.getValue(create(GetValueRequestSchema, { key, local }));
  return value === undefined ? undefined : new TextDecoder().decode(value.value);
};
const status = (clients: Clients, withStateDigest = false): Promise<GetFederationResponse> =>
  clients.coordination.getFederation(create(GetFederationRequestSchema, { withStateDigest }));

describe.each(["single", "split"] as const)("a federation of three hubs in %s mode", (mode) => {
  let federation: Federation;
  let clients: Readonly<Record<(typeof HUBS)[number], Clients>>;

  beforeAll(async () => {
    federation = await Federation.start({ hubs: HUBS.map((id) => ({ id, mode, peers: all(id) })) });
    await federation.operational(60_000);
    clients = Object.fromEntries(HUBS.map((id) => [id, federation.hub(id).clients()])) as typeof clients;
  }, 120_000);

  afterAll(() => federation?.stop());

  test("S4-13 S4-15 three hubs found one, and each writes what all read", async () => {
    const request = create(FoundFederationRequestSchema, { federationId: "street", founders: ["factory", "lab"] });
    await until(
      "founding",
      async () => (await clients.home.coordination.foundFederation(request)).state === FederationState.FOUNDING,
      10_000,
    );
    for (const id of ["factory", "lab"] as const) {
      await until("the invitation", async () => (await status(clients[id])).invitations.length === 1, 10_000);
      await clients[id].coordination.joinFederation(create(JoinFederationRequestSchema, { federationId: "street" }));
    }
    for (const id of HUBS) await until(`${id} deciding`, async () => (await status(clients[id])).canDecide, 10_000);
    for (const id of HUBS) await put(clients[id], `by/${id}`, id);
    for (const id of HUBS) for (const by of HUBS) expect(await get(clients[id], `by/${by}`)).toBe(by);
    const { entries } = await clients.lab.coordination.readLog(create(ReadLogRequestSchema));
    expect(entries.flatMap(({ lines }) => lines.map(({ author, text }) => `${author}: ${text}`))).toContain(
      "home: set value by/home (4 bytes)",
    );
  });

  test("S1-17 S1-18 the leader is killed: the others go on; it comes back and has all of it", async () => {
    const { leader } = await status(clients.home);
    const rest = HUBS.filter((id) => id !== leader);
    const killed = leader as (typeof HUBS)[number];
    await federation.hub(killed).end("SIGKILL");
    await until("a decision without it", async () => (await put(clients[rest[0]!], "without", leader)) > 0, 15_000);
    expect(await get(clients[rest[1]!], "without")).toBe(leader);
    await federation.hub(killed).start();
    await until("the killed one having it", async () => (await get(clients[killed], "without")) === leader, 30_000);
    const digests = new Set<string>();
    await until(
      "equal states",
      async () => {
        const all = await Promise.all(HUBS.map((id) => status(clients[id], true)));
        digests.clear();
        for (const { applied, stateDigest } of all) digests.add(`${applied} ${Buffer.from(stateDigest).toString("hex")}`);
        return digests.size === 1 && all.every(({ stateDigest }) => stateDigest.length > 0);
      },
      10_000,
    );
  });
});
