import { existsSync } from "node:fs";
import { join } from "node:path";
import { FoedusError } from "#kernel/error.ts";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { dataDirOf, type Ground, servicesOf } from "../ground.ts";
import { type ServiceName, type ServiceRow, TABLE } from "../services.ts";
import type { Data } from "./whole.ts";

/**
 * dataOf looks into the stores of this process, while none of them is in use. Another process that uses one is a reason not to act: the
 * installation that is to be replaced lives.
 */
export async function dataOf(ground: Ground): Promise<Data> {
  let found: Data = {};
  for (const service of servicesOf(ground)) {
    const data = await read(ground, service);
    if (data.problem !== undefined) return data;
    found = { ...found, ...data };
  }
  return found;
}

async function read(ground: Ground, service: ServiceName): Promise<Data> {
  const { config } = ground;
  const path = join(dataDirOf(ground), `${service}.sqlite`);
  if (!existsSync(path)) {
    const problem = `this installation has no data of ${config.hub_id} in ${dataDirOf(ground)}: restore a backup of its data folder there, or bring the other one back`;
    return { problem };
  }
  const judge = await (TABLE[service] as ServiceRow).data?.();
  if (judge === undefined) return {};
  try {
    const store = openSqliteStore({ path, durability: config.durability, busyTimeoutMs: 0 });
    try {
      return judge(store, config.hub_id);
    } finally {
      store.close();
    }
  } catch (error) {
    if (error instanceof FoedusError) return { problem: error.message };
    throw error;
  }
}
