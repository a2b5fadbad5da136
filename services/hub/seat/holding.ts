import { existsSync } from "node:fs";
import { join } from "node:path";
import { FoedusError } from "#kernel/error.ts";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { dataDirOf, type Ground, servicesOf } from "../ground.ts";
import { type ServiceRow, TABLE } from "../services.ts";

/**
 * dataProblem says why the data folder of this process has not what its hub left, whose replica of the log has the number `incarnation`;
 * undefined if it has. Another process that uses the folder is such a reason: the installation that is to be replaced lives.
 */
export async function dataProblem(ground: Ground, incarnation: number): Promise<string | undefined> {
  const { config } = ground;
  for (const service of servicesOf(ground)) {
    const judge = await (TABLE[service] as ServiceRow).data?.();
    if (judge === undefined) continue;
    const path = join(dataDirOf(ground), `${service}.sqlite`);
    if (!existsSync(path))
      return `this installation has no data of ${config.hub_id} in ${dataDirOf(ground)}: restore a backup of its data folder there, or bring the other one back`;
    try {
      const store = openSqliteStore({ path, durability: config.durability, busyTimeoutMs: 0 });
      try {
        const problem = judge(store, config.hub_id, incarnation);
        if (problem !== undefined) return problem;
      } finally {
        store.close();
      }
    } catch (error) {
      if (error instanceof FoedusError) return error.message;
      throw error;
    }
  }
  return undefined;
}
