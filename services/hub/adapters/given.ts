import type { HubConfig } from "../config.ts";
import type { AdapterName } from "./adapters.ts";

/** givenTo is what an adapter of this hub gets on its stdin: where the hub is, and its configuration. */
export function givenTo(name: AdapterName, config: HubConfig, folder: string, port: number): string {
  const { host } = config.listen;
  const here = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  const address = `${here.includes(":") ? `[${here}]` : here}:${port}`;
  return JSON.stringify({ hub: { hub_id: config.hub_id, address, ca: config.tls.ca }, folder, config: config.adapters[name] });
}
