import type { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { parseCertificates, splitPem } from "#channel/tls/material.ts";
import { GetStatusRequestSchema } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { readText } from "#runtime/files.ts";
import { loadCertificate } from "#runtime/tls/certificate-source.ts";
import { type HubConfig, resolveFrom } from "../../services/hub/index.ts";
import { isHost, type OwnOffer } from "../../services/introduction/index.ts";
import { usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { endpointOf } from "../reach/connect.ts";
import { type Desk, running } from "./desk.ts";
import type { OwnHubFlags } from "./own-hub.ts";

/** Ports of a hub start at its main one; the door has the fifth after it, behind those of the services. */
const DOOR_OFFSET = 5;

/** Address is a host, without brackets, and a port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** OwnSide is what this hub brings to an introduction. */
export interface OwnSide {
  readonly offer: OwnOffer;
  /** Private key of the offer's certificate, PEM. */
  readonly key: string;
  /** Its CAs, and those between them and its certificate: a hub does not learn these from its callers (PROTOCOL C4), so peers pin them too. */
  readonly bundle: readonly X509Certificate[];
}

/** Mode is how the hub runs: "single", or "split" with a process per service. */
export type Mode = "single" | "split";

/** modeOf asks the hub how it runs. A hub that does not run, or that may not be asked, counts as the one process that `foedus hub` starts. */
export async function modeOf(io: Io, desk: Desk, flags: OwnHubFlags): Promise<Mode> {
  const status = await running(io, desk.hub, { ...flags, quiet: true }, (connection) =>
    connection.hub(endpointOf(connection.target, "discovery")).getStatus(create(GetStatusRequestSchema), { signal: io.stopped }),
  );
  return status === undefined || status.mode === "single" ? "single" : "split";
}

/** ownSide reads the hub's certificate, key and CAs, and where peers reach it. Throws FoedusError (NOT_CONFIGURED). */
export async function ownSide(io: Io, { hub: { config, folder } }: Desk, mode: Mode): Promise<OwnSide> {
  const { tls, hub_id: hubId } = config;
  const files = { certFile: resolveFrom(folder, tls.cert), keyFile: resolveFrom(folder, tls.key) };
  const { leaf, key, issuers } = await loadCertificate(files, io.clock.wall());
  const cas = parseCertificates(splitPem(readText(resolveFrom(folder, tls.ca))));
  const bundle = [...cas, ...issuers.filter(({ raw }) => !cas.some((ca) => ca.raw.equals(raw)))];
  return { offer: { hubId, caPems: bundle.map(String), leaf, address: peerAddress(config, mode) }, key, bundle };
}

/** peerAddress is where peers reach this hub's discovery, as its own process would tell them; undefined if it only dials out. */
export function peerAddress(config: HubConfig, mode: Mode): Address | undefined {
  const { discovery } = config.services;
  const split = mode === "split";
  const host = split && discovery.advertise_host !== "" ? discovery.advertise_host : config.advertise_host;
  const advertised = split ? discovery.advertise_port : config.advertise_port;
  const port = advertised === 0 ? (split ? discovery.port : config.listen.port) : advertised;
  return host === "" || port === 0 ? undefined : { host, port };
}

/** DoorFlags say where the door is. */
export interface DoorFlags {
  readonly listen?: string;
  readonly advertise?: string;
}

/** doorAddresses gives where the door listens (port 0: any) and what the invite says. Throws CliError (usage). */
export function doorAddresses(config: HubConfig, mode: Mode, flags: DoorFlags): { listen: Address; advertise: Address } {
  const main = mode === "split" ? config.services.discovery : config.listen;
  const port = main.port === 0 ? 0 : Math.min(main.port + DOOR_OFFSET, 65_535);
  const listen = flags.listen === undefined ? { host: main.host, port } : addressOf(flags.listen, port);
  const told = flags.advertise === undefined ? undefined : addressOf(flags.advertise, listen.port);
  const host = told?.host ?? peerAddress(config, mode)?.host;
  if (host === undefined)
    throw usage(
      `${config.hub_id} has no address that other hubs can reach, so nobody could accept its invite`,
      "Create the invite at the other hub, or give --advertise host:port.",
    );
  return { listen, advertise: { host, port: told?.port ?? listen.port } };
}

/** addressOf reads host:port, [v6]:port or a host alone. Throws CliError (usage). */
function addressOf(text: string, fallbackPort: number): Address {
  const [, v6, name, port] = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const address = { host: v6 ?? name ?? "", port: port === undefined ? fallbackPort : Number(port) };
  if (!isHost(address.host) || address.port > 65_535)
    throw usage(`"${text}" is not an address`, "Write host:port, an IPv6 host in brackets.");
  return address;
}
