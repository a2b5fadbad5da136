import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import { REASONS, type Reason } from "#kernel/error.ts";
import type { LinkState } from "#kernel/session/rules.ts";
import { counter, LabelBound, sampledGauge } from "#runtime/metrics/declare.ts";
import type { DiscoveryCore } from "./core.ts";

const STATES: readonly LinkState[] = ["INIT", "DISCOVERING", "CONNECTING", "SYNCING", "OPERATIONAL", "RECOVERING", "TERMINATED"];
const PEERS_MAX = 256;

/** Results of a Hello that say: this one is not who it must be, or may not do what it asks. */
const VIOLATIONS: readonly Reason[] = [
  "UNKNOWN_IDENTITY",
  "FOREIGN_CA",
  "CERTIFICATE_EXPIRED",
  "IDENTITY_MISMATCH",
  "ACCESS_DENIED",
  "TRUST_TOO_LOW",
  "TOKEN_INVALID",
];

/** DiscoveryMetrics are the numbers of this service; gauges are read from the core when someone scrapes. */
export class DiscoveryMetrics {
  readonly #hellos;
  readonly #core: DiscoveryCore;
  readonly #clock: Clock;
  readonly #gauges;
  readonly #unsample: (() => void)[];
  readonly #peers = new Map<string, (() => void)[]>();
  readonly #label = new LabelBound(PEERS_MAX);

  constructor(registry: Registry, core: DiscoveryCore, clock: Clock) {
    this.#core = core;
    this.#clock = clock;
    this.#hellos = counter(registry, {
      name: "foedus_discovery_hello_total",
      help: "Hellos by direction and result: ok or the reason of the failure.",
      labels: ["direction", "result"],
    });
    // A counter that appears with its first event hides that event from rate() and increase().
    for (const direction of ["in", "out"]) for (const result of ["ok", ...VIOLATIONS]) this.#hellos.inc({ direction, result }, 0);
    const states = sampledGauge(registry, { name: "foedus_discovery_peers", help: "Configured peers by link state.", labels: ["state"] });
    this.#unsample = STATES.map((state) => states({ state: state.toLowerCase() }, () => core.count(state)));
    const labels = ["peer"] as const;
    this.#gauges = {
      state: sampledGauge(registry, {
        name: "foedus_discovery_link_state",
        help: `State of the link with a peer, over all services: ${STATES.map((name, value) => `${value} ${name}`).join(", ")}.`,
        labels,
      }),
      level: sampledGauge(registry, {
        name: "foedus_discovery_trust_level",
        help: "Decided trust level of a peer: 0 none, 1 minimal, 2 limited, 3 full.",
        labels,
      }),
      skew: sampledGauge(registry, {
        name: "foedus_discovery_clock_skew_seconds",
        help: "A peer's clock minus ours at its last Hello.",
        labels,
      }),
      copies: sampledGauge(registry, {
        name: "foedus_discovery_copies",
        help: "Processes of one hub that were found to run at the same time: of a peer, or of this hub (own) as the peer says. 0 if there is one, as there should be.",
        labels: ["peer", "of"],
      }),
      expiry: sampledGauge(registry, {
        name: "foedus_discovery_token_expiry_timestamp_seconds",
        help: "Unix time at which our first token at a peer expires; 0 for none.",
        labels,
      }),
    };
  }

  hello(direction: "in" | "out", result: string): void {
    this.#hellos.inc({ direction, result: result === "ok" || (REASONS as readonly string[]).includes(result) ? result : "other" });
  }

  added(hubId: string): void {
    const peer = this.#label.of(hubId);
    if (peer === "other" || this.#peers.has(hubId)) return;
    const read = (of: (gauges: NonNullable<ReturnType<DiscoveryCore["gauges"]>>) => number) => () => {
      const gauges = this.#core.gauges(hubId, this.#clock.mono());
      return gauges === undefined ? 0 : of(gauges);
    };
    const { state, level, skew, expiry, copies } = this.#gauges;
    this.#peers.set(hubId, [
      state(
        { peer },
        read((g) => STATES.indexOf(g.state)),
      ),
      copies(
        { peer, of: "peer" },
        read((g) => g.copies),
      ),
      copies(
        { peer, of: "own" },
        read((g) => g.ownCopies),
      ),
      level(
        { peer },
        read((g) => g.level),
      ),
      skew(
        { peer },
        read((g) => g.skewMs / 1_000),
      ),
      expiry(
        { peer },
        read((g) => g.tokenExpiresAtWall / 1_000),
      ),
    ]);
  }

  removed(hubId: string): void {
    for (const unsample of this.#peers.get(hubId) ?? []) unsample();
    this.#peers.delete(hubId);
    this.#label.forget(hubId);
  }

  stop(): void {
    for (const hubId of [...this.#peers.keys()]) this.removed(hubId);
    for (const unsample of this.#unsample) unsample();
  }
}
