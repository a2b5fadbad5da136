import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { DescService } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ClientOf } from "#channel/call.ts";
import { splitPem } from "#channel/tls/material.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { parseSpiffeId, uriSans } from "#channel/tls/peer-identity.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { own } from "#kernel/own.ts";
import { withoutBom } from "#runtime/files.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import {
  type Addresses,
  addressesOf,
  contextsFileOf,
  type Endpoint,
  endpointOf as endpointIn,
  type Given,
  withEnvironment,
} from "../../clients/typescript/reach/target.ts";
import { SERVICES, type ServiceName } from "../../services/hub/services.ts";
import { usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseDuration } from "../parse.ts";
import { clean } from "../print/format.ts";
import type { ConnectionFlags } from "../verb.ts";
import { advised } from "./advice.ts";
import { asUsage } from "./as-usage.ts";
import { credentialsOf, type NamedContext } from "./context-drift.ts";
import { noContexts, readContexts, unknownContext } from "./contexts-file.ts";
import { explained } from "./probe.ts";

export type { Endpoint } from "../../clients/typescript/reach/target.ts";

/** Target is a hub that can be called: who it is, where its services are, and with what to prove who we are. */
export interface Target extends Addresses {
  readonly hubId: string;
  readonly ca: readonly string[];
  readonly cert: string;
  readonly key: string;
  /** The context that says all this, if one does. */
  readonly context?: NamedContext;
}

/** Deadline of a call, ms, unless --timeout says otherwise. */
const DEFAULT_TIMEOUT_MS = 10_000;
/** Bytes of a list of what a federation has: one member alone may fill several MiB of it, and that must hide nothing from the operator. */
const LISTS_MAX_BYTES = 32 * 1024 * 1024;

async function readPem(file: string, what: string): Promise<string> {
  try {
    return withoutBom(await readFile(file, "utf8"));
  } catch (error) {
    throw usage(`${what} ${file} cannot be read`, "Check the path; `foedus pki init` and `foedus pki issue` make certificates.", error);
  }
}

/** hubOfCertificate reads the hub of an operator's certificate: an operator belongs to the hub that it operates. */
function hubOfCertificate(cert: string, file: string): string {
  const [leaf] = splitPem(cert);
  const id = leaf === undefined ? undefined : uriSans(new X509Certificate(leaf)).map(parseSpiffeId)[0];
  if (id === undefined)
    throw usage(`${file} is not a foedus certificate`, "Use a certificate that `foedus pki issue operator <name>` made.");
  return id.hubId;
}

async function fromFlags(flags: Given & { readonly address: readonly string[] }): Promise<Target> {
  const { ca, cert, key } = flags;
  if (ca === undefined || cert === undefined || key === undefined)
    throw usage(
      "an address needs --ca, --cert and --key",
      "Give the hub's CA and an operator's certificate and key, or use a context (--hub).",
    );
  const [caPem, certPem, keyPem] = await Promise.all([readPem(ca, "the CA"), readPem(cert, "the certificate"), readPem(key, "the key")]);
  return {
    hubId: hubOfCertificate(certPem, cert),
    ...asUsage(() => addressesOf(flags.address, SERVICES)),
    ca: [caPem],
    cert: certPem,
    key: keyPem,
  };
}

async function fromContext(named: NamedContext): Promise<Target> {
  const { context } = named;
  const files = credentialsOf(named);
  const [ca, cert, key] = await Promise.all([
    readPem(files.ca, "the CA"),
    readPem(files.cert, "the certificate"),
    readPem(files.key, "the key"),
  ]);
  return { hubId: context.hub_id, address: context.address, services: context.services ?? {}, ca: [ca], cert, key, context: named };
}

/** resolveTarget decides which hub is meant: --address, else the context --hub, else the current context. Throws CliError (usage). */
export async function resolveTarget(given: ConnectionFlags, io: Io): Promise<Target> {
  if (given.address !== undefined && given.hub !== undefined)
    throw usage("--hub and --address cannot be used together", "Give only one of them.");
  const flags = withEnvironment({ ...given, context: given.hub }, io.env);
  if (flags.address !== undefined) return fromFlags({ ...flags, address: flags.address });
  const file = contextsFileOf(given.contexts, io);
  if (file === undefined) throw noContexts();
  const known = await readContexts(file);
  const name = flags.context ?? known.current;
  const context = own(known.contexts, name);
  if (context === undefined) throw unknownContext(known, name);
  return fromContext({ name, file, context });
}

/** endpointOf finds a service. Without addresses per service the hub is in single mode and all are at one. Throws CliError (usage). */
export function endpointOf(target: Addresses, service: ServiceName): Endpoint {
  return asUsage(() => endpointIn(target, service));
}

/** endpointsOf lists every process of the hub, each once. */
export function endpointsOf(target: Target): Endpoint[] {
  if (Object.keys(target.services).length === 0) return [endpointOf(target, "discovery")];
  return SERVICES.filter((name) => target.services[name] !== undefined || (name === "discovery" && target.address !== undefined)).map(
    (name) => endpointOf(target, name),
  );
}

