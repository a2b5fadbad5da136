import { existsSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { own } from "#kernel/own.ts";
import { fileStem, type PkiEntry } from "../../certs/issue.ts";
import { hubOf, readMaterial } from "../../clients/typescript/reach/file-credentials.ts";
import { addressesOf, contextsFileOf, SERVICE_NAMES, withEnvironment } from "../../clients/typescript/reach/target.ts";
import { CliError, EXIT, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { issueLeaf } from "../pki/pki.ts";
import { clean } from "../print/format.ts";
import { addressText, dialable } from "../reach/address.ts";
import { asUsage } from "../reach/as-usage.ts";
import { type HubContext, noContexts, readContexts, unknownContext } from "../reach/contexts-file.ts";
import { nearPath, shellWord } from "../reach/near-path.ts";
import type { ConnectionFlags, OutputFlags } from "../verb.ts";

/** PlaceFlags say at which hub a node is, and with what it proves who it is. */
export interface PlaceFlags extends OutputFlags, Omit<ConnectionFlags, "timeout"> {
  readonly config?: string;
}

/** Reach is where a hub is, and its CA. */
interface Reach {
  /** Undefined if only the certificate says it. */
  readonly hubId: string | undefined;
  /** As the SDK takes it. */
  readonly address: string | Readonly<Record<string, string>>;
  readonly ca: string;
}

/** Place is a hub as a node of it calls it. Files are absolute. */
export interface Place extends Reach {
  readonly hubId: string;
  readonly cert: string;
  readonly key: string;
  /** What was done about the certificate, if the hub's CA is here. */
  readonly issued: PkiEntry | undefined;
}

/** The file of a CA beside which `foedus pki` finds its key. */
const CA_FILE = "ca.pem";

/** addressIn gives the addresses of a context as the SDK takes them. */
function addressIn({ address, services = {} }: Pick<HubContext, "address" | "services">): Reach["address"] {
  if (Object.keys(services).length === 0 && address !== undefined) return address;
  return { ...(address === undefined ? {} : { discovery: address }), ...services };
}

function reachOfContext(file: string, context: HubContext): Reach {
  return { hubId: context.hub_id, address: addressIn(context), ca: resolve(dirname(file), context.ca) };
}

/** reachOfContexts takes a context of a file: the one that is named, else the current one. Throws CliError. */
async function reachOfContexts(file: string, named: string | undefined): Promise<Reach> {
  const known = await readContexts(file);
  const name = named ?? known.current;
  const context = own(known.contexts, name);
  if (context === undefined) throw unknownContext(known, name);
  return reachOfContext(file, context);
}

/** reachOfConfig reads where the hub of a configuration listens; its context says it where each service is a process of its own. */
async function reachOfConfig(io: Io, flags: PlaceFlags): Promise<Reach> {
  // It loads the hub's code, which a context spares.
  const [{ ownContext, readOwnHub }, { resolveFrom }] = await Promise.all([
    import("../own/own-hub.ts"),
    import("../../services/hub/index.ts"),
  ]);
  const hub = readOwnHub(io, flags);
  const named = await ownContext(io, hub, { contexts: flags.contexts });
  if (named !== undefined) return reachOfContext(named.file, named.context);
  const { hub_id: hubId, listen, tls } = hub.config;
  if (listen.port === 0)
    throw usage(`${nearPath(io.cwd, hub.file)} does not say at which port the hub listens`, "Give --address, or a context with --hub.");
  return { hubId, address: addressText(dialable(listen.host), listen.port), ca: resolveFrom(hub.folder, tls.ca) };
}

function reachOfAddress(io: Io, texts: readonly string[], ca: string | undefined): Reach {
  if (ca === undefined) throw usage("an address needs --ca", "Give the hub's CA, or use a context (--hub).");
  const { address, services } = asUsage(() => addressesOf(texts, SERVICE_NAMES));
  return { hubId: undefined, address: addressIn({ address, services: services as Record<string, string> }), ca: resolve(io.cwd, ca) };
}

/**
 * reachOf finds the hub: --address, --config, the context of --hub, the context that `hub init` put into this folder, hub.json here, and
 * then the nearest contexts file. Throws CliError.
 */
async function reachOf(io: Io, flags: PlaceFlags): Promise<Reach> {
  const { address, ca, context } = withEnvironment({ ...flags, context: flags.hub }, io.env);
  if (flags.address !== undefined && flags.hub !== undefined)
    throw usage("--hub and --address cannot be used together", "Give only one of them.");
  if (address !== undefined) return reachOfAddress(io, address, ca);
  if (flags.config !== undefined) return reachOfConfig(io, flags);
  const file = contextsFileOf(flags.contexts, io);
  const here = file === undefined || dirname(dirname(file)) !== io.cwd;
  if (context === undefined && flags.contexts === undefined && here && existsSync(resolve(io.cwd, "hub.json")))
    return reachOfConfig(io, flags);
  if (file === undefined) throw noContexts();
  return reachOfContexts(file, context);
}

/**
 * placeOf finds the hub of a node, and the node's certificate: the one that is given, else the one that the hub's CA issues if its key is
 * here, else the one that lies beside `ca.pem`. Throws CliError and PkiError.
 */
export async function placeOf(io: Io, nodeId: string, flags: PlaceFlags): Promise<Place> {
  const reach = await reachOf(io, flags);
  const { cert, key } = withEnvironment(flags, io.env);
  if ((cert === undefined) !== (key === undefined)) throw usage("a certificate needs its key", "Give both --cert and --key, or neither.");
  if (cert !== undefined && key !== undefined)
    return withHub(reach, { cert: resolve(io.cwd, cert), key: resolve(io.cwd, key), issued: undefined });
  const dir = dirname(reach.ca);
  const request = { profile: "node", name: nodeId } as const;
  if (basename(reach.ca) === CA_FILE && existsSync(join(dir, "ca.key"))) {
    const { hubId, leaves } = await issueLeaf(io, dir, request);
    const [issued] = leaves;
    if (issued !== undefined) return { ...reach, hubId, cert: issued.certificateFile, key: issued.keyFile, issued };
  }
  const stem = join(dir, fileStem(request));
  const files = { cert: `${stem}.pem`, key: `${stem}.key`, issued: undefined };
  if (existsSync(files.cert) && existsSync(files.key)) return withHub(reach, files);
  throw new CliError(
    EXIT.notFound,
    `${nearPath(io.cwd, dir)} has no CA that could issue a certificate for ${clean(nodeId)}, and none that it has already`,
    `Issue one where the hub's CA is, with \`foedus pki issue node ${shellWord(nodeId)}\`, and give its files with --cert and --key.`,
  );
}

/** withHub adds the hub that a certificate belongs to, where nothing else says it. Throws CliError (usage). */
function withHub(reach: Reach, files: Pick<Place, "cert" | "key" | "issued">): Place {
  return { ...reach, ...files, hubId: asUsage(() => reach.hubId ?? hubOf(readMaterial({ ...files, ca: reach.ca }))) };
}
