// A hub that is a configured peer and does what it likes: the real protocol over real mutual TLS, with every frame in the test's hands.

import { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { ClientDuplex } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { failureFromProto } from "#channel/failure.ts";
import { HelloRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import {
  type SessionFrame,
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
} from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { frameFromProto, frameToProto } from "../../services/registry-sync/codec/frame-codec.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import type { FeedPosition, PeerFrame } from "../../services/registry-sync/messages.ts";
import { VALUE_TYPE } from "../../services/registry-sync/ports.ts";
import { makeKeyStatement } from "../../services/registry-sync/shell/key.ts";
import { GATEWAY, Instants, keyOf, nodeBytes, TestHub as RegistryHub } from "../fakes/registry-hub.ts";
import type { Credential, TestHub } from "../testca/index.ts";
import { type Clients, until } from "./federation.ts";

/** Said is one answer of the hub about our feed; places are written as epoch/seq. */
export interface Said {
  readonly ack?: string;
  readonly nack?: { readonly reason: string; readonly message: string; readonly held: string };
}

const SESSION = 1;
/** Stream of the gateway that makes our honest changes. */
const STREAM = 1;
const CREDIT_BYTES = 1024 * 1024;

const place = ({ epoch, seq }: Pick<FeedPosition, "epoch" | "seq">): string => `${epoch}/${seq}`;

/** Boot counters rise, so that a new Mallory replaces the one before. */
let boots = 0;

/** Mallory is the hostile hub: a real registry core makes its honest frames; the test holds them back, spoils or repeats them. */
export class Mallory {
  readonly clients: Clients;
  /** What the hub answered about our feed, oldest first. */
  readonly said: Said[] = [];
  /** Segments that are held back, oldest first. */
  readonly held: Uint8Array[] = [];
  readonly #ca: TestHub;
  readonly #credential: Credential;
  readonly #core: RegistryHub;
  readonly #statement: Uint8Array;
  readonly #incarnation = BigInt(++boots);
  #stream: ClientDuplex<SessionRequest, SessionResponse> | undefined;
  #end: Failure | undefined;
  #holding = false;
  #last: Uint8Array = new Uint8Array(0);
  #acked = "0/0";
  #n = 0n;
  #seq = 0;

  constructor(ca: TestHub, as: (credential: Credential) => Clients) {
    this.#ca = ca;
    this.#credential = ca.service();
    this.clients = as(this.#credential);
    const clock = new Instants();
    clock.wall = systemClock.wall();
    this.#core = new RegistryHub(ca.hubId, clock);
    this.#core.post({ kind: "stream_open", stream: STREAM, scope: GATEWAY });
    this.#statement = this.#sign(this.#credential);
  }

  /** hello introduces us and gives the token for our certificate. */
  async hello(): Promise<string> {
    const request = create(HelloRequestSchema, {
      hubId: this.#ca.hubId,
      incarnation: this.#incarnation,
      software: "mallory",
      packages: ["foedus.discovery.v1alpha1", "foedus.registry_sync.v1alpha1"],
      leaves: [new X509Certificate(this.#credential.certificatePem).raw],
      wallMs: BigInt(Math.round(systemClock.wall())),
    });
    const { tokens } = await this.clients.discovery.hello(request);
    const [token] = tokens;
    if (token === undefined) throw new Error("Hello gave no token");
    return token.jwt;
  }

  /** connect opens the stream; nothing is said on it yet. */
  async connect(): Promise<void> {
    const token = await this.hello();
    // The level that Hello decided reaches the registry a moment later.
    this.#stream = await until("the registry letting us in", async () => {
      const stream = this.clients.registry.session({ metadata: { authorization: `bearer ${token}` } });
      await stream.opened;
      return stream;
    });
    void this.#read(this.#stream);
  }

  /** open connects and says who we are, or somebody else. */
  async open(as: { readonly hubId?: string } = {}): Promise<void> {
    await this.connect();
    const open = {
      hubId: as.hubId ?? this.#ca.hubId,
      incarnation: this.#incarnation,
      n: ++this.#n,
      packages: ["foedus.registry_sync.v1alpha1"],
      software: "mallory",
      credit: CREDIT_BYTES,
    };
    this.send(create(SessionRequestSchema, { frame: { frame: { case: "control", value: { frame: { case: "open", value: open } } } } }));
  }

  /** ended resolves with what the hub said when it ended the session. */
  ended(): Promise<Failure> {
    return until("the hub ending the session", () => this.#end);
  }

  send(message: SessionRequest): void {
    this.#stream?.send(message);
  }

  /** frame sends a frame as it is. */
  frame(frame: PeerFrame, statement: Uint8Array = this.#statement): void {
    this.send(create(SessionRequestSchema, { frame: frameToProto(frame, statement) }));
  }

  segment(segment: Uint8Array): void {
    this.frame({ type: "segment", segment });
  }

  /** offer offers a feed that is not ours, or ours with a key statement that another CA vouches for. */
  async offer(hubId: string, statement: "none" | "forged"): Promise<() => void> {
    const other = await this.#ca.otherAuthority();
    const bytes = statement === "none" ? new Uint8Array(0) : this.#sign(other.service());
    const head: FeedPosition = { hubId, share: "full", epoch: 1, seq: 1, digest: new Uint8Array(32) };
    return () => this.frame({ type: "feed_offer", head, keyStatement: bytes }, bytes);
  }

  /** register adds a node with numeric capabilities to our registry. */
  register(nodeId: string, ...keys: readonly string[]): void {
    this.#core.register(
      nodeBytes(
        nodeId,
        keys.map((key) => `${key}:double`),
      ),
    );
    this.#pump();
  }

  /** set changes a value in our registry; its segment goes out, unless segments are held back. */
  set(nodeId: string, key: string, value: number): void {
    this.#core.update(STREAM, ++this.#seq, [{ nodeId, key, value, type: VALUE_TYPE.DOUBLE }]);
    this.#pump();
  }

  /** hold keeps segments back from now on. */
  hold(): void {
    this.#holding = true;
  }

  /** release sends what was held back, in order. */
  release(): void {
    this.#holding = false;
    for (const segment of this.held.splice(0)) this.#segment(segment);
  }

  /** lastSegment is the newest segment that was sent. */
  get lastSegment(): Uint8Array {
    return this.#last;
  }

  /** sent is the place of that one. */
  get sent(): string {
    const header = segmentCodec.decodeHeader(segmentCodec.decodeSegment(this.#last)?.header ?? new Uint8Array(0));
    if (header === undefined) throw new Error("no segment was sent");
    return place(header);
  }

  /** acked is how far the hub says that it is. */
  get acked(): string {
    return this.#acked;
  }

  close(): void {
    this.#stream?.cancel();
    this.clients.close();
  }

  #sign({ certificatePem, keyPem }: Credential): Uint8Array {
    return makeKeyStatement(this.#ca.hubId, { key: keyOf(this.#ca.hubId), serial: 1 }, { cert: certificatePem, key: keyPem });
  }

  #segment(segment: Uint8Array): void {
    this.#last = segment;
    this.segment(segment);
  }

  /** pump lets the core work and sends what it wants to say. */
  #pump(): void {
    this.#core.settle();
    for (const { frame } of this.#core.outbox.splice(0)) {
      if (frame.type !== "segment") this.frame(frame);
      else if (this.#holding) this.held.push(frame.segment);
      else this.#segment(frame.segment);
    }
  }

  async #read(stream: ClientDuplex<SessionRequest, SessionResponse>): Promise<void> {
    try {
      for await (const { frame } of stream.responses) if (frame !== undefined) this.#received(frame);
    } catch {
      // The hub ended the stream; what it said before is kept.
    }
  }

  #received(frame: SessionFrame): void {
    if (frame.frame.case === "control") {
      const control = frame.frame.value.frame;
      if (control.case === "open") {
        this.#core.post({ kind: "peers", peers: [{ hubId: control.value.hubId, share: "full", level: 3 }], complete: true });
        this.#core.post({ kind: "session_up", session: SESSION, peer: control.value.hubId, creditBytes: 64 * CREDIT_BYTES });
        this.#pump();
      } else if (control.case === "ping")
        this.send(
          create(SessionRequestSchema, {
            frame: { frame: { case: "control", value: { frame: { case: "pong", value: { n: control.value.n } } } } },
          }),
        );
      else if (control.case === "terminated" && control.value.failure !== undefined) this.#end = failureFromProto(control.value.failure);
      return;
    }
    const known = frameFromProto(frame);
    if (known?.type === "ack") {
      this.#acked = place(known.position);
      this.said.push({ ack: this.#acked });
    }
    // Refusals are for the test: the core would answer them with a snapshot.
    if (known?.type === "nack") {
      const { reason, message } = known.failure;
      this.said.push({ nack: { reason, message, held: place(known.held) } });
    } else if (known !== undefined) {
      this.#core.post({ kind: "frame", session: SESSION, frame: known });
      this.#pump();
    }
  }
}
