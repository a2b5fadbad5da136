import type { Federation } from "./federation.ts";
import type { HubProcess } from "./process.ts";

/** How often it is looked. */
const LOOK_MS = 5_000;

/**
 * How long what a service knows, or an operator said, may take to be everywhere in a hub: a report waits for the one before it, and after a
 * refusal up to four seconds; a disk that is full keeps it longer.
 */
const KNOWN_MS = 15_000;

/** How long it may take until the other side knows of another level: if it cannot be told, the link is down by then. */
const LEVELS_KNOWN_MS = 90_000;

/**
 * watchLinks looks at what discovery shows while things happen, with what its own services know: a link is not operational for long whose
 * feed or commands are not; a link that an operator ended has no session; nobody calls with a certificate that was revoked.
 */
export function watchLinks(f: Federation): void {
  const look = (): void => {
    for (const { no, running } of f.hubs) if (running !== undefined) lookAtHub(f, no, running);
    f.scheduler.after(LOOK_MS, look);
  };
  f.scheduler.after(LOOK_MS, look);
}

function lookAtHub(f: Federation, no: number, running: HubProcess): void {
  const { discovery, discoveryCore } = running;
  for (const peer of f.hubs) {
    if (discovery === undefined || peer.no === no) continue;
    const { hubId } = peer;
    const shown = discoveryCore?.gauges(hubId, running.clock.mono());
    const mutual = f.trustOf(no, peer.no).level >= 2 && f.trustOf(peer.no, no).level >= 2 && f.settledMs(no, peer.no) > LEVELS_KNOWN_MS;
    for (const service of ["registry-sync", "command-forwarding"] as const) {
      if (shown?.state === "OPERATIONAL" && mutual && discovery.downMs(service, hubId) > KNOWN_MS)
        f.oracle.violate("links", "correctness", `hub-${no} shows ${hubId} OPERATIONAL while its ${service} has no session with it`);
      if (discovery.endedMs(hubId) > KNOWN_MS && discovery.downMs(service, hubId) === 0 && discovery.told(service, hubId))
        f.oracle.violate("links", "correctness", `hub-${no} has a session of ${service} with ${hubId}, which its operator ended`);
    }
    for (const { thumbprint } of peer.revoked)
      if (discovery.revokedMs(thumbprint) > KNOWN_MS && running.shows(thumbprint))
        f.oracle.violate("links", "correctness", `${hubId} calls hub-${no} with a certificate that was revoked there`);
  }
}
