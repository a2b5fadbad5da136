// The log of a federation as a log to measure: three hubs, one process each, with mutual TLS and durable stores, as they are shipped.
import { readFileSync } from "node:fs";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { ValueStream } from "../../clients/typescript/values/value-stream.ts";
import { foundTogether, leaderOf } from "../support/deciding.ts";
import { Federation } from "../support/federation.ts";
import type { LogEndpoint, LogUnderTest, Putter } from "./log-load.ts";
import { hubEntry } from "./rig.ts";

const HUBS = ["a", "b", "c"] as const;
const COMMITS = /^foedus_commit_seconds_count\{[^}]*service="coordination"[^}]*\} (\S+)$/m;

/** FoedusLog is a federation of three hubs. */
export class FoedusLog implements LogUnderTest {
  readonly name = "foedus";
  #federation: Federation | undefined;
  #leader = "";

  async start(dir: string): Promise<readonly LogEndpoint[]> {
    const hubs = HUBS.map((id) => ({ id, peers: HUBS.filter((hub) => hub !== id).map((hub) => ({ hub })) }));
    this.#federation = await Federation.start({ hubs, dir, entry: hubEntry(), logLevel: "warn" });
    try {
      await this.#federation.operational(60_000);
      await foundTogether(this.#federation, "bench", HUBS);
      this.#leader = await leaderOf(this.#federation);
      const order = [this.#leader, ...HUBS.filter((id) => id !== this.#leader)];
      return order.map((id) => {
        const hub = this.#federation!.hub(id);
        return { hub: id, address: hub.address("coordination"), pki: hub.pki("operator-admin") };
      });
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  open(endpoint: LogEndpoint, client: number): Putter {
    const { pki, address } = endpoint;
    const material = { ca: [readFileSync(pki.ca, "utf8")], cert: readFileSync(pki.cert, "utf8"), key: readFileSync(pki.key, "utf8") };
    const credentials = createPeerCredentials({ hubId: endpoint.hub, name: "hub" }, material, systemClock);
    const coordination = createClient(CoordinationService, { address, credentials, clock: systemClock });
    const key = `client-${client}`;
    const values = new ValueStream(coordination);
    return {
      put: async (value) => {
        await values.put(key, value);
      },
      close: () => {
        values.close();
        coordination.close();
      },
    };
  }

  async syncs(): Promise<number> {
    return Number(COMMITS.exec(await this.#federation!.hub(this.#leader).ops("/metrics"))?.[1] ?? Number.NaN);
  }

  pids(): readonly number[] {
    return [...this.#federation!.hubs.values()].flatMap((hub) => [...hub.pids.values()]);
  }

  async stop(): Promise<void> {
    await this.#federation?.stop();
  }
}
