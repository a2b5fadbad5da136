import { existsSync } from "node:fs";
import { join } from "node:path";
import { lookInto } from "#runtime/store/open.ts";
import { dataDirOf, type Ground, servicesOf } from "../ground.ts";
import { type ServiceName, type ServiceRow, TABLE } from "../services.ts";
import type { Data } from "./whole.ts";

/**
 * dataOf looks into the stores of this process, and changes nothing: they may be on their way here. Another process that uses one is a reason
 * not to act: the installation that is to be replaced lives.
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
    return (TABLE[service] as ServiceRow).data === undefined ? { missing: problem } : { problem };
  }
  const judge = await (TABLE[service] as ServiceRow).data?.();
  if (judge === undefined) return {};
  try {
    return lookInto(path, (reader) => judge(reader, config.hub_id));
  } catch (error) {
    // Whatever is wrong there, this installation waits and says so.
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}
