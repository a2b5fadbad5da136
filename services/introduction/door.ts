import { timingSafeEqual, type X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { Registry } from "prom-client";
import type { Clock, Timer } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { issuedBy, thumbprintOf } from "#channel/tls/peer-identity.ts";
import {
  type BeginRequest,
  type BeginResponse,
  BeginResponseSchema,
  type IntroduceRequest,
  IntroduceResponseSchema,
  IntroductionService,
} from "#gen/foedus/introduction/v1alpha1/introduction_service_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import type { Logger } from "#runtime/log/log.ts";
import { bind, type ServiceBinding } from "#runtime/rpc/call.ts";
import { createRpcServer, type RpcLimits, type RpcServer } from "#runtime/rpc/server/server.ts";
import { Calls } from "#runtime/service/calls.ts";
import { DoorServerCredentials } from "#runtime/tls/credentials.ts";
import { digestOf } from "#runtime/tls/door.ts";
import { admitStranger } from "#runtime/tls/peer-admission.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";
import { DOOR, type DoorConfig, DoorCore, type Effect, type End, type Input, type Note, type Output } from "./core.ts";
import { inviteIdOf } from "./invite.ts";
import { type Candidate, encodeOffer, judgeOffer, type OwnOffer } from "./offer.ts";
import { ProofExchange } from "./proof.ts";

/** DoorOptions are what a door is made of. */
export interface DoorOptions {
  readonly offer: OwnOffer;
  /** Key of the offer's certificate, PEM; the certificate is shown with the CA that signed it. */
  readonly key: string;
  /** This hub's CAs, parsed. */
  readonly bundle: readonly X509Certificate[];
  readonly secret: Uint8Array;
  readonly pin: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly config?: Partial<DoorConfig>;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  readonly metrics: Registry;
  /** admit makes the guest a peer; what it throws is told to the guest and ends the invite. Called at most once. */
  readonly admit: (guest: Candidate) => Promise<void>;
  /** onRefused hears why a guest that proved the PIN was not taken. */
  readonly onRefused?: (error: unknown) => void;
  /** onNote hears of what the host's operator should know. */
  readonly onNote?: (note: Note) => void;
}

/** Door is the introduction door of one invite. */
export interface Door {
  readonly port: number;
  /** SHA-256 of the CA that the invite must name. */
  readonly caDigest: Uint8Array;
  /** closed resolves when the door is closed and nothing listens any more. */
  readonly closed: Promise<End>;
  /** withdraw closes the door now. */
  withdraw(): void;
  describe(): string;
}

/** What strangers can take of this process: one guest needs one connection with two calls of some kilobytes. */
const DOOR_LIMITS: Partial<RpcLimits> = {
  maxMessageBytes: LIMITS.introduceBytes,
  maxConnectionsPerIp: 4,
  maxConnections: 32,
  strangers: true,
  maxConnectionAgeMs: 10_000,
  maxSessionMemoryMb: 1,
  flowControlWindowBytes: 2 * LIMITS.introduceBytes,
  defaultTimeoutMs: 10_000,
};
/** How long the last answers may take to leave. */
const DRAIN_MS = 2_000;

/** Visit is one exchange with a guest. */
interface Visit {
  /** base64url(SHA-256(DER)) of the guest's certificate. */
  readonly leaf: string;
  readonly wireId: string;
  readonly proof: ProofExchange;
}

/** openDoor listens for the guest of one invite. What it holds is in memory: an invite ends with the process that waits for its guest. */
export async function openDoor(options: DoorOptions): Promise<Door> {
  const door = new OpenDoor(options);
  await door.listen();
  return door;
}

/** nobody knows no hub: at a door everybody is a stranger. */
function nobody(hubId: string): PeerAuthority {
  return { hubId, bundle: () => undefined, level: () => 0, revoked: () => false, minTokenIssuedAt: () => 0, version: () => 0 };
}

class OpenDoor implements Door {
  readonly caDigest: Uint8Array;
  readonly closed: Promise<End>;
  readonly #o: DoorOptions;
  readonly #core: DoorCore;
  readonly #server: RpcServer;
  readonly #inviteId: Buffer;
  readonly #offer: Uint8Array;
  readonly #hostLeaf: string;
  readonly #visits = new Map<number, Visit>();
  /** Requests of the calls whose proof is being judged. */
  readonly #requests = new Map<number, IntroduceRequest>();
  /** Exchanges by their name on the wire. */
  readonly #named = new Map<string, number>();
  /** Calls are answered with the number of their exchange. */
  readonly #calls = new Calls<Input, number>("the introduction door");
  readonly #closed = Promise.withResolvers<End>();
  #port = 0;
  #timer: Timer | undefined;

  constructor(options: DoorOptions) {
    this.#o = options;
    const { key, bundle, secret, offer, clock } = options;
    const ca = bundle.find((candidate) => issuedBy(offer.leaf, [candidate]));
    if (ca === undefined) throw fail("NOT_CONFIGURED", "the hub's certificate is not signed by one of its CAs; correct tls.cert or tls.ca");
    this.caDigest = digestOf(ca);
    this.closed = this.#closed.promise;
    this.#core = new DoorCore({ ...DOOR, ...options.config }, clock.now());
    this.#inviteId = inviteIdOf(secret);
    this.#offer = encodeOffer(offer);
    this.#hostLeaf = thumbprintOf(offer.leaf);
    const take = (input: Input): boolean => {
      this.#step(input);
      return true;
    };
    // Nothing here is durable and nothing waits, so that the core takes each input at once and there is no mailbox.
    this.#calls.attach({ post: take, tell: take, drainSpace: () => Promise.resolve(true) });
    this.#server = createRpcServer({
      bindings: [this.#binding()],
      // The CA goes along, because the guest knows no more of it than its digest.
      credentials: new DoorServerCredentials({ cert: `${String(offer.leaf)}${String(ca)}`, key }),
      authority: nobody(offer.hubId),
      admission: admitStranger,
      introspection: false,
      metrics: options.metrics,
      log: options.log,
      clock,
      ids: options.entropy,
      limits: DOOR_LIMITS,
    });
  }

  get port(): number {
    return this.#port;
  }

  async listen(): Promise<void> {
    const { host, port } = this.#o.listen;
    this.#port = await this.#server.listen(host, port);
    this.#arm();
  }

  withdraw(): void {
    this.#calls.tell({ kind: "withdraw" });
  }

  describe(): string {
    return this.#core.describe();
  }

  #binding(): ServiceBinding {
    return bind(IntroductionService, {
      begin: async (request, { caller, remote }) => {
        const invited = timingSafeEqual(request.inviteId, this.#inviteId);
        const exchange = await this.#calls.ask((call) => ({
          kind: "begin",
          call,
          caller: caller.thumbprint,
          address: remote ?? "",
          invited,
        }));
        return this.#begin(exchange, request, caller.thumbprint);
      },
      introduce: async (request, { caller }) => {
        const exchange = this.#named.get(nameOf(request.exchange)) ?? 0;
        const visit = this.#visits.get(exchange);
        await this.#calls.ask((call) => {
          this.#requests.set(call, request);
          return { kind: "introduce", call, caller: caller.thumbprint, exchange };
        });
        if (visit === undefined) throw new Error("a guest was welcomed that never began");
        return create(IntroduceResponseSchema, { proof: visit.proof.proof(), offer: this.#offer });
      },
    });
  }

  #begin(exchange: number, { sessionId, share, offerDigest }: BeginRequest, leaf: string): BeginResponse {
    const { secret, pin, entropy } = this.#o;
    const terms = { secret, pin, guestLeaf: leaf, hostLeaf: this.#hostLeaf, caDigest: this.caDigest, sessionId };
    const proof = new ProofExchange("host", terms, this.#offer, entropy.bytes(32));
    // An exchange that cannot come to a key ends by itself, with its time.
    if (!proof.meet({ share, offerDigest })) throw fail("INVALID_FIELD", "the share is not one of this exchange", { field: "share" });
    const wire = entropy.bytes(16);
    this.#visits.set(exchange, { leaf, wireId: nameOf(wire), proof });
    this.#named.set(nameOf(wire), exchange);
    return create(BeginResponseSchema, { exchange: wire, ...proof.half });
  }

  #step(input: Input | undefined): void {
    const out: Effect[] = [];
    const now = this.#o.clock.now();
    if (input === undefined) this.#core.tick(now, out);
    else this.#core.step(now, input, out);
    for (const effect of out) this.#execute(effect);
    this.#arm();
  }

  #arm(): void {
    this.#timer?.cancel();
    const at = this.#core.deadline();
    if (at !== undefined) this.#timer = this.#o.clock.setTimer(Math.max(0, at - this.#o.clock.mono()), () => this.#step(undefined));
  }

  #execute(effect: Effect): void {
    switch (effect.kind) {
      case "begun":
        return void this.#calls.answer(effect.call, effect.exchange);
      case "welcome":
        this.#requests.delete(effect.call);
        return void this.#calls.answer(effect.call, 0);
      case "refuse":
        this.#requests.delete(effect.call);
        return void this.#calls.refuse(effect.call, effect.failure);
      case "judge": {
        const request = this.#requests.get(effect.call);
        const proven = request !== undefined && this.#visits.get(effect.exchange)?.proof.proven(request.proof, request.offer) === true;
        return this.#calls.tell({ kind: "judged", call: effect.call, proven });
      }
      case "admit":
        return void this.#admit(effect, this.#requests.get(effect.call));
      case "forget": {
        const visit = this.#visits.get(effect.exchange);
        if (visit !== undefined) this.#named.delete(visit.wireId);
        this.#visits.delete(effect.exchange);
        return;
      }
      case "observe":
        return this.#o.onNote?.(effect);
      case "closed":
        return void this.#close(effect.why);
    }
  }

  async #admit({ call, exchange }: Extract<Output, { kind: "admit" }>, request: IntroduceRequest | undefined): Promise<void> {
    let failure: Failure | undefined;
    try {
      const leaf = this.#visits.get(exchange)?.leaf ?? "";
      const guest = judgeOffer(request?.offer ?? new Uint8Array(), leaf, this.#o.clock.wall());
      await this.#o.admit(guest);
    } catch (error) {
      failure = error instanceof FoedusError ? error.failure : REFUSED;
      this.#o.onRefused?.(error);
    }
    this.#calls.tell({ kind: "admitted", call, ...(failure === undefined ? {} : { failure }) });
  }

  /** close lets the last answers leave, then stops listening. */
  async #close(why: End): Promise<void> {
    this.#timer?.cancel();
    await this.#server.drain(DRAIN_MS);
    this.#visits.clear();
    this.#named.clear();
    this.#calls.end({ reason: "INVITE_CLOSED", message: "this invite is not open here any more; ask for a new one" });
    this.#closed.resolve(why);
  }
}

const REFUSED: Failure = { reason: "NOT_CONFIGURED", message: "the other hub could not take this hub up; its operator sees why" };

function nameOf(wire: Uint8Array): string {
  return Buffer.from(wire).toString("hex");
}
