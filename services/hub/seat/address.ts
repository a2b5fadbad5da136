import { DEFAULT_PORT, type ServiceEndpoint } from "../../discovery/index.ts";

/** ownAddress is where an installation is dialled: where it tells peers that its discovery is, else its hub's name, which nobody dials. */
export function ownAddress(hubId: string, endpoints: readonly ServiceEndpoint[]): { readonly host: string; readonly port: number } {
  const own = endpoints.find(({ service }) => service === "discovery");
  return own === undefined || own.port === 0 ? { host: hubId, port: DEFAULT_PORT } : { host: own.host, port: own.port };
}
