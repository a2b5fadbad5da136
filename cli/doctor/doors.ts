import { dirname } from "node:path";
import type { Clock } from "#channel/clock.ts";
import { parseCertificates } from "#channel/tls/material.ts";
import type { Federation, HubConfig } from "../../services/hub/index.ts";
import { SERVICES } from "../../services/hub/services.ts";
import { addressText, dialable } from "../reach/address.ts";
import { shellWord } from "../reach/near-path.ts";
import type { Material } from "./certificates.ts";
import type { Finding, Ledger } from "./ledger.ts";
import { type Door, knock, type Verdict } from "./reach.ts";

type PeerSpec = Federation["peers"][number];

/** Visit is what is needed to knock at doors. */
export interface Visit {
  readonly ledger: Ledger;
  readonly config: HubConfig;
  readonly own: Material;
  readonly clock: Clock;
  /** Where a partner finds our CA, for telling the operator what to send. */
  readonly caFile: string;
  /** The hub's configuration, as it is typed here. */
  readonly configFile: string;
}

/** lookAtOwnDoors knocks where this hub listens. It answers whether the hub runs; a hub that was not started is a warning. */
export async function lookAtOwnDoors(visit: Visit): Promise<boolean> {
  const { ledger, config } = visit;
  const { listen, hub_id: hubId } = config;
  if (listen.port === 0) {
    ledger.skip("the hub itself: its configuration takes any free port");
    return false;
  }
  const main = await knockAt(visit, listen.host, listen.port);
  if (main.kind === "ok" && main.service === "hub") return ledger.look(undefined);
  // Something else than the one process of single mode: the hub may run as one process per service.
  const services = await Promise.all(
    SERVICES.map(async (name) => {
      const { host, port } = config.services[name];
      return { where: addressText(dialable(host), port), name, verdict: port === 0 ? undefined : await knockAt(visit, host, port) };
    }),
  );
  if (services.some(({ verdict }) => verdict?.kind === "ok")) {
    for (const { name, where, verdict } of services)
      ledger.look(verdict !== undefined && verdict.kind !== "ok" && ownFinding(visit, name, where, verdict, name));
    return true;
  }
  const where = addressText(dialable(listen.host), listen.port);
  ledger.look(
    main.kind === "nothing"
      ? {
          severity: "warning",
          check: "hub",
          subject: hubId,
          message: `it is not running: nothing listens at ${where}`,
          fix: `Start it: \`foedus hub --config ${shellWord(visit.configFile)}\`.`,
        }
      : main.kind !== "ok" && ownFinding(visit, hubId, where, main, "hub"),
  );
  return main.kind === "ok";
}

function knockAt(visit: Visit, host: string, port: number): Promise<Verdict> {
  return knock({ host: dialable(host), port, expected: { hubId: visit.config.hub_id }, bundle: visit.own.ca }, visit.own, visit.clock);
}

function ownFinding({ config, configFile, caFile }: Visit, subject: string, where: string, verdict: Verdict, process: string): Finding {
  const { message } = wordsOf(verdict, where, config.hub_id);
  const start = `\`foedus ${process === "hub" ? "hub" : `serve ${process}`} --config ${shellWord(configFile)}\``;
  const fix =
    verdict.kind === "nothing"
      ? `Start it: ${start}.`
      : verdict.kind === "wrong" && verdict.failure.reason === "CERTIFICATE_EXPIRED"
        ? `Renew it: \`foedus pki renew --dir ${shellWord(dirname(caFile))}\`; a running hub loads it automatically.`
        : `End what uses that port, or choose another one, and start ${start}.`;
  return { severity: "error", check: "hub", subject, message, fix };
}

/** lookAtPeerDoors knocks at the configured address of each peer. `linked` tells peers whose link stands all the same: they dialled us. */
export async function lookAtPeerDoors(visit: Visit, { peers }: Federation, linked: (hubId: string) => boolean): Promise<void> {
  const doors = peers.flatMap((peer) => peer.addresses.map((address) => ({ peer, address })));
  const verdicts = await Promise.all(doors.map(({ peer, address }) => knock(doorOf(peer, address), visit.own, visit.clock)));
  for (const [i, { peer, address }] of doors.entries()) {
    const verdict = verdicts[i]!;
    visit.ledger.look(
      verdict.kind !== "ok" && peerFinding(visit, peer, addressText(address.host, address.port), verdict, linked(peer.hubId)),
    );
  }
}

function doorOf({ hubId, cas }: PeerSpec, { host, port }: { readonly host: string; readonly port: number }): Door {
  return { host, port, expected: { hubId }, bundle: parseCertificates(cas.map(({ pem }) => pem)) };
}

function peerFinding(visit: Visit, { hubId }: PeerSpec, where: string, verdict: Verdict, linked: boolean): Finding {
  const { message, away } = wordsOf(verdict, where, hubId);
  return {
    severity: linked && away ? "warning" : "error",
    check: "reach",
    subject: hubId,
    message: linked && away ? `${message}; the link stands because ${hubId} dialled us` : message,
    fix: fixOf(visit, hubId, verdict),
  };
}

/** wordsOf says what happened; `away` if nobody was there at all. */
function wordsOf(verdict: Verdict, where: string, hubId: string): { readonly message: string; readonly away: boolean } {
  switch (verdict.kind) {
    case "nothing":
      return { message: `nothing listens at ${where}`, away: true };
    case "unknown-host":
      return { message: `the host name of ${where} is not known`, away: true };
    case "silent":
      return { message: `no answer from ${where} in time`, away: true };
    case "no-tls":
      return { message: `what answers at ${where} does not speak TLS 1.3 as a hub does (${verdict.detail})`, away: false };
    case "refused":
      return {
        message: `${hubId} at ${where} rejects our certificate: it has not pinned our CA, has pinned a different one, or its operator has ended the link (\`peers disable\`)`,
        away: false,
      };
    case "wrong":
      return { message: `at ${where}: ${verdict.failure.message}`, away: false };
    case "ok":
      return { message: "", away: false };
  }
}

function fixOf({ own, caFile, config }: Visit, hubId: string, verdict: Verdict): string {
  const correct = `correct the address: \`foedus peer add ${hubId} --host <host> --port <port>\``;
  switch (verdict.kind) {
    case "nothing":
      return `Ask the operator of ${hubId} whether it runs, or ${correct}.`;
    case "unknown-host":
      return `Look at the name service, or ${correct}.`;
    case "silent":
      return `Look for a firewall between the two, or ${correct}.`;
    case "no-tls":
      return `Something else uses that port; ${correct}.`;
    case "refused": {
      const digest = own.ca.map((ca) => ca.fingerprint256.replaceAll(":", "").toLowerCase()).join(" ");
      return `Ask its operator. If they ended the link, there: \`foedus peers enable ${config.hub_id}\`. If they do not have our CA, send ${caFile} (SHA-256 ${digest}); there: \`foedus peer add ${config.hub_id} --ca <file>\`; or, if it has ended the partnership: \`foedus peer remove ${hubId}\`.`;
    }
    case "wrong":
      if (verdict.failure.reason === "UNKNOWN_IDENTITY") return `Another hub is there; ${correct}.`;
      if (verdict.failure.reason === "FOREIGN_CA")
        return `If ${hubId} has a new CA, pin it: \`foedus peer add ${hubId} --ca <its ca.pem> --fingerprint <sha256>\`; if not, somebody pretends to be it.`;
      return "Its operator renews it, there: `foedus pki renew`; or one of the clocks is wrong.";
    case "ok":
      return "";
  }
}