type Call = (request: object, options?: object) => Promise<unknown> | AsyncIterable<unknown>;

/** withReasons makes the calls of a client say why there is no connection. Streams of requests stay as they are: no verb uses one. */
function withReasons<S extends GenService<GenServiceMethods>>(
  descriptor: S,
  plain: ClientOf<S>,
  explain: (error: unknown) => Promise<unknown>,
): ClientOf<S> {
  const calls = plain as unknown as Record<string, Call>;
  const client: Record<string, unknown> = { ...calls };
  for (const { localName, methodKind } of (descriptor as DescService).methods) {
    const call = calls[localName];
    if (call === undefined) continue;
    if (methodKind === "unary")
      client[localName] = async (...args: Parameters<Call>) => {
        try {
          return await call(...args);
        } catch (error) {
          throw await explain(error);
        }
      };
    if (methodKind === "server_streaming")
      client[localName] = async function* (...args: Parameters<Call>) {
        try {
          yield* call(...args) as AsyncIterable<unknown>;
        } catch (error) {
          throw await explain(error);
        }
      };
  }
  return client as ClientOf<S>;
}

/** fitting makes credentials of a target; files that are damaged or do not belong together are named as they were given. Throws CliError (usage). */
function fitting<T>({ context }: Target, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof FoedusError) || error.failure.reason !== "INVALID_FIELD") throw error;
    const remedy =
      context === undefined
        ? "Give --cert and --key of one pair, as `foedus pki issue operator` makes it, and the hub's ca.pem with --ca."
        : `Correct ca, cert and key of the context ${clean(context.name)}: \`foedus contexts add ${clean(context.name)} --cert <file> --key <file>\`.`;
    throw usage(error.failure.message, remedy, error);
  }
}

/** Connection makes clients of one hub's services. Nothing is dialled before the first call. */
export class Connection implements Disposable {
  readonly target: Target;
  /** Deadline of calls, ms. */
  readonly timeoutMs: number;
  readonly #io: Io;
  readonly #clients = new Map<string, { close(): void }>();

  constructor(target: Target, timeoutMs: number, io: Io) {
    if (!isHubId(target.hubId)) throw usage(`"${target.hubId}" is not the id of a hub`, "Correct hub_id in the context.");
    this.target = target;
    this.timeoutMs = timeoutMs;
    this.#io = io;
  }

  /** client gives the client of a service at an endpoint; the same one each time. */
  client<S extends GenService<GenServiceMethods>>(descriptor: S, { address, service }: Endpoint, maxBytes?: number): ClientOf<S> {
    const key = `${descriptor.typeName} ${address}`;
    const known = this.#clients.get(key);
    if (known !== undefined) return known as ClientOf<S>;
    const { ca, cert, key: keyPem, hubId } = this.target;
    // In split mode the services may share one certificate, so any service of this very hub will do.
    const expected = service === "hub" ? { hubId, name: service } : { hubId };
    const { clock } = this.#io;
    const credentials = fitting(this.target, () => createPeerCredentials(expected, { ca, cert, key: keyPem }, clock));
    const most = maxBytes === undefined ? {} : { maxMessageBytes: maxBytes };
    const plain = createClient(descriptor, { address, credentials, clock, defaultTimeoutMs: this.timeoutMs, namesAddress: true, ...most });
    const client = withReasons(descriptor, plain, async (error) =>
      advised(await explained(error, { address, ca, cert, key: keyPem, clock }), this.target.context, this.#io),
    );
    this.#clients.set(key, client as { close(): void });
    return client;
  }

  /** hub is the operator's surface of one process. */
  hub(endpoint: Endpoint): ClientOf<typeof HubService> {
    return this.client(HubService, endpoint);
  }
  get discovery(): ClientOf<typeof DiscoveryService> {
    return this.client(DiscoveryService, endpointOf(this.target, "discovery"));
  }
  get registry(): ClientOf<typeof RegistrySyncService> {
    return this.client(RegistrySyncService, endpointOf(this.target, "registry-sync"));
  }
  get commands(): ClientOf<typeof CommandForwardingService> {
    return this.client(CommandForwardingService, endpointOf(this.target, "command-forwarding"));
  }
  get coordination(): ClientOf<typeof CoordinationService> {
    return this.client(CoordinationService, endpointOf(this.target, "coordination"), LISTS_MAX_BYTES);
  }
  get telemetry(): ClientOf<typeof TelemetryService> {
    return this.client(TelemetryService, endpointOf(this.target, "telemetry"));
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}

/** connect prepares a connection from flags, environment and contexts. Throws CliError (usage). */
export async function connect(flags: ConnectionFlags, io: Io): Promise<Connection> {
  return new Connection(
    await resolveTarget(flags, io),
    flags.timeout === undefined ? DEFAULT_TIMEOUT_MS : parseDuration(flags.timeout),
    io,
  );
}
