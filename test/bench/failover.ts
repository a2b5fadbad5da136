// The family "failover": how long a federation of three hubs decides nothing after its leader was killed.
import { mkdtempSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { ChangeValueRequestSchema, CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { sleep } from "#runtime/clock.ts";
import { foundTogether, leaderOf, statusOf } from "../support/deciding.ts";
import { Federation, type HubProcess } from "../support/federation.ts";
import { until } from "../support/until.ts";
import { belowRow, context, type Row } from "./measure.ts";
import { hubEntry } from "./rig.ts";
import { quantiles } from "./worker.ts";

const FAMILY = "failover";
const HUBS = ["a", "b", "c"] as const;
const KILLS = 50;
const LIMIT_MS = 1_500;
const CALL_MS = 5_000;
/** Decisions after a kill that are looked at. */
const FOLLOWING = 5;
/** A hub writes so long in quiet before the leader is killed, ms. */
const QUIET_MS = 200;

/** Writer writes at one hub, one decision after the other, and notes when each was made. */
class Writer {
  readonly #rpc;
  readonly #loop: Promise<void>;
  readonly decidedAt: number[] = [];
  #running = true;

  constructor(hub: HubProcess) {
    this.#rpc = hub.client(CoordinationService);
    this.#loop = this.#write();
  }

  /** gapFrom resolves with the longest time without a decision from `at` on, ms. What the killed leader had decided may still be told. */
  async gapFrom(at: number): Promise<number> {
    const after = (): number[] => this.decidedAt.filter((decided) => decided > at);
    await until("decisions after the kill", () => after().length >= FOLLOWING, 60_000);
    return Math.max(...after().map((decided, i, all) => decided - (all[i - 1] ?? at)));
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#loop;
    this.#rpc.close();
  }

  async #write(): Promise<void> {
    const value = new Uint8Array(128);
    const request = create(ChangeValueRequestSchema, { change: { change: { case: "put", value: { key: "failover", value } } } });
    while (this.#running) {
      try {
        await this.#rpc.changeValue(request, { timeoutMs: CALL_MS });
        this.decidedAt.push(systemClock.mono());
      } catch {
        await sleep(systemClock, 1);
      }
    }
  }
}

/** once kills the leader while another hub writes, and gives the gap; the killed hub is back when it resolves. */
async function once(federation: Federation): Promise<number> {
  const leader = await leaderOf(federation, 30_000);
  const other = HUBS[(HUBS.indexOf(leader as (typeof HUBS)[number]) + 1) % HUBS.length]!;
  const writer = new Writer(federation.hub(other));
  try {
    await until("decisions in quiet", () => writer.decidedAt.length > 3, 30_000);
    await sleep(systemClock, QUIET_MS);
    const killedAt = systemClock.mono();
    await federation.hub(leader).end("SIGKILL");
    const gap = await writer.gapFrom(killedAt);
    await federation.hub(leader).start();
    await federation.operational(60_000);
    const clients = federation.hub(leader).clients();
    await until(`${leader} having all again`, async () => (await statusOf(clients)).canDecide, 30_000);
    clients.close();
    return gap;
  } finally {
    await writer.stop();
  }
}

/** failover kills the leader of a federation again and again. */
export async function failover(kills = Number(process.env["KILLS"] ?? KILLS)): Promise<Row[]> {
  const dir = mkdtempSync(join(tmpdir(), "foedus-bench-"));
  const hubs = HUBS.map((id) => ({ id, peers: HUBS.filter((hub) => hub !== id).map((hub) => ({ hub })) }));
  const federation = await Federation.start({ hubs, dir, entry: hubEntry(), logLevel: "warn" });
  try {
    await federation.operational(60_000);
    await foundTogether(federation, "bench", HUBS);
    const gaps: number[] = [];
    for (let i = 0; i < kills; i++) gaps.push(await once(federation));
    const { p50, max } = quantiles(gaps);
    const note = `${kills} kills (SIGKILL) of the leader of three hubs; a client at another hub writes in a closed loop; the longest time without a decision after the signal`;
    return [
      belowRow(FAMILY, "longest time without a decision after the leader was killed", LIMIT_MS, "ms", max, note, 0),
      context(FAMILY, "the same, half of them", `${p50.toFixed(0)} ms`, `load of the machine at the end ${loadavg()[0]!.toFixed(1)}`),
    ];
  } finally {
    await federation.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
