// A hub with a caller of its own that misbehaves: it asks for listings and reads none, or opens streams and closes them.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { sleep } from "#runtime/clock.ts";
import { register } from "../support/acts.ts";
import { Federation, type HubProcess } from "../support/federation.ts";
import { meter } from "../support/load.ts";
import { rssOf } from "./flood.ts";

/** Nodes whose listing is asked for: a page of some hundred KiB. */
const NODES = 1_000;
const PAUSE_MS = 50;

/** Misbehaviour is what the misbehaving process is told. */
export interface Misbehaviour {
  readonly what: "unread" | "flicker";
  readonly host: string;
  readonly port: number;
  readonly files: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly ms: number;
}

/** Noticed is what an operator noticed: how long its calls took at most, and how many failed, in a calm time and after it. */
export interface Noticed {
  readonly what: string;
  readonly streams: number;
  readonly startMiB: number;
  readonly rssMiB: number;
  readonly calmMaxMs: number;
  readonly maxMs: number;
  readonly failed: number;
}

/** watch calls the hub again and again until it is over. */
async function watch(hub: HubProcess, over: () => boolean): Promise<{ maxMs: number; failed: number; rssMiB: number }> {
  const { discovery } = hub.clients();
  const seen = { maxMs: 0, failed: 0, rssMiB: 0 };
  while (!over()) {
    const started = systemClock.mono();
    await discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" }, { timeoutMs: 30_000 }).then(
      () => undefined,
      () => seen.failed++,
    );
    seen.maxMs = Math.max(seen.maxMs, Math.round(systemClock.mono() - started));
    seen.rssMiB = Math.max(seen.rssMiB, Math.round(rssOf(hub.pids.get("hub")!)));
    await sleep(systemClock, PAUSE_MS);
  }
  return seen;
}

function act(order: Misbehaviour): Promise<number> {
  const args = ["-n", "19", process.execPath, join(import.meta.dirname, "misbehaver.ts"), JSON.stringify(order)];
  return new Promise((resolve, reject) =>
    execFile("nice", args, (error, stdout, stderr) =>
      error === null ? resolve(Number(stdout)) : reject(new Error(stderr, { cause: error })),
    ),
  );
}

/** misbehave does both, each after a calm time. */
export async function misbehave(ms: number): Promise<Noticed[]> {
  const federation = await Federation.start({ hubs: [{ id: "home", peers: [], env: { MALLOC_ARENA_MAX: "1" } }] });
  const noticed: Noticed[] = [];
  try {
    const hub = federation.hub("home");
    const gateway = hub.clients("gateway-agents");
    for (let n = 0; n < NODES; n += 100) await register(gateway, ...Array.from({ length: 100 }, (_, i) => meter(`meter-${n + i}`)));
    for (const what of ["unread", "flicker"] as const) {
      const calmUntil = systemClock.mono() + ms / 2;
      const calm = await watch(hub, () => systemClock.mono() > calmUntil);
      const startMiB = Math.round(rssOf(hub.pids.get("hub")!));
      let over = false;
      const acting = act({ what, host: hub.host, port: hub.basePort, files: hub.pki("gateway-zigbee"), ms }).finally(() => {
        over = true;
      });
      const { maxMs, failed, rssMiB } = await watch(hub, () => over);
      noticed.push({ what, streams: await acting, startMiB, rssMiB, calmMaxMs: calm.maxMs, maxMs, failed });
    }
  } finally {
    await federation.stop();
  }
  return noticed;
}
