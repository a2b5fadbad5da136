import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import {
  ChangeValueRequestSchema,
  CoordinationService,
  FoundFederationRequestSchema,
  GetValueRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { EventReport } from "#runtime/events.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import { coordinationConfig } from "../../services/coordination/config.ts";
import { createCoordination } from "../../services/coordination/module.ts";
import { memoryLogger } from "../fakes/memory-logger.ts";
import { MemoryStore } from "../fakes/memory-store.ts";

/** LoneCoordinator is the coordination service of a hub alone, on a disk that tests break. */
export class LoneCoordinator {
  readonly events: EventReport[] = [];
  readonly fatal: unknown[] = [];
  readonly module: ServiceModule;
  readonly log = memoryLogger();
  /** Every opening of the store begins with what the one before left. */
  store = new MemoryStore();
  opened = 0;

  constructor(dataDir: string) {
    this.module = createCoordination({
      platform: {
        hubId: "home",
        clock: systemClock,
        entropy: systemEntropy,
        log: this.log,
        metrics: new Registry(),
        events: { report: (event) => void this.events.push(event) },
        incarnation: 1,
        packages: [],
        software: "test",
        dataDir,
        store: () => {
          if (++this.opened > 1) this.store = this.store.crash("process");
          return this.store;
        },
      },
      config: coordinationConfig.parse(undefined) as never,
      peers: { subscribe: () => () => undefined } as never,
      sessions: { report: () => undefined } as never,
      connect: (() => undefined) as never,
      tokens: { verify: () => undefined } as never,
      endpoint: () => ({ host: "home", port: 18_804 }),
      misconduct: () => undefined,
      dialled: () => undefined,
      onFatal: (error) => void this.fatal.push(error),
    });
  }

  get client() {
    const caller = {
      kind: "operator",
      hubId: "home",
      name: "test",
      spiffeId: "spiffe://home/operator/test",
      thumbprint: "",
      notAfterWall: Number.MAX_SAFE_INTEGER,
      level: 0,
      role: 2,
      prefixes: [],
    } as const;
    return createLocalClient(CoordinationService, this.module.bindings[0]!, {
      caller,
      clock: systemClock,
      log: this.log,
      ids: systemEntropy,
    });
  }

  /** begin starts it, as the only member of a federation. */
  async begin(): Promise<void> {
    await this.module.start();
    await this.client.foundFederation(create(FoundFederationRequestSchema, { federationId: "street" }));
  }

  async put(key: string): Promise<void> {
    const change = { change: { case: "put", value: { key, value: new Uint8Array(1) } } } as const;
    await this.client.changeValue(create(ChangeValueRequestSchema, { change }));
  }

  async has(key: string): Promise<boolean> {
    return (await this.client.getValue(create(GetValueRequestSchema, { key }))).value !== undefined;
  }
}
