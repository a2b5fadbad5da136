// A hub of a federation whose store was put back from a backup, as a real process.

import { cpSync, existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  ChangeValueRequestSchema,
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  type GetFederationResponse,
  GetValueRequestSchema,
  JoinFederationRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { type Clients, Federation, until } from "../support/federation.ts";

const HUBS = ["home", "factory", "lab"] as const;
const others = (id: string) => HUBS.filter((hub) => hub !== id).map((hub) => ({ hub }));

const put = async ({ coordination }: Clients, key: string): Promise<void> => {
  const change = { change: { case: "put", value: { key, value: new TextEncoder().encode(key) } } } as const;
  await coordination.changeValue(create(ChangeValueRequestSchema, { change }));
};
const get = async ({ coordination }: Clients, key: string): Promise<string | undefined> => {
  const { value } = await coordination.getValue(create(GetValueRequestSchema, { key }));
  return value === undefined ? undefined : new TextDecoder().decode(value.value);
};
const status = ({ coordination }: Clients): Promise<GetFederationResponse> =>
  coordination.getFederation(create(GetFederationRequestSchema));

let federation: Federation;
let clients: Readonly<Record<(typeof HUBS)[number], Clients>>;

beforeAll(async () => {
  federation = await Federation.start({ hubs: HUBS.map((id) => ({ id, peers: others(id) })) });
  await federation.operational(60_000);
  clients = Object.fromEntries(HUBS.map((id) => [id, federation.hub(id).clients()])) as typeof clients;
}, 120_000);

afterAll(() => federation?.stop());

/** Copies the files of the coordination store. */
function copyStore(from: string, to: string): void {
  for (const name of readdirSync(to)) if (name.startsWith("coordination.sqlite")) rmSync(join(to, name));
  for (const name of readdirSync(from)) if (name.startsWith("coordination.sqlite")) cpSync(join(from, name), join(to, name));
}

test("zoo 27 WB2 WN2 a hub whose store was put back takes part with another replica, and has all that was decided", async () => {
  const request = create(FoundFederationRequestSchema, { federationId: "street", founders: ["factory", "lab"] });
  await clients.home.coordination.foundFederation(request);
  for (const id of ["factory", "lab"] as const) {
    await until("the invitation", async () => (await status(clients[id])).invitations.length === 1, 10_000);
    await clients[id].coordination.joinFederation(create(JoinFederationRequestSchema, { federationId: "street" }));
  }
  for (const id of HUBS) await until(`${id} deciding`, async () => (await status(clients[id])).canDecide, 10_000);
  await put(clients.home, "early");
  const lab = federation.hub("lab");
  await lab.end("SIGTERM");
  const data = join(lab.dir, "data");
  const backup = join(lab.dir, "backup");
  cpSync(data, backup, { recursive: true });
  await lab.start();
  await until("lab deciding", async () => (await status(clients.lab)).canDecide, 30_000);
  await put(clients.lab, "late");
  await lab.end("SIGKILL");
  expect(existsSync(join(data, "coordination.witness"))).toBe(true);
  copyStore(backup, data);
  await lab.start();
  const own = async () => (await status(clients.lab)).members.find(({ hubId }) => hubId === "lab");
  await until(
    "lab deciding with another replica",
    async () => {
      const { state, canDecide } = await status(clients.lab);
      const { replica = "lab/1", voter = false } = (await own()) ?? {};
      return state === FederationState.MEMBER && canDecide && voter && replica !== "lab/1";
    },
    60_000,
  );
  for (const key of ["early", "late"]) expect(await get(clients.lab, key)).toBe(key);
}, 120_000);
