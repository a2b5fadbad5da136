import { create, type DescService } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { DiscoveryService, type GetDialledRequest, GetDialledResponseSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { fail } from "#kernel/error.ts";
import type { PeerView } from "#runtime/peers.ts";
import type { CallContext, ServiceBinding } from "#runtime/rpc/call.ts";
import { JwtVerifier } from "#runtime/tokens/verify.ts";
import { type DialledMember, dialledAt, type Federation } from "../../discovery/index.ts";
import type { Credentials } from "../credentials.ts";
import { resolveFrom } from "../files/identity.ts";
import { refusedThumbprints } from "../files/revoked-file.ts";
import { dataDirOf, type Ground } from "../ground.ts";
import { ViewAuthority } from "../peers/authority.ts";
import { Serve } from "../serve.ts";
import { SERVICES, type ServiceName, TABLE } from "../services.ts";
import { reportOf } from "./ask.ts";
import type { Report } from "./whole.ts";

/** Door is the port of an installation that does not act: whoever calls is told why, and what to do. */
export interface Door {
  /** serve is where it listens, and what peers would be told of it. */
  readonly serve: Serve;
  close(): Promise<void>;
}

/** DoorOptions are what is said at the door. */
export interface DoorOptions {
  readonly federation: Federation;
  /** why is the sentence with which calls are refused at the moment. */
  readonly why: () => string;
  /** known is where another hub was dialled, as far as this one was told; undefined if it was told nothing. */
  readonly known: (hubId: string) => DialledMember | undefined;
  /** said takes what another process of this hub found of its data, and tells why that has to wait. It throws FENCE_STALE if it has to end. */
  readonly said: (service: ServiceName, report: Report) => string;
}

/**
 * openDoor listens where the hub would, and refuses every call with the sentence of the moment. Only the installations of other hubs hear which
 * of them this hub was told of: if all refused that, nobody would begin again after a power cut (SI4).
 */
export async function openDoor(ground: Ground, credentials: Credentials, { federation, ...says }: DoorOptions): Promise<Door> {
  const { config, folder, clock, log } = ground;
  const authority = new ViewAuthority(config.hub_id, () => credentials.trusted);
  authority.revokeOwn(refusedThumbprints(resolveFrom(folder, config.tls.revoked), dataDirOf(ground)));
  // Peers prove who they are as always, so that they are told the reason, and not only that nobody knows them.
  authority.update(federation.peers.map(viewOf), log);
  const refusals = doorBindings(says);
  const verifier = new JwtVerifier({ hubId: config.hub_id, clock, authority });
  // Its numbers are not those of the hub that is to run in this process.
  const serve = new Serve(
    { ...ground, metrics: new Registry() },
    { credentials, authority: () => authority, verifier, tracer: undefined, bindings: () => refusals },
  );
  const module = serve.module();
  await module.start();
  return { serve, close: () => module.stop(0) };
}

/** doorBindings are what an installation that does not act answers: every call of every service. */
export function doorBindings(says: Omit<DoorOptions, "federation">): readonly ServiceBinding[] {
  return [...SERVICES.map((name) => TABLE[name].rpc), HubService].map((service) => refusing(service, says));
}

function refusing(service: DescService, { why, known, said }: Omit<DoorOptions, "federation">): ServiceBinding {
  const refuse = (): never => {
    throw fail("FENCE_STALE", why());
  };
  const handlers = Object.fromEntries(service.methods.map(({ localName }) => [localName, refuse]));
  if (service.typeName !== DiscoveryService.typeName) return { service, handlers };
  const getDialled = ({ held }: GetDialledRequest, { caller }: CallContext) => {
    const own = caller.kind === "service" ? reportOf(held) : undefined;
    // With a certificate of its own a service speaks for itself only.
    if (own !== undefined && (caller.name === own.service || !SERVICES.some((name) => name === caller.name)))
      return create(GetDialledResponseSchema, { waits: said(own.service, own.report) });
    const member = caller.kind === "peer" ? known(caller.hubId) : undefined;
    return member === undefined ? refuse() : dialledAt(member);
  };
  return { service, handlers: { ...handlers, getDialled } };
}

function viewOf({ hubId, cas, revoked }: Federation["peers"][number]): PeerView {
  return {
    hubId,
    level: 1,
    share: "",
    endpoint: undefined,
    token: undefined,
    caPems: cas.map(({ pem }) => pem),
    bundleSeq: 1,
    revoked: revoked.map(({ thumbprint }) => thumbprint),
    minTokenIssuedAtWall: 0,
    terminated: false,
    wake: 0,
  };
}
