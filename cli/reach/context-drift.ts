import { dirname, resolve } from "node:path";
import type { HubConfig } from "../../services/hub/index.ts";
import { SERVICES } from "../../services/hub/services.ts";
import { addressText, isLoopback } from "./address.ts";
import type { HubContext } from "./contexts-file.ts";
import { shellWord } from "./near-path.ts";

/** NamedContext is a context and where it stands. */
export interface NamedContext {
  readonly name: string;
  /** The contexts file, absolute. */
  readonly file: string;
  readonly context: HubContext;
}

/** Drift is a context of this machine that has other ports than the configuration of its hub: the ports were changed after it was made. */
export interface Drift {
  /** Part of a sentence. */
  readonly message: string;
  /** The command that mends the context. */
  readonly command: string;
  /** What the context should say, as --address takes it. */
  readonly addresses: readonly string[];
}

type Ports = Pick<HubConfig, "listen" | "services">;

/** driftOf compares a context with the configuration of its hub; undefined if they agree, or if the hub is reached another way. */
export function driftOf({ name, context }: NamedContext, { listen, services }: Ports, more = ""): Drift | undefined {
  const split = Object.keys(context.services ?? {}).length > 0;
  const told = [
    ...(context.address === undefined
      ? []
      : [{ key: "", address: context.address, ports: split ? [services.discovery.port, listen.port] : [listen.port] }]),
    ...SERVICES.flatMap((service) => {
      const address = context.services?.[service];
      return address === undefined ? [] : [{ key: `${service}=`, address, ports: [services[service].port] }];
    }),
  ];
  const now = told.map((entry) => ({ ...entry, moved: movedTo(entry.address, entry.ports, listen.host) }));
  const [first] = now.filter(({ moved }) => moved !== undefined);
  if (first === undefined) return undefined;
  const addresses = now.map(({ key, address, moved }) => `${key}${moved ?? address}`);
  return {
    message: `the context ${name} says ${first.key}${first.address}, the configuration says port ${first.ports[0]}`,
    command: `foedus contexts add ${shellWord(name)} ${addresses.map((address) => `--address ${address}`).join(" ")}${more}`,
    addresses,
  };
}

/** movedTo is the address with the port of the configuration; undefined if it has that already, or is not that of a listener here. */
function movedTo(address: string, ports: readonly number[], listenHost: string): string | undefined {
  const [, v6, name, port = ""] = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(address) ?? [];
  const host = v6 ?? name ?? "";
  const [wanted = 0] = ports;
  if (wanted === 0 || ports.includes(Number(port))) return undefined;
  return isLoopback(host) || host === listenHost ? addressText(host, wanted) : undefined;
}

/** credentialsOf are the files of a context, as the options of a connection name them. */
export function credentialsOf({ file, context }: NamedContext): { readonly ca: string; readonly cert: string; readonly key: string } {
  const at = (path: string): string => resolve(dirname(file), path);
  return { ca: at(context.ca), cert: at(context.cert), key: at(context.key) };
}
