// One process that floods a hub in the name of several peers; started by `flood.ts`, as low in priority as the system allows.

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { create, toBinary } from "@bufbuild/protobuf";
import { type CallOptions, type ClientDuplex, RawMessage } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { asBuffer } from "#channel/messages.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { SessionRequestSchema as CommandSchema } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { DiscoveryService, HelloRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { SessionRequestSchema as DiscoverySchema } from "#gen/foedus/discovery/v1alpha1/session_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { SessionRequestSchema as RegistrySchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { sleep } from "#runtime/clock.ts";
import { silentLogger } from "#runtime/log/log.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { type Envelope, type Frame, sessionCodec } from "#runtime/sessions/session-codec.ts";
import { dialSession } from "#runtime/sessions/session-ends.ts";
import type { SessionStream } from "#runtime/sessions/session-stream.ts";
import { CALM, type FloodOrder, type PeerFiles } from "./flood.ts";

const order = JSON.parse(process.argv[2] ?? "") as FloodOrder;
const digest = new Uint8Array(32);
const feed = (hubId: string) => ({ hubId, share: "full", epoch: 1n, seq: 1n, digest });

/** FRAMES of each type, small: the cheaper one is to send, the more of them there are. */
const FRAMES: Readonly<Record<string, { readonly service: "d" | "r" | "c"; bytes(hubId: string): Uint8Array }>> = {
  announce: {
    service: "d",
    bytes: () =>
      toBinary(
        DiscoverySchema,
        create(DiscoverySchema, { frame: { frame: { case: "announce", value: { software: "flood", level: 3 } } } } as never),
      ),
  },
  ...Object.fromEntries(
    (
      [
        ["feedOffer", (hubId: string) => ({ head: feed(hubId), keyStatement: new Uint8Array(8) })],
        ["feedOpen", (hubId: string) => ({ from: feed(hubId) })],
        ["segment", () => ({ segment: new Uint8Array(40) })],
        ["ack", (hubId: string) => ({ position: feed(hubId) })],
        ["nack", (hubId: string) => ({ held: feed(hubId), failure: { reason: 8, message: "no" } })],
        ["snapshot", () => ({ manifest: new Uint8Array(40) })],
        ["snapshotPart", () => ({ index: 1, bytes: new Uint8Array(40) })],
        ["forget", () => ({ share: "none" })],
        ["forgetDone", () => ({ share: "none" })],
      ] as const
    ).map(([name, value]) => [
      name,
      {
        service: "r" as const,
        bytes: (hubId: string) =>
          toBinary(RegistrySchema, create(RegistrySchema, { frame: { frame: { case: name, value: value(hubId) } } } as never)),
      },
    ]),
  ),
  // The one common frame that no count bounds.
  credit: {
    service: "c",
    bytes: () =>
      toBinary(
        CommandSchema,
        create(CommandSchema, {
          frame: { frame: { case: "control", value: { frame: { case: "credit", value: { bytes: 1 } } } } },
        } as never),
      ),
  },
  invocations: {
    service: "c",
    bytes: () =>
      toBinary(CommandSchema, create(CommandSchema, { frame: { frame: { case: "invocations", value: { epoch: 1n } } } } as never)),
  },
  results: {
    service: "c",
    bytes: () =>
      toBinary(
        CommandSchema,
        create(CommandSchema, {
          frame: { frame: { case: "results", value: { epoch: 1n, ownerEpoch: 1n, results: [{ seq: 5n, outcome: 1 }] } } },
        } as never),
      ),
  },
};

const METHODS = { d: DiscoveryService, r: RegistrySyncService, c: CommandForwardingService } as const;

/** Flooder is one peer: it says Hello, opens sessions as an honest hub does, and then only sends. */
class Flooder {
  readonly #peer: PeerFiles;
  readonly #material: { readonly cert: string; readonly key: string; readonly ca: readonly string[] };
  #incarnation = BigInt(Math.floor(systemClock.wall() / 1_000));
  #token = "";
  #n = 0n;
  sent = 0;
  sessions = 0;

