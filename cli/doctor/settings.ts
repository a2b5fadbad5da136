import { type Federation, type HubConfig, undefinedShares } from "../../services/hub/index.ts";
import { isLoopback } from "../reach/address.ts";
import type { Ledger } from "./ledger.ts";
import { lookAtRules } from "./rules.ts";

const FULL = 3;

/** lookAtSettings looks for configurations that are valid and yet hardly meant. */
export function lookAtSettings(ledger: Ledger, config: HubConfig, federation: Federation): void {
  lookAtAddresses(ledger, config, federation);
  lookAtShares(ledger, config, federation);
  lookAtRules(ledger, config);
  const { peers } = federation;
  ledger.look(
    peers.length > 1 &&
      peers.every(({ maxTrust }) => maxTrust === FULL) && {
        severity: "warning",
        check: "setting",
        subject: "max_trust",
        message: `all ${peers.length} peers have the ceiling full, so it restricts nobody`,
        fix: "Lower it for peers that do not need it: `foedus peer trust <hub> limited`.",
      },
  );
  ledger.look(
    config.durability === "process" && {
      severity: "warning",
      check: "setting",
      subject: "durability",
      message: "what the hub acknowledges survives the end of the process, but not a loss of power",
      fix: 'Set "durability": "full" unless the disk is too slow for it.',
    },
  );
  ledger.look(
    !isLoopback(config.ops.host) && {
      severity: "warning",
      check: "setting",
      subject: "ops.host",
      message: `health is answered on ${config.ops.host} without TLS; /metrics and /statusz are on a port of their own, with a certificate of this hub`,
      fix: 'Set "ops": {"host": "127.0.0.1"} and read them on this machine, unless probes have to come from outside.',
    },
  );
}

function lookAtAddresses(ledger: Ledger, { advertise_host: advertised, listen }: HubConfig, { peers }: Federation): void {
  const elsewhere = peers.filter(({ addresses }) => addresses.some(({ host }) => !isLoopback(host)));
  ledger.look(
    isLoopback(advertised) &&
      elsewhere.length > 0 && {
        severity: "warning",
        check: "setting",
        subject: "advertise_host",
        message: `peers are told to dial ${advertised}, which is their own machine, and ${names(elsewhere)} ${elsewhere.length === 1 ? "is" : "are"} elsewhere`,
        fix: 'Set "advertise_host" to a name or address that they reach, or to "" if this hub only dials out, and "listen": {"host": "0.0.0.0"}.',
      },
  );
  ledger.look(
    advertised !== "" &&
      !isLoopback(advertised) &&
      isLoopback(listen.host) && {
        severity: "warning",
        check: "setting",
        subject: "listen.host",
        message: `peers are told to dial ${advertised}, but the hub listens on ${listen.host} only`,
        fix: 'Set "listen": {"host": "0.0.0.0"}, unless something on this machine passes connections on.',
      },
  );
  const dialing = peers.filter(({ addresses }) => addresses.length === 0);
  for (const { hubId } of dialing)
    ledger.look(
      advertised === "" && {
        severity: "error",
        check: "setting",
        subject: hubId,
        message: `${hubId} has no address and this hub advertises none, so neither dials the other`,
        fix: `Give its address, \`foedus peer add ${hubId} --host <host>\`, or set "advertise_host".`,
      },
    );
}

function lookAtShares(ledger: Ledger, config: HubConfig, federation: Federation): void {
  const { peers } = federation;
  for (const { share, message, fix } of undefinedShares(config, federation))
    ledger.look({ severity: "error", check: "setting", subject: `share ${share}`, message, fix });
  for (const [share, { nodes }] of Object.entries(config.registry_sync.shares)) {
    if (!peers.some((peer) => peer.share === share)) continue;
    const rules = nodes.length;
    const who = peers.filter((peer) => peer.share === share);
    ledger.look(
      rules === 0 && {
        severity: "warning",
        check: "setting",
        subject: `share ${share}`,
        message: `it has no rules, so ${names(who)} ${who.length === 1 ? "sees" : "see"} no node of this hub`,
        fix: `Give it rules in the configuration, e.g. "registry_sync": {"shares": {"${share}": {"nodes": ["*"], "invoke": ["*"]}}} (without "invoke" it is read-only), or use another: \`foedus peer add ${who[0]?.hubId} --share full\`.`,
      },
    );
  }
}

function names(peers: readonly { readonly hubId: string }[]): string {
  return peers.map(({ hubId }) => hubId).join(", ");
}
