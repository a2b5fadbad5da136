import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create, type DescMethod } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { systemEntropy } from "#channel/entropy.ts";
import { isRequestStream, isResponseStream, methodPath } from "#channel/messages.ts";
import { GetStatusRequestSchema } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { loadHubConfig, type RunningHub, startHub } from "../../services/hub/index.ts";
import { Federation } from "../support/federation.ts";
import { SERVICES } from "../tidy/schema.ts";
import { Generator } from "./raw-message.ts";

const MESSAGES = 1_200;
/** Streams that the hub does not end are ended by the caller. */
const STREAM_MS = 150;
const METHODS = SERVICES.flatMap(({ methods }) => methods);
const PRINCIPALS = ["operator-admin", "operator-viewer", "gateway-zigbee", "service-hub"] as const;
/** What a hub may not answer to any bytes: that something in it broke. */
const BROKEN: ReadonlySet<number> = new Set([grpc.status.INTERNAL, grpc.status.UNKNOWN, grpc.status.DATA_LOSS]);

let federation: Federation | undefined;
let running: RunningHub | undefined;
afterEach(async () => {
  await running?.stop();
  await federation?.stop();
});

/** Callers call with bytes as they are, one connection for each principal. */
class Callers {
  readonly #clients: ReadonlyMap<string, grpc.Client>;

  constructor(dir: string, address: string) {
    const pem = (name: string): Buffer => readFileSync(join(dir, "pki", name));
    this.#clients = new Map(
      PRINCIPALS.map((who) => {
        const credentials = grpc.credentials.createSsl(pem("ca.pem"), pem(`${who}.key`), pem(`${who}.pem`));
        return [who, new grpc.Client(address, credentials, { "grpc.ssl_target_name_override": "localhost" })] as const;
      }),
    );
  }

  /** call resolves with the status of a call. */
  call(who: string, method: DescMethod, messages: readonly Uint8Array[]): Promise<number> {
    const client = this.#clients.get(who) as grpc.Client;
    const same = (bytes: Buffer): Buffer => bytes;
    const options = { deadline: Date.now() + (isRequestStream(method) || isResponseStream(method) ? STREAM_MS : 10_000) };
    return new Promise((resolve) => {
      const over = (status: grpc.StatusObject): void => resolve(status.code);
      if (!isRequestStream(method) && !isResponseStream(method)) {
        const first = Buffer.from(messages[0] ?? new Uint8Array(0));
        client.makeUnaryRequest(methodPath(method), same, same, first, options, (error) => resolve(error?.code ?? grpc.status.OK));
        return;
      }
      const stream = client.makeBidiStreamRequest(methodPath(method), same, same, options);
      stream.on("error", () => undefined).on("data", () => undefined);
      stream.on("status", over);
      for (const bytes of messages) stream.write(Buffer.from(bytes));
      if (!isRequestStream(method)) stream.end();
    });
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }
}

test("F-1 F-3 a running hub answers any bytes, on any RPC, of any principal, with OK or a reason, and goes on", async () => {
  const seed = Number(process.env["FOEDUS_FUZZ_SEED"] ?? systemEntropy.seed() % 1_000_000_000);
  console.info(`seed ${seed}: FOEDUS_FUZZ_SEED=${seed} gives the same messages again`);
  federation = await Federation.prepare({ logLevel: "error", hubs: [{ id: "home", peers: [] }] });
  const home = federation.hub("home");
  running = await startHub({ ...loadHubConfig({ file: join(home.dir, "hub.json") }), runs: "hub" });
  const callers = new Callers(home.dir, `${home.host}:${home.basePort}`);
  const prng = new Prng(seed);
  const generator = new Generator(prng, ({ name }) => (name === "hub_id" ? "home" : name === "node_id" ? "lamp" : undefined));
  const statuses = new Map<number, number>();
  for (let done = 0; done < MESSAGES; ) {
    const batch = Array.from({ length: 40 }, async () => {
      generator.mood();
      const method = generator.pick(METHODS);
      const who = generator.pick(PRINCIPALS);
      const messages = Array.from({ length: isRequestStream(method) ? 1 + prng.below(4) : 1 }, () => generator.message(method.input));
      const status = await callers.call(who, method, messages);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      expect([
        method.name,
        who,
        BROKEN.has(status) ? `${status} for ${messages.map((m) => Buffer.from(m).toString("hex")).join(",")}` : "fine",
      ]).toEqual([method.name, who, "fine"]);
    });
    done += batch.length;
    await Promise.all(batch);
  }
  callers.close();
  expect(statuses.get(grpc.status.OK) ?? 0).toBeGreaterThan(MESSAGES / 50);
  expect(statuses.get(grpc.status.INVALID_ARGUMENT) ?? 0).toBeGreaterThan(MESSAGES / 50);
  const clients = home.clients();
  await expect(clients.hub.getStatus(create(GetStatusRequestSchema))).resolves.toMatchObject({ hubId: "home" });
  clients.close();
}, 240_000);