  constructor(peer: PeerFiles) {
    this.#peer = peer;
    this.#material = { cert: readFileSync(peer.cert, "utf8"), key: readFileSync(peer.key, "utf8"), ca: [readFileSync(order.ca, "utf8")] };
  }

  #client<S extends typeof DiscoveryService | typeof RegistrySyncService | typeof CommandForwardingService>(service: S) {
    const credentials = createPeerCredentials({ hubId: order.hubId }, this.#material, systemClock);
    return createClient(service, { address: order.address, credentials, clock: systemClock });
  }

  async hello(): Promise<void> {
    const client = this.#client(DiscoveryService);
    const { tokens } = await client.hello(
      create(HelloRequestSchema, {
        hubId: this.#peer.hubId,
        incarnation: this.#incarnation,
        software: "flood",
        packages: ["d", "r", "c"].map((key) => METHODS[key as "d"].file.proto.package),
        leaves: [new X509Certificate(this.#material.cert).raw],
        wallMs: BigInt(Math.round(systemClock.wall())),
      }),
    );
    this.#token = tokens[0]?.jwt ?? "";
    client.close();
  }

  /** flood sends one type of frame until the time is over, and connects again whenever it is thrown out. */
  async flood(type: string, untilMono: number): Promise<void> {
    const { service, bytes } = FRAMES[type]!;
    const message = new RawMessage(asBuffer(bytes(this.#peer.hubId)));
    while (systemClock.mono() < untilMono) {
      const session = await this.#open(service);
      while (!session.over && systemClock.mono() < untilMono) {
        for (let i = 0; i < 200 && session.stream.send(message); i++) this.sent++;
        await new Promise<void>((resolve) => void systemClock.setImmediate(() => resolve()));
        if (!session.stream.writable) await sleep(systemClock, 1);
      }
      session.end();
    }
  }

  async #open(service: "d" | "r" | "c"): Promise<{ stream: SessionStream<Frame>; over: boolean; end(): void }> {
    const definition = METHODS[service];
    const client = this.#client(definition) as unknown as {
      session(options: CallOptions): ClientDuplex<Envelope, Envelope>;
      close(): void;
    };
    const duplex = client.session({ metadata: { authorization: `Bearer ${this.#token}` } });
    this.sessions++;
    const opened = Promise.withResolvers<void>();
    const made = { over: false, stream: undefined as unknown as SessionStream<Frame>, end: () => client.close() };
    made.stream = dialSession<Frame>(
      duplex,
      {
        onControl: ({ frame }) => {
          if (frame.case === "open") opened.resolve();
          if (frame.case === "ping") made.stream.sendControl({ case: "pong", value: { n: frame.value.n } });
        },
        check: () => undefined,
        onFrame: () => undefined,
        onCredit: () => undefined,
        onViolation: () => undefined,
        onEnd: () => {
          made.over = true;
          opened.resolve();
        },
      },
      { codec: sessionCodec<Frame>(definition.method.session), clock: systemClock, log: silentLogger },
    );
    const value = {
      hubId: this.#peer.hubId,
      incarnation: this.#incarnation,
      n: ++this.#n,
      packages: [definition.file.proto.package],
      software: "flood",
    };
    made.stream.sendControl({ case: "open", value });
    await opened.promise;
    return made;
  }
}

/** spin takes the processor and sends nothing. */
function spin(untilMono: number): void {
  while (systemClock.mono() < untilMono);
}

const flooders = order.peers.map((peer) => new Flooder(peer));
for (const flooder of flooders) await flooder.hello();
const started = systemClock.mono();
if (order.type === CALM) spin(started + order.ms);
else await Promise.all(flooders.map((flooder) => flooder.flood(order.type, started + order.ms)));
const total = (pick: (flooder: Flooder) => number): number => flooders.reduce((sum, flooder) => sum + pick(flooder), 0);
process.stdout.write(JSON.stringify({ sent: total(({ sent }) => sent), sessions: total(({ sessions }) => sessions) }));
process.exit(0);
