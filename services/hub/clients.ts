import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ClientOf } from "#channel/call.ts";
import { fail } from "#kernel/error.ts";
import type { Caller, ServiceBinding } from "#runtime/rpc/call.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import type { Credentials } from "./credentials.ts";
import type { Ground } from "./ground.ts";
import { nameOfRpc } from "./services.ts";

/** OwnClientsParts are what clients of this hub's own services are made of. */
export interface OwnClientsParts {
  readonly credentials: Credentials;
  /** Services that this process serves: they are called without a connection. */
  readonly bindings: () => readonly ServiceBinding[];
  /** Thumbprints of this hub's own certificates that are refused. */
  readonly revoked: () => readonly string[];
}

/** OwnClients are this process's clients of its hub's services: one of each, in this process or wherever the configuration says. */
export class OwnClients {
  readonly #ground: Ground;
  readonly #parts: OwnClientsParts;
  readonly #made = new Map<string, { close(): void }>();

  constructor(ground: Ground, parts: OwnClientsParts) {
    this.#ground = ground;
    this.#parts = parts;
  }

  /** client gives the client of one service, by its descriptor. */
  client<S extends GenService<GenServiceMethods>>(service: S): ClientOf<S> {
    let made = this.#made.get(service.typeName);
    if (made === undefined) this.#made.set(service.typeName, (made = this.#make(service)));
    return made as ClientOf<S>;
  }

  close(): void {
    for (const client of this.#made.values()) client.close();
  }

  #make(service: GenService<GenServiceMethods>): { close(): void } {
    const { config, clock, log, entropy } = this.#ground;
    const { credentials, bindings, revoked } = this.#parts;
    const binding = bindings().find((candidate) => candidate.service.typeName === service.typeName);
    if (binding !== undefined) return createLocalClient(service, binding, { caller: this.#self(), clock, log, ids: entropy });
    const name = nameOfRpc(service.typeName);
    if (name === undefined) throw fail("INTERNAL", `${service.typeName} is no service of a hub`);
    const { host, port } = config.services[name];
    return credentials.client(service, { host, port, expected: { hubId: config.hub_id }, caPems: () => credentials.caPems, revoked });
  }

  /** self is this process as a caller of its own services. */
  #self(): Caller {
    const { id, thumbprint, notAfterWall } = this.#parts.credentials.certificate;
    const { hub_id: hubId } = this.#ground.config;
    return { kind: "service", hubId, name: id.name, spiffeId: id.uri, thumbprint, notAfterWall, level: 0, role: 0, prefixes: [] };
  }
}
