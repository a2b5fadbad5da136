import { create, type DescField, toBinary } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { decodeRequest, Malformed } from "#channel/messages.ts";
import { validateRequest } from "#channel/validation.ts";
import {
  type HelloRequest,
  HelloRequestSchema,
  type HelloResponse,
  HelloResponseSchema,
  ListPeersResponseSchema,
  type ReportSessionsRequest,
  ReportSessionsRequestSchema,
  WatchPeersResponseSchema,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { type SessionFrame, SessionFrameSchema } from "#gen/foedus/discovery/v1alpha1/session_pb.ts";
import { AuditBatchSchema, type CopyAuditRequest, CopyAuditRequestSchema } from "#gen/foedus/telemetry/v1alpha1/audit_pb.ts";
import {
  ListEventsResponseSchema,
  type ReportEventsRequest,
  ReportEventsRequestSchema,
  type WatchEventsRequest,
  WatchEventsRequestSchema,
  WatchEventsResponseSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import {
  decodeRecord,
  introductionOf,
  levelFromProto,
  peerToProto,
  pushToProto,
  recordCodec,
  reportsFromProto,
  tokensFromProto,
} from "../../services/discovery/codec.ts";
import { DiscoveryCore } from "../../services/discovery/core.ts";
import type { Effect, Input } from "../../services/discovery/messages.ts";
import { PEER_SPACE } from "../../services/discovery/peers/peer-table.ts";
import type { CoreConfig } from "../../services/discovery/settings.ts";
import {
  auditBatchFrom,
  eventsIn,
  filterFromProto,
  happeningCodec,
  reportFromProto,
  wantedBy,
} from "../../services/telemetry/codec/events.ts";
import { AUDIT_KEY, META_SPACE, TelemetryCore } from "../../services/telemetry/core.ts";
import { SUMMARY_SPACE, TAIL_LOG } from "../../services/telemetry/log/event-log.ts";
import type { HappeningFilter, Effect as TelemetryEffect, Input as TelemetryInput } from "../../services/telemetry/messages.ts";
import { EventReader } from "../../services/telemetry/shell/event-reader.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { Generator } from "./raw-message.ts";
import { must, Tally, type Target } from "./target.ts";

const WALL = 1_800_000_000_000;
const CONFIG: CoreConfig = {
  hubId: "me",
  packageName: "foedus.discovery.v1alpha1",
  minimumEvidence: 2,
  verificationPeriodMs: 86_400_000,
  backoff: { baseMs: 2_000, maxMs: 60_000, factor: 2, jitter: 0.25 },
  expects: ["registry-sync"],
  leafDelayMs: 100,
  reintroduceMs: 60_000,
  releasedAtWall: WALL - 1_000,
  clockRetryMs: 5_000,
  skewWarnMs: 60_000,
};
const LEAF = { thumbprint: "leaf", der: Uint8Array.of(1) };
const PEER = {
  hubId: "peer",
  addresses: [{ host: "peer.example", port: 18_800 }],
  cas: [{ pem: "CA", digest: "d1" }],
  revoked: [],
  maxTrust: 2,
  share: "limited",
} as const;

function hint({ name }: DescField): bigint | number | string | undefined {
  if (name === "hub_id") return "peer";
  if (name === "wall_ms" || name === "checked_at_ms") return BigInt(WALL);
  if (name === "service") return "registry-sync";
  if (name === "spiffe_id") return "spiffe://peer/service/hub";
  if (name === "host") return "peer.example";
  if (name === "port") return 18_800;
  if (name === "packages") return CONFIG.packageName;
  if (name === "thumbprint") return LEAF.thumbprint;
  return undefined;
}

function createTelemetry(store: MemoryStore): TelemetryCore {
  const core = new TelemetryCore({ codec: happeningCodec, retention: { events: 100, bytes: 2 ** 30, ms: 2 ** 50 }, watchers: 2 });
  const [tail, summaries] = [store.read(TAIL_LOG, 0), store.space(SUMMARY_SPACE)];
  core.restore({ tail, summaries, legacy: [], audit: store.get(META_SPACE, AUDIT_KEY) });
  return core;
}

/** ServicesTarget is discovery and telemetry: what a peer says of itself, answers and announces, and what services report. */
export class ServicesTarget extends Tally implements Target {
  readonly name = "discovery and telemetry: introductions, answers, reports";
  readonly weight = 3;
  #mono = 0;
  #stored = new Map<string, Uint8Array>();
  #discovery = new DiscoveryCore({ config: CONFIG, prng: new Prng(1), codec: recordCodec });
  #events = new MemoryStore();
  #telemetry = createTelemetry(this.#events);
  #filter: HappeningFilter = filterFromProto(undefined);
  #attempt = 0;

  renew(): void {
    [this.#mono, this.#attempt] = [0, 0];
    this.#stored = new Map();
    this.#discover();
    this.#events = new MemoryStore();
    this.#telemetry = createTelemetry(this.#events);
  }

  take(prng: Prng): void {
    const generator = new Generator(prng, hint);
    generator.mood();
    this.#mono += prng.below(2_000);
    const kinds = [this.#hello, this.#answer, this.#announce, this.#sessions, this.#report, this.#copy, this.#watch];
    generator.pick(kinds).call(this, generator);
    if (prng.chance(0.1)) this.#show();
    if (prng.chance(0.02)) this.#restart();
  }

  #discover(): void {
    const core = new DiscoveryCore({ config: CONFIG, prng: new Prng(1), codec: recordCodec });
    core.restore(
      [...this.#stored].map(([hubId, bytes]) => {
        const record = decodeRecord(bytes);
        must(record !== undefined, "a stored peer cannot be read");
        return [hubId, record] as const;
      }),
    );
    this.#discovery = core;
    this.#give({ kind: "federation", peers: [PEER] });
    this.#give({ kind: "watch", watch: 1, services: ["registry-sync"], leaf: LEAF });
  }

  #decode<T>(schema: Parameters<typeof decodeRequest>[0], bytes: Uint8Array): T | undefined {
    const message = decodeRequest(schema, bytes);
    const failure = message instanceof Malformed ? message.error.failure : validateRequest(schema, message);
    if (failure === undefined) this.applied++;
    else this.refuse(failure.reason);
    return failure === undefined ? (message as unknown as T) : undefined;
  }

  #hello(generator: Generator): void {
    const request = this.#decode<HelloRequest>(HelloRequestSchema, generator.message(HelloRequestSchema));
    if (request === undefined) return;
    this.#give({ kind: "hello_received", call: 1, caller: "peer", from: introductionOf(request), leaves: [LEAF.thumbprint], refused: [] });
  }

  #answer(generator: Generator): void {
    const response = this.#decode<HelloResponse>(HelloResponseSchema, generator.message(HelloResponseSchema));
    if (response === undefined) return;
    const { tokens } = response;
    const level = levelFromProto(response.level);
    this.#give({
      kind: "hello_answered",
      peer: "peer",
      attempt: this.#attempt,
      from: introductionOf(response),
      tokens: tokensFromProto(tokens),
      level,
      copies: response.copies,
    });
  }

  #announce(generator: Generator): void {
    const frame = this.#decode<SessionFrame>(SessionFrameSchema, generator.message(SessionFrameSchema, 0, "announce"))?.frame;
    if (frame?.case === "announce") this.#give({ kind: "announced", peer: "peer", level: levelFromProto(frame.value.level) });
  }

  #sessions(generator: Generator): void {
    const request = this.#decode<ReportSessionsRequest>(ReportSessionsRequestSchema, generator.message(ReportSessionsRequestSchema));
    if (request === undefined) return;
    this.#give({ kind: "sessions", service: request.service, reports: reportsFromProto(request.service, request.reports) });
  }

  #give(input: Input): void {
    const out: Effect[] = [];
    const now = { mono: this.#mono, wall: WALL + this.#mono };
    this.#discovery.step(now, input, out);
    if ((this.#discovery.deadline() ?? Number.POSITIVE_INFINITY) <= this.#mono) this.#discovery.tick(now, out);
    for (const effect of out) {
      if (effect.kind === "persist")
        for (const op of effect.ops) if (op.op === "put" && op.space === PEER_SPACE) this.#stored.set(op.key, op.bytes);
      if (effect.kind === "hello") this.#attempt = effect.attempt;
      if (effect.kind === "peers")
        toBinary(ListPeersResponseSchema, create(ListPeersResponseSchema, { peers: effect.peers.map(peerToProto) }));
      if (effect.kind === "push")
        for (const push of effect.pushes)
          toBinary(WatchPeersResponseSchema, create(WatchPeersResponseSchema, { push: pushToProto(push, "registry-sync") }));
    }
    if (out.some(({ kind }) => kind === "push")) this.#give({ kind: "watch_ready", watch: 1 });
  }

  #report(generator: Generator): void {
    const request = this.#decode<ReportEventsRequest>(ReportEventsRequestSchema, generator.message(ReportEventsRequestSchema));
    if (request === undefined) return;
    const { service, dropped } = request;
    const events = request.events.map((event) => reportFromProto(event, service));
    this.#tell({ kind: "report", call: 1, service, events, links: undefined, dropped: Number(dropped) });
  }

  /** copy gives telemetry an audit batch that was made up, or bytes that are none. */
  #copy(generator: Generator): void {
    const request = this.#decode<CopyAuditRequest>(CopyAuditRequestSchema, generator.message(CopyAuditRequestSchema));
    const made = generator.message(AuditBatchSchema);
    for (const bytes of [made, ...(request?.batches ?? [])]) {
      try {
        this.#tell({ kind: "copy", call: 1, batches: [auditBatchFrom(bytes)] });
      } catch (error) {
        must(error instanceof FoedusError, "a batch that is none is not refused");
        this.refuse((error as FoedusError).failure.reason);
      }
    }
  }

  #watch(generator: Generator): void {
    const request = this.#decode<WatchEventsRequest>(WatchEventsRequestSchema, generator.message(WatchEventsRequestSchema));
    if (request === undefined) return;
    this.#filter = filterFromProto(request.filter);
    this.#tell({ kind: "watch", watch: 2, caller: "c", wanted: wantedBy(this.#filter), fromSeq: Number(request.fromSeq) });
    this.#tell({ kind: "watch_end", watch: 2 });
  }

  #tell(input: TelemetryInput): void {
    const out: TelemetryEffect[] = [];
    this.#telemetry.step({ mono: this.#mono, wall: WALL + this.#mono }, input, out);
    for (const effect of out) {
      if (effect.kind === "persist") must((this.#events.commit(effect.ops) as { readonly ok: boolean }).ok, "events cannot be stored");
      if (effect.kind === "push") {
        const events = new EventReader(this.#events, systemClock, "me").pushed(effect, this.#filter) ?? [];
        const [missed, nextSeq] = [BigInt(effect.missed), BigInt(effect.nextSeq)];
        toBinary(WatchEventsResponseSchema, create(WatchEventsResponseSchema, { events, missed, nextSeq }));
      }
      if (effect.kind === "listed")
        for (const { bytes, first } of effect.rows)
          toBinary(
            ListEventsResponseSchema,
            create(ListEventsResponseSchema, { events: [...eventsIn(bytes, first, 0, this.#filter, "me")] }),
          );
    }
  }

  /** show is what an operator asks for: it can be written, whatever came in. */
  #show(): void {
    this.#give({ kind: "list", call: 1, peer: undefined });
    this.#tell({ kind: "list", call: 1, wanted: wantedBy(this.#filter), beforeSeq: 0 });
    this.#discovery.describe();
  }

  #restart(): void {
    this.#discover();
    this.#telemetry = createTelemetry(this.#events);
  }
}
